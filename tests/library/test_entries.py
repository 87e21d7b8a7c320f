"""Every entry of the library is an audit that could run, with words whose source is named."""

from itertools import chain
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer

from audit_service.domain.behaviors import Attribute
from audit_service.domain.datasheets import Standing, Words
from audit_service.domain.generation import generate
from audit_service.domain.labels import label_tokens
from audit_service.domain.pairs import PairKind, Side
from audit_service.domain.power import designs
from audit_service.domain.protocol import lint
from audit_service.domain.results import Level
from audit_service.library.catalogue import FOLDER, Entry, entries

WANTED = {
    "loan-denial-race-names", "loan-denial-race-stated", "loan-denial-gender-names", "loan-denial-gender-pronouns",
    "loan-denial-age", "loan-denial-national-origin", "loan-denial-disability", "loan-denial-marital-status",
    "loan-denial-postal-code", "credit-limit-gender", "interest-rate-race", "adverse-action-tone-race",
    "collections-race", "mortgage-denial-race", "small-business-loan-gender", "loan-denial-gender-zh",
    "loan-denial-indigenous-zh", "loan-denial-national-origin-zh", "loan-denial-age-zh", "credit-limit-gender-zh",
    "loan-denial-marital-status-zh", "loan-denial-origin-stated-zh",
}  # fmt: skip

each = pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)


def test_the_library_holds_what_it_promises() -> None:
    assert {entry.name for entry in entries()} == WANTED
    assert {file.stem for file in FOLDER.iterdir()} == WANTED
    assert {entry.datasheet.signal for entry in entries()} == {"explicit", "name", "pronoun", "proxy"}


@each
def test_its_pairs_keep_the_protocol(entry: Entry) -> None:
    audit = entry.audit
    pairs = generate(audit.behavior).pairs
    findings = lint(behavior=audit.behavior, tracing=audit.tracing, judging=audit.judging, pairs=pairs)
    told = [found for found in findings if not found.sentence.id.startswith("unseen.")]  # those take a model
    # P016 is a note: the same cues stand in both templates, and the sensitivity by whole cue pairs answers it.
    assert [(found.rule, found.level) for found in told] == [("P016", Level.NOTE)] * len(audit.behavior.forms)


@each
def test_its_cues_are_enough_for_a_conclusion(entry: Entry) -> None:
    """With too few independent cue pairs no gap, however large, could be told from chance."""
    audit = entry.audit
    spread = audit.behavior.threshold.gap_nats
    told = list(designs(audit.judging, generate(audit.behavior).pairs, spread=spread))
    assert told
    assert all(design.effect is not None for design in told), told


@each
def test_every_group_has_its_placebo_pairs(entry: Entry) -> None:
    pairs = generate(entry.audit.behavior).pairs
    groups = {group for attribute in entry.audit.behavior.attributes for group in attribute.groups}
    assert {pair.reference_group for pair in pairs if pair.kind is PairKind.PLACEBO} == groups


@each
def test_its_prompts_differ_in_the_cue_alone(entry: Entry) -> None:
    for pair in generate(entry.audit.behavior).pairs:
        reference = "…".join(pair.text(Side.REFERENCE).rsplit(pair.reference_cue, 1))
        comparison = "…".join(pair.text(Side.COMPARISON).rsplit(pair.comparison_cue, 1))
        assert "…" in reference
        assert reference == comparison


@each
def test_its_answers_are_single_tokens_of_a_real_model(entry: Entry, demo_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    labels = entry.audit.behavior.labels
    found = label_tokens(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, labels, unknown=None)
    assert len(found.favorable) == len(labels.favorable)


def test_the_interest_rate_is_read_as_a_number() -> None:
    [audit] = [entry.audit for entry in entries() if entry.name == "interest-rate-race"]
    answers = audit.behavior.answers
    amounts = {letter: answer.amount for answer in answers.values() for letter in answer.spellings}
    for prompt in audit.behavior.templates.values():
        assert all(f"{letter}: {amount:g} %" in prompt for letter, amount in amounts.items() if letter.isalpha())
    low, high = audit.behavior.labels.favorable, audit.behavior.labels.unfavorable
    assert {*low, *high} == set(amounts)
    assert max(amounts[letter] for letter in low) < min(amounts[letter] for letter in high)
    assert "expected_amount" in {name for metric in audit.definitions() for name in metric.names()}


@each
def test_its_titles_are_those_that_the_product_shows(entry: Entry) -> None:
    titles = entry.datasheet.titles
    assert set(titles) == {"en", "zh-Hant"}
    assert entry.audit.behavior.title == titles[entry.datasheet.language]


@each
def test_its_figures_are_of_its_own_cues(entry: Entry) -> None:
    cues = [
        cue
        for attribute in entry.audit.behavior.attributes
        for strata in attribute.groups.values()
        for stratum in strata.values()
        for cue in stratum
    ]
    for words in entry.datasheet.words:
        assert all(any(name in cue for cue in cues) for name in words.figures), words.what


@each
def test_its_legal_bases_and_its_cues_have_a_standing_of_their_own(entry: Entry) -> None:
    """What was looked up is told apart from what is only cited, and what is the library's own from both."""
    standings = [words.standing for words in entry.datasheet.words]
    assert Standing.CONFIRMED in standings
    assert standings[-1] is Standing.OWN  # the prompts


def test_most_of_the_residents_are_of_the_group_that_a_postal_code_stands_for() -> None:
    [words] = [words for words in _words("loan-denial-postal-code") if words.figures]
    assert len(words.figures) == 16
    assert all(50 < figure <= 100 for figure in words.figures.values())


def test_most_bearers_are_of_the_group_that_a_surname_stands_for() -> None:
    [words] = [words for words in _words("mortgage-denial-race") if words.figures]
    assert len(words.figures) == 36
    assert all(50 < figure <= 100 for figure in words.figures.values())


def _words(name: str) -> tuple[Words, ...]:
    [found] = [entry for entry in entries() if entry.name == name]
    return found.datasheet.words


def test_equal_sources_give_equal_words() -> None:
    """The files are whole, so lists stand in several of them; they must not drift apart."""
    attributes: dict[str, list[Attribute]] = {}
    for attribute in chain.from_iterable(entry.audit.behavior.attributes for entry in entries()):
        attributes.setdefault(attribute.source, []).append(attribute)
    for same in attributes.values():
        assert all(attribute.groups == same[0].groups for attribute in same), same[0].source


def test_the_words_of_the_shipped_example_are_those_of_the_library() -> None:
    example = yaml.safe_load((Path(__file__).parents[2] / "examples" / "loan-denial.yaml").read_text())
    [attribute] = example["behavior"]["attributes"]
    library = yaml.safe_load((FOLDER / "loan-denial-race-names.yaml").read_text())
    assert library["behavior"]["attributes"] == [attribute]
