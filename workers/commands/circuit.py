"""``audit-service circuit``: the edges that carry a task's answer, proposed by estimates and measured exactly."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from audit_service.domain.auditfile import DEMO
from audit_service.domain.circuittasks import CircuitTask, parse_circuit_task, task_pairs
from audit_service.domain.manifest import digest
from audit_service.errors import InvalidInput
from audit_service.files import write_whole
from audit_service.settings import get_settings
from workers.commands.kept import Kept

if TYPE_CHECKING:
    from workers.engine.circuits import Curve, Pruned, Verified
    from workers.engine.rolemaps import RoleMaps
    from workers.engine.wiring import Graph
    from workers.rendering.circuit_picture import DrawnCircuit

err = Console(stderr=True)


def circuit(
    file: Annotated[Path, typer.Argument(help="Task file; examples/ioi.yaml shows one.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for circuit.json and circuit.svg.")],
    model: Annotated[str | None, typer.Option(help="Model folder, instead of the file's.")] = None,
    steps: Annotated[int, typer.Option(help="Gradient steps of the scores; 1 is plain edge attribution.")] = 5,
    top: Annotated[int, typer.Option(help="How many of the highest-scored edges are measured one by one.")] = 16,
    sample: Annotated[int, typer.Option(help="How many others are, drawn at random, to bound what was missed.")] = 48,
    threshold: Annotated[float, typer.Option(help="Mean effect in nats that would be worth finding.")] = 0.1,
    prune: Annotated[
        float | None,
        typer.Option(
            help="Also take edges out of the highest-scored ones, each that moves d by less than so many nats, and "
            "measure what is left: faithfulness, what each edge accounts for, and what the circuit leaves out."
        ),
    ] = None,
    among: Annotated[int, typer.Option(min=1, help="How many of the highest-scored edges --prune starts from.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the random sample.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Find where a task's answer is carried: exact maps by token and head, and circuits of every size.

    Scores only rank edges. Faithfulness of the circuits, and the effects of the highest-scored and of randomly drawn
    edges, are measured in runs of the model in which all other edges carry the corrupt prompt's activations. Stopped
    with Ctrl-C, the same command goes on where it was.
    """
    # Importing torch and transformers takes seconds that no other command should pay.
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from workers.demo_model import ensure_demo_model  # noqa: PLC0415
    from workers.engine.circuits import curve, edge_scores, pruned, verify  # noqa: PLC0415
    from workers.engine.determinism import make_deterministic  # noqa: PLC0415
    from workers.engine.loading import load_subject  # noqa: PLC0415
    from workers.engine.progress import kept_under  # noqa: PLC0415
    from workers.engine.rolemaps import encode_task, role_maps  # noqa: PLC0415
    from workers.engine.wiring import Contrast  # noqa: PLC0415
    from workers.rendering.circuit_picture import circuit_picture  # noqa: PLC0415

    task = _task(file)
    place = model or task.model
    disable_progress_bar()
    make_deterministic(seed=seed)
    folder = ensure_demo_model(get_settings().cache_dir, progress=err.print) if place == DEMO else Path(place)
    subject = load_subject(folder, device=device)
    pairs = [encode_task(subject, pair) for pair in task_pairs(task)]
    kept = Kept.beside(out.absolute(), model=folder, terms={"task": digest(task), "device": subject.device})
    contrasts = [
        Contrast(subject, pair.clean, pair.corrupt, pair.labels, keep=kept_under(kept, f"pair{number}"))
        for number, pair in enumerate(pairs)
    ]
    with _going_on(kept), Progress(console=err) as bar:

        def told(what: str) -> Callable[[int, int, float], None]:
            at = bar.add_task(what, total=None)
            return lambda done, total, _: bar.update(at, completed=done, total=total)

        maps = role_maps(subject, pairs, keep=kept, progress=told("maps by token and head"))
        sizes = told("circuits of every size")
        scores = edge_scores(contrasts, steps=steps)
        found = curve(contrasts, scores, progress=sizes)
        single = told("edges one by one")
        verified = verify(contrasts, scores, top=top, sample=sample, threshold=threshold, seed=seed, progress=single)
        left = None
        if prune is not None:
            left = pruned(contrasts, scores, among=among, threshold=prune, seed=seed, progress=told("edges taken out"))
    named = _named(contrasts[0].graph, scores, verified)
    out.mkdir(parents=True, exist_ok=True)
    document = _document(task, maps, found, verified, named, threshold=threshold, steps=steps)
    if left is not None:
        document["pruned"] = _pruned(contrasts[0].graph, left, among=among, threshold=prune)
    write_whole(out / "circuit.json", (json.dumps(document, indent=2) + "\n").encode())
    write_whole(out / "circuit.svg", circuit_picture(task.title, maps, found, _drawn(contrasts[0].graph, left)))
    kept.remove()
    err.print(
        f"{document['pairs']} pairs, {document['answered']} answered as expected on both prompts; "
        f"{found.edges[-1]} edges, CPR {found.cpr:.2f}, CMD {found.cmd:.2f} → {out}",
        highlight=False,
    )
    if left is not None:
        err.print(_said(left, among=among), highlight=False)


