"""What a plan will cost before anyone pays for it: its work, counted from its sites and its prompts' tokens.

Time and memory follow from the work and from a calibration of the machine (domain.forecast).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from os.path import commonprefix
from statistics import fmean

from pydantic import Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import Pair, PairKind, PairSet, Side
from audit_service.domain.plan import Plan, Shard, ShardKind
from audit_service.domain.preview import Layout, Preview
from audit_service.domain.shards import traced_pairs
from audit_service.domain.sites import ALL, DECISION, WRITERS, Site, SiteKind
from audit_service.domain.work import ROWS_IN_FLIGHT, Resumed, Work, sweep, whole_pass

CHARACTERS_PER_TOKEN = 4
"""Where no tokenizer has been asked."""
CONTROL_PASSES, CONTROL_CALLS, CONTROL_CELLS = 4.25, 9, 3
"""What the controls of a shard take: whole passes, and calls and cells for each layer."""


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


def estimate(plan: Plan, pair_set: PairSet, shards: Sequence[Shard], preview: Preview | None = None) -> Cost:
    """The cost of the shards, and of the second stage that may follow from them."""
    layouts = layouts_of(pair_set, preview)
    prompts = {(pair.form, pair.text(side)) for pair in pair_set.pairs for side in Side}
    effects = [shard for shard in shards if shard.kind is ShardKind.EFFECTS]
    traced = sum(len(shard.pair_ids) * _repeats(plan, shard) for shard in effects)
    work = Work.total([*_decisions(plan, pair_set, layouts), *_effects(plan, effects, layouts),
                       *_controls(plan, shards, layouts), *_joint(plan, pair_set, layouts)])  # fmt: skip
    mean = fmean(layouts[form].tokens for form, _ in prompts)
    return Cost(
        shards=len(shards),
        forward_passes=_answers(plan) * len(prompts) + traced * (2 + len(plan.sites)),
        forward_equivalents=round(work.passes(layers=plan.model.layers, tokens=mean), 1),
        tokens=max(layout.tokens for layout in layouts.values()),
        read_at_once=_read_at_once(pair_set, layouts),
        counted=preview is not None and all(form.layout is not None for form in preview.forms),
        work=work,
    )


def layouts_of(pair_set: PairSet, preview: Preview | None = None) -> dict[str, Layout]:
    """Form → how its prompts fall into tokens: as previewed, otherwise as many as their characters let expect."""
    forms: dict[str, list[Pair]] = {}
    for pair in pair_set.pairs:
        forms.setdefault(pair.form, []).append(pair)
    seen = {} if preview is None else {form.form: form.layout for form in preview.forms}
    return {form: seen.get(form) or _by_characters(pairs) for form, pairs in forms.items()}


def _by_characters(pairs: Sequence[Pair]) -> Layout:
    names = dict.fromkeys(segment.name for pair in pairs for segment in pair.segments)
    whole = fmean(sum(len(part.reference) for part in pair.segments) for pair in pairs) / CHARACTERS_PER_TOKEN
    behind = {name: max(1.0, fmean(_behind(pair, name) for pair in pairs)) for name in (*names, ALL)}
    return Layout(tokens=max(1.0, whole), behind=behind | {DECISION: 1.0})


def _behind(pair: Pair, segment: str) -> float:
    """Tokens from the segment's first that can differ to the end of the prompt."""
    texts, names = [part.reference for part in pair.segments], [part.name for part in pair.segments]
    first_cue = next(index for index, part in enumerate(pair.segments) if part.is_cue)
    start = names.index(segment) if segment in names else first_cue
    return sum(map(len, texts[max(start, first_cue) :])) / CHARACTERS_PER_TOKEN


def _answers(plan: Plan) -> int:
    """How often a prompt is read: for the labels, and for each numeric answer that a metric asks for."""
    return 1 + (len(plan.behavior.answers) if plan.reads_answers else 0)


def _repeats(plan: Plan, shard: Shard) -> int:
    """How often a shard traces each of its pairs."""
    return plan.tracing.draws(shard.corruption) * (_answers(plan) if plan.tracing.all_readouts else 1)


def _decisions(plan: Plan, pair_set: PairSet, layouts: Mapping[str, Layout]) -> Iterator[Work]:
    """All prompts; what a prompt begins with like another is computed once."""
    layers = plan.model.layers
    for form, layout in layouts.items():
        prompts = _prompts(pair_set, form)
        rows = layout.tokens * _decided(prompts)
        flights = 1 + rows / ROWS_IN_FLIGHT
        one = Work(
            layer_rows=layers * rows,
            attended=layers * rows * layout.tokens,
            layer_calls=layers * flights,
            entries=len(prompts),
            vocabulary_rows=len(prompts),
        )
        yield one.times(_answers(plan))


