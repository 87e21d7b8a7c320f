"""The states of a run, of its shards and of what else is waited for, and the moves between them."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from audit_service.errors import Conflict


class RunState(StrEnum):
    QUEUED = "queued"
    """Waiting for a worker."""
    RUNNING = "running"
    """Shards are being traced."""
    PAUSED = "paused"
    """No further shard is taken; one that is being traced is still kept."""
    JUDGING = "judging"
    """Every shard is traced."""
    REPORTING = "reporting"
    """The verdict stands; the report is being rendered."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """The reason is written beside it. Traced shards are kept, so that it can be resumed."""


class ShardState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class PreviewState(StrEnum):
    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"


class ImportState(StrEnum):
    """How the import of a model version stands."""

    QUEUED = "queued"
    DONE = "done"
    REFUSED = "refused"
    """The reason stands beside it; asked for again, it is tried again."""


class EventKind(StrEnum):
    STATE = "state"
    """The run moved: data = {"from", "to", "reason"}."""
    SHARD = "shard"
    """A shard was taken, traced or failed: data = {"key", "state"}."""
    PROGRESS = "progress"
    """data = {"done", "total", "running_effect", "doing"}."""
    CREATED = "created"
    """Something was registered, planned, started or added: data = {"call", "id"}."""
    SIGN_IN = "sign_in"
    """Somebody signed in or tried to: data = {"email", "how", "held", "why"}."""
    TOKEN = "token"  # noqa: S105 - no secret
    """A token was issued or revoked: data = {"id", "name", "what", "role", "why"}."""
    USER = "user"
    """A person's access or password changed: data = {"id", "email", "what"}."""
    ORGANISATION = "organisation"
    """The organisation got another name: data = {"from", "to"}."""
    REPORT = "report"
    """A new edition of a run's reports and bundle was asked for or issued:
    data = {"what", "edition", "digests"}; digests by language, both null where it was asked for."""
    APPROVAL = "approval"
    """A record was put before a reviewer or decided on: data = {"id", "record", "digest", "from", "to"}."""
    NOTIFICATION = "notification"
    """Who is told was changed, or a message was sent again: data = {"id", "what"}."""
    DEPLOYMENT = "deployment"
    """A model version is no longer in use somewhere: data = {"id", "place", "what"}."""
    SCHEDULE = "schedule"
    """A schedule was changed, paused, resumed, retired or told overdue, or one of its times came, was started, refused
    or retried: data = {"id", "name", "what", …}; a change holds {"from", "to"}, a time
    {"occurrence", "due", "run", "reason"}."""
    IMPORT = "import"
    """A model version of another registry was asked for, registered or refused:
    data = {"id", "name", "version", "what", "reason", "model_version"}."""
    SHARE = "share"
    """A link was made, revoked, opened or refused: data = {"id", "what", "why"}."""


TERMINAL = frozenset({RunState.COMPLETED, RunState.CANCELLED})
"""States without a way out."""
ENDED = TERMINAL | {RunState.FAILED}
"""States in which nothing more comes unless a user resumes a failed run."""
ACTIVE = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.JUDGING, RunState.REPORTING})
"""States in which a worker has something to do; what the reaper queues again."""

MOVES: Mapping[RunState, frozenset[RunState]] = MappingProxyType(
    {
        RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED, RunState.FAILED}),
        RunState.RUNNING: frozenset({RunState.JUDGING, RunState.PAUSED, RunState.CANCELLED, RunState.FAILED}),
        RunState.PAUSED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
        RunState.JUDGING: frozenset({RunState.REPORTING, RunState.CANCELLED, RunState.FAILED}),
        RunState.REPORTING: frozenset({RunState.COMPLETED, RunState.CANCELLED, RunState.FAILED}),
        RunState.COMPLETED: frozenset(),
        RunState.CANCELLED: frozenset(),
        RunState.FAILED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
    }
)


def check_move(present: RunState, to: RunState) -> None:
    """Raise Conflict unless the table has the move."""
    if to not in MOVES[present]:
        possible = ", ".join(sorted(MOVES[present])) or "nothing else"
        raise Conflict(
            f"A run that is {present} cannot become {to}.", remedy=f"From {present} it can become {possible}."
        )
