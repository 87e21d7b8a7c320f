from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from audit_service.domain.schedules import LARGEST_JITTER, Rule


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def nominals(rule: Rule, after: str, count: int) -> list[str]:
    zone = ZoneInfo(rule.timezone)
    return [f"{one.nominal.astimezone(zone):%m-%d %H:%M %z}" for one in islice(rule.times(utc(after)), count)]


class TestDaylightSaving:
    BERLIN = Rule(cron="30 2 * * *", timezone="Europe/Berlin")

    def test_a_skipped_time_comes_right_after_the_change(self) -> None:
        assert nominals(self.BERLIN, "2026-03-28T00:00", 3) == [
            "03-28 02:30 +0100",
            "03-29 03:00 +0200",
            "03-30 02:30 +0200",
        ]

    def test_a_repeated_time_comes_once(self) -> None:
        assert nominals(self.BERLIN, "2026-10-24T12:00", 2) == ["10-25 02:30 +0200", "10-26 02:30 +0100"]

    @pytest.mark.parametrize("after", ["2026-10-25T00:15", "2026-10-25T00:45", "2026-10-25T01:15", "2026-10-25T01:45"])
    def test_looked_at_within_the_repeated_hour_it_does_not_come_again(self, after: str) -> None:
        first = next(self.BERLIN.times(utc(after))).nominal
        assert first == utc("2026-10-25T00:30" if after.endswith("00:15") else "2026-10-26T01:30")

    def test_hours_that_exist_twice_are_two_hours_for_an_hourly_rule(self) -> None:
        hourly = Rule(cron="15 * * * *", timezone="Europe/Berlin")
        found = [one.nominal for one in hourly.within(utc("2026-10-24T22:00"), utc("2026-10-25T22:59"))]
        assert found == [utc("2026-10-24T22:15") + timedelta(hours=hour) for hour in range(25)]

    def test_a_zone_without_it_keeps_its_distance_all_year(self) -> None:
        times = [
            one.nominal for one in islice(Rule(cron="0 6 * * *", timezone="Asia/Taipei").times(utc("2026-01-01")), 366)
        ]
        assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(days=1)}
        assert times[0] == utc("2026-01-01T22:00")


class TestMissed:
    RULE = Rule(cron="0 3 * * *")

    def test_nothing_has_come_before_its_time(self) -> None:
        assert self.RULE.missed(utc("2026-05-01T03:00"), utc("2026-05-02T02:59")) is None

    def test_a_time_has_come_at_its_second(self) -> None:
        missed = self.RULE.missed(utc("2026-05-01T03:00"), utc("2026-05-02T03:00"))
        assert missed is not None
        assert (missed.newest.nominal, missed.collapsed) == (utc("2026-05-02T03:00"), 0)

    def test_many_missed_times_become_the_newest(self) -> None:
        missed = self.RULE.missed(utc("2026-05-01T03:00"), utc("2027-05-01T12:00"))
        assert missed is not None
        assert (missed.newest.nominal, missed.collapsed) == (utc("2027-05-01T03:00"), 364)


class TestJitter:
    def test_delays_lie_within_it_differ_and_can_be_drawn_again(self) -> None:
        rule = Rule(cron="0 * * * *", jitter_minutes=LARGEST_JITTER, seed=7)
        found = list(islice(rule.times(utc("2026-01-01")), 500))
        delays = [one.due - one.nominal for one in found]
        assert timedelta() <= min(delays) < timedelta(minutes=2)
        assert timedelta(minutes=57) < max(delays) <= timedelta(minutes=LARGEST_JITTER)
        assert found == list(islice(Rule(**rule.model_dump()).times(utc("2026-01-01")), 500))
        assert all(earlier.due < later.due for earlier, later in pairwise(found))

    def test_another_seed_gives_other_delays(self) -> None:
        one, other = (
            next(Rule(cron="0 0 * * *", jitter_minutes=30, seed=seed).times(utc("2026-01-01"))) for seed in (1, 2)
        )
        assert one.nominal == other.nominal
        assert one.due != other.due


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cron": "0 0 * *"}, "five fields"),
        ({"cron": "0 0 0 * * *"}, "five fields"),
        ({"cron": "61 0 * * *"}, "cannot be read: Bad minute"),
        ({"cron": "0 0 31 2 *"}, "cannot be read: Bad day-of-month"),
        ({"cron": "*/30 * * * *"}, "more than once an hour"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Atlantis"}, "no time zone"),
        ({"cron": "0 0 * * *", "timezone": "../etc/passwd"}, "no time zone"),
        ({"cron": "0 0 * * *", "jitter_minutes": 60}, "less than or equal to 59"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_kept_is_refused_with_the_reason(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Rule(**fields)
