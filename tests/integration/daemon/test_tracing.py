"""Traces from plain SQL and Python to the task, by OpenTelemetry's SDK and its instrumentation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from tests.harness import Daemon, Database, eventually, fresh_database, install
from tests.worker import ROOT, Worker

APP = "tests.traced_app"
SPAN = "00f067aa0ba902b7"


class Traces:
    """A daemon and a worker that trace into one file."""

    def __init__(self, database: Database, broker: str, directory: Path) -> None:
        self.database = database
        self._file = directory / "spans"
        self._file.touch()
        environ = {
            "TRACE_FILE": str(self._file),
            "TASK_BROKER": broker,
            "TASK_QUEUE": f"q_{uuid4().hex[:12]}",
            "PGREACT_DSN": database.dsn,
            "PYTHONPATH": str(ROOT),
        }
        self.worker = Worker(broker, environ["TASK_QUEUE"], "solo", 1, environ, app=APP)
        self.daemon = Daemon(database.dsn, broker, cwd=directory, environ=environ, arguments=("-A", APP))

    def ready(self) -> "Traces":
        """Wait until both take work."""
        self.daemon.ready()
        self.worker.wait_for_log(" ready.", 60)
        return self

    def spans(self) -> list[dict[str, Any]]:
        """Return the spans that have ended."""
        return [json.loads(line) for line in self._file.read_text().splitlines() if line.endswith("}")]

    def wait_for(self, trace_id: str, count: int, name: str = "pgreact.start") -> list[dict[str, Any]]:
        """Return the spans of a trace once there are so many of a name, the first to begin first."""

        def found() -> list[dict[str, Any]]:
            return [span for span in self.spans() if span["context"]["trace_id"] == f"0x{trace_id}"]

        eventually(
            lambda: sum(span["name"] == name for span in found()) >= count, f"{count} {name} in {trace_id}"
        )
        return sorted(found(), key=lambda span: str(span["start_time"]))

    def stop(self) -> None:
        """End both."""
        self.daemon.kill()
        self.worker.stop()


@pytest.fixture(scope="module")
def traces(
    postgres: EmbeddedPostgres, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traces]:
    with fresh_database(postgres) as database:
        install(database, {"routes": {"refresh": {"task": f"{APP}.plain", "window": "10ms"}}})
        database.run(
            "update pgreact.queue_setting set retention = '1 day'",
            "create table orders (id int primary key, status text)",
            f"select pgreact.attach('orders', events => '{{insert}}', enqueue => '{APP}.plain')",
        )
        running = Traces(database, redis_url, tmp_path_factory.mktemp("traces"))
        try:
            yield running.ready()
        finally:
            running.stop()


def new_trace() -> str:
    return uuid4().hex


def traceparent(trace_id: str) -> str:
    return f"00-{trace_id}-{SPAN}-01"


def within(database: Database, trace_id: str, *statements: str) -> None:
    """Run statements in one transaction that continues a trace."""
    with database.connect(autocommit=False) as connection:
        connection.execute(f"set local pgreact.traceparent = '{traceparent(trace_id)}'".encode())
        for statement in statements:
            connection.execute(statement.encode())


def parent_of(span: dict[str, Any], spans: list[dict[str, Any]]) -> str:
    """Return the name of a span's parent, or its id if it is not among the spans."""
    return next(
        (other["name"] for other in spans if other["context"]["span_id"] == span["parent_id"]),
        str(span["parent_id"]),
    )


def links(span: dict[str, Any]) -> set[str]:
    return {link["context"]["trace_id"].removeprefix("0x") for link in span["links"]}


