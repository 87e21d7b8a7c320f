"""``audit-service circuit``: the edges that carry a task's answer, proposed by estimates and measured exactly."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from audit_service.domain.auditfile import DEMO
from audit_service.domain.circuittasks import CircuitTask, parse_circuit_task, task_pairs
from audit_service.errors import InvalidInput
from audit_service.files import write_whole
from audit_service.settings import get_settings

if TYPE_CHECKING:
    from workers.engine.circuits import Curve, Verified
    from workers.engine.rolemaps import RoleMaps

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
    seed: Annotated[int, typer.Option(help="Of the random sample.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Find where a task's answer is carried: exact maps by token and head, and circuits of every size.

    Scores only rank edges. Faithfulness of the circuits, and the effects of the highest-scored and of randomly drawn
    edges, are measured in runs of the model in which all other edges carry the corrupt prompt's activations.
    """
    # Importing torch and transformers takes seconds that no other command should pay.
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from workers.demo_model import ensure_demo_model  # noqa: PLC0415
    from workers.engine.circuits import curve, edge_scores, verify  # noqa: PLC0415
    from workers.engine.determinism import make_deterministic  # noqa: PLC0415
    from workers.engine.loading import load_subject  # noqa: PLC0415
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
    contrasts = [Contrast(subject, pair.clean, pair.corrupt, pair.labels) for pair in pairs]
    with Progress(console=err) as bar:
        at = bar.add_task("maps by token and head")
        maps = role_maps(subject, pairs, progress=lambda done, total, _: bar.update(at, completed=done, total=total))
        at = bar.add_task("circuits of every size")
        scores = edge_scores(contrasts, steps=steps)
        found = curve(contrasts, scores, progress=lambda done, total, _: bar.update(at, completed=done, total=total))
        at = bar.add_task("edges one by one", total=1)
        verified = verify(contrasts, scores, top=top, sample=sample, threshold=threshold, seed=seed)
        bar.update(at, completed=1)
    named = _named(contrasts[0].graph, scores, verified)
    out.mkdir(parents=True, exist_ok=True)
    document = _document(task, maps, found, verified, named, threshold=threshold, steps=steps)
    write_whole(out / "circuit.json", (json.dumps(document, indent=2) + "\n").encode())
    write_whole(out / "circuit.svg", circuit_picture(task.title, maps, found))
    err.print(
        f"{document['pairs']} pairs, {document['answered']} answered as expected on both prompts; "
        f"{found.edges[-1]} edges, CPR {found.cpr:.2f}, CMD {found.cmd:.2f} → {out}",
        highlight=False,
    )


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
