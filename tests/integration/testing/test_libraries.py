"""The helpers work in the transaction of a test that SQLAlchemy or psycopg2 has begun."""

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import pgreact
from pgreact.testing import assert_enqueued, drain, enqueued, freeze, use
from pgreact.testing.binding import bind
from pgreact.testing.connection import moment
from tests import testing_app as tasks
from tests.harness import Database

START = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def url(database: Database, driver: str) -> str:
    where = conninfo_to_dict(database.dsn)
    return f"postgresql+{driver}://{where['user']}:{where['password']}@{where['host']}:{where['port']}/{where['dbname']}"


@dataclasses.dataclass
class Writing:
    """A session with psycopg's way to pass parameters, for the tasks."""

    session: Any

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> Any:
        names = {f"p{n}": value for n, value in enumerate(parameters)}
        for name in names:
            statement = statement.replace("%s", f":{name}", 1)
        return self.session.execute(text(statement), names)


@pytest.fixture(params=["psycopg", "psycopg2"])
def session(request: pytest.FixtureRequest, prepared: Database) -> Iterator[Session]:
    """A session that joins an outer transaction, as SQLAlchemy's documentation has it for test suites."""
    engine = sqlalchemy.create_engine(url(prepared, request.param), poolclass=NullPool)
    with engine.connect() as opened:
        outer = opened.begin()
        with Session(opened, join_transaction_mode="create_savepoint") as joined:
            tasks.connections.append(Writing(joined))
            yield joined
            tasks.connections.pop()
        outer.rollback()
    engine.dispose()


def scenario(given: Any, writing: Any) -> None:
    """Run a job that succeeds, one that fails in SQL, and a delayed one."""
    with use(given, tasks.app), freeze(START) as clock:
        pgreact.enqueue(given, tasks.note, ["colon: 'a':b %s"])
        pgreact.enqueue(given, tasks.fail_in_sql)
        pgreact.enqueue(given, tasks.note, ["later"], run_at=60)
        done, failed = drain(raise_errors=False)
        assert (done.result, failed.outcome) == ("COLON: 'A':B %S", "dead")
        assert_enqueued(tasks.note, args=["later"], run_at=START + datetime.timedelta(minutes=1))
        clock.move(60)
        drain()
        assert enqueued() == []
    rows = writing.execute("select text from public.written order by id").fetchall()
    assert [row[0] for row in rows] == ["colon: 'a':b %s", "later"]


def test_a_session_of_sqlalchemy(session: Session) -> None:
    scenario(session, Writing(session))


def test_a_task_may_commit_the_session_of_the_test(session: Session) -> None:
    job = pgreact.enqueue(session, tasks.commits)
    session.commit()
    with use(session, tasks.app):
        [ran] = drain()
    assert (ran.job, ran.outcome) == (job, "done")
    assert session.execute(text("select count(*) from public.written")).scalar() == 1


def test_a_task_may_open_a_session_of_its_own_on_the_connection_of_the_test(session: Session) -> None:
    opened = session.connection()
    pgreact.enqueue(session, tasks.commits)
    with Session(opened, join_transaction_mode="create_savepoint") as own:
        tasks.connections.append(Writing(own))
        with use(opened, tasks.app):
            [ran] = drain()
        tasks.connections.pop()
    assert ran.outcome == "done"
    assert session.execute(text("select count(*) from public.written")).scalar() == 1


def test_nothing_of_a_session_is_left(prepared: Database) -> None:
    with prepared.connect() as other, use(other, tasks.app):
        assert enqueued() == []
        assert other.execute("select count(*) from public.written").fetchone() == (0,)


def test_an_asynchronous_session_of_sqlalchemy_by_run_sync(prepared: Database) -> None:
    import asyncio

    async def main() -> None:
        engine = create_async_engine(url(prepared, "asyncpg"), poolclass=NullPool)
        async with engine.connect() as opened:
            outer = await opened.begin()
            async with AsyncSession(opened, join_transaction_mode="create_savepoint") as joined:
                with pytest.raises(TypeError, match=r"await session\.run_sync"):
                    enqueued(connection=joined)

                def inside(sync: Session) -> None:
                    tasks.connections.append(Writing(sync))
                    try:
                        scenario(sync, Writing(sync))
                    finally:
                        tasks.connections.pop()

                await joined.run_sync(inside)
            await outer.rollback()
        await engine.dispose()

    asyncio.run(main())


def test_a_connection_of_psycopg2(prepared: Database) -> None:
    opened = psycopg2.connect(prepared.dsn)
    with opened.cursor() as cursor:

        class Cursor:
            def execute(self, statement: str, parameters: Any = None) -> Any:
                cursor.execute(statement, parameters)
                return cursor

        tasks.connections.append(Cursor())
        try:
            scenario(opened, Cursor())
        finally:
            tasks.connections.pop()
            opened.rollback()
            opened.close()


def test_a_committed_database_on_a_connection_in_autocommit_mode(prepared: Database) -> None:
    with prepared.connect() as opened:
        tasks.connections.append(opened)
        try:
            with use(opened, tasks.app):
                pgreact.enqueue(opened, tasks.note, ["committed"])
                pgreact.enqueue(opened, tasks.fail_in_sql)
                assert [ran.outcome for ran in drain(raise_errors=False)] == ["done", "dead"]
                assert moment(bind(opened)) < START
        finally:
            tasks.connections.pop()
        assert prepared.value("select string_agg(text, ',') from public.written") == "committed"
        prepared.run("truncate public.written", "delete from pgreact.dead")
