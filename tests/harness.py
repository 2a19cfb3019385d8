"""Drivers of the tests: a database, the daemon as a process with its log, a Celery queue."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from kombu import Connection, Queue
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgreact.apply import apply
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.settings import Settings
from tests import hostile

DEADLINE = 20.0
NEVER = 0


class Late(AssertionError):
    """An awaited condition was not met in time."""


class Database:
    """A database, with helpers for statements."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @property
    def login(self) -> str:
        """The options of a role that logs in with this DSN's password: ``create role x {login}``."""
        return f"login password '{conninfo_to_dict(self.dsn)['password']}'"

    def connect(self, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
        """Open a connection, by default in autocommit mode."""
        return psycopg.connect(self.dsn, **{"autocommit": True, **hostile.own(), **options})

    def run(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, statement: str, *args: object) -> Any:
        """Return the first column of the first row."""
        with self.connect() as connection:
            row = connection.execute(statement.encode(), args or None).fetchone()
        return row[0] if row else None

    def until(self, condition: str, deadline: float = DEADLINE) -> None:
        """Repeat a query on one connection until it is true."""
        with self.connect() as connection:
            eventually(
                lambda: bool((connection.execute(condition.encode()).fetchone() or [False])[0]),
                condition,
                deadline,
            )


@contextlib.contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[Database]:
    """Create a database with the defaults of this run; drop it at the end."""
    name = f"t_{uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    hostile.give(server.dsn(dbname=name))
    try:
        yield Database(server.dsn(dbname=name))
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)".encode())


def install(database: Database, configuration: dict[str, Any]) -> None:
    """Apply a configuration, given as the parsed file, to a database.

    The schema takes half a second of the server's time to make, and a tenth to copy.
    """
    if not hostile.imposed and database.value(_BARE):
        _replace_by_copy(database)
        if not configuration:
            return
    _apply(database, configuration)


# a database as "create database" makes it, that no other session uses; not the server's own
_BARE = """
select not exists (select from pg_namespace n where n.oid >= 16384)
    and not exists (select from pg_class c where c.oid >= 16384)
    and not exists (select from pg_proc p where p.oid >= 16384)
    and not exists (select from pg_publication)
    and not exists (select from pg_db_role_setting s where s.setdatabase = d.oid)
    and not exists (select from pg_event_trigger)
    and d.datacl is null and pg_get_userbyid(d.datdba) = current_user and d.datconnlimit = -1
    and d.encoding = (select t.encoding from pg_database t where t.datname = 'template1')
    and not exists (select from pg_stat_activity a where a.datid = d.oid and a.pid <> pg_backend_pid())
from pg_database d where d.datname = current_database() and d.datname <> 'postgres'
"""
_templates: dict[str, str] = {}  # by the DSN of a server's own database: a database with the schema


def _replace_by_copy(database: Database) -> None:
    """Replace an empty database by one with pgreact's schema."""
    name = conninfo_to_dict(database.dsn)["dbname"]
    server = make_conninfo(database.dsn, dbname="postgres")
    with psycopg.connect(server, autocommit=True) as admin:
        if server not in _templates:
            made = f"schema_{uuid4().hex[:12]}"
            admin.execute(f"create database {made}".encode())
            _apply(Database(make_conninfo(database.dsn, dbname=made)), {})
            _templates[server] = made
        admin.execute(f"drop database {name}".encode())
        admin.execute(f"create database {name} template {_templates[server]}".encode())


def _apply(database: Database, configuration: dict[str, Any]) -> None:
    with database.connect(options=hostile.PINNED) as connection:
        list(apply(connection, Settings.model_validate(configuration), 10.0, lambda _line: None))


