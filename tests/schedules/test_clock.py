"""The clock is turned: each time that comes has exactly one run, however the clock behaves."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from audit_service import dispatch
from audit_service.db.handles import Database
from audit_service.db.tables import EventRow, MessageRow, OccurrenceRow, RunRow, ScheduleRow
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.notifications import TargetKind, Topic
from audit_service.domain.schedules import OccurrenceKind, OccurrenceState, Rule
from audit_service.errors import BrokerDown, Conflict
from audit_service.notifications import service as notifications
from audit_service.notifications.schemas import TargetCreate
from audit_service.schedules import service
from audit_service.schedules.clock import tick
from audit_service.schedules.schemas import ScheduleChange, ScheduleCreate
from audit_service.settings import get_settings
from tests.audits.test_runs import stop_broker
from tests.revalidation.made import accepted, complete
from tests.service import Audit

BERLIN = Rule(cron="30 2 * * *", timezone="Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def everyone(app: FastAPI) -> Database:
    """As the clock sees it: all organisations."""
    handle: Database = app.state.database
    return handle


@pytest.fixture
def accepted_run(api: TestClient, audit: Audit, database: Database) -> str:
    return accepted(api, database, audit.run()["id"])


def schedule(database: Database, at: str, **changes: Any) -> str:
    wanted = ScheduleCreate(
        **{"name": "nightly", "model": "tiny", "behavior": "loan-denial-race", "rule": BERLIN, "on_new_version": False}
        | changes
    )
    with database.writing() as session:
        return service.make(session, wanted, by="user:test", now=utc(at)).row.id


def came(database: Database) -> Sequence[OccurrenceRow]:
    with database.reading() as session:
        return session.scalars(select(OccurrenceRow).order_by(OccurrenceRow.due_at)).all()


def start(database: Database, *occurrences: OccurrenceRow) -> None:
    """What a worker does when it is asked; the message comes twice."""
    for occurrence in (*occurrences, *occurrences):
        with database.writing() as session:
            service.start(session, occurrence.id)


def logged(database: Database) -> list[tuple[str, str, str | None]]:
    """(who, what, run) of the entries about schedules, in the log's order."""
    with database.reading() as session:
        query = select(EventRow).where(EventRow.kind == EventKind.SCHEDULE).order_by(EventRow.number)
        return [(row.actor, row.data["what"], row.data.get("run")) for row in session.scalars(query)]


def turn(everyone: Database, since: str, until: str, *, minutes: int = 30) -> None:
    at = utc(since)
    while at <= utc(until):
        tick(everyone, at)
        at += timedelta(minutes=minutes)


@pytest.mark.usefixtures("accepted_run")
class TestDaylightSaving:
    @pytest.mark.parametrize(
        ("day", "expected"),
        [
            ("2026-03-28", ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]),
            ("2026-10-24", ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]),
        ],
    )
    def test_three_nights_around_a_change_have_three_runs(
        self, everyone: Database, database: Database, day: str, expected: list[str]
    ) -> None:
        schedule(database, f"{day}T00:00")
        turn(everyone, f"{day}T00:00", f"{day[:8]}{int(day[8:]) + 2}T05:00")
        start(database, *came(database))
        assert [row.nominal_at for row in came(database)] == [utc(one) for one in expected]
        assert {row.state for row in came(database)} == {OccurrenceState.STARTED}
        started = [entry for entry in logged(database) if entry[1] == "started"]
        assert started == [("clock", "started", row.run_id) for row in came(database)]
        assert len({row.run_id for row in came(database)}) == 3

    def test_a_zone_without_changes_has_none(self, everyone: Database, database: Database) -> None:
        schedule(database, "2026-03-28T00:00", rule=Rule(cron="30 2 * * *", timezone="Asia/Taipei"))
        turn(everyone, "2026-03-28T00:00", "2026-03-30T23:00")
        assert [f"{row.nominal_at:%d %H:%M}" for row in came(database)] == ["28 18:30", "29 18:30", "30 18:30"]


