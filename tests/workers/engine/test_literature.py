"""Three mechanisms of the literature, found in a real model: what carries the answer, from where and to where."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sites import SiteKind
from tests.examples import EXAMPLES
from workers.commands.circuit import circuit
from workers.engine.answers import unpatched
from workers.engine.circuits import SIZES
from workers.engine.donors import record
from workers.engine.loading import load_subject
from workers.engine.patching import patch
from workers.engine.positions import Exchange
from workers.engine.subject import Subject


@pytest.fixture(scope="module")
def subject(demo_model: str) -> Subject:
    return load_subject(demo_model, device="cpu")


def _ids(subject: Subject, text: str) -> tuple[int, ...]:
    return tuple(subject.tokenizer(text)["input_ids"])


@pytest.fixture(scope="module")
def ioi(demo_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``audit-service circuit examples/ioi.yaml`` writes, of two of its pairs."""
    folder = tmp_path_factory.mktemp("ioi")
    task = (EXAMPLES / "ioi.yaml").read_text()
    (folder / "ioi.yaml").write_text(task.replace("pairs: 6", "pairs: 2"))
    circuit(folder / "ioi.yaml", out=folder / "out", model=str(demo_model), steps=2, top=1, sample=1, device="cpu")
    return folder / "out"


def _unlike_the_literature(found: dict[str, Any]) -> list[str]:
    """Claims of Wang et al. 2023 that the maps do not bear out.

    What the second mention tells stands there in the early layers and moves to the end by heads, of which the late ones
    write the name and some speak against it; no other token tells anything.
    """
    share = dict(zip(found["roles"], np.array(found["residual_share"]).T, strict=True))
    heads, layers = np.array(found["head_share"]), len(found["residual_share"])
    early, late = slice(None, layers // 2), slice(layers - 5, None)
    others = [share[role] for role in ("A", "B", "place", "thing")]
    claims = {
        "the model answers as expected on both prompts": found["answered"] == found["pairs"] == 2,
        "early layers hold it at the repeated name": (share["B again"][early] > 0.9).all(),
        "and not at the end": (np.abs(share["end"][early]) < 0.1).all(),
        "late layers hold it at the end": (share["end"][late] > 0.8).all(),
        "and no more at the repeated name": (np.abs(share["B again"][late]) < 0.1).all(),
        "no other token tells": max(np.abs(role).max() for role in others) < 0.2,
        "the heads that move it are late": np.argsort(-np.abs(heads).max(1))[:4].min() >= layers // 2,
        "some heads speak against the name": heads.min() < -0.05,
    }
    return [claim for claim, holds in claims.items() if not holds]


def test_the_indirect_object_is_told_by_the_repeated_name_first_and_at_the_end_last(ioi: Path) -> None:
    found = json.loads((ioi / "circuit.json").read_text())
    assert _unlike_the_literature(found) == []
    # The claims are ones that a wrong map would not meet: layers or tokens the other way round, effects without sign.
    wrong = (
        {"residual_share": found["residual_share"][::-1]},
        {"roles": found["roles"][::-1]},
        {"head_share": found["head_share"][::-1]},
        {"head_share": np.abs(found["head_share"])},
    )
    assert all(_unlike_the_literature(found | other) for other in wrong)


def test_a_hundredth_of_the_edges_carries_most_of_it(ioi: Path) -> None:
    found = json.loads((ioi / "circuit.json").read_text())
    small, large = (found["faithfulness"][SIZES.index(share)] for share in (0.001, 0.01))
    assert 0.05 < small < large
    assert large > 0.7
    assert found["faithfulness"][-1] == pytest.approx(1, abs=1e-3)


def test_the_example_produces_its_figure(ioi: Path) -> None:
    drawn = (ioi / "circuit.svg").read_text()
    for title in (
        "Indirect object identification: 2 pairs",
        "residual stream, by token",
        "heads, at all tokens",
        "B again",
    ):
        assert title in drawn


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
