"""The work of tracing one pair, counted from its tokens: recordings, patched runs, controls (workers.engine)."""

from collections.abc import Iterable, Sequence

from audit_service.domain.layouts import Layout, Moved, Reach, Traced
from audit_service.domain.plan import ABLATIONS, Corruption, Direction
from audit_service.domain.sites import ALL, WRITERS, Site, SiteKind
from audit_service.domain.work import Resumed, Work, sweep, whole_pass

NEXT = frozenset({SiteKind.RESID_MID, SiteKind.RESID_POST})
"""Exchanged as the next layer's beginning."""
OF_THE_TOKEN = frozenset({SiteKind.RESID_PRE, SiteKind.Q, SiteKind.K, SiteKind.V})
"""In the first layer they depend on nothing but the token."""
SEEN_BY_ATTENTION = frozenset({SiteKind.RESID_PRE, SiteKind.K, SiteKind.V}) | NEXT
"""Read by their layer's attention at other positions than their own."""


def trace(
    sites: Sequence[Site],
    layout: Layout,
    *,
    corruption: Corruption,
    direction: Direction,
    draws: int = 1,
    others: float = 0.0,
    all_readouts: bool = False,
) -> Work:
    """Tracing one pair once: its recordings and the patched runs of all sites, for every draw of noise.

    ``others`` is the number of other prompts that a mean is made of. The layout holds no trace for directions that the
    corruption does not have.
    """
    traced = layout.traced[Corruption.ZERO if corruption in ABLATIONS else corruption][direction]
    blended = corruption in ABLATIONS
    runs = _distinct(_placed(site, traced, layout, blended=blended) for site in sites)
    behind, reading = layout.reading.behind, layout.reading
    swept = sweep(runs, reading.frame(traced.tokens))
    vocabulary = 0.0 if reading.classifies else swept.cells * (reading.tails if all_readouts else behind)
    each = Work.total([swept.times(reading.ways), _answered(layout, traced, corruption, all_readouts=all_readouts),
                       Work(vocabulary_rows=vocabulary)])  # fmt: skip
    recorded = _recordings(layout, traced, corruption, draws=draws, others=others)
    if blended:  # the pair's own decisions are read besides
        recorded = Work.total([recorded, _answered(layout, traced, Corruption.PAIR, all_readouts=all_readouts)])
    return Work.total([recorded, each.times(draws)])


def _answered(layout: Layout, traced: Traced, corruption: Corruption, *, all_readouts: bool) -> Work:
    """The labels behind both prompts and behind the run that is patched; where all is read, once more behind each."""
    donor = traced.tokens if corruption in ABLATIONS else traced.other
    own, other = (layout.reading.answered(tokens) for tokens in (traced.tokens, donor))
    return Work.total([own.times(3), other.times(3)] if all_readouts else [own.times(2), other])


def _recordings(layout: Layout, traced: Traced, corruption: Corruption, *, draws: int, others: float) -> Work:
    """The prompts that are run unpatched; ablations, which have no corrupt run, read the pair's own besides."""
    layers = layout.reading.layers
    own, other = (whole_pass(tokens, layers=layers) for tokens in (traced.tokens, traced.other))
    match corruption:
        case Corruption.GAUSSIAN:
            return Work.total([own.times(1 + draws), Work(entries=draws)])  # each asks how far the embeddings spread
        case Corruption.ZERO:
            return Work.total([own.times(2), other])
        case Corruption.MEAN | Corruption.POSITIONAL_MEAN:
            return Work.total([own.times(2), other.times(2), whole_pass(layout.tokens, layers=layers).times(others)])
        case Corruption.PAIR | Corruption.RESAMPLE:
            return Work.total([own, other])


