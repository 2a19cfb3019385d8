"""Recurrences in words."""

import datetime
from typing import Any

import pytest

from pgreact.timetable.description import describe

NONE = dict.fromkeys(("every", "cron", "at", "solar", "rrule")) | {"cron_and": False, "timezone": "UTC"}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"every": datetime.timedelta(minutes=10)}, "every 10 minutes"),
        ({"every": 60.0}, "every minute"),
        ({"every": 86400.0}, "every day"),
        ({"every": 90.0}, "every 90 seconds"),
        ({"every": 0.25}, "every 250ms"),
        ({"cron": "0 7 * * 1-5", "timezone": "Europe/Paris"}, "at 07:00 on weekdays, Europe/Paris"),
        ({"cron": "0 7 * * mon-fri"}, "at 07:00 on weekdays, UTC"),
        ({"cron": "@daily"}, "at 00:00 every day, UTC"),
        ({"cron": "*/5 * * * *"}, "every fifth minute of every hour, UTC"),
        ({"cron": "*/10 * * * * *"}, "every 10th second of every minute, UTC"),
        ({"cron": "0 0 1 * 0"}, "at 00:00 on the first day of month or on Sunday, UTC"),
        (
            {"cron": "0 0 1 * 0", "cron_and": True},
            "at 00:00 on the first day of month, if also on Sunday, UTC",
        ),
        ({"cron": "0 0 * * fri-mon"}, "cron 0 0 * * fri-mon, UTC"),
        ({"cron": "61 0 * * *"}, "cron 61 0 * * *, UTC"),
        (
            {"at": datetime.datetime(2026, 3, 29, 9, tzinfo=datetime.UTC)},
            "once, at 2026-03-29 09:00, UTC",
        ),
        ({"solar": "sunset 48.86 2.35"}, "at sunset in 48.86 2.35"),
        ({"solar": "dawn_civil 48.86 2.35"}, "at civil dawn in 48.86 2.35"),
        (
            {"rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0"},
            "every month on the last Friday at 17:00, UTC",
        ),
        ({"rrule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE"}, "every 2 weeks on Monday and Wednesday, UTC"),
        (
            {"rrule": "RRULE:FREQ=DAILY;BYHOUR=9,12,17;COUNT=3"},
            "every day at 09:00, 12:00 and 17:00, 3 times, UTC",
        ),
        ({"rrule": "FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=-1"}, "every year in March on the last day, UTC"),
        (
            {"rrule": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=7;BYMINUTE=30"},
            "every week on weekdays at 07:30, UTC",
        ),
        ({"rrule": "FREQ=YEARLY;BYWEEKNO=20"}, "rrule FREQ=YEARLY;BYWEEKNO=20, UTC"),
    ],
)
def test_a_recurrence_is_described_in_words(columns: dict[str, Any], said: str) -> None:
    assert describe({**NONE, **columns}) == said
