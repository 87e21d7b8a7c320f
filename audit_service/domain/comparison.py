"""A run beside another one of the same plan: the last accepted run, or the run before a mitigation."""

from collections.abc import Iterable, Iterator

from pydantic import AwareDatetime

from audit_service.domain.drift import Drift
from audit_service.domain.manifest import Frozen
from audit_service.domain.plan import ModelIdentity
from audit_service.domain.results import Result, VerdictValue


class EarlierRun(Frozen):
    """The other run, as far as a reader needs it to find it."""

    run_id: str
    document_id: str
    plan_digest: str
    pair_set_digest: str
    model: ModelIdentity
    ended_at: AwareDatetime
    verdict: VerdictValue
    results: tuple[Result, ...] = ()
    """Its disparities, under the keys that they have there."""


class Comparison(Frozen):
    """What changed since the last accepted run, pair by pair."""

    earlier: EarlierRun
    drift: Drift

    def rows(self) -> Iterator[Result]:
        """Its numbers under keys of their own beside the run's."""
        yield from renamed(self.earlier.results, "accepted")
        yield from self.drift.results


def renamed(results: Iterable[Result], prefix: str) -> Iterator[Result]:
    for result in results:
        yield result.model_copy(update={"key": f"{prefix}.{result.key}"})


class Mitigation(Frozen):
    """A measure against a finding, judged on the pairs of the first test."""

    title: str
    description: str
    """What was changed, where, and on which pairs it was fitted."""
    before: EarlierRun
    """The run without the measure; the report's own run is the one with it."""
    drift: Drift
    side_effects: tuple[Result, ...] = ()
    """What else changed: accuracy on neutral controls, perplexity, decisions of the reference group."""

    def rows(self, index: int) -> Iterator[Result]:
        """Its numbers under keys of their own; ``index`` tells one measure from another."""
        yield from renamed(self.before.results, f"mitigation{index}.before")
        yield from renamed(self.drift.results, f"mitigation{index}")
        yield from renamed(self.side_effects, f"mitigation{index}.side")

    def complete(self, *, pair_set_digest: str) -> bool:
        """DG9: side effects are measured, and on the data of the first test."""
        return bool(self.side_effects) and self.before.pair_set_digest == pair_set_digest


class Currency(Frozen):
    """Whether the audited model is the one in use, and when it is to be audited again; None where not registered."""

    due: AwareDatetime | None = None
    """Next revalidation of its schedule."""
    deployed_digest: str | None = None
    """Digest of the model that is in use."""

    def holds(self, *, at: AwareDatetime, model_digest: str) -> bool | None:
        """DG8; None if nothing is known. A known fault decides, whatever else is unknown."""
        known = [
            *([self.due > at] if self.due is not None else []),
            *([self.deployed_digest == model_digest] if self.deployed_digest is not None else []),
        ]
        return all(known) if known else None