def eventually(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Poll a condition that sends no event until it is true."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise Late(f"not in {deadline:g} s: {what}")
        time.sleep(0.005)


def by_way_of(url: str, port: int) -> str:
    """Return a URL or DSN with another port."""
    return re.sub(r":\d+(/|$)", f":{port}\\1", url, count=1)


class Daemon:
    """A ``pgreact listen`` process, and the events of its log."""

    def __init__(
        self,
        dsn: str | None,
        broker: str | None,
        *,
        cwd: Path,
        environ: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        level: str = "debug",
        prefix: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "pgreact"),
    ) -> None:
        given = {"PGREACT_DSN": dsn, "PGREACT_BROKER": broker}
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [
                *prefix,
                *(sys.executable, *program, *arguments),
                *("listen", "--log-format", "json", "--log-level", level),
            ],
            env={
                **os.environ,
                **{name: value for name, value in given.items() if value is not None},
                **(environ or {}),
            },
            cwd=cwd,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, name="log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                with self._news:
                    self.events.append({**event, "_heard": time.monotonic()})
                    self._news.notify_all()
                continue
            with self._news:
                self.events.append({"event": "(text)", "text": line.rstrip()})
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def seen(self, name: str, **keys: Any) -> list[dict[str, Any]]:
        """Return the events so far with a name and keys."""
        return [
            event
            for event in list(self.events)
            if event["event"] == name and all(event.get(key) == value for key, value in keys.items())
        ]

    def wait_for(self, name: str, count: int = 1, deadline: float = DEADLINE, **keys: Any) -> dict[str, Any]:
        """Wait until the log has ``count`` such events; return the last of them."""
        end = time.monotonic() + deadline
        with self._news:
            while len(found := self.seen(name, **keys)) < count:
                left = end - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    shown = "\n".join(json.dumps(event, default=str) for event in self.events[-40:])
                    raise Late(f"{count} of {name} {keys} not in {deadline:g} s; the log so far:\n{shown}")
                self._news.wait(min(left, 0.2))
        return found[count - 1]

    def ready(self) -> "Daemon":
        """Wait until the daemon leads or stands by; return it."""
        end = time.monotonic() + DEADLINE
        with self._news:
            while not (self.seen("leader.elected") or self.seen("standby.waiting")):
                if time.monotonic() > end or (
                    self.process.poll() is not None and not self._reader.is_alive()
                ):
                    raise Late(f"neither leader nor standby: {self.events}")
                self._news.wait(0.2)
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, deadline: float = 10.0) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.terminate()
        return self.exit(deadline)

    def exit(self, deadline: float = DEADLINE) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(deadline)
        self._reader.join(deadline)
        return status

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Inbox:
    """A Celery queue, consumed as by a worker."""

    def __init__(self, url: str, queue: str) -> None:
        self.url = url
        self.queue = queue
        self._connection = Connection(url)
        self._simple = self._connection.SimpleQueue(Queue(queue))

    @property
    def options(self) -> dict[str, Any]:
        """The options of a route that publishes here."""
        return {"queue": self.queue}

    def take(self, deadline: float = DEADLINE) -> Mapping[str, Any]:
        """Wait for the next message; return its headers (id, expires …) with the task's name."""
        try:
            message = self._simple.get(timeout=deadline)
        except self._simple.Empty:
            raise Late(f"no message in {self.queue} in {deadline:g} s") from None
        message.ack()
        return _called(message.headers)

    def raw(self, deadline: float = DEADLINE) -> Mapping[str, Any]:
        """Wait for the next message, and requeue it; return its headers unchanged."""
        message = self._simple.get(timeout=deadline)
        headers: Mapping[str, Any] = dict(message.headers)
        message.requeue()
        return headers

    def rest(self) -> list[Mapping[str, Any]]:
        """Take the remaining messages, once no process publishes any more."""
        left: list[Mapping[str, Any]] = []
        with contextlib.suppress(self._simple.Empty):
            while True:
                message = self._simple.get(timeout=0.3)
                message.ack()
                left.append(_called(message.headers))
        return left

    def close(self) -> None:
        """Delete the queue."""
        with contextlib.suppress(Exception):  # its broker may have been restarted
            self._simple.close()
            self._simple.queue.delete()
        with contextlib.suppress(Exception):
            self._connection.release()


def _called(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**headers, "task": headers["pgreact_task"]} if "pgreact_task" in headers else headers


def one_route(inbox: Inbox, **route: object) -> dict[str, Any]:
    """A route whose sweep does not dispatch while its table is empty, so that each call follows a commit."""
    return {
        "routes": {
            "dispatch": {
                "task": "proj.dispatch",
                "sweep": NEVER,
                "window": "50ms",
                "ready": "select exists (select from job_queue)",
                "options": inbox.options,
                "tables": [{"table": "job_queue", "on": ["insert", "update", "delete", "truncate"]}],
                **route,
            }
        }
    }
