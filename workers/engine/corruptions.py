"""Other corruptions than the pair itself: noise, zero and mean, for sensitivity analyses (METHOD.md section 4).

A prompt whose cue tokens are embedded otherwise (noised, blanked, averaged) is a run of its own: clean activations are
restored in it (denoising), or its activations are put into the clean run (noising). Zeroed and averaged recordings are
donors alone, for ablations in the clean run; resampling is a recording of any other prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from accelerate.utils import align_module_device
from jaxtyping import Float
from torch import Tensor

from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording, record_entry
from workers.engine.entry import embed, enter
from workers.engine.progress import StopCheck, never_stop
from workers.engine.subject import Subject

SAMPLED = 1024
"""Tokens from which is seen how embeddings enter the residual stream."""
LIKENESS = 0.02
"""Share by which rounding may make embeddings differ from multiples of the table's rows."""
SIGMAS = 3.0
"""Standard deviations of the embeddings; Meng et al. 2022 (ROME), section 2.1."""


def noised(
    subject: Subject,
    ids: Sequence[int],
    positions: Sequence[int],
    *,
    seed: int,
    sigmas: float = SIGMAS,
    should_stop: StopCheck = never_stop,
) -> Recording:
    """Run a prompt with Gaussian noise on the embeddings of some tokens; one draw per seed, equal on every device.

    Raises InvalidTrace for positions outside the prompt.
    """
    draw = torch.randn(len(positions), subject.anatomy.width, generator=torch.Generator().manual_seed(seed))
    noise = sigmas * embedding_sd(subject) * draw
    return _embedded(subject, ids, positions, lambda rows: rows + noise.to(rows), should_stop=should_stop)


def blanked(
    subject: Subject, ids: Sequence[int], positions: Sequence[int], *, should_stop: StopCheck = never_stop
) -> Recording:
    """Run a prompt with zeros where some tokens are embedded; InvalidTrace for positions outside the prompt."""
    return _embedded(subject, ids, positions, torch.zeros_like, should_stop=should_stop)


def averaged(
    subject: Subject, ids: Sequence[int], positions: Sequence[int], *, should_stop: StopCheck = never_stop
) -> Recording:
    """Run a prompt with the mean of the vocabulary where some tokens are embedded; InvalidTrace as above."""
    average = _vocabulary(subject).mean(0)
    return _embedded(subject, ids, positions, lambda rows: average.to(rows).expand_as(rows), should_stop=should_stop)


def _embedded(
    subject: Subject,
    ids: Sequence[int],
    positions: Sequence[int],
    become: Callable[[Tensor], Tensor],
    *,
    should_stop: StopCheck,
) -> Recording:
    """Run a prompt of which some rows enter the first layer otherwise."""
    if not positions or not set(positions) <= set(range(len(ids))):
        raise InvalidTrace(
            f"tokens are corrupted at positions {list(positions)} of a prompt of {len(ids)} tokens",
            remedy="name token positions inside the prompt",
        )
    entry = enter(subject, ids)
    hidden = entry.hidden.clone()
    hidden[list(positions)] = become(hidden[list(positions)])
    return record_entry(subject, replace(entry, hidden=hidden), neurons=True, should_stop=should_stop)


def embedding_sd(subject: Subject) -> float:
    """Standard deviation of the token embeddings as they enter the residual stream."""
    return float(_vocabulary(subject).std())


@torch.inference_mode()
def _vocabulary(subject: Subject) -> Float[Tensor, "token width"]:
    """The token embeddings as they enter the residual stream.

    All of them, without what positions add, where the model only multiplies them; where it norms or projects them as
    well, those of some tokens, each a text of its own.
    """
    with align_module_device(subject.embeddings):
        weight = subject.embeddings.weight.to(subject.device).float()
    some = torch.linspace(0, len(weight) - 1, min(len(weight), SAMPLED)).long()
    entered, own = embed(subject, some.tolist()).float(), weight[some.to(weight.device)]
    if entered.shape != own.shape:
        return entered
    moved, along = entered - entered[0], own - own[0]
    factor = (moved * along).sum() / (along * along).sum()
    return factor * weight if (moved - factor * along).norm() <= LIKENESS * moved.norm() else entered


def zeroed(recording: Recording) -> Recording:
    """Return a donor whose every activation is zero."""
    return _blend([recording], lambda tensors, _: torch.zeros_like(tensors[0]))


def positional_mean(recordings: Sequence[Recording]) -> Recording:
    """Return a donor with the mean over prompts at each position; InvalidTrace if their lengths differ."""
    lengths = sorted({recording.length for recording in recordings})
    if len(lengths) != 1:
        raise InvalidTrace(
            f"a positional mean over prompts of {lengths} tokens is not defined",
            remedy="use prompts of one length, or the mean over all positions",
        )
    return _blend(recordings, lambda tensors, _: torch.stack(tensors).mean(dim=0))


def mean(recordings: Sequence[Recording]) -> Recording:
    """Return a donor of the first recording's length, with the mean over prompts and positions everywhere."""
    return _blend(
        recordings,
        lambda tensors, axis: torch.cat(tensors, dim=axis).mean(dim=axis, keepdim=True).expand_as(tensors[0]),
    )


def _blend(recordings: Sequence[Recording], blend: Callable[[list[Tensor], int], Tensor]) -> Recording:
    """One recording from several; ``blend`` gets the tensors and the number of their position axis."""
    first = recordings[0]

    def layers(name: str) -> list[Tensor]:
        return [blend(list(tensors), 0) for tensors in zip(*(getattr(r, name) for r in recordings), strict=True)]

    heads = [
        each[0]._replace(**{name: blend([getattr(one, name) for one in each], 1) for name in ("query", "key", "value")})
        for each in zip(*(recording.heads for recording in recordings), strict=True)
    ]
    entry = replace(first.entry, hidden=blend([recording.entry.hidden for recording in recordings], 0))
    names = ("z", "attn_out", "mlp_out", "neurons")
    return Recording(entry, layers("resid"), heads, *(layers(name) for name in names), blended=True)
