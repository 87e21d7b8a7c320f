"""Which prompts are computed whole, and which go on from another's beginning."""

from audit_service.domain.beginnings import families

NAMES = [(1, 2, 3, 4, 5, 6, 7, name, 9) for name in range(20, 40)]


def test_families_go_on_from_where_most_is_shared() -> None:
    others = [(1, 2, 3, 8, 8, 8, 8, name, 9) for name in range(20, 40)]
    (first, mine), (second, theirs) = families(sorted(NAMES + others))
    assert (first, second) == (NAMES[0], others[0])
    assert {c.shared for c in mine} == {c.shared for c in theirs} == {7}


def test_a_lone_prompt_goes_on_from_another_family() -> None:
    [(_, others)] = families(sorted([*NAMES, (1, 2, 3, 8, 8, 8)]))
    assert others[-1].shared == 3
