"""Takes the steps of a plan: for good, in short transactions, or for trial, in one that is rolled back."""

import random
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg
from psycopg import sql

from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres import migrations
from pgreact.postgres.change import Change, Connection, savepoint
from pgreact.quantities import short

# A DDL statement that waits for a table makes every later writer wait behind it: so it gives up soon, lets
# them pass, and tries again. Steps that are taken together hold the locks they have while they wait for more.
LOCK_TIMEOUT_MS = 200
LEAST_LOCK_TIMEOUT_MS = 50
TRIES = 5  # of a step whose lock another transaction holds, in a trial

Plan = Callable[[], list[Change]]
_LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
# classes of errors that say nothing about a step: lost, out of resources, stopped, broken
_PASSING = ("08", "53", "57", "58", "XX")


def execute(
    connection: Connection, plan: Plan, patience: float, told: Callable[[str], None]
) -> Iterator[Change]:
    """Take the steps of a plan, each group of them in a short transaction of its own.

    Args:
        connection: A session in autocommit mode.
        plan: Returns the steps that are left. It is asked before each of them, under the lock: another apply
            may have taken some.
        patience: Seconds to go on asking for a lock that somebody holds.
        told: Gets a line when it has to wait.

    Yields:
        Each step, once it is committed.

    Raises:
        ConfigError: PostgreSQL refused what the configuration says of a table.
        PgreactError: A step was refused, or a lock could not be had.
    """
    deadline = time.monotonic() + patience
    waiting_for = ""
    done: list[Change] = []
    while True:
        together: list[Change] = []
        try:
            with connection.transaction():
                connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT_MS))
                connection.execute(migrations.APPLY_LOCK)
                ahead = plan()
                if not ahead:
                    return
                together = _first(ahead)
                if done.count(together[0]) > 2:
                    raise PgreactError(
                        f"{together[0]}: done three times and still to do: something undoes it"
                    )
                _execute(connection, together)
        except (_Locked, *_LOCKED) as error:
            step = str(error) if isinstance(error, _Locked) else "another pgreact apply"
            if time.monotonic() > deadline:
                raise PgreactError(
                    f"{step}: no lock in {short(patience)}: a long transaction holds it; end that, or raise "
                    "--wait; the steps printed before are done"
                ) from error
            if waiting_for != step:
                told(f"waiting for a lock: {step}")
                waiting_for = step
            time.sleep(0.1 + 0.2 * random.random())
        else:
            done += together
            yield from together
            deadline = time.monotonic() + patience


def dry_run(connection: Connection, plan: Plan, told: Callable[[str], None]) -> list[Change]:
    """Take the steps of a plan in a transaction that is rolled back: what would fail does so here.

    What locks tables that are written all the time is undone at once, group by group, so that writers wait
    for it no longer than when it is taken for good.

    Args:
        connection: A session in autocommit mode, with the rights that taking them needs.
        plan: Returns the steps that are left.
        told: Gets a line for what could not be tried.

    Returns:
        All steps, in order; also those that can only be planned once others are taken.

    Raises:
        ConfigError: PostgreSQL refused what the configuration says of tables; one line for each group.
        PgreactError: A step was refused.
    """
    if connection.info.parameter_status("in_hot_standby") == "on":
        told("not tried: this database is a replica, where nothing can be changed")
        return plan()
    steps: list[Change] = []
    refused: list[ConfigError] = []
    try:
        with savepoint(connection):
            connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT_MS))
            connection.execute(migrations.APPLY_LOCK)
            while ahead := [step for step in plan() if step not in steps]:
                together = _first(ahead)
                steps += together
                if not any(step.tables for step in together):
                    _execute(connection, together)
                    continue
                try:
                    _try(connection, together, told)
                except ConfigError as error:
                    refused.append(error)
    except psycopg.errors.LockNotAvailable as error:
        raise PgreactError("another pgreact apply is at work: try again when it is done") from error
    except _Locked as error:
        raise PgreactError(f"{error}: cannot be tried: a long transaction holds a lock") from error
    if refused:
        raise ConfigError("\n".join(map(str, refused)))
    return steps


class _Locked(Exception):
    """Somebody else holds a lock that a step needs."""


def _first(ahead: Sequence[Change]) -> list[Change]:
    """Return the steps that are next, which are taken together."""
    first = ahead[0]
    return [
        step
        for step in ahead
        if step.statement == first.statement or (step.group is not None and step.group == first.group)
    ]


def _try(connection: Connection, together: Sequence[Change], told: Callable[[str], None]) -> None:
    for _ in range(TRIES):
        try:
            with savepoint(connection):
                _execute(connection, together)
        except _Locked as error:
            locked = error
            time.sleep(0.1 + 0.2 * random.random())
        else:
            return
    told(f"not tried: {locked}: a long transaction holds a lock")


def _execute(connection: Connection, together: Sequence[Change]) -> None:
    tables = {table for step in together for table in step.tables}
    if len(tables) > 1:
        limit = max(LEAST_LOCK_TIMEOUT_MS, LOCK_TIMEOUT_MS // len(tables))
        connection.execute(sql.SQL("set local lock_timeout = {}").format(limit))
    for statement in dict.fromkeys(step.statement for step in together):
        step = next(step for step in together if step.statement == statement)
        try:
            connection.execute(statement.encode())
        except _LOCKED as error:
            raise _Locked(str(step)) from error
        except psycopg.Error as error:
            if (error.sqlstate or "08").startswith(_PASSING):
                raise
            raise _refused(step, error) from error


def _refused(step: Change, error: psycopg.Error) -> PgreactError:
    """Return what PostgreSQL has against a step, as one line that names it."""
    said = (error.diag.message_primary or str(error)).rstrip(".")
    hint = f"; {error.diag.message_hint}".rstrip(".") if error.diag.message_hint else ""
    whole = f"; nothing of {step.group} was changed" if step.group else ""
    text = f"{step.what}: {said}{hint}{whole}"
    # what the file says of a table, rather than what this role or this database may not do
    state = error.sqlstate or ""
    wrong = step.tables and state != "42501" and state.startswith(("42", "22", "0A"))
    return ConfigError(text) if wrong else PgreactError(text)
