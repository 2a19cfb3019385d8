"""Write django-celery-beat's tables by its migrations and models, at ``PROJ_DSN``, or dump them."""

import datetime
import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from psycopg.conninfo import conninfo_to_dict

NOON = datetime.datetime(2030, 1, 2, 12, tzinfo=datetime.UTC)


def fill() -> None:
    """Write one task of each kind, and some that importers skip."""
    from django_celery_beat.models import (
        ClockedSchedule,
        CrontabSchedule,
        IntervalSchedule,
        PeriodicTask,
        SolarSchedule,
    )

    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    seldom = IntervalSchedule.objects.create(every=2**31 - 1, period="days")
    long = IntervalSchedule.objects.create(every=20 * 365, period="days")
    blank = CrontabSchedule.objects.create(minute="5", hour="7")
    CrontabSchedule.objects.filter(pk=blank.pk).update(timezone="")
    often = IntervalSchedule.objects.create(every=50_000, period="microseconds")
    report = CrontabSchedule.objects.create(
        minute="0, 30", hour="7", day_of_week="mon-fri", timezone="Europe/Paris"
    )
    friday = CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="13", day_of_week="fri")
    sunday = CrontabSchedule.objects.create(minute="0", hour="0", day_of_week="7")
    dusk = SolarSchedule.objects.create(event="sunset", latitude="48.86", longitude="2.35")
    once = ClockedSchedule.objects.create(clocked_time=NOON)

    def task(name: str, **fields: object) -> None:
        PeriodicTask.objects.create(name=name, task="proj.run", **fields)

    task(
        "all of it",
        interval=hourly,
        args=json.dumps([1, "ä"]),
        kwargs=json.dumps({"deep": {"x": [1.5, None]}}),
        queue="mail",
        exchange="ex",
        routing_key="key",
        priority=3,
        headers=json.dumps({"tenant": "a"}),
        expire_seconds=90,
        description="An hourly task",
        last_run_at=NOON,
        total_run_count=7,
    )
    task("crontab", crontab=report)
    task("friday the 13th", crontab=friday)
    task("sunset", solar=dusk)
    task("clocked", clocked=once, one_off=True)
    task("disabled", interval=hourly, enabled=False)
    task("one-off", interval=hourly, one_off=True)
    task("bounded", interval=hourly, start_time=NOON, expires=NOON + datetime.timedelta(days=1))
    task("sunday by seven", crontab=sunday)
    task("too often", interval=often)
    task("too seldom", interval=seldom)
    task("seldom", interval=long, args="null", kwargs="null")
    task("in no zone", crontab=blank)
    task("no headers", interval=hourly, headers="{")
    task("no JSON", interval=hourly, kwargs="{'a': 1}")
    task("a list for kwargs", interval=hourly, kwargs="[1]")
    PeriodicTask.objects.bulk_create([PeriodicTask(name="nothing", task="proj.run")])


if __name__ == "__main__":
    where = conninfo_to_dict(os.environ["PROJ_DSN"])
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    settings.configure(
        INSTALLED_APPS=["django_celery_beat"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                **{names[key]: value for key, value in where.items() if key in names},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
    )
    django.setup()
    if len(sys.argv) > 1:
        call_command("dumpdata", "django_celery_beat", output=sys.argv[1], verbosity=0)
    else:
        call_command("migrate", verbosity=0)
        fill()
