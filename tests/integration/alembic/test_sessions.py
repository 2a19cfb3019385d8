"""Jobs in the transactions of SQLAlchemy's sessions: events, savepoints, two-phase commits, poolers."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.ext.asyncio import create_async_engine as create_async
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.alembic_project import url_of
from tests.harness import Database, fresh_database, install


class Base(DeclarativeBase):
    """The base of the models."""


class User(Base):
    """A user, who gets a mail."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def users(ready: Database) -> Database:
    """A database with the users' table."""
    ready.run("create table users (id serial primary key)")
    return ready


@pytest.fixture(params=["psycopg", "psycopg2"])
def engine(users: Database, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of each synchronous driver."""
    found = create_engine(url_of(users, request.param))
    yield found
    found.dispose()


@pytest.fixture(params=["psycopg", "asyncpg"])
async def async_engine(users: Database, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """An engine of each asynchronous driver."""
    found = create_async(url_of(users, request.param))
    yield found
    await found.dispose()


def jobs(database: Database) -> Any:
    """Return the arguments of the jobs."""
    return database.value("select coalesce(jsonb_agg(args order by id), '[]') from pgreact.queue")


def welcome_new_users(session: Session, _context: object) -> None:
    """Enqueue a mail for each new user: a listener of ``after_flush``."""
    for user in session.new:
        if isinstance(user, User):
            pgreact.enqueue(session, "app.welcome", [user.id])


def count_them(session: Session) -> None:
    """Enqueue a job at each commit: a listener of ``before_commit``."""
    pgreact.enqueue(session, "app.count", ["committed"])


def test_listeners_of_a_session_enqueue_in_its_transaction(engine: Engine, users: Database) -> None:
    make = sessionmaker(engine)
    event.listen(make, "after_flush", welcome_new_users)
    event.listen(make, "before_commit", count_them)
    with make.begin() as session:
        session.add(User())
    assert jobs(users) == [[1], ["committed"]]
    with make() as session:
        session.add(User())
        session.flush()
        session.rollback()
    assert len(jobs(users)) == 2


async def test_listeners_of_an_asynchronous_session_enqueue_in_its_transaction(
    async_engine: AsyncEngine, users: Database
) -> None:
    async with AsyncSession(async_engine) as session:
        event.listen(session.sync_session, "after_flush", welcome_new_users)
        event.listen(session.sync_session, "before_commit", count_them)
        session.add(User())
        await session.commit()
        assert jobs(users) == [[1], ["committed"]]
        session.add(User())
        await session.flush()
        await session.rollback()
    assert len(jobs(users)) == 2


def test_listeners_of_a_class_of_sessions_serve_asynchronous_ones_too(
    engine: Engine, users: Database
) -> None:
    class Listened(Session):
        """The application's sessions: AsyncSession takes it by ``sync_session_class``."""

    event.listen(Listened, "after_flush", welcome_new_users)
    with sessionmaker(engine, class_=Listened).begin() as session:
        session.add(User())
    assert jobs(users) == [[1]]


async def test_an_asynchronous_session_takes_the_listeners_of_its_class(
    async_engine: AsyncEngine, users: Database
) -> None:
    class Listened(Session):
        """The application's sessions."""

    event.listen(Listened, "after_flush", welcome_new_users)
    async with async_sessionmaker(async_engine, sync_session_class=Listened).begin() as session:
        session.add(User())
    assert jobs(users) == [[1]]


def test_after_the_commit_a_listener_is_refused(engine: Engine, users: Database) -> None:
    with Session(engine) as session:
        event.listen(session, "after_commit", lambda session: pgreact.enqueue(session, "app.late"))
        session.add(User())
        with pytest.raises(InvalidRequestError, match="committed"):
            session.commit()
    assert jobs(users) == []


def test_savepoints_and_scoped_sessions_decide(engine: Engine, users: Database) -> None:
    scoped = scoped_session(sessionmaker(engine))
    pgreact.enqueue(scoped, "app.a", [1])
    with contextlib.suppress(ZeroDivisionError), scoped.begin_nested():
        pgreact.enqueue(scoped, "app.a", [2])
        raise ZeroDivisionError
    with scoped.begin_nested():
        pgreact.enqueue(scoped, "app.a", [3])
    scoped.commit()
    scoped.remove()
    assert jobs(users) == [[1], [3]]


async def test_asynchronous_savepoints_and_scoped_sessions_decide(
    async_engine: AsyncEngine, users: Database
) -> None:
    scoped = async_scoped_session(async_sessionmaker(async_engine), scopefunc=lambda: 1)
    await pgreact.enqueue(scoped, "app.a", [1])
    with contextlib.suppress(ZeroDivisionError):
        async with scoped.begin_nested():
            await pgreact.enqueue(scoped, "app.a", [2])
            raise ZeroDivisionError
    await scoped.commit()
    await scoped.remove()
    assert jobs(users) == [[1]]


def test_with_autocommit_a_job_is_there_at_once(engine: Engine, users: Database) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        pgreact.enqueue(connection, "app.a", [1])
        assert jobs(users) == [[1]]
        connection.rollback()
    assert jobs(users) == [[1]]


def test_a_test_in_an_outer_transaction_leaves_nothing(engine: Engine, users: Database) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            pgreact.enqueue(session, "app.a")
            session.commit()
        assert connection.execute(text("select count(*) from pgreact.queue")).scalar() == 1
        outer.rollback()
    assert jobs(users) == []


@pytest.mark.parametrize(
    ("driver", "arguments"),
    [
        ("psycopg", {"prepare_threshold": None}),
        (
            "asyncpg",
            {
                "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
            },
        ),
    ],
)
async def test_behind_a_pooler_in_transaction_mode(
    users: Database, driver: str, arguments: dict[str, Any]
) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(users.dsn, default_pool_size="2") as bouncer:
        url = url_of(Database(bouncer.url), driver)
        engine = create_async(url, poolclass=NullPool, connect_args=arguments)
        for number in range(4):
            async with AsyncSession(engine) as session, session.begin():
                await pgreact.enqueue(session, "app.a", [number])
        await engine.dispose()
    assert jobs(users) == [[0], [1], [2], [3]]


def test_a_two_phase_commit_needs_a_closed_gate_or_mute(own_postgres: EmbeddedPostgres) -> None:
    with fresh_database(own_postgres) as database:
        install(database, {})
        database.run("alter system set max_prepared_transactions = 5")
        own_postgres.restart()
        engine = create_engine(url_of(database), poolclass=NullPool)
        make = sessionmaker(engine, twophase=True)
        session = make()
        pgreact.enqueue(session, "app.a", [1])
        # SQLAlchemy's own: it rolls back what could not be prepared
        with pytest.raises(DBAPIError, match="prepared transaction with identifier") as caught:
            session.commit()
        assert "cannot PREPARE a transaction that has executed" in str(caught.value.__context__.__context__)
        session.close()
        assert jobs(database) == []
        with make.begin() as session:
            pgreact.mute(session)  # a sweep finds the job
            pgreact.enqueue(session, "app.a", [2])
        database.run("update pgreact.route set gate = 'closed' where name = 'pgreact.queue'")
        with make.begin() as session:
            pgreact.enqueue(session, "app.a", [3])
        assert jobs(database) == [[2], [3]]
        engine.dispose()
