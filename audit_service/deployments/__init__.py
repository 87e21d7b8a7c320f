"""Deployments: which model version is in use where."""
