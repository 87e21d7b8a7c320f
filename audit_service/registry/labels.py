"""Whether a model can answer with a behavior's labels, asked of its files before anything is planned."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from audit_service.domain.behaviors import Labels
from audit_service.domain.labels import class_numbers, label_tokens
from audit_service.errors import InvalidModel


def check_labels(folder: Path, labels: Labels) -> None:
    """Refuse labels that the model's tokenizer does not have, or that are no classes of a classifier.

    Raises:
        InvalidBehavior: a spelling is unknown, labels collide, or they do not name each class once.
        InvalidModel: the folder's config.json or tokenizer.json cannot be read.
    """
    if names := _classes(folder):
        class_numbers(names, labels)
        return
    tokenizer = read_tokenizer(folder)
    unknown = getattr(tokenizer.model, "unk_token", None)
    label_tokens(
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        labels,
        unknown=None if unknown is None else tokenizer.token_to_id(unknown),
    )


def _classes(folder: Path) -> list[str]:
    """Names of a sequence classifier's classes by number, as transformers reads them; none for a language model."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if not config["architectures"][0].endswith("ForSequenceClassification"):
            return []
        named = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InvalidModel(
            f"The config.json of {folder.name} cannot be read: {error}", remedy="Copy the model's files again."
        ) from error
    return [name for _, name in sorted(named.items())] or ["LABEL_0", "LABEL_1"]


def read_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a model's folder; InvalidModel if it cannot be read."""
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise InvalidModel(
            f"The tokenizer of {folder.name} cannot be read: {error}",
            remedy="Save the model's fast tokenizer with save_pretrained, and register the folder as a new version.",
        ) from error
