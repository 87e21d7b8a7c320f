"""``audit-service trace``: one pair of texts, token by token, without any server."""

import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit_service.domain.behaviors import Labels
from audit_service.domain.plan import Corruption, Direction
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from audit_service.files import write_whole
from workers.commands.kept import Kept, content_of

err = Console(stderr=True)
Arrays = dict[str, NDArray[np.generic]]
Choice = TypeVar("Choice", bound=StrEnum)


def trace(
    *,
    model: Annotated[Path, typer.Option(help="Local Hugging Face model folder.")],
    clean: Annotated[str, typer.Option(help="The reference prompt, tokenized exactly as given.")],
    corrupt: Annotated[
        str | None, typer.Option(help="The comparison prompt; none is needed for steering and for --corrupted.")
    ] = None,
    favorable: Annotated[list[str], typer.Option(help="Spelling of the favorable answer; may be repeated.")],
    unfavorable: Annotated[list[str], typer.Option(help="Spelling of the unfavorable answer; may be repeated.")],
    out: Annotated[Path, typer.Option(help="File to write the arrays to (.npz or .json).")],
    sites: Annotated[
        str | None, typer.Option(help="Site kinds whose maps are made, separated by commas; all tokens, all heads.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            help="A single cell, such as z.L9.6.decision or mlp_out.L5-7.cue; + exchanges several at once, * stands "
            "for each layer or each head. May be repeated."
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            help="What a sender alone tells a receiver, as in 'z.L5.3.all -> q.L9.*.decision'; * stands for each layer "
            "or each head, + joins senders of one layer, or receivers. May be repeated."
        ),
    ] = None,
    freeze_mlps: Annotated[
        bool, typer.Option("--freeze-mlps", help="On paths, hold the MLPs in between still as well as attention.")
    ] = False,
    screen: Annotated[
        str | None,
        typer.Option(
            help="Estimate the maps (first_order, grad_drop or integrated), patch the cells with the largest estimates "
            "and a random sample of the others, and bound what was missed."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Cells with the largest estimates that --screen patches.")] = 20,
    sample: Annotated[int, typer.Option(min=1, help="Other cells, drawn at random, that --screen patches.")] = 40,
    threshold: Annotated[float, typer.Option(help="Effect in nats that --screen must not miss.")] = 0.1,
    direction: Annotated[
        str, typer.Option(help="denoise puts clean activations into the corrupt run, noise the reverse; or both.")
    ] = "denoise",
    positions: Annotated[
        str | None, typer.Option(help="Segments instead of tokens: before, cue, after, decision, all, t12, t12-15.")
    ] = None,
    window: Annotated[int, typer.Option(help="Neighbouring layers that are exchanged at once.")] = 1,
    part: Annotated[
        str | None, typer.Option(help="neurons:3,17, subspace:FILE or features:FILE:3,17[:centred]; the whole if none.")
    ] = None,
    value: Annotated[str, typer.Option(help="donor, zero, scale:0.5 or add:FILE.")] = "donor",
    corruption: Annotated[str, typer.Option(help="pair, gaussian, zero, mean, positional_mean or resample.")] = "pair",
    corrupted: Annotated[
        str | None, typer.Option(help="Tokens that are corrupted, such as t3-5; those that differ if not given.")
    ] = None,
    other: Annotated[
        list[str] | None, typer.Option(help="Another prompt, to average or draw from; may be repeated.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of noise, of which the mean is written.")] = 1,
    seed: Annotated[int, typer.Option(help="Of noise and of drawing a prompt.")] = 0,
    readouts: Annotated[bool, typer.Option("--readouts", help="Add probabilities, divergences and ranks.")] = False,
    losses: Annotated[
        bool, typer.Option("--losses", help="Add each next token's log-probability in the cells.")
    ] = False,
    lens: Annotated[bool, typer.Option("--lens", help="Add the logit lens of both sides.")] = False,
    picture: Annotated[Path | None, typer.Option(help="File to draw the maps to (.svg or .png).")] = None,
    add_special_tokens: Annotated[
        bool, typer.Option("--add-special-tokens", help="Let the tokenizer add its own tokens.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or spread (layers over all GPUs).")] = "auto",
) -> None:
    """Patch one pair of texts at every layer and token, and write the patched decision values.

    The file holds, for each site kind, an array of decision values in nats: a row a layer, a column a position, or a
    head, exchanged at all positions or at each segment of --positions. Beside them stand `cells` for those named with
    --at and `paths`, each with its `names`, the unpatched values `clean` and `corrupt`, and the token ids. With
    --screen, cells that were not patched are empty, and `KIND.estimate` holds what is no measurement. Stopped with
    Ctrl-C, the same command goes on where it was.
    """
    options = {name: str(given) for name, given in locals().items() if name not in {"out", "picture"}}
    # Importing torch and transformers takes seconds that no other command should pay.
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from workers.engine.attribution import Estimator  # noqa: PLC0415
    from workers.engine.determinism import make_deterministic  # noqa: PLC0415
    from workers.engine.loading import load_subject  # noqa: PLC0415
    from workers.engine.requests import Screening, TraceRequest, part_of, value_of  # noqa: PLC0415
    from workers.engine.tokens import encode_text, labels_of  # noqa: PLC0415
    from workers.engine.tracing import run_request  # noqa: PLC0415

    _require_place(out, (".npz", ".json"))
    if picture is not None:
        _require_place(picture, (".svg", ".png"))
        if not (lens or sites or path or not at):
            raise InvalidTrace("there is no map to draw", remedy="ask for --sites, for a --path or for the --lens")
    kinds = _kinds(sites, default=not (at or path))
    directions = tuple(Direction) if direction == "both" else (_one_of(Direction, direction),)
    kind_of_corruption = _one_of(Corruption, corruption)
    changed, becomes = None if part is None else part_of(part), value_of(value)
    disable_progress_bar()
    make_deterministic()
    subject = load_subject(model, dtype=dtype, device=device)

    def encode(text: str) -> tuple[int, ...]:
        return encode_text(subject.tokenizer, text, add_special_tokens=add_special_tokens)

    others = tuple(encode(text) for text in other or ())
    request = TraceRequest(
        clean=encode(clean),
        corrupt=_corrupt_side(encode, clean, corrupt, others, resample=corruption == "resample", seed=seed),
        labels=labels_of(subject, Labels(favorable=tuple(favorable), unfavorable=tuple(unfavorable))),
        kinds=kinds,
        named=tuple(at or ()),
        paths=tuple(path or ()),
        freeze_mlps=freeze_mlps,
        screening=None if screen is None else Screening(_one_of(Estimator, screen), top, sample, threshold),
        directions=directions,
        segments=None if positions is None else tuple(name.strip() for name in positions.split(",")),
        window=window,
        corruption=kind_of_corruption,
        corrupted=corrupted,
        draws=draws,
        seed=seed,
        others=others,
        all_readouts=readouts,
        losses=losses,
        lens=lens,
        part=changed,
        value=becomes,
    )
    kept = Kept.beside(out, model=model, terms=options | {"files": content_of(part, value)})
    with _bar() as progress:
        try:
            arrays = run_request(subject, request, keep=kept, progress=progress)
        except KeyboardInterrupt:
            err.print(f"Stopped; what is done lies in {kept.folder}, and the same command goes on from there.")
            raise typer.Exit(130) from None
    _write(out, arrays)
    if picture is not None:
        from workers.commands.picture import drawn  # noqa: PLC0415 - so is matplotlib

        words = [str(subject.tokenizer.decode([token])) for token in request.clean]
        write_whole(picture, drawn(arrays, tokens=words, directions=directions, suffix=picture.suffix))
    kept.remove()
    _say_what_was_missed(arrays, directions)
    err.print(
        f"clean {float(arrays['clean']):+.4f} nats, corrupt {float(arrays['corrupt']):+.4f} nats → {out}",
        highlight=False,
    )


def _kinds(sites: str | None, *, default: bool) -> tuple[SiteKind, ...]:
    if sites is None:
        return (SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z) if default else ()
    return tuple(dict.fromkeys(_one_of(SiteKind, name.strip()) for name in sites.split(",")))


def _one_of(choices: type[Choice], name: str) -> Choice:
    known = list(choices)
    if name not in known:
        raise InvalidTrace(f"there is no {name!r} to choose", remedy=f"use {', '.join(known)}")
    return choices(name)


def _require_place(file: Path, suffixes: tuple[str, ...]) -> None:
    if not file.absolute().parent.is_dir():
        raise InvalidTrace(f"{file} cannot be written: there is no such folder", remedy="make the folder first")
    if file.suffix not in suffixes:
        raise InvalidTrace(f"{file} has no known ending", remedy=f"name a file that ends in {' or '.join(suffixes)}")


def _corrupt_side(
    encode: Callable[[str], tuple[int, ...]],
    clean: str,
    corrupt: str | None,
    others: tuple[tuple[int, ...], ...],
    *,
    resample: bool,
    seed: int,
) -> tuple[int, ...]:
    """The corrupt text, one of the others drawn in its place, or the clean text where none is needed."""
    if not resample:
        return encode(clean if corrupt is None else corrupt)
    if not others:
        raise InvalidTrace("resample needs other texts to draw from", remedy="give some with --other")
    return random.Random(seed).choice(others)  # noqa: S311 - a design, not a secret


@contextmanager
def _bar() -> Iterator[Callable[[int, int, float], None]]:
    columns = (TextColumn("patching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("largest effect {task.fields[effect]:.3f} nats"), console=err) as bar:
        task = bar.add_task("", total=None, effect=0.0)
        yield lambda done, total, effect: bar.update(task, completed=done, total=total, effect=effect)


def _say_what_was_missed(arrays: Arrays, directions: tuple[Direction, ...]) -> None:
    for direction in directions:
        prefix = f"{direction}." if len(directions) > 1 else ""
        if (missed := arrays.get(f"{prefix}missed_at_most")) is None:
            continue
        names = [name.removesuffix(".estimate") for name in arrays if name.endswith(".estimate")]
        left = sum(int(np.isnan(arrays[name].astype(np.float32)).sum()) for name in names if name.startswith(prefix))
        err.print(
            f"{direction}: of the {left} cells that were not patched, at most {missed} have an effect of "
            f"{float(arrays[f'{prefix}threshold']):g} nats or more (95 % confidence over the draw)",
            highlight=False,
        )


def _listed(cells: NDArray[np.generic]) -> object:
    """As JSON has it: cells that were not measured are null."""
    if not np.issubdtype(cells.dtype, np.floating):
        return cells.tolist()
    listed = cells.astype(object)
    listed[np.isnan(cells)] = None
    return listed.tolist()


def _write(out: Path, arrays: Arrays) -> None:
    if out.suffix == ".json":
        listed = {name: _listed(cells) for name, cells in arrays.items()}
        write_whole(out, json.dumps(listed, allow_nan=False).encode())
        return
    file = io.BytesIO()
    # numpy's signature takes its own options among the arrays.
    everything: dict[str, Any] = {**arrays}
    np.savez(file, allow_pickle=False, **everything)
    write_whole(out, file.getvalue())
