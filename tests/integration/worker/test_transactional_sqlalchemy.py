"""``delay()`` in the transactions of SQLAlchemy's sessions, synchronous and asynchronous."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from celery import Celery, Task, group
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from tests.harness import Database, fresh_database, install


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(scope="module")
def notes(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Database]:
    with fresh_database(postgres) as database:
        install(database, {})
        database.run("create table note (id int primary key)")
        yield database


@pytest.fixture
def database(notes: Database) -> Database:
    notes.run("truncate pgreact.queue, note")
    return notes


def url(database: Database, driver: str) -> URL:
    where = conninfo_to_dict(database.dsn)
    return URL.create(
        f"postgresql+{driver}",
        username=str(where["user"]),
        password=str(where["password"]),
        host=str(where["host"]),
        port=int(where["port"] or 5432),
        database=str(where["dbname"]),
    )


def task_of(database: Database, source: Any) -> "Task[Any, Any]":
    """Return a task of an application whose calls belong to a source's transactions."""
    app = Celery("proj", broker="memory://", set_as_current=False)
    pgreact.setup(app, database.dsn, transactional=source)

    @app.task(name="note", shared=False)
    def note(_id: int) -> None: ...

    return note  # type: ignore[return-value]


def committed(database: Database) -> list[int]:
    """Return the arguments of the committed jobs, in order."""
    with database.connect() as connection:
        return [args[0] for (args,) in connection.execute("select args from pgreact.queue order by id")]


# ---- sessions ----------------------------------------------------------------------------------------------


@pytest.fixture
def factory(database: Database) -> Iterator["sessionmaker[Session]"]:
    engine = create_engine(url(database, "psycopg"), poolclass=NullPool)
    yield sessionmaker(engine)
    engine.dispose()


def test_a_call_is_part_of_the_session_that_is_open(
    database: Database, factory: "sessionmaker[Session]"
) -> None:
    note = task_of(database, factory)
    with factory.begin() as session:
        note.delay(1)  # before any statement
        session.add(Note(id=1))
        note.delay(2)
        assert committed(database) == []
    with factory() as session:
        session.add(Note(id=2))
        note.delay(3)  # never committed
    assert committed(database) == [1, 2]
    note.delay(4)
    assert committed(database) == [1, 2, 4]


def test_a_savepoint_that_rolls_back_takes_its_calls(
    database: Database, factory: "sessionmaker[Session]"
) -> None:
    note = task_of(database, factory)
    with factory.begin() as session:
        note.delay(1)
        with contextlib.suppress(ZeroDivisionError), session.begin_nested():
            note.delay(2)
            raise ZeroDivisionError
        with session.begin_nested():
            note.delay(3)
    assert committed(database) == [1, 3]


def test_a_call_flushes_nothing(database: Database, factory: "sessionmaker[Session]") -> None:
    note = task_of(database, factory)
    with factory() as session:
        session.add(Note())  # its key is still missing
        note.delay(1)
        assert session.new


def test_the_most_recent_open_session_counts(database: Database, factory: "sessionmaker[Session]") -> None:
    note = task_of(database, factory)
    with factory() as outer:
        outer.add(Note(id=1))
        with factory.begin() as inner:
            inner.execute(text("select 1"))
            note.delay(1)
        note.delay(2)
        outer.rollback()
    assert committed(database) == [1]


def test_sessions_of_other_factories_do_not_count(
    database: Database, factory: "sessionmaker[Session]"
) -> None:
    note = task_of(database, sessionmaker(factory.kw["bind"]))
    with factory() as session:
        session.add(Note(id=1))
        note.delay(1)
    assert committed(database) == [1]


def test_a_session_begun_in_another_context_counts_once_it_is_used(
    database: Database, factory: "sessionmaker[Session]"
) -> None:
    note = task_of(database, factory)
    session = factory()
    copy_context().run(session.begin)  # as a framework's dependency does, in another thread
    session.add(Note(id=1))
    note.delay(1)
    session.rollback()
    copy_context().run(session.begin)
    session.execute(text("select 1"))
    note.delay(2)
    session.commit()
    assert committed(database) == [2]


def test_a_listener_of_the_commit_calls_outside_of_it(
    database: Database, factory: "sessionmaker[Session]"
) -> None:
    note = task_of(database, factory)
    event.listen(factory, "after_commit", lambda _session: note.delay(9))
    with factory.begin() as session:
        session.add(Note(id=1))
        note.delay(1)
    assert sorted(committed(database)) == [1, 9]


