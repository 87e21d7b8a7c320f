"""From the words of an answer to the tokens or classes that stand for it."""

import pytest

from audit_service.domain.behaviors import Labels
from audit_service.domain.labels import LabelTokens, class_numbers, label_tokens
from audit_service.errors import InvalidBehavior

NAMES = ["deny", "approve", "refer"]
KNOWN = {" Yes": (1,), " Y": (1,), " No": (2,), " No way": (2, 3), " Not now": (4, 5, 6), " Not": (4,), " ?": (0,)}


def _tokens(favorable: tuple[str, ...], unfavorable: tuple[str, ...]) -> LabelTokens:
    return label_tokens(KNOWN.__getitem__, Labels(favorable=favorable, unfavorable=unfavorable), unknown=0)


def test_beginnings_are_all_that_must_be_read_each_once_and_in_order() -> None:
    labels = LabelTokens(favorable=((7, 8, 9), (7, 8, 1)), unfavorable=((5,), (7, 2)))
    assert labels.beginnings == ((), (7,), (7, 8))
    assert labels.behind == 2
    assert LabelTokens.single(favorable=(1, 2), unfavorable=(3,)).beginnings == ((),)


def test_spellings_with_the_same_tokens_count_once() -> None:
    assert _tokens((" Yes", " Y"), (" No",)) == LabelTokens(favorable=((1,),), unfavorable=((2,),))


@pytest.mark.parametrize(
    ("favorable", "unfavorable", "said"),
    [
        ((" Yes",), (" No", " No way"), ["' No' begins ' No way'"]),
        ((" Not now",), (" Not",), ["' Not' begins ' Not now'"]),
        ((" Yes",), (" Y",), ["' Yes' stands on both sides"]),
    ],
)
def test_colliding_labels_are_named(favorable: tuple[str, ...], unfavorable: tuple[str, ...], said: list[str]) -> None:
    with pytest.raises(InvalidBehavior, match="collide") as caught:
        _tokens(favorable, unfavorable)
    assert caught.value.details == said


def test_unknown_spellings_are_named() -> None:
    with pytest.raises(InvalidBehavior) as caught:
        _tokens((" Yes", " ?"), (" No",))
    assert caught.value.details == ["' ?' is unknown"]


@pytest.mark.parametrize("names", [("approve", "deny", "refer"), ("1", "0", "2"), ("1", "refer", "deny")])
def test_a_classifiers_classes_are_named_by_name_or_number(names: tuple[str, ...]) -> None:
    found = class_numbers(NAMES, Labels(favorable=names[:1], unfavorable=names[1:]))
    assert found == LabelTokens.single(favorable=(1,), unfavorable=(0, 2))


@pytest.mark.parametrize(
    ("favorable", "unfavorable", "details"),
    [
        (("approve",), ("deny",), ["refer"]),
        (("approve",), ("deny", "refer", "approve"), []),
        (("approve",), ("deny", "maybe"), ["maybe"]),
        (("approve",), ("deny", "3"), ["3"]),
    ],
)
def test_classes_that_are_unknown_or_not_each_named_once_are_refused(
    favorable: tuple[str, ...], unfavorable: tuple[str, ...], details: list[str]
) -> None:
    with pytest.raises(InvalidBehavior) as caught:
        class_numbers(NAMES, Labels(favorable=favorable, unfavorable=unfavorable))
    assert caught.value.details == details
    assert "'deny', 'approve', 'refer'" in str(caught.value)
