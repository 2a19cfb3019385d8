"""pgreact's timetable: in its daemon, which enqueues jobs, and in Celery's Beat, which sends messages."""

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psutil
import psycopg

from benchmarks.marks import Marks
from benchmarks.processes import Workshop
from benchmarks.queue_sides import install
from benchmarks.timetable_entries import Entry
from benchmarks.timetable_sides import DEADLINE, TASK, Editable, Running, cpu_seconds
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from pgreact.timetable.recurrence import Recurrence, next_after

LOOKS = 100
PAUSE = 0.01  # seconds between two notifications, so that they are not coalesced
POLL = 0.002


class Ours(Editable):
    """Rows of ``pgreact.schedule``.

    Attributes:
        delivery: As in the rows.
        connection: To its database.
    """

    delivery: str

    def __init__(self, workshop: Workshop, broker: str, postgres: EmbeddedPostgres, database: str) -> None:
        super().__init__(workshop, broker)
        dsn = install(workshop, postgres, database)
        self._database = database
        # its transactions are not counted
        self._elsewhere = psycopg.connect(postgres.dsn(), autocommit=True)
        self.connection = psycopg.connect(dsn, autocommit=True)
        # jobs of this lane are never claimed
        self.connection.execute("insert into pgreact.lane (name, paused) values ('held', true)")
        self._environment |= {"PGREACT_DSN": dsn, "PGREACT_BROKER": broker}

    def store(self, entries: Sequence[Entry]) -> None:
        # planned, as after an earlier run
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute("truncate pgreact.schedule, pgreact.queue, pgreact.in_progress restart identity")
            cursor.execute("set local session_replication_role = replica")
            with cursor.copy(
                "copy pgreact.schedule (name, task, args, every, cron, anchor, delivery, lane, state, "
                "last_nominal_at, next_nominal_at, next_run_at) from stdin"
            ) as copy:
                for entry in entries:
                    every = timedelta(seconds=entry.every) if entry.every else None
                    cron = None if entry.every else f"{entry.minute} * * * *"
                    next_run = next_after(
                        Recurrence(
                            every_us=every // timedelta(microseconds=1) if every else None,
                            cron=cron,
                            anchor=entry.last_run,
                        ),
                        entry.last_run,
                    )
                    lane = "default" if entry.number else "held"
                    what = (entry.name, TASK, json.dumps(entry.args), every, cron, entry.last_run)
                    copy.write_row(
                        (*what, self.delivery, lane, "planned", entry.last_run, next_run, next_run)
                    )
        self.connection.execute("vacuum analyze pgreact.schedule, pgreact.queue, pgreact.in_progress")

    def fill(self, count: int, entries: Sequence[Entry]) -> None:
        """Store entries, and ``count`` others in one statement, none of which is due for ten minutes."""
        with self.connection.transaction():
            self.connection.execute("set local session_replication_role = replica")
            self.connection.execute(
                "insert into pgreact.schedule (name, task, every, cron, anchor, delivery, lane, state, "
                "planned_at, last_nominal_at, next_nominal_at, next_run_at) "
                "select 'idle ' || n, %(task)s, case when n %% 2 = 1 then interval '1 h' end, "
                "case when n %% 2 = 0 then extract(minute from due.at) || ' * * * *' end, "
                "due.at - interval '1 h', %(delivery)s, 'held', 'planned', now(), due.at - interval '1 h', "
                "due.at, due.at from generate_series(1, %(count)s) n, "
                "lateral (select date_trunc('minute', now()) + (15 + n %% 40) * interval '1 min' as at) due",
                {"task": TASK, "delivery": self.delivery, "count": count},
            )
        self.connection.cursor().executemany(
            "insert into pgreact.schedule (name, task, args, every, delivery, lane) "
            "values (%s, %s, %s, '1 h', %s, 'default')",
            [(entry.name, TASK, json.dumps(entry.args), self.delivery) for entry in entries],
        )
        self.connection.execute("vacuum analyze pgreact.schedule")

    def hurry(self, entry: Entry) -> float:
        self.connection.execute(
            "update pgreact.schedule set next_run_at = now() where name = %s", (entry.name,)
        )
        return time.monotonic()

    def insert(self, entry: Entry) -> None:
        """Add an entry that is due now."""
        self.connection.execute(
            "insert into pgreact.schedule (name, task, args, at, delivery) values (%s, %s, %s, now(), %s)",
            (entry.name, TASK, json.dumps(entry.args), self.delivery),
        )

    def wait_for_standby(self) -> None:
        """Wait until a process waits for the lock that another holds.

        Raises:
            PgreactError: None does.
        """
        end = time.monotonic() + DEADLINE
        while not self._one(
            "select exists (select from pg_locks where locktype = 'advisory' and not granted and database = "
            "(select oid from pg_database where datname = current_database()))"
        ):
            if time.monotonic() > end:
                raise PgreactError(f"{self.name}: nobody waits for the lock")
            time.sleep(POLL)

    def enqueued(self) -> int:
        """Return how many jobs the paused lane has."""
        return int(self._one("select count(*) from pgreact.queue where lane = 'held'"))

    def numbered(self) -> int:
        """Return how many jobs were made, committed or not, without the cost of a count."""
        return int(self._one("select last_value from pgreact.queue_id_seq"))

    def backends(self, process: psutil.Process) -> list[int]:
        """Return the backends of a process of ours."""
        rows = self._elsewhere.execute(
            "select pid from pg_stat_activity where application_name like %s", (f"pgreact % {process.pid} %",)
        )
        return [pid for (pid,) in rows]

    def statements(self) -> int:
        """Return how many transactions there were in its database."""
        row = self._elsewhere.execute(
            "select xact_commit + xact_rollback from pg_stat_database where datname = %s", (self._database,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def notify(self) -> None:
        """Notify of an edit without making one."""
        self.connection.execute("notify pgreact, 'schedule'")

    def forget_jobs(self) -> None:
        """Delete all jobs: nothing runs them."""
        self.connection.execute("truncate pgreact.queue, pgreact.in_progress")

    def flush_counts(self) -> None:
        """Count this session's transactions now; PostgreSQL does so up to 10 s late."""
        self.connection.execute("select pg_stat_force_next_flush()")

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()
        self._elsewhere.close()

    def _one(self, statement: str) -> Any:
        row = self.connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]

    def _observed(self, process: psutil.Process, marks: Marks) -> Running:
        return _Looking(self, process, marks)


class Direct(Ours):
    """``celery beat -S pgreact``, which sends the messages itself."""

    name = "pgreact, direct"
    scheduler = "pgreact.beat.PgreactScheduler"
    delivery = "direct"


class Queue(Ours):
    """``pgreact listen``, which enqueues jobs and sends those."""

    name = "pgreact, queue"
    scheduler = ""
    delivery = "queue"

    def _command(self) -> list[str]:
        return ["-m", "benchmarks.timetable_listen"]

    def _observed(self, process: psutil.Process, marks: Marks) -> Running:
        return _Enqueuing(self, process, marks)


class _Looking(Running):
    """A side that reads the timetable when notified."""

    def __init__(self, side: Ours, process: psutil.Process, marks: Marks) -> None:
        super().__init__(process, marks)
        self._side = side

    def pids(self) -> list[int]:
        return [self.process.pid, *self._side.backends(self.process)]

    def statements(self) -> int:
        return self._side.statements()

    def tick(self) -> float:
        """Make it read; return the seconds of CPU time, here and in the server."""
        pids = self.pids()
        before = sum(map(cpu_seconds, pids))
        for _ in range(LOOKS):
            self._side.notify()
            time.sleep(PAUSE)
        took = (sum(map(cpu_seconds, pids)) - before) / LOOKS
        self._side.flush_counts()
        return took


class _Enqueuing(_Looking):
    """Counts jobs: those without a number stay in the queue."""

    def __init__(self, side: Ours, process: psutil.Process, marks: Marks) -> None:
        super().__init__(side, process, marks)
        self._numbered = 0

    def count(self) -> tuple[int, float]:
        before, self._numbered = self._numbered, self._side.numbered()
        # no count while jobs are still being made
        return self._side.enqueued() if self._numbered == before else 0, time.monotonic()
