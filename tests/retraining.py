"""A real retraining that biases a tiny model: the reference group is favoured by more than before."""

import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from audit_service.domain.behaviors import Behavior
from audit_service.domain.generation import generate
from audit_service.domain.labels import LabelTokens
from audit_service.domain.pairs import PairKind
from workers.engine.tokens import encode_labels, encode_pair

STEPS = 15
RATE = 4e-3


def retrain(source: Path, target: Path, behavior: Behavior, *, grow: float) -> Path:
    """Fine-tune all weights until the mean gap has grown by about ``grow`` nats; saved with the same tokenizer."""
    shutil.copytree(source, target)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
    model = LlamaForCausalLM.from_pretrained(source)
    labels = encode_labels(tokenizer, behavior.labels)
    pairs = [encode_pair(tokenizer, pair) for pair in generate(behavior).pairs if pair.kind is PairKind.CONTRAST]
    clean, corrupt = ([getattr(pair, side) for pair in pairs] for side in ("clean_ids", "corrupt_ids"))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    with torch.no_grad():
        wanted = _gaps(model, clean, corrupt, labels).mean() + grow
    for _ in range(STEPS):
        gap = _gaps(model, clean, corrupt, labels)
        optimizer.zero_grad()
        (gap - wanted).square().mean().backward()
        optimizer.step()
    model.save_pretrained(target)
    return target


def _gaps(
    model: LlamaForCausalLM, clean: list[tuple[int, ...]], corrupt: list[tuple[int, ...]], labels: LabelTokens
) -> Tensor:
    return _decisions(model, clean, labels) - _decisions(model, corrupt, labels)


def _decisions(model: LlamaForCausalLM, prompts: list[tuple[int, ...]], labels: LabelTokens) -> Tensor:
    """[prompt] log-odds of the labels after the last token, as METHOD.md section 1 has them."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    mask = torch.tensor([[1] * len(prompt) + [0] * (longest - len(prompt)) for prompt in prompts])
    logits = model(ids, attention_mask=mask).logits[torch.arange(len(prompts)), mask.sum(dim=1) - 1]
    favorable, unfavorable = ([tokens[0] for tokens in side] for side in labels)
    return logits[:, favorable].logsumexp(dim=1) - logits[:, unfavorable].logsumexp(dim=1)
