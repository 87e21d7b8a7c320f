"""One file per table. Importing this package makes ``Base.metadata`` complete."""

from audit_service.db.tables.approvals import ApprovalRow
from audit_service.db.tables.behaviors import BehaviorRow, BehaviorVersionRow
from audit_service.db.tables.bundles import BundlePartRow, BundleRow
from audit_service.db.tables.calibrations import CalibrationRow
from audit_service.db.tables.deployments import DeploymentRow
from audit_service.db.tables.events import EventRow
from audit_service.db.tables.idempotency import IdempotencyRow
from audit_service.db.tables.metrics import MetricRow
from audit_service.db.tables.mitigations import MitigationRow
from audit_service.db.tables.model_imports import ImportRow
from audit_service.db.tables.models import ModelRow, ModelVersionRow
from audit_service.db.tables.notifications import MessageRow, TargetRow
from audit_service.db.tables.organisations import MembershipRow, OrganisationRow, SignInRow, TokenRow, UserRow
from audit_service.db.tables.pair_sets import PairRow, PairSetRow, PreviewRow
from audit_service.db.tables.plans import PlanRow
from audit_service.db.tables.reports import ReportRow
from audit_service.db.tables.responses import ResponseRow
from audit_service.db.tables.results import ResultRow
from audit_service.db.tables.revalidations import RevalidationRow
from audit_service.db.tables.runs import RunRow
from audit_service.db.tables.schedules import OccurrenceRow, ScheduleRow
from audit_service.db.tables.shards import ShardRow
from audit_service.db.tables.shares import ShareRow
from audit_service.db.tables.traces import TraceRow
from audit_service.db.tables.verdicts import VerdictRow

__all__ = [
    "ApprovalRow",
    "BehaviorRow",
    "BehaviorVersionRow",
    "BundlePartRow",
    "BundleRow",
    "CalibrationRow",
    "DeploymentRow",
    "EventRow",
    "IdempotencyRow",
    "ImportRow",
    "MembershipRow",
    "MessageRow",
    "MetricRow",
    "MitigationRow",
    "ModelRow",
    "ModelVersionRow",
    "OccurrenceRow",
    "OrganisationRow",
    "PairRow",
    "PairSetRow",
    "PlanRow",
    "PreviewRow",
    "ReportRow",
    "ResponseRow",
    "ResultRow",
    "RevalidationRow",
    "RunRow",
    "ScheduleRow",
    "ShardRow",
    "ShareRow",
    "SignInRow",
    "TargetRow",
    "TokenRow",
    "TraceRow",
    "UserRow",
    "VerdictRow",
]
