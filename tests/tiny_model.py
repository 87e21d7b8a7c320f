"""A tiny random Llama in a folder, with a tokenizer that knows the example's words: a real model for the journeys."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from audit_service.domain.behaviors import Behavior
from audit_service.domain.generation import generate
from audit_service.domain.pairs import Side

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_tiny_model(folder: Path, behavior: Behavior, *, seed: int = 0, layers: int = 3) -> Path:
    """A folder as `save_pretrained` writes it: safetensors, configuration, tokenizer, chat template."""
    tokenizer = _tokenizer(behavior)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(8)  # a fresh model is nearly constant; this one has effects of tenths of a nat
    model.save_pretrained(folder)
    return folder


def _tokenizer(behavior: Behavior) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the behavior's own prompts, so that answers are one token and names are several."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    labels = [spelling for side in (behavior.labels.favorable, behavior.labels.unfavorable) for spelling in side]
    texts = [pair.text(side) for pair in generate(behavior).pairs for side in Side]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|end|>", "<|user|>", "<|system|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([*texts, *labels * 1000], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=CHAT_TEMPLATE, eos_token="<|end|>")
