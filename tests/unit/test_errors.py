"""The kinds of errors, and troubles."""

import asyncpg
import psycopg
import pytest

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres.errors import ErrorKind, classify, retry_delay
from pgreact.postgres.trouble import Troubles, retry


class _Refusal(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"refused by {sqlstate}")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("08006", ErrorKind.LOST),
        ("57P01", ErrorKind.LOST),
        ("57P05", ErrorKind.LOST),
        ("25P03", ErrorKind.LOST),
        ("25006", ErrorKind.TRANSIENT),
        ("40001", ErrorKind.TRANSIENT),
        ("40P01", ErrorKind.TRANSIENT),
        ("53100", ErrorKind.TRANSIENT),
        ("53200", ErrorKind.TRANSIENT),
        ("55P03", ErrorKind.TRANSIENT),
        ("57014", ErrorKind.TRANSIENT),
        ("58030", ErrorKind.TRANSIENT),
        ("XX000", ErrorKind.TRANSIENT),
        ("42501", ErrorKind.REFUSED),
        ("42P01", ErrorKind.REFUSED),
        ("3F000", ErrorKind.REFUSED),
        ("22008", ErrorKind.DATA),
        ("23514", ErrorKind.DATA),
        ("54000", ErrorKind.DATA),
        ("P0001", ErrorKind.DATA),
        ("ZZ999", ErrorKind.FAULT),
    ],
)
def test_the_sqlstate_decides_the_kind_of_an_error(sqlstate: str, expected: ErrorKind) -> None:
    assert classify(_Refusal(sqlstate)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.QueryCanceledError("canceled"), ErrorKind.TRANSIENT),
        (asyncpg.AdminShutdownError("terminated"), ErrorKind.LOST),
        (asyncpg.InterfaceError("another operation is in progress"), ErrorKind.LOST),
        (asyncpg.InternalClientError("protocol"), ErrorKind.LOST),
        (psycopg.errors.QueryCanceled("canceled"), ErrorKind.TRANSIENT),
        (psycopg.errors.AdminShutdown("terminated"), ErrorKind.LOST),
        (psycopg.OperationalError("the connection is lost"), ErrorKind.LOST),
        (psycopg.InterfaceError("the connection is closed"), ErrorKind.LOST),
        (SessionLost("no answer"), ErrorKind.LOST),
        (ConnectionResetError("reset"), ErrorKind.LOST),
        (TimeoutError("late"), ErrorKind.LOST),
        (RecursionError("too deep"), ErrorKind.FAULT),
        (ValueError("too many digits"), ErrorKind.FAULT),
    ],
)
def test_errors_of_both_drivers_and_of_python_have_a_kind(error: Exception, expected: ErrorKind) -> None:
    assert classify(error) is expected


@pytest.mark.parametrize("what", list(ErrorKind))
def test_pauses_grow_and_are_bounded(what: ErrorKind) -> None:
    first = max(retry_delay(Clock(), what, 1) for _ in range(50))
    late = [retry_delay(Clock(), what, 40) for _ in range(50)]

    assert first < max(late) <= 30


async def test_a_trouble_is_logged_once_for_each_kind_and_when_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(_seconds: float) -> None: ...

    events: list[logs.Event] = []
    monkeypatch.setattr("asyncio.sleep", at_once)
    monkeypatch.setattr(logs, "emit", events.append)
    errors: list[Exception] = [_Refusal("40001"), _Refusal("40001"), _Refusal("53100"), ValueError("odd")]
    troubles = Troubles(Clock())

    async def attempt() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    assert await retry(troubles["claim"], attempt) == "done"
    told = [event.kind for event in events[:-1] if isinstance(event, logs.StatementFailed)]
    assert told == ["transient", "transient", "fault"]
    assert events[-1] == logs.StatementRecovered(statement="claim", failures=4, after_s=events[-1].after_s)
    assert troubles.reports() == []


async def test_a_lost_session_is_not_retried() -> None:
    tried = 0

    async def attempt() -> None:
        nonlocal tried
        tried += 1
        raise SessionLost("gone")

    with pytest.raises(SessionLost):
        await retry(Troubles(Clock())["claim"], attempt)
    assert tried == 1
