"""``pgreact schedule shadow``: what was sent, held against what was due, at times that the tests choose."""

import contextlib
import dataclasses
import datetime
import decimal
import enum
import json
import uuid
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st

from pgreact.broker.json_writer import write
from pgreact.errors import PgreactError
from pgreact.timetable.shadow.call import Call, planned
from pgreact.timetable.shadow.comparison import LOST, Comparison, Difference, Sent
from pgreact.timetable.shadow.expected import expected
from pgreact.timetable.shadow.watch import Watch

APP = Celery("proj", set_as_current=False)
NOON = datetime.datetime(2030, 1, 2, 12, tzinfo=datetime.UTC)
TOLERANCE = datetime.timedelta(seconds=2)
CRON = {"name": "cron", "task": "proj.cron", "cron": "*/5 * * * *"}
TICK = {"name": "tick", "task": "proj.tick", "every": 10}


def after(seconds: float) -> datetime.datetime:
    """Return a moment after the look began."""
    return NOON + datetime.timedelta(seconds=seconds)


class Scene:
    """A comparison, and a Beat that sends what the test says."""

    def __init__(self, *rows: dict[str, Any], tolerance: datetime.timedelta = TOLERANCE) -> None:
        self.comparison = Comparison([expected(row, NOON) for row in rows], tolerance, NOON)

    def sent(self, task: str, seconds: float, sender: str = "beat", args: str = "[]") -> list[Difference]:
        """Let a message be sent and received."""
        call = Call(task, args, "{}")
        return list(self.comparison.sent(Sent(call, after(seconds), sender, f"{task} {seconds:g}")))

    def look(self, seconds: float) -> list[Difference]:
        """Look for what is missed."""
        return list(self.comparison.look(after(seconds)))

    def finish(self, seconds: float) -> list[Difference]:
        """Look for the last time."""
        return list(self.comparison.finish(after(seconds)))


def seen(found: list[Difference]) -> list[tuple[str, str | None, float]]:
    """Return differences by kind, schedule and second."""
    return [(each.kind, each.schedule, (each.at - NOON).total_seconds()) for each in found]


# ---- by the calendar ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-1.9, 0, 1.9])
def test_a_message_in_time_is_no_difference(off: float) -> None:
    scene = Scene(CRON)
    assert scene.sent("proj.cron", 300 + off) == []
    assert scene.look(500) == []
    assert scene.comparison.in_time == 1


def test_a_message_is_missed_after_the_tolerance() -> None:
    scene = Scene(CRON)
    assert scene.look(300 + LOST.total_seconds()) == []
    assert seen(scene.look(300.1 + LOST.total_seconds())) == [("missed", "cron", 300)]
    assert scene.look(500) == []


def test_a_message_after_the_tolerance_is_late() -> None:
    scene = Scene(CRON)
    (found,) = scene.sent("proj.cron", 302.5)
    assert seen([found]) == [("late", "cron", 300)]
    assert (found.late, found.task_id) == (datetime.timedelta(seconds=2.5), "proj.cron 302.5")
    assert scene.look(500) == []
    assert scene.comparison.in_time == 0


def test_a_message_too_early_is_extra_and_its_occurrence_is_missed() -> None:
    scene = Scene(CRON)
    scene.sent("proj.cron", 300)
    assert seen(scene.sent("proj.cron", 590)) == [("extra", "cron", 590)]
    assert seen(scene.look(700)) == [("missed", "cron", 600)]


def test_a_second_message_is_extra() -> None:
    scene = Scene(CRON)
    assert scene.sent("proj.cron", 300) == []
    assert seen(scene.sent("proj.cron", 300.5)) == [("extra", "cron", 300.5)]


def test_occurrences_before_the_start_may_be_missing() -> None:
    for silent in (True, False):
        scene = Scene(CRON)
        if not silent:
            assert scene.sent("proj.cron", 0.5) == []
        assert scene.look(200) == []
        assert scene.comparison.in_time == (not silent)


def test_a_sender_whose_clock_is_ahead_is_compared_by_its_own_clock() -> None:
    scene = Scene(CRON)
    assert scene.look(250) == []
    assert scene.sent("proj.cron", 300.1) == []
    assert scene.look(500) == []


def test_each_of_two_schedules_of_one_call_has_its_sends() -> None:
    scene = Scene(CRON, {**CRON, "name": "other", "cron": "1-59/5 * * * *"})
    scene.sent("proj.cron", 300)
    assert seen(scene.look(500)) == [("missed", "other", 60), ("missed", "other", 360)]


