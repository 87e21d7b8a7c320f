"""Paths as somebody asks for them by name: ``z.L5.3.all -> q.L9.*.decision``."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.labels import LabelTokens
from audit_service.domain.sitenames import names_matching, sites_named
from audit_service.domain.sites import Site
from audit_service.errors import InvalidTrace
from workers.engine.donors import Recording
from workers.engine.paths import hears, path_patch
from workers.engine.placing import check, heads_of
from workers.engine.positions import Exchange, exchange_of
from workers.engine.progress import Keep, Progress, StopCheck, Tally, never_stop, no_progress
from workers.engine.subject import Subject
from workers.engine.sweep import Asked

ARROW = "->"


class Route(NamedTuple):
    """Senders that send together, and sets of receivers that each alone hear them."""

    names: tuple[str, ...]
    """"SENDER -> RECEIVER" of each set."""
    senders: tuple[Exchange, ...]
    receivers: tuple[tuple[Exchange, ...], ...]


def routes_named(subject: Subject, text: str, asked: Asked) -> list[Route]:
    """The routes of a path by name: * stands for each sender, and for every layer or head that hears it.

    Names joined by + send, or hear, together. Raises InvalidTrace for a path that the model does not have.
    """
    sender, arrow, receiver = (part.strip() for part in text.partition(ARROW))
    if not (sender and arrow and receiver) or ARROW in receiver:
        raise InvalidTrace(f"{text!r} names no path", remedy="write for instance 'z.L5.3.all -> q.L9.*.decision'")
    matching = partial(
        names_matching, layers=range(subject.anatomy.layers), heads_of=partial(heads_of, subject.anatomy)
    )
    heard = {name: [_receiver(site, asked) for site in sites_named(name)] for name in matching(receiver)}
    found = []
    for name in matching(sender):
        senders = tuple(asked.exchange(site) for site in sites_named(name))
        behind = {to: each for to, each in heard.items() if "*" not in text or _hear(subject, each, senders)}
        if behind:
            names = tuple(f"{name} {ARROW} {to}" for to in behind)
            found.append(Route(names, senders, tuple(map(tuple, behind.values()))))
    if not found:
        raise InvalidTrace(f"{text!r}: no receiver comes after a sender", remedy="name receivers behind the sender")
    return found


def _receiver(site: Site, asked: Asked) -> Exchange:
    """What a receiver hears stands at the same positions of the same prompt."""
    return exchange_of(site, asked.recipient, asked.recipient, asked.mapping)


def _hear(subject: Subject, receivers: Sequence[Exchange], senders: Sequence[Exchange]) -> bool:
    for each in (*receivers, *senders):
        check(subject.anatomy, each)
    return all(hears(subject.anatomy, receiver, sender) for receiver in receivers for sender in senders)


def measure_routes(
    subject: Subject,
    sides: Sequence[tuple[Recording, Recording]],
    routes: Sequence[Route],
    *,
    labels: LabelTokens,
    freeze_mlps: bool,
    keep: Keep,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float32]:
    """Decision value [path] of all routes, one after another: the mean over sides, (recipient, donor) by draw."""
    tally = Tally(progress, sum(len(route.names) for route in routes) * len(sides))
    found = []
    for draw, (recipient, donor) in enumerate(sides):
        for number, route in enumerate(routes):
            patched = partial(
                path_patch,
                subject,
                recipient,
                donor,
                route.senders,
                route.receivers,
                labels=labels,
                freeze_mlps=freeze_mlps,
                progress=tally.inside,
                should_stop=should_stop,
            )
            found.append(keep(f"path.{draw}.{number}", patched))
            tally.finished(len(route.names))
    means: NDArray[np.float32] = np.concatenate(found).reshape(len(sides), -1).mean(axis=0)
    return means
