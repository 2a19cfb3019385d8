"""A prepared message equals the one that Celery would send."""

import contextlib
import datetime
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from celery import Celery, signals

from pgreact.broker.publisher import CeleryPublisher
from pgreact.dispatch.action import task_call
from pgreact.dispatch.route import Route
from tests.harness import eventually

ROUTE = {
    "id": 7, "name": "d", "task": "proj.t", "window": 0.0, "countdown": 0.0, "expires": 15.0, "sweep": 60.0,
    "single_flight": "publish", "options": {}, "ready": None, "gate": "auto", "gate_poll": 0.04,
    "gate_close_rate": 100, "gate_open_after": 1.0, "origin": "sql",
}  # fmt: skip
ROUTES: list[dict[str, Any]] = [
    {},
    {
        "options": {
            "queue": "x",
            "priority": 9,
            "args": [1],
            "kwargs": {"k": 2},
            "headers": {"h": 1},
            "shadow": "s",
        }
    },
    {"countdown": 3.0},
    {"expires": None, "options": {"ignore_result": False, "reply_to": "me"}},
]
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"task_protocol": 1},
    {"task_routes": {"proj.*": {"queue": "routed", "priority": 3}}},
    {"task_send_sent_event": True},
    {"timezone": "Europe/Paris", "enable_utc": False},
]
MOMENTS = {"id", "root_id", "expires", "eta"}  # differ from message to message


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, str, str]]]:
    """Note Celery's signals around a publish."""
    received: list[tuple[str, str, str]] = []

    def before(sender: str, routing_key: str, **_: object) -> None:
        received.append(("before", sender, routing_key))

    def after(sender: str, routing_key: str, **_: object) -> None:
        received.append(("after", sender, routing_key))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        yield received
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)


@contextlib.contextmanager
def unwatched() -> Iterator[list[tuple[str, str, str]]]:
    """Leave the publish to Celery and kombu alone."""
    yield []


def take(app: Celery, queue: str) -> Any:
    """Take the one message that is in a queue."""
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get(queue, no_ack=True)
        assert message is not None
        assert connection.default_channel.basic_get(queue, no_ack=True) is None
        return message


def essence(message: Any) -> Any:
    """All of a message but what differs each time."""
    body = message.decode()
    old = (
        {key: value for key, value in body.items() if key not in MOMENTS} if isinstance(body, dict) else body
    )
    headers = {key: value for key, value in message.headers.items() if key not in MOMENTS}
    properties = {
        key: value
        for key, value in message.properties.items()
        # without an address of its own a message has one of the thread that sends it
        if key not in {"correlation_id", "delivery_tag"} and (key != "reply_to" or value == "me")
    }
    return headers, properties, old


@pytest.mark.parametrize("watch", [watched, unwatched])
@pytest.mark.parametrize(("configuration", "route"), list(itertools.product(CONFIGURATIONS, ROUTES)))
async def test_prepared_message_equals_what_celery_would_send(
    configuration: dict[str, Any],
    route: dict[str, Any],
    watch: Callable[[], AbstractContextManager[list[tuple[str, str, str]]]],
) -> None:
    with watch() as sent_signals:
        await check_calls(configuration, route, sent_signals, composed=watch is unwatched)


async def check_calls(
    configuration: dict[str, Any],
    route: dict[str, Any],
    sent_signals: list[tuple[str, str, str]],
    *,
    composed: bool,
) -> None:
    """Compare the calls of a route with Celery's own."""
    app = Celery("a", broker="memory://", set_as_current=False)
    app.conf.update(configuration)
    known = Route(**{**ROUTE, **route})
    options = {"ignore_result": True, "serializer": "json", **known.options}
    queue = known.options.get("queue") or ("routed" if "task_routes" in configuration else "celery")
    app.send_task(
        known.task,
        args=options.pop("args", None),
        kwargs=options.pop("kwargs", None),
        countdown=known.countdown or None,
        expires=known.expires,
        retry=False,
        add_to_parent=False,
        **options,
    )
    plain, received = essence(take(app, queue)), list(sent_signals)

    publisher = CeleryPublisher(app)
    call = task_call(known, publisher)
    for number in range(3):
        sent_signals.clear()
        await call.publish(f"m{number}", f"m{number + 1}")
        message = take(app, queue)
        assert essence(message) == plain
        assert sent_signals == received
        assert (message.headers.get("id") or message.decode()["id"]) == f"m{number}"
        expires = message.headers.get("expires") or (
            configuration.get("task_protocol") and message.decode()["expires"]
        )
        if known.expires and "timezone" not in configuration:
            left = datetime.datetime.fromisoformat(expires) - datetime.datetime.now(datetime.UTC)
            assert 14 < left.total_seconds() <= 15
        if known.countdown:
            assert call._prepared is None
        else:
            eventually(lambda: call._prepared, "the next message is prepared")
            assert call._prepared
            assert sent_signals == received, "they tell of sent messages"
            if composed and not configuration.keys() & {"task_protocol", "task_send_sent_event"}:
                assert call._prepared._composed
            if call._prepared._composed and known.expires:
                # however long ago it was made
                call._prepared._composed.headers["expires"] = "2001-02-03T04:05:06+00:00"
    await publisher.close()
    app.close()


async def test_a_receiver_connected_since_hears_of_the_next_call() -> None:
    app = Celery("a", broker="memory://", set_as_current=False)
    publisher = CeleryPublisher(app)
    call = task_call(Route(**{**ROUTE, "options": {"queue": "heard"}}), publisher)
    await call.publish("m0", "m1")
    eventually(lambda: call._prepared, "the next message is prepared")
    with watched() as received:
        await call.publish("m1", "m2")
    assert [when for when, *_ in received] == ["before", "after"]
    await publisher.close()
    app.close()
