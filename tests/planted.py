"""Models whose workings are known because their weights were set by hand, through the real Llama class.

Each is an ordinary `LlamaForCausalLM` that computes one rule and, beside it, decoys: heads and neurons that are busy
with random features which nothing reads. So a site's true role is known without measuring anything.

Two settings make a Llama fit for this: a huge epsilon turns its normalisation into the identity (the weight undoes the
division), and a huge rotary base leaves all but a few dimensions of a head unrotated.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from audit_service.domain.behaviors import Behavior
from audit_service.domain.generation import generate
from audit_service.domain.labels import LabelTokens
from audit_service.domain.pairs import Side
from workers.engine.loading import Subject, subject_of

LAYERS, HEADS, HEAD_WIDTH, NEURONS, DECOYS = 3, 4, 64, 16, 14
CONSTANT, SIGNAL, IS_CUE, FIRST, SECOND, OUT, JUNK = 0, 1, 2, 3, 4, 5, 6
"""Axes of the residual stream of the models that carry a signal; decoy features stand from JUNK on."""
OPEN = 30.0
"""silu(x) is x in float32 from here on, so a gate held open this far makes products exact."""
EPSILON = 1e8


class Rule(NamedTuple):
    """What a model with a signal does with it: heads copy it to the decision, one MLP decides."""

    heads: Mapping[tuple[int, int], int]
    """(layer, head) → axis that it writes the cue's signal to, wherever it looks from."""
    mlp: int
    """Layer of the MLP that turns what the heads wrote into the answer."""
    combine: Callable[[float, float], float]
    """What that MLP computes of the two axes."""


ONE_HEAD = Rule({(1, 2): FIRST}, 2, lambda a, _: a)
"""One head is the whole path: patching it is patching everything."""
REDUNDANT = Rule({(0, 1): FIRST, (1, 2): SECOND}, 2, lambda a, b: a + b - a * b)
"""Either head suffices (OR): denoising one has the whole effect, noising one has none."""
CONJOINT = Rule({(0, 1): FIRST, (1, 2): SECOND}, 2, lambda a, b: a * b)
"""Both heads are needed (AND): denoising one has no effect, noising one has the whole."""


def carrier(
    rule: Rule,
    signal: Mapping[int, float],
    labels: LabelTokens,
    *,
    vocabulary: int,
    gain: float = 1.0,
    bias: float = 0.0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    seed: int = 0,
) -> Subject:
    """A model whose decision value is bias + gain x (what the rule makes of the cue's signal), in nats.

    ``signal`` gives each cue token its number, 0 to 1 for the rules above. With one spelling on each side d is exactly
    that; more spellings of one side add the logarithm of their count.
    """
    torch.manual_seed(seed)
    model = _bare(vocabulary, width=JUNK + DECOYS)
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[:, CONSTANT] = 1
        embedding[:, JUNK:] = torch.randn(vocabulary, DECOYS)
        for token, value in signal.items():
            embedding[token, SIGNAL], embedding[token, IS_CUE] = value, 1
        _add_decoys(model)
        for (layer, head), axis in rule.heads.items():
            _copy_from_cue(model, layer, head, axis)
        _decide(model.model.layers[rule.mlp].mlp, rule)
        unembedding = model.get_output_embeddings().weight
        unembedding[:, JUNK:] = torch.randn(vocabulary, DECOYS) / 4
        for side, sign in zip(labels, (0.5, -0.5), strict=True):
            tokens = [token for (token,) in side]
            unembedding[tokens] = 0
            unembedding[tokens, CONSTANT] = 10 + sign * bias
            unembedding[tokens, OUT] = sign * gain
    return subject_of(model, tokenizer or word_tokenizer(()))


