"""Three mechanisms of the literature, found in a real model: what carries the answer, from where and to where."""

import numpy as np
import pytest
from numpy.typing import NDArray

from audit_service.domain.circuittasks import TaskPair, parse_circuit_task, task_pairs
from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.examples import EXAMPLES
from workers.engine.answers import unpatched
from workers.engine.circuits import edge_scores, faithfulness, largest
from workers.engine.donors import record
from workers.engine.loading import load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.rolemaps import encode_task, role_maps
from workers.engine.subject import Subject
from workers.engine.wiring import Contrast


@pytest.fixture(scope="module")
def subject(demo_model: str) -> Subject:
    return load_subject(demo_model, device="cpu")


def _ids(subject: Subject, text: str) -> tuple[int, ...]:
    return tuple(subject.tokenizer(text)["input_ids"])


def _ioi() -> list[TaskPair]:
    return task_pairs(parse_circuit_task((EXAMPLES / "ioi.yaml").read_text(), name="ioi.yaml"))


def test_the_indirect_object_is_told_by_the_repeated_name_first_and_at_the_end_last(subject: Subject) -> None:
    """Wang et al. 2023: what the second mention tells moves to the end by heads; late heads there write the name."""
    maps = role_maps(subject, [encode_task(subject, pair) for pair in _ioi()[:2]])
    assert (maps.d_clean > 1).all()
    assert (maps.d_corrupt < -1).all()
    share = dict(zip(maps.roles, maps.residual.T, strict=True))
    assert (share["B again"][:15] > 0.9).all()
    assert (np.abs(share["end"][:15]) < 0.1).all()
    assert (share["end"][25:] > 0.8).all()
    assert (np.abs(share["B again"][25:]) < 0.1).all()
    assert all((np.abs(share[role]) < 0.2).all() for role in ("A", "B", "place", "thing"))
    strongest = np.argsort(-np.abs(maps.heads).max(1))[:4]
    assert strongest.min() >= subject.anatomy.layers // 2
    assert maps.heads.min() < -0.05  # heads that speak against the name, as there


def test_a_hundredth_of_the_edges_carries_most_of_it(subject: Subject) -> None:
    pair = encode_task(subject, _ioi()[0])
    contrast = Contrast(subject, pair.clean, pair.corrupt, pair.labels)
    scores, edges = edge_scores([contrast], steps=2), contrast.graph.edges
    circuits = np.stack([largest(scores, edges, round(share * int(edges.sum()))) for share in (0.001, 0.01)])
    small, large = faithfulness([contrast], circuits)
    assert 0.05 < small < large
    assert large > 0.7


def _stream(
    subject: Subject, clean: tuple[int, ...], corrupt: tuple[int, ...], labels: LabelTokens, layers: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Share of the difference that the stream brings at the differing tokens and at the end, by layer; d of clean."""
    recipient, donor = record(subject, corrupt), record(subject, clean)
    d_corrupt, d_clean = unpatched(subject, [recipient, donor], labels).tolist()
    differing = tuple(at for at, pair in enumerate(zip(clean, corrupt, strict=True)) if pair[0] != pair[1])
    cells = [
        Exchange(SiteKind.RESID_PRE, layer, None, at, at) for at in (differing, (len(clean) - 1,)) for layer in layers
    ]
    share = (patch(subject, recipient, donor, cells, labels=labels) - d_corrupt) / (d_clean - d_corrupt)
    return share[: len(layers)], share[len(layers) :], d_clean


@pytest.mark.parametrize("noun", ["war", "voyage"])
def test_a_later_year_is_told_by_the_first_years_digit_and_moves_to_the_end(subject: Subject, noun: str) -> None:
    """Hanna et al. 2023, greater-than; this tokenizer splits digits, so the tens digit of the second year is scored."""
    digits = [_ids(subject, str(digit))[0] for digit in range(10)]
    labels = LabelTokens.single(favorable=sorted(digits[7:]), unfavorable=sorted(digits[:6]))
    clean, corrupt = (_ids(subject, f"The {noun} lasted from the year 17{y}3 to the year 17") for y in (6, 2))
    first, last, d_clean = _stream(subject, clean, corrupt, labels, [0, 4, 24, 28])
    assert d_clean > 1
    assert (first[:2] > 0.9).all()
    assert (last[:2] < 0.1).all()
    assert (last[2:] > 0.9).all()
    assert (np.abs(first[2:]) < 0.1).all()


def test_an_arguments_name_is_told_by_the_definition_and_moves_to_the_docstrings_end(subject: Subject) -> None:
    """Heimersheim and Janiak 2023, docstring: the third :param is the third argument."""

    def prompt(third: str) -> tuple[int, ...]:
        head = f'def run(self, load, path, {third}, text):\n    """dark river\n\n'
        return _ids(subject, f"{head}    :param load: piece crime\n    :param path: unit plane\n    :param")

    labels = LabelTokens.single(favorable=_ids(subject, " rate"), unfavorable=_ids(subject, " port"))
    first, last, d_clean = _stream(subject, prompt("rate"), prompt("port"), labels, [0, 10, 28])
    assert d_clean > 5
    assert (first[:2] > 0.9).all()
    assert last[2] > 0.7 > abs(first[2]) + 0.3
    assert (np.abs(last[:2]) < 0.1).all()
