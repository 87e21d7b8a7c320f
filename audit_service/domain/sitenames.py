"""Sites by name, for those who ask for single ones: ``z.L9.6.decision``, ``mlp_out.L5-7.cue``, sums of such names.

    KIND.L<layer>[-<last layer>][.<head>].<segment>

A segment is a declared one, "all", "decision", or tokens by number (``t12``, ``t12-15``, counted from 0). A range of
layers is a window: all of them are exchanged at once. Names joined by + are exchanged at once too. In a single name *
stands for each layer or each head in turn.
"""

import re
from collections.abc import Callable, Iterable

from audit_service.domain.sites import HEAD_KINDS, Site, SiteKind
from audit_service.errors import InvalidTrace

_NAME = re.compile(
    r"(?P<kind>[a-z_]+)\.L(?P<layer>\d+)(-(?P<last>\d+))?(\.(?P<head>\d+))?\.(?P<segment>[A-Za-z][\w-]*)"
)


def sites_named(text: str) -> tuple[Site, ...]:
    """All single-layer sites that a name stands for, to be exchanged at once; InvalidTrace says what is wrong."""
    return tuple(site for name in text.split("+") for site in _window(name.strip()))


def names_matching(text: str, *, layers: Iterable[int], heads_of: Callable[[SiteKind], int]) -> list[str]:
    """The names that one with * stands for, by layer and head; itself without one.

    ``heads_of`` tells how many heads a kind has. InvalidTrace for * in a sum of names or at another place.
    """
    if "*" not in text:
        return [text]
    kind = text.strip().partition(".")[0]
    if "+" in text or kind not in list(SiteKind) or not _PATTERN.fullmatch(text.strip()):
        raise InvalidTrace(
            f"{text!r}: * stands for all layers or all heads of a single name",
            remedy="write for instance q.L9.*.decision or mlp_out.L*.cue",
        )
    heads = range(heads_of(SiteKind(kind))) if ".*." in text else [0]
    by_layer = [text.strip().replace("L*", f"L{layer}") for layer in layers] if "L*" in text else [text.strip()]
    return [name.replace(".*.", f".{head}.") for name in by_layer for head in heads]


_PATTERN = re.compile(r"[a-z_]+\.L(\d+(-\d+)?|\*)(\.(\d+|\*))?\.[A-Za-z][\w-]*")


def _window(name: str) -> list[Site]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidTrace(
            f"{name!r} names no site",
            remedy="write for instance resid_post.L3.cue, z.L9.6.decision or mlp_out.L5-7.t12",
        )
    kinds = list(SiteKind)
    if found["kind"] not in kinds:
        raise InvalidTrace(f"{name!r}: there is no site kind {found['kind']!r}", remedy=f"use {', '.join(kinds)}")
    kind, head = SiteKind(found["kind"]), None if found["head"] is None else int(found["head"])
    if (kind in HEAD_KINDS) != (head is not None):
        raise InvalidTrace(
            f"{name!r}: {kind} {'needs a' if kind in HEAD_KINDS else 'has no'} head",
            remedy=f"name a head for {', '.join(sorted(HEAD_KINDS))} alone, as in z.L9.6.decision",
        )
    first, last = int(found["layer"]), int(found["last"] or found["layer"])
    if last < first:
        raise InvalidTrace(f"{name!r}: the window ends before it begins", remedy="name the lower layer first")
    return [Site(kind, layer, head, found["segment"]) for layer in range(first, last + 1)]
