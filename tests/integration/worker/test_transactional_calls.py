"""What the job of a call has, which calls are messages, and which are refused; without a worker."""

import datetime
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery, Task, group, shared_task
from celery.beat import Scheduler
from celery.result import EagerResult
from kombu import Queue as CeleryQueue
from psycopg.rows import dict_row

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import ConfigError
from pgreact.worker import transaction_source
from tests.harness import Database, fresh_database, install
from tests.worker import ROOT


@pytest.fixture(scope="module")
def installed_once(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Database]:
    with fresh_database(postgres) as database:
        install(database, {})
        yield database


class Caller:
    """An application whose messages are recorded, and a transaction for its calls."""

    def __init__(self, database: Database, **setup: Any) -> None:
        self.database = database
        self.current: ContextVar[Any] = ContextVar("current", default=None)
        self.sent: list[tuple[str, dict[str, Any]]] = []  # tasks, and the options of their messages
        self.app = recording(self.sent)
        setup.setdefault("transactional", self.current.get)
        pgreact.setup(self.app, database.dsn, **setup)

        @self.app.task(name="add", shared=False)
        def add(x: int, y: int = 0) -> int:
            return x + y

        self.add: Task[Any, Any] = add
        self.connection = database.connect(autocommit=False)
        self.current.set(self.connection)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of the open transaction, in order."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute("select * from pgreact.queue order by id").fetchall()

    def job(self) -> dict[str, Any]:
        (found,) = self.jobs()
        assert not self.sent
        return found


def recording(sent: list[tuple[str, dict[str, Any]]]) -> Celery:
    """Return an application that only records its messages."""
    app = Celery("proj", broker="memory://", set_as_current=False)

    def send_task_message(_producer: object, name: str, _message: object, **options: Any) -> None:
        sent.append((name, options))

    app.amqp.send_task_message = send_task_message  # type: ignore[method-assign,assignment]
    return app


@pytest.fixture
def caller(installed_once: Database) -> Iterator[Caller]:
    installed_once.run("truncate pgreact.queue")
    made = Caller(installed_once)
    yield made
    made.connection.close()


# ---- what the job has --------------------------------------------------------------------------------------


def test_a_plain_call_is_a_job_of_its_arguments_alone(caller: Caller) -> None:
    result = caller.add.delay(1, y=2)
    job = caller.job()
    assert (job["task"], job["args"], job["kwargs"], job["options"]) == ("add", [1], {"y": 2}, {})
    assert str(job["task_id"]) == result.id
    assert result.ignored is False