def test_trace_begun_in_plain_sql_goes_on_to_the_task(traces: Traces) -> None:
    trace_id = new_trace()
    within(traces.database, trace_id, f"select pgreact.enqueue('{APP}.plain')")
    traces.database.until("select count(*) = 1 from pgreact.history")
    spans = traces.wait_for(trace_id, 1, f"run/{APP}.plain")
    assert {span["name"]: parent_of(span, spans) for span in spans} == {
        "pgreact.publish": f"0x{SPAN}",
        f"apply_async/{APP}.plain": "pgreact.publish",
        f"run/{APP}.plain": f"apply_async/{APP}.plain",
        "pgreact.start": f"run/{APP}.plain",
    }
    publish = next(span for span in spans if span["name"] == "pgreact.publish")
    row = traces.database.value(
        "select to_jsonb(h) || jsonb_build_object('ready', to_char(h.ready_at at time zone 'UTC',"
        ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')) from pgreact.history h'
    )
    assert publish["start_time"][:-2] == row["ready"][:-2]  # a float has about 0.2 µs
    assert publish["kind"] == "SpanKind.PRODUCER"
    attributes = publish["attributes"]
    assert attributes.pop("messaging.destination.name").startswith("q_")
    assert attributes == {
        "messaging.system": "celery",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.message.id": row["task_id"],
        "celery.task_name": f"{APP}.plain",
        "pgreact.job": row["id"],
        "pgreact.lane": row["lane"],
        "pgreact.attempt": 1,
    }
    assert any(trace_id in links(span) for span in traces.spans() if span["name"] == "pgreact.claim")


def test_outbox_and_many_jobs_take_the_trace_along(traces: Traces) -> None:
    trace_id = new_trace()
    jobs = json.dumps([{"task": f"{APP}.plain"}, {"task": f"{APP}.plain"}])
    within(
        traces.database,
        trace_id,
        "insert into orders values (1, 'new')",
        f"select pgreact.enqueue_many('{jobs}')",
    )
    spans = traces.wait_for(trace_id, 3)
    assert [span["name"] for span in spans].count("pgreact.publish") == 3


def test_each_attempt_is_published_within_the_jobs_trace(traces: Traces) -> None:
    trace_id = new_trace()
    within(
        traces.database,
        trace_id,
        f"select pgreact.enqueue('{APP}.failing_once', max_attempts => 2, backoff => '0')",
    )
    spans = traces.wait_for(trace_id, 2)
    publishes = [span for span in spans if span["name"] == "pgreact.publish"]
    assert [span["attributes"]["pgreact.attempt"] for span in publishes] == [1, 2]
    assert {parent_of(span, spans) for span in publishes} == {f"0x{SPAN}"}


def test_trace_of_a_job_without_one_begins_at_its_publish(traces: Traces) -> None:
    job = traces.database.value(f"select pgreact.enqueue('{APP}.plain')")

    def roots() -> list[dict[str, Any]]:
        return [span for span in traces.spans() if span["attributes"].get("pgreact.job") == job]

    eventually(lambda: len(roots()) == 2, "published and started")
    publish, start = sorted(roots(), key=lambda span: str(span["name"]))
    assert publish["parent_id"] is None
    assert start["context"]["trace_id"] == publish["context"]["trace_id"]


def test_dispatch_of_a_route_is_linked_to_signals_that_name_their_trace(traces: Traces) -> None:
    first, second = new_trace(), new_trace()
    within(traces.database, first, "select pgreact.signal('refresh')")
    within(traces.database, second, "select pgreact.signal('refresh')")

    def dispatches() -> list[dict[str, Any]]:
        return [span for span in traces.spans() if span["attributes"].get("pgreact.route") == "refresh"]

    eventually(lambda: {first, second} <= set().union(*map(links, dispatches())), "linked to both")
    published = dispatches()[-1]
    trace_id = published["context"]["trace_id"].removeprefix("0x")
    assert published["parent_id"] is None
    assert f"run/{APP}.plain" in [span["name"] for span in traces.wait_for(trace_id, 1, f"run/{APP}.plain")]


def stored(database: Database) -> list[dict[str, str] | None]:
    with database.connect() as connection:
        rows = connection.execute("delete from pgreact.queue returning id, trace").fetchall()
    return [found for _, found in sorted(rows)]