def induction(*, vocabulary: int = 24, gain: float = 12.0) -> Subject:
    """Two layers that continue "… A B … A" with B: a head that notes each previous token, one that looks it up.

    Head 1 of layer 0 attends one position back (a rotated key) and writes that token down; head 2 of layer 1 looks for
    the position that wrote down the present token and copies what stands there. Olsson et al. 2022.
    """
    token, previous, out = (slice(1 + i * vocabulary, 1 + (i + 1) * vocabulary) for i in range(3))
    model = _bare(vocabulary, width=1 + 3 * vocabulary, layers=2)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, token] = torch.eye(vocabulary)
        model.get_input_embeddings().weight[:, 0] = 1
        one_back, look_up = model.model.layers[0].self_attn, model.model.layers[1].self_attn
        # One position turns the rotating plane by one radian, so this query fits the key one position back best.
        q, k = (_rows(one_back, name, 1) for name in ("q_proj", "k_proj"))
        q[0, 0], q[HEAD_WIDTH // 2, 0] = 2000 * torch.cos(torch.tensor(1.0)), -2000 * torch.sin(torch.tensor(1.0))
        k[0, 0] = 8
        _copy(one_back, 1, token, previous)
        content = torch.arange(4, 4 + vocabulary)  # dimensions that do not rotate
        _rows(look_up, "q_proj", 2)[content, token] = torch.eye(vocabulary) * 100
        _rows(look_up, "k_proj", 2)[content, previous] = torch.eye(vocabulary) * 8
        _copy(look_up, 2, token, out)
        model.get_output_embeddings().weight[:, out] = torch.eye(vocabulary) * gain
    return subject_of(model, word_tokenizer(()))


def fraction(marked: Iterable[int], labels: LabelTokens, *, vocabulary: int = 24, gain: float = 8.0) -> Subject:
    """A compiled program in the manner of Tracr (Lindner et al. 2023): d = gain x share of marked tokens so far.

    MLP 0 finds whether the position's token is marked, head 3 of layer 1 averages that over all positions, MLP 2 hands
    the average on to the answer.
    """
    found, share, out = vocabulary + 1, vocabulary + 2, vocabulary + 3
    model = _bare(vocabulary, width=vocabulary + 4)
    with torch.no_grad():
        embedding, unembedding = (get().weight for get in (model.get_input_embeddings, model.get_output_embeddings))
        embedding[:, :vocabulary], embedding[:, vocabulary] = torch.eye(vocabulary), 1
        mlps = [layer.mlp for layer in model.model.layers]
        for mlp in (mlps[0], mlps[2]):
            mlp.gate_proj.weight[0, vocabulary] = OPEN
        mlps[0].up_proj.weight[0, list(marked)], mlps[0].down_proj.weight[found, 0] = 1, 1 / OPEN
        _copy(model.model.layers[1].self_attn, 3, slice(found, found + 1), slice(share, share + 1))
        mlps[2].up_proj.weight[0, share], mlps[2].down_proj.weight[out, 0] = 1, 1 / OPEN
        for side, sign in zip(labels, (0.5, -0.5), strict=True):
            tokens = [token for (token,) in side]
            unembedding[tokens, out] = sign * gain
    return subject_of(model, word_tokenizer(()))


def save_carrier(
    folder: Path, behavior: Behavior, rule: Rule, signal: Mapping[str, float], *, gain: float = 1.0, bias: float = 0.0
) -> Path:
    """A carrier model as a folder that can be registered: its words are those of the behavior's own prompts.

    ``signal`` names the cues as they stand in the behavior; a cue it does not name carries nothing.
    """
    spellings = [*behavior.labels.favorable, *behavior.labels.unfavorable]
    prompts = [pair.text(side) for pair in generate(behavior).pairs for side in Side]
    tokenizer = word_tokenizer([*prompts, *spellings])
    found = {tokenizer.get_vocab().get(before + cue): value for cue, value in signal.items() for before in ("", " ")}
    labels = LabelTokens(
        *(
            tuple(sorted({(tokenizer.get_vocab()[spelling],) for spelling in side}))
            for side in (behavior.labels.favorable, behavior.labels.unfavorable)
        )
    )
    tokens = {token: value for token, value in found.items() if token is not None}
    made = carrier(rule, tokens, labels, vocabulary=len(tokenizer), gain=gain, bias=bias, tokenizer=tokenizer)
    made.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Each word with the space before it is one token, so that a name is one token and carries one signal."""
    splitter = pre_tokenizers.Split(Regex(r" ?[\p{L}\p{N}]+|[^\p{L}\p{N}]"), behavior="isolated")
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
    vocabulary = {word: number for number, word in enumerate(["<unk>", *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = splitter
    template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", chat_template=template)


def _bare(vocabulary: int, *, width: int, layers: int = LAYERS) -> LlamaForCausalLM:
    """A Llama that passes its embeddings on unchanged: normalisation is the identity, all other weights are zero."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=-(-width // HEADS) * HEADS,
        intermediate_size=NEURONS,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_WIDTH,
        max_position_embeddings=512,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": 1e36},
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(EPSILON**0.5 if "norm" in name else 0)
    return model


def _rows(attention: nn.Module, name: str, head: int) -> Tensor:
    """A head's rows of the query, key or value projection, to be written to."""
    return attention.get_parameter(f"{name}.weight")[head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH]


def _copy(attention: nn.Module, head: int, read: slice, write: slice) -> None:
    """Let a head copy some axes of what it attends to into others."""
    count = read.stop - read.start
    _rows(attention, "v_proj", head)[:count, read] = torch.eye(count)
    out = attention.get_parameter("o_proj.weight")[:, head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH]
    out[write, :count] = torch.eye(count)


def _copy_from_cue(model: LlamaForCausalLM, layer: int, head: int, axis: int) -> None:
    """Let a head write the cue's signal to an axis, at the cue and at every position behind it."""
    attention = model.model.layers[layer].self_attn
    for name in ("q_proj", "k_proj", "v_proj"):
        _rows(attention, name, head).zero_()
    attention.o_proj.weight[:, head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH] = 0
    _rows(attention, "q_proj", head)[4, CONSTANT] = 100
    _rows(attention, "k_proj", head)[4, IS_CUE] = 8
    _copy(attention, head, slice(SIGNAL, SIGNAL + 1), slice(axis, axis + 1))


def _decide(mlp: nn.Module, rule: Rule) -> None:
    """Set three neurons to the rule: it is bilinear, so its values at the corners say everything."""
    gate, up, down = (mlp.get_parameter(f"{name}_proj.weight") for name in ("gate", "up", "down"))
    alone, other = rule.combine(1, 0), rule.combine(0, 1)
    both = rule.combine(1, 1) - alone - other
    for weight in (gate, up):
        weight[:3] = 0
    down[:, :3] = 0
    gate[:3, CONSTANT], gate[0, FIRST] = OPEN, 1
    up[0, SECOND], up[1, SECOND], up[2, FIRST], up[2, SECOND] = 1, 1, alone, other
    down[OUT, :3] = torch.tensor([both, -both, 1 / OPEN])


def _add_decoys(model: LlamaForCausalLM) -> None:
    """Let every head and neuron work on the features that nothing reads."""
    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            weight = layer.self_attn.get_parameter(f"{name}.weight")
            weight[:, [SIGNAL, *range(JUNK, weight.shape[1])]] = torch.randn(len(weight), 1 + DECOYS) / DECOYS
        layer.self_attn.o_proj.weight[JUNK:] = torch.randn(DECOYS, HEADS * HEAD_WIDTH) / 8
        for name in ("gate_proj", "up_proj"):
            weight = layer.mlp.get_parameter(f"{name}.weight")
            weight[:, [FIRST, SECOND, *range(JUNK, JUNK + DECOYS)]] = torch.randn(NEURONS, 2 + DECOYS) / 4
        layer.mlp.down_proj.weight[JUNK:] = torch.randn(DECOYS, NEURONS) / 4
