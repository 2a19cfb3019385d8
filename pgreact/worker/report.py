"""The report of a worker about itself: a remote-control command that ``pgreact doctor`` sends to all workers.

It runs in the worker's main process, whose loop it must not hold up: a thread asks PostgreSQL, and the report
waits for its answer :data:`WAIT` seconds at most.
"""

import importlib.metadata
import platform
import threading
import time
from typing import Any

import celery
import psycopg
from celery.worker.control import inspect_command

from pgreact.errors import NotGuarded
from pgreact.worker import counters
from pgreact.worker.database import WorkerDatabase, databases
from pgreact.worker.session import Session

COMMAND = "pgreact_report"
WAIT = 0.5  # seconds


def register() -> None:
    """Let the workers of this process answer the command."""
    inspect_command(name=COMMAND, args=[("brief", bool)])(report)


def report(state: Any, *, brief: bool = False) -> dict[str, Any]:
    """Return what this worker is and counted, what it consumes, and which database it uses; ready for JSON.

    Args:
        state: Celery's, with the worker's consumer.
        brief: Leave out all but ``pgreact`` and ``counters``, and ask no database: for the leader's metrics.

    Returns:
        ``counters`` (see :mod:`pgreact.worker.counters`), ``pgreact``, ``celery`` and ``python`` (versions),
        ``clock`` (seconds since 1970), ``setup`` (whether the application called :func:`pgreact.setup`),
        ``database`` (``id``, which is that of ``pgreact.database_id()``, ``role``, and ``error`` and
        ``refused`` if PostgreSQL did not say),
        ``queues``, ``tasks``, ``pool``, ``places`` (tasks that run at a time), ``prefetch``, ``transport``,
        and ``visibility_timeout`` of the broker.
    """
    found = {"pgreact": importlib.metadata.version("pgreact"), "counters": counters.totals()}
    if brief:
        return found
    consumer = state.consumer
    app = consumer.app
    database = databases.get(app)
    options = app.conf.broker_transport_options or {}
    controller = consumer.controller
    return {
        **found,
        "celery": celery.__version__,
        "python": platform.python_version(),
        "setup": database is not None,
        "database": None if database is None else _identity(database),
        "queues": [queue.name for queue in consumer.task_consumer.queues] if consumer.task_consumer else [],
        "tasks": sorted(app.tasks),
        "pool": type(consumer.pool).__module__.rpartition(".")[2],
        # with autoscale, the most that there may be
        "places": max(consumer.pool.num_processes, getattr(controller, "max_concurrency", None) or 0),
        "prefetch": consumer.qos.value if consumer.qos else None,
        "transport": consumer.connection.transport.driver_type,
        "visibility_timeout": options.get("visibility_timeout"),
        "clock": time.time(),
    }


_asking: dict[str, threading.Thread] = {}  # by DSN: at most one thread waits for a database


def _identity(database: WorkerDatabase) -> dict[str, Any]:
    """Return the id of the database and this worker's role there, or why PostgreSQL does not say."""
    dsn = database.dsn
    answer: dict[str, Any] = {"id": None, "role": None, "error": None, "refused": False}
    if (before := _asking.get(dsn)) is not None and before.is_alive():
        return {**answer, "error": "no answer to the question before"}
    thread = threading.Thread(target=_ask, args=(dsn, answer), name="pgreact report", daemon=True)
    _asking[dsn] = thread
    thread.start()
    thread.join(WAIT)
    return {**answer, "error": f"no answer in {WAIT:g}s"} if thread.is_alive() else answer


def _ask(dsn: str, answer: dict[str, Any]) -> None:
    session = Session(dsn)
    try:
        [(answer["role"],)] = session.fetch_all("current_role")
        [(answer["id"],)] = session.fetch_all("database_id")
    except NotGuarded as error:
        answer["error"] = str(error)
        answer["refused"] = isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)
    except Exception as error:  # noqa: BLE001 - the report says it; the worker goes on
        answer["error"] = f"{type(error).__name__}: {error}"
    finally:
        session.close()
