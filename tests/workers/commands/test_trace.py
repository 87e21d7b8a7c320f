"""`audit-service trace` writes, token by token, what plain forward hooks compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from audit_service.cli import app
from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Direction
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import InvalidModel, InvalidPairs, InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from tests.workers.engine.words import tokenizer
from workers.commands.trace import trace
from workers.engine.loading import load_subject
from workers.engine.positions import Exchange

CLEAN, CORRUPT = "The applicant asks for a fair loan. Answer:", "The applicant asks for a loan fair. Answer:"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = tokenizer(beginning=True)
    subject = tiny("llama", tokenizer=words, vocabulary=len(words))
    subject.model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _trace(model: Path, out: Path, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    given = {"clean": CLEAN, "corrupt": CORRUPT, "favorable": [" Yes"], "unfavorable": [" No"], **options}
    trace(model=model, out=out, **given)
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


def _assert_cells_equal_plain_hooks(
    model: Path, found: dict[str, np.ndarray[Any, Any]], cells: list[tuple[SiteKind, int, int]], *, denoise: bool
) -> None:
    subject = load_subject(model, device="cpu")
    clean, corrupt = found["clean_tokens"].tolist(), found["corrupt_tokens"].tolist()
    yes, no = (subject.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" Yes", " No"))
    labels = LabelTokens.single(favorable=yes, unfavorable=no)
    recipient, donor = (corrupt, clean) if denoise else (clean, corrupt)
    everywhere = tuple(range(len(clean)))
    for kind, layer, column in cells:
        positions, head = (everywhere, column) if kind in HEAD_KINDS else ((column,), None)
        exchange = Exchange(kind, layer, head, positions, positions)
        expected = naive.patched_decision(subject, recipient, donor, exchange, labels)
        assert found[kind][layer, column] == pytest.approx(expected, abs=1e-4)
    for name, ids in (("clean", clean), ("corrupt", corrupt)):
        assert float(found[name]) == pytest.approx(naive.decision(naive.logits(subject, ids), *labels), abs=1e-4)


@pytest.mark.parametrize("direction", Direction)
def test_every_cell_of_a_tiny_model_equals_plain_hooks(folder: Path, tmp_path: Path, direction: Direction) -> None:
    found = _trace(folder, tmp_path / "effects.npz", sites=",".join(SiteKind), direction=direction)
    columns = {kind: len(found["clean_tokens"]) for kind in SiteKind if kind not in HEAD_KINDS}
    columns |= {SiteKind.Z: 4, SiteKind.Q: 4, SiteKind.PATTERN: 4, SiteKind.K: 2, SiteKind.V: 2}
    assert {kind: found[kind].shape for kind in SiteKind} == {kind: (3, columns[kind]) for kind in SiteKind}
    cells = [(kind, layer, column) for kind in SiteKind for layer, column in np.ndindex(found[kind].shape)]
    _assert_cells_equal_plain_hooks(folder, found, cells, denoise=direction is Direction.DENOISE)


@pytest.mark.parametrize("direction", Direction)
def test_cells_of_the_real_model_equal_plain_hooks(demo_model: Path, tmp_path: Path, direction: Direction) -> None:
    """A sample of cells over all layers and positions; whole effects are tenths of a nat here."""
    found = _trace(
        demo_model,
        tmp_path / "effects.npz",
        clean="The bank reviews the loan that Emily wants. Approve? Answer:",
        corrupt="The bank reviews the loan that James wants. Approve? Answer:",
        direction=direction,
    )
    rng = np.random.default_rng(0)
    kinds = (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z)
    cells = [(kind, *(int(rng.integers(size)) for size in found[kind].shape)) for kind in kinds for _ in range(6)]
    _assert_cells_equal_plain_hooks(demo_model, found, cells, denoise=direction is Direction.DENOISE)
    assert abs(found["clean"] - found["corrupt"]) > 0.01


def test_texts_are_tokenized_as_given_unless_asked_otherwise(folder: Path, tmp_path: Path) -> None:
    plain = _trace(folder, tmp_path / "a.npz", sites="resid_pre")
    added = _trace(folder, tmp_path / "b.npz", sites="resid_pre", add_special_tokens=True)
    assert added["clean_tokens"].tolist() == [0, *plain["clean_tokens"].tolist()]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"corrupt": "A loan. Answer:"}, InvalidTrace, r"the clean prompt has \d+ tokens and the corrupt one \d+"),
        ({"corrupt": CLEAN}, InvalidTrace, "the same tokens"),
        ({"sites": "resid_pre,soul"}, InvalidTrace, "soul"),
        ({"clean": "", "corrupt": ""}, InvalidPairs, "no tokens"),
    ],
)
def test_bad_input_is_named_and_leaves_no_file(
    folder: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        _trace(folder, tmp_path / "effects.npz", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidTrace, match="cannot be written"):
        _trace(folder, tmp_path / "missing" / "effects.npz", sites="resid_pre")


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"no config\.json"):
        _trace(tmp_path, tmp_path / "effects.npz")


def test_the_command_takes_the_options_of_its_documentation(folder: Path, tmp_path: Path) -> None:
    app.command("trace")(trace)
    texts = ["--clean", CLEAN, "--corrupt", CORRUPT, "--favorable", " Yes", "--unfavorable", " No"]
    rest = ["--sites", "mlp_out", "--direction", "noise", "--out", str(tmp_path / "effects.npz")]
    done = CliRunner().invoke(app, ["trace", "--model", str(folder), *texts, *rest])
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "effects.npz") as arrays:
        assert set(arrays) == {"mlp_out", "clean", "corrupt", "clean_tokens", "corrupt_tokens"}
