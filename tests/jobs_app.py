"""The Celery application of the tests' jobs: each run writes a row, and waits at a gate that tests open."""

import datetime
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import psycopg
from celery import Celery, Task, chain
from celery.exceptions import Ignore, OperationalError, Reject, Retry

import pgreact
from pgreact.worker import bundle_loop
from tests.hostile import PINNED

GATE = 7002  # an advisory lock: runs wait while the test holds it
DSN = os.environ.get("TASK_DSN", "")

app = Celery("worked", broker=os.environ.get("TASK_BROKER"), backend=os.environ.get("TASK_BACKEND"))
app.conf.update(
    task_ignore_result="TASK_BACKEND" not in os.environ,
    task_default_queue=os.environ.get("TASK_QUEUE", "celery"),
    task_acks_late="TASK_LATE" in os.environ,
    worker_send_task_events="TASK_EVENTS" in os.environ,
    task_time_limit=float(os.environ["TASK_TIME_LIMIT"]) if "TASK_TIME_LIMIT" in os.environ else None,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)
if "TASK_BARE" not in os.environ:
    pgreact.setup(app)
    # a busy machine would make brief jobs look slow
    bundle_loop.SLOW = float(os.environ.get("TASK_SLOW", "1"))


def work(name: str, request: Any = None) -> None:
    """Record that a body began, wait for the gate, record that it ended."""
    task_id = request.id if request else None
    # not on the server of the queue, if that is restarted meanwhile
    with psycopg.connect(DSN, autocommit=True, options=PINNED) as connection:
        number = connection.execute(
            "insert into runs (name, task_id, claim, pid) values (%s, %s, %s, %s) returning id",
            (name, task_id, getattr(request, "pgreact_claim", None), os.getpid()),
        ).fetchone()
        connection.execute("select pg_advisory_lock_shared(%s)", (GATE,))
        connection.execute("update runs set ended = clock_timestamp() where id = %s", number)


@app.task
def noop(*_: Any) -> None:
    """Do nothing."""


@app.task(bind=True)
def plain(self: "Task[Any, Any]", name: str = "plain", *, note: str = "") -> str:
    """A bound task."""
    work(name, self.request)
    return f"result of {name}{note}"


@app.task(bind=True)
def brief(self: "Task[Any, Any]", name: str = "brief", how: str = "") -> str:
    """A short task that waits at the gate, fails, or ends its process, if it is told."""
    if how == "wait":
        work(name, self.request)
    else:
        with psycopg.connect(DSN, autocommit=True, options=PINNED) as connection:
            connection.execute(
                "insert into runs (name, task_id, claim, pid, ended) "
                "values (%s, %s, %s, %s, clock_timestamp())",
                (name, self.request.id, getattr(self.request, "pgreact_claim", None), os.getpid()),
            )
    if how == "fail":
        raise RuntimeError("as told")
    if how == "exit":
        sys.exit(3)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"result of {name}"


_kept: dict[int, psycopg.Connection[Any]] = {}  # by process


@app.task(bind=True)
def quick(self: "Task[Any, Any]") -> None:
    """A task of a millisecond: its process keeps the connection."""
    if os.getpid() not in _kept:
        _kept[os.getpid()] = psycopg.connect(DSN, autocommit=True, options=PINNED)
    _kept[os.getpid()].execute(
        "insert into runs (name, task_id, claim, pid, ended) values ('quick', %s, %s, %s, clock_timestamp())",
        (self.request.id, getattr(self.request, "pgreact_claim", None), os.getpid()),
    )


@app.task(bind=True)
def moving(self: "Task[Any, Any]", queue: str) -> None:
    """A task that is replaced by one in another queue."""
    work("moving", self.request)
    raise self.replace(plain.si("moved").set(queue=queue))


@app.task
def failing(message: str = "as told") -> None:
    """A task that fails."""
    work("failing")
    raise RuntimeError(message)


