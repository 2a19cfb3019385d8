"""Messages made from one of their kind, beside the same ones made by Celery."""

import dataclasses
import json
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, Task, signals
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Producer

from pgreact.broker import job_publisher
from pgreact.broker.connection import BrokerConnection
from pgreact.broker.job_publisher import JobMessage, JobPublisher, message_options
from pgreact.broker.json_reader import read
from pgreact.broker.message_kinds import DerivedMessage
from pgreact.broker.prepared_message import PreparedMessage

_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_job = st.builds(
    JobMessage,
    job=st.integers(1, 2**62),
    attempt=st.integers(1, 9),
    task_id=st.uuids().map(str),
    task=st.just("t"),
    args=st.lists(_value, max_size=3).map(json.dumps),
    kwargs=st.dictionaries(st.text(), _value, max_size=3).map(json.dumps),
    options=st.just("{}"),
    claims=st.uuids().map(lambda claim: (str(claim),)),
    database=st.just("d/1"),
    again=st.booleans(),
    retries=st.integers(0, 3),
    before=st.integers(0, 2),
)
OPTIONS = st.sampled_from(
    [
        {},
        {"queue": "q"},
        {"queue": "q", "priority": 3, "headers": {"mine": {"a": [1]}}, "time_limit": 9, "shadow": "s"},
        {"link": {"task": "u", "args": [], "kwargs": {}, "options": {}}, "ignore_result": True},
    ]
)


class Publisher(JobPublisher):
    """Prepares messages in the test's own thread."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app, 20)
        self.connection = BrokerConnection(app, 20)

    def prepare(self, message: JobMessage) -> PreparedMessage:
        """Prepare a message as the thread does."""
        ready = self._prepare(self.connection, message)
        if isinstance(ready, DerivedMessage):
            return ready.prepared
        assert isinstance(ready, PreparedMessage)
        return ready

    def send(self, message: JobMessage) -> None:
        """Prepare and send a message as the thread does."""
        posted = self._post(self.connection, [message])
        assert (posted.sent, posted.failure) == ([message], None), posted


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks of the messages that Celery has made."""
    made: list[str] = []
    inner = PreparedMessage.__init__

    def counting(self: PreparedMessage, connection: Any, task: str, *rest: Any) -> None:
        made.append(task)
        inner(self, connection, task, *rest)

    monkeypatch.setattr(PreparedMessage, "__init__", counting)
    return made


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the tasks whose messages kombu has made."""
    made: list[str] = []
    inner = Producer.publish

    def counting(self: Producer, *args: Any, **options: Any) -> Any:
        made.append(options["headers"]["id"])
        return inner(self, *args, **options)

    monkeypatch.setattr(Producer, "publish", counting)
    return made


def application(**configuration: Any) -> Celery:
    """Return an application on a broker in memory."""
    app = Celery("a", broker="memory://", set_as_current=False)
    app.conf.update(configuration)
    return app


def take(publisher: Publisher, queue: str) -> Any:
    """Take the one message that is in a queue; return all of it but what differs each time."""
    channel: Any = publisher.connection.producer.channel
    message = channel._get(queue)
    assert channel._size(queue) == 0
    del message["properties"]["delivery_tag"]
    return message


def job(number: int, **values: Any) -> JobMessage:
    """Return a plain job."""
    defaults = {
        "task": "t",
        "args": f"[{number}]",
        "kwargs": "{}",
        "options": "{}",
        "claims": (str(UUID(int=1)),),
    }
    return JobMessage(**{"job": number, "attempt": 1, "task_id": str(UUID(int=number)), **defaults, **values})


@settings(max_examples=60, deadline=None)
@given(jobs=st.lists(_job, min_size=3, max_size=4), options=OPTIONS, event=st.booleans())
def test_a_message_of_a_kind_is_as_celery_makes_it(
    jobs: list[JobMessage], options: dict[str, Any], event: bool
) -> None:
    app = application(task_send_sent_event=event)
    publisher = Publisher(app)
    for found in jobs:
        message = dataclasses.replace(found, options=json.dumps(options))
        ours = publisher.prepare(message)
        own = message_options(app, message)
        assert ours.is_like(
            PreparedMessage(publisher.connection, message.task, message.task_id, own, message.before)
        )


def test_celery_makes_the_first_two_messages_of_a_kind(counted: list[str]) -> None:
    publisher = Publisher(application())
    for number in range(5):
        publisher.prepare(job(number))
        publisher.prepare(job(number, task="u"))
        publisher.prepare(job(number, options='{"queue": "q"}', task="v"))
    assert counted == ["t", "u", "v", "t", "u", "v"]


def test_a_message_whose_options_tell_the_time_is_made_by_celery(counted: list[str]) -> None:
    publisher = Publisher(application())
    for number in range(4):
        publisher.prepare(job(number, options='{"countdown": 5}'))
    assert len(counted) == 4


class Own(Celery):
    """Sends tasks in its own way."""

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Send a task."""
        return super().send_task(*args, **options)


