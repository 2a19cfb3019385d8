"""``pgreact schedule import redbeat``: from what RedBeat itself wrote into Redis."""

import datetime
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from dateutil.rrule import FR, MO, TU
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule
from redis import Redis

from tests.command import Said, pgreact
from tests.harness import Daemon, Database
from tests.timetable import row

UTC = datetime.UTC
NOON = datetime.datetime(2030, 1, 2, 12, tzinfo=UTC)
HOUR = datetime.timedelta(hours=1)


class RedBeat:
    """RedBeat's entries under a prefix of their own, and a database to move into."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.url = url
        self.prefix = f"rb_{uuid4().hex[:8]}:"
        self.app = Celery("proj", set_as_current=False)
        self.app.conf.update(
            redbeat_redis_url=url, redbeat_key_prefix=self.prefix, timezone="UTC", broker_url="memory://"
        )

    def save(self, name: str, when: Any, ran: datetime.datetime | None = None, **more: Any) -> None:
        """Write an entry, as an application would."""
        entry = RedBeatSchedulerEntry(name, "proj.run", when, app=self.app, **more)
        entry.last_run_at = None
        entry.save()
        if ran is not None:
            entry.reschedule(ran)

    def bring(self, *arguments: str) -> Said:
        """Run the import."""
        options = ("--redis", self.url, "--prefix", self.prefix)
        return pgreact("schedule", "import", "redbeat", *options, *arguments, dsn=self.database.dsn)

    def report(self, *arguments: str) -> dict[str, Any]:
        """Run the import; return its report."""
        return self.bring("--json", *arguments).report()

    def row(self, name: str, *columns: str) -> tuple[Any, ...]:
        """Return columns of a schedule."""
        return row(self.database, name, *columns)


@pytest.fixture
def theirs(database: Database, redis_url: str, installed: Callable[..., None]) -> Iterator[RedBeat]:
    """RedBeat, and our schema."""
    installed(database)
    found = RedBeat(database, redis_url)
    yield found
    if client := getattr(found.app, "redbeat_redis", None):
        client.close()


def test_entries_are_carried(theirs: RedBeat) -> None:
    theirs.save(
        "call",
        schedule(90),
        args=[1, "ä"],
        kwargs={"at": NOON},
        options={"queue": "mail", "priority": 3, "expires": 30},
    )
    theirs.save("cron", crontab(minute=[0, 30], hour="7", day_of_month="1-7", day_of_week="mon"))
    theirs.save("off", schedule(60), enabled=False)
    theirs.save("whole", schedule(3600, relative=True))
    assert sorted(theirs.report()["carried"]) == ["call", "cron", "off", "whole"]
    assert theirs.row("call", "every", "args", "kwargs", "options", "expires") == (
        datetime.timedelta(seconds=90),
        [1, "ä"],
        {"at": {"__type__": "datetime", "__value__": NOON.isoformat()}},
        {"queue": "mail", "priority": 3},
        datetime.timedelta(seconds=30),
    )
    assert theirs.row("cron", "cron", "cron_and", "timezone") == ("0,30 7 1-7 * mon", True, "UTC")
    assert theirs.row("off", "enabled") == (False,)
    assert theirs.row("whole", "every", "extract(minute from anchor)") == (datetime.timedelta(hours=1), 0)


def test_crontabs_are_in_the_time_zone_of_the_application(theirs: RedBeat) -> None:
    theirs.save("cron", crontab())
    theirs.report("--timezone", "Europe/Paris")
    assert theirs.row("cron", "timezone") == ("Europe/Paris",)
    wrong = theirs.bring("--timezone", "Mars/Olympus")
    assert (wrong.code, 'no time zone "Mars/Olympus"' in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        ({"freq": "DAILY"}, {"rrule": "FREQ=DAILY"}),
        (
            {"freq": "MONTHLY", "byweekday": [MO, FR], "bysetpos": -1, "byhour": [9, 17], "count": 10},
            {"rrule": "FREQ=MONTHLY;COUNT=10;BYSETPOS=-1;BYDAY=MO,FR;BYHOUR=9,17"},
        ),
        (
            {"freq": "WEEKLY", "interval": 2, "wkst": TU, "byweekday": 4, "until": NOON.replace(year=2031)},
            {"rrule": "FREQ=WEEKLY;INTERVAL=2;WKST=TU;UNTIL=20310102T120000Z;BYDAY=FR"},
        ),
        ({"freq": "MINUTELY", "interval": 5}, {"every": datetime.timedelta(minutes=5)}),
        (
            {"freq": "DAILY", "dtstart": NOON.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo"))},
            {"rrule": "FREQ=DAILY", "timezone": "Etc/GMT-9"},
        ),
    ],
)
def test_rules_are_carried(theirs: RedBeat, rule: dict[str, Any], columns: dict[str, Any]) -> None:
    theirs.save("rule", rrule(**{"dtstart": NOON, **rule}, app=theirs.app))
    assert theirs.report()["uncarried"] == []
    expected = {"anchor": NOON, "timezone": "UTC", **columns}
    assert theirs.row("rule", *expected) == tuple(expected.values())


def test_what_cannot_be_carried_says_why(theirs: RedBeat) -> None:
    india = NOON.astimezone(zoneinfo.ZoneInfo("Asia/Kolkata"))
    theirs.save("zone", rrule("DAILY", dtstart=india, app=theirs.app))
    theirs.save("minutes", rrule("MINUTELY", dtstart=NOON, byhour=9, app=theirs.app))
    theirs.save("countdown", schedule(60), options={"countdown": 3})
    client = Redis.from_url(theirs.url)
    for name, definition in (
        ("odd", '{"name": "odd", "task": "t", "schedule": {"__type__": "moon"}}'),
        ("bad", "{"),
    ):
        client.hset(f"{theirs.prefix}{name}", "definition", definition)
        client.zadd(f"{theirs.prefix}:schedule", {f"{theirs.prefix}{name}": 0})
    client.close()
    reasons = {entry["name"]: entry["reason"] for entry in theirs.report()["uncarried"]}
    assert reasons.keys() == {"zone", "minutes", "countdown", "odd", "bad"}
    assert "+0530" in reasons["zone"]
    assert "write it as cron" in reasons["minutes"]
    assert "countdown" in reasons["countdown"]
    assert '"moon"' in reasons["odd"]
    assert "Expecting property name" in reasons["bad"]


def test_last_runs_are_carried_over(theirs: RedBeat, redis_url: str, daemons: Callable[..., Daemon]) -> None:
    now = datetime.datetime.now(UTC)
    theirs.save("owed", schedule(3600), ran=now - datetime.timedelta(minutes=70))
    theirs.save("on time", schedule(3600), ran=now - datetime.timedelta(minutes=10))
    theirs.save("never", schedule(3600))
    theirs.report()
    daemon = daemons(theirs.database.dsn, redis_url).ready()
    # what has never run RedBeat runs at once
    assert {daemon.wait_for("schedule.fired", n)["schedule"] for n in (1, 2)} == {"owed", "never"}
    theirs.database.until("select bool_and(state = 'planned') from pgreact.schedule")
    assert theirs.row("owed", "run_count", "next_run_at") == (1, now + datetime.timedelta(minutes=50))
    assert theirs.row("on time", "last_run_at", "next_run_at", "run_count") == (
        now - datetime.timedelta(minutes=10),
        now + datetime.timedelta(minutes=50),
        0,
    )
    assert theirs.row("never", "run_count", "next_run_at - last_nominal_at") == (1, HOUR)


def test_the_second_time_nothing_changes(theirs: RedBeat) -> None:
    theirs.save("a", schedule(60))
    theirs.save("b", crontab())
    theirs.report()
    theirs.save("a", schedule(90))
    found = theirs.report()
    assert (found["changed"], found["unchanged"]) == (["a"], ["b"])


def test_a_wrong_prefix_or_server_is_named(theirs: RedBeat, database: Database) -> None:
    said = theirs.bring()
    assert (said.code, f'no entries under "{theirs.prefix}"' in said.err) == (1, True)
    for url, code in (("redis://127.0.0.1:1/0", 1), ("http://x", 2)):
        assert pgreact("schedule", "import", "redbeat", "--redis", url, dsn=database.dsn).code == code


def test_without_the_package_redis_it_says_what_to_install(
    theirs: RedBeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    said = theirs.bring()
    assert (said.code, "pip install 'pgreact[redis]'" in said.err) == (2, True)
