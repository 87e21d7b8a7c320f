import time
import uuid

import pytest
from sqlalchemy.dialects.postgresql import dialect

from audit_service.db.base import Value, new_id
from audit_service.domain.behaviors import Behavior
from audit_service.domain.manifest import digest
from audit_service.domain.plan import Plan
from audit_service.errors import WrittenOtherwise
from tests.domain.made import audit
from tests.examples import loan_denial


def test_ids_are_uuids_of_version_7_that_carry_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_sort_by_the_time_they_were_made_at() -> None:
    made = []
    for _ in range(200):
        made.append(new_id())
        time.sleep(0.00001)
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_a_value_comes_back_from_its_column_with_its_digest() -> None:
    behavior, column = loan_denial().behavior, Value(Behavior)
    stored = column.process_bind_param(behavior, dialect())
    read = column.process_result_value(stored, dialect())
    assert read == behavior
    assert digest(read) == digest(behavior)
    assert column.process_bind_param(None, dialect()) is None
    assert column.process_result_value(None, dialect()) is None


def test_a_plan_that_another_version_wrote_is_refused_with_what_it_does_not_know() -> None:
    made, _ = audit()
    column = Value(Plan)
    stored = column.process_bind_param(made, dialect())
    stored["judging"]["robustness"]["readings"] = ["log_odds", "probability"]
    with pytest.raises(WrittenOtherwise, match="A stored plan was written by another version") as caught:
        column.process_result_value(stored, dialect())
    assert caught.value.details == ["judging/robustness/readings: Extra inputs are not permitted"]
    assert "make it again with this version" in caught.value.remedy
