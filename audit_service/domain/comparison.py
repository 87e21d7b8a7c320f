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
    """What was changed, and where."""
    fitted_on: str
    """The data that it was fitted or chosen on, which must not be the judged pairs."""
    person: str
    """Who put it on record."""
    at: AwareDatetime
    before: EarlierRun
    """The run without the measure; the report's own run is the one with it."""
    drift: Drift
    reference_changes: tuple[Result, ...] = ()
    """What became of the reference group's decisions, from the cells of both runs."""
    side_effects: tuple[Result, ...] = ()
    """What else changed, as it was measured elsewhere: accuracy on neutral controls, perplexity."""

    def rows(self, index: int) -> Iterator[Result]:
        """Its numbers under keys of their own; ``index`` tells one measure from another."""
        yield from renamed(self.before.results, f"mitigation{index}.before")
        yield from renamed(self.drift.results, f"mitigation{index}")
        yield from renamed(self.reference_changes, f"mitigation{index}")
        yield from renamed(self.side_effects, f"mitigation{index}.side")

    def complete(self, *, pair_set_digest: str) -> bool:
        """DG9: side effects are measured, and on the data of the first test."""
        return bool(self.side_effects) and self.before.pair_set_digest == pair_set_digest


class Deployment(Frozen):
    """A place where a version of the audited model is in use."""

    place: str
    """Such as "production, card applications"."""
    version: str
    digest: str
    """Of the version's files."""
    since: AwareDatetime
    person: str
    """Who put it on record."""
    at: AwareDatetime


class Currency(Frozen):
    """Whether the audited model is the one in use, and when it is to be audited again; empty where not registered."""

    due: AwareDatetime | None = None
    """Next revalidation of its schedule, counted from the last accepted audit of the behavior on the model."""
    deployments: tuple[Deployment, ...] = ()
    """Where versions of the model are in use now."""
    superseded: EarlierRun | None = None
    """A later accepted audit of the same behavior on the same model."""

    def holds(self, *, at: AwareDatetime, model_digest: str) -> bool | None:
        """DG8; None if nothing is known. A known fault decides, whatever else is unknown."""
        known = [
            *([self.due > at] if self.due is not None else []),
            *(deployment.digest == model_digest for deployment in self.deployments),
        ]
        return all(known) if known else None