def test_a_send_belongs_to_what_was_due_at_that_time() -> None:
    scene = Scene({"name": "hourly", "task": "proj.cron", "every": 3600}, CRON)
    scene.sent("proj.cron", 300)
    assert seen(scene.look(700)) == [("missed", "cron", 600)]
    assert scene.sent("proj.cron", 700) == []  # that is the hourly one
    assert seen(scene.look(1000)) == [("missed", "cron", 900)]


def test_nothing_is_due_before_its_start_nor_after_its_end() -> None:
    scene = Scene(
        {**CRON, "start_at": after(600).isoformat(), "end_at": after(900).isoformat()},
        {**TICK, "start_at": after(600).isoformat(), "end_at": after(605).isoformat()},
    )
    assert seen(scene.look(5000)) == [("missed", "cron", 600), ("missed", "cron", 900)]


# ---- intervals ---------------------------------------------------------------------------------------------


def test_an_interval_is_counted_from_the_last_send_wherever_it_begins() -> None:
    scene = Scene(TICK)
    for number in range(20):
        assert scene.sent("proj.tick", 3 + 10.5 * number) == []  # it drifts
    assert scene.look(203) == []
    assert scene.comparison.in_time == 20


def test_an_interval_that_pauses_is_late_or_missed() -> None:
    scene = Scene(TICK)
    scene.sent("proj.tick", 3)
    assert seen(scene.sent("proj.tick", 20)) == [("late", "tick", 13)]
    assert scene.sent("proj.tick", 30) == []
    assert scene.look(99) == []
    assert seen(scene.look(101)) == [("missed", "tick", 40)]
    assert scene.sent("proj.tick", 104) == []
    assert scene.sent("proj.tick", 114) == []


def test_an_outage_is_reported_at_intervals_and_not_for_each_occurrence() -> None:
    scene = Scene({**TICK, "every": 1})
    scene.sent("proj.tick", 1)
    found = [difference for second in range(600) for difference in scene.look(second)]
    assert 8 <= len(found) <= 10


def test_an_interval_that_comes_too_soon_is_extra_and_counts_from_there() -> None:
    scene = Scene(TICK)
    scene.sent("proj.tick", 3)
    assert seen(scene.sent("proj.tick", 8)) == [("extra", "tick", 8)]
    assert scene.sent("proj.tick", 18) == []
    assert scene.look(60) == []


# ---- senders -----------------------------------------------------------------------------------------------


def test_a_process_that_sends_nothing_that_is_due_is_no_scheduler() -> None:
    scene = Scene(CRON)
    for second in (10, 20, 30):
        assert scene.sent("proj.cron", second, sender="web") == []
    assert scene.comparison.unrelated == 3
    assert seen(scene.look(400)) == [("missed", "cron", 300)]


def test_all_messages_of_a_process_count_once_it_turns_out_to_be_a_scheduler() -> None:
    scene = Scene(CRON)
    scene.sent("proj.cron", 10)
    scene.sent("proj.else", 20)
    assert seen(scene.sent("proj.cron", 300)) == [("extra", "cron", 10), ("extra", None, 20)]
    assert seen(scene.sent("proj.more", 310)) == [("extra", None, 310)]
    assert scene.comparison.unrelated == 0


# ---- not looking -------------------------------------------------------------------------------------------


def test_occurrences_due_while_the_broker_was_away_are_not_compared() -> None:
    scene = Scene({**CRON, "cron": "* * * * *"}, TICK)
    scene.sent("proj.tick", 2)
    scene.sent("proj.cron", 60)
    scene.comparison.blind(after(62), after(310))
    assert scene.sent("proj.cron", 360) == []
    assert scene.sent("proj.tick", 313) == []
    assert scene.sent("proj.tick", 323) == []
    assert scene.look(380) == []
    assert seen(scene.look(490)) == [("missed", "tick", 333), ("missed", "cron", 420)]


def test_at_the_end_what_is_out_of_tolerance_is_missed_and_the_rest_unknown() -> None:
    scene = Scene(CRON)
    assert scene.finish(301.5) == []
    assert seen(scene.finish(303)) == [("missed", "cron", 300)]


def test_a_schedule_that_does_not_say_when_is_left_out() -> None:
    scene = Scene(CRON, {**CRON, "name": "wrong", "timezone": "Mars/Olympus"})
    assert list(scene.comparison.broken) == ["wrong"]
    assert scene.sent("proj.cron", 300) == []


