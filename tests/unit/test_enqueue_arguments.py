"""What becomes of the arguments of pgreact.enqueue, before a database sees them."""

import collections
import datetime
import decimal
import json
import subprocess
import sys
import types
import uuid
from typing import Any

import pytest
from celery import Celery, _state, chain, chord, group, shared_task
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.serialization import dumps, loads
from kombu.utils.json import register_type

import pgreact
from pgreact import Job
from pgreact.broker.json_writer import write
from pgreact.queue.enqueue import enqueue_many
from pgreact.queue.payload import payload
from pgreact.queue.signature import RUN_CANVAS

app = Celery("proj", set_as_current=False)
app.conf.update(task_always_eager=True, task_eager_propagates=True, result_backend="cache+memory://")
UTC = datetime.UTC
NOON = datetime.datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
ODD_ZONE = datetime.timezone(datetime.timedelta(hours=5, seconds=1))


calls: list[tuple[int, int]] = []


@app.task(name="proj.add", shared=False)
def add(x: int, y: int = 0) -> int:
    """Add, and remember what."""
    calls.append((x, y))
    return x + y


@app.task(name="proj.bound", shared=False, bind=True)
def bound(self: Any, x: int) -> None:
    """Take one argument."""


@app.task(name="proj.loose", shared=False, typing=False)
def loose(x: int) -> None:
    """Take anything, as far as Celery checks."""


class User:
    """What nobody can write down."""


def job(task: Any = "proj.x", *args: Any, **fields: Any) -> Any:
    """Return what is sent to the database."""
    return json.loads(payload(Job(task, *args, **fields)))


def refused(kind: type[Exception], task: Any = "proj.x", *args: Any, **fields: Any) -> str:
    """Return the message of the error."""
    with pytest.raises(kind) as caught:
        payload(Job(task, *args, **fields))
    assert type(caught.value) is kind
    return str(caught.value)


# ---- fields ------------------------------------------------------------------------------------------------


def test_what_is_as_by_default_is_left_to_the_server() -> None:
    assert job() == {"task": "proj.x", "args": [], "kwargs": {}}


def test_fields_are_as_they_were_given() -> None:
    given = {
        "lane": "mail", "priority": -3, "key": "k", "unique_key": "u", "unique_while": "in_progress",
        "max_attempts": 2, "max_lost": 0,
    }  # fmt: skip
    assert job("proj.x", [1], {"a": 2}, **given) == {
        "task": "proj.x",
        "args": [1],
        "kwargs": {"a": 2},
        **given,
    }


def test_arguments_come_from_any_sequence_and_mapping() -> None:
    assert job("proj.x", range(3), types.MappingProxyType({"a": 1})) | {} == {
        "task": "proj.x",
        "args": [0, 1, 2],
        "kwargs": {"a": 1},
    }
    assert job("proj.x", collections.deque([1]))["args"] == [1]


@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        (NOON, {"run_at": "2030-01-02T12:00:00+00:00"}),
        (NOON.astimezone(ODD_ZONE), {"run_at": "2030-01-02T12:00:00+00:00"}),
        (90, {"run_in": "90.000000 seconds"}),
        (0.25, {"run_in": "0.250000 seconds"}),
        (datetime.timedelta(days=2, microseconds=1), {"run_in": "172800.000001 seconds"}),
        (datetime.timedelta(seconds=-1), {"run_in": "-1.000000 seconds"}),
    ],
)  # fmt: skip
def test_a_moment_is_sent_as_such_and_a_time_from_now_as_an_interval(
    moment: Any, sent: dict[str, str]
) -> None:
    assert job(run_at=moment) == {"task": "proj.x", "args": [], "kwargs": {}, **sent}
    assert job(expires=moment) == {
        "task": "proj.x",
        "args": [],
        "kwargs": {},
        **{
            name.replace("run_at", "expires").replace("run_in", "expires_in"): text
            for name, text in sent.items()
        },
    }


