import ast
from pathlib import Path

import pytest

from audit_service import domain
from audit_service.domain.protocol import RULES
from audit_service.domain.sentences import CATALOGUE, english, say

SOURCES = sorted(Path(domain.__file__).parent.glob("*.py"))
FORBIDDEN = ("compliant", "certified", "bias-free", "fair model", "proves", "guarantees")


def literals() -> set[str]:
    """Every string of the domain that looks like an id of the catalogue."""
    kinds = {identifier.partition(".")[0] for identifier in CATALOGUE}
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text())))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if text.partition(".")[0] in kinds and text.count(".") == 1 and " " not in text}


def test_every_sentence_that_the_domain_says_is_in_the_catalogue() -> None:
    said = {text for text in literals() if not text.endswith(".")}
    assert said <= set(CATALOGUE)


def test_every_rule_has_a_sentence_and_a_remedy() -> None:
    rules = {identifier.partition(".")[2] for identifier in CATALOGUE if identifier.startswith("lint.")}
    assert {f"remedy.{rule}" for rule in rules} <= set(CATALOGUE)
    assert len(rules) >= len(RULES)


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_sentence_says_what_a_report_must_not_say(word: str) -> None:
    assert not [identifier for identifier, text in CATALOGUE.items() if word in text.lower()]


def test_numbers_are_rounded_as_the_sentence_says() -> None:
    sentence = say("disparity.found", form="raw", group="black", gap=0.12345, unit="nats", favoured="white")
    assert english(sentence) == "raw, black: disparity of +0.123 nats; white is favoured."


def test_a_sentence_keeps_only_the_values_that_it_names() -> None:
    assert say("power.more", group="black", effect=0.1, unit="nats", names=3, other=9).values == {
        "group": "black",
        "effect": 0.1,
        "unit": "nats",
        "names": 3,
    }


def test_a_sentence_without_its_numbers_cannot_be_said() -> None:
    with pytest.raises(KeyError, match="names"):
        say("power.more", group="black", effect=0.1, unit="nats")
