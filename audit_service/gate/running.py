"""The gate: audit a model as a pipeline asks for it, and compare it with a former version. Works like ``run``."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from audit_service.auditfiles import read_audit, read_pairs
from audit_service.audits.schemas import Run
from audit_service.client import Client
from audit_service.domain.auditfile import AuditFile, ModelSource
from audit_service.domain.gate import change_checks, mechanism_notes, together, verdict_checks
from audit_service.domain.lifecycle import TERMINAL, RunState
from audit_service.domain.manifest import digest
from audit_service.errors import AuditError, Cancelled, InvalidInput, NotFound
from audit_service.files import write_whole
from audit_service.gate.report import GateReport, junit, junit_of_error
from audit_service.registry.inspection import hashes
from audit_service.registry.schemas import Dtype, ModelVersionCreate
from audit_service.revalidation.schemas import RevalidationCreate
from audit_service.running import make_plan, resumed, service, wait_for
from audit_service.settings import get_settings


class Asked(NamedTuple):
    """What the command line names."""

    model: str
    """A folder, a registered model's name, or name@version."""
    behavior: str
    """An audit file, or the name of a behavior that was audited on the service."""
    baseline: str | None = None
    """A version's label, or with an audit file a folder. With a behavior's name, none takes the accepted version."""
    name: str | None = None
    """The model's name, where ``model`` is a folder; none takes the audit file's."""


class Done(NamedTuple):
    """A completed run, and the one that it was compared with."""

    run: Run
    earlier: Run | None


def gate_into(junit_file: Path | None, asked: Asked, *, console: Console) -> GateReport:
    """``gate``, with a JUnit file of what it found, or of why nothing could be told. Raises what ``gate`` raises."""
    try:
        report = gate(asked, console=console)
    except Cancelled:
        raise
    except AuditError as error:
        if junit_file is not None:
            write_whole(junit_file, junit_of_error(error, model=asked.model, behavior=asked.behavior))
        raise
    if junit_file is not None:
        write_whole(junit_file, junit(report))
    return report


def gate(asked: Asked, *, console: Console) -> GateReport:
    """Run what is asked, unless it was run before, and judge.

    Raises:
        AuditError: nothing can be told, with the reason.
        Cancelled: Ctrl-C; the run is paused.
    """
    file, began = Path(asked.behavior), datetime.now(UTC)
    audit = read_audit(file) if file.is_file() else None
    if audit is not None:
        read_pairs(file, audit)  # bad rows are named before anything is started
    with service(get_settings(), wait=True, console=console) as client:
        done = _by_name(client, asked, console) if audit is None else _by_file(client, asked, file, audit, console)
        return _report(client, done, began)


def _by_file(client: Client, asked: Asked, file: Path, audit: AuditFile, console: Console) -> Done:
    """The file's plan on the model; with a baseline first on that, unless it was run on it before."""
    name = asked.name or audit.model.name

    def plan_on(model: str) -> str:
        source = _source(client, model, name=name, dtype=audit.model.dtype)
        return make_plan(client, file, audit.model_copy(update={"model": source}), console).id

    if asked.baseline is None:
        return Done(_completed(client, plan_on(asked.model), console), None)
    baseline = asked.baseline if Path(asked.baseline).is_dir() else f"{name}@{asked.baseline}"
    earlier = _completed(client, plan_on(baseline), console)
    version = client.plan(plan_on(asked.model)).model_version_id
    return Done(_repeated(client, earlier, version, console), earlier)


def _by_name(client: Client, asked: Asked, console: Console) -> Done:
    """The plan of the run that was accepted last, of the baseline's version if one is named."""
    if Path(asked.model).is_dir() and asked.name is None:
        raise InvalidInput(f"{asked.model} is a folder, which has no name.", remedy="Add --name, the model's name.")
    name = asked.name or asked.model.partition("@")[0]
    found = client.accepted_runs(model=name, behavior=asked.behavior)
    for accepted in sorted(found, key=lambda one: one.decided_at, reverse=True):
        earlier = client.run(accepted.run_id)
        model = client.plan(earlier.plan_id).content.model
        if asked.baseline in {None, model.version}:
            source = _source(client, asked.model, name=name, dtype=model.dtype)
            wanted = ModelVersionCreate(
                name=source.name, version=source.version, path=source.path, dtype=Dtype(source.dtype)
            )
            return Done(_repeated(client, earlier, client.register_model(wanted).id, console), earlier)
    of = f" {asked.baseline}" if asked.baseline else ""
    raise NotFound(
        f"No run of {asked.behavior!r} on {name}{of} was accepted, so there is nothing to repeat.",
        remedy="Name an audit file as --behavior, or accept a run on the service first.",
    )


def _source(client: Client, model: str, *, name: str, dtype: str) -> ModelSource:
    """A folder by its files, under the label that they have or that their digest gives; or a registered version."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        files = digest(hashes(folder.absolute()))
        same = (
            one.version
            for one in client.model_versions(model=name)
            if (one.digest, one.identity.dtype) == (files, dtype)
        )
        label = next(same, f"sha256:{files[:16]}")
        return ModelSource(name=name, version=label, path=str(folder.absolute()), dtype=dtype)
    wanted, _, label = model.partition("@")
    for version in client.model_versions(model=wanted):
        if label in {"", version.version}:
            return ModelSource(
                name=version.name, version=version.version, path=version.path, dtype=version.identity.dtype
            )
    raise NotFound(
        f"{model} is neither a folder nor a registered model.", remedy="Name a folder, or NAME or NAME@VERSION."
    )


def _completed(client: Client, plan_id: str, console: Console) -> Run:
    """The plan's completed run: one that was, or one that is now."""
    return _finished(client, list(client.runs(plan_id=plan_id)), lambda: client.start_run(plan_id), console)


def _repeated(client: Client, earlier: Run, version_id: str, console: Console) -> Run:
    """The completed run that repeats the earlier one on the version: one that was, or one that is now."""
    wanted = RevalidationCreate(model_version_id=version_id, earlier_run_id=earlier.id)
    former = [one.run for one in client.revalidations(earlier_run_id=earlier.id)]
    same = [run for run in former if client.plan(run.plan_id).model_version_id == version_id]
    return _finished(client, same, lambda: client.revalidate(wanted).run, console)


def _finished(client: Client, runs: Sequence[Run], start: Callable[[], Run], console: Console) -> Run:
    """The completed one of these runs; else one of them, or a new one, is brought to its end."""
    for run in runs:
        if run.state is RunState.COMPLETED:
            return run
    unfinished = next((run for run in runs if run.state not in TERMINAL), None)
    run = resumed(client, unfinished) if unfinished else start()
    wait_for(client, run, console)
    return client.run(run.id)


def _report(client: Client, done: Done, began: datetime) -> GateReport:
    judgement = client.verdict(done.run.id).judgement
    plan = client.plan(done.run.plan_id)
    drift = client.revalidation(done.run.id).drift if done.earlier else None
    checks = (*verdict_checks(judgement), *(change_checks(judgement, drift) if drift else ()))
    model = plan.content.model
    return GateReport(
        outcome=together(checks),
        model=model.name,
        version=model.version,
        model_digest=model.digest,
        behavior=plan.content.behavior.name,
        plan=plan.digest,
        run=done.run.id,
        verdict=judgement.verdict.value,
        baseline_version=client.plan(done.earlier.plan_id).content.model.version if done.earlier else None,
        baseline_run=done.earlier.id if done.earlier else None,
        checks=checks,
        notes=tuple(mechanism_notes(drift)) if drift else (),
        started_at=began,
        ended_at=datetime.now(UTC),
    )
