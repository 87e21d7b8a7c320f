"""Reading the audit file and the pair file that lies beside it."""

from contextlib import suppress
from pathlib import Path

from audit_service.domain.auditfile import DEMO, DEMO_MODEL, AuditFile, parse_audit_file
from audit_service.domain.generation import generate
from audit_service.domain.pairfiles import parse_pairs
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.pairs import PairSet
from audit_service.errors import InvalidInput, InvalidModel
from audit_service.files import read_whole
from audit_service.settings import get_settings


def read_audit(file: Path) -> AuditFile:
    """The audit that a YAML file describes; InvalidInput says what is wrong with it."""
    try:
        text = read_whole(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file.name} is not UTF-8.", remedy="Save it as UTF-8.") from error
    return parse_audit_file(text, name=file.name)


def read_pairs(file: Path, audit: AuditFile) -> PairSet:
    """The pairs of the audit: from the file that it names, relative to its own place, or from its templates."""
    if audit.pairs is None:
        return generate(audit.behavior)
    pair_file = file.parent / audit.pairs
    return parse_pairs(read_whole(pair_file), name=audit.behavior.name, file_format=pair_format(pair_file))


def model_path(file: Path, path: str) -> str:
    """An absolute folder where there is one; paths are relative to the audit's file. Else it is taken as a hub name.

    Raises InvalidModel if the demonstration model is meant and not there.
    """
    if path == DEMO:
        folder = get_settings().cache_dir / "models" / DEMO_MODEL
        if not folder.is_dir():
            raise InvalidModel("The demonstration model is not there yet.", remedy="Run `audit-service demo-model`.")
        return str(folder)
    try:
        folder = (file.parent / Path(path).expanduser()).absolute()
        return str(folder) if folder.exists() else path
    except (OSError, RuntimeError):  # no path of this machine; the service says what is wrong with it
        return path


def tokenizer_folder(file: Path, audit: AuditFile) -> Path | None:
    """The model's folder if its tokenizer lies on this machine."""
    with suppress(InvalidModel):
        folder = Path(model_path(file, audit.model.path))
        if (folder / "tokenizer.json").is_file():
            return folder
    return None


def pair_format(file: Path) -> PairFormat:
    """The format that the file's name ends in."""
    try:
        return PairFormat(file.suffix.removeprefix(".").lower())
    except ValueError as error:
        raise InvalidInput(
            f"{file.name} is no pair file by its name.", remedy="Name it .csv, .jsonl or .json for what it holds."
        ) from error
