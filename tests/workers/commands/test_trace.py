"""`audit-service trace` writes, token by token, what plain forward hooks compute."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from audit_service.cli import app
from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Direction
from audit_service.domain.sites import HEAD_KINDS, SiteKind
from audit_service.errors import InvalidModel, InvalidPairs, InvalidTrace
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from tests.workers.engine.words import tokenizer
from workers.commands.kept import Kept
from workers.commands.trace import trace
from workers.engine import screening, sweep
from workers.engine.attribution import Estimator
from workers.engine.loading import Subject, load_subject
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
    if out.suffix == ".json":
        return dict(json.loads(out.read_text()))
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


def test_cells_of_the_real_model_equal_plain_hooks(demo_model: Path, tmp_path: Path) -> None:
    """Cells drawn over all layers and positions, both ways; whole effects are tenths of a nat here."""
    clean, corrupt = (f"The bank reviews the loan that {name} wants. Approve? Answer:" for name in ("Emily", "James"))
    rng = np.random.default_rng(0)
    tokens = [(kind, *rng.integers((0, 6), (29, 14))) for kind in ("resid_pre", "attn_out", "mlp_out") for _ in "ab"]
    heads = rng.integers((0, 0), (30, 9), size=(4, 2))
    names = [f"{kind}.L{layer}.t{at}" for kind, layer, at in tokens]
    names += [f"z.L{layer}.{head}.all" for layer, head in heads]
    found = _trace(demo_model, tmp_path / "a.npz", clean=clean, corrupt=corrupt, direction="both", at=names)
    everywhere = tuple(range(len(found["clean_tokens"])))
    cells = [Exchange(SiteKind(kind), int(layer), None, (int(at),), (int(at),)) for kind, layer, at in tokens]
    cells += [Exchange(SiteKind.Z, int(layer), int(head), everywhere, everywhere) for layer, head in heads]
    subject = load_subject(demo_model, device="cpu")
    sides = found["clean_tokens"].tolist(), found["corrupt_tokens"].tolist()
    for way, (donor, recipient) in (("denoise", sides), ("noise", sides[::-1])):
        expected = [naive.patched_decision(subject, recipient, donor, cell, _labels(subject)) for cell in cells]
        np.testing.assert_allclose(found[f"{way}.cells"], expected, atol=1e-4, rtol=0)
    assert abs(found["clean"] - found["corrupt"]) > 0.01


def test_texts_are_tokenized_as_given_unless_asked_otherwise(folder: Path, tmp_path: Path) -> None:
    plain = _trace(folder, tmp_path / "a.npz", sites="resid_pre")
    added = _trace(folder, tmp_path / "b.npz", sites="resid_pre", add_special_tokens=True)
    assert added["clean_tokens"].tolist() == [0, *plain["clean_tokens"].tolist()]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"corrupt": "A loan. Answer:"}, InvalidTrace, r"one prompt has \d+ tokens and the other \d+"),
        ({"corrupt": CLEAN}, InvalidTrace, "the same tokens"),
        ({"sites": "resid_pre,soul"}, InvalidTrace, "soul"),
        ({"at": ["z.L9.decision"]}, InvalidTrace, "z needs a head"),
        ({"at": ["mlp_out.L7.cue"]}, InvalidTrace, "the model has 3 layers"),
        ({"at": ["mlp_out.L1.t0"]}, InvalidTrace, "cannot change the decision"),
        ({"at": ["mlp_out.L2.cue"]}, InvalidTrace, "cannot change the decision"),
        ({"at": ["mlp_out.L1.before + attn_out.L0.t1"]}, InvalidTrace, "cannot change the decision"),
        ({"at": ["mlp_out.L1.t99"]}, InvalidTrace, "tokens 99 to 99"),
        ({"at": ["mlp_out.L1.soul"]}, InvalidTrace, "'soul' is not declared"),
        ({"at": ["mlp_out.L1"]}, InvalidTrace, "names no site"),
        ({"window": 4}, InvalidTrace, "a window of 4 layers"),
        ({"corruption": "mean"}, InvalidTrace, "--other"),
        ({"corruption": "soul"}, InvalidTrace, "soul"),
        ({"direction": "up"}, InvalidTrace, "up"),
        ({"value": "scale:1", "sites": "z"}, InvalidTrace, "changes nothing"),
        ({"value": "double"}, InvalidTrace, "names no value"),
        ({"part": "neurons:a"}, InvalidTrace, "whole numbers"),
        ({"losses": True}, InvalidTrace, "single cells"),
        ({"path": ["z.L1.0.all"]}, InvalidTrace, "names no path"),
        ({"path": ["resid_pre.L1.all -> q.L2.0.all"]}, InvalidTrace, "resid_pre cannot be a sender"),
        ({"path": ["z.L2.0.all -> q.L1.0.all"]}, InvalidTrace, "does not come after"),
        ({"path": ["z.L2.0.all -> q.L*.0.all"]}, InvalidTrace, "no receiver comes after a sender"),
        ({"path": ["z.L0.0.before -> q.L1.0.all"]}, InvalidTrace, "cannot change the decision"),
        ({"path": ["z.L0.0.all -> q.L1.9.all"]}, InvalidTrace, "not a head 9"),
        ({"path": ["z.L0.0.all -> z.L1.0.all"], "readouts": True}, InvalidTrace, "d alone is read"),
        ({"screen": "guess"}, InvalidTrace, "guess"),
        ({"screen": "first_order", "window": 2}, InvalidTrace, "whole maps of single layers"),
        ({"screen": "first_order", "sites": "resid_mid", "part": "neurons:1"}, InvalidTrace, "no estimate is made"),
        ({"at": ["z.L1.*.all + mlp_out.L2.all"]}, InvalidTrace, "of a single name"),
        ({"at": ["soul.L*.all"]}, InvalidTrace, "of a single name"),
        ({"clean": "", "corrupt": ""}, InvalidPairs, "no tokens"),
    ],
)
def test_bad_input_is_named_and_leaves_no_file(
    folder: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        _trace(folder, tmp_path / "effects.npz", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def _labels(subject: Subject) -> LabelTokens:
    ids = (subject.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (" Yes", " No"))
    favorable, unfavorable = ((token,) for token in ids)
    return LabelTokens.single(favorable=favorable, unfavorable=unfavorable)


def test_named_cells_windows_and_joint_sets_equal_plain_hooks(folder: Path, tmp_path: Path) -> None:
    names = ["mlp_out.L0-1.cue", "z.L1.2.decision + attn_out.L0.t5-6", "neurons.L1.after", "q.L2.1.decision"]
    found = _trace(folder, tmp_path / "cells.npz", at=names, direction="noise", losses=True)
    subject = load_subject(folder, device="cpu")
    clean, corrupt = found["clean_tokens"].tolist(), found["corrupt_tokens"].tolist()
    last = (len(clean) - 1,)
    differing = tuple(at for at, (one, other) in enumerate(zip(clean, corrupt, strict=True)) if one != other)
    cue, after = tuple(range(differing[0], differing[-1] + 1)), tuple(range(differing[-1] + 1, last[0]))
    sets = [
        [Exchange(SiteKind.MLP_OUT, layer, None, cue, cue) for layer in (0, 1)],
        [Exchange(SiteKind.Z, 1, 2, last, last), Exchange(SiteKind.ATTN_OUT, 0, None, (5, 6), (5, 6))],
        [Exchange(SiteKind.NEURONS, 1, None, after, after)],
        [Exchange(SiteKind.Q, 2, 1, last, last)],
    ]
    for number, each in enumerate(sets):
        values = [(exchange, naive.activation(subject, corrupt, exchange)) for exchange in each]
        rows = naive.all_logits(subject, clean, values)
        assert found["cells"][number] == pytest.approx(naive.decision(rows[-1], *_labels(subject)), abs=1e-4)
        expected = rows.log_softmax(1)[torch.arange(last[0]), clean[1:]]
        np.testing.assert_allclose(found["cells.next_token_log_p"][number], expected, atol=1e-4)


def test_both_directions_give_direct_and_indirect_effects(folder: Path, tmp_path: Path) -> None:
    options = {"sites": "mlp_out", "positions": "cue,decision", "window": 2}
    found = _trace(folder, tmp_path / "both.npz", direction="both", **options)
    alone = {way: _trace(folder, tmp_path / "one.npz", direction=way, **options) for way in Direction}
    for direction in Direction:
        np.testing.assert_array_equal(found[f"{direction}.mlp_out"], alone[direction]["mlp_out"])
    assert found["total"] == pytest.approx(found["corrupt"] - found["clean"], abs=1e-6)
    np.testing.assert_allclose(found["indirect.mlp_out"], found["noise.mlp_out"] - found["clean"], atol=1e-6)
    np.testing.assert_allclose(found["direct.mlp_out"], found["denoise.mlp_out"] - found["clean"], atol=1e-6)
    assert found["direct.mlp_out"].shape == (2, 2)


def test_prompts_of_unequal_length_are_traced_by_segment(folder: Path, tmp_path: Path) -> None:
    corrupt = "The applicant asks for a very fair loan. Answer:"
    found = _trace(folder, tmp_path / "a.npz", sites="resid_pre,z", corrupt=corrupt, positions="after,decision")
    assert found["resid_pre"].shape == (3, 2)
    heads = _trace(folder, tmp_path / "c.npz", sites="z", corrupt=corrupt, positions="decision")["z"]
    np.testing.assert_allclose(found["z"][:, heads.shape[1] :], heads, atol=1e-5)
    assert found["resid_pre"][2, 1] == pytest.approx(float(found["clean"]), abs=2)
    whole = _trace(folder, tmp_path / "b.npz", at=["resid_post.L2.decision"], corrupt=corrupt)
    assert whole["cells"][0] == pytest.approx(float(found["clean"]), abs=1e-5)


def test_noise_is_restored_as_the_mean_of_its_draws(folder: Path, tmp_path: Path) -> None:
    options = {"sites": "resid_pre", "corrupt": None, "corruption": "gaussian", "corrupted": "t3-4"}
    mean = _trace(folder, tmp_path / "mean.npz", draws=2, seed=4, **options)
    single = [_trace(folder, tmp_path / "one.npz", seed=seed, **options) for seed in (4, 5)]
    for name in ("resid_pre", "corrupt", "clean"):
        np.testing.assert_allclose(mean[name], (single[0][name] + single[1][name]) / 2, atol=1e-5)
    restored = _trace(folder, tmp_path / "all.npz", positions="all", **options)
    np.testing.assert_allclose(restored["resid_pre"][:, 0], float(restored["clean"]), atol=1e-4)


@pytest.mark.parametrize("corruption", ["zero", "mean", "positional_mean", "resample"])
def test_ablations_equal_plain_hooks(folder: Path, tmp_path: Path, corruption: str) -> None:
    found = _trace(
        folder,
        tmp_path / "a.npz",
        sites="mlp_out",
        positions="t5",
        corruption=corruption,
        corrupted="t5",
        other=[CORRUPT],
        direction="noise",
    )
    subject = load_subject(folder, device="cpu")
    clean, other = found["clean_tokens"].tolist(), subject.tokenizer(CORRUPT, add_special_tokens=False)["input_ids"]
    for layer in range(2):
        everywhere = tuple(range(len(clean)))
        site = Exchange(SiteKind.MLP_OUT, layer, None, (5,), everywhere)
        one, two = (naive.activation(subject, ids, site) for ids in (clean, other))
        values = {
            "zero": one[5] * 0,
            "mean": torch.cat([one, two]).mean(0),
            "positional_mean": (one[5] + two[5]) / 2,
            "resample": two[5],
        }
        expected = naive.decision(naive.logits(subject, clean, [(site, values[corruption])]), *_labels(subject))
        assert found["mlp_out"][layer, 0] == pytest.approx(expected, abs=1e-4)


def test_steering_needs_one_prompt_alone(folder: Path, tmp_path: Path) -> None:
    vector = torch.linspace(-1, 1, 32)
    save_file({"vector": vector}, tmp_path / "vector.safetensors")
    value = f"add:{tmp_path / 'vector.safetensors'}"
    found = _trace(folder, tmp_path / "a.json", corrupt=None, at=["resid_pre.L1.all"], value=value)
    subject = load_subject(folder, device="cpu")
    clean = found["clean_tokens"]
    everywhere = tuple(range(len(clean)))
    site = Exchange(SiteKind.RESID_PRE, 1, None, everywhere, everywhere)
    rows = naive.changed_logits(subject, clean, [(site, lambda rows: rows + vector)])
    expected = naive.decision(rows, *_labels(subject))
    assert found["cells"] == [pytest.approx(expected, abs=1e-4)]


def test_a_stopped_trace_goes_on_where_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CELLS_AT_ONCE", 8)
    undisturbed = _trace(folder, tmp_path / "whole.npz", sites="resid_pre,z", readouts=True)
    measured: list[int] = []
    real = sweep.read_together

    def stop_at_the_third(*args: Any, **options: Any) -> Any:
        measured.append(len(args[3]))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(sweep, "read_together", stop_at_the_third)
    with pytest.raises(typer.Exit) as stopped:
        _trace(folder, tmp_path / "a.npz", sites="resid_pre,z", readouts=True)
    assert stopped.value.exit_code == 130
    assert not (tmp_path / "a.npz").exists()
    found = _trace(folder, tmp_path / "a.npz", sites="resid_pre,z", readouts=True)
    cells = sum(undisturbed[kind].size for kind in ("resid_pre", "z"))
    assert sum(measured) - 8 == cells  # the stopped chunk was begun twice, those before it once
    assert {name: cells.tobytes() for name, cells in found.items()} == {
        name: cells.tobytes() for name, cells in undisturbed.items()
    }
    assert not list(tmp_path.glob(".*.cells"))


def test_other_terms_do_not_take_kept_cells(folder: Path, tmp_path: Path) -> None:
    one, again, other = (
        Kept.beside(tmp_path / "a.npz", model=folder, terms={"direction": direction})
        for direction in ("noise", "noise", "denoise")
    )
    assert one == again != other


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_maps_and_the_lens_are_drawn(folder: Path, tmp_path: Path, ending: str) -> None:
    picture = tmp_path / f"maps.{ending}"
    found = _trace(folder, tmp_path / "a.npz", sites="resid_pre,z", lens=True, picture=picture, direction="both")
    assert found["lens.clean.d"].shape == (4, len(found["clean_tokens"]))
    assert found["lens.clean.d"][-1, -1] == pytest.approx(float(found["clean"]), abs=1e-4)
    content = picture.read_bytes()
    assert b"resid_pre, noise" in content if ending == "svg" else content.startswith(b"\x89PNG")


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


def test_paths_by_name_equal_the_two_step_recipe_in_plain_hooks(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "paths.svg"
    found = _trace(
        folder, tmp_path / "a.npz", path=["z.L0.1.all -> q.L*.*.decision", "mlp_out.L0.cue -> mlp_out.L1.all"],
        direction="both", picture=picture, sites="mlp_out",
    )  # fmt: skip
    names = found["paths.names"].tolist()
    assert names == [
        *(f"z.L0.1.all -> q.L{layer}.{head}.decision" for layer in (1, 2) for head in range(4)),
        "mlp_out.L0.cue -> mlp_out.L1.all",
    ]
    subject = load_subject(folder, device="cpu")
    clean, corrupt = found["clean_tokens"].tolist(), found["corrupt_tokens"].tolist()
    everywhere, last = tuple(range(len(clean))), (len(clean) - 1,)
    sender = Exchange(SiteKind.Z, 0, 1, everywhere, everywhere)
    receiver = Exchange(SiteKind.Q, 2, 3, last, last)
    for way, (donor, recipient) in (("denoise", (clean, corrupt)), ("noise", (corrupt, clean))):
        held = [Exchange(SiteKind.ATTN_OUT, layer, None, everywhere, everywhere) for layer in (1, 2)]
        edits = [(site, naive.activation(subject, recipient, site)) for site in held]
        heard = naive.activation(
            subject, recipient, receiver, [(sender, naive.activation(subject, donor, sender)), *edits]
        )
        expected = naive.decision(naive.logits(subject, recipient, [(receiver, heard)]), *_labels(subject))
        assert found[f"{way}.paths"][names.index("z.L0.1.all -> q.L2.3.decision")] == pytest.approx(expected, abs=1e-4)
    assert "from z.L0.1.all: q decision, noise" in picture.read_text()


def test_senders_by_pattern_are_drawn_by_their_place(folder: Path, tmp_path: Path) -> None:
    path, picture = "z.L*.*.decision -> resid_post.L2.decision", tmp_path / "direct.svg"
    found = _trace(folder, tmp_path / "a.npz", path=[path], picture=picture)
    heads = [f"z.L{layer}.{head}.decision" for layer in range(3) for head in range(4)]
    assert found["paths.names"].tolist() == [f"{name} -> resid_post.L2.decision" for name in heads]
    assert "to resid_post.L2.decision: z decision, denoise" in picture.read_text()
    single = _trace(folder, tmp_path / "b.npz", path=["z.L1.2.decision -> resid_post.L2.decision"])
    assert found["paths"][6] == pytest.approx(single["paths"][0], abs=1e-5)


@pytest.mark.parametrize("estimator", Estimator)
def test_screening_patches_some_cells_exactly_and_says_which(
    folder: Path, tmp_path: Path, estimator: Estimator, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _trace(folder, tmp_path / "whole.npz", sites="mlp_out,z")
    options = {"sites": "mlp_out,z", "screen": estimator, "top": 5, "sample": 4, "threshold": 0.02, "seed": 1}
    found = _trace(folder, tmp_path / "some.npz", at=["mlp_out.L1.cue"], picture=tmp_path / "a.svg", **options)
    measured = {kind: ~np.isnan(found[kind]) for kind in ("mlp_out", "z")}
    assert sum(int(cells.sum()) for cells in measured.values()) == 9
    assert sum(int(found[f"{kind}.by_chance"].sum()) for kind in measured) == 4
    missed = 0
    for kind, cells in measured.items():
        np.testing.assert_allclose(found[kind][cells], whole[kind][cells], atol=1e-5)
        missed += int((np.abs(whole[kind][~cells] - whole["corrupt"]) >= 0.02).sum())
    assert missed <= int(found["missed_at_most"]) < len(whole["mlp_out"]) * len(whole["clean_tokens"])
    estimates = np.abs(np.concatenate([found[f"{kind}.estimate"].ravel() for kind in measured]))
    chosen = np.concatenate([(cells & ~found[f"{kind}.by_chance"]).ravel() for kind, cells in measured.items()])
    assert estimates[chosen].min() >= estimates[~chosen].max()
    single = _trace(folder, tmp_path / "one.npz", at=["mlp_out.L1.cue"])
    np.testing.assert_allclose(found["cells"], single["cells"], atol=1e-5)
    left = sum(int((~cells).sum()) for cells in measured.values())
    told = " ".join(capsys.readouterr().err.split())
    assert f"of the {left} cells that were not patched, at most {found['missed_at_most']} have an effect" in told
    assert "estimates, not measured" in (tmp_path / "a.svg").read_text()
    listed = _trace(folder, tmp_path / "some.json", **options)
    assert sum(cell is None for row in listed["mlp_out"] for cell in row) == int((~measured["mlp_out"]).sum())


def test_a_stopped_screening_goes_on_with_its_estimates(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "CELLS_AT_ONCE", 4)
    options = {"sites": "mlp_out", "screen": "first_order", "top": 6, "sample": 4}
    undisturbed = _trace(folder, tmp_path / "whole.npz", **options)
    estimated, real, calls = screening.attribute, sweep.patch_together, [0, 0]

    def estimate(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        return estimated(*args, **more)

    def stop_at_the_second(*args: Any, **more: Any) -> Any:
        calls[1] += 1
        if calls[1] == 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(screening, "attribute", estimate)
    monkeypatch.setattr(sweep, "patch_together", stop_at_the_second)
    with pytest.raises(typer.Exit):
        _trace(folder, tmp_path / "a.npz", **options)
    found = _trace(folder, tmp_path / "a.npz", **options)
    assert calls == [1, 4]  # one estimate, and three chunks of which the second was begun twice
    for name, cells in undisturbed.items():
        np.testing.assert_array_equal(found[name], cells)


def test_cells_are_named_by_pattern(folder: Path, tmp_path: Path) -> None:
    found = _trace(folder, tmp_path / "a.npz", at=["k.L1.*.after", "mlp_out.L*.decision"])
    assert found["cells.names"].tolist() == [
        "k.L1.0.after", "k.L1.1.after", *(f"mlp_out.L{layer}.decision" for layer in range(3)),
    ]  # fmt: skip
    single = _trace(folder, tmp_path / "b.npz", at=["mlp_out.L1.decision"])
    assert found["cells"][3] == pytest.approx(single["cells"][0], abs=1e-5)