class Broker:
    """Instead of Celery's events: what the test says, a step of the clock each."""

    errors = (OSError,)

    def __init__(self, steps: list[tuple[float, Any]]) -> None:
        self.steps = steps
        self.second = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Connect, unless the next step is that this fails."""
        if self.steps[0][1] == "away":
            self.receive()
        yield

    def receive(self, *_: object) -> list[Sent]:
        """Go on by a step."""
        self.second, what = self.steps.pop(0)
        if what == "away":
            raise OSError("no route")
        if what == "stop":
            raise KeyboardInterrupt
        return [Sent(Call(what, "()", "{}"), after(self.second), "beat", "id")] if what else []


def watch(
    monkeypatch: pytest.MonkeyPatch, *steps: tuple[float, Any]
) -> tuple[list[tuple[str, str | None, float]], list[str], Watch]:
    """Watch until the steps are done; return what was found, and what was said."""
    broker, said = Broker([*steps, (steps[-1][0], "stop")]), list[str]()
    monkeypatch.setattr("pgreact.timetable.shadow.watch.Events", lambda _: broker)
    monkeypatch.setattr("pgreact.timetable.shadow.watch._now", lambda: after(broker.second))
    monkeypatch.setattr("pgreact.timetable.shadow.watch.PAUSE", 0)
    found = Watch(APP, [CRON], TOLERANCE, said.append)
    return seen(list(found.run(None))), said, found


def test_watch_runs_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said, watcher = watch(monkeypatch, (300, "proj.cron"), (500, None), (700, None), (905, None))
    assert found == [("missed", "cron", 600), ("missed", "cron", 900)]
    assert said == ["watching 1 schedules"]
    assert (watcher.received, watcher.comparison.in_time) == (1, 1)


def test_while_the_broker_is_away_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said, _ = watch(
        monkeypatch, (299, None), (350, "away"), (610, "away"), (640, None), (700, None), (1000, None)
    )
    assert found == [("missed", "cron", 300), ("missed", "cron", 900)]
    assert said == [
        "watching 1 schedules",
        "the broker is away: no route; what is due meanwhile is not compared",
        "the broker is back",
    ]


def test_watch_does_not_begin_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PgreactError, match="the broker cannot be reached: no route"):
        watch(monkeypatch, (0, "away"))


# ---- calls -------------------------------------------------------------------------------------------------

PARIS = zoneinfo.ZoneInfo("Europe/Paris")


def as_celery_shows(args: Any, kwargs: Any, **options: Any) -> Call:
    """Return the call of an event of Celery."""
    message = APP.amqp.as_task_v2("1", "proj.add", args, kwargs, create_sent_event=True, **options)
    return Call("proj.add", message.sent_event["args"], message.sent_event["kwargs"])


def as_postgresql_keeps(value: Any) -> str:
    """Write JSON as an importer does, with keys in the order of jsonb."""

    def ordered(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: ordered(item[key]) for key in sorted(item, key=lambda key: (len(key), key))}
        return [ordered(each) for each in item] if isinstance(item, list) else item

    return json.dumps(ordered(json.loads(write(value, "args"))))


def row_of(args: Any, kwargs: Any) -> Call:
    """Return the call of the row that an importer makes."""
    return planned("proj.add", as_postgresql_keeps(list(args)), as_postgresql_keeps(kwargs))


class Money:
    """What JSON has no form for, but its application."""

    def __repr__(self) -> str:
        return "Money(5, 'EUR')"

    def __json__(self) -> str:
        return "5 EUR"


class Colour(enum.StrEnum):
    """A text with a name."""

    RED = "it's red"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, -2.5, 1e22, True, None, "x'y", "ä", 2**70), {}),
        ((1,), {"longer": 1, "b": [1], "a": {"d": None, "c": True}}),
        ((), {"to": datetime.date(2030, 1, 2), "at": NOON, "x": "y"}),
        (
            (datetime.datetime(2030, 7, 2, 12, tzinfo=PARIS), datetime.time(7, 30)),
            {"naive": NOON.replace(tzinfo=None)},
        ),
        ((decimal.Decimal("1.50"), uuid.UUID(int=7)), {"z": decimal.Decimal("1e3"), "a": 1}),
        (("a\nb", "back\\slash", "ends in \\", "'", '"', "a, b", "...", "(", ""), {"mul\nti": "li\nne"}),
        (((1, (2, 3)), [(4,)], ()), {"t": (5,), "e": {}}),
        ((b"bytes", b"\xff\x00"), {}),
        (({1: "one", None: 0, False: 1, 2.5: 2},), {"deep": [[[[[1]]]]], "d": {"a": {"b": {"c": {"d": 1}}}}}),
        ((Money(), Colour.RED), {"k": [Money()], "a": 1}),
        (("x" * 5000,), {"z": 1, "b": "y" * 3000}),
        (("word " * 400, 7, 8), {"key " * 400: 1, "a": 2}),
        (tuple(range(1000)), {f"key {n}": n for n in range(300)}),
        ((), {f"day {n}": datetime.datetime(2030, 1, 2, tzinfo=PARIS) for n in range(40)}),
        (([[1, 2, "x" * 1100]], decimal.Decimal("1." + "1" * 1100), 5), {"a": b"\x00\xff" * 900, "b": 2}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_call_is_known_again_however_it_is_shown(args: Any, kwargs: Any) -> None:
    assert row_of(args, kwargs).may_be(as_celery_shows(args, kwargs))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2030-01-02T12:00:00+00:00", "datetime.datetime(2030, 1, 2, 12, 0, tzinfo=<UTC>)"),
        (
            "2030-01-02T12:00:00+00:00",
            "datetime.datetime(2030, 1, 2, 13, 0, tzinfo=<DstTzInfo 'Europe/Paris' CET+1:00:00 STD>)",
        ),
        (
            "2030-01-02T12:00:00+01:00",
            "datetime.datetime(2030, 1, 2, 12, 0, tzinfo=<StaticTzInfo 'Etc/GMT-1'>)",
        ),
        (
            "2030-01-02T12:00:00+01:00",
            "datetime.datetime(2030, 1, 2, 12, 0, tzinfo=tzfile('/usr/share/zoneinfo/Europe/Paris'))",
        ),
        ("2030-01-02T12:00:00+00:00", "datetime.datetime(2030, 1, 2, 12, 0, tzinfo=<odd, zone>)"),
    ],
)
def test_a_time_is_known_again_in_whatever_zone_it_is_shown(value: str, shown: str) -> None:
    args = json.dumps([{"__type__": "datetime", "__value__": value}, 5])
    assert planned("t", args, "{}").may_be(Call("t", f"({shown}, 5)", "{}"))
    assert not planned("t", args, "{}").may_be(Call("t", f"({shown}, 6)", "{}"))


@pytest.mark.parametrize(
    ("planned_args", "sent_args"),
    [
        ((1,), (2,)),
        ((1,), (1, 2)),
        ((1, 2), (1,)),
        ((1,), (True,)),
        ((1,), ("1",)),
        ((None,), ()),
        (("a",), ("b",)),
        (("a",), ("ab",)),
        (("ab...",), ("ab",)),
        ((["a"],), ("a",)),
        (({"a": 1},), ({"b": 1},)),
        (({"a": 1},), ({"a": 1, "b": 2},)),
        (({"a": 1, "b": 2},), ({"a": 1},)),
        ((datetime.date(2030, 1, 2),), (datetime.date(2030, 1, 3),)),
        ((NOON,), (NOON.replace(tzinfo=PARIS),)),
        (("2030-01-02",), (datetime.date(2030, 1, 2),)),
        ((decimal.Decimal("1.5"),), (decimal.Decimal("1.6"),)),
        ((decimal.Decimal("1.5"),), ("1.5",)),
        ((b"a",), (b"b",)),
        (("x" * 5000,), ("x" * 500 + "y" * 4500,)),
        ((1, "x" * 5000), (2, "x" * 5000)),
    ],
    ids=repr,
)
def test_another_call_is_another(planned_args: Any, sent_args: Any) -> None:
    assert not row_of(planned_args, {}).may_be(as_celery_shows(sent_args, {}))
    assert not row_of((), {"k": planned_args, "x": 1}).may_be(as_celery_shows((), {"x": 1, "k": sent_args}))
    assert not row_of(planned_args, {}).may_be(
        dataclasses.replace(as_celery_shows(planned_args, {}), task="t")
    )


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.dates() | st.datetimes(timezones=st.sampled_from([datetime.UTC, PARIS, None]))
    | st.decimals(allow_nan=False, allow_infinity=False, places=2) | st.uuids()
    | st.text("x .'\\n", min_size=500, max_size=1100)
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text("ab'\\n .", max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text("abc_", min_size=1), VALUES, max_size=4))
def test_every_message_is_matched_with_its_schedule(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert row_of(args, kwargs).may_be(as_celery_shows(tuple(args), kwargs))


def test_arguments_that_the_caller_shows_otherwise_are_known_again() -> None:
    options = json.dumps({"argsrepr": "<secret>", "queue": "q"})
    call = planned("proj.add", '["pass"]', "{}", options)
    assert call.may_be(as_celery_shows(("pass",), {}, argsrepr="<secret>"))
    assert not call.may_be(as_celery_shows(("pass",), {}))


def test_a_call_is_written_for_people() -> None:
    assert str(planned("proj.add", "[1]", "{}")) == "proj.add [1] {}"
