"""Actions on all jobs that a filter matches: a preview that freezes the filter, then a run in batches.

The frozen filter has the highest id and the time of the preview, so the run touches no job that came later. A
run is a thread of this process: each batch is a transaction of its own, and the first one writes the entry
in the event log. If the process ends, the rest stays undone.
"""

import collections
import dataclasses
import datetime
import itertools
import json
import threading
import time
from typing import Any, NamedTuple

from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection
from pgreact.postgres.errors import ErrorKind, classify
from pgreact.postgres.queries import query
from pgreact.web.database import Database
from pgreact.web.job_filter import Filter
from pgreact.web.job_search import search

COUNTED = 10_000  # jobs that a preview counts at most
BATCH = 500  # jobs of a transaction
RUNNING = 2  # runs at once
_KEPT = 50  # runs whose result can be seen
_LONGEST = 1.0  # seconds of a preview
_LOCK = "300ms"  # that a batch waits for a row
_SAMPLE = 20  # jobs that a preview shows


class Action(NamedTuple):
    """An action on many jobs.

    Attributes:
        name: Its name, and that of its query ``jobs_NAME``.
        verb: On a button.
        done: In a result.
        states: Of the jobs that it concerns.
        effect: What it does, for the confirmation.
    """

    name: str
    verb: str
    done: str
    states: tuple[str, ...]
    effect: str


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "retry",
            "Retry",
            "retried",
            ("dead", "delayed"),
            "Dead jobs are queued again with all their attempts; delayed jobs run now.",
        ),
        Action(
            "cancel",
            "Cancel",
            "cancelled",
            ("ready", "delayed", "blocked", "in_progress"),
            "Jobs that wait are removed. Jobs that run go on, for the last time.",
        ),
        Action("discard", "Discard", "discarded", ("dead",), "Dead jobs are deleted, with their arguments."),
    )
}


@dataclasses.dataclass(frozen=True)
class Preview:
    """The jobs that an action would touch.

    Attributes:
        action: The action.
        wanted: The frozen filter.
        count: Jobs that match; the least number of them if not ``exact``.
        exact: All were counted.
        groups: The number of jobs by state and task, the largest first.
        sample: The newest of them.
    """

    action: Action
    wanted: Filter
    count: int
    exact: bool
    groups: list[tuple[str, str, int]]
    sample: list[dict[str, Any]]


def preview(connection: Connection, action: Action, wanted: Filter, hidden: list[str]) -> Preview:
    """Freeze a filter, and count what it matches: up to 10,000 jobs, or for a second.

    Args:
        connection: Any session on the database.
        action: The action.
        wanted: The filter.
        hidden: As for :func:`search`.
    """
    [[newest, now]] = connection.execute(query("web_job_frontier").encode()).fetchall()
    frozen = freeze(action, wanted, newest, now)
    jobs: list[dict[str, Any]] = []
    before: int | None = None
    deadline = time.monotonic() + _LONGEST
    while frozen.states and len(jobs) <= COUNTED:
        found = search(connection, frozen, hidden, before=before, limit=COUNTED + 1 - len(jobs))
        jobs += found.jobs
        before = found.before
        if before is None or time.monotonic() > deadline:
            break
    groups = collections.Counter((job["state"], job["task"]) for job in jobs[:COUNTED])
    return Preview(
        action,
        frozen,
        min(len(jobs), COUNTED),
        before is None and len(jobs) <= COUNTED,
        [(state, task, count) for (state, task), count in groups.most_common(10)],
        jobs[:_SAMPLE],
    )


def freeze(action: Action, wanted: Filter, newest: int, now: datetime.datetime) -> Filter:
    """Return a filter that matches no later jobs than now, and only those that the action concerns."""
    states = tuple(state for state in wanted.states if state in action.states)
    up_to = newest if wanted.up_to is None else min(newest, wanted.up_to)
    until = now if wanted.until is None else min(now, wanted.until)
    text = {**wanted.text, "up_to": str(up_to), "until": until.isoformat()}
    return dataclasses.replace(wanted, text=text, states=states, up_to=up_to, until=until)


class Run:
    """One run of an action.

    Attributes:
        id: Its number in this process.
        done: Jobs acted on.
        started: Of a cancellation: jobs that run, for the last time.
        passed: Jobs that had changed before their turn, or whose rows other transactions kept locked.
        finished: It has ended.
        error: Why it ended early.
    """

    def __init__(
        self,
        number: int,
        database: Database,
        action: Action,
        wanted: Filter,
        hidden: list[str],
        count: int,
        actor: str,
    ) -> None:
        self.id = number
        self.action = action
        self.wanted = wanted
        self.count = count
        self.actor = actor
        self.done = self.started = self.passed = 0
        self.finished = False
        self.error: str | None = None
        self._database = database
        self._hidden = hidden
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bulk-{number}", daemon=True)

    @property
    def unmatched(self) -> int:
        """Jobs of the preview that no longer matched."""
        return max(self.count - self.done - self.started, self.passed)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current batch."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._batches()
        except PgreactError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001 - the page says why it ended
            self.error = f"{type(error).__name__}: {error}"
        self.finished = True

    def _batches(self) -> None:
        before: int | None = None
        size, logged = BATCH, False
        while True:
            ids: list[int] = []
            try:
                with self._database.acting(self.actor) as connection:
                    if not logged:
                        self._log(connection)
                    found = search(connection, self.wanted, self._hidden, before=before, limit=size)
                    ids = sorted(job["id"] for job in found.jobs)
                    done, started = self._act(connection, ids)
            except PgreactError as error:
                cause = error.__cause__
                if cause is None or classify(cause) is not ErrorKind.TRANSIENT or not ids:
                    raise
                if size > 1:  # a row is locked, or the batch takes too long
                    size = max(1, min(size, len(ids)) // 8)
                    continue
                self.passed += 1
                before = ids[0]
                continue
            logged = True
            self.done += done
            self.started += started
            self.passed += len(ids) - done - started
            size = min(BATCH, size * 2)
            before = found.before
            if before is None:
                return
            if self._stopped.is_set():
                raise PgreactError("stopped, as these pages were")

    def _act(self, connection: Connection, ids: list[int]) -> tuple[int, int]:
        if not ids:
            return 0, 0
        connection.execute(f"set local lock_timeout = '{_LOCK}'".encode())
        [[done, started]] = connection.execute(
            query(f"jobs_{self.action.name}").encode(), {"ids": ids}
        ).fetchall()
        return done, started

    def _log(self, connection: Connection) -> None:
        details = {"filter": self.wanted.logged, "jobs": self.count}
        connection.execute(
            "select pgreact.log_event(%s, %s, %s::jsonb)",
            (f"jobs.{self.action.done}", self.wanted.described, json.dumps(details)),
        )


class Runs:
    """The runs of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._runs: dict[int, Run] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(self, action: Action, wanted: Filter, hidden: list[str], count: int, actor: str) -> Run:
        """Start a run.

        Raises:
            PgreactError: As many run as may at once.
        """
        with self._lock:
            if sum(not run.finished for run in self._runs.values()) >= RUNNING:
                raise PgreactError(f"{RUNNING} actions on many jobs run already: wait until one has ended")
            run = Run(next(self._numbers), self._database, action, wanted, hidden, count, actor)
            self._runs[run.id] = run
            for number in [*self._runs][:-_KEPT]:
                del self._runs[number]
        run.start()
        return run

    def get(self, number: int) -> Run | None:
        """Return a run by its number."""
        return self._runs.get(number)

    def close(self) -> None:
        """Let all end after their current batch."""
        for run in self._runs.values():
            run.stop()
