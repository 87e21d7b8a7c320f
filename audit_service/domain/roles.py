"""The roles of people and services, and what each may do."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    ANALYST = "analyst"
    """Registers, plans, runs, and prepares what others review."""
    REVIEWER = "reviewer"
    """Reads, and decides on what others prepared."""
    AUDITOR = "auditor"
    """Reads and downloads, the event log too, and changes nothing."""
    ADMIN = "admin"
    """All of it, and the organisation's people and tokens."""


class Permission(StrEnum):
    READ = "read"
    """Everything that was registered, planned, run and found, as records and as files."""
    REGISTER = "register"
    """Models, behaviors, metrics and pairs, and where models are in use."""
    RUN = "run"
    """Plans, and starting, pausing, resuming and cancelling their runs."""
    PREPARE = "prepare"
    """Putting a plan, a verdict, a report or an accepted risk before a reviewer; responses, mitigations."""
    REVIEW = "review"
    """Deciding on what somebody else prepared."""
    SHARE = "share"
    """Links for people without an account."""
    LOG = "log"
    """The organisation's event log."""
    ADMINISTER = "administer"
    """People, tokens, the organisation's name."""
    SELF = "self"
    """One's own session and password."""


ROLES: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.ANALYST: frozenset(
            {Permission.SELF, Permission.READ, Permission.REGISTER, Permission.RUN, Permission.PREPARE}
        ),
        Role.REVIEWER: frozenset(
            {Permission.SELF, Permission.READ, Permission.REVIEW, Permission.SHARE, Permission.LOG}
        ),
        Role.AUDITOR: frozenset({Permission.SELF, Permission.READ, Permission.LOG}),
        Role.ADMIN: frozenset(Permission),
    }
)
