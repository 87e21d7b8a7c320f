"""One audit from one file, through the API like everybody else: register, plan, run, follow, fetch the evidence."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pydantic import Field
from rich.console import Console

from audit_service import processes
from audit_service.auditfiles import model_path, pair_format, read_audit, read_pairs
from audit_service.audits.schemas import PlanCreate, PlanRecord, Run
from audit_service.client import Client
from audit_service.domain.auditfile import AuditFile, ModelSource
from audit_service.domain.forecast import fastest
from audit_service.domain.lifecycle import TERMINAL, PreviewState, RunState
from audit_service.domain.manifest import Frozen
from audit_service.domain.results import VerdictValue
from audit_service.domain.sentences import english
from audit_service.errors import Cancelled, Conflict
from audit_service.files import write_whole
from audit_service.following import follow
from audit_service.pairsets.schemas import PairSet, PreviewCreate
from audit_service.registry.schemas import Dtype, ModelVersionCreate
from audit_service.settings import Settings, get_settings


class RunSummary(Frozen):
    """What ``audit-service run`` has to say in the end."""

    run: str
    plan: str
    """SHA-256 of the plan."""
    state: RunState
    verdict: VerdictValue | None = None
    """None while the run goes on without us."""
    forms: dict[str, VerdictValue] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    report: str | None = None
    """Where the evidence PDF lies."""
    report_sha256: str | None = None

    def lines(self) -> Iterator[str]:
        """The same in words."""
        if self.verdict is None:
            yield f"Run {self.run} is {self.state}; the service goes on with it."
            return
        yield f"Verdict: {self.verdict}"
        yield from (f"  {form}: {verdict}" for form, verdict in self.forms.items())
        yield from (f"  - {reason}" for reason in self.reasons)
        yield f"Evidence: {self.report}"
        yield f"  plan {self.plan}"
        yield f"  PDF  {self.report_sha256}"


def run_file(file: Path, *, out_dir: Path, wait: bool, console: Console) -> RunSummary:
    """Audit what the file describes; an unfinished run of the same plan goes on where it stopped.

    Raises:
        InvalidInput: the file, its pairs or its model cannot be used.
        Cancelled: Ctrl-C; the run is paused and loses nothing.
        Conflict: the run failed, with its reason, or there is no service to leave it to.
    """
    audit = read_audit(file)
    read_pairs(file, audit)  # bad rows are named before anything is started
    with service(get_settings(), wait=wait, console=console) as client:
        plan = make_plan(client, file, audit, console)
        run = _start_or_go_on(client, plan, console)
        if not wait:
            return RunSummary(run=run.id, plan=plan.digest, state=run.state)
        wait_for(client, run, console)
        return _fetch(client, run, plan, out_dir=out_dir, name=audit.behavior.name)


@contextmanager
def service(settings: Settings, *, wait: bool, console: Console) -> Iterator[Client]:
    """The service that is named or running; otherwise one that lives as long as this command."""
    with ExitStack() as stack:
        client = processes.connect(settings)
        if client is None and not wait:
            raise Conflict(
                "No service is running that the run could be left to.",
                remedy="Start `audit-service up` in another terminal, or set AUDIT_API_URL.",
            )
        if client is None:
            with console.status("Starting database, broker, API and worker"):
                found = stack.enter_context(processes.surroundings())
                client = stack.enter_context(processes.everything(found, port=0)).client()
            stack.callback(console.print, "Stopping what was started for this run", style="dim")
        yield stack.enter_context(client)


def make_plan(client: Client, file: Path, audit: AuditFile, console: Console) -> PlanRecord:
    """Register what the file names; what is registered already stays as it is."""
    wanted = registered(client, file, audit, console)
    if audit.budget is not None:
        previewed(client, wanted, console)
    plan = client.make_plan(wanted)
    pairs = plan.content.pair_set.pairs
    console.print(f"Plan {plan.digest[:12]} is fixed: {pairs} pairs, {in_words(plan)}", soft_wrap=True)
    if plan.content.scope is not None and (left_out := plan.content.scope.left_out):
        console.print(f"The budget leaves out: {'; '.join(left_out)}", soft_wrap=True, highlight=False)
    for line in plan.power:
        console.print(line, style="dim", soft_wrap=True, highlight=False)
    return plan


def registered(client: Client, file: Path, audit: AuditFile, console: Console) -> PlanCreate:
    """The terms of the plan, with what the file names registered; what is registered already stays as it is."""
    with console.status("Registering model, behavior and pairs"):
        version = client.register_model(_model(file, audit.model))
        behavior = client.register_behavior(audit.behavior)
        return PlanCreate(
            model_version_id=version.id,
            behavior_version_id=behavior.id,
            pair_set_id=_pairs(client, file, audit, behavior.id).id,
            tracing=audit.tracing,
            judging=audit.judging,
            metric_ids=tuple(client.register_metric(metric).id for metric in audit.definitions()),
            budget=audit.budget,
        )


def previewed(client: Client, wanted: PlanCreate, console: Console) -> None:
    """Wait until a worker has counted the pairs' tokens and what work costs on it; Conflict if it cannot."""
    asked = PreviewCreate(model_version_id=wanted.model_version_id, behavior_version_id=wanted.behavior_version_id)
    with console.status("Counting tokens, and measuring what work costs here"):
        preview = client.ask_preview(wanted.pair_set_id, asked)
        while preview.state not in {PreviewState.DONE, PreviewState.FAILED}:
            time.sleep(LOOK_EVERY_S)
            preview = client.preview(preview.id)
    if preview.state is PreviewState.FAILED:
        raise Conflict(f"The pairs cannot be previewed. {preview.reason}", remedy="Mend it, and ask again.")


