"""Stop and move the database's clock: ``pgreact.clock_now()``, by which queue and timetable decide."""

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator

from psycopg import sql

from pgreact.errors import PgreactError
from pgreact.postgres.queries import clock_definition
from pgreact.testing.connection import TestConnection, moment, run, value
from pgreact.testing.database import is_for_tests
from pgreact.testing.settings import connection_or_default

_CLOCK = (
    "create or replace function pgreact.clock_now() returns timestamptz language sql volatile parallel safe"
)
_frozen: "list[FrozenClock]" = []  # by this process, the innermost last


class FrozenClock:
    """The database's clock while it stands still.

    Attributes:
        now: What it shows.
    """

    now: datetime.datetime

    def __init__(self, connection: TestConnection) -> None:
        """Change nothing yet."""
        self._connection = connection

    def move(self, by: datetime.timedelta | float) -> datetime.datetime:
        """Move it on, or back; return what it shows then.

        Args:
            by: A ``timedelta``, or seconds.
        """
        delta = by if isinstance(by, datetime.timedelta) else datetime.timedelta(seconds=by)
        return self.move_to(self.now + delta)

    def move_to(self, at: datetime.datetime | str) -> datetime.datetime:
        """Set it; return what it shows then.

        Args:
            at: A ``datetime`` with time zone, or one in ISO 8601.

        Raises:
            ValueError: It has no time zone.
        """
        self.now = _aware(at)
        shown = sql.Literal(self.now.astimezone(datetime.UTC).isoformat()).as_string()
        run(self._connection, f"{_CLOCK} return timestamptz {shown}")
        return self.now


@contextlib.contextmanager
def freeze(
    at: datetime.datetime | str | None = None, *, connection: object | None = None
) -> Iterator[FrozenClock]:
    """Stop the clock of queue and timetable in a block::

        with freeze("2026-03-29T00:59+01:00") as clock:
            enqueue(connection, remind, run_at=timedelta(hours=1))
            clock.move(timedelta(hours=1))
            drain()

    In the transaction of a test, only that transaction sees it, and its rollback undoes it. On a connection
    in autocommit mode, all sessions of the database do until the block ends; if the process is killed before,
    until the next ``freeze`` has ended, and ``pgreact doctor`` reports it. Python's clock goes on: use
    ``time-machine`` or ``freezegun`` for code that reads it.

    Args:
        at: What the clock shows: a ``datetime`` with time zone, or one in ISO 8601; ``None``: the time now.
        connection: The test's; see :func:`use`.

    Raises:
        PgreactError: This is no test: the database's name does not have the word "test", and the connection
            is not in a transaction of a running test. Or the role does not own the clock, or another session
            has stopped it.
        ValueError: ``at`` has no time zone.
    """
    bound = connection_or_default(connection)
    begin = None if at is None else _aware(at)
    _require_test(bound)
    with _locked(bound):
        clock = FrozenClock(bound)
        clock.move_to(begin or moment(bound))
        _frozen.append(clock)
        try:
            yield clock
        except BaseException:
            _frozen.remove(clock)
            # a failed statement may have ended the transaction, which undoes the change as well
            with contextlib.suppress(Exception):
                _restore(bound)
            raise
        _frozen.remove(clock)
        _restore(bound)


def frozen() -> FrozenClock | None:
    """Return the clock that this process has stopped; ``None``: none."""
    return _frozen[-1] if _frozen else None


def _restore(connection: TestConnection) -> None:
    with connection.savepoint():
        if outer := frozen():
            outer.move_to(outer.now)
        else:
            run(connection, clock_definition().rstrip(";"))


def _aware(at: datetime.datetime | str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(at) if isinstance(at, str) else at
    if found.utcoffset() is None:
        raise ValueError(
            f'{found.isoformat()} has no time zone; give it one, like "{found.isoformat()}+00:00"'
        )
    return found


def _require_test(connection: TestConnection) -> None:
    """Refuse to change the clock of a database that others may use, or that the role does not own."""
    [row] = run(connection, "testing_clock")
    if not is_for_tests(row["database"]) and not (connection.in_transaction and _is_testing()):
        raise PgreactError(
            f'freeze changes the clock of a whole database, and "{row["database"]}" seems to be none for '
            'tests: use one with the word "test" in its name, or freeze in the transaction of a running test '
            "(pytest, Django's TestCase), which is rolled back"
        )
    if not row["owned"]:
        raise PgreactError(
            f'role "{row["role"]}" cannot replace pgreact.clock_now(): connect as its owner, or run '
            f'"grant {row["owner"]} to {row["role"]}" in the database of the tests'
        )


def _is_testing() -> bool:
    if "PYTEST_CURRENT_TEST" in os.environ:
        return True
    if "django" not in sys.modules:
        return False
    from pgreact.testing import django

    return django.is_testing()


@contextlib.contextmanager
def _locked(connection: TestConnection) -> Iterator[None]:
    """Hold an advisory lock: two sessions that replaced one function would wait for each other."""
    inside = connection.in_transaction
    kind = "_xact" if inside else ""
    if not value(connection, f"select pg_try_advisory{kind}_lock(pgreact.lock_class('freeze'), 0)"):
        raise PgreactError(
            "another session has stopped the clock of this database: give each process of tests a database "
            "of its own, as pytest-xdist and Django do"
        )
    try:
        yield
    finally:
        if not inside:
            run(connection, "select pg_advisory_unlock(pgreact.lock_class('freeze'), 0)")
