"""``celery beat -S pgreact``: Beat's program, pgreact's engine."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from psycopg.conninfo import conninfo_to_dict

from pgreact.demo.postgres import EmbeddedPostgres
from tests.harness import Database, Inbox, eventually
from tests.timetable import Timetable
from tests.worker import ROOT, Worker

Install = Callable[..., None]
Start = Callable[..., Any]


class Beat(Worker):
    """A ``celery beat`` process of ``tests.beat_app``."""

    def __init__(self, table: Timetable, *arguments: str, schedule: Any = None, **environ: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.beat_app", "beat", "-S", "pgreact"),
                *("-l", "info", "--pidfile=", *arguments),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PGREACT_DSN": table.database.dsn,
                "PYTHONUNBUFFERED": "1",  # the banner is printed, not logged
                "BEAT_BROKER": table.inbox.url,
                "BEAT_SCHEDULE": json.dumps(schedule or {}),
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def table(database: Database, inbox: Inbox, installed: Install) -> Timetable:
    """A timetable without a running leader."""
    installed(database)
    database.run("insert into pgreact.lane (name, paused) values ('held', true)")
    return Timetable(database, inbox)


@pytest.fixture
def beats() -> Iterator[Start]:
    """Starts beats, and ends them."""
    running: list[Beat] = []

    def start(table: Timetable, *arguments: str, **more: Any) -> Beat:
        beat = Beat(table, *arguments, **more)
        running.append(beat)
        return beat

    yield start
    for beat in running:
        beat.stop()


def entry(table: Timetable, seconds: float = 0.2, **more: Any) -> dict[str, Any]:
    """An entry of ``beat_schedule`` whose messages go to the inbox."""
    return {"task": "proj.tick", "schedule": seconds, "options": {"queue": table.inbox.queue}, **more}


def test_the_entries_of_the_application_are_sent(table: Timetable, beats: Start) -> None:
    beats(table, schedule={"every so often": entry(table, args=[1])})
    first, second = table.inbox.take(), table.inbox.take()
    assert (first["task"], first["argsrepr"]) == ("proj.tick", "[1]")
    assert first["periodic_task_name"] == "every so often"
    assert first["id"] != second["id"]
    assert table.column("every so often", "origin = 'app' and delivery = 'direct'")


def test_the_entries_may_become_jobs(table: Timetable, beats: Start) -> None:
    beats(table, schedule={"tick": entry(table)}, BEAT_DELIVERY="queue")
    table.database.until("select count(*) >= 2 from pgreact.queue")


def test_beat_of_another_application_writes_nothing(table: Timetable, beats: Start) -> None:
    table.database.run("insert into pgreact.installation (application) values ('proj')")
    table.add("theirs", every="'1 day'", origin="'app'")
    schedule = {"ours": entry(table, 3600)}
    beats(table, schedule=schedule, PGREACT_APPLICATION="shop").wait_for_log(
        'belongs to the application "proj"'
    )
    assert table.database.value("select array_agg(name) from pgreact.schedule") == ["theirs"]
    beats(table, schedule=schedule, PGREACT_APPLICATION="proj")
    table.database.until(
        "select 'ours' = any (array_agg(name)) and 'theirs' <> all (array_agg(name)) from pgreact.schedule"
    )


def test_beat_writes_its_own_rows_only_and_logs_what_it_wrote_and_skipped(
    table: Timetable, beats: Start
) -> None:
    table.add("made", every="'1 day'")
    table.add("imported", every="'1 day'", entry="'{}'")
    table.add("configured", every="'1 day'", origin="'config'")
    table.add("gone", every="'1 day'", origin="'app'")
    others = "select jsonb_agg(s order by id) from pgreact.schedule s where origin <> 'app'"
    table.database.until("select count(*) = 4 from pgreact.schedule")
    before = table.database.value(others)
    names = ("made", "imported", "configured", "ours")
    beat = beats(table, schedule={name: entry(table, 7200) for name in names}, PGREACT_APPLICATION="proj")
    said = beat.wait_for_log("schedules.applied")
    for words in (
        "added=['celery.backend_cleanup', 'ours']",
        "removed=['gone']",
        "left=['made', 'imported', 'configured']",
        "others=3",
    ):
        assert words in said
    reason = beat.wait_for_log("schedule.refused")
    assert "was made in SQL: rename one of them" in reason
    assert "was imported and stays as it is" in beat.wait_for_log("schedule='imported'")
    assert table.column("ours", "origin") == "app"
    columns = ("id", "name", "task", "every", "origin", "delivery", "entry", "options", "enabled")
    after = table.database.value(others)
    assert [[row[name] for name in columns] for row in after] == [
        [row[name] for name in columns] for row in before
    ]


def test_beat_fires_rows_and_edits_take_effect_at_once(table: Timetable, beats: Start) -> None:
    beat = beats(table)
    beat.wait_for_log("timetable.acquired")
    table.add("row", every="'1 day'")
    table.until("row", "state = 'planned'")
    table.run_now("row")
    beat.wait_for_log("schedule.fired")
    assert table.jobs("row") == 1


def test_an_edit_survives_a_restart_until_the_entry_changes(table: Timetable, beats: Start) -> None:
    schedule = {"kept": entry(table, 3600), "gone": entry(table, 3600)}
    first = beats(table, schedule=schedule)
    table.until("kept", "state = 'planned'")
    table.database.run("update pgreact.schedule set every = '2 h' where name = 'kept'")
    first.stop()
    del schedule["gone"]
    second = beats(table, schedule=schedule)
    second.wait_for_log("timetable.acquired")
    assert table.column("kept", "every = interval '2 h'")
    assert table.column("gone", "name") is None
    second.stop()
    third = beats(table, schedule={"kept": entry(table, 1800)})
    third.wait_for_log("timetable.acquired")
    assert table.column("kept", "every = interval '30 min'")


def test_a_standby_takes_over(table: Timetable, beats: Start) -> None:
    table.add("tick", every="'100 ms'", misfire="'all'", grace="'1 h'")
    first = beats(table)
    first.wait_for_log("schedule.fired")
    second = beats(table)
    second.wait_for_log("timetable.waiting")
    first.kill()
    second.wait_for_log("timetable.acquired")
    runs = table.column("tick", "run_count")
    table.until("tick", f"run_count > {runs + 3}")
    assert table.database.value(
        "select count(*) = count(distinct nominal_at) and "
        "max(nominal_at) - min(nominal_at) = (count(*) - 1) * interval '100 ms' from pgreact.schedule_history"
    )


def test_beat_takes_turns_with_the_daemon(table: Timetable, beats: Start, daemons: Start) -> None:
    daemon = daemons(table.database.dsn, table.inbox.url)
    daemon.wait_for("timetable.acquired")
    beat = beats(table)
    beat.wait_for_log("timetable.waiting")
    daemon.kill()
    beat.wait_for_log("timetable.acquired")


def test_beat_answers_ping_while_it_fires_and_while_it_waits(table: Timetable, beats: Start) -> None:
    beats(table, "--enable-remote-control", "--hostname", "one@t").wait_for_log("timetable.acquired")
    beats(table, "--enable-remote-control", "--hostname", "two@t").wait_for_log("timetable.waiting")
    app = Celery("asker", broker=table.inbox.url, set_as_current=False)

    def answering() -> set[str]:
        found = app.control.ping(timeout=1.0)
        return {name for reply in found for name in reply}

    eventually(lambda: len(answering()) == 2, "both beats answer")


def test_beat_survives_a_database_that_goes_away(
    own_postgres: EmbeddedPostgres, inbox: Inbox, installed: Install, beats: Start
) -> None:
    database = Database(own_postgres.dsn())
    installed(database)
    table = Timetable(database, inbox)
    table.direct("tick", every="'200 ms'", lane="'default'")
    beat = beats(table)
    inbox.take()
    own_postgres.stop()
    # what ended it, and not the group of tasks that it ended in
    assert "TaskGroup" not in beat.wait_for_log("listener.lost")
    own_postgres.start()
    table.until("tick", "run_count > 0")
    runs = table.column("tick", "run_count")
    table.until("tick", f"run_count > {runs + 2}")
    assert beat.process.poll() is None


def test_beat_survives_a_database_without_the_schema(
    database: Database, inbox: Inbox, installed: Install, beats: Start
) -> None:
    beat = beats(Timetable(database, inbox))
    assert "pgreact apply" in beat.wait_for_log("statement='owner'")
    installed(database)
    beat.wait_for_log("timetable.acquired")


def test_a_skipped_entry_is_logged_and_the_others_go_on(table: Timetable, beats: Start) -> None:
    beat = beats(table, schedule={"tick": entry(table)}, BEAT_ODD="1")
    assert "odd" in beat.wait_for_log("schedule.refused")
    assert table.inbox.take()["periodic_task_name"] == "tick"


def test_the_banner_names_the_database_without_its_password(table: Timetable, beats: Start) -> None:
    password = conninfo_to_dict(table.database.dsn)["password"]
    beat = beats(table)
    line = beat.wait_for_log("database ->")
    assert "127.0.0.1" in line
    beat.wait_for_log("timetable.acquired")
    assert password
    assert str(password) not in "".join(beat.lines)


def test_beat_stops_at_sigterm(table: Timetable, beats: Start) -> None:
    beat = beats(table)
    beat.wait_for_log("timetable.acquired")
    beat.process.terminate()
    assert beat.process.wait(10) == 0
    table.database.until(
        "select not exists (select from pg_stat_activity where application_name ~ '^pgreact')"
    )
