"""The sides of the peers: Beat, django-celery-beat, RedBeat."""

import abc
import json
import pickle
import shelve
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import celery
import psutil
import psycopg
import redis
from celery import Celery
from celery.beat import ScheduleEntry
from celery.schedules import crontab, schedule
from redbeat import RedBeatSchedulerEntry
from redbeat.decoder import RedBeatJSONEncoder

from benchmarks.marks import DIRECTORY, Marks
from benchmarks.processes import Workshop
from benchmarks.timetable_entries import Entry
from benchmarks.timetable_signs import ENTRIES, LOOP, STARTED, STORE, TICKED, TICKS
from pgreact.demo.postgres import EmbeddedPostgres

TASK = "bench.tick"
DEADLINE = 60.0
FALLS_ASLEEP = 0.1  # seconds; Python handles a signal that comes just before a sleep only after it


class Running:
    """A running scheduler.

    Attributes:
        process: The one that sends.
        started: When it began to start: interpreter and imports are behind it. As ``time.monotonic`` has it.
    """

    def __init__(self, process: psutil.Process, marks: Marks) -> None:
        self.process = process
        self.started = marks.began(STARTED, DEADLINE)
        self._marks = marks

    def sent(self, number: int, deadline: float = DEADLINE) -> float:
        """Wait until the entry with this number is sent; return when."""
        return self._marks.began(number, deadline)

    def count(self) -> tuple[int, float]:
        """Return how many entries were sent so far, and when the last was."""
        return self._marks.ended()

    def pids(self) -> list[int]:
        """Return its processes, those of the server included."""
        return [self.process.pid]

    def statements(self) -> int:
        """Return how many statements it has sent to PostgreSQL."""
        return 0

    def tick(self) -> float:
        """Run a tick that finds no due entry; return its seconds."""
        time.sleep(FALLS_ASLEEP)
        self.process.send_signal(signal.SIGUSR1)
        began = self._marks.began(TICKED, DEADLINE)
        return (self._marks.began(TICKED, DEADLINE) - began) / TICKS


class Side(abc.ABC):
    """A scheduler.

    Attributes:
        name: In the tables.
        scheduler: The class or entry point behind ``celery beat -S``.
    """

    name: str
    scheduler: str

    def __init__(self, workshop: Workshop, broker: str) -> None:
        self.workshop = workshop
        self._environment = {"BENCH_BROKER": broker}
        self._options: list[str] = []

    @abc.abstractmethod
    def store(self, entries: Sequence[Entry]) -> None:
        """Store these entries and no others, while nothing runs."""

    @contextmanager
    def running(self, *, loop: float = 0, may_end: bool = False) -> Iterator[Running]:
        """Run it during the block.

        Args:
            loop: Celery's ``beat_max_loop_interval``, in seconds; 0: the side's own default.
            may_end: It may be killed within the block.
        """
        place = self.workshop.directory / f"marks-{time.monotonic_ns()}"
        environment = {**self._environment, LOOP: str(loop), DIRECTORY: str(place)}
        with (
            Marks(place) as marks,
            self.workshop.running(
                *self._command(), says_ready=False, may_end=may_end, **environment
            ) as process,
        ):
            yield self._observed(process, marks)

    def _command(self) -> list[str]:
        beat = ["-m", "celery", "-A", "benchmarks.timetable_app", "beat", "-S", self.scheduler]
        return [*beat, *self._options]

    def _observed(self, process: psutil.Process, marks: Marks) -> Running:
        return Running(process, marks)


class Editable(Side):
    """A scheduler whose entries can be edited while it runs."""

    @abc.abstractmethod
    def hurry(self, entry: Entry) -> float:
        """Make an entry due now; return when the edit was committed, by time.monotonic."""


class Beat(Side):
    """Celery's Beat: ``beat_schedule``, and a shelf with the last runs."""

    name = "Beat"
    scheduler = "celery.beat:PersistentScheduler"

    def __init__(self, workshop: Workshop, broker: str, place: str) -> None:
        super().__init__(workshop, broker)
        self._place = workshop.directory / place
        self._place.mkdir()
        self._options = ["-s", str(self._place / "shelf")]
        self._environment[ENTRIES] = str(self._place / "entries")

    def store(self, entries: Sequence[Entry]) -> None:
        for old in self._place.iterdir():
            old.unlink()
        kept = {
            entry.name: ScheduleEntry(
                name=entry.name,
                task=TASK,
                last_run_at=entry.last_run,
                schedule=_celery_schedule(entry),
                args=entry.args,
            )
            for entry in entries
        }
        with shelve.open(str(self._place / "shelf")) as shelf:  # noqa: S301  ours
            shelf.update(
                {"entries": kept, "__version__": celery.__version__, "tz": None, "utc_enabled": True}
            )
        # Beat drops from the shelf what the application's schedule does not have
        own = {
            entry.name: {"task": TASK, "schedule": _celery_schedule(entry), "args": entry.args}
            for entry in entries
        }
        (self._place / "entries").write_bytes(pickle.dumps(own))


