"""Approvals: a plan, a verdict, a report or an accepted risk passes two people."""
