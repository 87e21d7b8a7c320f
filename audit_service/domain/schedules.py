"""When an audit is due again: a cron rule in a time zone, spread by a seeded delay.

Daylight saving follows Debian's cron: a time of day that a change of clocks skips comes right after the change, and
one that it repeats comes once. What was missed while nobody looked becomes one run, of the newest missed time; the
others are counted. Nothing comes twice: a time that was looked at lies behind the cursor.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from audit_service.domain.manifest import Frozen

LARGEST_JITTER = 59
"""Minutes. Rules come at most once an hour, so delayed times keep their order."""


class Occurrence(NamedTuple):
    """One time that a rule names."""

    nominal: datetime
    """What the rule says, in UTC: the occurrence's identity."""
    due: datetime
    """With its delay."""


class Missed(NamedTuple):
    """The times that have come since the cursor, as the one run that they become."""

    newest: Occurrence
    collapsed: int
    """How many older ones it stands for besides itself."""


class Rule(Frozen):
    """A cron rule: when something is due."""

    cron: str = Field(max_length=200, examples=["30 2 1 */3 *"])
    """minute hour day-of-month month day-of-week, with one minute: at most once an hour."""
    timezone: str = Field(default="UTC", max_length=100, examples=["Europe/Berlin"])
    """IANA name of the zone that the rule's hours are in."""
    jitter_minutes: int = Field(default=0, ge=0, le=LARGEST_JITTER)
    """Each time is delayed by a fixed part of this, drawn from the seed and the time itself."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no time zone; write one like Europe/Berlin or UTC") from error
        return value

    @model_validator(mode="after")
    def _fires(self) -> "Rule":
        if len(self.cron.split()) != 5:
            raise ValueError("a cron rule has five fields: minute hour day-of-month month day-of-week")
        try:
            parsed = CronSim(self.cron, datetime(2026, 1, 1, tzinfo=UTC))
            next(parsed)
        except CronSimError as error:
            raise ValueError(f"the cron rule cannot be read: {error}") from error
        except StopIteration as error:
            raise ValueError("the cron rule names no time in 50 years") from error
        if len(parsed.minutes) != 1:
            raise ValueError("the rule comes more than once an hour; give it one minute, such as 30 2 * * *")
        return self

    def times(self, after: datetime) -> Iterator[Occurrence]:
        """Every time later than ``after``, in order."""
        zone = ZoneInfo(self.timezone)
        for local in CronSim(self.cron, after.astimezone(zone)):
            nominal = local.astimezone(UTC)
            if nominal > after:  # begun within a repeated hour, the first time can lie in its first half
                yield Occurrence(nominal, nominal + self._delay(nominal))

    def within(self, after: datetime, until: datetime) -> Iterator[Occurrence]:
        """The times later than ``after`` that are due by ``until``."""
        return takewhile(lambda one: one.due <= until, self.times(after))

    def missed(self, cursor: datetime, now: datetime) -> Missed | None:
        """What has come since the cursor; None before the next time."""
        come = list(self.within(cursor, now))
        return Missed(come[-1], len(come) - 1) if come else None

    def _delay(self, nominal: datetime) -> timedelta:
        if not self.jitter_minutes:
            return timedelta()
        drawn = hashlib.sha256(f"{self.seed}/{self.cron}/{self.timezone}/{nominal.isoformat()}".encode()).digest()
        return timedelta(seconds=int.from_bytes(drawn[:8]) % (60 * self.jitter_minutes + 1))


class OccurrenceKind(StrEnum):
    TIME = "time"
    """The rule named the time."""
    VERSION = "version"
    """A new version of the model was registered."""


class OccurrenceState(StrEnum):
    DUE = "due"
    """No run was started yet."""
    STARTED = "started"
    """Its run stands beside it."""
    REFUSED = "refused"
    """No run could be started; the reason stands beside it."""