LOOK_EVERY_S = 0.2


def in_words(plan: PlanRecord) -> str:
    """What the plan takes, as far as it is known."""
    work = (
        f"{plan.cost.forward_passes} forward passes that take as much as {plan.cost.forward_equivalents:.0f} whole ones"
    )
    told = fastest(plan.forecasts)
    if told is None:
        return f"{work}; how long that takes is not known before a worker has run the model"
    size = f"{told.flops / 1e12:.1f} TFLOP, {told.memory_bytes / 1e9:.1f} GB"
    return f"{work}; {told.seconds / 60:.1f} min on {told.device} ({told.dtype}, {told.threads} threads), {size}"


def _model(file: Path, source: ModelSource) -> ModelVersionCreate:
    return ModelVersionCreate(
        name=source.name,
        version=source.version,
        path=model_path(file, source.path),
        revision=source.revision,
        dtype=Dtype(source.dtype),
    )


def _pairs(client: Client, file: Path, audit: AuditFile, behavior_version_id: str) -> PairSet:
    if audit.pairs is None:
        return client.generate_pairs(behavior_version_id)
    pair_file = file.parent / audit.pairs
    return client.upload_pairs(pair_file, name=audit.behavior.name, file_format=pair_format(pair_file))


def _start_or_go_on(client: Client, plan: PlanRecord, console: Console) -> Run:
    last = next(client.runs(plan_id=plan.id), None)
    if last is None or last.state in TERMINAL:
        return client.start_run(plan.id)
    console.print(f"Run {last.id} of this plan is {last.state}; going on with it", soft_wrap=True)
    return resumed(client, last)


def resumed(client: Client, run: Run) -> Run:
    """The run on its way again, if it rested."""
    return client.resume(run.id) if run.state in {RunState.PAUSED, RunState.FAILED} else run


def wait_for(client: Client, run: Run, console: Console) -> None:
    """Follow the run to its end; Ctrl-C pauses it first."""
    try:
        ended = follow(client, run.id, console)
    except KeyboardInterrupt as interrupt:
        with suppress(Conflict):  # it is being judged or reported, which is short and goes on by itself
            client.pause(run.id)
        raise Cancelled(
            f"Run {run.id} is paused; what was traced is kept.", remedy="The same command goes on where it stopped."
        ) from interrupt
    if ended is not RunState.COMPLETED:
        reason = client.run(run.id).reason or "Somebody paused or cancelled it."
        raise Conflict(f"Run {run.id} is {ended}. {reason}", remedy="The same command takes it up again.")


def _fetch(client: Client, run: Run, plan: PlanRecord, *, out_dir: Path, name: str) -> RunSummary:
    judgement = client.verdict(run.id).judgement
    pdf = client.report(run.id)
    path = out_dir / f"{name}-{run.id[-8:]}.pdf"
    write_whole(path, pdf)
    return RunSummary(
        run=run.id,
        plan=plan.digest,
        state=RunState.COMPLETED,
        verdict=judgement.verdict.value,
        forms={form.scope: form.value for form in judgement.forms},
        reasons=tuple(f"{form.scope}: {english(reason)}" for form in judgement.forms for reason in form.reasons),
        report=str(path),
        report_sha256=hashlib.sha256(pdf).hexdigest(),
    )
