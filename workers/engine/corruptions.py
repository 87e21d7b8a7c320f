"""Other corruptions than the pair itself: noise, zero and mean, for sensitivity analyses (METHOD.md section 4).

Noise makes another recipient; zero and mean make another donor; resampling is a recording of any other prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording, record_entry
from workers.engine.entry import enter
from workers.engine.loading import Subject
from workers.engine.progress import StopCheck, never_stop

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
    if not positions or not set(positions) <= set(range(len(ids))):
        raise InvalidTrace(
            f"noise is asked for at positions {list(positions)} of a prompt of {len(ids)} tokens",
            remedy="name token positions inside the prompt",
        )
    entry = enter(subject, ids)
    draw = torch.randn(len(positions), subject.anatomy.width, generator=torch.Generator().manual_seed(seed))
    hidden = entry.hidden.clone()
    hidden[list(positions)] += sigmas * embedding_sd(subject) * draw.to(hidden)
    return record_entry(subject, replace(entry, hidden=hidden), should_stop=should_stop)


def embedding_sd(subject: Subject) -> float:
    """Standard deviation of the token embeddings as they enter the residual stream."""
    embeddings = subject.model.get_input_embeddings()
    scale = float(getattr(embeddings, "scalar_embed_scale", 1.0))
    weight: Tensor = embeddings.weight  # type: ignore[assignment]
    return scale * float(weight.float().std())


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
    return Recording(entry, layers("resid"), heads, layers("z"), layers("attn_out"), layers("mlp_out"))