def controls(layout: Layout) -> Work:
    """What the controls of a shard take, on one pair (workers.engine.selfcheck)."""
    reading, traced = layout.reading, layout.traced[Corruption.PAIR][Direction.DENOISE]
    layers, tokens = reading.layers, traced.tokens
    shared = min(tokens, traced.other)
    own = [
        _resumed(layout, tokens, layer, Reach(share=1, rows=1, own=1), behind=behind)
        for behind in (False, True, True)
        for layer in range(layers)
    ]
    everywhere = _resumed(layout, tokens, layers // 2 if reading.tails == 1 else 0, traced.moved[ALL].anywhere)
    single = [
        _resumed(layout, tokens, layer, Reach(share=_differs(traced, layer, back), rows=back, own=1))
        for layer in sorted({0, layers // 2, layers - 1})
        for back in sorted({1.0, 1.0 + shared // 4})
    ]
    frame, runs = reading.frame(tokens), (own, [everywhere], single, *([run] for run in single))
    swept = [sweep((run for run in some if run.share), frame).times(reading.ways) for some in runs]
    record = [whole_pass(length, layers=layers) for length in (tokens, traced.other)]
    plain = Work.total([whole_pass(traced.other, layers=layers),
                        Work(vocabulary_rows=0 if reading.classifies else traced.other)])  # fmt: skip
    return Work.total([
        *record,
        whole_pass(shared, layers=layers).times(2 * traced.unequal),
        plain.times(1 if reading.tails == 1 else 1 + reading.labels),
        *swept,
        reading.answered(tokens).times(len(swept) + 4),
    ])  # fmt: skip


def _differs(traced: Traced, layer: int, back: float) -> float:
    """How often the token so far from the end has another row on the other side than in the run."""
    reach = traced.moved[ALL].anywhere if layer else traced.moved[ALL].first
    equal = reach.share * (back <= reach.rows if layer else back == reach.rows)
    return traced.unequal + (1 - traced.unequal) * equal


Placed = tuple[tuple[object, ...], Resumed]
"""What tells a run from others, and the run."""


def _placed(site: Site, traced: Traced, layout: Layout, *, blended: bool) -> Placed | None:
    """The run of a site; None where nothing can change (workers.engine.placing)."""
    moved = traced.moved.get(site.segment)
    layers = layout.reading.layers
    # A donor that is no run holds no row that its middle leads to, so that one is exchanged in its place.
    in_place = blended and site.kind is SiteKind.RESID_MID
    layer = site.layer + (site.kind in NEXT and not in_place)
    if moved is None:
        return None
    reach = moved.first if layer == 0 and site.kind in OF_THE_TOKEN else moved.anywhere
    last = layer == layers or (layer == layers - 1 and (in_place or site.kind not in SEEN_BY_ATTENTION))
    if layout.reading.causal and last and site.width == 1:
        reach = _decision(moved)
    if not reach.share:
        return None
    stage = SiteKind.RESID_PRE if site.kind in NEXT and not in_place else site.kind
    behind = in_place or site.kind in WRITERS or site.kind is SiteKind.NEURONS
    run = _resumed(layout, traced.tokens, layer, reach, behind=behind)
    # Of a window, the last layer's part changes nothing at positions that are not read.
    idle = layout.reading.causal and site.width > 1 and site.layer + site.width == layers and not moved.decides
    acting = site.width - idle
    return (stage, layer, site.head, acting, reach.rows, reach.own), run


def _decision(moved: Moved) -> Reach:
    """Behind the last attention the last token alone is read."""
    return Reach(share=moved.decides, rows=1, own=1) if moved.decides else Reach()


def _resumed(layout: Layout, tokens: float, layer: int, reach: Reach, *, behind: bool = False) -> Resumed:
    reading = layout.reading
    ahead = reach.own if behind and reading.packs and not reading.gated else 0.0
    rows = (reach.rows if reading.resumes else tokens) + (
        reading.behind if reading.packs else reading.behind / reading.endings
    )
    return Resumed(rows, layer + bool(ahead), ahead, reach.share)


def _distinct(found: Iterable[Placed | None]) -> list[Resumed]:
    """Runs that are the same under several names, once."""
    return list({one[0]: one[1] for one in found if one is not None}.values())
