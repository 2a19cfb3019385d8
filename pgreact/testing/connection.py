"""The connection of a test, of any supported library: statements and savepoints in its transaction."""

import contextlib
import datetime
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestamptzLoader

from pgreact.postgres.queries import query

Rows = list[dict[str, Any]]


class TestConnection(Protocol):
    """The methods that the helpers use of a test's connection.

    Attributes:
        in_transaction: Whether a transaction is open that ``commit`` or a rollback will end.
    """

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, statement: str) -> Rows:
        """Run one statement without parameters; return its rows by the names of their columns."""
        ...

    def savepoint(self) -> AbstractContextManager[object]:
        """Return a block whose changes are undone if an exception leaves it."""
        ...


def run(connection: TestConnection, statement: str, **values: object) -> Rows:
    """Run one statement; return its rows.

    Args:
        connection: The test's.
        statement: The name of a query under ``sql/queries``, or SQL, which has a space. Its parameters are
            written ``%(name)s``.
        **values: The parameters.
    """
    text = statement if " " in statement else query(statement)
    return connection.execute(
        re.sub(r"%\((\w+)\)s", lambda found: sql.Literal(values[found[1]]).as_string(), text)
    )


def value(connection: TestConnection, statement: str, **values: object) -> Any:
    """Run one statement; return the first column of its first row, or ``None``."""
    rows = run(connection, statement, **values)
    return next(iter(rows[0].values())) if rows else None


class _Psycopg:
    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        status = self._connection.info.transaction_status
        return not self._connection.autocommit or status is not TransactionStatus.IDLE

    def execute(self, statement: str) -> Rows:
        return _rows(psycopg.Cursor(self._connection, row_factory=tuple_row), statement)

    def savepoint(self) -> AbstractContextManager[object]:
        return self._connection.transaction()


class _Psycopg2:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return not self._connection.autocommit

    def execute(self, statement: str) -> Rows:
        return _rows(
            self._connection.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor), statement
        )

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        if not self.in_transaction:
            yield  # each statement is a transaction of its own
            return
        self.execute("savepoint pgreact_testing")
        try:
            yield
        except BaseException:
            self.execute("rollback to savepoint pgreact_testing")
            raise
        finally:
            self.execute("release savepoint pgreact_testing")


class _SQLAlchemy:
    """Also that of an ``AsyncSession`` in ``run_sync``: statements pass through SQLAlchemy to any driver."""

    def __init__(self, given: Any) -> None:
        self._given = given

    @property
    def in_transaction(self) -> bool:
        connection = self._given
        if not hasattr(connection, "get_isolation_level"):  # a session
            connection = connection.connection()
        return bool(connection.get_isolation_level() != "AUTOCOMMIT")

    def execute(self, statement: str) -> Rows:
        # a colon before a name would be a parameter
        text = sys.modules["sqlalchemy"].text(re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", statement))
        result = self._given.execute(text)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def savepoint(self) -> AbstractContextManager[object]:
        return _Nested(self._given)


class _Nested:
    """A savepoint of SQLAlchemy; a commit of the session within it has released it already."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def __enter__(self) -> None:
        self._nested = self._given.begin_nested()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._nested.is_active or kind is not None:
            if kind is None:
                self._nested.commit()
            else:
                self._nested.rollback()


def _rows(cursor: Any, statement: str) -> Rows:
    with cursor:
        if adapters := getattr(cursor, "adapters", None):
            # a connection may have its own, as Django's has without USE_TZ
            adapters.register_loader("timestamptz", TimestamptzLoader)
            cursor.execute(statement.encode())
        else:
            cursor.execute(statement)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


DRIVERS: Mapping[str, Callable[[Any], TestConnection]] = {
    "psycopg.Connection": _Psycopg,
    "psycopg2.extensions.connection": _Psycopg2,
    "sqlalchemy.engine.base.Connection": _SQLAlchemy,
    "sqlalchemy.orm.session.Session": _SQLAlchemy,
    "sqlalchemy.orm.scoping.scoped_session": _SQLAlchemy,
}


def moment(connection: TestConnection) -> datetime.datetime:
    """Return the time by the clock of queue and timetable."""
    found: datetime.datetime = value(connection, "select pgreact.clock_now()")
    return found
