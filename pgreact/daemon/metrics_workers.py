"""The metrics of the workers: the leader asks them by remote control, only while its metrics are scraped."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from pgreact.clock import Clock
from pgreact.daemon.metrics import FAMILIES, Exposition
from pgreact.daemon.metrics_sampler import Sampler
from pgreact.dispatch.registration_monitor import CeleryWorkers
from pgreact.postgres.trouble import Troubles

INTERVAL = 30.0  # seconds between two questions
REPORT = "pgreact_report"  # the command that pgreact.worker.report answers
KNOWN = 10_000  # workers whose last counts are kept
_SETTLED = "settled_"
# as pgreact.worker.counters has them
OUTCOMES = frozenset(
    ("done", "failed", "lost", "expired", "revoked", "rejected", "invalid", "snoozed", "postponed")
)


class WorkerTotals:
    """Sums the counters of all workers. A sum never falls, though workers go and start again."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self._last: dict[str, Mapping[str, int]] = {}

    def add(self, worker: str, counters: Mapping[str, int]) -> None:
        """Add what a worker counted since its last reply; all of it after a restart.

        Args:
            worker: Its name.
            counters: Its counters since its start.
        """
        last = self._last.pop(worker, {})
        restarted = any(counters.get(name, 0) < value for name, value in last.items())
        for name, value in counters.items():
            self.sums[name] = self.sums.get(name, 0) + value - (0 if restarted else last.get(name, 0))
        self._last[worker] = counters
        while len(self._last) > KNOWN:
            del self._last[next(iter(self._last))]


class WorkerMetrics:
    """Asks the workers while this daemon leads and is scraped."""

    def __init__(self, workers: CeleryWorkers, sampler: Sampler, clock: Clock, troubles: Troubles) -> None:
        """Ask nothing yet.

        Args:
            workers: The application's.
            sampler: Knows of scrapes.
            clock: Measures.
            troubles: Gets what fails.
        """
        self._trouble = troubles["metrics: workers"]
        self._workers = workers
        self._sampler = sampler
        self._clock = clock
        self._totals: WorkerTotals | None = None
        self._replied: int | None = None  # workers; None: they could not be asked

    async def run(self) -> None:
        """Ask every 30 s while a scrape came lately, for as long as this daemon leads."""
        totals = WorkerTotals()
        asked_at = -math.inf
        try:
            while True:
                await asyncio.sleep(max(0.0, asked_at + INTERVAL - self._clock.monotonic()))
                await self._sampler.wait_until_wanted()
                asked_at = self._clock.monotonic()
                try:
                    replies = await self._workers.ask(REPORT, brief=True)
                except Exception as error:  # noqa: BLE001 - metrics stop nothing else
                    self._trouble.failed(error)
                    self._replied = None
                    continue
                self._trouble.recovered()
                self._replied, self._totals = None if replies is None else len(replies), totals
                for worker, reply in (replies or {}).items():
                    if counters := _counters(reply):
                        totals.add(worker, counters)
        finally:
            self._totals = None

    def put(self, exposition: Exposition) -> None:
        """Add the families of source ``workers``, once the workers were asked.

        The number of those that replied is left out if the last question did not reach them: 0 would say that
        none is there.
        """
        if self._totals is None:
            return
        if self._replied is not None:
            exposition.put("workers", self._replied)
        for name, value in self._totals.sums.items():
            if name.startswith(_SETTLED):
                exposition.put("worker_settled", value, outcome=name.removeprefix(_SETTLED))
            else:
                exposition.put(f"worker_{name}", value)


def _counters(reply: Any) -> dict[str, int]:
    """Return the counters of a reply, which may come from any version of pgreact."""
    found = reply.get("counters") if isinstance(reply, dict) else None
    items = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in items if _known(name) and isinstance(value, int) and value >= 0}


def _known(name: Any) -> bool:
    return isinstance(name, str) and (
        name.removeprefix(_SETTLED) in OUTCOMES if name.startswith(_SETTLED) else f"worker_{name}" in FAMILIES
    )
