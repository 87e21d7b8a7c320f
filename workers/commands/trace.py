"""``audit-service trace``: one pair of texts, token by token, without any server."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit_service.domain.behaviors import Labels
from audit_service.domain.plan import Direction
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from audit_service.files import write_whole

err = Console(stderr=True)


def trace(
    *,
    model: Annotated[Path, typer.Option(help="Local Hugging Face model folder.")],
    clean: Annotated[str, typer.Option(help="The reference prompt, tokenized exactly as given.")],
    corrupt: Annotated[str, typer.Option(help="The comparison prompt.")],
    favorable: Annotated[list[str], typer.Option(help="Spelling of the favorable answer; may be repeated.")],
    unfavorable: Annotated[list[str], typer.Option(help="Spelling of the unfavorable answer; may be repeated.")],
    out: Annotated[Path, typer.Option(help="File to write the arrays to (.npz).")],
    sites: Annotated[str, typer.Option(help="Site kinds, separated by commas.")] = "resid_pre,attn_out,mlp_out,z",
    direction: Annotated[
        Direction, typer.Option(help="denoise puts clean activations into the corrupt run, noise the reverse.")
    ] = Direction.DENOISE,
    add_special_tokens: Annotated[
        bool, typer.Option("--add-special-tokens", help="Let the tokenizer add its own tokens.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Patch one pair of texts at every layer and token, and write the patched decision values.

    The file holds, for each site kind, an array of decision values in nats ([layer, position]; [layer, head] for head
    sites, which are exchanged at all positions), the unpatched values `clean` and `corrupt`, and the token ids
    `clean_tokens` and `corrupt_tokens`.
    """
    # Importing torch and transformers takes seconds that no other command should pay.
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from workers.engine.determinism import make_deterministic  # noqa: PLC0415
    from workers.engine.loading import load_subject  # noqa: PLC0415
    from workers.engine.sweep import sweep_tokens  # noqa: PLC0415
    from workers.engine.tokens import encode_text, labels_of  # noqa: PLC0415

    kinds = _kinds(sites)
    if not out.absolute().parent.is_dir():
        raise InvalidTrace(f"{out} cannot be written: there is no such folder", remedy="make the folder first")
    disable_progress_bar()  # type: ignore[no-untyped-call]
    make_deterministic()
    subject = load_subject(model, dtype=dtype, device=device)
    labels = labels_of(subject, Labels(favorable=tuple(favorable), unfavorable=tuple(unfavorable)))
    clean_ids = encode_text(subject.tokenizer, clean, add_special_tokens=add_special_tokens)
    corrupt_ids = encode_text(subject.tokenizer, corrupt, add_special_tokens=add_special_tokens)
    with _bar() as progress:
        found = sweep_tokens(
            subject, clean_ids, corrupt_ids, kinds, direction=direction, labels=labels, progress=progress
        )
    values: dict[str, NDArray[np.generic]] = {str(kind): cells for kind, cells in found.patched.items()}
    values |= {"clean": np.array(found.clean, np.float32), "corrupt": np.array(found.corrupt, np.float32)}
    values |= {"clean_tokens": np.array(clean_ids), "corrupt_tokens": np.array(corrupt_ids)}
    write_whole(out, _npz(values))
    err.print(f"clean {found.clean:+.4f} nats, corrupt {found.corrupt:+.4f} nats → {out}", highlight=False)


def _kinds(sites: str) -> list[SiteKind]:
    names = [name.strip() for name in sites.split(",")]
    if unknown := [name for name in names if name not in set(SiteKind)]:
        raise InvalidTrace(f"unknown site kinds: {', '.join(unknown)}", remedy=f"use {', '.join(SiteKind)}")
    return list(dict.fromkeys(SiteKind(name) for name in names))


@contextmanager
def _bar() -> Iterator[Callable[[int, int, float], None]]:
    columns = (TextColumn("patching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("largest effect {task.fields[effect]:.3f} nats"), console=err) as bar:
        task = bar.add_task("", total=None, effect=0.0)
        yield lambda done, total, effect: bar.update(task, completed=done, total=total, effect=effect)


def _npz(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
