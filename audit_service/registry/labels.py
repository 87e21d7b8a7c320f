"""Whether a model can answer with a behavior's labels, asked of its tokenizer before anything is planned."""

from pathlib import Path

from tokenizers import Tokenizer

from audit_service.domain.behaviors import Labels
from audit_service.domain.labels import label_tokens
from audit_service.errors import InvalidModel


def check_labels(folder: Path, labels: Labels) -> None:
    """Refuse labels that the model's tokenizer does not have.

    Raises:
        InvalidBehavior: a spelling is not one known token, or a token stands for both answers.
        InvalidModel: the folder's tokenizer.json cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise InvalidModel(
            f"The tokenizer of {folder.name} cannot be read: {error}",
            remedy="Save the model's fast tokenizer with save_pretrained, and register the folder as a new version.",
        ) from error
    unknown = getattr(tokenizer.model, "unk_token", None)
    label_tokens(
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        labels,
        unknown=None if unknown is None else tokenizer.token_to_id(unknown),
    )
