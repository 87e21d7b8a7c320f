"""Traces of a pair under each corruption that a plan can declare (METHOD.md section 4)."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Corruption, Direction, Tracing
from audit_service.domain.sites import Site, SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.corruptions import mean, noised, zeroed
from workers.engine.distributions import READOUTS, Readouts
from workers.engine.donors import record
from workers.engine.patching import PairEffects, Side, trace_sides
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress, one_of
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, EncodedPrompt


@dataclass(frozen=True, slots=True)
class Setting:
    """How pairs are traced."""

    direction: Direction
    corruption: Corruption
    tracing: Tracing
    """The plan's, which says how positions are mapped, how often noise is drawn and by which seed."""
    all_readouts: bool


def trace_variant(
    subject: Subject,
    encoded: EncodedPair,
    sets: Sequence[Sequence[Site]],
    setting: Setting,
    *,
    labels: LabelTokens,
    others: Sequence[EncodedPrompt] = (),
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> PairEffects:
    """The patched decision values [set] of one pair; each set of sites is exchanged at once.

    ``others`` are comparison prompts of other pairs: the first is the corrupt side of resampling, all of them and the
    pair's own prompts make the mean. Gaussian noise is averaged over its draws. Of the mean and of zero, which have no
    run of their own, d_corrupt is that of the comparison prompt. Raises InvalidTrace for resampling without another
    prompt, or denoising from an ablation.
    """
    neurons = any(site.kind is SiteKind.NEURONS for sites in sets for site in sites)
    sides = _sides(subject, encoded, setting, others, neurons=neurons, should_stop=should_stop)
    draws = setting.tracing.draws(setting.corruption)
    found = [
        trace_sides(
            subject,
            clean,
            corrupt,
            sets,
            direction=setting.direction,
            labels=labels,
            mapping=setting.tracing.mapping,
            all_readouts=setting.all_readouts,
            progress=one_of(progress, draw, draws),
            should_stop=should_stop,
        )
        for draw, (clean, corrupt) in enumerate(sides)
    ]
    if setting.corruption not in {Corruption.MEAN, Corruption.ZERO}:
        return _averaged(found)
    pair = replace(setting, corruption=Corruption.PAIR)
    own = trace_variant(subject, encoded, [], pair, labels=labels, should_stop=should_stop)
    return replace(found[0], d_corrupt=own.d_corrupt, unpatched=own.unpatched)


def _sides(
    subject: Subject,
    encoded: EncodedPair,
    setting: Setting,
    others: Sequence[EncodedPrompt],
    *,
    neurons: bool,
    should_stop: StopCheck,
) -> Iterator[tuple[Side, Side]]:
    """Clean and corrupt side, once for each draw."""

    def recorded(prompt: EncodedPrompt) -> Side:
        return Side(prompt, record(subject, prompt.ids, neurons=neurons, should_stop=should_stop))

    clean = recorded(encoded.clean)
    match setting.corruption:
        case Corruption.PAIR:
            yield clean, recorded(encoded.corrupt)
        case Corruption.RESAMPLE:
            if not others:
                raise InvalidTrace("there is no other pair to resample from", remedy="trace at least two pairs a form")
            yield clean, recorded(others[0])
        case Corruption.GAUSSIAN:
            cues = [at for name in encoded.cues for at in encoded.clean.spans[name]]
            for draw in range(setting.tracing.draws(setting.corruption)):
                seed = _seed(setting.tracing.seed, encoded.id, draw)
                noisy = noised(subject, encoded.clean.ids, cues, seed=seed, should_stop=should_stop)
                yield clean, Side(encoded.clean, noisy)
        case Corruption.MEAN:
            around = [recorded(prompt).recording for prompt in (encoded.corrupt, *others)]
            yield clean, Side(encoded.clean, mean([clean.recording, *around]))
        case Corruption.POSITIONAL_MEAN:
            raise InvalidTrace("the pairs' prompts have no one length", remedy="use the corruption mean")
        case Corruption.ZERO:
            yield clean, Side(encoded.clean, zeroed(clean.recording))


def _seed(seed: int, pair: str, draw: int) -> int:
    """One for each draw of each pair, whatever its shard."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{pair}/{draw}".encode()).digest()[:7])


def _averaged(found: Sequence[PairEffects]) -> PairEffects:
    """The mean over draws of everything that was read."""
    if len(found) == 1:
        return found[0]
    return PairEffects(
        np.mean([one.patched for one in found], axis=0, dtype=np.float32),
        float(np.mean([one.d_clean for one in found])),
        float(np.mean([one.d_corrupt for one in found])),
        _mean_readouts([one.readouts for one in found if one.readouts is not None]),
        _mean_readouts([one.unpatched for one in found if one.unpatched is not None]),
    )


def _mean_readouts(found: Sequence[Readouts]) -> Readouts | None:
    if not found:
        return None
    return Readouts(*(np.stack([getattr(one, name) for one in found]).mean(axis=0) for name in READOUTS))
