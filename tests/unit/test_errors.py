"""The kinds of errors, and troubles."""

import asyncpg
import psycopg
import pytest

from pgreact import logs
from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres.errors import Meaning, meaning, pause
from pgreact.postgres.trouble import Troubles, persist


class _Refusal(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"refused by {sqlstate}")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("08006", Meaning.LOST),
        ("57P01", Meaning.LOST),
        ("57P05", Meaning.LOST),
        ("25P03", Meaning.LOST),
        ("25006", Meaning.PASSING),
        ("40001", Meaning.PASSING),
        ("40P01", Meaning.PASSING),
        ("53100", Meaning.PASSING),
        ("53200", Meaning.PASSING),
        ("55P03", Meaning.PASSING),
        ("57014", Meaning.PASSING),
        ("58030", Meaning.PASSING),
        ("XX000", Meaning.PASSING),
        ("42501", Meaning.REFUSED),
        ("42P01", Meaning.REFUSED),
        ("3F000", Meaning.REFUSED),
        ("22008", Meaning.DATA),
        ("23514", Meaning.DATA),
        ("54000", Meaning.DATA),
        ("P0001", Meaning.DATA),
        ("ZZ999", Meaning.FAULT),
    ],
)
def test_the_sqlstate_decides_the_kind_of_an_error(sqlstate: str, expected: Meaning) -> None:
    assert meaning(_Refusal(sqlstate)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.QueryCanceledError("canceled"), Meaning.PASSING),
        (asyncpg.AdminShutdownError("terminated"), Meaning.LOST),
        (asyncpg.InterfaceError("another operation is in progress"), Meaning.LOST),
        (asyncpg.InternalClientError("protocol"), Meaning.LOST),
        (psycopg.errors.QueryCanceled("canceled"), Meaning.PASSING),
        (psycopg.errors.AdminShutdown("terminated"), Meaning.LOST),
        (psycopg.OperationalError("the connection is lost"), Meaning.LOST),
        (psycopg.InterfaceError("the connection is closed"), Meaning.LOST),
        (SessionLost("no answer"), Meaning.LOST),
        (ConnectionResetError("reset"), Meaning.LOST),
        (TimeoutError("late"), Meaning.LOST),
        (RecursionError("too deep"), Meaning.FAULT),
        (ValueError("too many digits"), Meaning.FAULT),
    ],
)
def test_errors_of_both_drivers_and_of_python_have_a_kind(error: Exception, expected: Meaning) -> None:
    assert meaning(error) is expected


@pytest.mark.parametrize("what", list(Meaning))
def test_pauses_grow_and_are_bounded(what: Meaning) -> None:
    first = max(pause(Clock(), what, 1) for _ in range(50))
    late = [pause(Clock(), what, 40) for _ in range(50)]

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

    assert await persist(troubles["claim"], attempt) == "done"
    told = [event.kind for event in events[:-1] if isinstance(event, logs.StatementFailed)]
    assert told == ["passing", "passing", "fault"]
    assert events[-1] == logs.StatementRecovered(statement="claim", failures=4, after_s=events[-1].after_s)
    assert troubles.reports() == []


async def test_a_lost_session_is_not_retried() -> None:
    tried = 0

    async def attempt() -> None:
        nonlocal tried
        tried += 1
        raise SessionLost("gone")

    with pytest.raises(SessionLost):
        await persist(Troubles(Clock())["claim"], attempt)
    assert tried == 1
