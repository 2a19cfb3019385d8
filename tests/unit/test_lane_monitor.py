"""The lane monitor logs each change once: lanes that are stalled, messages that no worker starts."""

from typing import Any

from pgreact import logs
from pgreact.queue.lane_monitor import STALLED, LaneMonitor

FULL: dict[str, Any] = {"lane": "mail", "in_progress": 7, "unstarted": 5}
SILENT: dict[str, Any] = {"lane": "mail", "queue": "q", "jobs": 2, "sent": 3, "verdict": "passed over"}


def test_stalled_lane_is_logged_once_and_again_when_it_is_freed() -> None:
    monitor = LaneMonitor()
    assert [*monitor.observe(0, [FULL], set(), None)] == []
    assert [*monitor.observe(STALLED - 1, [FULL], set(), None)] == []
    assert [*monitor.observe(STALLED, [FULL], set(), None)] == [
        logs.LaneStalled(lane="mail", running=2, unstarted=5, stalled_s=STALLED)
    ]
    assert [*monitor.observe(STALLED + 9, [FULL], set(), None)] == []
    assert [*monitor.observe(STALLED + 10, [FULL], {"mail"}, None)] == [
        logs.LaneRecovered(lane="mail", stalled_s=STALLED + 10)
    ]


def test_full_lane_that_is_served_is_not_logged() -> None:
    monitor = LaneMonitor()
    for second in range(300):
        assert [*monitor.observe(second, [FULL], {"mail"} if second % 30 == 0 else set(), None)] == []


def test_unstarted_messages_are_logged_once_and_again_when_they_are_gone() -> None:
    monitor = LaneMonitor()
    assert [*monitor.observe(0, [], set(), [SILENT])] == [
        logs.QueueStalled(lane="mail", queue="q", jobs=2, sent=3, consumed=True)
    ]
    assert [*monitor.observe(1, [], set(), None)] == []
    assert [*monitor.observe(2, [], set(), [{**SILENT, "sent": 4}])] == []
    assert [*monitor.observe(3, [], set(), [])] == [logs.QueueRecovered(lane="mail", queue="q")]
