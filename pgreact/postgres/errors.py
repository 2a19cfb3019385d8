"""Classification of the errors of statements: what each belongs to, whether to retry it, how to log it.

An error belongs to the smallest thing it can belong to. A statement's error is of one of five kinds:

- ``LOST``: the session is gone or in doubt. Only this kind costs the leadership.
- ``TRANSIENT``: a conflict, a lock, a cancelled statement, a full disk. The same statement may succeed later.
- ``REFUSED``: a right, a table or a function is missing. An administrator must act.
- ``DATA``: the values of one row are wrong. The error belongs to that row, once the row is known.
- ``FAULT``: a Python exception, for example while a reply is decoded. A bug of pgreact or of a library.

All kinds but ``LOST`` are retried with growing pauses, logged once, and logged again when they end: see
``trouble``. This module imports no driver, since a worker's process loads it.
"""

import enum

from pgreact.clock import Clock
from pgreact.errors import SessionLost

ErrorKind = enum.Enum("ErrorKind", ["LOST", "TRANSIENT", "REFUSED", "DATA", "FAULT"])

# SQLSTATE or a prefix of it; the longest match counts (PostgreSQL's documentation, "PostgreSQL Error Codes").
_MEANINGS = {
    "08": ErrorKind.LOST,  # connection exceptions
    "57P": ErrorKind.LOST,  # shutdown, crash, starting up, idle_session_timeout
    "25P03": ErrorKind.LOST,  # idle_in_transaction_session_timeout
    "25P04": ErrorKind.LOST,  # transaction_timeout
    "25": ErrorKind.TRANSIENT,  # read-only: a failover that is under way
    "40": ErrorKind.TRANSIENT,  # serialization failures, deadlocks
    "53": ErrorKind.TRANSIENT,  # disk, memory, connections
    "55": ErrorKind.TRANSIENT,  # locks, objects in use
    "57": ErrorKind.TRANSIENT,  # cancelled
    "58": ErrorKind.TRANSIENT,  # the server's file system
    "F0": ErrorKind.TRANSIENT,
    "XX": ErrorKind.TRANSIENT,  # internal errors, damaged data
    "0A": ErrorKind.REFUSED,
    "28": ErrorKind.REFUSED,
    "3D": ErrorKind.REFUSED,
    "3F": ErrorKind.REFUSED,
    "42": ErrorKind.REFUSED,
    "21": ErrorKind.DATA,
    "22": ErrorKind.DATA,
    "23": ErrorKind.DATA,
    "44": ErrorKind.DATA,
    "54": ErrorKind.DATA,
    "P0": ErrorKind.DATA,  # raised by pgreact's functions
}
_PAUSES = {  # seconds: before the first retry, and at most
    ErrorKind.LOST: (0.1, 5.0),
    ErrorKind.TRANSIENT: (0.1, 5.0),
    ErrorKind.REFUSED: (1.0, 30.0),
    ErrorKind.DATA: (1.0, 30.0),
    ErrorKind.FAULT: (1.0, 30.0),
}


def classify(error: BaseException) -> ErrorKind:
    """Return the kind of a statement's error.

    Args:
        error: An exception of asyncpg, psycopg or Python.
    """
    if isinstance(error, SessionLost | OSError):  # a TimeoutError, too
        return ErrorKind.LOST
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        for length in (5, 3, 2):
            if found := _MEANINGS.get(state[:length]):
                return found
        return ErrorKind.FAULT
    # raised by a driver without the server: the connection broke, or its state does not allow the call
    own = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    return ErrorKind.LOST if own & _BROKEN else ErrorKind.FAULT


_BROKEN = {
    "psycopg.OperationalError",
    "psycopg.InterfaceError",
    "asyncpg.exceptions._base.InterfaceError",
    "asyncpg.exceptions._base.InternalClientError",
}


def retry_delay(clock: Clock, what: ErrorKind, failures: int) -> float:
    """Return the seconds until the next attempt.

    Args:
        clock: Adds jitter, so that several processes do not retry at once.
        what: The kind of the last error.
        failures: Failures in a row, this one included.
    """
    base, cap = _PAUSES[what]
    return clock.backoff(failures, base=base, cap=cap)


def describe(error: BaseException) -> str:
    """Return the first line of an error's message, without detail and hint."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        text
        if hasattr(error, "sqlstate") or isinstance(error, OSError)
        else f"{type(error).__name__}: {text}"
    )


def remedy(error: BaseException) -> str:
    """Return the remedy for an error, to append to :func:`describe`; an empty text if none is known."""
    state = getattr(error, "sqlstate", None) or ""
    if state == "42501":
        return "; let the owner run: select pgreact.grant_role('<this role>', 'daemon')"
    if state in {"3F000", "42P01", "42883", "42703"}:
        return '; run "pgreact apply" on this database'
    return ""


def ascii_escaped(text: str) -> str:
    """Return a text with escapes for all that is not ASCII, which a database of any encoding can store."""
    return text.replace("\0", "\\x00").encode("ascii", "backslashreplace").decode()