NOON = datetime.datetime(2031, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("given", "column", "expected"),
    [
        ({"eta": NOON}, "run_at", NOON),
        ({"eta": NOON.replace(tzinfo=None)}, "run_at", NOON),  # in the application's time zone
        ({"eta": NOON.isoformat()}, "run_at", NOON),
        ({"expires": NOON}, "expires", NOON),
        ({"expires": NOON.replace(tzinfo=None)}, "expires", NOON),
        ({"expires": NOON.isoformat()}, "expires", NOON),
        ({"queue": "mail"}, "lane", "mail"),
        ({"queue": CeleryQueue("mail")}, "lane", "mail"),
        (
            {"task_id": "6a0ee8b4-6b6c-4f0c-8c9a-1f1d2b0f5f10"},
            "task_id",
            "6a0ee8b4-6b6c-4f0c-8c9a-1f1d2b0f5f10",
        ),
        ({"priority": 3}, "options", {"priority": 3}),
        ({"routing_key": "k", "exchange": "e"}, "options", {"routing_key": "k", "exchange": "e"}),
        ({"headers": {"a": 1}}, "options", {"headers": {"a": 1}}),
        ({"time_limit": 5, "soft_time_limit": 4}, "options", {"time_limit": 5, "soft_time_limit": 4}),
        ({"ignore_result": True}, "options", {"ignore_result": True}),
        ({"shadow": "s"}, "options", {"shadow": "s"}),
        ({"compression": "zlib"}, "options", {"compression": "zlib"}),
        ({"retry": False, "retry_policy": {"max_retries": 1}}, "options", {}),
        ({"MessageGroupId": "g"}, "options", {"MessageGroupId": "g"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_of_the_call_is_kept(
    caller: Caller, given: dict[str, Any], column: str, expected: object
) -> None:
    caller.add.apply_async((1,), **given)
    found = caller.job()[column]
    assert (str(found) if column == "task_id" else found) == expected


@pytest.mark.parametrize(("given", "column"), [({"countdown": 90}, "run_at"), ({"expires": 90.0}, "expires")])
def test_seconds_count_from_the_call(caller: Caller, given: dict[str, Any], column: str) -> None:
    caller.add.apply_async((1,), **given)
    job = caller.job()
    left = (job[column] - job["enqueued_at"]).total_seconds()
    assert left == pytest.approx(90, abs=5)


def test_options_of_the_class_are_left_to_the_daemon(caller: Caller) -> None:
    @caller.app.task(shared=False, time_limit=9, ignore_result=True)
    def limited() -> None: ...

    limited.delay()
    limited.apply_async(time_limit=3)
    assert [job["options"] for job in caller.jobs()] == [{}, {"time_limit": 3}]


def test_a_task_given_by_name_is_a_job(caller: Caller) -> None:
    result = caller.app.send_task("proj.other", (1,), {"a": 2}, queue="mail")
    assert (caller.job()["task"], caller.job()["lane"], str(caller.job()["task_id"])) == (
        "proj.other",
        "mail",
        result.id,
    )


def test_positional_parameters_of_send_task_are_understood(caller: Caller) -> None:
    caller.app.send_task("proj.other", (1,), {}, 90)
    job = caller.job()
    assert (job["run_at"] - job["enqueued_at"]).total_seconds() == pytest.approx(90, abs=5)


def test_a_signature_keeps_its_options_and_id(caller: Caller) -> None:
    signature = caller.add.s(1).set(queue="mail", countdown=5)
    frozen = signature.freeze()
    assert signature.delay(2).id == frozen.id
    job = caller.job()
    assert (job["args"], job["lane"], str(job["task_id"])) == ([2, 1], "mail", frozen.id)


def test_a_lane_is_that_of_task_routes(caller: Caller) -> None:
    caller.app.conf.task_routes = {"proj.mapped": {"queue": "mapped"}}

    @caller.app.task(shared=False, name="proj.mapped")
    def mapped(x: int) -> None: ...

    mapped.map([1, 2]).apply_async()
    assert (caller.job()["task"], caller.job()["lane"]) == ("celery.map", "mapped")


def test_a_shared_task_is_a_job(caller: Caller) -> None:
    @shared_task(name=f"shared_{uuid4().hex}")
    def shared() -> None: ...

    caller.app.set_current()
    try:
        shared.delay()
    finally:
        caller.app.set_default()
        Celery("none").set_current()
    assert caller.job()["task"] == shared.name


def test_a_group_is_added_in_order(caller: Caller) -> None:
    result = group(caller.add.s(n) for n in range(3)).apply_async()
    assert [str(job["task_id"]) for job in caller.jobs()] == [child.id for child in result.children]
    assert [job["args"] for job in caller.jobs()] == [[0], [1], [2]]


def test_a_pickled_task_and_signature_call_as_before(caller: Caller) -> None:
    result = pickle.loads(pickle.dumps(caller.add.s(4).freeze() and caller.add.s(4)))  # noqa: S301
    result._app = caller.app
    result.apply_async()
    assert caller.job()["args"] == [4]


# ---- which calls are messages ------------------------------------------------------------------------------


def test_a_savepoint_that_rolls_back_takes_its_calls(caller: Caller) -> None:
    caller.add.delay(1)
    with caller.connection.transaction():
        caller.add.delay(2)
        raise psycopg.Rollback
    caller.add.delay(3)
    assert [job["args"] for job in caller.jobs()] == [[1], [3]]


@pytest.mark.parametrize("how", ["producer", "connection", "call", "task"])
def test_a_call_is_sent_directly(caller: Caller, how: str) -> None:
    @caller.app.task(shared=False, transactional=False)
    def opted_out() -> None: ...

    match how:
        case "producer":
            with caller.app.producer_pool.acquire() as producer:
                caller.add.apply_async((1,), producer=producer)
        case "connection":
            with caller.app.connection_for_write() as connection:
                caller.add.apply_async((1,), connection=connection)
        case "call":
            caller.add.apply_async((1,), transactional=False)
        case "task":
            opted_out.delay()
    assert not caller.jobs()
    ((_, options),) = caller.sent
    assert "transactional" not in options


def test_a_library_may_wrap_the_class_after_setup(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, seen = Celery.send_task, []

    def wrapped(self: Any, name: str, *given: Any, **options: Any) -> Any:
        seen.append(name)
        return inner(self, name, *given, **options)

    monkeypatch.setattr(Celery, "send_task", wrapped)
    caller.add.apply_async((1,), transactional=False)
    assert [name for name, _ in caller.sent] == seen == ["add"]


def test_a_call_overrides_its_task(caller: Caller) -> None:
    @caller.app.task(shared=False, transactional=False)
    def opted_out() -> None: ...

    opted_out.apply_async(transactional=True)
    assert len(caller.jobs()) == 1


def test_beat_sends_messages(caller: Caller) -> None:
    scheduler = Scheduler(caller.app, lazy=True)
    entry = scheduler.Entry(name="e", task="add", args=(1,), schedule=datetime.timedelta(1), app=caller.app)
    scheduler.apply_async(entry, producer=scheduler.producer)
    assert not caller.jobs()
    assert [name for name, _ in caller.sent] == ["add"]


@pytest.mark.parametrize("attribute", [True, None])
def test_a_task_opts_in_where_setup_does_not(installed_once: Database, attribute: bool | None) -> None:
    installed_once.run("truncate pgreact.queue")
    caller = Caller(installed_once, transactional=False)
    options = {} if attribute is None else {"transactional": attribute}

    @caller.app.task(shared=False, **options)
    def opted_in() -> None: ...

    source = transaction_source._Callable(caller.current.get)
    before = list(transaction_source._django)
    transaction_source.register_django(source)
    try:
        opted_in.delay()
        caller.add.delay(1)
        assert [job["task"] for job in caller.jobs()] == ([opted_in.name] if attribute else [])
        assert len(caller.sent) == (1 if attribute else 2)
    finally:
        transaction_source._django[:] = before
        caller.connection.close()


def test_an_eager_application_runs_calls_at_once(caller: Caller) -> None:
    caller.app.conf.task_always_eager = True
    result = caller.add.apply_async((1, 2), transactional=True)
    assert isinstance(result, EagerResult)
    assert result.get() == 3
    assert group(caller.add.s(1), caller.add.s(2)).apply_async(transactional=True).get() == [1, 2]
    assert not caller.jobs()


# ---- outside a transaction ---------------------------------------------------------------------------------


def test_a_call_outside_a_transaction_is_committed_at_once(caller: Caller) -> None:
    copy_context().run(lambda: (caller.current.set(None), caller.add.delay(1)))
    assert caller.database.value("select args from pgreact.queue") == [1]


def test_calls_of_threads_belong_to_their_own_transactions(caller: Caller) -> None:
    def call(number: int, *, commit: bool) -> None:
        with caller.database.connect(autocommit=False) as connection:
            caller.current.set(connection)
            caller.add.delay(number)
            if not commit:
                connection.rollback()

    threads = [
        threading.Thread(target=call, args=(number,), kwargs={"commit": number % 2 == 0})
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job["args"][0] for job in caller.jobs()) == [0, 2, 4]


def test_a_forked_process_opens_a_connection_of_its_own(caller: Caller) -> None:
    caller.current.set(None)
    caller.add.delay(0)  # opens the parent's
    child = os.fork()
    if not child:
        try:
            caller.add.delay(1)
            os._exit(0)
        except BaseException:  # noqa: BLE001
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    caller.add.delay(2)
    with caller.database.connect() as connection:
        rows = connection.execute("select args, xmin from pgreact.queue order by id").fetchall()
    assert [row[0] for row in rows] == [[0], [1], [2]]


def test_a_lost_connection_is_opened_again(caller: Caller) -> None:
    caller.current.set(None)
    caller.add.delay(0)
    caller.database.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and application_name like 'pgreact worker %' and pid <> pg_backend_pid()"
    )
    caller.add.delay(1)
    assert caller.database.value("select count(*) from pgreact.queue") == 2


def test_an_unreachable_database_is_the_drivers_error(caller: Caller) -> None:
    pgreact.setup(caller.app, "host=127.0.0.1 port=1 connect_timeout=2")
    caller.current.set(None)
    with pytest.raises(psycopg.OperationalError):
        caller.add.delay(1)


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda add: add.delay({1}), TypeError, r"args\[0\]: type set is not JSON"),
        (lambda add: add.apply_async((1,), serializer="pickle"), TypeError, 'its serializer is "pickle"'),
        (
            lambda add: add.apply_async((1,), task_id="order-7"),
            ValueError,
            "task_id is 'order-7', not a UUID",
        ),
        (lambda add: add.apply_async((1,), eta="soon"), TypeError, "eta is 'soon', not a time"),
        (lambda add: add.apply_async((1,), router=object()), TypeError, "set task_routes, or give queue"),
    ],
)
def test_a_call_that_cannot_be_a_job_is_refused_with_a_remedy(
    caller: Caller, call: Callable[[Any], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        call(caller.add)
    assert "apply_async(…, transactional=False)" in str(caught.value)
    assert not caller.jobs()  # and the transaction goes on


def test_a_task_still_checks_its_arguments(caller: Caller) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        caller.add.delay()


def test_an_option_that_no_worker_could_read_is_refused_by_postgres(caller: Caller) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='option "time_limit" is "x"'):
        caller.add.apply_async((1,), time_limit="x")


def test_a_choice_that_is_no_boolean_is_refused(caller: Caller) -> None:
    with pytest.raises(ConfigError, match="add: transactional is 'no', neither True nor False"):
        caller.add.apply_async((1,), transactional="no")


def test_an_asynchronous_connection_is_refused(caller: Caller) -> None:
    import asyncio

    async def call() -> None:
        async with await psycopg.AsyncConnection.connect(caller.database.dsn) as connection:
            caller.current.set(connection)
            with pytest.raises(TypeError, match="on which delay\\(\\) cannot wait"):
                caller.add.delay(1)

    asyncio.run(call())


def test_a_missing_source_is_refused_where_the_call_is(
    installed_once: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_source, "_django", [])
    caller = Caller(installed_once, transactional=True)
    try:
        with pytest.raises(
            ConfigError, match=r"add it to INSTALLED_APPS.*With SQLAlchemy, name your sessionmaker"
        ):
            caller.add.delay(1)
    finally:
        caller.connection.close()


@pytest.mark.parametrize("source", ["default", 1, object()])
def test_setup_refuses_what_is_no_source(source: Any) -> None:
    app = Celery("proj", broker="memory://", set_as_current=False)
    with pytest.raises(TypeError, match="transactional is of type"):
        pgreact.setup(app, transactional=source)


# ---- setup -------------------------------------------------------------------------------------------------


def test_a_later_setup_keeps_the_source_or_names_another(caller: Caller) -> None:
    pgreact.setup(caller.app)
    caller.add.delay(1)
    assert len(caller.jobs()) == 1
    with caller.database.connect(autocommit=False) as other:
        pgreact.setup(caller.app, transactional=lambda: other)
        caller.add.delay(2)
        assert len(caller.jobs()) == 1


def test_applications_have_their_own_sources(caller: Caller) -> None:
    other = recording(sent := [])
    pgreact.setup(other, caller.database.dsn)

    @other.task(shared=False)
    def plain() -> None: ...

    plain.delay()
    caller.add.delay(1)
    assert len(sent) == 1
    assert len(caller.jobs()) == 1


def test_setup_with_a_source_loads_neither_django_nor_sqlalchemy(tmp_path: Path) -> None:
    program = (
        "import sys, pgreact; from celery import Celery; app = Celery('p');"
        "pgreact.setup(app, transactional=True); pgreact.setup(app, transactional=lambda: None);"
        "print({'django.db', 'sqlalchemy', 'pydantic', 'asyncpg'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
