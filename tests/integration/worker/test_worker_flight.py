"""Celery workers that know pgreact: real processes of each pool, a real Redis, a real PostgreSQL."""

import contextlib
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from celery.exceptions import Retry

import pgreact
from pgreact.errors import ConfigError, NotGuarded
from pgreact.worker.single_flight import NEXT, RUN
from tests import servers, worker_app
from tests.harness import Database, Inbox
from tests.worker import ROOT, Words, Worker

ROUTE = 11
HEADERS = {"pgreact_route": ROUTE}
POOLS = ("prefork", "threads", "solo")


class Cluster:
    """Workers on a queue of their own, and the gate at which their runs wait."""

    def __init__(self, database: Database, inbox: Inbox, words: Words) -> None:
        self.database, self.inbox, self.words = database, inbox, words
        self.workers: list[Worker] = []
        self._app = Celery("sender", broker=inbox.url, set_as_current=False)
        database.run(
            "create table runs (id serial, name text, task_id text, pid int, "
            "began timestamptz default clock_timestamp(), ended timestamptz)"
        )
        self._gate = database.connect()

    def start(self, pool: str = "prefork", concurrency: int = 3, workers: int = 1, **environ: str) -> None:
        """Start workers, and return once they take messages."""
        environ = {"PGREACT_DSN": self.database.dsn, "TASK_DSN": self.database.dsn, **environ}
        started = [
            Worker(self.inbox.url, self.inbox.queue, pool, concurrency, environ) for _ in range(workers)
        ]
        self.workers += started
        for worker in started:
            worker.said(" ready.", 60)

    def send(self, task: str = "plain", **options: Any) -> str:
        """Send a message as the daemon does; return the task's id."""
        task_id = str(uuid4())
        options = {"headers": HEADERS, **options}
        self._app.send_task(
            f"tests.worker_app.{task}",
            task_id=task_id,
            queue=self.inbox.queue,
            ignore_result=True,
            **options,
        )
        return task_id

    def close_gate(self) -> None:
        """Let runs wait in the middle."""
        self._gate.execute("select pg_advisory_lock(%s)", (worker_app.GATE,))

    def open_gate(self) -> None:
        """Let them go on."""
        self._gate.execute("select pg_advisory_unlock(%s)", (worker_app.GATE,))

    def runs(self, column: str = "task_id") -> list[Any]:
        """Return one column of the runs that began, in order."""
        with self.database.connect() as connection:
            return [row[0] for row in connection.execute(f"select {column} from runs order by began")]

    def until_running(self, *task_ids: str) -> None:
        """Wait until these tasks' bodies have begun."""
        for task_id in task_ids:
            self.database.until(f"select exists (select from runs where task_id = '{task_id}')")

    def until_held(self, lock: int, *, held: bool = True) -> None:
        """Wait until somebody holds a lock of the route, or nobody does."""
        self.database.until(
            "select exists (select from pg_locks where locktype = 'advisory' and granted "
            f"and classid = {lock} and objid = {ROUTE} and objsubid = 2) = {held}"
        )

    def overlapping(self) -> int:
        """Count the pairs of runs that were in progress at the same moment."""
        return int(
            self.database.value(
                "select count(*) from runs a join runs b on a.id < b.id "
                "and tstzrange(a.began, a.ended) && tstzrange(b.began, b.ended)"
            )
        )

    def stop(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.stop()
        self._gate.close()


@pytest.fixture
def cluster(database: Database, inbox: Inbox) -> Iterator[Cluster]:
    with Words(database) as words:
        found = Cluster(database, inbox, words)
        yield found
        found.stop()


def told(words: Words, task_id: str) -> list[str]:
    """Return what was told of one task so far."""
    return [word for _, of, word in words.heard if of == task_id]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_of_a_burst_one_runs_one_waits_and_the_others_are_dropped(cluster: Cluster, pool: str) -> None:
    cluster.start(pool)
    cluster.close_gate()
    first = cluster.send()
    cluster.until_running(first)
    burst = [cluster.send() for _ in range(9)]
    cluster.words.until(lambda _: len(cluster.words.of("dropped")) == 8)
    assert cluster.runs() == [first]
    cluster.open_gate()
    cluster.words.until(lambda _: len(cluster.words.of("done")) == 2)
    (second,) = set(burst) - set(cluster.words.of("dropped"))
    assert [heard for heard in cluster.words.heard if heard[2] != "dropped"] == [
        (str(ROUTE), first, "started"),
        (str(ROUTE), first, "done"),
        (str(ROUTE), second, "started"),
        (str(ROUTE), second, "done"),
    ]
    assert cluster.runs() == [first, second]
    assert cluster.overlapping() == 0
    cluster.workers[0].said("flight.dropped: route 11, task ")


def test_workers_that_do_one_thing_at_a_time_fly_one_at_a_time(cluster: Cluster) -> None:
    cluster.start("solo", 1, workers=3)
    cluster.close_gate()
    sent = [cluster.send() for _ in range(10)]
    # Two of them are busy, with a message in hand each; the third drops what comes.
    cluster.words.until(lambda _: len(cluster.words.of("dropped")) >= 6)
    assert len(cluster.runs()) == 1
    cluster.open_gate()
    cluster.words.until(lambda _: len(cluster.words.of("done", "dropped")) == 10)
    assert sorted(cluster.words.of("done", "dropped")) == sorted(sent)
    assert sorted(cluster.words.of("started")) == sorted(cluster.words.of("done"))
    assert cluster.runs() == cluster.words.of("done")
    assert len(cluster.runs()) >= 2
    assert cluster.overlapping() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_message_that_is_no_flight_runs_as_ever(cluster: Cluster, pool: str) -> None:
    cluster.start(pool, PGREACT_DSN="host=/nowhere")
    plain, other = cluster.send(headers=None), cluster.send(headers={"mine": "1"})
    cluster.database.until("select count(ended) = 2 from runs")
    assert set(cluster.runs()) == {plain, other}
    lost = cluster.send()
    cluster.workers[0].said(
        f"flight.untaken: tests.worker_app.plain: route {ROUTE}, task {lost}: cannot be guarded, so it does "
    )
    assert len(cluster.runs()) == 2


def test_two_flights_of_two_routes_do_not_meet(cluster: Cluster) -> None:
    cluster.start("threads")
    cluster.close_gate()
    cluster.until_running(cluster.send(), cluster.send(headers={"pgreact_route": ROUTE + 1}))


def test_every_kind_of_task_is_guarded(cluster: Cluster) -> None:
    cluster.start()
    words = cluster.words
    for task in ("plain", "wrapped", "classical"):
        task_id = cluster.send(task)
        words.until(lambda _, task_id=task_id: told(words, task_id) == ["started", "done"])
    cluster.database.until("select count(*) = 1 from runs where name = 'around'")


def test_a_task_that_fails_says_so(cluster: Cluster) -> None:
    cluster.start()
    task_id = cluster.send("failing")
    cluster.words.until(lambda _: told(cluster.words, task_id) == ["started", "failed"])
    cluster.workers[0].said("raised unexpected: RuntimeError('as told')")


def test_a_task_that_retries_is_done_and_flies_again(cluster: Cluster) -> None:
    cluster.start()
    task_id = cluster.send("trying")
    cluster.words.until(lambda _: told(cluster.words, task_id) == ["started", "done", "started", "done"])
    assert cluster.runs("ended is null") == [True, False]


def test_the_next_flies_when_the_process_that_runs_is_killed(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    first = cluster.send()
    cluster.until_running(first)
    second = cluster.send()
    cluster.until_held(NEXT)
    os.kill(cluster.runs("pid")[0], signal.SIGKILL)
    cluster.until_running(second)
    cluster.open_gate()
    cluster.words.until(lambda _: told(cluster.words, second) == ["started", "done"])
    assert told(cluster.words, first) == ["started"]


def test_a_killed_worker_leaves_nothing_behind(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    cluster.until_running(cluster.send())
    cluster.send()
    cluster.until_held(NEXT)
    cluster.workers[0].stop()
    cluster.until_held(RUN, held=False)
    cluster.until_held(NEXT, held=False)
    assert len(cluster.runs()) == 1


def test_time_limits_hold_while_it_runs_and_while_it_waits(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    first = cluster.send()
    cluster.until_running(first)
    second = cluster.send(soft_time_limit=1)
    cluster.words.until(lambda _: told(cluster.words, second) == ["dropped"])
    cluster.until_held(NEXT, held=False)
    third = cluster.send(soft_time_limit=3)
    cluster.until_held(NEXT)
    cluster.database.run(
        f"select pg_terminate_backend(pid) from pg_locks where objid = {worker_app.GATE} and not granted"
    )
    cluster.words.until(lambda _: told(cluster.words, third) == ["started", "failed"])
    assert told(cluster.words, first) == ["started", "failed"]
    assert cluster.runs() == [first, third]


def test_a_pooler_in_transaction_mode_may_stand_between(cluster: Cluster) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(cluster.database.dsn) as bouncer:
        cluster.start("prefork", PGREACT_DSN=bouncer.url)
        cluster.close_gate()
        first = cluster.send()
        cluster.until_running(first)
        burst = [cluster.send() for _ in range(5)]
        cluster.words.until(lambda _: len(cluster.words.of("dropped")) == 4)
        os.kill(cluster.runs("pid")[0], signal.SIGKILL)
        cluster.database.until("select count(*) = 2 from runs")
        cluster.open_gate()
        (second,) = set(burst) - set(cluster.words.of("dropped"))
        cluster.words.until(lambda _: told(cluster.words, second) == ["started", "done"])
        with Database(bouncer.url).connect() as connection:
            # what a flight sets is gone with it
            assert connection.execute("show client_connection_check_interval").fetchone() == ("0",)


@contextlib.contextmanager
def a_role(database: Database) -> Iterator[Database]:
    """A role that may do nothing; the database as it sees it."""
    name = f"{psycopg.conninfo.conninfo_to_dict(database.dsn)['dbname']}_worker"
    database.run(f"create role {name} {database.login}")
    yield Database(psycopg.conninfo.make_conninfo(database.dsn, user=name))
    database.run(f"drop owned by {name} cascade", f"drop role {name}")


def test_a_role_without_rights_flies(cluster: Cluster, installed: Callable[..., None]) -> None:
    installed(cluster.database)
    with a_role(cluster.database) as role:
        cluster.start(PGREACT_DSN=role.dsn)
        task_id = cluster.send()
        cluster.words.until(lambda _: told(cluster.words, task_id) == ["started", "done"])
        cluster.stop()
        cluster.workers.clear()


# ---- the decorator -----------------------------------------------------------------------------------------


@pytest.fixture
def dispatch(cluster: Cluster, installed: Callable[..., None]) -> int:
    """The id of a route "dispatch"."""
    installed(cluster.database, {"routes": {"dispatch": {"task": "tests.worker_app.decorated"}}})
    return int(cluster.database.value("select id from pgreact.route where name = 'dispatch'"))


def test_the_decorator_guards_every_call(cluster: Cluster, dispatch: int) -> None:
    cluster.start()
    cluster.close_gate()
    first = cluster.send("decorated", headers=None)
    cluster.until_running(first)
    # as the daemon sends it: setup() guards it by the header, and the decorator finds that done
    others = [cluster.send("decorated", headers={"pgreact_route": dispatch}) for _ in range(3)]
    cluster.words.until(lambda _: len(cluster.words.of("dropped")) == 2)
    cluster.open_gate()
    (second,) = set(others) - set(cluster.words.of("dropped"))
    cluster.words.until(lambda _: told(cluster.words, second) == ["started", "done"])
    assert {route for route, _, _ in cluster.words.heard} == {str(dispatch)}
    assert cluster.runs() == [first, second]
    assert cluster.overlapping() == 0


def test_the_decorator_finds_a_route_that_was_made_anew(cluster: Cluster, dispatch: int) -> None:
    cluster.start("solo", 1)
    old = cluster.send("decorated", headers=None)
    cluster.words.until(lambda _: told(cluster.words, old) == ["started", "done"])
    cluster.database.run(
        "delete from pgreact.route where name = 'dispatch'",
        "insert into pgreact.route (name, task) values ('dispatch', 'x')",
    )
    new = cluster.database.value("select id from pgreact.route where name = 'dispatch'")
    assert new != dispatch
    for headers in ({"pgreact_route": new}, None):
        task_id = cluster.send("decorated", headers=headers)
        cluster.words.until(lambda _, task_id=task_id: (str(new), task_id, "done") in cluster.words.heard)


def test_the_decorator_names_a_route_that_there_is_not(cluster: Cluster, dispatch: int) -> None:
    cluster.start()
    cluster.send("misspelt", headers=None)
    said = cluster.workers[0].said("pgreact.errors.ConfigError")
    assert 'no route "dispach"; did you mean "dispatch"?' in said
    assert cluster.runs() == []


def test_the_decorator_says_what_is_missing(database: Database, installed: Callable[..., None]) -> None:
    def call(dsn: str) -> None:
        pgreact.single_flight("dispatch", dsn)(lambda: pytest.fail("it ran"))()

    with pytest.raises(NotGuarded, match='run "pgreact apply" first'):
        call(database.dsn)
    installed(database)
    with pytest.raises(ConfigError, match=r'no route "dispatch"$'):
        call(database.dsn)
    with (
        a_role(database) as role,
        pytest.raises(NotGuarded, match=r"needs usage on schema pgreact and select on pgreact\.route$"),
    ):
        call(role.dsn)
    with pytest.raises(NotGuarded, match=r'cannot look up route "dispatch": .*No such file'):
        call("host=/nowhere")


def test_the_decorator_works_outside_of_celery(
    database: Database, installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(database, {"routes": {"dispatch": {"task": "x"}}})
    monkeypatch.setenv("PGREACT_DSN", database.dsn)

    @pgreact.single_flight("dispatch")
    def add(a: int, *, b: int) -> int:
        """Add."""
        return a + b

    with Words(database) as words:
        assert add(1, b=2) == 3
        words.until(lambda heard: len(heard) == 2)
        assert [word for _, _, word in words.heard] == ["started", "done"]
    assert (add.__name__, add.__doc__, str(inspect.signature(add))) == (
        "add",
        "Add.",
        "(a: int, *, b: int) -> int",
    )


# ---- what a task looks like --------------------------------------------------------------------------------


def test_a_guarded_task_keeps_its_face() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)
    pgreact.setup(app)
    pgreact.setup(app, "dbname=x")

    def function(a: int, b: str = "b") -> None:
        """Do it."""

    def bound(self: object, a: int, b: str = "b") -> None:
        """Do it."""

    plain = app.task(name="plain")(function)
    decorated = app.task(name="decorated", bind=True)(pgreact.single_flight("x")(bound))
    app.finalize()
    late = app.task(name="late", autoretry_for=(KeyError,))(function)
    assert app.on_after_finalize.send(app)
    for task in (plain, decorated, late):
        assert str(inspect.signature(task.run)) == "(a: int, b: str = 'b') -> None"
        assert task.__doc__ == "Do it."
        with pytest.raises(TypeError, match="missing 1 required"):
            task.apply_async()
        with pytest.raises(TypeError, match=r"takes from 1 to 2|takes from 2 to 3"):
            task.apply_async((1, 2, 3))
        once = task.run
        app.on_after_finalize.send(app)
        assert task.run is once
    assert plain.run.__wrapped__ is function
    assert plain.apply((1,)).successful()


def test_a_header_that_is_no_route_runs_nothing() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)

    @app.task(shared=False)
    def task() -> None:
        pytest.fail("it ran")

    pgreact.setup(app)
    app.finalize()
    for wrong in ("dispatch", "0", 2**31, [1]):
        result = task.apply(headers={"pgreact_route": wrong})
        assert isinstance(result.result, NotGuarded)
        assert "not the id of a route" in str(result.result)


def test_a_retry_is_guarded_like_its_first_attempt() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)

    @app.task(bind=True, shared=False)
    def task(self: Any) -> None:
        with pytest.raises(Retry) as caught:
            self.retry(countdown=0)
        assert caught.value.sig.options["headers"] == HEADERS

    assert task.apply(headers=HEADERS).successful()


def test_the_decorator_above_a_task_says_where_it_belongs() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)
    with pytest.raises(TypeError, match=r"stands above @app.task"):

        @pgreact.single_flight("dispatch")
        @app.task(shared=False)
        def task() -> None:
            pass


def test_the_import_costs_nothing() -> None:
    code = (
        "import sys, pgreact; print(sorted({'celery', 'psycopg', 'pydantic', 'asyncpg'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
