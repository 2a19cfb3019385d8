"""Functions of the public API on connections of every supported library, with a real PostgreSQL."""

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import inspect
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asgiref.sync
import asyncpg
import django.core.exceptions
import django.db
import django.db.transaction
import psycopg
import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest
import sqlalchemy
import sqlalchemy.exc
from celery import Celery, chain
from kombu import Connection
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.string import StrDumperVarchar
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

import pgreact
from pgreact import Job
from pgreact.apply import apply
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.settings import Settings
from tests import django_project, servers
from tests.harness import Database

app = Celery("proj", broker="memory://", set_as_current=False)


@app.task(name="proj.add", shared=False)
def add(x: Any, y: Any = 0) -> Any:
    """Add."""
    return x + y


async def settled(answer: Any) -> Any:
    """Return an answer, awaited if it must be."""
    return await answer if inspect.isawaitable(answer) else answer


@dataclasses.dataclass
class Caller:
    """A caller of pgreact: a connection, with its transaction."""

    conn: Any
    execute: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
    errors: tuple[type[Exception], ...] = (Exception,)

    async def enqueue(self, task: Any, *args: Any, **options: Any) -> Any:
        """Enqueue, and wait if that must be."""
        return await settled(pgreact.enqueue(self.conn, task, *args, **options))

    async def enqueue_many(self, jobs: Any) -> Any:
        """Enqueue many, and wait if that must be."""
        return await settled(pgreact.enqueue_many(self.conn, jobs))


Opening = Callable[[str], contextlib.AbstractAsyncContextManager[Caller]]
OPENINGS: dict[str, Opening] = {}


def opening(*names: str) -> Callable[[Any], Any]:
    """Register how connections of a kind are opened."""

    def register(function: Any) -> Any:
        for name in names:
            OPENINGS[name] = contextlib.asynccontextmanager(
                lambda dsn, name=name: function(dsn, name) if len(names) > 1 else function(dsn)
            )
        return function

    return register


# ---- psycopg -----------------------------------------------------------------------------------------------

_PSYCOPG: dict[str, dict[str, Any]] = {
    "psycopg": {},
    "psycopg dict_row": {"row_factory": dict_row},
    "psycopg namedtuple_row": {"row_factory": namedtuple_row},
    "psycopg server-side cursor factory": {"cursor_factory": psycopg.Cursor, "prepare_threshold": 0},
    "psycopg client-side": {"cursor_factory": psycopg.ClientCursor},
    "psycopg raw": {"cursor_factory": psycopg.RawCursor},
    "psycopg adapted": {},
    "psycopg cursor": {},
    "psycopg traced": {},
}


