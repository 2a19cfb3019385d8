"""Which messages are made: by a task's own apply_async, and only those that a worker can read."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task

from pgreact.broker.connection import BrokerConnection
from pgreact.broker.message_headers import unfit
from pgreact.broker.prepared_message import PreparedMessage, Unfit

HEADERS = {"pgreact_job": 7, "pgreact_attempt": 1}


class Message:
    """Prepares a call of the task "t" and sends it, as the daemon does; then reads what the broker has."""

    def __init__(self, base: type[Any] = Task, **configuration: Any) -> None:
        self.app = Celery("a", broker="memory://", set_as_current=False)
        self.app.conf.update(configuration)
        self.task_id = str(uuid4())
        self._connection = BrokerConnection(self.app, 20)

        @self.app.task(base=base, name="t", shared=False)
        def task() -> None:
            pytest.fail("it ran here")

    def __call__(self, **options: Any) -> list[Any]:
        """Return the messages there are now."""

        try:
            PreparedMessage(self._connection, "t", self.task_id, {"headers": HEADERS, **options}).send(
                self._connection.producer
            )
        finally:
            self._connection.close()
        return self.sent()

    def sent(self) -> list[Any]:
        """Take what is in the queue."""
        found = []
        with self.app.connection_for_read() as connection:
            while message := connection.default_channel.basic_get("celery", no_ack=True):
                found.append(message)
        return found


@pytest.fixture(autouse=True)
def _empty_broker() -> Iterator[None]:
    yield
    Message().sent()


class Tenants(Task):  # type: ignore[type-arg]
    """Adds a header to each call."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As Celery's guide has it."""
        headers = {**(options.pop("headers", None) or {}), "tenant": "blue"}
        return super().apply_async(args, kwargs, headers=headers, **options)


class Forgetful(Task):  # type: ignore[type-arg]
    """Hands on neither our headers nor our producer."""

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: Any = None, **_: Any) -> Any:
        """As somebody in a hurry writes it."""
        return super().apply_async(args, kwargs, task_id=task_id, headers={"tenant": "blue"}, expires=99)


class Auditing(Task):  # type: ignore[type-arg]
    """Sends something else as well, and fails at the end."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Tell the auditor."""
        self.app.send_task("audit", queue="celery")
        super().apply_async(*args, **options)
        raise RuntimeError("too late to matter")


class Renaming(Task):  # type: ignore[type-arg]
    """Makes an id of its own."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Call it otherwise."""
        return super().apply_async(*args, **{**options, "task_id": "mine"})


class Silent(Task):  # type: ignore[type-arg]
    """Sends nothing."""

    def apply_async(self, *_args: Any, **_options: Any) -> Any:
        """Do nothing."""


class Twice(Task):  # type: ignore[type-arg]
    """Sends two."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """To be sure."""
        super().apply_async(*args, **options)
        return super().apply_async(*args, **options)


class Raising(Task):  # type: ignore[type-arg]
    """Refuses calls."""

    def apply_async(self, *_args: Any, **_options: Any) -> Any:
        """Ask for a tenant."""
        raise LookupError("no tenant")


@pytest.mark.parametrize("base", [Tenants, Forgetful])
@pytest.mark.parametrize("configuration", [{}, {"task_protocol": 1}])
def test_own_apply_async_makes_the_message(base: type[Any], configuration: dict[str, Any]) -> None:
    call = Message(base, **configuration)
    (message,) = call(args=[], kwargs={}, expires=50)
    assert {name: message.headers[name] for name in ("tenant", *HEADERS)} == {"tenant": "blue", **HEADERS}
    assert message.properties["correlation_id"] == call.task_id


def test_message_without_an_own_apply_async_is_as_ever() -> None:
    (message,) = Message()()
    assert "tenant" not in message.headers


def test_other_messages_of_an_overridden_apply_async_are_sent() -> None:
    audit, message = Message(Auditing)()
    assert (audit.headers["task"], message.headers["pgreact_task"]) == ("audit", "t")


@pytest.mark.parametrize(
    ("base", "error", "reason"),
    [
        (Renaming, Unfit, "apply_async of t does not pass on task_id"),
        (Silent, Unfit, "apply_async of t made no message"),
        (Twice, Unfit, "apply_async of t makes two messages of one task_id"),
        (Raising, LookupError, "no tenant"),
    ],
)
def test_own_apply_async_that_makes_no_such_message_is_refused(
    base: type[Any], error: type[Exception], reason: str
) -> None:
    call = Message(base)
    with pytest.raises(error, match=reason):
        call()
    assert call.sent() == []


@pytest.mark.filterwarnings("ignore::celery.exceptions.AlwaysEagerIgnored")
def test_task_is_not_run_in_the_daemon_where_celery_is_eager() -> None:
    (message,) = Message(Tenants, task_always_eager=True)()
    assert "tenant" not in message.headers


@pytest.mark.parametrize("configuration", [{}, {"task_protocol": 1}])
@pytest.mark.parametrize(
    "wrong",
    [
        {"time_limit": "abc"},
        {"soft_time_limit": float("nan")},
        {"time_limit": True},
        {"eta": "tomorrow"},
        {"eta": "9999-12-31T00:00:00"},
        *({"headers": {name: "1"}} for name in ("timelimit", "id", "retries", "task", "stamped_headers")),
        *(
            {"headers": {name: "1"}}
            for name in ("args", "hostname", "update", "delivery_info", "compression")
        ),
        {"headers": {"headers": 5}},
        {"headers": {"pgreact_before": 5}},
    ],
    ids=repr,
)
def test_message_that_no_worker_could_read_is_not_made(
    configuration: dict[str, Any], wrong: dict[str, Any]
) -> None:
    call = Message(**configuration)
    with pytest.raises(Unfit, match=r"header|limit"):
        call(**wrong)
    assert call.sent() == []


@pytest.mark.parametrize(
    "right",
    [
        {"time_limit": 5, "soft_time_limit": 0.5, "eta": "2040-01-01T00:00:00+02:00", "expires": 9.5},
        {"headers": {"traceparent": "x", "headers": {"sentry-trace": "x"}, "odd": [1, {"a": None}]}},
        {"shadow": "shown", "priority": 3, "root_id": "r", "parent_id": "p", "group_id": "g"},
        {"stamped_headers": ["tenant"], "tenant": "blue"},
    ],
    ids=repr,
)
def test_message_that_a_worker_can_read_is_made(right: dict[str, Any]) -> None:
    (message,) = Message()(**right)
    assert unfit(json.loads(json.dumps(message.headers))) is None


def test_first_protocol_and_second_are_fit() -> None:
    makers: list[Callable[[], Any]] = [Message, lambda: Message(task_protocol=1)]
    for make in makers:
        (message,) = make()()
        assert unfit(message.headers if "id" in message.headers else message.decode()) is None