@pytest.mark.usefixtures("accepted_run")
class TestDowntime:
    def test_missed_times_become_one_run_that_says_how_many(self, everyone: Database, database: Database) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        tick(everyone, utc("2026-05-11T12:00"))
        tick(everyone, utc("2026-05-11T12:01"))
        [one] = came(database)
        assert (one.nominal_at, one.collapsed) == (utc("2026-05-11T03:00"), 9)
        tick(everyone, utc("2026-05-12T03:00"))
        assert [row.collapsed for row in came(database)] == [9, 0]

    def test_a_clock_that_goes_back_repeats_nothing(self, everyone: Database, database: Database) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        for at in ("2026-05-02T03:00", "2026-05-01T23:00", "2026-05-02T03:00"):
            tick(everyone, utc(at))
        assert len(came(database)) == 1

    def test_while_the_broker_is_down_nothing_is_lost(
        self, everyone: Database, database: Database, monkeypatch: pytest.MonkeyPatch, broker_url: str
    ) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        stop_broker(monkeypatch)
        with pytest.raises(BrokerDown):
            tick(everyone, utc("2026-05-02T03:00"))
        assert came(database) == []
        monkeypatch.setenv("AUDIT_BROKER_URL", broker_url)
        get_settings.cache_clear()
        dispatch.celery.cache_clear()
        tick(everyone, utc("2026-05-02T03:10"))
        assert len(came(database)) == 1

    def test_a_lost_message_is_sent_again_after_a_while(self, everyone: Database, database: Database) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        before = dispatch.waiting(dispatch.CPU)
        for minutes in (0, 1, 4, 6, 7):
            tick(everyone, utc("2026-05-02T03:00") + timedelta(minutes=minutes))
        assert dispatch.waiting(dispatch.CPU) == before + 2