@pytest.fixture(scope="module")
def queue(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with fresh_database(postgres) as database:
        install(database, {})
        database.run(
            "create table orders (id serial primary key)",
            "select pgreact.attach('orders', events => '{insert}', enqueue => 't')",
        )
        yield database


def test_python_takes_the_active_span_along(queue: Database) -> None:
    trace_id = new_trace()
    state = TraceState([("vendor", "value")])
    context = SpanContext(int(trace_id, 16), int(SPAN, 16), True, TraceFlags(1), state)
    token = attach(baggage.set_baggage("tenant", "blue"))
    try:
        with queue.connect() as connection:
            with use_span(NonRecordingSpan(context)):
                pgreact.enqueue(connection, "t")
                pgreact.enqueue_many(connection, ["t", "t"])
            pgreact.enqueue(connection, "t")
    finally:
        detach(token)
    carried = {"traceparent": traceparent(trace_id), "tracestate": "vendor=value", "baggage": "tenant=blue"}
    assert stored(queue) == [carried, carried, carried, None]
    assert not trace.get_current_span().get_span_context().is_valid


VALID = traceparent("0af7651916cd43dd8448eb211c80319c")


@pytest.mark.parametrize(
    "invalid",
    [
        "x",
        VALID.upper(),
        VALID[:-1],
        f"{VALID}\n",
        f"ff{VALID[2:]}",
        traceparent("0" * 32),
        VALID.replace(SPAN, "0" * 16),
        "é" * 100_000,
    ],
)
def test_invalid_trace_is_ignored(queue: Database, invalid: str) -> None:
    with queue.connect() as connection:
        connection.execute("select set_config('pgreact.traceparent', %s, false)", (invalid,))
        connection.execute("insert into orders default values")
        connection.execute("select pgreact.enqueue('t')")
        connection.execute("select pgreact.signal('pgreact.queue')")
        for given in ({"traceparent": invalid}, {"traceparent": {}}, [VALID], VALID, 1):
            connection.execute("select pgreact.enqueue('t', trace => %s)", (json.dumps(given),))
            connection.execute(
                "select pgreact.enqueue_many(%s)", (json.dumps([{"task": "t", "trace": given}]),)
            )
    assert stored(queue) == [None] * 12


def test_long_and_unprintable_parts_of_a_trace_are_left_out(queue: Database) -> None:
    with queue.connect() as connection:
        connection.execute("select set_config('pgreact.traceparent', %s, false)", (VALID,))
        for state in ("a=b", "x" * 513, "a=\x7f", "a=é", ""):
            connection.execute("select set_config('pgreact.tracestate', %s, false)", (state,))
            connection.execute("select pgreact.enqueue('t')")
        for value in ("a=b", "x" * 8193, "a\nb"):
            given = json.dumps({"traceparent": VALID, "baggage": value, "other": "x"})
            connection.execute("select pgreact.enqueue('t', trace => %s)", (given,))
    bare = {"traceparent": VALID}
    assert stored(queue) == [
        {**bare, "tracestate": "a=b"},
        *(bare,) * 4,
        {**bare, "baggage": "a=b"},
        *(bare,) * 2,
    ]


def test_schedule_fired_within_a_trace_takes_it_along(queue: Database) -> None:
    plan = [{"id": 1, "revision": 0, "state": "planned", "occurrences": ["2026-01-01T00:00:00Z"]}]
    with queue.connect() as connection:
        row = connection.execute(
            "insert into pgreact.schedule (name, task, every) values ('s', 't', '1h') returning id, revision"
        ).fetchone()
        assert row is not None
        plan[0] |= {"id": row[0], "revision": row[1]}
        connection.execute("select set_config('pgreact.traceparent', %s, false)", (VALID,))
        connection.execute("select pgreact.fire(%s)", (json.dumps(plan),))
    assert stored(queue) == [{"traceparent": VALID}]
