"""What a run that repeats an earlier one changed, from the stored cells of both."""

from collections.abc import Sequence

from audit_service.db.handles import ReadSession
from audit_service.domain.drift import Drift, Run, compare
from audit_service.domain.results import Result
from audit_service.domain.sideeffects import reference_changes
from audit_service.revalidation import repository
from workers.cells import RunCells, load, require_untouched


def drift_of(session: ReadSession, run_id: str, cells: RunCells) -> Drift | None:
    """The comparison with the earlier run; None for a run that repeats none.

    Raises ControlFailed if the earlier run's cells are not those that were measured.
    """
    if (repeated := repository.of_run(session, run_id)) is None:
        return None
    earlier = load(session, repeated.earlier_run_id)
    require_untouched(earlier)
    return compare(earlier.plan, accepted=_run(earlier), new=_run(cells))


def side_effects_of(session: ReadSession, earlier_run_id: str, cells: RunCells) -> Sequence[Result]:
    """What became of the reference group's decisions since the earlier run.

    Raises ControlFailed if the earlier run's cells are not those that were measured.
    """
    earlier = load(session, earlier_run_id)
    require_untouched(earlier)
    return reference_changes(earlier.plan, before=earlier.tables.decisions, after=cells.tables.decisions)


def _run(cells: RunCells) -> Run:
    """The decisions and the effects of single layers under the pairs' own exchange: measured in every run."""
    tables = cells.tables
    alone = [table for table in tables.effects if table.is_main]
    return Run(tables.decisions, alone)
