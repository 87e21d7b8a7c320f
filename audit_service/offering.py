"""What audits would patch, what a budget leaves of it, and what that takes, without computing an effect."""

from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from audit_service.auditfiles import read_audit, read_pairs
from audit_service.audits.schemas import Offer
from audit_service.client import Client
from audit_service.domain.auditfile import AuditFile
from audit_service.domain.budget import Budget
from audit_service.domain.forecast import Forecast, fastest
from audit_service.domain.ladder import Ladder, climb
from audit_service.domain.manifest import Frozen
from audit_service.errors import InvalidInput
from audit_service.running import previewed, registered, service
from audit_service.settings import get_settings


class Offered(Frozen):
    """One audit file's scopes, and how far the budget reaches."""

    file: str
    behavior: str
    risk: str
    pairs: int
    forms: tuple[str, ...]
    offers: tuple[Offer, ...]

    @property
    def taken(self) -> Offer | None:
        """The scope that the budget pays for; None if not even the coarsest."""
        return next((offer for offer in reversed(self.offers) if offer.taken), None)


def budget_of(minutes: float | None, forward_equivalents: float | None) -> Budget | None:
    """The budget of these limits, if there is one; InvalidInput for limits that are no positive numbers."""
    if minutes is None and forward_equivalents is None:
        return None
    try:
        return Budget(minutes=minutes, forward_equivalents=forward_equivalents)
    except ValidationError as error:
        raise InvalidInput("A budget is a positive number.", remedy="Give minutes or passes above 0.") from error


def offer_files(files: Sequence[Path], budget: Budget | None, *, console: Console) -> list[Offered]:
    """What each file's audit could patch; several files share the budget, the riskiest behavior served first.

    A single file's own budget holds where none is given.

    Raises:
        InvalidInput: a file or its pairs cannot be used, or several files have budgets of their own and no common one.
    """
    audits = [(file, read_audit(file)) for file in files]
    for file, audit in audits:
        read_pairs(file, audit)  # bad rows are named before anything is started
    own = [audit.budget for _, audit in audits if audit.budget is not None]
    if budget is None and own and len(audits) > 1:
        raise InvalidInput("Several audits share one budget.", remedy="Give --minutes or --forward-equivalents.")
    budget = budget or next(iter(own), None)
    with service(get_settings(), wait=True, console=console) as client:
        found = [_offered(client, file, audit, console) for file, audit in audits]
    return _within(found, budget)


def _offered(client: Client, file: Path, audit: AuditFile, console: Console) -> Offered:
    wanted = registered(client, file, audit, console)
    previewed(client, wanted, console)
    offers = client.offers(wanted.model_copy(update={"budget": None}))
    return Offered(file=str(file), behavior=audit.behavior.name, risk=offers.risk, pairs=offers.pairs,
                   forms=offers.forms, offers=offers.offers)  # fmt: skip


def _within(found: Sequence[Offered], budget: Budget | None) -> list[Offered]:
    if budget is None:
        return list(found)
    reached = climb([Ladder(one.risk, [offer.price for offer in one.offers]) for one in found], budget)
    return [
        one.model_copy(update={"offers": tuple(
            offer.model_copy(update={"taken": rung is not None and at <= rung}) for at, offer in enumerate(one.offers)
        )})
        for one, rung in zip(found, reached, strict=True)
    ]  # fmt: skip


def shown(offered: Offered) -> Iterator[Table | str]:
    """The scopes of one audit as a table: each row is what is patched up to there."""
    forms = ", ".join(offered.forms)
    table = Table(
        title=f"{offered.behavior} (risk {offered.risk}): {offered.pairs} pairs in {forms}", title_justify="left"
    )
    for name in ("", "and patch", "sites", "passes", "TFLOP", "minutes", "GB"):
        table.add_column(name, justify="left" if name in {"", "and patch"} else "right")
    for offer in offered.offers:
        table.add_row(*_row(offer), style=None if offer.taken else "dim")
    yield table
    first = offered.offers[0]
    if not first.cost.counted:
        yield "Tokens are guessed at four characters each."
    told = fastest(first.forecasts)
    yield (
        "How long it takes is not known before a worker has run the model."
        if told is None
        else f"Time and memory of one worker on {told.device} ({told.dtype}, {told.threads} threads)."
    )
    yield from _to_write(offered)


def _row(offer: Offer) -> tuple[str, ...]:
    told: Forecast | None = fastest(offer.forecasts)
    cost = ("?", "?", "?") if told is None else (
        f"{told.flops / 1e12:.1f}", f"{told.seconds / 60:.1f}", f"{told.memory_bytes / 1e9:.1f}"
    )  # fmt: skip
    mark = "yes" if offer.taken else "no"
    return mark, offer.adds, f"{offer.sites:,}", f"{offer.cost.forward_equivalents:,.0f}", *cost


def _to_write(offered: Offered) -> Iterator[str]:
    """What the audit's file would have to say to get this scope on any machine."""
    if all(offer.taken for offer in offered.offers):
        return
    if (taken := offered.taken) is None:
        yield "The budget does not pay for the coarsest look: nothing is patched."
        return
    yield f"In {offered.file}: budget: {{forward_equivalents: {ceil(10 * taken.price.forward_equivalents) / 10}}}"
