"""Every statement of a worker recovers from every class of errors.

The errors are real: a function of pgreact, or one of PostgreSQL's that the search path shadows, raises them
in the server. An exception of Python's is raised while the answer is read.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import NotGuarded
from pgreact.postgres.queries import folder
from pgreact.worker import session
from pgreact.worker.database import RouteId, WorkerDatabase
from pgreact.worker.jobs import Jobs, OtherDatabase
from pgreact.worker.run import Run, abandoned, postponed, settled, snoozed
from pgreact.worker.single_flight import RUN, SingleFlight
from tests.harness import Database, eventually
from tests.jobs_cluster import prepare

PASSING = ("40001", "40P01", "53100", "53200", "55P03", "57014", "57P01", "25006", "0A000")
REFUSED = ("42501", "22003")  # and errors of data, which only an error's text can cause
PYTHON = "python"
EVERY = (*PASSING, *REFUSED, PYTHON)
TIMES = 2
RESUMED = '{"task": "x", "args": [], "kwargs": {}, "options": {}, "retries": 1, "before": 0}'
ROUTE = 11
TIMEOUT = 2.0

_OURS = {  # function by query
    **{f"job_{name}": name for name in ("start", "settle", "snooze", "postpone", "abandon", "renew")},
    "database_id": "database_id",
}
# Of PostgreSQL: the statements of a flight call these by their bare names.
_SHADOWS = {
    "flight_begin": ("pg_try_advisory_xact_lock", "(a integer, b integer) returns boolean", "a, b"),
    "flight_notify": ("pg_notify", "(a text, b text) returns void", "a, b"),
    "flight_wait": ("pg_advisory_xact_lock", "(a integer, b integer) returns void", "a, b"),
    "worker_settings": ("concat_ws", "(a text, b text, c text) returns text", "a, b, c"),
}
# Of bundles: test_bundle_property.py.
_BUNDLES = {"job_settle_and_start", "job_hand_back", "job_abandon_bundle"}
# The last ones: the report's (test_doctor.py), the application's (test_transactional_calls.py), and no query
# there, but an option of Celery's.
COVERED = {*_OURS, *_SHADOWS, *_BUNDLES, "route_ids", "current_role", "enqueue", "retry"}


def test_every_statement_of_a_worker_is_covered() -> None:
    known = {path.stem for path in (folder("sql") / "queries").glob("*.sql")}
    sources = (Path(__file__).parents[3] / "pgreact" / "worker").glob("*.py")
    used = {name for path in sources for name in re.findall(r'"(\w+)"', path.read_text()) if name in known}
    assert used == COVERED


class Faults:
    """A database whose functions fail on demand."""

    def __init__(self, database: Database) -> None:
        self.database = database
        name = psycopg.conninfo.conninfo_to_dict(database.dsn)["dbname"]
        database.run(
            "create schema faults",
            "create sequence faults.left",
            "create table faults.now (statement text, sqlstate text)",
            # a sequence counts across rollbacks
            "create function faults.meet(met text) returns void language plpgsql as $$ begin "
            "if exists (select from faults.now where statement = met) and nextval('faults.left') <= 0 then "
            "raise exception 'as told' using errcode = (select sqlstate from faults.now); end if; end $$",
            "alter sequence faults.left minvalue -100 start -100",
            "create table faults.told (a text)",
            "create function faults.commits() returns trigger language plpgsql as $$ begin "
            "if new.a like '% done' then perform faults.meet('landing'); end if; return null; end $$",
            "create constraint trigger commits after insert on faults.told deferrable initially deferred "
            "for each row execute function faults.commits()",
            "alter table pgreact.route rename to route_real",
            "create view pgreact.route as select r.* from pgreact.route_real r, faults.meet('route_ids')",
            f"alter database {name} set search_path = faults, pg_catalog",
        )
        for statement, function in _OURS.items():
            meet = f"faults.meet('{statement}');"
            text = str(database.value(f"select pg_get_functiondef('pgreact.{function}'::regproc)"))
            if "LANGUAGE plpgsql" in text:
                database.run(re.sub(r"(?m)^begin$", f"begin perform {meet}", text, count=1))
            else:
                database.run(text.replace("$function$", f"$function$ select {meet}", 1))
        for statement, (function, head, names) in _SHADOWS.items():
            void = head.endswith("void")
            body = (
                f"perform pg_catalog.{function}({names});"
                if void
                else f"return pg_catalog.{function}({names});"
            )
            tell = "insert into faults.told values (b);" if function == "pg_notify" else ""
            database.run(
                f"create function faults.{function}{head} language plpgsql as $$ begin "
                f"perform faults.meet('{statement}'); {tell} {body} end $$"
            )

    @contextlib.contextmanager
    def of(self, statement: str, error: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Make a statement fail twice."""
        with monkeypatch.context() as patch:
            if error == PYTHON:
                left, execute = [None] * TIMES, session._Connection.run
                said = f"pgreact.{statement.removeprefix('job_')}"

                def failing(connection: Any, text: bytes, *rest: Any) -> Any:
                    rows = execute(connection, text, *rest)
                    if left and said.encode() in text:
                        left.pop()
                        raise RecursionError("as told")
                    return rows

                patch.setattr(session._Connection, "run", failing)
            else:
                self.database.run(
                    f"select setval('faults.left', {-TIMES})",
                    f"insert into faults.now values ('{statement}', '{error}')",
                )
            yield
        self.database.run("truncate faults.now")

    def claimed(self, **values: Any) -> Run:
        """Claim a job; return its run."""
        self.database.value("select pgreact.enqueue('x', lane => 'default')")
        job = self.database.value("select pgreact.claim(1) -> 'jobs' -> 0")
        return Run(job["id"], job["claim_id"], values.get("retries", 0), "w")

    def row(self, run: Run, column: str) -> Any:
        """Return a column of a run's attempt; ``None``: it is settled."""
        return self.database.value(f"select (select {column} from pgreact.in_progress where id = {run.job})")

    def delayed(self, run: Run) -> Any:
        """Return whether a run's job waits for its retry; ``None``: it is not in the queue."""
        return self.database.value(
            "select (select run_at > now() + interval '900 s' and resume is not null from pgreact.queue "
            f"where id = {run.job})"
        )

    def outcome(self, run: Run) -> Any:
        """Return the outcome of a run's attempt."""
        return self.database.value(f"select (select max(outcome) from pgreact.history where id = {run.job})")


@pytest.fixture(scope="module")
def _one(postgres: EmbeddedPostgres) -> Iterator[Faults]:
    name, admin = f"t_{uuid4().hex[:12]}", Database(postgres.dsn())
    admin.run(f"create database {name}")
    database = Database(postgres.dsn(dbname=name))
    prepare(database)
    database.run(
        "update pgreact.queue_setting set retention = '1 day', lease = '2 s'",
        "select pgreact.maintain_history()",
    )
    yield Faults(database)
    admin.run(f"drop database {name} with (force)")


@pytest.fixture
def faults(_one: Faults) -> Faults:
    _one.database.run(
        "truncate pgreact.queue, pgreact.in_progress, pgreact.dead, pgreact.history, faults.now"
    )
    return _one


@pytest.fixture
def jobs(faults: Faults, caplog: pytest.LogCaptureFixture) -> Iterator[Jobs]:
    caplog.set_level(logging.INFO, "pgreact.worker")
    found = Jobs(faults.database.dsn, timeout=TIMEOUT)
    yield found
    found.close()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> int:
    """Count the log lines of an event."""
    return sum(
        record.getMessage().startswith(f"{event}:") and record.levelno > logging.DEBUG
        for record in caplog.records
    )


@pytest.mark.parametrize("error", EVERY)
def test_start_waits_for_an_error_that_passes_and_loses_no_message(
    error: str, faults: Faults, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = faults.claimed()
    with faults.of("job_start", error, monkeypatch):
        assert jobs.start(run) is (error in PASSING)
        assert logged(caplog, "job.start_failed") == (error not in PASSING)
        jobs.start(faults.claimed())  # logged once
        assert logged(caplog, "job.start_failed") == (error not in PASSING)
    if error != PYTHON:
        assert faults.row(run, "started_at is null") is (error not in PASSING)
        jobs.start(run)
    assert jobs.start(faults.claimed())
    assert logged(caplog, "job.start_recovered") == (error not in PASSING)


@pytest.mark.parametrize("error", EVERY)
def test_message_of_another_database_is_dropped_when_ours_cannot_be_asked_for_its_name(
    error: str, faults: Faults, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Run(2**40, str(uuid4()), 0, "w", "t", "elsewhere/0")
    with faults.of("database_id", error, monkeypatch), contextlib.suppress(OtherDatabase):
        # after two errors the session may work again
        assert not jobs.start(stranger)
    with pytest.raises(OtherDatabase, match="it comes from database elsewhere/0, and this worker serves t_"):
        jobs.start(stranger)


@pytest.mark.parametrize("error", [*EVERY])
@pytest.mark.parametrize("statement", ["settle", "snooze", "postpone", "abandon"])
def test_settlement_is_sent_after_any_error(
    statement: str,
    error: str,
    faults: Faults,
    jobs: Jobs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = faults.claimed()
    assert jobs.start(run)
    settlement = {
        "settle": settled(run, "failed", "as € told"),
        "snooze": snoozed(run, 1000.0),
        "postpone": postponed(run, RESUMED, 1000.0, "as € told"),
        "abandon": abandoned(run, "failed", "as € told"),
    }[statement]
    with faults.of(f"job_{statement}", error, monkeypatch):
        (jobs.end_later if statement == "abandon" else jobs.end)(settlement)
        if statement == "snooze":
            eventually(lambda: faults.row(run, "lease_until > now() + interval '900 s'"), "it is snoozed")
        elif statement == "postpone":
            eventually(lambda: faults.delayed(run), "it waits")
        else:
            eventually(lambda: faults.outcome(run) == "failed", "it is settled")
        eventually(lambda: not jobs._renewer._delayed, "it was sent")
    # these are retried at once: a lost session by a new one, an error of data with its text in ASCII
    quick = {"57P01": 1, "25006": 1, "0A000": 1, "22003": 1}
    assert logged(caplog, "settlement.delayed") <= 1
    assert logged(caplog, "settlement.sent") == logged(caplog, "settlement.delayed")
    if error not in quick and error != PYTHON:
        assert logged(caplog, "settlement.delayed") == 1


@pytest.mark.parametrize("error", EVERY)
def test_lease_is_renewed_soon_after_an_error_and_logged_once(
    error: str, faults: Faults, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = faults.claimed()
    assert jobs.start(run)
    with faults.of("job_renew", error, monkeypatch):
        eventually(lambda: faults.row(run, "lease_until > started_at + interval '3 s'"), "it is renewed")
        eventually(lambda: not jobs._renewer._renewal_trouble.failures, "it is over")
    jobs.end(settled(run, "done"))
    assert faults.outcome(run) == "done"
    assert logged(caplog, "lease.renewal_failed") == logged(caplog, "lease.renewed")
    assert logged(caplog, "lease.renewal_failed") <= 1


@pytest.mark.parametrize("error", EVERY)
def test_session_settings_are_looked_up_again_after_an_error(
    error: str, faults: Faults, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = faults.claimed()
    with faults.of("worker_settings", error, monkeypatch):
        assert jobs.start(run) is (
            error in PASSING or error == PYTHON
        )  # Python's error does not meet this statement


# ---- flights -----------------------------------------------------------------------------------------------


@pytest.fixture
def flights(faults: Faults) -> Iterator[SingleFlight]:
    found = SingleFlight(faults.database.dsn, timeout=TIMEOUT)
    yield found
    found.close()


@pytest.mark.parametrize("error", [*PASSING, *REFUSED])
@pytest.mark.parametrize("statement", ["flight_begin", "flight_notify", "flight_wait", "landing"])
def test_flight_waits_for_an_error_that_passes(
    statement: str, error: str, faults: Faults, flights: SingleFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = threading.Event()
    with faults.of(statement, error, monkeypatch), faults.database.connect() as other:
        if statement == "flight_wait":
            other.execute("select pg_catalog.pg_advisory_lock(%s, %s)", (RUN, ROUTE))

            def let_go() -> None:
                faults.database.until("select last_value > 0 from faults.left")
                other.execute("select pg_catalog.pg_advisory_unlock(%s, %s)", (RUN, ROUTE))

            if error in PASSING:
                threading.Thread(target=let_go).start()
        if statement == "landing" or error in PASSING:
            assert flights.run(ROUTE, "a", lambda: ran.set() or "ran") == "ran"  # type: ignore[func-returns-value]
            assert ran.is_set()
        else:
            with pytest.raises(NotGuarded, match="as told"):
                flights.run(ROUTE, "a", lambda: pytest.fail("it ran"))
            faults.database.run("truncate faults.now")
    assert flights.run(ROUTE, "b", lambda: "ran") == "ran"


@pytest.mark.parametrize("error", [*PASSING, *REFUSED])
def test_route_is_looked_up_again_after_an_error_that_passes(
    error: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = faults.database
    with contextlib.suppress(psycopg.errors.UniqueViolation):
        database.run("insert into pgreact.route_real (name, task) values ('dispatch', 't')")
    route_id = RouteId("dispatch", WorkerDatabase(database.dsn))
    with faults.of("route_ids", error, monkeypatch):
        if error in PASSING:
            assert route_id.get(None) > 0
        else:
            with pytest.raises(NotGuarded, match='look up route "dispatch"'):
                route_id.get(None)