@contextmanager
def _going_on(kept: Kept) -> Iterator[None]:
    """Say where the work goes on when it is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"Stopped; what is done lies in {kept.folder}, and the same command goes on from there.")
        raise typer.Exit(130) from None


def _said(left: "Pruned", *, among: int) -> str:
    whole, *halves = left.incompleteness.tolist()
    return (
        f"Pruned: {len(left.accounts_for)} of {among} edges are left, faithfulness {left.faithfulness:.2f}. Each one "
        f"accounts for {left.accounts_for.min():+.3f} to {left.accounts_for.max():+.3f} of it (minimality). Model and "
        f"circuit differ by {whole:.2f} without all of them, by up to {max(halves):.2f} without half (incompleteness)."
    )


def _drawn(graph: "Graph", left: "Pruned | None") -> "DrawnCircuit | None":
    from workers.rendering.circuit_picture import DrawnCircuit  # noqa: PLC0415 - so is matplotlib

    if left is None:
        return None
    edges = tuple((edge.sender, edge.reader) for edge in graph.named(left.circuit))
    return DrawnCircuit(graph.layers, graph.heads, graph.heads // graph.kv_heads, edges, tuple(left.accounts_for))


def _pruned(graph: "Graph", left: "Pruned", *, among: int, threshold: float | None) -> dict[str, object]:
    whole, *halves = left.incompleteness.tolist()
    return {
        "among_the_highest_scored": among,
        "threshold_nats": threshold,
        "faithfulness": left.faithfulness,
        "edges": [
            {"sender": edge.sender, "reader": edge.reader, "accounts_for": share}
            for edge, share in zip(graph.named(left.circuit), left.accounts_for.tolist(), strict=True)
        ],
        "incompleteness": {"without_all_of_it": whole, "without_random_halves": halves},
    }


def _task(file: Path) -> CircuitTask:
    try:
        return parse_circuit_task(file.read_text(encoding="utf-8"), name=file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", remedy="Name a task file.") from error


def _named(graph: Any, scores: Any, verified: "Verified") -> list[dict[str, object]]:  # noqa: ANN401 - imported late
    senders, readers = graph.senders, graph.readers
    count = len(verified.edges)
    return [
        {
            "sender": senders[number % len(senders)],
            "reader": readers[number // len(senders)],
            "estimate_nats": float(scores.ravel()[number]),
            "effect_nats": float(effect),
            "chosen_by": "score" if place < count - verified.sampled else "chance",
        }
        for place, (number, effect) in enumerate(zip(verified.edges.tolist(), verified.effects, strict=True))
    ]


def _document(
    task: CircuitTask,
    maps: "RoleMaps",
    found: "Curve",
    verified: "Verified",
    named: list[dict[str, object]],
    *,
    threshold: float,
    steps: int,
) -> dict[str, object]:
    return {
        "title": task.title,
        "source": task.source,
        "pairs": len(maps.d_clean),
        "answered": int(((maps.d_clean > 0) & (maps.d_corrupt < 0)).sum()),
        "mean_d_clean_nats": float(maps.d_clean.mean()),
        "mean_d_corrupt_nats": float(maps.d_corrupt.mean()),
        "roles": list(maps.roles),
        "residual_share": maps.residual.tolist(),
        "head_share": maps.heads.tolist(),
        "scores": f"edge attribution patching, {steps} gradient step(s): an approximation that only ranks edges",
        "circuit_edges": found.edges.tolist(),
        "faithfulness": found.faithfulness.tolist(),
        "cpr": found.cpr,
        "cmd": found.cmd,
        "measured_edges": named,
        "unmeasured_edges_with_an_effect_of_the_threshold_at_most": verified.missed_at_most,
        "threshold_nats": threshold,
        "confidence": 0.95,
    }
