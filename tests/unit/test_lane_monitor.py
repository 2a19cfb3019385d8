"""What the log says of lanes and of messages that nobody starts: each change once."""

from typing import Any

from pgreact import logs
from pgreact.queue.lane_monitor import STANDING, LaneMonitor

FULL: dict[str, Any] = {"lane": "mail", "in_progress": 7, "unstarted": 5}
SILENT: dict[str, Any] = {"lane": "mail", "queue": "q", "jobs": 2, "sent": 3, "verdict": "passed over"}


def test_lane_that_stands_is_told_once_and_told_when_it_gets_on() -> None:
    monitor = LaneMonitor()
    assert [*monitor.observe(0, [FULL], set(), None)] == []
    assert [*monitor.observe(STANDING - 1, [FULL], set(), None)] == []
    assert [*monitor.observe(STANDING, [FULL], set(), None)] == [
        logs.LaneStalled(lane="mail", running=2, unstarted=5, stalled_s=STANDING)
    ]
    assert [*monitor.observe(STANDING + 9, [FULL], set(), None)] == []
    assert [*monitor.observe(STANDING + 10, [FULL], {"mail"}, None)] == [
        logs.LaneRecovered(lane="mail", stalled_s=STANDING + 10)
    ]


def test_busy_lane_that_is_always_full_is_no_news() -> None:
    monitor = LaneMonitor()
    for second in range(300):
        assert [*monitor.observe(second, [FULL], {"mail"} if second % 30 == 0 else set(), None)] == []


def test_messages_that_nobody_starts_are_told_once_and_told_when_they_are_gone() -> None:
    monitor = LaneMonitor()
    assert [*monitor.observe(0, [], set(), [SILENT])] == [
        logs.QueueStalled(lane="mail", queue="q", jobs=2, sent=3, consumed=True)
    ]
    assert [*monitor.observe(1, [], set(), None)] == []
    assert [*monitor.observe(2, [], set(), [{**SILENT, "sent": 4}])] == []
    assert [*monitor.observe(3, [], set(), [])] == [logs.QueueRecovered(lane="mail", queue="q")]