def _prompts(pair_set: PairSet, form: str) -> list[str]:
    return sorted({pair.text(side) for pair in pair_set.pairs if pair.form == form for side in Side})


def _decided(ordered: Sequence[str]) -> float:
    """Passes over all prompts in units of whole ones."""
    # Texts are no paths: character by character is what is meant.
    shared = sum(len(commonprefix(two)) / len(two[1]) for two in pairwise(ordered))  # noqa: RUF071
    return len(ordered) - shared


def _read_at_once(pair_set: PairSet, layouts: Mapping[str, Layout]) -> float:
    """Prompts of one flight; of a form that shares its beginnings they are many."""
    found = []
    for form, layout in layouts.items():
        prompts = _prompts(pair_set, form)
        rows = max(1.0, layout.tokens * _decided(prompts) / len(prompts))
        found.append(min(len(prompts), ROWS_IN_FLIGHT / rows))
    return max(found)


def _effects(plan: Plan, shards: Iterable[Shard], layouts: Mapping[str, Layout]) -> Iterator[Work]:
    """Both recordings of each traced pair and the sweep over all sites."""
    each = {form: _pair(plan, [_run(plan, site, layout) for site in plan.sites], layout)
            for form, layout in layouts.items()}  # fmt: skip
    for shard in shards:
        yield each[shard.form].times(len(shard.pair_ids) * _repeats(plan, shard))


def _pair(plan: Plan, runs: Iterable[Resumed | None], layout: Layout) -> Work:
    layers, found = plan.model.layers, [run for run in runs if run is not None]
    swept = sweep(found, layers=layers, tokens=layout.tokens)
    read = Work(vocabulary_rows=len(found) if plan.tracing.all_readouts else 0)
    return Work.total([whole_pass(layout.tokens, layers=layers).times(2), swept, read])


_NEXT = frozenset({SiteKind.RESID_MID, SiteKind.RESID_POST})
"""Exchanged as the next layer's beginning."""
_BEHIND_ATTENTION = WRITERS | {SiteKind.NEURONS}
"""A change there stays in its row until the next layer."""


def _run(plan: Plan, site: Site, layout: Layout) -> Resumed | None:
    """Where the engine resumes for a site; None where nothing can change (workers.engine.placing)."""
    layers, behind = plan.model.layers, site.kind in _BEHIND_ATTENTION
    joins = site.layer + (behind or site.kind in _NEXT)
    rows = layout.behind.get(site.segment, layout.tokens)
    if joins == layers or (joins == layers - 1 and site.kind in {SiteKind.Q, SiteKind.PATTERN}):
        return Resumed(1.0, joins, float(behind)) if site.segment in {ALL, DECISION} else None
    return Resumed(rows, joins, _own_tokens(site.segment, layout) if behind else 0.0)


def _own_tokens(segment: str, layout: Layout) -> float:
    """Tokens of a segment that can differ: those that no later segment counts."""
    rows = layout.behind.get(segment, layout.tokens)
    if segment == ALL:
        return rows
    return rows - max((later for later in layout.behind.values() if later < rows), default=0.0)


def _controls(plan: Plan, shards: Sequence[Shard], layouts: Mapping[str, Layout]) -> Iterator[Work]:
    layers = plan.model.layers
    calls = Work(layer_calls=CONTROL_CALLS * layers, cells=CONTROL_CELLS * layers)
    for shard in shards:
        passes = whole_pass(layouts[shard.form].tokens, layers=layers)
        yield Work.total([passes.model_copy(update={"layer_calls": 0.0}).times(CONTROL_PASSES), calls])


def _joint(plan: Plan, pair_set: PairSet, layouts: Mapping[str, Layout]) -> Iterator[Work]:
    """The second stage, which exchanges leading sites two by two in half of the pairs: as if any of them led."""
    count = plan.tracing.joint_sites
    writers = [site for site in plan.sites if site.kind in WRITERS and site.width == 1]
    if count < 2 or not writers:
        return
    for form, layout in layouts.items():
        runs = [_run(plan, site, layout) for site in writers]
        mean = _pair(plan, runs, layout).times(1 / len(runs))
        judged = sum(pair.kind is PairKind.CONTRAST for pair in traced_pairs(plan, pair_set, form)) / 2
        yield mean.times(judged * len(plan.tracing.directions) * count * (count - 1) / 2)
