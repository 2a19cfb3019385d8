"""``pgreact schedule shadow``: what was sent, held against what was due, at times that the tests choose."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from pgreact.errors import PgreactError
from pgreact.timetable.shadow.call import Call, planned, told
from pgreact.timetable.shadow.judge import LOST, Difference, Judge, Sent
from pgreact.timetable.shadow.watch import Watch
from pgreact.timetable.shadow.watched import watched

APP = Celery("proj", set_as_current=False)
NOON = datetime.datetime(2030, 1, 2, 12, tzinfo=datetime.UTC)
TOLERANCE = datetime.timedelta(seconds=2)
CRON = {"name": "cron", "task": "proj.cron", "cron": "*/5 * * * *"}
TICK = {"name": "tick", "task": "proj.tick", "every": 10}


def after(seconds: float) -> datetime.datetime:
    """Return a moment after the look began."""
    return NOON + datetime.timedelta(seconds=seconds)


class Scene:
    """A judge, and a Beat that sends what the test says."""

    def __init__(self, *rows: dict[str, Any], tolerance: datetime.timedelta = TOLERANCE) -> None:
        self.judge = Judge([watched(row, APP, NOON) for row in rows], tolerance, NOON)

    def sent(self, task: str, seconds: float, sender: str = "beat", args: str = "[]") -> list[Difference]:
        """Let a message be sent, and heard of."""
        call = told(task, args, "{}")
        return list(self.judge.sent(Sent(call, after(seconds), sender, f"{task} {seconds:g}")))

    def look(self, seconds: float) -> list[Difference]:
        """Look for what is missed."""
        return list(self.judge.look(after(seconds)))

    def finish(self, seconds: float) -> list[Difference]:
        """Look for the last time."""
        return list(self.judge.finish(after(seconds)))


def seen(found: list[Difference]) -> list[tuple[str, str | None, float]]:
    """Return differences by kind, schedule and second."""
    return [(each.kind, each.schedule, (each.at - NOON).total_seconds()) for each in found]


# ---- by the calendar ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-1.9, 0, 1.9])
def test_what_is_sent_in_time_is_no_difference(off: float) -> None:
    scene = Scene(CRON)
    assert scene.sent("proj.cron", 300 + off) == []
    assert scene.look(500) == []
    assert scene.judge.in_time == 1


def test_what_is_not_sent_is_missed_when_it_can_no_longer_come() -> None:
    scene = Scene(CRON)
    assert scene.look(300 + LOST.total_seconds()) == []
    assert seen(scene.look(300.1 + LOST.total_seconds())) == [("missed", "cron", 300)]
    assert scene.look(500) == []


def test_what_is_sent_after_the_tolerance_is_late() -> None:
    scene = Scene(CRON)
    (found,) = scene.sent("proj.cron", 302.5)
    assert seen([found]) == [("late", "cron", 300)]
    assert (found.late, found.task_id) == (datetime.timedelta(seconds=2.5), "proj.cron 302.5")
    assert scene.look(500) == []
    assert scene.judge.in_time == 0


def test_what_is_sent_too_soon_is_extra_and_what_was_due_is_missed() -> None:
    scene = Scene(CRON)
    scene.sent("proj.cron", 300)
    assert seen(scene.sent("proj.cron", 590)) == [("extra", "cron", 590)]
    assert seen(scene.look(700)) == [("missed", "cron", 600)]


def test_what_is_sent_twice_is_extra() -> None:
    scene = Scene(CRON)
    assert scene.sent("proj.cron", 300) == []
    assert seen(scene.sent("proj.cron", 300.5)) == [("extra", "cron", 300.5)]


def test_what_was_due_before_anybody_looked_may_be_heard_of_or_not() -> None:
    for silent in (True, False):
        scene = Scene(CRON)
        if not silent:
            assert scene.sent("proj.cron", 0.5) == []
        assert scene.look(200) == []
        assert scene.judge.in_time == (not silent)


def test_a_sender_whose_clock_is_ahead_is_judged_by_his_clock() -> None:
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
    assert scene.judge.in_time == 20


def test_an_interval_that_pauses_is_late_or_missed() -> None:
    scene = Scene(TICK)
    scene.sent("proj.tick", 3)
    assert seen(scene.sent("proj.tick", 20)) == [("late", "tick", 13)]
    assert scene.sent("proj.tick", 30) == []
    assert scene.look(99) == []
    assert seen(scene.look(101)) == [("missed", "tick", 40)]
    assert scene.sent("proj.tick", 104) == []
    assert scene.sent("proj.tick", 114) == []


def test_an_outage_is_told_once_a_while_and_not_for_each_occurrence() -> None:
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


# ---- who sends ---------------------------------------------------------------------------------------------


def test_a_process_that_sends_nothing_that_is_due_is_no_scheduler() -> None:
    scene = Scene(CRON)
    for second in (10, 20, 30):
        assert scene.sent("proj.cron", second, sender="web") == []
    assert scene.judge.strange == 3
    assert seen(scene.look(400)) == [("missed", "cron", 300)]


def test_a_process_that_turns_out_to_be_one_is_judged_by_all_it_sent() -> None:
    scene = Scene(CRON)
    scene.sent("proj.cron", 10)
    scene.sent("proj.else", 20)
    assert seen(scene.sent("proj.cron", 300)) == [("extra", "cron", 10), ("extra", None, 20)]
    assert seen(scene.sent("proj.more", 310)) == [("extra", None, 310)]
    assert scene.judge.strange == 0


# ---- not looking -------------------------------------------------------------------------------------------


def test_what_was_due_while_nobody_looked_is_not_judged() -> None:
    scene = Scene({**CRON, "cron": "* * * * *"}, TICK)
    scene.sent("proj.tick", 2)
    scene.sent("proj.cron", 60)
    scene.judge.blind(after(62), after(310))
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
    assert list(scene.judge.broken) == ["wrong"]
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
            self.hear()
        yield

    def hear(self, *_: object) -> list[Sent]:
        """Go on by a step."""
        self.second, what = self.steps.pop(0)
        if what == "away":
            raise OSError("no route")
        if what == "stop":
            raise KeyboardInterrupt
        return [Sent(told(what, "()", "{}"), after(self.second), "beat", "id")] if what else []


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


def test_it_looks_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said, watcher = watch(monkeypatch, (300, "proj.cron"), (500, None), (700, None), (905, None))
    assert found == [("missed", "cron", 600), ("missed", "cron", 900)]
    assert said == ["watching 1 schedules"]
    assert (watcher.heard, watcher.judge.in_time) == (1, 1)


def test_while_the_broker_is_away_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said, _ = watch(
        monkeypatch, (299, None), (350, "away"), (610, "away"), (640, None), (700, None), (1000, None)
    )
    assert found == [("missed", "cron", 300), ("missed", "cron", 900)]
    assert said == [
        "watching 1 schedules",
        "the broker is away: no route; what is due meanwhile is not judged",
        "the broker is back",
    ]


def test_without_a_broker_it_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PgreactError, match="the broker cannot be reached: no route"):
        watch(monkeypatch, (0, "away"))


# ---- calls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "shown_args", "shown_kwargs"),
    [
        ("[]", "{}", "()", "{}"),
        ("[1]", "{}", "(1,)", "{}"),
        (
            '[1, "x\'y"]',
            '{"b": 1, "a": {"d": null, "c": true}}',
            '[1, "x\'y"]',
            "{'a': {'c': True, 'd': None}, 'b': 1}",
        ),
        ('[{"__type__": "date", "__value__": "2030-01-02"}]', "{}", "(datetime.date(2030, 1, 2),)", "{}"),
        ('["ä"]', "{}", "('ä',)", "{}"),
    ],
)
def test_calls_are_the_same_however_they_are_shown(
    args: str, kwargs: str, shown_args: str, shown_kwargs: str
) -> None:
    assert planned("proj.add", args, kwargs, APP) == told("proj.add", shown_args, shown_kwargs)


def test_long_arguments_are_cut_as_celery_cuts_them() -> None:
    text = "x" * 5000
    message = APP.amqp.as_task_v2("1", "proj.add", [text], {"a": [1, [2, [3, [4]]]]}, create_sent_event=True)
    event = message.sent_event
    assert planned("proj.add", f'["{text}"]', '{"a": [1, [2, [3, [4]]]]}', APP) == told(
        "proj.add", event["args"], event["kwargs"]
    )


def test_calls_with_other_arguments_are_others() -> None:
    assert told("proj.add", "(1,)", "{}") != told("proj.add", "(2,)", "{}")
    assert told("proj.add", "(1,)", "{}") != told("proj.sub", "(1,)", "{}")
    assert str(Call("proj.add", "[1]", "{}")) == "proj.add [1] {}"
