"""Print random tasks of django-celery-beat, a line each, and what its Beat would do."""

import datetime
import json
import random
import sys
import zoneinfo
from typing import Any

import django
from celery import Celery
from django.conf import settings

NOW = datetime.datetime(2026, 7, 15, 12, 34, 56, tzinfo=datetime.UTC)
ZONES = (
    "UTC",
    "Asia/Kolkata",
    "America/Phoenix",
)  # without changes of the clock, at which its Beat differs


class Clock(datetime.datetime):
    """A stopped clock."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return the moment of the tests."""
        return NOW.astimezone(tz)


def ago(random_: random.Random, most: float) -> datetime.datetime:
    """Return a moment, up to some seconds ago, not near a boundary."""
    return NOW - datetime.timedelta(seconds=int(random_.uniform(1, most)), milliseconds=7)


def tasks(seed: int, count: int) -> Any:
    """Make tasks of all kinds, with bounds or without, that ran or did not."""
    from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask

    draw = random.Random(seed)
    for number in range(count):
        fields: dict[str, Any] = {}
        kind = draw.choice(["interval", "interval", "crontab", "clocked"])
        if kind == "interval":
            period = draw.choice(["seconds", "minutes", "hours", "days"])
            fields["interval"] = IntervalSchedule(id=1, every=draw.randint(1, 40), period=period)
        elif kind == "crontab":
            fields["crontab"] = CrontabSchedule(
                id=1,
                minute=draw.choice(["*", "0", "*/7", "30"]),
                hour=draw.choice(["*", "3", "*/5", "9-17"]),
                day_of_week=draw.choice(["*", "mon", "mon-fri"]),
                day_of_month=draw.choice(["*", "1", "15", "1-7"]),
                timezone=zoneinfo.ZoneInfo(draw.choice(ZONES)),
            )
        else:
            moment = ago(draw, 86_400) + datetime.timedelta(hours=12)
            fields |= {"clocked": ClockedSchedule(id=1, clocked_time=moment), "one_off": True}
        task = PeriodicTask(name=f"{kind} {number}", task="proj.run", **fields)
        task.date_changed = ago(draw, 200_000)
        if ran := draw.random() < 0.7:
            task.last_run_at = ago(draw, draw.choice([100, 5_000, 200_000, 3_000_000]))
        task.total_run_count = draw.randint(1, 5) if ran and draw.random() < 0.7 else 0
        if kind == "interval" and draw.random() < 0.3:
            task.one_off = True
        if draw.random() < 0.3:
            task.start_time = ago(draw, 86_400) + datetime.timedelta(hours=12)
        # its Beat sends a crontab that never ran at its start; pgreact does not
        if kind == "crontab" and task.start_time is not None:
            task.last_run_at = max(task.last_run_at or task.start_time, task.start_time)
        if draw.random() < 0.2:
            task.expires = ago(draw, 86_400) + datetime.timedelta(hours=16)
        task.enabled = draw.random() < 0.9
        yield task


def told(task: Any, app: Celery) -> dict[str, Any]:
    """Return a task as a row of the importer's query, and what Beat would do."""
    from django_celery_beat.schedulers import ModelEntry

    row = {
        name: getattr(task, name)
        for name in (
            *("name", "task", "args", "kwargs", "queue", "exchange", "routing_key", "headers", "priority"),
            *("expires", "expire_seconds", "one_off", "start_time", "enabled", "last_run_at"),
            *("total_run_count", "date_changed", "description"),
            *("interval_id", "crontab_id", "solar_id", "clocked_id"),
        )
    }
    row["options"] = 1 if task.expires else 0
    for other in (task.interval, task.crontab, task.clocked):
        if other is not None:
            row |= {name: value for name, value in vars(other).items() if name not in {"id", "_state"}}
    row["timezone"] = str(row.get("timezone"))
    due, seconds = ModelEntry(task, app).is_due()
    return {"row": row, "due": due, "next": (NOW + datetime.timedelta(seconds=seconds)) if not due else None}


if __name__ == "__main__":
    settings.configure(INSTALLED_APPS=["django_celery_beat"], USE_TZ=True, TIME_ZONE="UTC")
    django.setup()
    from django_celery_beat import clockedschedule, models, schedulers, tzcrontab

    models.now = clockedschedule.now = lambda: NOW
    tzcrontab.datetime = Clock
    schedulers.ModelEntry._default_now = lambda entry: NOW.astimezone(entry.app.timezone)
    schedulers.ModelEntry._disable = lambda _entry, _model: None
    models.PeriodicTask.save = lambda _task: None

    class Standing(Celery):
        """An application with a stopped clock."""

        def now(self) -> datetime.datetime:
            """Return the moment of the tests."""
            return NOW.astimezone(self.timezone)

    app = Standing("proj", set_as_current=True)
    for task in tasks(int(sys.argv[1]), int(sys.argv[2])):
        sys.stdout.write(json.dumps(told(task, app), default=lambda moment: moment.isoformat()) + "\n")