def test_a_failed_transaction_refuses_calls(database: Database, factory: "sessionmaker[Session]") -> None:
    note = task_of(database, factory)
    with factory() as session:
        session.add(Note(id=1))
        session.flush()
        session.expunge_all()
        session.add(Note(id=1))
        with pytest.raises(DBAPIError):
            session.flush()
        with pytest.raises(PendingRollbackError):
            note.delay(1)
    assert committed(database) == []


@pytest.mark.parametrize("made_by", ["factory", "function"])
def test_a_scoped_session_is_that_of_its_scope(
    database: Database, factory: "sessionmaker[Session]", made_by: str
) -> None:
    scoped = scoped_session(factory if made_by == "factory" else lambda: factory())  # noqa: PLW0108
    note = task_of(database, scoped)
    note.delay(0)  # no session yet
    scoped.add(Note(id=1))
    note.delay(1)
    thread = threading.Thread(target=note.delay, args=(2,))  # has none
    thread.start()
    thread.join()
    assert sorted(committed(database)) == [0, 2]
    scoped.commit()
    scoped.add(Note(id=2))
    note.delay(3)
    scoped.remove()
    assert sorted(committed(database)) == [0, 1, 2]


def test_a_callable_names_the_session(database: Database, factory: "sessionmaker[Session]") -> None:
    sessions: list[Session] = []
    note = task_of(database, lambda: sessions[-1] if sessions else None)
    note.delay(0)
    with factory() as session:
        sessions.append(session)
        note.delay(1)  # it has no transaction
        assert committed(database) == [0, 1]
        session.add(Note(id=1))
        note.delay(2)
    assert committed(database) == [0, 1]


# ---- asynchronous sessions ---------------------------------------------------------------------------------

Work = Callable[["async_sessionmaker[AsyncSession]", Any], Awaitable[None]]


def run(
    database: Database, work: Work, driver: str = "psycopg", source: Callable[[Any], Any] = lambda made: made
) -> list[int]:
    """Run a coroutine with a factory of asynchronous sessions and a task; return the committed jobs."""

    async def main() -> None:
        engine: AsyncEngine = create_async_engine(url(database, driver), poolclass=NullPool)
        factory = async_sessionmaker(engine, expire_on_commit=False)
        await work(factory, task_of(database, source(factory)))
        await engine.dispose()

    asyncio.run(main())
    return committed(database)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_calls_in_coroutines_are_part_of_the_transaction(database: Database, driver: str) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory.begin() as session:
            note.delay(1)  # before any statement
            session.add(Note(id=1))
            note.delay(2)
            await session.flush()
            group(note.s(3), note.s(4)).apply_async()
            assert committed(database) == []
        async with factory() as session:
            session.add(Note(id=2))
            await session.flush()
            note.delay(5)
        note.delay(6)

    assert run(database, work, driver) == [1, 2, 3, 4, 6]


