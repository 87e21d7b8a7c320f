"""Registering model versions, and finding them again."""

from collections.abc import Sequence
from pathlib import Path

from audit_service.db.base import Ensured
from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import ModelRow, ModelVersionRow
from audit_service.domain.plan import ModelIdentity
from audit_service.errors import Conflict, NotFound
from audit_service.registry import repository
from audit_service.registry.inspection import inspect, verify_unchanged
from audit_service.registry.schemas import ModelVersionCreate
from audit_service.registry.sources import Files, locate


def register(
    session: WriteSession, wanted: ModelVersionCreate, *, roots: Sequence[Path] = ()
) -> Ensured[ModelVersionRow]:
    """The version with the digests of its files; the same label and files give the row that is there.

    With ``roots`` its folder must lie in one of them.

    Raises:
        InvalidModel: see ``inspection.inspect``.
        Conflict: the label stands for other files, or for another number format.
    """
    # The files are read before the first row is locked: that takes minutes for a large model.
    files = locate(wanted.path, revision=wanted.revision, roots=roots)
    identity = inspect(files.folder, name=wanted.name, version=wanted.version, dtype=wanted.dtype)
    model = repository.ensure_model(session, wanted.name)
    present = repository.version_labelled(session, model_id=model.id, version=wanted.version)
    if present is None:
        return Ensured(_added(session, model, identity, files), is_new=True)
    if present.identity not in (identity, identity.model_copy(update={"kv_heads": None})):
        raise Conflict(
            f"{wanted.name} {wanted.version} is registered with other files or another dtype.",
            remedy="Register these files under a new version label.",
        )
    present.identity = identity  # of one that was registered before its heads of keys and values were counted
    return Ensured(present, is_new=False)


def version(session: ReadSession, version_id: str) -> ModelVersionRow:
    if (row := session.get(ModelVersionRow, version_id)) is None:
        raise NotFound(f"There is no model version {version_id}.", remedy="List them with GET /v1/model-versions.")
    return row


def check_files(row: ModelVersionRow) -> None:
    """Raise ModelChanged unless the version's files are still those that were registered."""
    verify_unchanged(row.identity, Path(row.path))


def _added(session: WriteSession, model: ModelRow, identity: ModelIdentity, files: Files) -> ModelVersionRow:
    row = ModelVersionRow(
        model=model,
        version=identity.version,
        path=str(files.folder),
        hub_name=files.hub_name,
        hub_revision=files.hub_revision,
        digest=identity.digest,
        identity=identity,
    )
    session.add(row)
    session.flush()
    return row