class OwnTask(Task):  # type: ignore[type-arg]
    """Calls in its own way."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Call the task."""
        return super().apply_async(*args, **options)


def with_own_task() -> Celery:
    """Return an application with a task of its own class."""
    app = application()

    @app.task(name="t", base=OwnTask, shared=False)
    def task(number: int) -> None:
        pytest.fail("it ran here")

    return app


@pytest.mark.parametrize(
    "app",
    [
        lambda: Own("a", broker="memory://", set_as_current=False),
        lambda: application(task_routes=(lambda *_, **__: None,)),
        lambda: application(task_protocol=1),
        with_own_task,
    ],
    ids=["send_task", "router", "first protocol", "apply_async"],
)
def test_an_application_that_may_do_something_at_each_call_makes_all_messages(
    app: Any, counted: list[str]
) -> None:
    publisher = Publisher(app())
    for number in range(4):
        publisher.prepare(job(number))
    assert len(counted) == 4


def test_what_a_receiver_does_to_a_message_does_not_change_the_next_one(
    request: pytest.FixtureRequest,
) -> None:
    def spoil(headers: dict[str, Any], body: Any, properties: dict[str, Any], **_: Any) -> None:
        headers["spoilt"] = headers["stamps"]["spoilt"] = body[2]["spoilt"] = properties["spoilt"] = True

    signals.before_task_publish.connect(spoil, weak=False)
    request.addfinalizer(lambda: signals.before_task_publish.disconnect(spoil))
    app = application()
    publisher = Publisher(app)
    for number in range(4):
        # of its own: other tests read the queue of this broker in memory
        message = publisher.prepare(job(number, options='{"queue": "spoilt messages"}'))
        assert "'spoilt'" not in repr(message._message)
        message.send(publisher.connection.producer)
        assert "'spoilt'" in repr(message._message)


def test_arguments_that_are_no_list_are_refused_by_celery() -> None:
    publisher = Publisher(application())
    for number in range(3):
        publisher.prepare(job(number))
    with pytest.raises(TypeError, match="task args must be a list"):
        publisher.prepare(job(4, args='{"a": 1}'))


def test_the_arguments_of_a_message_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def counting(text: str, *, marked: bool = False) -> Any:
        texts.append(text)
        return read(text, marked=marked)

    monkeypatch.setattr(job_publisher, "read", counting)
    for app in (application(), application(task_routes=(lambda *_, **__: None,))):
        publisher = Publisher(app)
        texts.clear()
        for number in range(4):
            publisher.prepare(job(number))
        assert texts == ["[0]", "[1]", "[2]", "[3]"]


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(_job, min_size=6, max_size=7),
    options=OPTIONS,
    configuration=st.sampled_from(
        [{}, {"task_send_sent_event": True}, {"task_compression": "gzip"}, {"task_serializer": "pickle"}]
    ),
)
def test_a_message_is_sent_as_kombu_would_send_it(
    jobs: list[JobMessage], options: dict[str, Any], configuration: dict[str, Any]
) -> None:
    app = application(task_default_queue="as kombu", accept_content=["json", "pickle"], **configuration)
    publisher = Publisher(app)
    queue = options.get("queue", "as kombu")
    for found in jobs:
        message = dataclasses.replace(found, options=json.dumps(options))
        own = message_options(app, message)
        PreparedMessage(publisher.connection, message.task, message.task_id, own, message.before).send(
            publisher.connection.producer
        )
        plain = take(publisher, queue)
        publisher.send(message)
        assert take(publisher, queue) == plain


def test_kombu_makes_the_first_message_of_a_kind_on_a_connection_and_another_one_as_the_proof(
    published: list[str],
) -> None:
    publisher = Publisher(application(task_default_queue="made by kombu"))
    sent = [job(number) for number in range(9)]
    for number, message in enumerate(sent):
        if number == 6:
            publisher.connection.close()
        publisher.send(message)
    # two for the proof of Celery's part, two for that of kombu's
    made = [sent[number].task_id for number in (0, 1, 2, 3, 6)]
    assert published == made


def test_of_a_kind_whose_body_is_compressed_kombu_makes_all_messages(published: list[str]) -> None:
    publisher = Publisher(application(task_default_queue="compressed", task_compression="gzip"))
    for number in range(7):
        publisher.send(job(number))
    assert len(published) == 7


def test_a_receiver_connected_since_hears_of_the_next_job(request: pytest.FixtureRequest) -> None:
    heard: list[str] = []

    def hear(headers: dict[str, Any], **_: Any) -> None:
        heard.append(headers["id"])

    publisher = Publisher(application(task_default_queue="heard jobs"))
    for number in range(6):
        publisher.send(job(number))
    signals.before_task_publish.connect(hear, weak=False)
    request.addfinalizer(lambda: signals.before_task_publish.disconnect(hear))
    publisher.send(job(7))
    assert heard == [job(7).task_id]
