import pytest
from pydantic import ValidationError

from audit_service.domain.behaviors import Behavior
from audit_service.domain.datasheets import Standing, Words
from tests.examples import loan_denial


def test_words_are_not_looked_up_unless_they_say_what_was_found() -> None:
    assert Words(what="Names", rests_on="A book").standing is Standing.UNCONFIRMED
    for wrong in ({"standing": Standing.CONFIRMED}, {"seen": "Page 3"}, {"standing": Standing.OWN, "seen": "Page 3"}):
        with pytest.raises(ValidationError, match="and no others, tell in `seen`"):
            Words.model_validate({"what": "Names", "rests_on": "A book"} | wrong)


def test_figures_need_their_unit() -> None:
    with pytest.raises(ValidationError, match="figures and their unit"):
        Words(what="Names", rests_on="A book", figures={"Ann": 3.0})
    with pytest.raises(ValidationError, match="finite number"):
        Words(what="Names", rests_on="A book", figures={"Ann": float("nan")}, unit="per cent")


def test_a_behavior_without_a_datasheet_keeps_its_digest() -> None:
    content = loan_denial().behavior.model_dump(mode="json")
    assert "datasheet" not in content
    assert Behavior.model_validate(content, strict=False).datasheet is None