def test_backoff_is_seconds_or_a_timedelta() -> None:
    assert job(backoff=1.5)["backoff"] == "1.500000 seconds"
    assert job(backoff=datetime.timedelta(minutes=1))["backoff"] == "60.000000 seconds"
    assert job(backoff=0)["backoff"] == "0.000000 seconds"


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"run_at": NAIVE}, ValueError, "run_at: 2030-01-02T12:00:00 has no time zone"),
        ({"expires": NAIVE}, ValueError, "expires: 2030-01-02T12:00:00 has no time zone"),
        ({"run_at": datetime.date(2030, 1, 2)}, TypeError, "run_at is datetime.date(2030, 1, 2), not a time"),
        ({"run_at": "tomorrow"}, TypeError, "run_at is 'tomorrow', not a time: give seconds or a timedelta"),
        ({"run_at": True}, TypeError, "run_at is True, not a time"),
        ({"run_at": float("inf")}, ValueError, "run_at: inf is no number of seconds"),
        ({"backoff": float("nan")}, ValueError, "backoff: nan is no number of seconds"),
        ({"backoff": None}, TypeError, "backoff is None, not a time"),
        ({"lane": 7}, TypeError, "lane is 7, not text"),
        ({"max_lost": 1.5}, TypeError, "max_lost is 1.5, not a whole number"),
        ({"key": 42}, TypeError, "key is 42, not text"),
        ({"unique_key": uuid.UUID(int=0)}, TypeError, "unique_key is UUID('0000"),
        ({"key": "a\0b"}, ValueError, "key: a NUL character"),
        ({"priority": 1.5}, TypeError, "priority is 1.5, not a whole number"),
        ({"max_attempts": True}, TypeError, "max_attempts is True, not a whole number"),
        ({"args": "abc"}, TypeError, "args is of type str, not a list or tuple"),
        ({"args": {1, 2}}, TypeError, "args is of type set, not a list or tuple"),
        ({"kwargs": [("a", 1)]}, TypeError, "kwargs is of type list, not a dict"),
        ({"kwargs": {1: 2}}, TypeError, "kwargs: 1 is no name; names are text"),
        ({"options": {"countdown": 3}}, ValueError, 'options: no "countdown"; give run_at'),
        ({"options": {"eta": NOON}}, ValueError, 'options: no "eta"; give run_at'),
        ({"options": {"task_id": "x"}}, ValueError, 'options: no "task_id"; it is an argument'),
        ({"options": {"queue": User()}}, TypeError, 'options["queue"]: type User is not JSON'),
        ({"options": {"headers": {"at": NOON}}}, TypeError, '["headers"]["at"]: type datetime is not JSON'),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], kind: type[Exception], message: str) -> None:
    assert message in refused(kind, **fields)


def test_options_of_none_are_dismissed_and_a_time_of_expiry_is_text() -> None:
    options = {"expires": NOON, "queue": None, "countdown": None, "priority": 3}
    assert job(options=options)["options"] == {"expires": "2030-01-02T12:00:00+00:00", "priority": 3}
    assert "has no time zone" in refused(ValueError, options={"expires": NAIVE})


# ---- values ------------------------------------------------------------------------------------------------


def through_celery(value: object) -> Any:
    """Return what a task gets, when the database gives back the JSON as it was."""
    stored = json.loads(write(value, "args"))
    content_type, encoding, body = dumps(([stored], {}, {}), "json")
    return loads(body, content_type, encoding)[0][0]


