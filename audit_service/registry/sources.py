"""Where a model's files come from: a folder, or a hub name that is fetched at a pinned commit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audit_service.errors import InvalidInput, InvalidModel

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""No pickles and no code are fetched."""


@dataclass(frozen=True)
class Files:
    """A folder on this machine, and the hub it was fetched from, if any."""

    folder: Path
    hub_name: str | None = None
    hub_revision: str | None = None


def locate(path: str, *, revision: str | None, roots: Sequence[Path] = ()) -> Files:
    """The files that a path or a hub name stands for. With ``roots`` a folder must lie in one of them.

    Raises:
        InvalidInput: a relative path, a folder or a file of it outside the roots, or a hub name without a commit.
        InvalidModel: the hub does not have it, or cannot be reached.
    """
    try:
        folder = Path(path).expanduser()
        if folder.is_absolute():
            return Files(_within(folder.resolve(), [root.resolve() for root in roots]))
    except (OSError, RuntimeError) as error:  # an unknown user's home, a name too long, links in a circle
        raise InvalidInput(f"{path!r} is no path: {error}.", remedy="Send the model folder's absolute path.") from error
    if not _HUB_NAME.fullmatch(path):
        raise InvalidInput(
            f"{path!r} is neither an absolute path nor a hub name.",
            remedy="Send the model folder's absolute path, or a name like organisation/model with its revision.",
        )
    if revision is None or not _COMMIT.fullmatch(revision):
        raise InvalidInput(
            f"The hub name {path} needs a revision of 40 hexadecimal digits: a branch or tag can move.",
            remedy="Take the commit from the model's page on the hub.",
        )
    return Files(_fetch(path, revision), path, revision)


def _within(folder: Path, roots: Sequence[Path]) -> Path:
    """The folder, if it and all that its links lead to lie in one of the roots; nothing outside them is looked at."""
    if not roots:
        return folder
    own = [root for root in roots if folder.is_relative_to(root)]
    if not own:
        raise _outside(str(folder), roots)
    for file in folder.rglob("*"):
        if not any(file.resolve().is_relative_to(root) for root in own):
            raise _outside(f"{file}, which is a link,", roots)
    return folder


def _outside(what: str, roots: Sequence[Path]) -> InvalidInput:
    return InvalidInput(
        f"{what} does not lie where models are registered from.",
        remedy="Put the model into one of: " + ", ".join(map(str, roots)) + ".",
    )


def _fetch(name: str, revision: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - an installation without workers lacks it
    except ImportError as error:
        raise InvalidModel(
            "Hub names are not available in this installation.", remedy="Download the model and send its folder."
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except (OSError, ValueError) as error:
        raise InvalidModel(
            f"The hub does not give {name} at {revision}: {error}",
            remedy="Check the name, the commit and the network, or download the model and send its folder.",
        ) from error
