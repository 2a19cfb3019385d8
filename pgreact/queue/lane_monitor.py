"""What the log says of lanes: which stand still though they have work, and which messages nobody starts."""

from collections.abc import Collection, Iterator
from typing import Any

from pgreact import logs

STANDING = 60.0  # seconds without a new job, after which a lane that is full is worth a line


class LaneMonitor:
    """Tells each change once, from the answers of one claim after the other."""

    def __init__(self) -> None:
        self._full: dict[str, float] = {}  # since when a lane has had no place for what is ready in it
        self._told: set[str] = set()
        self._unanswered: set[tuple[str, str | None]] = set()

    def observe(
        self,
        now: float,
        full_lanes: Collection[dict[str, Any]],
        served: Collection[str],
        unanswered: Collection[dict[str, Any]] | None,
    ) -> Iterator[logs.Event]:
        """Take note of a claim.

        Args:
            now: Seconds, by a clock that is never set.
            full_lanes: Lanes with more ready jobs than places, and what takes these.
            served: Lanes of which it took jobs.
            unanswered: Jobs that no worker starts, as ``pgreact.unanswered`` has them; ``None``: it did not
                look.

        Returns:
            What is to be logged.
        """
        full = {lane["lane"]: lane for lane in full_lanes if lane["lane"] not in served}
        for name in self._full.keys() - full.keys():
            since = self._full.pop(name)
            if name in self._told:
                self._told.remove(name)
                yield logs.LaneRecovered(lane=name, stalled_s=round(now - since, 3))
        for name, lane in full.items():
            since = self._full.setdefault(name, now)
            if now - since >= STANDING and name not in self._told:
                self._told.add(name)
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
