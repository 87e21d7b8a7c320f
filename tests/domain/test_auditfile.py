import pytest

from audit_service.domain.auditfile import parse_audit_file
from audit_service.errors import InvalidInput
from tests.examples import EXAMPLES

TEXT = (EXAMPLES / "loan-denial.yaml").read_text()


def test_the_shipped_example_is_an_audit() -> None:
    audit = parse_audit_file(TEXT, name="loan-denial.yaml")
    assert audit.behavior.name == "loan-denial-race"
    assert sum(len(names) for group in audit.behavior.attributes[0].groups.values() for names in group.values()) == 36


@pytest.mark.parametrize("text", ["a: [", "day: 2020-99-99", "[" * 3000, "n: " + "1" * 5000, "a: b: c"])
def test_what_is_not_yaml_is_refused_with_the_files_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"my\.yaml"):
        parse_audit_file(text, name="my.yaml")


def test_a_date_is_named_as_no_text() -> None:
    with pytest.raises(InvalidInput, match="holds a value that is no text"):
        parse_audit_file("model: {name: 2020-01-01}", name="my.yaml")


def test_missing_and_unknown_fields_are_named_by_their_path() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_audit_file(TEXT.replace("  owner:", "  owned_by:"), name="my.yaml")
    assert {detail.split(":")[0] for detail in caught.value.details} == {"behavior.owner", "behavior.owned_by"}
