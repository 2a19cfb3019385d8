"""The database's clock stands still, moves, and goes on."""

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from pgreact.testing import assert_enqueued, drain, freeze
from pgreact.testing.binding import bind
from pgreact.testing.connection import moment
from tests import testing_app as tasks
from tests.harness import Database, install

START = datetime.datetime(2030, 6, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def now(connection: Any) -> datetime.datetime:
    return moment(bind(connection))


def off(connection: Any) -> float:
    """Return the seconds between the clock and the server's."""
    found: float = connection.execute(
        "select abs(extract(epoch from pgreact.clock_now() - clock_timestamp()))::float8"
    ).fetchone()[0]
    return found


def test_the_clock_stands_still_and_moves(connection: Any) -> None:
    with freeze(START) as clock:
        assert now(connection) == now(connection) == clock.now == START
        assert clock.move(HOUR) == clock.now == now(connection) == START + HOUR
        assert clock.move(-60) == START + HOUR - datetime.timedelta(minutes=1)
        clock.move_to("2031-01-01T00:00+01:00")
        assert now(connection) == datetime.datetime(2030, 12, 31, 23, tzinfo=datetime.UTC)
    assert off(connection) < 5


def test_an_inner_freeze_gives_the_clock_back_to_the_outer(connection: Any) -> None:
    with freeze(START):
        with freeze(START + HOUR):
            assert now(connection) == START + HOUR
        assert now(connection) == START


def test_enqueue_and_claim_decide_by_it(connection: Any) -> None:
    with freeze(START) as clock:
        pgreact.enqueue(connection, tasks.note, ["later"], run_at=HOUR, expires=2 * HOUR)
        assert_enqueued(tasks.note, run_at=START + HOUR, expires=START + 2 * HOUR, state="delayed")
        assert drain() == []
        clock.move(HOUR)
        assert [ran.outcome for ran in drain()] == ["done"]
        pgreact.enqueue(connection, tasks.note, ["stale"], expires=HOUR)
        clock.move(2 * HOUR)
        assert drain() == []
        [[outcome, died]] = connection.execute("select outcome, died_at from pgreact.dead").fetchall()
        assert (outcome, died) == ("expired", clock.now)


def test_only_the_transaction_of_the_test_sees_it(prepared: Database, connection: Any) -> None:
    with freeze(START), prepared.connect() as other:
        assert now(connection) == START
        assert off(other) < 5


def test_a_failed_statement_in_the_block_leaves_no_trace(prepared: Database, connection: Any) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), freeze(START):
        connection.execute("select 1 / 0")
    connection.rollback()
    assert off(connection) < 5


def test_a_second_session_is_refused_at_once(prepared: Database, connection: Any) -> None:
    with freeze(START), prepared.connect(autocommit=False) as other:
        with (
            pytest.raises(PgreactError, match="another session has stopped the clock"),
            freeze(START, connection=other),
        ):
            pass
        other.rollback()


def test_a_database_that_is_not_for_tests_is_refused(prepared: Database) -> None:
    with prepared.connect() as committed:
        with (
            pytest.raises(PgreactError, match=r'"t_.*" seems to be none for tests'),
            freeze(connection=committed),
        ):
            pass
        assert off(committed) < 5


def test_a_database_whose_name_only_has_the_letters_is_refused(postgres: EmbeddedPostgres) -> None:
    name = f"contest_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        try:
            database = Database(postgres.dsn(dbname=name))
            install(database, {})
            with database.connect() as committed:
                with (
                    pytest.raises(PgreactError, match=f'"{name}" seems to be none for tests'),
                    freeze(connection=committed),
                ):
                    pass
                assert off(committed) < 5
        finally:
            admin.execute(f"drop database {name} with (force)".encode())


def test_a_role_that_does_not_own_the_clock_is_told_the_remedy(prepared: Database, connection: Any) -> None:
    role = f"r_{uuid4().hex[:8]}"
    connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
    connection.execute(sql.SQL("grant usage on schema pgreact to {}").format(sql.Identifier(role)))
    connection.execute(
        sql.SQL("grant execute on function pgreact.clock_now() to {}").format(sql.Identifier(role))
    )
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    with pytest.raises(PgreactError, match=rf'"grant postgres to {role}"'), freeze(START):
        pass


def test_a_time_without_a_zone_is_refused(connection: Any) -> None:
    with pytest.raises(ValueError, match=r"2030-06-01T12:00:00 has no time zone"), freeze("2030-06-01T12:00"):
        pass


@pytest.fixture
def named(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database whose name says that it is for tests."""
    name = f"test_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        database = Database(postgres.dsn(dbname=name))
        install(database, {})
        yield database
        admin.execute(f"drop database {name} with (force)".encode())


def test_a_committed_clock_is_seen_by_all_until_the_block_ends(named: Database) -> None:
    with named.connect() as one, named.connect() as two:
        with freeze(START, connection=one):
            assert now(two) == START
        assert off(two) < 5


def test_a_clock_that_a_killed_process_left_is_found_by_the_doctor_and_mended_by_the_next_freeze(
    named: Database,
) -> None:
    script = (
        "import os, psycopg, sys; from pgreact.testing import freeze\n"
        "with freeze('2030-06-01T12:00+00:00', connection=psycopg.connect(sys.argv[1], autocommit=True)):\n"
        "    os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, named.dsn], check=True)
    with named.connect() as connection:
        assert now(connection) == START
        assert "the clock of queue and timetable is" in doctor(named)
        with freeze(connection=connection):
            pass
        assert off(connection) < 5
    assert "the clock of queue and timetable is" not in doctor(named)


def doctor(database: Database) -> str:
    return subprocess.run(
        [sys.executable, "-m", "pgreact", "doctor", "clock.frozen"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PGREACT_DSN": database.dsn},
    ).stdout
