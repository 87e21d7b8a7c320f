import hashlib
import json
from typing import Any

import pytest

from audit_service.domain.chain import Break, chained, first_break


def chain(count: int = 4) -> list[dict[str, Any]]:
    return chained([{"number": number, "what": f"event {number}"} for number in range(1, count + 1)])


def test_a_link_is_the_sha256_of_the_canonical_json_with_the_one_before() -> None:
    first, second = chain(2)
    assert first["previous"] == ""
    plain = json.dumps(
        {"number": 2, "previous": first["digest"], "what": "event 2"}, sort_keys=True, separators=(",", ":")
    )
    assert second["digest"] == hashlib.sha256(plain.encode()).hexdigest()


def test_a_chain_that_was_left_alone_holds() -> None:
    assert first_break(chain()) is None
    assert first_break([]) is None
    assert first_break(chain()[2:], previous=chain()[1]["digest"], number=3) is None


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_first_changed_entry_is_named(number: int) -> None:
    changed = chain()
    changed[number - 1]["what"] = "something else"
    assert first_break(changed) == Break(number, "it was changed: its digest is another")


def test_an_entry_that_was_changed_with_its_digest_breaks_the_next() -> None:
    changed = chain()
    changed[1] = chained([{"number": 1, "what": "event 1"}, {"number": 2, "what": "something else"}])[1]
    found = first_break(changed)
    assert found == Break(3, "it does not name the digest of the entry before")


def test_a_missing_entry_is_named() -> None:
    found = first_break([entry for entry in chain() if entry["number"] != 2])
    assert found is not None
    assert (found.number, "missing" in found.why) == (2, True)
