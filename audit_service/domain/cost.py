"""What a plan will cost before anyone pays for it: its work, counted from its sites and its prompts' tokens.

Time and memory follow from the work and from a calibration of the machine (domain.forecast).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from pydantic import Field

from audit_service.domain.forecast import Calibration, Forecast, forecast
from audit_service.domain.layouts import Layout, by_characters
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import Pair, PairKind, PairSet, Side
from audit_service.domain.plan import Corruption, Direction, Plan, Shard, ShardKind
from audit_service.domain.preview import Preview
from audit_service.domain.shards import PAIRS_PER_DECISION_SHARD, partners, traced_pairs
from audit_service.domain.sites import WRITERS
from audit_service.domain.tracework import controls, trace
from audit_service.domain.work import ROWS_IN_FLIGHT, Work


class Cost(Frozen):
    """How much a plan computes."""

    shards: int
    """Of the first stage; two sites together come in a second one."""
    forward_passes: int
    """Prompts run through the network, whole or from the patched activation on: each prompt, and for each traced pair,
    direction, corruption, draw and numeric answer both prompts and every site. Exact for pairs alone; the few
    recordings that other corruptions take besides are left out."""
    forward_equivalents: float = Field(ge=0)
    """The rows that are computed, in units of one whole pass over a prompt: nothing before the patched layer and
    position is computed again."""
    tokens: float
    """Of a prompt: the mean of the form with the longest ones."""
    read_at_once: float = 0.0
    """Prompts whose decisions are read over the whole vocabulary together."""
    counted: bool = False
    """Whether a preview has counted tokens with the model's tokenizer; otherwise there are four characters in each."""
    work: Work | None = None
    """None in plans that were made before it was counted."""

    def forecasts(self, calibrations: Iterable[Calibration]) -> tuple[Forecast, ...]:
        """Time and memory on each of the machines; none where the work was not counted."""
        if self.work is None:
            return ()
        size = {"tokens": self.tokens, "read_at_once": self.read_at_once}
        return tuple(forecast(one, self.work, **size) for one in calibrations)


def estimate(
    plan: Plan,
    pair_set: PairSet,
    shards: Sequence[Shard],
    preview: Preview | None = None,
    *,
    layouts: Mapping[str, Layout] | None = None,
) -> Cost:
    """The cost of the shards, and of the second stage that may follow from them; layouts that are known save time."""
    layouts = layouts or layouts_of(plan, pair_set, preview)
    prompts = {(pair.form, pair.text(side)) for pair in pair_set.pairs for side in Side}
    effects = [shard for shard in shards if shard.kind is ShardKind.EFFECTS]
    traced = sum(len(shard.pair_ids) * _repeats(plan) * plan.tracing.draws(shard.corruption) for shard in effects)
    checked = (controls(layouts[shard.form]) for shard in shards)
    work = Work.total([*_decisions(plan, shards, layouts), *_effects(plan, pair_set, effects, layouts), *checked,
                       *_joint(plan, pair_set, layouts)])  # fmt: skip
    mean = fmean(layouts[form].tokens for form, _ in prompts)
    return Cost(
        shards=len(shards),
        forward_passes=_answers(plan) * len(prompts) + traced * (2 + len(plan.sites)),
        forward_equivalents=round(work.passes(layers=plan.model.layers, tokens=mean), 1),
        tokens=max(layout.tokens for layout in layouts.values()),
        read_at_once=max(_read_at_once(layout) for layout in layouts.values()),
        counted=preview is not None and all(form.layout is not None for form in preview.forms),
        work=work,
    )


def layouts_of(plan: Plan, pair_set: PairSet, preview: Preview | None = None) -> dict[str, Layout]:
    """Form → how its prompts fall into tokens: as previewed, otherwise as many as their characters let expect."""
    forms: dict[str, list[Pair]] = {}
    for pair in pair_set.pairs:
        forms.setdefault(pair.form, []).append(pair)
    seen = {} if preview is None else {form.form: form.layout for form in preview.forms}
    return {
        form: seen.get(form) or by_characters(pairs[:PAIRS_PER_DECISION_SHARD], layers=plan.model.layers)
        for form, pairs in forms.items()
    }


def _answers(plan: Plan) -> int:
    """How often a prompt is read: for the labels, and for each numeric answer that a metric asks for."""
    return 1 + (len(plan.behavior.answers) if plan.reads_answers else 0)


def _read_at_once(layout: Layout) -> float:
    """Prompts of one flight; of a form that shares its beginnings they are many."""
    prompts, layers = layout.decisions.entries, layout.reading.layers
    rows = (layout.decisions.layer_rows + layout.decisions.last_rows) / layers / prompts
    return min(prompts, ROWS_IN_FLIGHT / rows)


def _repeats(plan: Plan) -> int:
    """How often each pair is traced in each way: for the labels, and for the answers where all is read."""
    return _answers(plan) if plan.tracing.all_readouts else 1


def _decisions(plan: Plan, shards: Iterable[Shard], layouts: Mapping[str, Layout]) -> Iterator[Work]:
    for shard in shards:
        if shard.kind is ShardKind.DECISIONS:
            layout = layouts[shard.form]
            yield layout.decisions.times(_answers(plan) * len(shard.pair_ids) / layout.pairs)


def _effects(plan: Plan, pair_set: PairSet, shards: Iterable[Shard], layouts: Mapping[str, Layout]) -> Iterator[Work]:
    """Recordings of each traced pair and the sweeps over all sites; pairs of a form in one way take the same."""
    pairs: Counter[tuple[str, Direction, Corruption]] = Counter()
    for shard in shards:
        if shard.kind is ShardKind.EFFECTS and shard.direction is not None and shard.corruption is not None:
            pairs[shard.form, shard.direction, shard.corruption] += len(shard.pair_ids)
    for (form, direction, corruption), count in pairs.items():
        others = fmean(map(len, partners(plan, pair_set, form).values())) if corruption is Corruption.MEAN else 0.0
        yield trace(
            plan.sites,
            layouts[form],
            corruption=corruption,
            direction=direction,
            draws=plan.tracing.draws(corruption),
            others=others,
            all_readouts=plan.tracing.all_readouts,
        ).times(count * _repeats(plan))


def _joint(plan: Plan, pair_set: PairSet, layouts: Mapping[str, Layout]) -> Iterator[Work]:
    """The second stage, which exchanges leading sites two by two in half of the pairs: as if any of them led."""
    count = plan.tracing.joint_sites
    writers = [site for site in plan.sites if site.kind in WRITERS and site.width == 1]
    if count < 2 or not writers:
        return
    for form, layout in layouts.items():
        judged = sum(pair.kind is PairKind.CONTRAST for pair in traced_pairs(plan, pair_set, form)) / 2
        for direction in plan.tracing.directions:
            whole, recorded = (
                trace(sites, layout, corruption=Corruption.PAIR, direction=direction) for sites in (writers, [])
            )
            sets = count * (count - 1) / 2 / whole.cells
            yield Work.total([whole.times(judged * sets), recorded.times(judged * (1 - sets))])
