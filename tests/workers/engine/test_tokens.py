"""Prompts, segments and labels as token positions."""

import pytest
from transformers import PreTrainedTokenizerBase

from audit_service.domain.behaviors import FormKind, Labels
from audit_service.domain.labels import LabelTokens
from audit_service.errors import InvalidBehavior, InvalidPairs
from tests.workers.engine.models import tiny
from tests.workers.engine.words import AFTER, BEFORE, SHOUTING, STRIPPING, pair, tokenizer
from workers.engine.tokens import encode_labels, encode_pair, encode_text, labels_of


def _text(words: PreTrainedTokenizerBase, ids: tuple[int, ...], positions: tuple[int, ...]) -> str:
    return str(words.decode([ids[at] for at in positions]))


def test_the_segments_read_as_they_were_declared() -> None:
    words = tokenizer()
    encoded = encode_pair(words, pair())
    for side, name in ((encoded.clean, "Emily"), (encoded.corrupt, "Lakisha")):
        assert _text(words, side.ids, side.spans["cue"]).strip() == name
        assert _text(words, side.ids, side.spans["before"]).strip() == BEFORE.strip()
        assert _text(words, side.ids, side.spans["after"]) + _text(words, side.ids, side.spans["decision"]) == AFTER
        assert sorted(at for span in side.spans.values() for at in span) == list(range(len(side.ids)))


def test_the_decision_is_the_last_token_alone() -> None:
    encoded = encode_pair(tokenizer(), pair())
    assert encoded.clean.spans["decision"] == (len(encoded.clean_ids) - 1,)


def test_a_token_that_touches_the_cue_belongs_to_the_cue() -> None:
    words = tokenizer()
    encoded = encode_pair(words, pair("x", "y", before="a", after="b c."))
    cue = encoded.clean.spans["cue"]
    assert "x" in _text(words, encoded.clean_ids, cue)


def test_names_of_unequal_length_are_told() -> None:
    encoded = encode_pair(tokenizer(), pair())
    assert not encoded.equal_spans
    assert encoded.first_difference == encoded.clean.spans["cue"][0]


def test_a_beginning_token_belongs_to_the_first_segment() -> None:
    encoded = encode_pair(tokenizer(beginning=True), pair())
    assert encoded.clean_ids[0] == 0
    assert encoded.clean.spans["before"][0] == 0


def test_an_appended_token_is_refused() -> None:
    with pytest.raises(InvalidPairs, match="appends"):
        encode_pair(tokenizer(end=True), pair())


def test_the_chat_form_is_the_models_own_template() -> None:
    words = tokenizer()
    encoded = encode_pair(words, pair(form_kind=FormKind.CHAT, system="Be fair."))
    rendered = f"<|system|>Be fair.\n<|user|>{BEFORE}Emily{AFTER}\n<|assistant|>"
    assert words.decode(encoded.clean_ids) == rendered
    assert _text(words, encoded.clean_ids, encoded.clean.spans["cue"]).strip() == "Emily"
    assert _text(words, encoded.clean_ids, encoded.clean.spans["before"]).startswith("<|system|>")
    assert _text(words, encoded.clean_ids, encoded.clean.spans["decision"]) == "<|assistant|>"


def test_a_template_that_strips_the_message_moves_no_segment() -> None:
    words = tokenizer(chat_template=STRIPPING)
    encoded = encode_pair(words, pair(form_kind=FormKind.CHAT, before="  " + BEFORE, after=AFTER + " \n"))
    assert _text(words, encoded.corrupt_ids, encoded.corrupt.spans["cue"]).strip() == "Lakisha"


@pytest.mark.parametrize(("template", "words"), [(SHOUTING, "unchanged"), (None, "no chat template")])
def test_a_template_that_cannot_carry_the_message_is_refused(template: str | None, words: str) -> None:
    with pytest.raises(InvalidPairs, match=words):
        encode_pair(tokenizer(chat_template=template), pair(form_kind=FormKind.CHAT))


def test_an_invisible_cue_is_refused() -> None:
    blind = tokenizer()
    blind.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()
    with pytest.raises(InvalidPairs, match="invisible"):
        encode_pair(blind, pair("emily", "Emily"))


def test_special_tokens_are_added_only_when_asked_for() -> None:
    words = tokenizer(beginning=True)
    assert encode_text(words, "a loan", add_special_tokens=True) == (
        0,
        *encode_text(words, "a loan", add_special_tokens=False),
    )


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(InvalidPairs, match="no tokens"):
        encode_text(tokenizer(), "", add_special_tokens=False)


def test_labels_are_the_tokens_of_their_spellings() -> None:
    words = tokenizer()
    found = encode_labels(words, Labels(favorable=(" Yes", " Certainly"), unfavorable=(" No",)))
    assert [sorted(words.decode(tokens) for tokens in side) for side in found] == [[" Certainly", " Yes"], [" No"]]
    assert max(map(len, found.favorable)) > 1


@pytest.mark.parametrize(
    ("favorable", "unfavorable", "said"),
    [
        ((" Yes",), (" Yes",), "' Yes' stands on both sides"),
        ((" Yes",), (" Yes, but not so soon",), "' Yes' begins ' Yes, but not so soon'"),
        ((" Never", " Neverland"), (" No",), "' Never' begins ' Neverland'"),
    ],
)
def test_labels_that_collide_are_named(favorable: tuple[str, ...], unfavorable: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidBehavior, match="collide") as caught:
        encode_labels(tokenizer(), Labels(favorable=favorable, unfavorable=unfavorable))
    assert caught.value.details == [said]


def test_a_label_without_tokens_is_named() -> None:
    with pytest.raises(InvalidBehavior) as caught:
        encode_labels(tokenizer(), Labels(favorable=(" Yes",), unfavorable=("",)))
    assert caught.value.details == ["'' is no token at all"]


def test_an_encoder_decides_at_the_token_that_its_tokenizer_puts_in_front() -> None:
    words = tokenizer(beginning=True, end=True)
    encoded = encode_pair(words, pair(), first_decides=True)
    for side, name in ((encoded.clean, "Emily"), (encoded.corrupt, "Lakisha")):
        assert side.spans["decision"] == (0,)
        assert _text(words, side.ids, side.spans["cue"]).strip() == name
        assert side.spans["after"][-1] == len(side.ids) - 1
        assert sorted(at for span in side.spans.values() for at in span) == list(range(len(side.ids)))


def test_an_encoders_prompt_without_a_token_in_front_is_refused() -> None:
    with pytest.raises(InvalidPairs, match="no decision position"):
        encode_pair(tokenizer(), pair(), first_decides=True)


def test_a_classifiers_labels_are_its_classes() -> None:
    subject = tiny("bert")
    subject.model.config.id2label = {0: "deny", 1: "approve", 2: "refer"}
    found = labels_of(subject, Labels(favorable=("approve",), unfavorable=("deny", "2")))
    assert found == LabelTokens.single(favorable=(1,), unfavorable=(0, 2))


def test_a_decoders_labels_are_its_tokens() -> None:
    words = tokenizer()
    labels = Labels(favorable=(" Yes",), unfavorable=(" No",))
    assert labels_of(tiny("llama", tokenizer=words, vocabulary=len(words)), labels) == encode_labels(words, labels)
