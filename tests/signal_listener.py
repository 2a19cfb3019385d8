"""A LISTENing session that tells which commits notified, without waiting for silence."""

from types import TracebackType
from typing import Self
from uuid import uuid4

import psycopg

from tests.harness import Database, eventually


class SignalListener:
    """A LISTENing session that reports signals by the name of their route."""

    def __init__(self, database: Database) -> None:
        self._payloads: list[str] = []
        self._connection = database.connect()
        self._connection.add_notify_handler(lambda notification: self._payloads.append(notification.payload))
        self._connection.execute("listen pgreact")

    def signalled(self) -> list[str]:
        """Return the routes signalled by the commits since the last call, sorted.

        Notifications arrive in the order of the commits, so all of these come before the mark sent here.
        """
        mark = uuid4().hex
        self._connection.execute("select pg_notify('pgreact', %s)", [mark])
        eventually(lambda: self._connection.execute("select 1") and mark in self._payloads, "the mark")
        payloads, self._payloads = self._payloads, []
        payloads.remove(mark)
        rows = self._connection.execute("select id::text, name from pgreact.route").fetchall()
        names: dict[str, str] = dict(rows)
        return sorted(names.get(payload, payload) for payload in payloads)

    def after(
        self, writer: "psycopg.Connection[tuple[object, ...]]", *statements: str
    ) -> dict[str, list[str]]:
        """Run statements, each in its own transaction; return the signalled routes by statement."""
        found = {}
        for statement in statements:
            writer.execute(statement.encode())
            found[statement] = self.signalled()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._connection.close()