@app.task
def strange() -> None:
    """A task whose error PostgreSQL cannot store as it is."""
    raise RuntimeError("zero \0 half \udc80 euro € " + "x" * 20000)


@app.task(autoretry_for=(RuntimeError,), retry_kwargs={"countdown": 0, "max_retries": 2}, bind=True)
def trying(self: "Task[Any, Any]", until: int = 1) -> None:
    """A task that fails at first."""
    work("trying", self.request)
    if self.request.retries < until:
        raise RuntimeError("as told")


@app.task(bind=True)
def later(self: "Task[Any, Any]", countdown: float | None = None, eta: float | None = None) -> None:
    """A task that retries by itself."""
    work("later", self.request)
    if self.request.retries == 0:
        when = eta and datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=eta)
        raise self.retry(countdown=countdown, eta=when)


@app.task(bind=True)
def changing(self: "Task[Any, Any]", value: Any = 0, *, strange: bool = False, throw: bool = True) -> None:
    """A task that retries with another argument."""
    work(f"changing {value}", self.request)
    if self.request.retries == 0:
        self.retry(args=[object() if strange else value + 1], countdown=0, throw=throw)


@app.task
def raising() -> None:
    """A task that raises Retry without task.retry()."""
    raise Retry("by hand")


@app.task
def ignoring() -> None:
    """A task that raises Ignore."""
    raise Ignore


@app.task(bind=True)
def rejecting(self: "Task[Any, Any]", *, requeue: bool = False, broker: bool = False) -> None:
    """A task that rejects its message, once, or as task.retry() does when the broker is away."""
    if broker:
        raise Reject(OperationalError("as told"))
    with psycopg.connect(DSN, options=PINNED) as connection:
        rejected = connection.execute("select 1 from runs where task_id = %s", (self.request.id,)).fetchone()
    work("rejecting", self.request)
    if not (requeue and rejected):
        raise Reject("as told", requeue=requeue)


@app.task(soft_time_limit=1)
def soft() -> None:
    """A task that takes too long."""
    work("soft")


@app.task(time_limit=1)
def hard() -> None:
    """A task that takes far too long."""
    work("hard")


@app.task
def leaving() -> None:
    """A task that ends its process."""
    work("leaving")
    sys.exit(3)


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def again(self: "Task[Any, Any]") -> None:
    """A task whose message comes back when its process dies."""
    work("again", self.request)


@app.task(bind=True)
def nested(self: "Task[Any, Any]", depth: int = 2) -> None:
    """A task that runs itself, calls another, and sends a third."""
    work("nested", self.request)
    if depth:
        self.run(depth - 1)
    else:
        plain("called")
        plain.delay("sent")


@app.task(typing=False)
def loose(a: int) -> None:
    """A task with typing off: Celery checks no arguments."""
    work(f"loose {a}")


@app.task(bind=True)
def replacing(self: "Task[Any, Any]", *tasks: str, chained: bool = False) -> None:
    """A task that is replaced by others, one after the other, or by a chain."""
    work("replacing", self.request)
    first, *rest = (app.signature(f"tests.jobs_app.{task}", immutable=True) for task in tasks)
    if chained:
        raise self.replace(chain(first, *rest))
    raise self.replace(replacing.si(*tasks[1:]) if rest and tasks[0] == "replacing" else first)


@app.task
async def asynchronous() -> None:
    """A task that Celery does not run."""


@app.task
def generating() -> Iterator[int]:
    """Another task that Celery does not run."""
    yield 1


@app.task
def deferring() -> Coroutine[Any, Any, None]:
    """A task that returns a coroutine."""

    async def later() -> None: ...

    return later()


class Hooked(Task):  # type: ignore[type-arg]
    """A base class that fails before each run."""

    def before_start(self, *_: Any) -> None:
        """Fail."""
        raise RuntimeError("not even begun")


@app.task(base=Hooked)
def hooked() -> None:
    """A task that is never reached."""
    work("hooked")