@pytest.mark.usefixtures("accepted_run")
class TestAtOnce:
    def test_many_clocks_make_one_run(self, everyone: Database, database: Database) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        together = threading.Barrier(6)

        def clock() -> None:
            together.wait()
            tick(everyone, utc("2026-05-02T03:00"))

        threads = [threading.Thread(target=clock) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(came(database)) == 1

    def test_a_schedule_in_other_hands_is_passed_over(self, everyone: Database, database: Database) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        with database.writing() as session:
            session.get(ScheduleRow, schedule_id, with_for_update={"of": ScheduleRow})
            tick(everyone, utc("2026-05-02T03:00"))
            assert came(database) == []
        tick(everyone, utc("2026-05-02T03:00"))
        assert len(came(database)) == 1

    def test_two_workers_start_one_run(self, everyone: Database, database: Database) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        tick(everyone, utc("2026-05-02T03:00"))
        [one] = came(database)
        threads = [threading.Thread(target=start, args=[database, one]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.reading() as session:
            assert len(session.scalars(select(RunRow)).all()) == 2  # the accepted one, and this


class TestVersions:
    def test_each_new_version_is_revalidated_once_and_old_ones_are_not(
        self, everyone: Database, database: Database, audit: Audit, accepted_run: str, model_folder: Path
    ) -> None:
        before = datetime.now(UTC)
        schedule(database, before.isoformat()[:19], rule=None, on_new_version=True, name="versions")
        with database.writing() as session:
            session.scalars(select(ScheduleRow)).one().watching_since = datetime.now(UTC)
        tick(everyone, before)
        assert came(database) == []
        (model_folder / "README.md").write_text("retrained")
        version = audit.model("2")["id"]
        for _ in range(3):
            tick(everyone, datetime.now(UTC))
        [one] = came(database)
        assert (one.kind, one.model_version_id) == (OccurrenceKind.VERSION, version)
        start(database, one)
        [one] = came(database)
        with database.reading() as session:
            run = session.get_one(RunRow, one.run_id)
            assert run.plan.model_version_id == version
            assert run.plan.person_id == session.get_one(RunRow, accepted_run).plan.person_id is not None
            assert run.person_id is None

    def test_a_time_takes_the_newest_version(
        self, everyone: Database, database: Database, audit: Audit, accepted_run: str, model_folder: Path
    ) -> None:
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        (model_folder / "README.md").write_text("retrained")
        version = audit.model("2")["id"]
        tick(everyone, utc("2026-05-02T03:00"))
        start(database, *came(database))
        [one] = came(database)
        with database.reading() as session:
            assert session.get_one(RunRow, one.run_id).plan.model_version_id == version


class TestRefusal:
    def test_without_an_accepted_run_there_is_nothing_to_repeat(
        self, everyone: Database, database: Database, audit: Audit
    ) -> None:
        complete(database, audit.run()["id"])
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        tick(everyone, utc("2026-05-02T03:00"))
        [one] = came(database)
        with pytest.raises(Conflict, match="nothing to repeat") as caught, database.writing() as session:
            service.start(session, one.id)
        with database.writing() as session:
            service.refuse(session, one.id, reason=str(caught.value))
        [one] = came(database)
        assert (one.state, one.run_id) == (OccurrenceState.REFUSED, None)
        assert logged(database) == [("clock", "due", None), ("clock", "refused", None)]
        with database.writing() as session:
            assert (
                service.retry(session, one.id, by="user:test", now=utc("2026-05-02T04:00")).state is OccurrenceState.DUE
            )


@pytest.mark.usefixtures("accepted_run")
class TestRest:
    def test_what_came_before_a_pause_is_started_after_it(self, everyone: Database, database: Database) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        tick(everyone, utc("2026-05-02T03:00"))
        with database.writing() as session:
            service.pause(session, schedule_id, by="user:test")
        start(database, *came(database))
        assert [row.state for row in came(database)] == [OccurrenceState.DUE]
        with database.writing() as session:
            service.resume(session, schedule_id, by="user:test", now=utc("2026-05-02T04:00"))
        start(database, *came(database))
        assert [row.state for row in came(database)] == [OccurrenceState.STARTED]

    def test_nothing_comes_of_a_retired_schedule_and_what_came_stays(
        self, everyone: Database, database: Database, api: TestClient
    ) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"), grace_hours=0)
        tick(everyone, utc("2026-05-02T03:00"))
        [due] = came(database)
        for _ in range(2):
            with database.writing() as session:
                service.retire(session, schedule_id, by="user:test", now=utc("2026-05-02T04:00"))
        tick(everyone, utc("2026-05-09T03:00"))
        start(database, due)
        [stayed] = came(database)
        assert (stayed.state, stayed.reason, stayed.run_id) == (
            OccurrenceState.REFUSED,
            "The schedule was retired.",
            None,
        )
        assert logged(database) == [
            ("clock", "due", None),
            ("clock", "overdue", None),
            ("user:test", "refused", None),
            ("user:test", "retired", None),
        ]
        with database.reading() as session:
            assert service.overdue(session, now=utc("2026-06-01T00:00")) == 0
            [entry] = service.calendar(
                session, since=utc("2026-05-01T00:00"), until=utc("2026-06-01T00:00"), now=utc("2026-05-20T00:00")
            )
        assert (entry.standing, entry.overdue) == ("failed", False)
        for path in ("resume", "pause"):
            assert api.post(f"/v1/schedules/{schedule_id}/{path}").status_code == 409
        assert api.post(f"/v1/occurrences/{due.id}/retry").status_code == 409

    def test_one_that_is_retired_while_it_is_started_has_its_run(self, everyone: Database, database: Database) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"))
        tick(everyone, utc("2026-05-02T03:00"))
        [due] = came(database)

        def retire() -> None:
            with database.writing() as session:
                service.retire(session, schedule_id, by="user:test", now=utc("2026-05-02T03:01"))

        with database.writing() as session:
            service.start(session, due.id)
            other = threading.Thread(target=retire)
            other.start()
        other.join()
        assert [row.state for row in came(database)] == [OccurrenceState.STARTED]


class TestOverdue:
    def test_it_is_told_once_and_ends_with_a_completed_run(
        self, everyone: Database, database: Database, accepted_run: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AUDIT_WEBHOOK_NETWORKS", '["127.0.0.0/8"]')
        get_settings.cache_clear()
        target = TargetCreate(kind=TargetKind.WEBHOOK, address="http://127.0.0.1/", topics=(Topic.SCHEDULE_OVERDUE,))
        with database.writing() as session:
            notifications.add_target(session, target, by="user:test")
        schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * 1"), grace_hours=2)
        for at in ("2026-05-04T03:00", "2026-05-04T04:59", "2026-05-04T05:00", "2026-05-04T06:00"):
            tick(everyone, utc(at))
        with database.reading() as session:
            [told] = session.scalars(select(MessageRow)).all()
        assert (told.topic, told.subject) == (Topic.SCHEDULE_OVERDUE, "Overdue: nightly")
        assert "2026-05-04T03:00:00+00:00" in told.body
        assert logged(database) == [("clock", "due", None), ("clock", "overdue", None)]
        [shown] = self.shown(database, "2026-05-04T06:00")
        assert shown == utc("2026-05-04T03:00")
        start(database, *came(database))
        [one] = came(database)
        assert one.run_id is not None
        complete(database, one.run_id)
        assert self.shown(database, "2026-05-04T06:00") == [None]

    def test_a_clock_that_stands_still_and_a_resting_schedule_are_overdue(
        self, everyone: Database, database: Database, accepted_run: str
    ) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 * * *"), grace_hours=2)
        assert self.shown(database, "2026-05-02T04:59") == [None]
        assert self.shown(database, "2026-05-05T12:00") == [utc("2026-05-02T03:00")]
        with everyone.reading() as session:
            assert service.overdue(session, now=utc("2026-05-05T12:00")) == 1
        with database.writing() as session:
            service.pause(session, schedule_id, by="user:test")
        tick(everyone, utc("2026-05-05T12:00"))
        assert came(database) == []
        assert self.shown(database, "2026-05-05T12:00") == [utc("2026-05-02T03:00")]
        with database.writing() as session:
            service.resume(session, schedule_id, by="user:test", now=utc("2026-05-05T12:00"))
        tick(everyone, utc("2026-05-05T12:00"))
        assert came(database) == []
        assert self.shown(database, "2026-05-05T12:00") == [None]

    def shown(self, database: Database, at: str) -> list[datetime | None]:
        with database.reading() as session:
            rows = session.scalars(select(ScheduleRow)).all()
            return [one.overdue_since for one in service.shown(session, rows, now=utc(at))]


@pytest.mark.usefixtures("accepted_run")
class TestChange:
    """Terms change from now on; what came before is due by the old ones."""

    def change(self, database: Database, schedule_id: str, at: str, **terms: Any) -> None:
        wanted = ScheduleChange.model_validate(terms)
        with database.writing() as session:
            service.change(session, schedule_id, wanted, by="user:test", now=utc(at))

    def test_what_came_by_the_old_rule_is_due_and_the_new_one_names_nothing_before_the_change(
        self, everyone: Database, database: Database
    ) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 4 * *"))
        self.change(database, schedule_id, "2026-05-06T12:00", rule=Rule(cron="0 4 * * *"))
        tick(everyone, utc("2026-05-06T12:10"))
        assert [row.nominal_at for row in came(database)] == [utc("2026-05-04T03:00")]
        tick(everyone, utc("2026-05-07T04:00"))
        assert [row.nominal_at for row in came(database)] == [utc("2026-05-04T03:00"), utc("2026-05-07T04:00")]
        assert [row.collapsed for row in came(database)] == [0, 0]

    def test_versions_are_new_to_a_schedule_that_looks_for_them_from_the_change_on(
        self, everyone: Database, database: Database, audit: Audit, model_folder: Path
    ) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00", rule=Rule(cron="0 3 1 1 *"))
        (model_folder / "README.md").write_text("retrained")
        audit.model("2")
        now = datetime.now(UTC)
        self.change(database, schedule_id, now.isoformat()[:26], on_new_version=True, rule=None)
        tick(everyone, now)
        assert came(database) == []

    def test_a_change_is_logged_with_what_was_and_what_is(self, database: Database) -> None:
        schedule_id = schedule(database, "2026-05-01T12:00")
        self.change(database, schedule_id, "2026-05-01T13:00", grace_hours=2, on_new_version=False)
        self.change(database, schedule_id, "2026-05-01T13:00", grace_hours=2)
        with database.reading() as session:
            [event] = session.scalars(select(EventRow).where(EventRow.kind == EventKind.SCHEDULE)).all()
        assert (event.actor, event.data["what"]) == ("user:test", "changed")
        assert (event.data["from"], event.data["to"]) == ({"grace_hours": 24}, {"grace_hours": 2})