def test_a_commit_without_statements_writes_the_calls(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            await session.begin()
            note.delay(1)
            await session.commit()
            note.delay(2)  # no transaction: at once
            session.add(Note(id=1))
            note.delay(3)
            await session.commit()

    assert run(database, work) == [1, 2, 3]


def test_nested_savepoints_keep_or_drop_their_calls(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory.begin() as session:
            note.delay(1)
            with contextlib.suppress(ZeroDivisionError):
                async with session.begin_nested():
                    note.delay(2)
                    async with session.begin_nested():
                        note.delay(3)
                    raise ZeroDivisionError
            async with session.begin_nested():
                note.delay(4)
                with contextlib.suppress(ZeroDivisionError):
                    async with session.begin_nested():
                        note.delay(5)
                        raise ZeroDivisionError
                note.delay(6)

    assert run(database, work) == [1, 4, 6]


def test_calls_written_in_a_savepoint_that_fails_to_commit_are_written_again(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory.begin() as session:
            await session.execute(text("insert into note values (1)"))
            note.delay(1)
            with pytest.raises(DBAPIError):  # noqa: PT012
                async with session.begin_nested():
                    session.add(Note(id=1))  # fails at the flush, after the jobs were written
                    note.delay(2)
            with pytest.raises(DBAPIError):  # noqa: PT012
                async with session.begin_nested():
                    note.delay(3)
                    session.add(Note(id=2))
                    await session.flush()
                    await session.execute(text("select 1/0"))

    assert run(database, work) == [1]


def test_a_commit_within_an_open_savepoint_writes_all_calls(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            await session.begin()
            note.delay(1)
            await session.begin_nested()
            note.delay(2)
            await session.begin_nested()
            note.delay(3)
            # registered after pgreact's own; called by the commit of each savepoint, and of the transaction
            event.listen(session.sync_session, "after_commit", once_in(session.sync_session, note))
            await session.commit()

    assert sorted(run(database, work)) == [1, 2, 3, 4, 9]


def once_in(session: Session, note: Any) -> Callable[[Session], None]:
    """Return a listener that calls a task at the first commit, of a savepoint, and at the last one."""
    calls: list[int] = []

    def listener(_session: Session) -> None:
        if not calls:
            calls.append(4)
            note.delay(4)
        elif session.get_nested_transaction() is None:
            note.delay(9)

    return listener


def test_a_failed_asynchronous_transaction_refuses_calls(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            await session.execute(text("insert into note values (1)"))
            session.add(Note(id=1))
            with pytest.raises(DBAPIError):
                await session.flush()
            with pytest.raises(InvalidRequestError, match="roll back"):
                note.delay(1)

    assert run(database, work) == []


def test_calls_of_listeners_in_a_commit_are_written(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            plain = session.sync_session
            session.add(Note(id=1))
            note.delay(1)
            # registered after pgreact's own
            event.listen(plain, "before_commit", lambda _: note.delay(2), once=True)
            event.listen(plain, "before_flush", lambda *_: note.delay(3), once=True)
            event.listen(plain, "after_flush", lambda *_: note.delay(4), once=True)
            await session.commit()

    assert sorted(run(database, work)) == [1, 2, 3, 4]


def test_calls_within_run_sync_are_written(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            session.add(Note(id=1))
            note.delay(1)
            await session.run_sync(lambda plain: plain.flush())
            await session.run_sync(lambda _plain: note.delay(2))
            await session.commit()

    assert run(database, work) == [1, 2]


def test_a_refusal_of_postgres_fails_the_commit(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        session = factory()
        session.add(Note(id=1))
        note.apply_async((1,), time_limit="x")
        with pytest.raises(DBAPIError, match='option "time_limit" is "x"'):
            await session.commit()
        await session.close()

    assert run(database, work) == []
    assert database.value("select count(*) from note") == 0


def test_a_session_that_rolls_back_can_be_used_again(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            session.add(Note(id=1))
            note.delay(1)
            await session.rollback()
            session.add(Note(id=2))
            note.delay(2)
            await session.commit()

    assert run(database, work) == [2]


def test_tasks_of_asyncio_have_their_own_sessions(database: Database) -> None:
    async def work(factory: Any, note: Any) -> None:
        async def one(number: int) -> None:
            async with factory() as session:
                session.add(Note(id=number))
                await session.flush()
                note.delay(number)
                await asyncio.sleep(0)
                await (session.commit() if number % 2 else session.rollback())

        await asyncio.gather(*(one(number) for number in range(1, 7)))

    assert sorted(run(database, work)) == [1, 3, 5]


def test_an_asynchronous_scoped_session_is_that_of_its_scope(database: Database) -> None:
    scopes: list[Any] = []

    def scoped(factory: Any) -> Any:
        scopes.append(async_scoped_session(factory, asyncio.current_task))
        return scopes[0]

    async def work(_factory: Any, note: Any) -> None:
        note.delay(0)
        scopes[0].add(Note(id=1))
        note.delay(1)
        await scopes[0].commit()
        scopes[0].add(Note(id=2))
        note.delay(2)
        await scopes[0].remove()

    assert run(database, work, source=scoped) == [0, 1]


def test_a_callable_names_an_asynchronous_session(database: Database) -> None:
    sessions: list[Any] = []

    async def work(factory: Any, note: Any) -> None:
        async with factory() as session:
            sessions.append(session)
            session.add(Note(id=1))
            note.delay(1)
            await session.commit()
            session.add(Note(id=2))
            note.delay(2)

    assert run(database, work, source=lambda _: lambda: sessions[-1] if sessions else None) == [1]
