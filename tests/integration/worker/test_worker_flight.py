"""Single flight in Celery workers: processes of each pool, with Redis and PostgreSQL."""

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
from tests.worker import ROOT, FlightEvents, Worker

ROUTE = 11
HEADERS = {"pgreact_route": ROUTE}
POOLS = ("prefork", "threads", "solo")


class Cluster:
    """Workers on a queue of their own, and a gate that their runs wait for."""

    def __init__(self, database: Database, inbox: Inbox, events: FlightEvents) -> None:
        self.database, self.inbox, self.events = database, inbox, events
        self.workers: list[Worker] = []
        self._app = Celery("sender", broker=inbox.url, set_as_current=False)
        database.run(
            "create table runs (id serial, name text, task_id text, pid int, "
            "began timestamptz default clock_timestamp(), ended timestamptz)"
        )
        self._gate = database.connect()

    def start(self, pool: str = "prefork", concurrency: int = 3, workers: int = 1, **environ: str) -> None:
        """Start workers, and wait until they take messages."""
        environ = {"PGREACT_DSN": self.database.dsn, "TASK_DSN": self.database.dsn, **environ}
        started = [
            Worker(self.inbox.url, self.inbox.queue, pool, concurrency, environ) for _ in range(workers)
        ]
        self.workers += started
        for worker in started:
            worker.wait_for_log(" ready.", 60)

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
        """Make runs wait in their bodies."""
        self._gate.execute("select pg_advisory_lock(%s)", (worker_app.GATE,))

    def open_gate(self) -> None:
        """Let the runs go on."""
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
        """Wait until a lock of the route is held, or is free."""
        self.database.until(
            "select exists (select from pg_locks where locktype = 'advisory' and granted "
            f"and classid = {lock} and objid = {ROUTE} and objsubid = 2) = {held}"
        )

    def overlapping(self) -> int:
        """Count the pairs of runs that overlapped."""
        return int(
            self.database.value(
                "select count(*) from runs a join runs b on a.id < b.id "
                "and tstzrange(a.began, a.ended) && tstzrange(b.began, b.ended)"
            )
        )

    def stop(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.stop()
        self._gate.close()


@pytest.fixture
def cluster(database: Database, inbox: Inbox) -> Iterator[Cluster]:
    with FlightEvents(database) as events:
        found = Cluster(database, inbox, events)
        yield found
        found.stop()


def statuses(events: FlightEvents, task_id: str) -> list[str]:
    """Return the statuses of one task so far."""
    return [status for _, of, status in events.received if of == task_id]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_of_a_burst_one_runs_one_waits_and_the_others_are_dropped(cluster: Cluster, pool: str) -> None:
    cluster.start(pool)
    cluster.close_gate()
    first = cluster.send()
    cluster.until_running(first)
    burst = [cluster.send() for _ in range(9)]
    cluster.events.until(lambda _: len(cluster.events.of("dropped")) == 8)
    assert cluster.runs() == [first]
    cluster.open_gate()
    cluster.events.until(lambda _: len(cluster.events.of("done")) == 2)
    (second,) = set(burst) - set(cluster.events.of("dropped"))
    assert [event for event in cluster.events.received if event[2] != "dropped"] == [
        (str(ROUTE), first, "started"),
        (str(ROUTE), first, "done"),
        (str(ROUTE), second, "started"),
        (str(ROUTE), second, "done"),
    ]
    assert cluster.runs() == [first, second]
    assert cluster.overlapping() == 0
    cluster.workers[0].wait_for_log("flight.dropped: route 11, task ")


def test_solo_workers_run_one_flight_at_a_time(cluster: Cluster) -> None:
    cluster.start("solo", 1, workers=3)
    cluster.close_gate()
    sent = [cluster.send() for _ in range(10)]
    # one worker runs, one waits, and the third drops the messages
    cluster.events.until(lambda _: len(cluster.events.of("dropped")) >= 6)
    assert len(cluster.runs()) == 1
    cluster.open_gate()
    cluster.events.until(lambda _: len(cluster.events.of("done", "dropped")) == 10)
    assert sorted(cluster.events.of("done", "dropped")) == sorted(sent)
    assert sorted(cluster.events.of("started")) == sorted(cluster.events.of("done"))
    assert cluster.runs() == cluster.events.of("done")
    assert len(cluster.runs()) >= 2
    assert cluster.overlapping() == 0


@pytest.mark.parametrize("pool", POOLS)
def test_message_of_no_route_runs_as_before(cluster: Cluster, pool: str) -> None:
    cluster.start(pool, PGREACT_DSN="host=/nowhere")
    plain, other = cluster.send(headers=None), cluster.send(headers={"mine": "1"})
    cluster.database.until("select count(ended) = 2 from runs")
    assert set(cluster.runs()) == {plain, other}
    lost = cluster.send()
    cluster.workers[0].wait_for_log(
        f"flight.start_failed: tests.worker_app.plain: route {ROUTE}, task {lost}: cannot be guarded, so it "
    )
    assert len(cluster.runs()) == 2


def test_flights_of_two_routes_run_at_the_same_time(cluster: Cluster) -> None:
    cluster.start("threads")
    cluster.close_gate()
    cluster.until_running(cluster.send(), cluster.send(headers={"pgreact_route": ROUTE + 1}))


def test_every_kind_of_task_is_guarded(cluster: Cluster) -> None:
    cluster.start()
    events = cluster.events
    for task in ("plain", "wrapped", "classical"):
        task_id = cluster.send(task)
        events.until(lambda _, task_id=task_id: statuses(events, task_id) == ["started", "done"])
    cluster.database.until("select count(*) = 1 from runs where name = 'around'")


def test_failing_task_notifies_failed(cluster: Cluster) -> None:
    cluster.start()
    task_id = cluster.send("failing")
    cluster.events.until(lambda _: statuses(cluster.events, task_id) == ["started", "failed"])
    cluster.workers[0].wait_for_log("raised unexpected: RuntimeError('as told')")


def test_retrying_task_is_done_and_its_retry_is_a_flight(cluster: Cluster) -> None:
    cluster.start()
    task_id = cluster.send("trying")
    cluster.events.until(
        lambda _: statuses(cluster.events, task_id) == ["started", "done", "started", "done"]
    )
    assert cluster.runs("ended is null") == [True, False]


def test_waiter_runs_when_the_running_process_is_killed(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    first = cluster.send()
    cluster.until_running(first)
    second = cluster.send()
    cluster.until_held(NEXT)
    os.kill(cluster.runs("pid")[0], signal.SIGKILL)
    cluster.until_running(second)
    cluster.open_gate()
    cluster.events.until(lambda _: statuses(cluster.events, second) == ["started", "done"])
    assert statuses(cluster.events, first) == ["started"]


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


def test_time_limits_hold_during_run_and_wait(cluster: Cluster) -> None:
    cluster.start()
    cluster.close_gate()
    first = cluster.send()
    cluster.until_running(first)
    second = cluster.send(soft_time_limit=1)
    cluster.events.until(lambda _: statuses(cluster.events, second) == ["dropped"])
    cluster.until_held(NEXT, held=False)
    third = cluster.send(soft_time_limit=3)
    cluster.until_held(NEXT)
    cluster.database.run(
        f"select pg_terminate_backend(pid) from pg_locks where objid = {worker_app.GATE} and not granted"
    )
    cluster.events.until(lambda _: statuses(cluster.events, third) == ["started", "failed"])
    assert statuses(cluster.events, first) == ["started", "failed"]
    assert cluster.runs() == [first, third]


def test_a_pooler_in_transaction_mode_may_stand_between(cluster: Cluster) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(cluster.database.dsn) as bouncer:
        cluster.start("prefork", PGREACT_DSN=bouncer.url)
        cluster.close_gate()
        first = cluster.send()
        cluster.until_running(first)
        burst = [cluster.send() for _ in range(5)]
        cluster.events.until(lambda _: len(cluster.events.of("dropped")) == 4)
        os.kill(cluster.runs("pid")[0], signal.SIGKILL)
        cluster.database.until("select count(*) = 2 from runs")
        cluster.open_gate()
        (second,) = set(burst) - set(cluster.events.of("dropped"))
        cluster.events.until(lambda _: statuses(cluster.events, second) == ["started", "done"])
        with Database(bouncer.url).connect() as connection:
            # the settings of a flight end with its transaction
            assert connection.execute("show client_connection_check_interval").fetchone() == ("0",)


@contextlib.contextmanager
def a_role(database: Database) -> Iterator[Database]:
    """A role without rights; the database as it connects to it."""
    name = f"{psycopg.conninfo.conninfo_to_dict(database.dsn)['dbname']}_worker"
    database.run(f"create role {name} {database.login}")
    yield Database(psycopg.conninfo.make_conninfo(database.dsn, user=name))
    database.run(f"drop owned by {name} cascade", f"drop role {name}")


def test_role_without_rights_can_run_a_flight(cluster: Cluster, installed: Callable[..., None]) -> None:
    installed(cluster.database)
    with a_role(cluster.database) as role:
        cluster.start(PGREACT_DSN=role.dsn)
        task_id = cluster.send()
        cluster.events.until(lambda _: statuses(cluster.events, task_id) == ["started", "done"])
        cluster.stop()
        cluster.workers.clear()


# ---- the decorator -----------------------------------------------------------------------------------------


@pytest.fixture
def dispatch(cluster: Cluster, installed: Callable[..., None]) -> int:
    """The id of the route "dispatch"."""
    installed(cluster.database, {"routes": {"dispatch": {"task": "tests.worker_app.decorated"}}})
    return int(cluster.database.value("select id from pgreact.route where name = 'dispatch'"))


def test_the_decorator_guards_every_call(cluster: Cluster, dispatch: int) -> None:
    cluster.start()
    cluster.close_gate()
    first = cluster.send("decorated", headers=None)
    cluster.until_running(first)
    # as from the daemon: setup() guards it by the header, and the decorator finds it guarded
    others = [cluster.send("decorated", headers={"pgreact_route": dispatch}) for _ in range(3)]
    cluster.events.until(lambda _: len(cluster.events.of("dropped")) == 2)
    cluster.open_gate()
    (second,) = set(others) - set(cluster.events.of("dropped"))
    cluster.events.until(lambda _: statuses(cluster.events, second) == ["started", "done"])
    assert {route for route, _, _ in cluster.events.received} == {str(dispatch)}
    assert cluster.runs() == [first, second]
    assert cluster.overlapping() == 0


def test_decorator_finds_a_route_that_was_created_again(cluster: Cluster, dispatch: int) -> None:
    cluster.start("solo", 1)
    old = cluster.send("decorated", headers=None)
    cluster.events.until(lambda _: statuses(cluster.events, old) == ["started", "done"])
    cluster.database.run(
        "delete from pgreact.route where name = 'dispatch'",
        "insert into pgreact.route (name, task) values ('dispatch', 'x')",
    )
    new = cluster.database.value("select id from pgreact.route where name = 'dispatch'")
    assert new != dispatch
    for headers in ({"pgreact_route": new}, None):
        task_id = cluster.send("decorated", headers=headers)
        cluster.events.until(
            lambda _, task_id=task_id: (str(new), task_id, "done") in cluster.events.received
        )


def test_decorator_names_a_missing_route(cluster: Cluster, dispatch: int) -> None:
    cluster.start()
    cluster.send("misspelt", headers=None)
    said = cluster.workers[0].wait_for_log("pgreact.errors.ConfigError")
    assert 'no route "dispach"; did you mean "dispatch"?' in said
    assert cluster.runs() == []


def test_decorator_names_the_missing_schema_or_right(
    database: Database, installed: Callable[..., None]
) -> None:
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

    with FlightEvents(database) as events:
        assert add(1, b=2) == 3
        events.until(lambda received: len(received) == 2)
        assert [status for _, _, status in events.received] == ["started", "done"]
    assert (add.__name__, add.__doc__, str(inspect.signature(add))) == (
        "add",
        "Add.",
        "(a: int, *, b: int) -> int",
    )


# ---- what a task looks like --------------------------------------------------------------------------------


def test_guarded_task_keeps_signature_and_docstring() -> None:
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


def test_header_without_a_route_id_runs_nothing() -> None:
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


def test_decorator_above_app_task_is_refused() -> None:
    app = Celery("x", broker="memory://", set_as_current=False)
    with pytest.raises(TypeError, match=r"stands above @app.task"):

        @pgreact.single_flight("dispatch")
        @app.task(shared=False)
        def task() -> None:
            pass


def test_import_of_pgreact_loads_no_library() -> None:
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
