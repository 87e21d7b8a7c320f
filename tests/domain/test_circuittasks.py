"""Task files become pairs whose slots are filled alike on both sides."""

import pytest

from audit_service.domain.circuittasks import CircuitTask, parse_circuit_task, task_pairs
from audit_service.errors import InvalidInput
from tests.examples import EXAMPLES

TASK = (EXAMPLES / "ioi.yaml").read_text()


def _task() -> CircuitTask:
    return parse_circuit_task(TASK, name="ioi.yaml")


def test_the_example_makes_pairs_that_differ_in_who_acts() -> None:
    pairs = task_pairs(_task())
    assert [pair.template for pair in pairs] == list(_task().templates)
    for pair in pairs:
        (a,), (b,) = pair.favorable, pair.unfavorable
        assert a != b
        assert (pair.clean.count(a), pair.clean.count(b)) == (1, 2)
        assert (pair.corrupt.count(a), pair.corrupt.count(b)) == (2, 1)
    assert len({(pair.favorable, pair.unfavorable) for pair in pairs}) > 1


def test_marks_say_where_each_slots_word_stands() -> None:
    pair = task_pairs(_task())[0]
    assert [mark.role for mark in pair.marks] == ["A", "B", "place", "B again", "thing"]
    words = [pair.clean[mark.start : mark.end] for mark in pair.marks]
    assert f" {words[0]}" == pair.favorable[0]
    assert words[1] == words[3] == pair.unfavorable[0].strip()


def test_the_seed_decides_the_words() -> None:
    again = CircuitTask(**{**_task().model_dump(), "seed": 7})
    assert task_pairs(_task()) == task_pairs(_task()) != task_pairs(again)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("A: names", "X: names", "are used, but not declared"),
        ("B: names", "B: people", "are not declared"),
        ("office, garden", "office, office", "different words"),
        ("pairs: 6", "pairs: none", "pairs"),
        ("title:", "label:", "title"),
        ("words:", "words: [", "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(old: str, new: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_circuit_task(TASK.replace(old, new), name="ioi.yaml")
    assert words in f"{caught.value} {caught.value.details}"
