"""`audit-service circuit` writes measured circuits and their picture, and refuses what has none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from audit_service.cli import app
from audit_service.errors import InvalidInput, InvalidPairs, InvalidTrace
from tests import planted
from workers.commands.circuit import circuit
from workers.engine.wiring import Contrast

TASK = """
title: Who is called
source: made up
words: {names: [Emily, Jamal], places: [here, there]}
slots: {A: names, B: names, place: places}
templates:
  one: {clean: "They call {A} from {place} Answer", corrupt: "They call {B} from {place} Answer"}
favorable: [" Yes"]
unfavorable: [" No"]
pairs: 2
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One head carries the signal of the name Emily, whichever place is named; of both names Emily is always A."""
    words = planted.word_tokenizer(
        ["They call Emily from here Answer Yes No no Jamal there", *(f"word{n}" for n in range(99))]
    )
    number = words.get_vocab()
    labels = planted.LabelTokens.single(favorable=[number[" Yes"]], unfavorable=[number[" No"]])
    made = planted.carrier(
        planted.ONE_HEAD, {number[" Emily"]: 1.0, number[" Jamal"]: 0.0}, labels, vocabulary=len(words), gain=2.0,
        bias=-1.0, tokenizer=words,
    )  # fmt: skip
    made.model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _file(tmp_path: Path, text: str = TASK) -> Path:
    file = tmp_path / "task.yaml"
    file.write_text(
        text.replace("A: names, B: names", "A: first, B: second").replace(
            "names: [Emily, Jamal]", "first: [Emily], second: [Jamal]"
        )
    )
    return file


def test_the_planted_edges_are_measured_and_drawn(model: Path, tmp_path: Path) -> None:
    circuit(_file(tmp_path), out=tmp_path / "out", model=str(model), top=3, sample=500, steps=1, device="cpu")
    found = json.loads((tmp_path / "out" / "circuit.json").read_text())
    assert (found["pairs"], found["answered"]) == (2, 2)
    assert found["roles"] == ["A", "place", "end"]
    edges = {(e["sender"], e["reader"]): e["effect_nats"] for e in found["measured_edges"] if e["chosen_by"] == "score"}
    assert edges == pytest.approx({("input", "a1.h2.v"): -2, ("a1.h2", "m2"): -2, ("m2", "answer"): -2}, abs=1e-4)
    others = [e["effect_nats"] for e in found["measured_edges"] if e["chosen_by"] == "chance"]
    assert len(others) == found["circuit_edges"][-1] - 3
    assert max(map(abs, others)) < 1e-4
    assert found["unmeasured_edges_with_an_effect_of_the_threshold_at_most"] == 0
    np.testing.assert_allclose(np.array(found["residual_share"])[:2, 0], 1, atol=1e-4)
    assert found["faithfulness"][-1] == pytest.approx(1, abs=1e-4)
    assert (tmp_path / "out" / "circuit.svg").read_text().count("<svg") == 1


def test_the_planted_edges_are_what_pruning_leaves(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"model": str(model), "top": 1, "sample": 1, "steps": 1, "device": "cpu"}
    circuit(_file(tmp_path), out=tmp_path / "out", prune=0.01, among=40, **options)
    found = json.loads((tmp_path / "out" / "circuit.json").read_text())["pruned"]
    assert found["among_the_highest_scored"] == 40
    assert found["faithfulness"] == pytest.approx(1, abs=1e-4)
    edges = {(edge["sender"], edge["reader"]): edge["accounts_for"] for edge in found["edges"]}
    assert edges == pytest.approx({("input", "a1.h2.v"): 1, ("a1.h2", "m2"): 1, ("m2", "answer"): 1}, abs=1e-4)
    assert found["incompleteness"]["without_all_of_it"] == pytest.approx(0, abs=1e-4)
    assert max(found["incompleteness"]["without_random_halves"]) == pytest.approx(0, abs=1e-4)
    assert "3 of 40 edges are left, faithfulness 1.00" in " ".join(capsys.readouterr().err.split())
    assert "pruned circuit, 3 edges" in (tmp_path / "out" / "circuit.svg").read_text()
    with pytest.raises(InvalidTrace, match="pruning leaves none"):
        circuit(_file(tmp_path), out=tmp_path / "none", prune=1e6, **options)


def test_a_stopped_circuit_goes_on_where_it_was(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"model": str(model), "top": 2, "sample": 2, "steps": 2, "device": "cpu", "prune": 0.01}
    real, runs, stop_at = Contrast._decisions, [], [0]

    def measured(contrast: Contrast, circuits: Any, should_stop: Any) -> Any:
        runs.append(len(circuits))
        if len(runs) == stop_at[0]:
            raise KeyboardInterrupt
        return real(contrast, circuits, should_stop)

    monkeypatch.setattr(Contrast, "_decisions", measured)
    circuit(_file(tmp_path), out=tmp_path / "whole", among=20, **options)
    undisturbed = len(runs)
    stop_at[0] = undisturbed + 7
    with pytest.raises(typer.Exit) as stopped:
        circuit(_file(tmp_path), out=tmp_path / "out", among=20, **options)
    assert stopped.value.exit_code == 130
    assert not (tmp_path / "out").exists()
    circuit(_file(tmp_path), out=tmp_path / "out", among=20, **options)
    assert len(runs) == 2 * undisturbed + 1  # the stopped one was begun twice
    for name in ("circuit.json", "circuit.svg"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(tmp_path.glob(".*.cells"))


def test_the_same_task_gives_the_same_picture(model: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        circuit(_file(tmp_path), out=tmp_path / name, model=str(model), top=1, sample=1, steps=1, device="cpu")
    assert (tmp_path / "one/circuit.svg").read_bytes() == (tmp_path / "two/circuit.svg").read_bytes()
    assert (tmp_path / "one/circuit.json").read_bytes() == (tmp_path / "two/circuit.json").read_bytes()


def test_prompts_of_unequal_length_are_named_and_nothing_is_written(model: Path, tmp_path: Path) -> None:
    longer = _file(tmp_path, TASK.replace("call {B}", "call no {B}"))
    with pytest.raises(InvalidPairs, match="tokens"):
        circuit(longer, out=tmp_path / "out", model=str(model), device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        circuit(tmp_path / "missing.yaml", out=tmp_path / "out")


def test_the_command_takes_the_options_of_its_documentation(model: Path, tmp_path: Path) -> None:
    app.command("circuit")(circuit)
    given = ["circuit", str(_file(tmp_path)), "--out", str(tmp_path / "out"), "--model", str(model)]
    done = CliRunner().invoke(app, [*given, "--steps", "1", "--top", "1", "--sample", "1", "--threshold", "0.5"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"circuit.json", "circuit.svg"}
