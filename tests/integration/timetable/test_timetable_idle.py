"""An idle engine runs one statement for each look at the timetable, and none else."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from pgreact.broker.job_publisher import JobMessage, PublishResult
from pgreact.clock import Clock
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.timetable import engine
from pgreact.timetable.engine import Timetable
from tests.harness import DEADLINE, Database

LOOKS = 20


class Broker:
    """A broker that takes each message."""

    async def post(self, messages: Sequence[JobMessage]) -> PublishResult:
        return PublishResult(sent=[*messages])


@pytest.mark.parametrize("delivery", ["queue", "direct"])
async def test_an_idle_look_of_a_session_is_one_statement(
    database: Database, installed: Any, monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    installed(database)
    database.run(
        "insert into pgreact.schedule (name, task, every, delivery) "
        f"select 's' || n, 't', '1 day', '{delivery}' from generate_series(1, 100) n"
    )
    monkeypatch.setattr(engine, "SLEEP_LIMIT", 0.01)
    statements: Counter[tuple[str, str]] = Counter()  # by the session's role
    looked = asyncio.Event()  # often enough, since all were planned

    class Counted(Session):
        role = ""

        @classmethod
        async def open(cls, dsn: str, role: str, **options: Any) -> "Counted":
            session = await super().open(dsn, role, **options)
            session.role = role.split()[1]
            return session

        async def fetch(self, sql: str, *args: object, **options: Any) -> list[asyncpg.Record]:
            found = await super().fetch(sql, *args, **options)
            statements[self.role, sql] += 1
            if "pgreact.fire" in sql or "maintain_schedule_history" in sql or sql == query("timetable_ahead"):
                statements.clear()
            roles = ("timetable", "messages") if delivery == "direct" else ("timetable",)
            if all(statements[role, query("timetable_next")] >= LOOKS for role in roles):
                looked.set()
            return found

    monkeypatch.setattr(engine, "Session", Counted)
    timetable = asyncio.create_task(Timetable(database.dsn, Broker(), Clock(), Troubles(Clock())).run())
    await asyncio.wait_for(looked.wait(), DEADLINE)
    timetable.cancel()
    await asyncio.wait({timetable})
    assert {sql for _, sql in statements} == {query("timetable_next")}
