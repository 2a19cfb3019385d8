"""The sampler: reads what metrics show of the database, in the leader, only while they are scraped."""

import asyncio
import dataclasses
import json
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pgreact.clock import Clock
from pgreact.daemon.metrics import Exposition, Names
from pgreact.errors import SessionLost, first
from pgreact.histogram import Histogram
from pgreact.postgres.application_name import application_name
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles

INTERVAL = 10.0  # seconds between two samples
SCRAPED_WITHIN = 90.0  # seconds after the last scrape until sampling stops
TIMEOUT = 2.0  # seconds of each statement
LANES = 100  # that have their names as label; the others share one
TASKS = 100
OUTCOMES = ("done", "failed", "lost", "expired")  # shown of each task, even at 0
TRIGGER_STATES = ("ok", "missing", "disabled")  # shown even at 0
# What is read, by the name of the query.
QUERIES = (
    "queue_lanes",
    "queue_totals",
    "metrics_settled",
    "metrics_times",
    "metrics_schedules",
    "metrics_server",
    "trigger_health",
    "queue_outbox",
    "canary",
)

Rows = Iterable[Any]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A reading of the database.

    Attributes:
        at: When, by the monotonic clock.
        exposition: All of it but its age.
    """

    at: float
    exposition: Exposition


class Sampler:
    """Takes samples in the background. What fails is left out of the sample, and reported as trouble."""

    def __init__(
        self, dsn: str, clock: Clock, troubles: Troubles, prepare: Callable[[Sample], Awaitable[None]]
    ) -> None:
        """Read nothing yet.

        Args:
            dsn: Straight to the primary server.
            clock: Measures.
            troubles: Gets what fails.
            prepare: Called with each sample before it is shown.
        """
        self.sample: Sample | None = None
        self._dsn = dsn
        self._clock = clock
        self._troubles = troubles
        self._prepare = prepare
        self._scraped = asyncio.Event()
        self._scraped_at = -math.inf
        self._lane, self._task = Names(LANES), Names(TASKS)

    def scraped(self) -> None:
        """Take samples for a while, since they are looked at."""
        self._scraped_at = self._clock.monotonic()
        self._scraped.set()

    @property
    def wanted(self) -> bool:
        """Whether a scrape came lately."""
        return self._clock.monotonic() - self._scraped_at <= SCRAPED_WITHIN

    async def wait_until_wanted(self) -> None:
        """Wait for a scrape, unless one came lately."""
        if not self.wanted:
            self._scraped.clear()
            await self._scraped.wait()

    async def run(self) -> None:
        """Take samples while they are wanted, for as long as this daemon leads."""
        trouble = self._troubles["session metrics"]
        try:
            while True:
                await self.wait_until_wanted()
                try:
                    await self._sample_while_wanted()
                except Exception as error:  # noqa: BLE001 - metrics stop nothing else
                    self.sample = None
                    await asyncio.sleep(trouble.failed(first(error)))
                else:
                    trouble.recovered()
        finally:
            self.sample = None

    async def _sample_while_wanted(self) -> None:
        session = await Session.open(self._dsn, application_name("metrics"), statement_timeout=TIMEOUT)
        try:
            while self.wanted:
                at = self._clock.monotonic()
                rows = {name: await self._read(session, name) for name in QUERIES}
                sample = Sample(at, exposition := Exposition())
                self._put(exposition, rows)
                await self._prepare(sample)
                self.sample = sample
                self._troubles["session metrics"].recovered()
                await asyncio.sleep(INTERVAL)
        finally:
            self.sample = None
            await session.close()

    async def _read(self, session: Session, name: str) -> Rows:
        trouble = self._troubles[f"metrics: {name}"]
        try:
            rows = await session.fetch(query(name))
        except SessionLost:
            raise
        except Exception as error:  # noqa: BLE001 - one statement's failure does not affect the others
            trouble.failed(error)
            return ()
        trouble.recovered()
        return rows

    def _put(self, exposition: Exposition, rows: dict[str, Rows]) -> None:
        self._put_lanes(exposition, rows["queue_lanes"])
        for row in rows["queue_totals"]:
            exposition.put("dead_jobs", row["dead"])
        self._put_settled(exposition, rows["metrics_settled"], rows["queue_lanes"])
        self._put_times(exposition, rows["metrics_times"])
        for row in rows["metrics_schedules"]:
            for state, schedules in row.items():
                exposition.put("schedules", schedules, state=state)
        triggers = [row["trigger"] for name in ("trigger_health", "queue_outbox") for row in rows[name]]
        for state in dict.fromkeys((*TRIGGER_STATES, *triggers)):
            exposition.put("triggers", triggers.count(state), state=state)
        for row in rows["canary"]:
            if row["every_s"] is not None and row["sent_at"] is not None:
                if row["seconds"] is not None:
                    exposition.put("canary_seconds", row["seconds"])
                exposition.put("canary_age_seconds", row["age_s"])
                exposition.put("canary_failures", row["failures"])
        for row in rows["metrics_server"]:
            exposition.put("notify_queue_ratio", row["notify_queue_usage"])
            if row["oldest_xmin_s"] is not None:
                exposition.put("oldest_xmin_age_seconds", row["oldest_xmin_s"])
            for table, dead in sorted(json.loads(row["dead_rows"] or "{}").items()):
                exposition.put("dead_rows", dead, table=table)

    def _put_lanes(self, exposition: Exposition, rows: Rows) -> None:
        named = [(self._lane(row["name"] or ""), row) for row in rows]
        for state in ("ready", "delayed", "blocked", "in_progress"):
            for lane, jobs in _sums((lane, row[state]) for lane, row in named):
                exposition.put("jobs", jobs, lane=lane, state=state)
        for lane, claimed in _sums((lane, row["claimed"]) for lane, row in named):
            exposition.put("claimed", claimed, lane=lane)
        oldest: dict[str, float] = {}
        for lane, row in named:
            oldest[lane] = max(oldest.get(lane, 0.0), row["oldest_s"] or 0.0)
        for lane, seconds in oldest.items():
            exposition.put("oldest_ready_seconds", seconds, lane=lane)
        for lane, row in named:
            if row["known"] and lane == row["name"]:
                limit = row["max_in_progress"]
                exposition.put("lane_limit", math.inf if limit is None else limit, lane=lane)
                exposition.put("lane_paused", row["paused"], lane=lane)

    def _put_settled(self, exposition: Exposition, rows: Rows, lanes: Rows) -> None:
        found = dict(
            _sums(
                ((self._lane(row["lane"]), self._task(row["task"]), row["outcome"]), row["jobs"])
                for row in rows
            )
        )
        pairs = {(lane, task) for lane, task, _ in found}
        settled = {lane for lane, _ in pairs}
        pairs |= {(lane, "") for row in lanes if (lane := self._lane(row["name"] or "")) not in settled}
        keys = found.keys() | {(*pair, outcome) for pair in pairs for outcome in OUTCOMES}
        for lane, task, outcome in sorted(keys):
            exposition.put(
                "settled", found.get((lane, task, outcome), 0), lane=lane, task=task, outcome=outcome
            )

    def _put_times(self, exposition: Exposition, rows: Rows) -> None:
        waits: dict[str, Histogram] = {}
        runs: dict[str, Histogram] = {}
        for row in rows:
            for found, counts, total in (
                (waits, row["waits"], row["wait_s"]),
                (runs, row["runs"], row["run_s"]),
            ):
                sums = found.setdefault(self._lane(row["lane"]), Histogram(row["bounds"]))
                sums.counts = [old + new for old, new in zip(sums.counts, counts, strict=True)]
                sums.sum += total
        for name, found in (("job_wait_seconds", waits), ("job_run_seconds", runs)):
            for lane, histogram in found.items():
                exposition.put_histogram(name, histogram, lane=lane)


def _sums(pairs: Iterable[tuple[Any, float]]) -> Iterable[tuple[Any, float]]:
    """Add the values of equal keys: of lanes and tasks that share a label."""
    found: dict[Any, float] = {}
    for key, value in pairs:
        found[key] = found.get(key, 0) + value
    return found.items()