class Traced:
    """A proxy as tracers put before a connection."""

    def __init__(self, wrapped: Any) -> None:
        object.__setattr__(self, "wrapped", wrapped)

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        """What is behind it."""
        return type(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


class AsText(psycopg.adapt.Loader):
    """A loader that a user may register: numbers as text."""

    def load(self, data: Any) -> Any:
        """Return text."""
        return bytes(data).decode()


@opening(*_PSYCOPG)
async def open_psycopg(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open one with what its user may have set."""
    with psycopg.connect(dsn, **_PSYCOPG[name]) as connection:
        if name == "psycopg adapted":
            connection.adapters.register_dumper(str, StrDumperVarchar)
            connection.adapters.register_loader("int8", AsText)
        conn: Any = {"psycopg cursor": connection.cursor, "psycopg traced": lambda: Traced(connection)}.get(
            name, lambda: connection
        )()
        yield Caller(
            conn,
            lambda statement: connection.execute(statement.encode()),
            connection.commit,
            connection.rollback,
            (psycopg.errors.UndefinedObject,),
        )


_PSYCOPG_ASYNC: dict[str, dict[str, Any]] = {
    "psycopg async": {},
    "psycopg async dict_row": {"row_factory": dict_row},
    "psycopg async raw": {"cursor_factory": psycopg.AsyncRawCursor},
    "psycopg async cursor": {},
}


@opening(*_PSYCOPG_ASYNC)
async def open_psycopg_async(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open an asynchronous one."""
    async with await psycopg.AsyncConnection.connect(dsn, **_PSYCOPG_ASYNC[name]) as connection:
        yield Caller(
            connection.cursor() if name.endswith("cursor") else connection,
            lambda statement: connection.execute(statement.encode()),
            connection.commit,
            connection.rollback,
            (psycopg.errors.UndefinedObject,),
        )


@opening("psycopg2", "psycopg2 dict", "psycopg2 cursor")
async def open_psycopg2(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open one of the library's older version."""
    factory = psycopg2.extras.RealDictCursor if name == "psycopg2 dict" else None
    connection = psycopg2.connect(dsn, cursor_factory=factory)
    with contextlib.closing(connection):
        yield Caller(
            connection.cursor() if name == "psycopg2 cursor" else connection,
            lambda statement: connection.cursor().execute(statement),
            connection.commit,
            connection.rollback,
            (psycopg2.errors.UndefinedObject,),
        )


# ---- asyncpg -----------------------------------------------------------------------------------------------


async def _asyncpg_caller(connection: Any) -> AsyncIterator[Caller]:
    """Begin at once, as asyncpg does not by itself."""
    transaction = connection.transaction()
    await transaction.start()
    yield Caller(
        connection,
        connection.execute,
        transaction.commit,
        transaction.rollback,
        (asyncpg.UndefinedObjectError,),
    )


@opening("asyncpg", "asyncpg json codec", "asyncpg without cache")
async def open_asyncpg(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open one, perhaps with codecs of its user's."""
    connection = await asyncpg.connect(dsn, **({"statement_cache_size": 0} if "cache" in name else {}))
    try:
        if name == "asyncpg json codec":
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads
                )
            await connection.set_type_codec(
                "int8", schema="pg_catalog", encoder=str, decoder=decimal.Decimal, format="text"
            )
        async for caller in _asyncpg_caller(connection):
            yield caller
    finally:
        await connection.close()


@opening("asyncpg pool")
async def open_asyncpg_pool(dsn: str) -> AsyncIterator[Caller]:
    """Take one from a pool."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        async for caller in _asyncpg_caller(connection):
            yield caller


# ---- SQLAlchemy --------------------------------------------------------------------------------------------

_SQLALCHEMY = {
    f"sqlalchemy {kind} {library}": (kind, library)
    for library in ("psycopg", "psycopg2")
    for kind in ("connection", "session", "scoped")
}
_SQLALCHEMY_ASYNC = {
    f"sqlalchemy async {kind} {library}": (kind, library)
    for library in ("psycopg", "asyncpg")
    for kind in ("connection", "session", "scoped")
}


def _url(dsn: str, library: str) -> str:
    return dsn.replace("postgresql:", f"postgresql+{library}:")


@opening(*_SQLALCHEMY)
async def open_sqlalchemy(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open a connection or a session."""
    kind, library = _SQLALCHEMY[name]
    engine = sqlalchemy.create_engine(_url(dsn, library))
    makers: dict[str, Callable[[], Any]] = {
        "connection": engine.connect,
        "session": lambda: orm.Session(engine),
        "scoped": lambda: orm.scoped_session(orm.sessionmaker(engine)),
    }
    conn = makers[kind]()
    try:
        yield Caller(
            conn,
            lambda statement: conn.execute(sqlalchemy.text(statement)),
            conn.commit,
            conn.rollback,
            (sqlalchemy.exc.ProgrammingError,),
        )
    finally:
        conn.close()
        engine.dispose()


@opening(*_SQLALCHEMY_ASYNC)
async def open_sqlalchemy_async(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open an asynchronous connection or session."""
    kind, library = _SQLALCHEMY_ASYNC[name]
    engine = sa_asyncio.create_async_engine(_url(dsn, library))
    makers: dict[str, Callable[[], Any]] = {
        "connection": engine.connect,
        "session": lambda: sa_asyncio.AsyncSession(engine),
        "scoped": lambda: sa_asyncio.async_scoped_session(
            sa_asyncio.async_sessionmaker(engine), scopefunc=lambda: None
        ),
    }
    conn = makers[kind]()
    if kind == "connection":
        await conn.start()
    try:
        yield Caller(
            conn,
            lambda statement: conn.execute(sqlalchemy.text(statement)),
            conn.commit,
            conn.rollback,
            (sqlalchemy.exc.ProgrammingError,),
        )
    finally:
        await conn.close()
        await engine.dispose()


# ---- Django ------------------------------------------------------------------------------------------------


_DJANGO = {
    "django": ("default", {}),
    "django other": ("other", {}),
    "django server-side": ("default", {"server_side_binding": True}),
}


@opening(*_DJANGO)
async def open_django(dsn: str, name: str) -> AsyncIterator[Caller]:
    """Open ``django.db.connection``, or another of ``django.db.connections``."""
    alias, options = _DJANGO[name]
    with pytest.MonkeyPatch.context() as patch, django_project.database(dsn, alias, **options) as connection:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        connection.set_autocommit(False)
        yield Caller(
            django.db.connection if alias == "default" else connection,
            lambda statement: connection.cursor().execute(statement),
            connection.commit,
            connection.rollback,
            (django.db.ProgrammingError,),
        )


def test_in_async_code_django_names_the_way(database: Database, installed: Callable[..., None]) -> None:
    installed(database)

    def order() -> None:
        with django.db.transaction.atomic():
            pgreact.enqueue(django.db.connection, "t")
        django.db.connection.close()

    async def view(connection: Any) -> None:
        calls = {"enqueue": ["t"], "enqueue_many": [["t"]], "cancel": [1], "signal": ["r"], "mute": []}
        for name, arguments in calls.items():
            with pytest.raises(django.core.exceptions.SynchronousOnlyOperation) as caught:
                getattr(pgreact, name)(connection, *arguments)
            assert f"pgreact.{name} was called with Django's connection in async code" in str(caught.value)
            assert "await sync_to_async(function)(" in str(caught.value)
        await asgiref.sync.sync_to_async(order)()

    with django_project.database(database.dsn, "default") as connection:
        asyncio.run(view(connection))
    assert database.value("select count(*) from pgreact.queue") == 1


# ---- the tests ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database with the queue, for all of these tests."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        database = Database(postgres.dsn(dbname=name))
        with database.connect() as connection:
            list(apply(connection, Settings(), 10.0, lambda _line: None))
        yield database
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def queue(prepared: Database) -> Database:
    """The same, with nothing in it."""
    prepared.run(
        "truncate pgreact.queue", "insert into pgreact.lane (name) values ('mail') on conflict do nothing"
    )
    return prepared


@pytest.fixture(params=list(OPENINGS))
async def caller(request: pytest.FixtureRequest, queue: Database) -> AsyncIterator[Caller]:
    """A caller with each kind of connection."""
    async with OPENINGS[request.param](queue.dsn) as opened:
        yield opened


def jobs(database: Database, columns: str = "id") -> list[Any]:
    """Return what is queued: one column, or a tuple of them."""
    with database.connect() as connection:
        rows = connection.execute(f"select {columns} from pgreact.queue order by id".encode()).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


async def test_a_job_is_there_with_the_callers_commit(caller: Caller, queue: Database) -> None:
    first = await caller.enqueue("proj.x", (1, "ä"), {"a": None})
    second = await caller.enqueue(add, [1], lane="default", key="k")
    assert isinstance(first, int)
    assert jobs(queue) == []
    await settled(caller.commit())
    assert jobs(queue, "id, task, args, kwargs, key") == [
        (first, "proj.x", [1, "ä"], {"a": None}, None),
        (second, "proj.add", [1], {}, "k"),
    ]


async def test_after_a_rollback_nothing_ever_was(caller: Caller, queue: Database) -> None:
    await settled(caller.execute("create table business (id int)"))
    await caller.enqueue("proj.x")
    await caller.enqueue_many(["proj.y"])
    await settled(caller.rollback())
    assert jobs(queue) == []
    assert queue.value("select to_regclass('business')") is None


async def test_many_are_one_statement_and_have_their_ids_in_order(caller: Caller, queue: Database) -> None:
    given = [Job("proj.x", (n,), priority=-n) for n in range(50)]
    ids = await caller.enqueue_many(
        [*given, {"task": "proj.y", "run_at": 60}, add.s(1), Job(add, [2]), "proj.z"]
    )
    await settled(caller.commit())
    assert ids == jobs(queue)
    assert all(isinstance(job, int) for job in ids)
    assert jobs(queue, "task")[50:] == ["proj.y", "proj.add", "proj.add", "proj.z"]
    assert jobs(queue, "args")[:52] == [[n] for n in range(50)] + [[], [1]]
    (pause,) = {
        run_at - at for task, run_at, at in jobs(queue, "task, run_at, enqueued_at") if task == "proj.y"
    }
    assert datetime.timedelta(seconds=55) < pause < datetime.timedelta(seconds=65)


async def test_a_refusal_of_postgresql_is_the_librarys_own_error(caller: Caller, queue: Database) -> None:
    for attempt in (
        lambda: caller.enqueue("proj.x", lane="mial"),
        lambda: caller.enqueue_many([{"task": "proj.x", "lane": "mial"}]),
    ):
        await settled(caller.execute("savepoint before"))
        with pytest.raises(caller.errors) as caught:
            await attempt()
        assert 'no lane "mial"' in str(caught.value)
        await settled(caller.execute("rollback to before"))
    # the transaction is the caller's, and goes on from its savepoint
    await caller.enqueue("proj.x")
    await settled(caller.commit())
    assert len(jobs(queue)) == 1


async def test_settings_of_the_session_change_nothing(caller: Caller, queue: Database) -> None:
    await settled(caller.execute("set local datestyle = 'German, DMY'"))
    await settled(caller.execute("set local intervalstyle = 'sql_standard'"))
    await settled(caller.execute("set local timezone = 'America/St_Johns'"))
    await settled(caller.execute("set local search_path = ''"))
    noon = datetime.datetime(2030, 2, 3, 12, tzinfo=datetime.UTC)
    fields: Any = {"run_at": noon, "expires": datetime.timedelta(days=1), "backoff": 1.5}
    await caller.enqueue("proj.x", **fields)
    await caller.enqueue_many([{"task": "proj.x", **fields}])
    await settled(caller.commit())
    for run_at, left, backoff in jobs(queue, "run_at, expires - enqueued_at, backoff"):
        assert run_at == noon
        assert abs(left - datetime.timedelta(days=1)) < datetime.timedelta(seconds=5)
        assert backoff == datetime.timedelta(seconds=1.5)


# ---- cancel, retry, signal, mute ---------------------------------------------------------------------------


async def test_cancel_removes_a_waiting_job_with_the_callers_commit(caller: Caller, queue: Database) -> None:
    job = queue.value("select pgreact.enqueue('proj.x')")
    assert await settled(pgreact.cancel(caller.conn, job)) == "cancelled"
    assert await settled(pgreact.cancel(caller.conn, job)) is None
    assert await settled(pgreact.cancel(caller.conn, 2**63 - 1)) is None
    assert jobs(queue) == [job]
    await settled(caller.commit())
    assert jobs(queue) == []


async def test_cancel_forbids_a_started_job_further_attempts(caller: Caller, queue: Database) -> None:
    queue.run(
        "truncate pgreact.in_progress",
        "select pgreact.enqueue('proj.x', lane => 'default')",
        "select pgreact.claim(10)",
        "select pgreact.start(id, claim_id, 0, 'w') from pgreact.in_progress",
    )
    job = queue.value("select id from pgreact.in_progress")
    assert await settled(pgreact.cancel(caller.conn, job)) == "started"
    await settled(caller.commit())
    assert queue.value("select max_lost from pgreact.in_progress") == 0


async def test_retry_lets_delayed_and_dead_jobs_run(caller: Caller, queue: Database) -> None:
    queue.run("truncate pgreact.dead")
    delayed = queue.value("select pgreact.enqueue('proj.x', run_at => now() + '1 h'::interval)")
    dead = queue.value("select pgreact.enqueue('proj.y')")
    queue.run(f"select pgreact.drop_job({dead}, 'expired', null)")
    for job in (delayed, dead):
        assert await settled(pgreact.retry(caller.conn, job)) is True
        assert await settled(pgreact.retry(caller.conn, job)) is False
    await settled(caller.commit())
    assert jobs(queue, "id, state") == [(delayed, "ready"), (dead, "ready")]


def heard(listener: psycopg.Connection[Any]) -> list[str]:
    """Return what came before a notification of our own."""
    listener.execute("select pg_notify('pgreact', 'last')")
    payloads = []
    for notification in listener.notifies(timeout=5):
        if notification.payload == "last":
            break
        payloads.append(notification.payload)
    return payloads


@pytest.mark.parametrize("muted", [False, True], ids=["", "muted"])
async def test_signal_notifies_with_the_callers_commit_unless_muted(
    caller: Caller, queue: Database, muted: bool
) -> None:
    queue.run("update pgreact.route set gate = 'open' where id = 0")
    with queue.connect() as listener:
        listener.execute("listen pgreact")
        if muted:
            assert await settled(pgreact.mute(caller.conn)) is None
        assert await settled(pgreact.signal(caller.conn, "pgreact.queue")) is None
        await caller.enqueue("proj.x")
        assert heard(listener) == []
        await settled(caller.commit())
        assert heard(listener) == ([] if muted else ["0"])


async def test_signal_of_an_unknown_route_is_the_librarys_own_error(caller: Caller) -> None:
    with pytest.raises(caller.errors, match='no route "nightly"'):
        await settled(pgreact.signal(caller.conn, "nightly"))


@pytest.mark.parametrize("function", [pgreact.cancel, pgreact.retry])
@pytest.mark.parametrize("wrong", ["42", None, True, 1.0])
def test_a_job_is_named_by_its_id(connection: Any, function: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"job is .*, not the id of a job"):
        function(connection, wrong)


def test_a_route_is_named_by_text(connection: Any) -> None:
    with pytest.raises(TypeError, match="route is None, not the name of a route"):
        pgreact.signal(connection, None)  # type: ignore[call-overload]


# ---- every parameter, once ---------------------------------------------------------------------------------


@pytest.fixture
def connection(queue: Database) -> Any:
    """A connection in autocommit mode."""
    with queue.connect() as opened:
        yield opened


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_every_parameter_arrives(queue: Database, connection: Any, many: bool) -> None:
    noon = datetime.datetime(2030, 2, 3, 12, tzinfo=datetime.UTC)
    fields: Any = {
        "lane": "mail", "priority": 7, "run_at": noon, "key": "k", "unique_key": "u",
        "unique_while": "in_progress", "max_attempts": 3, "backoff": datetime.timedelta(minutes=2),
        "expires": noon + datetime.timedelta(hours=1),
        "options": {"queue": "fast", "headers": {"a": [1]}, "expires": noon},
    }  # fmt: skip
    if many:
        (job,) = pgreact.enqueue_many(connection, [Job("proj.x", [1], {"a": 2}, **fields)])
    else:
        job = pgreact.enqueue(connection, "proj.x", [1], {"a": 2}, **fields)
    columns = (
        "id, task, args, kwargs, state, attempt, lane, priority, run_at, key, unique_key, unique_while,"
        " max_attempts, backoff, expires, options"
    )
    options = {**fields.pop("options")}
    del options["expires"]  # the argument comes first
    assert jobs(queue, columns) == [(job, "proj.x", [1], {"a": 2}, "delayed", 0, *fields.values(), options)]


def test_defaults_are_those_of_the_sql_function(queue: Database, connection: Any) -> None:
    pgreact.enqueue(connection, "proj.x")
    connection.execute("select pgreact.enqueue('proj.x')")
    columns = (
        "args, kwargs, state, lane, priority, key, unique_key, unique_while, max_attempts, backoff, expires,"
        " options"
    )
    ours, theirs = jobs(queue, columns)
    assert ours == theirs
    assert ours == (
        [], {}, "ready", None, 0, None, None, "queued", 1, datetime.timedelta(seconds=5), None, {},
    )  # fmt: skip


def test_python_names_every_parameter_of_the_sql_function(queue: Database) -> None:
    names = queue.value("select proargnames from pg_proc where oid = 'pgreact.enqueue'::regproc")
    # the trace is that of the active span
    assert set(names) == {"task", "args", "kwargs", "trace", *pgreact.JobParameters.__annotations__}


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_time_from_now_begins_with_the_call_and_by_the_servers_clock(queue: Database, many: bool) -> None:
    with queue.connect(autocommit=False) as connection:
        connection.execute("select 1")  # now() is from then on
        began = connection.execute("select clock_timestamp()").fetchone()
        if many:
            pgreact.enqueue_many(connection, [Job("proj.x", run_at=0, expires=100)])
        else:
            pgreact.enqueue(connection, "proj.x", run_at=0, expires=100)
    ((state, run_at, lasts),) = jobs(queue, "state, run_at, expires - run_at")
    assert state == "ready"
    assert began is not None
    assert began[0] <= run_at
    assert abs(lasts - datetime.timedelta(seconds=100)) < datetime.timedelta(milliseconds=50)


def test_the_id_of_a_job_with_the_same_unique_key_is_returned(queue: Database, connection: Any) -> None:
    first = pgreact.enqueue(connection, "proj.x", unique_key="u")
    assert pgreact.enqueue(connection, "proj.x", unique_key="u") == first
    assert pgreact.enqueue_many(connection, [Job("proj.x", unique_key="u"), Job("proj.x")])[0] == first
    assert len(jobs(queue)) == 2


def test_nothing_to_enqueue_is_nothing(connection: Any) -> None:
    assert pgreact.enqueue_many(connection, []) == []
    assert pgreact.enqueue_many(connection, iter([])) == []


def test_numbers_and_text_stay_what_they_are(queue: Database, connection: Any) -> None:
    values = [
        1.0,
        1e16,
        -2.5e22,
        1e300,
        5e-324,
        0.1,
        2**80,
        True,
        "\u0001\ud7ff\U0001f600\"\\'%s%(jobs)s:jobs$1",
    ]
    pgreact.enqueue(connection, "proj.x", values, {"%(jobs)s": ":x ?"})
    # as the publisher reads them
    stored = json.loads(queue.value("select args::text from pgreact.queue"))
    assert stored == values
    assert [type(value) for value in stored] == [type(value) for value in values]
    assert jobs(queue, "kwargs") == [{"%(jobs)s": ":x ?"}]


def test_a_worker_gets_what_delay_would_have_given_it(queue: Database, connection: Any) -> None:
    noon = datetime.datetime(2030, 2, 3, 12, tzinfo=datetime.UTC)
    values = [
        noon,
        noon.date(),
        noon.time(),
        uuid.uuid4(),
        decimal.Decimal("1.10"),
        b"a",
        b"\xff",
        {"at": [noon]},
    ]
    pgreact.enqueue(connection, add, [values], {"y": {"k": noon}})
    ((args, kwargs),) = jobs(queue, "args, kwargs")
    with Connection("memory://") as broker:
        inbox = broker.SimpleQueue("celery")
        app.send_task("proj.add", args=args, kwargs=kwargs)
        add.delay(values, y={"k": noon})
        ours, celerys = (inbox.get(timeout=5).decode() for _ in range(2))
        inbox.close()
    assert ours[:2] == celerys[:2] == [[values], {"y": {"k": noon}}]


def test_a_canvas_is_kept_as_it_is(queue: Database, connection: Any) -> None:
    canvas = chain(add.s(1, 2), add.s(3)).set(countdown=30)
    pgreact.enqueue(connection, canvas, lane="default", options={"queue": "canvas"})
    ((task, args, kwargs, options, later),) = jobs(
        queue, "task, args, kwargs, options, run_at - enqueued_at > '29 s'"
    )
    assert (task, args, options, later) == ("pgreact.run_canvas", [], {"queue": "canvas"}, True)
    eager = Celery("eager", set_as_current=False)
    eager.conf.update(task_always_eager=True, result_backend="cache+memory://")
    eager.task(name="proj.add", shared=False)(add.run)
    assert eager.signature(kwargs["signature"]).apply_async().get(disable_sync_subtasks=False) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"router": "mail"}}, 'no option "router"'),
        ({"max_attempts": 0}, "max_attempts is 0; it must be at least 1"),
        ({"max_attempts": 2**31}, "out of range"),
        ({"backoff": -1}, "backoff is -00:00:01; it must not be negative"),
        ({"unique_while": "queue"}, 'unique_while is "queue"'),
        ({"task": ""}, "a job needs the name of a task"),
        ({"task": "x" * 256}, "255 characters at most; this one has 256"),
        ({"args": ["x" * 2_000_000]}, "the limit is 1 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_server_refuses_invalid_jobs(
    queue: Database, connection: Any, options: Any, message: str
) -> None:
    with pytest.raises(psycopg.DatabaseError) as caught:
        pgreact.enqueue(connection, **{"task": "proj.x", **options})
    assert message in str(caught.value)
    with pytest.raises(psycopg.DatabaseError):
        pgreact.enqueue_many(connection, ["proj.x", {"task": "proj.x", **options}])
    assert jobs(queue) == []


# ---- transactions and poolers ------------------------------------------------------------------------------


async def test_a_wrong_argument_touches_no_transaction(caller: Caller, queue: Database) -> None:
    await caller.enqueue("proj.x")
    for wrong in ({"args": [object()]}, {"run_at": datetime.datetime(2030, 1, 1)}, {"key": "\0"}):  # noqa: DTZ001
        # at once, before anybody awaits
        with pytest.raises((TypeError, ValueError)):
            pgreact.enqueue(caller.conn, "proj.x", **wrong)  # type: ignore[arg-type]
    await settled(caller.commit())
    assert len(jobs(queue)) == 1


def test_djangos_atomic_block_decides(queue: Database) -> None:
    class Stop(Exception):
        pass

    with django_project.database(queue.dsn, "default"):
        with contextlib.suppress(Stop), django.db.transaction.atomic():
            pgreact.enqueue(django.db.connection, "proj.x")
            raise Stop
        with django.db.transaction.atomic():
            pgreact.enqueue(django.db.connections["default"], "proj.y")
            assert jobs(queue) == []
        assert jobs(queue, "task") == ["proj.y"]
        with django.db.connection.cursor() as cursor, pytest.raises(TypeError, match="CursorWrapper"):
            pgreact.enqueue(cursor, "proj.x")


def test_another_database_of_djangos_is_refused(queue: Database) -> None:
    with django_project.database(queue.dsn, "lite"):
        django.db.connections.databases["lite"] |= {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": ":memory:",
        }
        del django.db.connections["lite"]
        with pytest.raises(TypeError, match='Django\'s "lite", which is sqlite, not PostgreSQL'):
            pgreact.enqueue(django.db.connections["lite"], "proj.x")


def test_sqlalchemys_transactions_decide(queue: Database) -> None:
    engine = sqlalchemy.create_engine(_url(queue.dsn, "psycopg"), isolation_level="REPEATABLE READ")
    with orm.Session(engine) as session, session.begin():
        pgreact.enqueue(session, "proj.x")
        with contextlib.suppress(ValueError), session.begin_nested():
            pgreact.enqueue(session, "proj.lost")
            raise ValueError
        assert session.in_transaction()
    with engine.connect() as connection:
        for stray in (engine, connection.connection):
            with pytest.raises(TypeError, match="conn is a sqlalchemy"):
                pgreact.enqueue(stray, "proj.x")
        streaming = connection.execution_options(stream_results=True)
        pgreact.enqueue(streaming, "proj.y")
        assert len(pgreact.enqueue_many(streaming, ["proj.z"] * 2000)) == 2000
        connection.commit()
    engine.dispose()
    assert jobs(queue, "task")[:2] == ["proj.x", "proj.y"]
    assert len(jobs(queue)) == 2002


async def test_pools_and_engines_are_refused(queue: Database) -> None:
    async with asyncpg.create_pool(queue.dsn, min_size=1, max_size=1) as pool:
        with pytest.raises(TypeError, match=r"conn is a asyncpg\.pool\.Pool"):
            pgreact.enqueue(pool, "proj.x")  # type: ignore[call-overload]
    connection = psycopg2.connect(queue.dsn, async_=True)
    with contextlib.closing(connection):
        psycopg2.extras.wait_select(connection)
        with pytest.raises(TypeError, match="asynchronous connection of psycopg2"):
            pgreact.enqueue(connection, "proj.x")


@pytest.mark.parametrize(
    "name",
    [
        "psycopg",
        "psycopg2",
        "psycopg async",
        "asyncpg without cache",
        "sqlalchemy session psycopg2",
        "django",
    ],
)
async def test_behind_a_pooler_in_transaction_mode(name: str, queue: Database) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(queue.dsn, default_pool_size="2") as bouncer:
        for _ in range(3):
            async with OPENINGS[name](bouncer.url) as caller:
                if hasattr(caller.conn, "prepare_threshold"):
                    caller.conn.prepare_threshold = None
                await caller.enqueue("proj.x")
                await caller.enqueue_many(["proj.x"])
                await settled(caller.commit())
    assert len(jobs(queue)) == 6


def test_in_a_pipeline(queue: Database) -> None:
    with psycopg.connect(queue.dsn) as connection, connection.pipeline():
        first = pgreact.enqueue(connection, "proj.x")
        second = pgreact.enqueue(connection, "proj.x")
        assert second == first + 1
    assert len(jobs(queue)) == 2


def test_the_oldest_server_takes_it_too(each_database: Database, installed: Any) -> None:
    installed(each_database)
    with each_database.connect() as connection:
        job = pgreact.enqueue(connection, "proj.x", run_at=5, expires=datetime.timedelta(hours=1))
        (other,) = pgreact.enqueue_many(connection, [Job("proj.x", run_at=5, expires=10)])
    assert jobs(each_database) == [job, other]


def test_a_role_needs_no_more_than_the_functions(queue: Database) -> None:
    queue.run(
        "drop role if exists enqueuer",
        f"create role enqueuer {queue.login}",
        "grant usage on schema pgreact to enqueuer",
        "grant execute on function pgreact.enqueue, pgreact.enqueue_many, pgreact.task_id, pgreact.clock_now "
        "to enqueuer",
    )
    try:
        with queue.connect(user="enqueuer") as connection:
            pgreact.enqueue(connection, "proj.x")
            pgreact.enqueue_many(connection, ["proj.x"])
    finally:
        queue.run("drop owned by enqueuer", "drop role enqueuer")
    assert len(jobs(queue)) == 2


def test_without_the_schema_the_database_says_so(database: Database) -> None:
    with database.connect() as connection, pytest.raises(psycopg.errors.InvalidSchemaName, match="pgreact"):
        pgreact.enqueue(connection, "proj.x")
