"""Execution of the steps of a plan: committed in short transactions, or tried in one that is rolled back."""

import random
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg
from psycopg import sql

from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres import migrations
from pgreact.postgres.change import Change, Connection, savepoint
from pgreact.quantities import format_duration

# A DDL statement that waits for a table's lock makes every later writer wait behind it. So it times out soon,
# lets the writers pass, and tries again. A group of steps holds its locks while it waits for more.
LOCK_TIMEOUT_MS = 200
LEAST_LOCK_TIMEOUT_MS = 50
DRY_RUN_ATTEMPTS = 5  # at a group whose lock another transaction holds

Plan = Callable[[], list[Change]]
_LOCK_ERRORS = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
# classes of errors that the step did not cause: connection, resources, shutdown, disk, internal
_UNRELATED = ("08", "53", "57", "58", "XX")


def execute(
    connection: Connection, plan: Plan, timeout: float, warn: Callable[[str], None]
) -> Iterator[Change]:
    """Execute the steps of a plan, each group in a short transaction of its own.

    Args:
        connection: A session in autocommit mode.
        plan: Returns the remaining steps. It is called before each group, under the lock ``apply``, since
            another apply may have executed some.
        timeout: Seconds to retry while another transaction holds a lock, for each group.
        warn: Gets a line when a lock has to be waited for.

    Yields:
        Each step, once it is committed.

    Raises:
        ConfigError: PostgreSQL refused what the configuration says of a table.
        PgreactError: A step was refused, or a lock was not free in time.
    """
    deadline = time.monotonic() + timeout
    waiting_for = ""
    done: list[Change] = []
    while True:
        group: list[Change] = []
        try:
            with connection.transaction():
                connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT_MS))
                connection.execute(migrations.APPLY_LOCK)
                remaining = plan()
                if not remaining:
                    return
                group = _next_group(remaining)
                if done.count(group[0]) > 2:
                    raise PgreactError(f"{group[0]}: done three times and still to do: something undoes it")
                _execute(connection, group)
        except (_Locked, *_LOCK_ERRORS) as error:
            step = str(error) if isinstance(error, _Locked) else "another pgreact apply"
            if time.monotonic() > deadline:
                raise PgreactError(
                    f"{step}: no lock in {format_duration(timeout)}: a long transaction holds it; "
                    "end that, or raise --wait; the steps printed before are done"
                ) from error
            if waiting_for != step:
                warn(f"waiting for a lock: {step}")
                waiting_for = step
            time.sleep(0.1 + 0.2 * random.random())
        else:
            done += group
            yield from group
            deadline = time.monotonic() + timeout


def dry_run(connection: Connection, plan: Plan, warn: Callable[[str], None]) -> list[Change]:
    """Execute the steps of a plan in a transaction that is rolled back, to find the steps that fail.

    A group that locks tables in use is rolled back at once, so that writers wait no longer than in
    :func:`execute`.

    Args:
        connection: A session in autocommit mode, with the rights that the steps need.
        plan: Returns the remaining steps.
        warn: Gets a line for each group that could not be tried.

    Returns:
        All steps, in order, with those that can only be planned once others are executed.

    Raises:
        ConfigError: PostgreSQL refused what the configuration says of tables; one line for each group.
        PgreactError: A step was refused.
    """
    if connection.info.parameter_status("in_hot_standby") == "on":
        warn("not tried: this database is a replica, which is read-only")
        return plan()
    steps: list[Change] = []
    refused: list[ConfigError] = []
    try:
        with savepoint(connection):
            connection.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT_MS))
            connection.execute(migrations.APPLY_LOCK)
            while remaining := [step for step in plan() if step not in steps]:
                group = _next_group(remaining)
                steps += group
                if not any(step.tables for step in group):
                    _execute(connection, group)
                    continue
                try:
                    _try(connection, group, warn)
                except ConfigError as error:
                    refused.append(error)
    except psycopg.errors.LockNotAvailable as error:
        raise PgreactError("another pgreact apply is running: try again when it has ended") from error
    except _Locked as error:
        raise PgreactError(f"{error}: cannot be tried: a long transaction holds a lock") from error
    if refused:
        raise ConfigError("\n".join(map(str, refused)))
    return steps


class _Locked(Exception):
    """Another transaction holds a lock that a step needs."""


def _next_group(remaining: Sequence[Change]) -> list[Change]:
    """Return the next steps that share a statement or a group."""
    first = remaining[0]
    return [
        step
        for step in remaining
        if step.statement == first.statement or (step.group is not None and step.group == first.group)
    ]


def _try(connection: Connection, group: Sequence[Change], warn: Callable[[str], None]) -> None:
    for _ in range(DRY_RUN_ATTEMPTS):
        try:
            with savepoint(connection):
                _execute(connection, group)
        except _Locked as error:
            locked = error
            time.sleep(0.1 + 0.2 * random.random())
        else:
            return
    warn(f"not tried: {locked}: a long transaction holds a lock")


def _execute(connection: Connection, group: Sequence[Change]) -> None:
    tables = {table for step in group for table in step.tables}
    if len(tables) > 1:
        limit = max(LEAST_LOCK_TIMEOUT_MS, LOCK_TIMEOUT_MS // len(tables))
        connection.execute(sql.SQL("set local lock_timeout = {}").format(limit))
    for statement in dict.fromkeys(step.statement for step in group):
        step = next(step for step in group if step.statement == statement)
        try:
            connection.execute(statement.encode())
        except _LOCK_ERRORS as error:
            raise _Locked(str(step)) from error
        except psycopg.Error as error:
            if (error.sqlstate or "08").startswith(_UNRELATED):
                raise
            raise _refused(step, error) from error


def _refused(step: Change, error: psycopg.Error) -> PgreactError:
    """Return the error for a step that PostgreSQL refused: one line, which names the step."""
    message = (error.diag.message_primary or str(error)).rstrip(".")
    hint = f"; {error.diag.message_hint}".rstrip(".") if error.diag.message_hint else ""
    whole = f"; nothing of {step.group} was changed" if step.group else ""
    text = f"{step.what}: {message}{hint}{whole}"
    # a mistake in the file, unless a right is missing or the database lacks a feature
    state = error.sqlstate or ""
    mistake = step.tables and state != "42501" and state.startswith(("42", "22", "0A"))
    return ConfigError(text) if mistake else PgreactError(text)