@pytest.mark.parametrize(
    "value",
    [
        NOON, datetime.date(2030, 1, 2), datetime.time(1, 2, 3), uuid.UUID(int=7), decimal.Decimal("1.10"),
        b"bytes", b"\xff\x00", None, True, 1, -1.5, 1e22, 1e300, 5e-324, 2**70,
        "ä\U0001f600\t\"\\", {"a": [{"b": NOON}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_task_gets_what_delay_would_give_it(value: object) -> None:
    content_type, encoding, body = dumps(([value], {}, {}), "json")
    by_delay = loads(body, content_type, encoding)[0][0]
    assert through_celery(value) == by_delay == value
    assert type(through_celery(value)) is type(by_delay)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | TEXT


class Money:
    """A type that an application taught Celery."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def test_types_that_an_application_registered_travel_too() -> None:
    register_type(Money, "money", lambda money: money.cents, Money)
    assert through_celery([Money(3)])[0].cents == 3


def test_an_object_says_itself_how_it_is_json() -> None:
    class Point:
        def __json__(self) -> Any:
            return {"x": 1, "at": NOON}

    assert through_celery(Point()) == {"x": 1, "at": NOON}


def test_subclasses_are_what_they_derive_from() -> None:
    pair = collections.namedtuple("pair", "a b")  # noqa: PYI024
    assert json.loads(write([pair(1, 2), collections.OrderedDict(a=1)], "")) == [[1, 2], {"a": 1}]


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=10))
@example({"": [1e16, -1e16, 1.5e16]})
def test_json_is_written_as_json(value: Any) -> None:
    text = write(value, "args")
    assert json.loads(text) == value
    assert text.isascii()


@given(st.dictionaries(st.none() | st.booleans() | st.integers() | FLOATS, st.integers()))
def test_keys_become_text_as_in_the_standard_library(value: Any) -> None:
    ours, standard = (json.loads(text) for text in (write(value, ""), json.dumps(value)))
    assert {float(key) if key[-1].isdigit() else key for key in ours} == {
        float(key) if key[-1].isdigit() else key for key in standard
    }


class Model:
    """As an object-relational mapper makes them."""

    pk = 1


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (Model(), TypeError, 'kwargs["user"]: type Model is not JSON; pass its key, or make it text'),
        ({"a": [1, User()]}, TypeError, 'kwargs["user"]["a"][1]: type User is not JSON'),
        ({1, 2}, TypeError, 'kwargs["user"]: type set is not JSON; make it a list'),
        (types.MappingProxyType({}), TypeError, '"user"]: type mappingproxy is not JSON; make it a dict'),
        (1j, TypeError, 'kwargs["user"]: type complex is not JSON'),
        ({(1, 2): 3}, TypeError, 'kwargs["user"]: a key of type tuple is not JSON; keys are text'),
        ([float("nan")], ValueError, 'kwargs["user"][0]: nan is not JSON'),
        ([float("-inf")], ValueError, 'kwargs["user"][0]: -inf is not JSON'),
        (["a\0b"], ValueError, 'kwargs["user"][0]: a NUL character, which PostgreSQL does not store'),
        ({"a\0": 1}, ValueError, 'kwargs["user"]["a\\u0000"]: a NUL character'),
        ("\ud83d", ValueError, 'kwargs["user"]: half a character (U+D83D)'),
        (decimal.Decimal("NaN"), None, ""),
        ({"__type__": "spam", "__value__": 1}, ValueError, '"__type__" with "__value__" marks'),
        ({"__type__": "datetime", "__value__": "x"}, ValueError, '"__type__" with "__value__" marks'),
    ],
)  # fmt: skip
def test_what_cannot_travel_is_refused_by_its_place(value: object, kind: Any, message: str) -> None:
    if kind is None:
        assert job(kwargs={"user": value})
    else:
        assert message in refused(kind, kwargs={"user": value})


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert refused(ValueError, args=loop) == "args is nested too deeply, or contains itself"


def test_what_no_worker_could_read_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(199):
        deep = [deep]
    assert job(args=deep)
    assert refused(ValueError, args=[deep]) == "args is nested more than 200 levels deep"
    assert job(args=[{"a": []}] * 500)
    assert job(args=[10**3900])
    assert "args[0]: a number of more than" in refused(ValueError, args=[10**4300])


# ---- tasks and signatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [add, bound, loose, "proj.add"])
def test_a_task_is_its_name(task: Any) -> None:
    assert job(task, [1]) == {"task": getattr(task, "name", task), "args": [1], "kwargs": {}}


def test_a_shared_task_is_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state, "default_app", app)
    # or it would be in every application from now on
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))

    @shared_task(name="proj.shared")
    def shared() -> None:
        pass

    assert job(shared)["task"] == "proj.shared"


def test_arguments_that_delay_would_refuse_are_refused() -> None:
    assert "the arguments do not fit task proj.add: add() missing 1 required" in refused(TypeError, add)
    assert "unexpected keyword argument 'z'" in refused(TypeError, add, [1], {"z": 1})
    assert "the arguments do not fit task proj.bound" in refused(TypeError, bound, [1, 2])
    assert "the arguments do not fit task proj.add" in refused(TypeError, add.s())
    assert job(loose)["args"] == []


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (None, "task is of type NoneType, neither a name, nor a Celery task, nor a signature"),
        (print, "nor a signature; decorate it with @app.task"),
        (Model(), "task is of type Model, neither"),
        ({"x": 1}, "task is a dict without the name of a task"),
        (app, "task is of type Celery"),
    ],
)
def test_what_is_no_task_is_refused(task: Any, message: str) -> None:
    assert message in refused(TypeError, task)


def test_a_signature_is_a_job_of_its_task() -> None:
    signature = add.s(1, y=2).set(queue="mail", headers={"a": 1}, expires=30, countdown=None)
    assert job(signature) == {
        "task": "proj.add",
        "args": [1],
        "kwargs": {"y": 2},
        "options": {"queue": "mail", "headers": {"a": 1}, "expires": 30},
    }
    assert job(add.si(1)) == {"task": "proj.add", "args": [1], "kwargs": {}}
    assert job(json.loads(json.dumps(add.s(1)))) == {"task": "proj.add", "args": [1], "kwargs": {}}


def test_a_signature_is_left_as_it_is() -> None:
    signature = chain(add.s(1), add.s(2)).set(countdown=3)
    before = json.dumps(signature)
    job(signature)
    job(add.s(1).set(countdown=3, immutable=True))
    assert json.dumps(signature) == before


def test_callbacks_travel_with_a_signature() -> None:
    options = job(add.s(1).on_error(add.s(9)) | add.s(2))  # a chain
    assert options["task"] == RUN_CANVAS
    signature = add.s(1)
    signature.link(add.s(NOON))
    signature.link_error(add.s(3))
    options = job(signature)["options"]
    assert [callback["task"] for callback in options["link"]] == ["proj.add"]
    assert options["link"][0]["args"] == [{"__type__": "datetime", "__value__": NOON.isoformat()}]
    assert [callback["args"] for callback in options["link_error"]] == [[3]]


def test_the_calls_options_win_over_the_signatures() -> None:
    signature = add.s(1).set(queue="a", priority=1)
    assert job(signature, options={"queue": "b"})["options"] == {"queue": "b", "priority": 1}


def test_what_celery_delays_by_becomes_run_at() -> None:
    assert job(add.s(1).set(countdown=30))["run_in"] == "30.000000 seconds"
    assert job(add.s(1).set(eta=NOON))["run_at"] == "2030-01-02T12:00:00+00:00"
    assert job(add.s(1).set(eta="2030-01-02T12:00:00Z"))["run_at"] == "2030-01-02T12:00:00+00:00"
    assert "options" not in job(add.s(1).set(countdown=30, eta=NOON))
    assert job(add.s(1).set(countdown=30), run_at=5)["run_in"] == "5.000000 seconds"
    sent = job((add.s(1) | add.s(2)).set(countdown=30))
    assert sent["run_in"] == "30.000000 seconds"
    assert "countdown" not in sent["kwargs"]["signature"]["options"]
    assert "no time zone" in refused(ValueError, add.s(1).set(eta=NAIVE))
    assert 'eta "soon" is no time' in refused(ValueError, add.s(1).set(eta="soon"))


def test_the_id_of_a_frozen_signature_is_kept_and_another_one_wins() -> None:
    frozen = add.s(1)
    given = frozen.freeze().id
    other = uuid.uuid4()
    assert job(frozen)["task_id"] == given
    assert job(frozen, task_id=other)["task_id"] == job(task_id=str(other))["task_id"] == str(other)


@pytest.mark.parametrize("wrong", ["x", "", 5])
def test_a_task_id_is_a_uuid(wrong: Any) -> None:
    kind = ValueError if isinstance(wrong, str) else TypeError
    assert f"task_id is {wrong!r}" in refused(kind, task_id=wrong)


def test_a_signature_has_no_arguments_from_elsewhere() -> None:
    assert "leave args and kwargs away" in refused(TypeError, add.s(1), [2])
    assert "leave args and kwargs away" in refused(TypeError, add.s(1), kwargs={"y": 2})


@pytest.mark.parametrize(
    "canvas",
    [
        chain(add.s(1), add.s(2)),
        group(add.s(n) for n in range(3)),
        group(chain(add.s(1), add.s(2)), add.s(3)),
        chord([add.s(1), add.s(2)], add.si(3)),
        chain(add.s(1), group(add.s(1), add.s(2)), add.si(3)),
        add.map([1, 2]),
        add.map(n for n in range(2)),
        add.starmap([(1, 2), (3, 4)]),
        add.chunks([(1, 2), (3, 4)], 1),
    ],
    ids=lambda canvas: type(canvas).__name__,
)
def test_a_canvas_is_one_job_that_starts_it(canvas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Celery forgets which it was for chunks, and other tests make theirs the current one
    monkeypatch.setattr(_state, "default_app", app)
    monkeypatch.setattr(_state._tls, "current_app", app)
    sent = job(canvas)
    assert sent["task"] == RUN_CANVAS
    assert sent["args"] == []
    signature = sent["kwargs"]["signature"]
    assert list(sent["kwargs"]) == ["signature"]
    # it does on a worker what it would have done at once
    calls.clear()
    canvas.apply_async()
    at_once = calls[:]
    calls.clear()
    app.signature(signature).apply_async()
    assert calls == at_once != []


def test_arguments_within_a_canvas_are_named() -> None:
    message = refused(TypeError, chain(add.s(1), add.s(User())))
    assert message.startswith('kwargs["signature"]["kwargs"]["tasks"][1]["args"][0]: type User is not JSON')


# ---- many --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "kind", "message"),
    [
        ([Job("a"), Job("b", (User(),))], TypeError, "jobs[1]: args[0]: type User is not JSON"),
        ([{"task": "a", "kwarg": {}}], TypeError, 'jobs[0]: a job has no "kwarg"; did you mean "kwargs"?'),
        ([{"args": [1]}], TypeError, 'jobs[0]: it has no "task"'),
        ([3], TypeError, "jobs[0]: task is of type int"),
        ([add.s(float("nan"))], ValueError, "jobs[0]: args[0]: nan"),
        ([Job("\ud83d")], ValueError, "jobs[0]: task: half a character"),
        ({"task": "a"}, TypeError, "jobs is of type dict, not a list of jobs"),
        ("proj.x", TypeError, "jobs is of type str, not a list of jobs"),
    ],
)
def test_the_wrong_job_of_many_is_named(jobs: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        enqueue_many(object(), jobs)
    assert message in str(caught.value)


@pytest.mark.parametrize("connection", [None, "postgresql://db", object(), app])
def test_what_is_no_connection_is_refused(connection: Any) -> None:
    kind = type(connection)
    with pytest.raises(
        TypeError, match=f"conn is a {kind.__module__}.{kind.__qualname__}. It must be the conn"
    ):
        pgreact.enqueue(connection, "proj.x")
    with pytest.raises(TypeError, match="conn is a"):
        pgreact.enqueue_many(connection, [])


def test_importing_pgreact_imports_no_library() -> None:
    libraries = {"celery", "kombu", "psycopg", "asyncpg"}
    program = f"import pgreact, sys; print(*{libraries} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
