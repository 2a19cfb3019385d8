"""Monitor lanes: log which are stalled though jobs are ready, and which messages no worker starts."""

from collections.abc import Collection, Iterator
from typing import Any

from pgreact import logs

STALLED = 60.0  # seconds without a claim, after which a full lane is logged


class LaneMonitor:
    """Turns the answers of claims into log events, one for each change."""

    def __init__(self) -> None:
        self._full: dict[str, float] = {}  # since when a lane has been full
        self._logged: set[str] = set()
        self._unanswered: set[tuple[str, str | None]] = set()

    def observe(
        self,
        now: float,
        full_lanes: Collection[dict[str, Any]],
        served: Collection[str],
        unanswered: Collection[dict[str, Any]] | None,
    ) -> Iterator[logs.Event]:
        """Observe a claim; yield the events to log.

        Args:
            now: Seconds, by a monotonic clock.
            full_lanes: Lanes with ready jobs and no free place, and how many jobs occupy the places.
            served: Lanes from which the claim took jobs.
            unanswered: Rows of ``pgreact.unanswered``; ``None``: the claim did not look.
        """
        full = {lane["lane"]: lane for lane in full_lanes if lane["lane"] not in served}
        for name in self._full.keys() - full.keys():
            since = self._full.pop(name)
            if name in self._logged:
                self._logged.remove(name)
                yield logs.LaneRecovered(lane=name, stalled_s=round(now - since, 3))
        for name, lane in full.items():
            since = self._full.setdefault(name, now)
            if now - since >= STALLED and name not in self._logged:
                self._logged.add(name)
                yield logs.LaneStalled(
                    lane=name,
                    running=lane["in_progress"] - lane["unstarted"],
                    unstarted=lane["unstarted"],
                    stalled_s=round(now - since, 3),
                )
        if unanswered is None:
            return
        current = {(row["lane"], row["queue"]): row for row in unanswered}
        for lane_name, queue in self._unanswered - current.keys():
            yield logs.QueueRecovered(lane=lane_name, queue=queue)
        for key in current.keys() - self._unanswered:
            row = current[key]
            yield logs.QueueStalled(
                lane=row["lane"],
                queue=row["queue"],
                jobs=row["jobs"],
                sent=row["sent"],
                consumed=row["verdict"] == "passed over",
            )
        self._unanswered = set(current)