class DjangoCeleryBeat(Editable):
    """Rows of Django's models.

    Attributes:
        dsn: Of their database.
    """

    name = "django-celery-beat"
    scheduler = "django"

    def __init__(self, workshop: Workshop, broker: str, postgres: EmbeddedPostgres, database: str) -> None:
        super().__init__(workshop, broker)
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute(f"create database {database}".encode())
        self.dsn = postgres.dsn(database)
        self._environment |= {"BENCH_DSN": self.dsn, "DJANGO_SETTINGS_MODULE": "benchmarks.timetable_django"}
        workshop.python("-m", "django", "migrate", **self._environment)

    def store(self, entries: Sequence[Entry]) -> None:
        every = {seconds: key for key, seconds in enumerate({e.every for e in entries if e.every}, 1)}
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(
                "truncate django_celery_beat_periodictask, django_celery_beat_intervalschedule, "
                "django_celery_beat_crontabschedule, django_celery_beat_periodictasks restart identity"
            )
            cursor.execute(
                "insert into django_celery_beat_crontabschedule (minute, hour, day_of_week, day_of_month, "
                "month_of_year, timezone) select m::text, '*', '*', '*', '*', 'UTC' "
                "from generate_series(0, 59) m order by m"
            )
            cursor.executemany(
                "insert into django_celery_beat_intervalschedule (every, period) values (%s, 'seconds')",
                [(seconds,) for seconds in every],
            )
            with cursor.copy(
                "copy django_celery_beat_periodictask (name, task, args, kwargs, enabled, last_run_at, "
                "total_run_count, date_changed, description, one_off, headers, interval_id, crontab_id) "
                "from stdin"
            ) as copy:
                for entry in entries:
                    what = (entry.name, TASK, json.dumps(entry.args), "{}", True)
                    ran = (entry.last_run, 1, entry.last_run, "", False, "{}")
                    when = (every[entry.every], None) if entry.every else (None, entry.minute + 1)
                    copy.write_row((*what, *ran, *when))
            cursor.execute("insert into django_celery_beat_periodictasks values (1, now())")
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("vacuum analyze")

    def hurry(self, entry: Entry) -> float:
        # as saving the model would
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "update django_celery_beat_periodictask set last_run_at = now() - interval '3 hours' "
                "where name = %s",
                [entry.name],
            )
            connection.execute("update django_celery_beat_periodictasks set last_update = now()")
        return time.monotonic()


class RedBeat(Editable):
    """Keys of Redis."""

    name = "RedBeat"
    scheduler = "redbeat.RedBeatScheduler"

    def __init__(self, workshop: Workshop, broker: str, database: int) -> None:
        super().__init__(workshop, broker)
        store = broker.removesuffix("/0") + f"/{database}"
        self._environment[STORE] = store
        self._redis = redis.Redis.from_url(store)
        self._app = Celery("bench", set_as_current=False)
        self._app.conf.redbeat_redis_url = store

    def store(self, entries: Sequence[Entry]) -> None:
        self._redis.flushdb()
        with self._redis.pipeline(transaction=False) as pipe:
            for entry in entries:
                kept = self._entry(entry)
                definition = {
                    "name": entry.name,
                    "task": TASK,
                    "args": entry.args,
                    "kwargs": {},
                    "options": {},
                    "schedule": kept.schedule,
                    "enabled": True,
                }
                meta = {"last_run_at": entry.last_run, "total_run_count": 1}
                for field, value in (("definition", definition), ("meta", meta)):
                    pipe.hset(kept.key, field, json.dumps(value, cls=RedBeatJSONEncoder))
                pipe.zadd("redbeat::schedule", {kept.key: kept.score})
            pipe.execute()

    def hurry(self, entry: Entry) -> float:
        self._entry(entry).reschedule(datetime.now(UTC) - timedelta(hours=3))
        return time.monotonic()

    def _entry(self, entry: Entry) -> RedBeatSchedulerEntry:
        return RedBeatSchedulerEntry(
            name=entry.name,
            task=TASK,
            schedule=_celery_schedule(entry),
            args=entry.args,
            app=self._app,
            last_run_at=entry.last_run,
        )


def _celery_schedule(entry: Entry) -> schedule:
    """Return Celery's schedule of an entry."""
    return schedule(timedelta(seconds=entry.every)) if entry.every else crontab(minute=str(entry.minute))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process's threads, in seconds."""
    return (
        sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )
