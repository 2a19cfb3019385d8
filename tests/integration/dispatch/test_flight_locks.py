"""The two locks of a flight, step by step: who holds what, and when the daemon hears of it."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres, free_port
from pgreact.errors import NotGuarded
from pgreact.worker import single_flight
from pgreact.worker.session import Session
from pgreact.worker.single_flight import NEXT, RUN, SingleFlight
from tests.harness import DEADLINE, Database, eventually
from tests.worker import ROOT, FlightEvents

ROUTE = 5
OURS = "from pg_stat_activity where application_name ~ '^pgreact worker ' and datname = current_database()"


class Run(threading.Thread):
    """A run in a thread of its own, whose body waits until the test lets it end."""

    def __init__(self, flights: SingleFlight, task_id: str, route: int = ROUTE) -> None:
        super().__init__(daemon=True)
        self.began, self.let_go = threading.Event(), threading.Event()
        self.result: Any = "none yet"
        self._call = lambda: flights.run(route, task_id, self._body)
        self.start()

    def _body(self) -> str:
        self.began.set()
        assert self.let_go.wait(DEADLINE)
        return "ran"

    def run(self) -> None:
        """Run it."""
        try:
            self.result = self._call()
        except NotGuarded as error:
            self.result = error

    def end(self) -> Any:
        """Let the body end; return what the run returned."""
        self.let_go.set()
        self.join(DEADLINE)
        return self.result


@pytest.fixture
def flights(database: Database) -> Iterator[SingleFlight]:
    found = SingleFlight(database.dsn, timeout=0.05)
    yield found
    found.close()


@pytest.fixture
def words(database: Database) -> Iterator[FlightEvents]:
    with FlightEvents(database) as found:
        yield found


def held(lock: int, *, granted: bool = True, route: int = ROUTE) -> str:
    """Return a query: does somebody hold this lock, or wait for it?"""
    return (
        f"select exists (select from pg_locks where locktype = 'advisory' and classid = {lock} "
        f"and objid = {route} and objsubid = 2 and granted = {granted} "
        "and database = (select oid from pg_database where datname = current_database()))"
    )


def holder(lock: int) -> str:
    """Return a query: the process ids of those who hold a lock."""
    return held(lock).replace("select exists (select from", "select pid from").removesuffix(")")


def test_a_body_begins_after_everybody_could_hear_of_it(
    flights: SingleFlight, database: Database, words: FlightEvents
) -> None:
    def body() -> list[tuple[str, str, str]]:
        assert database.value(held(RUN))
        assert not database.value(held(NEXT))
        return list(words.until(lambda heard: heard))

    assert flights.run(ROUTE, "a", body) == [("5", "a", "started")]
    assert not database.value(held(RUN))
    assert words.until(lambda heard: len(heard) == 2)[1:] == [("5", "a", "done")]


def test_one_runs_one_waits_and_a_third_is_dropped(
    flights: SingleFlight, database: Database, words: FlightEvents
) -> None:
    first = Run(flights, "a")
    assert first.began.wait(DEADLINE)
    second = Run(flights, "b")
    database.until(held(NEXT))
    database.until(held(RUN, granted=False))
    assert flights.run(ROUTE, "c", lambda: "ran") is None
    words.until(lambda heard: ("5", "c", "dropped") in heard)
    assert not second.began.is_set()
    assert first.end() == "ran"
    assert second.began.wait(DEADLINE)
    assert not database.value(held(NEXT))
    fourth = Run(flights, "d")
    database.until(held(NEXT))
    assert second.end() == "ran"
    assert fourth.end() == "ran"
    assert words.until(lambda heard: ("5", "d", "done") in heard) == [
        ("5", task_id, word)
        for task_id, word in [
            *[("a", "started"), ("c", "dropped"), ("a", "done")],
            *[("b", "started"), ("b", "done"), ("d", "started"), ("d", "done")],
        ]
    ]


def test_the_waiter_keeps_next_until_it_has_run_and_tells_before_it_begins(
    flights: SingleFlight, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Run(flights, "a")
    assert first.began.wait(DEADLINE)
    steps: list[tuple[str, ...]] = []
    execute = Session.execute_connected

    def noted(session: Session, *names: str, **values: object) -> Any:
        result = execute(session, *names, **values)
        kept = names != ("flight_wait",) or database.value(held(NEXT))
        steps.append((str(id(session)), *names, str(result).lower() if kept else "NEXT lost"))
        if steps.count((str(id(session)), "flight_wait", "false")) == 3:
            first.let_go.set()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Session, "execute_connected", noted)
        assert flights.run(ROUTE, "b", lambda: steps.append(("body",))) is None
    run, following = steps[0][0], steps[1][0]
    of_b = [step for step in steps if step[0] in {run, following, "body"}]
    assert run != following
    assert list(dict.fromkeys(of_b)) == [
        (run, "flight_begin", "false"),
        (following, "flight_begin", "true"),
        (run, "flight_wait", "false"),
        (run, "flight_wait", "true"),
        (following, "flight_notify", "commit", "1"),
        ("body",),
        (run, "flight_notify", "commit", "1"),
    ]
    assert first.end() == "ran"


def test_never_two_at_a_time(database: Database, flights: SingleFlight, words: FlightEvents) -> None:
    running: list[str] = []
    most: list[int] = []

    def body(task_id: str) -> str:
        running.append(task_id)
        most.append(len(running))
        database.value("select pg_sleep(random() * 0.005)")
        running.remove(task_id)
        return task_id

    def calls(worker: int) -> None:
        own = SingleFlight(database.dsn, timeout=random.choice([0.002, 0.05]))
        for number in range(15):
            task_id = f"{worker}-{number}"
            assert own.run(ROUTE, task_id, lambda: body(task_id)) in {None, task_id}  # noqa: B023 - at once
        own.close()

    threads = [threading.Thread(target=calls, args=(worker,)) for worker in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    words.until(lambda _: len(words.of("done", "dropped")) == 75)
    assert sorted(words.of("started")) == sorted(words.of("done"))
    assert len(most) == len(words.of("done"))
    assert words.of("done")


def test_how_a_body_ends(flights: SingleFlight, words: FlightEvents) -> None:
    def fail(error: BaseException) -> Callable[[], None]:
        def body() -> None:
            raise error

        return body

    with pytest.raises(ZeroDivisionError):
        flights.run(ROUTE, "a", fail(ZeroDivisionError()))
    with pytest.raises(KeyError):
        flights.run(ROUTE, "b", fail(KeyError()), clean_exits=(LookupError,))
    with pytest.raises(SystemExit):
        flights.run(ROUTE, "c", fail(SystemExit()), clean_exits=(LookupError,))
    words.until(lambda heard: ("5", "c", "failed") in heard)
    assert words.of("failed") == ["a", "c"]
    assert words.of("done") == ["b"]


def test_a_task_id_that_is_no_word_does_not_break_the_message(
    flights: SingleFlight, words: FlightEvents
) -> None:
    flights.run(ROUTE, "done dropped", lambda: None)
    words.until(lambda heard: len(heard) == 2)
    assert words.received == [("5", "-", "started"), ("5", "-", "done")]


def test_a_run_inside_a_run_of_the_same_route_is_part_of_it(
    flights: SingleFlight, words: FlightEvents
) -> None:
    def body() -> object:
        return (
            flights.run(ROUTE, "b", lambda: "inner"),
            SingleFlight("dbname=elsewhere").run(ROUTE, "a", lambda: "same message"),
            flights.run(ROUTE + 1, "c", lambda: "other"),
        )

    assert flights.run(ROUTE, "a", body) == ("inner", "same message", "other")
    words.until(lambda heard: ("5", "a", "done") in heard)
    assert words.received == [
        ("5", "a", "started"),
        ("6", "c", "started"),
        ("6", "c", "done"),
        ("5", "a", "done"),
    ]


def test_a_waiter_whose_sessions_break_waits_on(
    flights: SingleFlight, database: Database, words: FlightEvents
) -> None:
    first = Run(flights, "a")
    assert first.began.wait(DEADLINE)
    patient = SingleFlight(database.dsn)
    waits = Run(patient, "b")  # in one long statement
    database.until(held(RUN, granted=False))
    database.value(
        holder(RUN).replace("granted = True", "not granted").replace("pid", "pg_terminate_backend(pid)", 1)
    )
    database.value(holder(NEXT).replace("pid", "pg_terminate_backend(pid)", 1))
    database.until(held(RUN, granted=False))
    assert not waits.began.is_set()
    assert first.end() == "ran"
    assert waits.end() == "ran"
    patient.close()
    words.until(lambda heard: ("5", "b", "done") in heard)
    assert words.of("started") == ["a", "b"]


def test_a_run_whose_session_breaks_ends_and_says_so(
    flights: SingleFlight, database: Database, words: FlightEvents, caplog: pytest.LogCaptureFixture
) -> None:
    first = Run(flights, "a")
    assert first.began.wait(DEADLINE)
    database.value(holder(RUN).replace("pid", "pg_terminate_backend(pid)", 1))
    assert first.end() == "ran"
    words.until(lambda heard: ("5", "a", "done") in heard)
    assert "flight.lock_lost: route 5, task a" in caplog.text
    assert flights.run(ROUTE, "b", lambda: "ran again") == "ran again"


def test_connections_are_kept_and_replaced_when_they_broke(flights: SingleFlight, database: Database) -> None:
    ours = f"select array_agg(pid order by pid) {OURS}"
    flights.run(ROUTE, "a", lambda: None)
    before = database.value(ours)
    flights.run(ROUTE, "b", lambda: None)
    assert database.value(ours) == before
    assert len(before) == 2
    database.value("select array_agg(pg_terminate_backend(pid, 5000)) from unnest(%s::int[]) pid", before)
    assert flights.run(ROUTE, "c", lambda: "ran") == "ran"
    assert not set(database.value(ours)) & set(before)


def test_without_the_database_nothing_runs() -> None:
    gone = SingleFlight(f"postgresql://postgres@127.0.0.1:{free_port()}/x")
    with pytest.raises(
        NotGuarded, match=r"route 5, task a: cannot be guarded, so it does not run: .*refused"
    ):
        gone.run(ROUTE, "a", lambda: pytest.fail("it ran"))


def test_without_a_second_connection_nothing_runs(
    flights: SingleFlight, database: Database, words: FlightEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = f"{psycopg.conninfo.conninfo_to_dict(database.dsn)['dbname']}_one"
    database.run(f"create role {user} {database.login} connection limit 1")
    narrow = SingleFlight(psycopg.conninfo.make_conninfo(database.dsn, user=user))
    with pytest.raises(NotGuarded, match="too many connections"):
        narrow.run(ROUTE, "a", lambda: pytest.fail("it ran"))
    words.until(lambda heard: heard == [("5", "a", "dropped")])
    assert flights.run(ROUTE, "b", lambda: "ran") == "ran"
    narrow.close()
    database.run(f"drop role {user}")


def test_a_run_outlives_time_outs_and_holds_back_no_vacuum(database: Database, words: FlightEvents) -> None:
    settings = {
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "on",
        "idle_in_transaction_session_timeout": "200",
        "statement_timeout": "200",
        "lock_timeout": "200",
    }
    if database.value("select current_setting('server_version_num')::int") >= 170000:
        settings["transaction_timeout"] = "200"
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    flights = SingleFlight(psycopg.conninfo.make_conninfo(database.dsn, options=options))
    first = Run(flights, "a")
    assert first.began.wait(DEADLINE)
    second = Run(flights, "b")
    database.until(held(RUN, granted=False))
    database.until(f"select count(*) = 3 {OURS} and now() - xact_start > '500 ms'")
    pid = database.value(holder(RUN))
    assert database.value(f"select backend_xmin is null and backend_xid is null {OURS} and pid = %s", pid)
    assert (first.end(), second.end()) == ("ran", "ran")
    words.until(lambda heard: ("5", "b", "done") in heard)
    flights.close()


def test_a_wait_that_is_asked_for_again_leaves_nothing_in_the_servers_log(
    flights: SingleFlight, database: Database, postgres: EmbeddedPostgres
) -> None:
    before = postgres.log.stat().st_size
    first = Run(flights, "a")
    assert first.began.wait(DEADLINE)
    second = Run(flights, "b")
    asked: set[object] = set()
    with database.connect() as connection:

        def asked_again() -> bool:
            row = connection.execute(
                f"select query_start {OURS} and wait_event_type = 'Lock' and query ~ 'do [$][$]'"
            ).fetchone()
            asked.update(row or ())
            return len(asked) == 3

        eventually(asked_again, "the third question")
    assert (first.end(), second.end()) == ("ran", "ran")
    assert b"lock timeout" not in postgres.log.read_bytes()[before:]


FORKING = """
import os, sys
from pgreact.worker.single_flight import SingleFlight

def backends(flights):
    pair = flights._idle[-1]
    return [pair.run._connection.info.backend_pid, pair.next._connection.info.backend_pid]

flights = SingleFlight(os.environ["PROJ_DSN"])
flights.run(5, "parent", lambda: None)
ours = backends(flights)

child = os.fork()
if not child:
    flights.run(5, "child", lambda: None)
    theirs = backends(flights)
    flights.close()
    assert not set(ours) & set(theirs), (ours, theirs)
    sys.exit(0)  # with all that a process does at its end
assert os.waitpid(child, 0)[1] == 0
flights.run(5, "parent again", lambda: None)
assert backends(flights) == ours

class Child(Exception):
    pass

def body():
    child = os.fork()
    if not child:
        assert flights.run(5, "part of it", lambda: "ran") == "ran"
        raise Child
    assert os.waitpid(child, 0)[1] == 0

try:
    flights.run(5, "forks", body)
except Child:
    sys.exit(0)
assert backends(flights) == ours
print("all is well")
"""


def test_a_fork_shares_no_connection(database: Database, words: FlightEvents) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKING],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PROJ_DSN": database.dsn},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("all is well\n", "", 0)
    words.until(lambda heard: ("5", "forks", "done") in heard)
    assert words.of("started") == ["parent", "child", "-", "forks"]
    assert words.of("failed") == []


def test_the_lock_classes_are_those_of_the_database(
    database: Database, installed: Callable[..., None]
) -> None:
    installed(database)
    assert database.value("select array[pgreact.lock_class('run'), pgreact.lock_class('next')]") == [
        single_flight.RUN,
        single_flight.NEXT,
    ]
