"""A model's files say whether it can answer with a behavior's labels."""

import json
from pathlib import Path

import pytest

from audit_service.domain.behaviors import Labels
from audit_service.errors import InvalidBehavior, InvalidModel
from audit_service.registry.labels import check_labels


def _classifier(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"], **config}))
    return folder


def test_a_classifiers_labels_are_its_classes(tmp_path: Path) -> None:
    folder = _classifier(tmp_path, id2label={"0": "deny", "1": "approve"})
    check_labels(folder, Labels(favorable=("approve",), unfavorable=("0",)))
    with pytest.raises(InvalidBehavior, match="no classes of this classifier"):
        check_labels(folder, Labels(favorable=(" Yes",), unfavorable=(" No",)))


def test_a_classifier_without_names_has_the_two_classes_that_transformers_gives_it(tmp_path: Path) -> None:
    check_labels(_classifier(tmp_path), Labels(favorable=("LABEL_1",), unfavorable=("LABEL_0",)))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"architectures": []}'])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidModel, match="cannot be read"):
        check_labels(tmp_path, Labels(favorable=("a",), unfavorable=("b",)))
