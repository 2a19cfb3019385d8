"""The application of the tests of ``pgreact.testing``, whose broker does not exist."""

import os
from typing import Any

import celery
import psycopg
from celery import Celery, Task

import pgreact

app = Celery("tests.testing_app", set_as_current=False)
app.conf.update(
    broker_url=os.environ.get("TASK_BROKER", "redis://127.0.0.1:1/0"),
    broker_connection_retry_on_startup=True,
    result_backend="cache+memory://",
    task_routes={"testing.mail": {"queue": "mail"}},
    task_default_queue=os.environ.get("TASK_QUEUE", "celery"),
    worker_hijack_root_logger=False,
)
pgreact.setup(app, os.environ.get("TASK_DSN"))

connections: list[Any] = []  # that tasks write to, the last one: a test's, or the worker's own


def connection() -> Any:
    """Return what tasks write to."""
    if not connections:
        connections.append(psycopg.connect(os.environ["TASK_DSN"], autocommit=True))
    return connections[-1]


def write(text: str) -> None:
    """Write a line as a user's task writes rows."""
    connection().execute("insert into public.written (text) values (%s)", (text,))


@app.task(name="testing.note")
def note(text: str) -> str:
    write(text)
    return text.upper()


@app.task(name="testing.mail")
def mail(order: int, **_more: Any) -> int:
    write(f"mail {order}")
    return order


@app.task(name="testing.fail")
def fail(text: str = "failed") -> None:
    write(text)
    raise ValueError(text)


@app.task(name="testing.fail_in_sql")
def fail_in_sql() -> None:
    write("before")
    connection().execute("select 1 / 0")


@app.task(name="testing.retried", bind=True, max_retries=2)
def retried(self: "Task[Any, Any]", succeed_at: int, countdown: float = 60) -> str:
    write(f"try {self.request.retries}")
    if self.request.retries < succeed_at:
        raise self.retry(countdown=countdown, exc=RuntimeError("not yet"))
    return "at last"


@app.task(name="testing.flaky", bind=True, autoretry_for=(OSError,), retry_backoff=10, retry_jitter=False)
def flaky(self: "Task[Any, Any]") -> None:
    if not self.request.retries:
        raise OSError("down")


@app.task(name="testing.replaced", bind=True)
def replaced(self: "Task[Any, Any]") -> None:
    self.replace(note.si("in its place"))


@app.task(name="testing.chained")
def chained(text: str, more: str) -> str:
    write(f"{text} {more}")
    return f"{text} {more}"


@app.task(name="testing.enqueues")
def enqueues(depth: int) -> None:
    write(f"depth {depth}")
    if depth:
        pgreact.enqueue(connection(), enqueues, [depth - 1])


@app.task(name="testing.sends")
def sends(countdown: float = 0) -> None:
    note.apply_async(["sent"], countdown=countdown)


@app.task(name="testing.request", bind=True)
def request(self: "Task[Any, Any]") -> dict[str, Any]:
    found = self.request
    return {
        "id": found.id,
        "retries": found.retries,
        "eager": found.is_eager,
        "direct": found.called_directly,
        "routing_key": found.delivery_info["routing_key"],
        "hostname": found.hostname,
        "current": celery.current_task.name,
        "headers": {name: value for name, value in (found.headers or {}).items() if name == "tenant"},
    }


@app.task(name="testing.sends_failing")
def sends_failing() -> None:
    fail.delay()


@app.task(name="testing.interrupted")
def interrupted() -> None:
    raise KeyboardInterrupt


@app.task(name="testing.leave")
def leave() -> None:
    write("leaves")
    raise SystemExit(1)


@app.task(name="testing.collect")
def collect(numbers: list[int]) -> int:
    write(f"sum {sum(numbers)}")
    return sum(numbers)


@app.task(name="testing.commits")
def commits() -> None:
    write("committed")
    connection().session.commit()


@app.task(name="testing.double")
def double(number: int) -> int:
    return 2 * number
