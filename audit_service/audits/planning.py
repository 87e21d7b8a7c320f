"""Making plans: frozen, hashed, with their cost and their history."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from audit_service.audits import repository
from audit_service.audits.schemas import Offer, Offers, PlanCreate
from audit_service.behaviors import service as behaviors
from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession, whom
from audit_service.db.tables import BehaviorVersionRow, ModelVersionRow, PlanRow
from audit_service.domain.budget import Budget, Price
from audit_service.domain.cost import estimate, layouts_of
from audit_service.domain.forecast import fastest
from audit_service.domain.ladder import Ladder, climb, ladder
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Plan, Scope
from audit_service.domain.planning import changed, changed_after, compose
from audit_service.domain.power import in_words
from audit_service.domain.preview import Preview
from audit_service.domain.protocol import Seen, lint_plan
from audit_service.domain.readings import DEFAULT, MetricDefinition
from audit_service.domain.shards import shards
from audit_service.errors import InvalidInput, NotFound
from audit_service.metrics import service as metrics
from audit_service.pairsets import repository as pairs
from audit_service.pairsets import service as pairsets
from audit_service.registry import service as registry
from audit_service.registry.labels import check_labels
from audit_service.registry.spans import unequal_spans


class _Parts(NamedTuple):
    """What a plan is made of, looked up and checked."""

    model: ModelVersionRow
    behavior: BehaviorVersionRow
    pair_set: PairSet
    terms: Plan
    """All that is asked for, whatever the budget."""
    preview: Preview | None


def make_plan(
    session: WriteSession,
    wanted: PlanCreate,
    *,
    defined: tuple[MetricDefinition, ...] | None = None,
    scope: Scope | None = None,
) -> Ensured[PlanRow]:
    """The plan of these terms; the same terms give the plan that is there.

    ``defined`` are its metrics, instead of registered ones; ``scope`` is what a budget has left out of the tracing
    where an earlier plan is repeated.

    Raises:
        InvalidInput: its parts do not fit each other, or the budget does not pay for the coarsest look.
        InvalidBehavior: the model's tokenizer cannot express the labels.
        ModelChanged: the model's files are no longer those that were registered.
    """
    model, behavior, pair_set, terms, preview = parts = _parts(session, wanted, defined)
    if wanted.budget is not None:
        terms = _decided_before(session, wanted, terms) or _narrowed(parts, _offered(session, parts), wanted.budget)
    elif scope is not None:
        terms = changed(terms, scope=scope)
    locks.hold(session, f"plan/{terms.digest}")
    present = repository.plan_with_terms(session, terms.digest)
    if present is not None and came_before(session, present) is None:
        return Ensured(present, is_new=False)
    plan = _with_history(session, terms, behavior)
    seen = _seen(preview, plan)
    row = PlanRow(
        digest=plan.digest,
        terms_digest=terms.digest,
        content=plan,
        cost=estimate(plan, pair_set, shards(plan, pair_set), preview),
        protocol=lint_plan(plan, pair_set.pairs, seen),
        power=in_words(plan.behavior, plan.judging, pair_set.pairs, previewed=seen.spread),
        exploratory=plan.exploratory,
        predecessor=plan.predecessor,
        model_version_id=model.id,
        behavior_version_id=behavior.id,
        pair_set_id=wanted.pair_set_id,
        person_id=whom(session).person_id,
    )
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def offers(session: ReadSession, wanted: PlanCreate) -> Offers:
    """What the terms would take step by step, and how far the budget reaches; raises as ``make_plan`` does."""
    parts = _parts(session, wanted, None)
    offered = _offered(session, parts)
    behavior = parts.terms.behavior
    reached = len(offered) - 1
    if wanted.budget is not None:
        [climbed] = climb([Ladder(behavior.risk.rating, [one.price for one in offered])], wanted.budget)
        reached = -1 if climbed is None else climbed
    return Offers(
        risk=behavior.risk.rating,
        pairs=len(parts.pair_set.pairs),
        forms=tuple(form.name for form in behavior.forms),
        offers=tuple(one.model_copy(update={"taken": at <= reached}) for at, one in enumerate(offered)),
    )


def _parts(session: ReadSession, wanted: PlanCreate, defined: tuple[MetricDefinition, ...] | None) -> _Parts:
    model = registry.version(session, wanted.model_version_id)
    behavior = behaviors.version(session, wanted.behavior_version_id)
    pair_set = pairs.load(session, pairsets.pair_set(session, wanted.pair_set_id))
    registry.check_files(model)
    check_labels(Path(model.path), behavior.content.labels)
    terms = compose(
        model.identity,
        behavior.content,
        pair_set,
        tracing=wanted.tracing,
        judging=wanted.judging,
        metrics=_metrics(session, wanted) if defined is None else defined,
        unequal=unequal_spans(Path(model.path), pair_set.pairs),
    )
    return _Parts(model, behavior, pair_set, terms, _previewed(session, wanted))


def _offered(session: ReadSession, parts: _Parts) -> list[Offer]:
    """The scopes of the terms with what they take, from the coarsest on."""
    _, _, pair_set, terms, preview = parts
    layouts = layouts_of(terms, pair_set, preview)
    calibrations = repository.calibrations(session, parts.model.id)
    found = []
    for rung in ladder(terms.tracing, layers=terms.model.layers):
        plan = changed(terms, tracing=rung.tracing)
        cost = estimate(plan, pair_set, shards(plan, pair_set), preview, layouts=layouts)
        told = cost.forecasts(calibrations)
        quick = fastest(told)
        price = Price(
            forward_equivalents=cost.forward_equivalents, minutes=None if quick is None else quick.seconds / 60
        )
        found.append(Offer(adds=rung.adds, sites=len(plan.sites), tracing=rung.tracing, cost=cost, forecasts=told,
                           price=price, taken=True))  # fmt: skip
    return found


def _narrowed(parts: _Parts, offered: Sequence[Offer], budget: Budget) -> Plan:
    """The terms within the budget; InvalidInput if it does not pay for the coarsest look."""
    terms, coarsest = parts.terms, offered[0].price
    [reached] = climb([Ladder(terms.behavior.risk.rating, [one.price for one in offered])], budget)
    if reached is None:
        raise InvalidInput(_too_small(budget, coarsest), remedy=TOO_SMALL)
    left_out = tuple(one.adds for one in offered[reached + 1 :])
    scope = Scope(budget=budget, asked=terms.tracing, left_out=left_out)
    return changed(terms, tracing=offered[reached].tracing, scope=scope)


TOO_SMALL = "Allow more, or ask for fewer pairs, directions or segments, which a budget never cuts."


def _too_small(budget: Budget, coarsest: Price) -> str:
    if budget.minutes is not None and coarsest.minutes is None:
        return "How many minutes this takes is not known before a worker has run the model: preview the pairs first."
    minutes = "" if coarsest.minutes is None else f" or {coarsest.minutes:.1f} minutes"
    return f"The budget does not pay for the coarsest look: {coarsest.forward_equivalents:.0f} passes{minutes}."


def _decided_before(session: ReadSession, wanted: PlanCreate, terms: Plan) -> Plan | None:
    """What the same budget bought before: a machine that is measured again must not change a plan."""
    for row in repository.plans_of_parts(
        session,
        model_version_id=wanted.model_version_id,
        behavior_version_id=wanted.behavior_version_id,
        pair_set_id=wanted.pair_set_id,
    ):
        scope = row.content.scope
        if scope is not None and (scope.budget, scope.asked) == (wanted.budget, terms.tracing):
            again = changed(terms, tracing=row.content.tracing, scope=scope)
            if again.digest == row.terms_digest:
                return again
    return None


def _metrics(session: ReadSession, wanted: PlanCreate) -> tuple[MetricDefinition, ...]:
    if wanted.metric_ids is None:
        return DEFAULT
    return tuple(metrics.metric(session, metric_id).content for metric_id in wanted.metric_ids)


def _previewed(session: ReadSession, wanted: PlanCreate) -> Preview | None:
    """The preview of the pairs on this model, if there is one."""
    row = pairs.preview_of(
        session,
        pair_set_id=wanted.pair_set_id,
        model_version_id=wanted.model_version_id,
        behavior_version_id=wanted.behavior_version_id,
    )
    return None if row is None else row.content


def _seen(preview: Preview | None, plan: Plan) -> Seen:
    """What a preview saw, if there is one; else what the tokenizer alone tells."""
    sampled = Seen() if preview is None else Seen.of_sample(preview)
    return replace(sampled, unequal_spans=plan.pair_set.unequal_spans)


def plan(session: ReadSession, plan_id: str) -> PlanRow:
    if (row := session.get(PlanRow, plan_id)) is None:
        raise NotFound(f"There is no plan {plan_id}.", remedy="List them with GET /v1/plans.")
    return row


def came_before(session: ReadSession, plan: PlanRow) -> PlanRow | None:
    """The plan of other terms that was run first on this model and behavior; None if this one still comes first.

    Only the plan that is run first is as it was before results could be seen, whichever was made first: otherwise one
    could make several and keep the one that pleases. A plan that is marked exploratory has no such claim to lose.
    """
    if plan.exploratory or repository.has_run(session, plan.id):
        return None
    model = registry.version(session, plan.model_version_id)
    behavior = behaviors.version(session, plan.behavior_version_id)
    return _run_last(session, model.digest, behavior.behavior_id, plan.terms_digest)


def _with_history(session: ReadSession, terms: Plan, behavior: BehaviorVersionRow) -> Plan:
    """Terms that differ from those already run on this model are exploratory: whoever changed them could look."""
    seen = _run_last(session, terms.model.digest, behavior.behavior_id, terms.digest)
    return terms if seen is None else changed_after(terms, seen.content)


def _run_last(session: ReadSession, model_digest: str, behavior_id: str, terms_digest: str) -> PlanRow | None:
    return repository.other_plan_run_last(
        session, model_digest=model_digest, behavior_id=behavior_id, terms_digest=terms_digest
    )
