"""Schedules fire in the transaction of a test when its clock moves."""

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pgreact.errors import PgreactError
from pgreact.testing import drain, enqueued, freeze
from tests import testing_app as tasks

PARIS = ZoneInfo("Europe/Paris")


def add(connection: Any, name: str, **columns: str) -> None:
    columns = {"task": "'testing.request'", "timezone": "'Europe/Paris'", "retention": "'10 days'", **columns}
    connection.execute(
        f"insert into pgreact.schedule (name, {', '.join(columns)}) "
        f"values ('{name}', {', '.join(columns.values())})"
    )


def occurrences(connection: Any, name: str) -> list[str]:
    return [
        nominal.astimezone(PARIS).isoformat()
        for (nominal,) in connection.execute(
            "select nominal_at from pgreact.schedule_history where schedule = %s and outcome = 'fired' "
            "order by nominal_at",
            (name,),
        )
    ]


def test_a_schedule_fires_when_it_is_due_and_its_job_runs(connection: Any) -> None:
    with freeze("2026-01-01T00:00+01:00") as clock:
        add(connection, "daily", cron="'30 2 * * *'")
        assert drain() == []
        clock.move(datetime.timedelta(hours=2, minutes=29))
        assert drain() == []
        clock.move(datetime.timedelta(minutes=1))
        assert [ran.task for ran in drain()] == ["testing.request"]
        assert drain() == []
    assert occurrences(connection, "daily") == ["2026-01-01T02:30:00+01:00"]


def test_every_occurrence_of_days_fires_in_one_drain_across_both_changes_of_summer_time(
    connection: Any,
) -> None:
    for begin, expected in (
        (
            "2026-03-28T00:00+01:00",
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "2026-10-24T00:00+02:00",
            ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
    ):
        name = f"nightly from {begin}"
        with freeze(begin) as clock:
            add(connection, name, cron="'30 2 * * *'")
            ran = drain(until=datetime.timedelta(days=3))
            assert [one.outcome for one in ran] == ["done"] * 3
            assert clock.now == datetime.datetime.fromisoformat(begin) + datetime.timedelta(days=3)
        assert occurrences(connection, name) == expected
        connection.execute("delete from pgreact.schedule")


def test_intervals_count_from_the_frozen_clock_and_missed_ones_follow_the_policy(connection: Any) -> None:
    with freeze("2020-01-01T00:00Z") as clock:
        add(connection, "often", every="'10 min'", misfire="'all'", catch_up="3")
        add(connection, "last", every="'10 min'")
        assert drain() == []
        clock.move(3600)
        assert len(drain()) == 3 + 1


def test_schedules_stay_when_only_jobs_are_asked_for(connection: Any) -> None:
    with freeze("2026-01-01T00:00Z") as clock:
        add(connection, "hourly", every="'1 h'")
        drain()
        clock.move(3600)
        assert drain(schedules=False) == []
        assert len(drain()) == 1


def test_direct_delivery_sends_its_message_to_no_broker(connection: Any) -> None:
    with freeze("2026-01-01T00:00Z"):
        add(connection, "direct", every="'1 h'", delivery="'direct'", task="'testing.double'", args="'[21]'")
        [ran] = drain(until=datetime.timedelta(hours=1))
        assert (ran.job, ran.task, ran.result) == (None, "testing.double", 42)


def test_a_schedule_without_overlap_waits_for_its_job(connection: Any) -> None:
    with freeze("2026-01-01T00:00Z"):
        add(connection, "slow", every="'1 h'", overlap="false", lane="'stopped'")
        drain(until=datetime.timedelta(hours=3))
        assert len(enqueued("testing.request")) == 1


def test_a_schedule_that_fails_is_an_error(connection: Any) -> None:
    connection.execute("insert into pgreact.lane (name) values ('short-lived')")
    with freeze("2026-01-01T00:00Z"):
        add(connection, "broken", every="'1 h'", lane="'short-lived'")
        drain()
        connection.execute("delete from pgreact.lane where name = 'short-lived'")
        with pytest.raises(PgreactError, match='schedule broken: no lane "short-lived"'):
            drain(until=datetime.timedelta(hours=1))
    assert tasks.app.tasks["testing.request"]
