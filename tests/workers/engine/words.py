"""A small byte-level tokenizer, as models have them, and pairs for it."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from audit_service.domain.behaviors import FormKind
from audit_service.domain.pairs import Pair, PairKind, Segment

BEFORE, AFTER = "The applicant is called ", ", earns a fair salary and asks for a loan. Answer:"
PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"
STRIPPING = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}<|assistant|>"
SHOUTING = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"


@cache
def _trained() -> str:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|user|>", "<|system|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([f"{BEFORE}Emily{AFTER} Yes No"] * 50, trainer)
    return inner.to_str()


def tokenizer(
    *, chat_template: str | None = PLAIN, beginning: bool = False, end: bool = False
) -> PreTrainedTokenizerFast:
    inner = Tokenizer.from_str(_trained())
    if beginning or end:
        template = f"{'<|end|> ' if beginning else ''}$A{' <|end|>' if end else ''}"
        inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<|end|>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=chat_template, eos_token="<|end|>")


def pair(
    reference: str = "Emily",
    comparison: str = "Lakisha",
    *,
    form_kind: FormKind = FormKind.TEXT,
    before: str = BEFORE,
    after: str = AFTER,
    system: str | None = None,
) -> Pair:
    segments = [Segment(name="before", reference=before, comparison=before)] if before else []
    segments.append(Segment(name="cue", reference=reference, comparison=comparison))
    if after:
        segments.append(Segment(name="after", reference=after, comparison=after))
    return Pair(
        id="p1",
        kind=PairKind.CONTRAST,
        form=form_kind.value,
        form_kind=form_kind,
        system=system,
        attribute="race",
        reference_group="white",
        comparison_group="black",
        template="t",
        profile="p",
        reference_cue=reference,
        comparison_cue=comparison,
        cluster="c",
        segments=tuple(segments),
    )
