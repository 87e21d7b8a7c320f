"""The calendar on a terminal."""

from collections.abc import Sequence

from rich.table import Table

from audit_service.schedules.schemas import Entry, Standing

_STYLES = {Standing.COMPLETED: "green", Standing.FAILED: "red", Standing.RUNNING: "cyan", Standing.PAUSED: "dim"}


def shown(entries: Sequence[Entry]) -> Table:
    """A line for each entry, by due time; overdue ones stand out."""
    table = Table("due (UTC)", "schedule", "behavior", "model", "stands", title="Revalidation")
    for entry in entries:
        standing = entry.standing.value + (" · OVERDUE" if entry.overdue else "")
        missed = f" (and {entry.collapsed} missed before)" if entry.collapsed else ""
        table.add_row(
            f"{entry.due_at:%Y-%m-%d %H:%M}",
            entry.schedule,
            entry.behavior,
            entry.model,
            standing + missed,
            style="bold red" if entry.overdue else _STYLES.get(entry.standing),
        )
    return table
