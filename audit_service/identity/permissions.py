"""Who may do what: the roles, and the permission that each call of the API needs. Nothing else decides it."""

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

NEEDS: Mapping[str, Permission] = MappingProxyType(
    {
        "list_models": Permission.READ,
        "register_model_version": Permission.REGISTER,
        "list_model_versions": Permission.READ,
        "get_model_version": Permission.READ,
        "register_behavior_version": Permission.REGISTER,
        "list_behavior_versions": Permission.READ,
        "get_behavior_version": Permission.READ,
        "register_metric": Permission.REGISTER,
        "list_metrics": Permission.READ,
        "get_metric": Permission.READ,
        "generate_pair_set": Permission.REGISTER,
        "upload_pair_set": Permission.REGISTER,
        "list_pair_sets": Permission.READ,
        "get_pair_set": Permission.READ,
        "list_pairs": Permission.READ,
        "ask_for_preview": Permission.REGISTER,
        "get_preview": Permission.READ,
        "make_plan": Permission.RUN,
        "list_plans": Permission.READ,
        "get_plan": Permission.READ,
        "start_run": Permission.RUN,
        "list_runs": Permission.READ,
        "get_run": Permission.READ,
        "list_shards": Permission.READ,
        "cancel_run": Permission.RUN,
        "pause_run": Permission.RUN,
        "resume_run": Permission.RUN,
        "follow_run": Permission.READ,
        "get_verdict": Permission.READ,
        "list_results": Permission.READ,
        "get_result": Permission.READ,
        "list_effects": Permission.READ,
        "list_traces": Permission.READ,
        "download_cells": Permission.READ,
        "list_reports": Permission.READ,
        "download_report": Permission.READ,
        "reissue_reports": Permission.RUN,
        "list_bundles": Permission.READ,
        "download_bundle": Permission.READ,
        "list_library": Permission.READ,
        "get_library_entry": Permission.READ,
        "submit_for_approval": Permission.PREPARE,
        "list_approvals": Permission.READ,
        "get_approval": Permission.READ,
        "decide_on_approval": Permission.REVIEW,
        "respond_to_finding": Permission.PREPARE,
        "list_responses": Permission.READ,
        "record_mitigation": Permission.PREPARE,
        "list_mitigations": Permission.READ,
        "record_deployment": Permission.REGISTER,
        "list_deployments": Permission.READ,
        "get_deployment": Permission.READ,
        "end_deployment": Permission.REGISTER,
        "share_run": Permission.SHARE,
        "list_shares": Permission.SHARE,
        "revoke_share": Permission.SHARE,
        "list_events": Permission.LOG,
        "export_events": Permission.LOG,
        "check_events": Permission.LOG,
        "list_accepted_runs": Permission.READ,
        "start_revalidation": Permission.RUN,
        "list_revalidations": Permission.READ,
        "get_revalidation": Permission.READ,
        "make_schedule": Permission.RUN,
        "list_schedules": Permission.READ,
        "show_calendar": Permission.READ,
        "get_schedule": Permission.READ,
        "change_schedule": Permission.RUN,
        "pause_schedule": Permission.RUN,
        "resume_schedule": Permission.RUN,
        "list_occurrences": Permission.READ,
        "retry_occurrence": Permission.RUN,
        "import_model_version": Permission.REGISTER,
        "list_model_imports": Permission.READ,
        "add_notification_target": Permission.ADMINISTER,
        "list_notification_targets": Permission.READ,
        "remove_notification_target": Permission.ADMINISTER,
        "try_notification_target": Permission.ADMINISTER,
        "list_notifications": Permission.READ,
        "resend_notification": Permission.ADMINISTER,
        "get_me": Permission.SELF,
        "change_password": Permission.SELF,
        "sign_out": Permission.SELF,
        "get_organisation": Permission.READ,
        "rename_organisation": Permission.ADMINISTER,
        "list_users": Permission.ADMINISTER,
        "add_user": Permission.ADMINISTER,
        "get_user": Permission.ADMINISTER,
        "change_user": Permission.ADMINISTER,
        "list_tokens": Permission.ADMINISTER,
        "issue_token": Permission.ADMINISTER,
        "revoke_token": Permission.ADMINISTER,
    }
)
"""The name of a call, which is the name of its endpoint, and the permission it needs."""
