"""``pgreact schedule import redbeat``: from what RedBeat itself wrote into Redis."""

import contextlib
import datetime
import json
import sys
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from dateutil.rrule import FR, MO, TU
from redbeat import RedBeatSchedulerEntry
from redbeat.schedulers import get_redis
from redbeat.schedules import rrule
from redis import Redis
from redis.cluster import RedisCluster

from pgreact.timetable.importers import redbeat
from pgreact.timetable.importers.redbeat_redis import Place
from pgreact.timetable.shadow.expected import expected
from tests.command import Result, pgreact
from tests.harness import Daemon, Database
from tests.servers import redis_cluster, redis_sentinel, redis_server
from tests.timetable import row

UTC = datetime.UTC
NOON = datetime.datetime(2030, 1, 2, 12, tzinfo=UTC)
MINUTES_5 = datetime.timedelta(minutes=5)
ODD = datetime.timezone(datetime.timedelta(hours=12, minutes=45))
HOUR = datetime.timedelta(hours=1)


class RedBeat:
    """RedBeat's entries under a prefix of their own, and a database to move into."""

    def __init__(self, database: Database, url: str, **settings: Any) -> None:
        self.database = database
        self.url = url
        self.prefix = f"rb_{uuid4().hex[:8]}:"
        self.app = Celery("proj", set_as_current=False)
        self.app.conf.update(
            redbeat_redis_url=url, redbeat_key_prefix=self.prefix, timezone="UTC", broker_url="memory://"
        )
        self.app.conf.update(settings)

    def save(self, name: str, when: Any, ran: datetime.datetime | None = None, **more: Any) -> None:
        """Write an entry, as an application would."""
        entry = RedBeatSchedulerEntry(name, "proj.run", when, app=self.app, **more)
        entry.last_run_at = None
        entry.save()
        if ran is not None:
            entry.reschedule(ran)

    def bring(self, *arguments: str) -> Result:
        """Run the import."""
        options = ("--redis", self.url, "--prefix", self.prefix)
        return pgreact("schedule", "import", "redbeat", *options, *arguments, dsn=self.database.dsn)

    def report(self, *arguments: str) -> dict[str, Any]:
        """Run the import; return its report."""
        return self.bring("--json", *arguments).report()

    def reasons(self) -> dict[str, str]:
        """Run the import; return what stays behind, and why."""
        return {entry["name"]: entry["reason"] for entry in self.report()["skipped"]}

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


def test_entries_are_imported(theirs: RedBeat) -> None:
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
    assert sorted(theirs.report()["added"]) == ["call", "cron", "off", "whole"]
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
        ({"freq": "MINUTELY", "interval": 5}, {"every": MINUTES_5, "start_at": NOON, "end_at": None}),
        (
            {"freq": "MINUTELY", "interval": 5, "count": 3},
            {"every": MINUTES_5, "start_at": NOON, "end_at": NOON + 2 * MINUTES_5},
        ),
        ({"freq": "MINUTELY", "interval": 5, "count": 1}, {"at": NOON, "anchor": None}),
        (
            {"freq": "SECONDLY", "interval": 300, "until": NOON + 4 * MINUTES_5},
            {"every": MINUTES_5, "start_at": NOON, "end_at": NOON + 4 * MINUTES_5},
        ),
        (
            {"freq": "DAILY", "dtstart": NOON.astimezone(zoneinfo.ZoneInfo("Asia/Tokyo"))},
            {"rrule": "FREQ=DAILY", "timezone": "Etc/GMT-9"},
        ),
        (
            {
                "freq": "WEEKLY",
                "byweekday": FR,
                "dtstart": NOON.astimezone(zoneinfo.ZoneInfo("Asia/Kolkata")),
            },
            {"rrule": "FREQ=WEEKLY;BYDAY=FR", "timezone": "Asia/Kolkata"},
        ),
        (
            {"freq": "DAILY", "dtstart": NOON.astimezone(ODD)},  # in whichever zone, it is the same
            {"rrule": "FREQ=DAILY", "timezone": "UTC"},
        ),
        ({"freq": "MINUTELY", "dtstart": NOON.astimezone(ODD)}, {"every": datetime.timedelta(minutes=1)}),
    ],
)
def test_rules_are_imported(theirs: RedBeat, rule: dict[str, Any], columns: dict[str, Any]) -> None:
    theirs.save("rule", rrule(**{"dtstart": NOON, **rule}, app=theirs.app))
    assert theirs.report()["skipped"] == []
    expected = {"anchor": NOON, "timezone": "UTC", **columns}
    assert theirs.row("rule", *expected) == tuple(expected.values())


def test_skipped_entries_have_a_reason(theirs: RedBeat) -> None:
    theirs.save("zone", rrule("DAILY", dtstart=NOON.astimezone(ODD), byhour=9, app=theirs.app))
    theirs.save("minutes", rrule("MINUTELY", dtstart=NOON, byhour=9, app=theirs.app))
    theirs.save("some", rrule("MINUTELY", dtstart=NOON, byhour=9, count=7, app=theirs.app))
    theirs.save("never", rrule("MINUTELY", dtstart=NOON, until=NOON - MINUTES_5, app=theirs.app))
    theirs.save("countdown", schedule(60), options={"countdown": 3})
    client = Redis.from_url(theirs.url)
    for name, definition in (
        ("odd", '{"name": "odd", "task": "t", "schedule": {"__type__": "moon"}}'),
        ("bad", "{"),
    ):
        client.hset(f"{theirs.prefix}{name}", "definition", definition)
        client.zadd(f"{theirs.prefix}:schedule", {f"{theirs.prefix}{name}": 0})
    client.close()
    reasons = theirs.reasons()
    assert reasons.keys() == {"zone", "minutes", "some", "never", "countdown", "odd", "bad"}
    assert "+1245, which no time zone keeps: save it again with a dtstart in UTC" in reasons["zone"]
    assert reasons["minutes"].endswith("has byhour: use cron instead")
    assert reasons["some"].endswith("has byhour: use cron and end_at instead")
    assert reasons["never"] == "its rrule ends before its dtstart"
    assert "countdown" in reasons["countdown"]
    assert '"moon"' in reasons["odd"]
    assert "Expecting property name" in reasons["bad"]


@pytest.mark.parametrize(
    ("year", "offset", "rule"),
    [
        # the offset is kept, and the time of day with it, also where the zone had another one in the past
        (1970, 210, {"freq": "MONTHLY", "byweekday": MO(1)}),
        (2026, 330, {"freq": "WEEKLY", "byweekday": [MO, FR], "byhour": [0, 23]}),
        (2026, -570, {"freq": "DAILY", "interval": 3, "count": 200}),
        (2026, 765, {"freq": "WEEKLY", "interval": 2}),
        (2026, 765, {"freq": "MINUTELY", "interval": 7, "count": 20}),
        (2026, 60, {"freq": "DAILY", "byhour": 2}),
    ],
)
def test_a_rule_recurs_when_redbeat_says(
    theirs: RedBeat, year: int, offset: int, rule: dict[str, Any]
) -> None:
    zone = datetime.timezone(datetime.timedelta(minutes=offset))
    start = datetime.datetime(year, 6, 1, 9, tzinfo=zone)
    theirs.save("rule", rrule(**rule, dtstart=start, app=theirs.app))
    stored = RedBeatSchedulerEntry.from_key(f"{theirs.prefix}rule", app=theirs.app).schedule.rrule
    [columns] = redbeat.read(Place(theirs.url, prefix=theirs.prefix), theirs.app)
    assert isinstance(columns, dict)
    ours = expected(columns, NOON)
    after = datetime.datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(100):
        wanted = stored.after(after)
        assert ours.after(after) == wanted
        if wanted is None:
            break
        after = wanted.astimezone(UTC)


def test_last_runs_are_imported(theirs: RedBeat, redis_url: str, daemons: Callable[..., Daemon]) -> None:
    now = datetime.datetime.now(UTC)
    theirs.save("overdue", schedule(3600), ran=now - datetime.timedelta(minutes=70))
    theirs.save("on time", schedule(3600), ran=now - datetime.timedelta(minutes=10))
    theirs.save("never", schedule(3600))
    theirs.report()
    daemon = daemons(theirs.database.dsn, redis_url).ready()
    # what has never run RedBeat runs at once
    assert {daemon.wait_for("schedule.fired", n)["schedule"] for n in (1, 2)} == {"overdue", "never"}
    theirs.database.until("select bool_and(state = 'planned') from pgreact.schedule")
    assert theirs.row("overdue", "run_count", "next_run_at") == (1, now + datetime.timedelta(minutes=50))
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


def test_damaged_key_is_skipped_alone(theirs: RedBeat) -> None:
    theirs.save("good", schedule(60))
    with Redis.from_url(theirs.url) as client:
        for name in ("text", "gone", "empty", "binary"):
            client.zadd(f"{theirs.prefix}:schedule", {f"{theirs.prefix}{name}": 0})
        client.set(f"{theirs.prefix}text", "hello")
        client.hset(f"{theirs.prefix}empty", "meta", "{}")
        client.hset(f"{theirs.prefix}binary", "definition", b"\xff\x00")
    reasons = theirs.reasons()
    assert reasons.keys() == {"text", "gone", "empty", "binary"}
    assert reasons["text"].startswith("its key is no hash, as RedBeat's are: WRONGTYPE")
    assert reasons["gone"] == reasons["empty"]
    assert reasons["gone"].startswith("its hash is missing, or has no definition")
    assert reasons["binary"].startswith("its hash is no text")
    assert theirs.row("good", "every") == (datetime.timedelta(minutes=1),)


def test_schedule_of_an_unknown_type_is_named(theirs: RedBeat) -> None:
    with Redis.from_url(theirs.url) as client:
        client.set(f"{theirs.prefix}:schedule", "hello")
    said = theirs.bring()
    assert (said.code, "is a string, and RedBeat's is a zset" in said.err) == (1, True)


# ---- where it is -------------------------------------------------------------------------------------------


@pytest.fixture
def proj(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Writes an application with settings, named proj_redbeat."""

    def write(**settings: Any) -> None:
        (tmp_path / "proj_redbeat.py").write_text(
            "from celery import Celery\napp = Celery('x', broker='memory://', set_as_current=False)\n"
            f"app.conf.update({settings!r})\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "proj_redbeat", raising=False)

    return write


def of_proj(database: Database, *arguments: str) -> Result:
    """Run the import as the application's settings say."""
    command = ("-A", "proj_redbeat", "schedule", "import", "redbeat", "--json", *arguments)
    return pgreact(*command, dsn=database.dsn)


def test_redis_is_found_by_the_settings_of_the_application(
    theirs: RedBeat, proj: Callable[..., None]
) -> None:
    theirs.save("a", crontab())
    settings = {"redbeat_redis_url": theirs.url, "redbeat_key_prefix": theirs.prefix}
    proj(**settings, timezone="Europe/Paris", redbeat_redis_options={"socket_timeout": 5, "retry_period": 3})
    assert of_proj(theirs.database).report()["added"] == ["a"]
    assert theirs.row("a", "timezone") == ("Europe/Paris",)
    proj(**settings, redbeat_redis_options={"sokket_timeout": 5})
    said = of_proj(theirs.database)
    assert (said.code, "sokket_timeout" in said.err) == (2, True)


def test_behind_sentinel(theirs: RedBeat, proj: Callable[..., None]) -> None:
    with redis_server() as server, redis_sentinel(server, "main") as sentinel:
        password = urlsplit(server.url).password
        options = {
            "sentinels": [("127.0.0.1", sentinel.port)],
            "service_name": "main",
            "password": password,
            "sentinel_kwargs": {"password": password},
            "db": 3,
        }
        beat = RedBeat(theirs.database, "redis-sentinel://", redbeat_redis_options=options)
        with contextlib.closing(get_redis(beat.app)), contextlib.ExitStack() as stack:
            for each in beat.app.redbeat_sentinel.sentinels:
                stack.callback(each.close)
            beat.save("a", schedule(60))
        assert beat.report("--redis-options", json.dumps(options))["added"] == ["a"]
        # which broker_transport_options say, too
        proj(
            redbeat_redis_url="redis-sentinel://",
            redbeat_key_prefix=beat.prefix,
            broker_transport_options={**options, "visibility_timeout": 7},
        )
        assert of_proj(theirs.database).report()["unchanged"] == ["a"]
        unknown = beat.bring("--redis-options", json.dumps({**options, "service_name": "other"}))
        assert (unknown.code, "No master found for 'other'" in unknown.err) == (1, True)
    missing = beat.bring()
    assert (missing.code, 'names no "sentinels"' in missing.err) == (2, True)


def test_in_a_cluster(theirs: RedBeat) -> None:
    with redis_cluster() as nodes:
        password = urlsplit(nodes[0].url).password
        names = [f"entry {n}" for n in range(20)]  # on both nodes
        with contextlib.closing(RedisCluster.from_url(nodes[0].url)) as client:
            for name in names:
                definition = {
                    "name": name,
                    "task": "t",
                    "schedule": {"__type__": "interval", "every": 60, "relative": False},
                }
                client.hset(f"{theirs.prefix}{name}", "definition", json.dumps(definition))
                client.zadd(f"{theirs.prefix}:schedule", {f"{theirs.prefix}{name}": 0})
            client.zadd(f"{theirs.prefix}:schedule", {f"{theirs.prefix}gone": 0, f"{theirs.prefix}text": 0})
            client.set(f"{theirs.prefix}text", "hello")
        for url, options in (
            (nodes[1].url, {"cluster": True}),
            (
                "redis-cluster://",
                {"startup_nodes": [{"host": "127.0.0.1", "port": str(nodes[0].port)}], "password": password},
            ),
        ):
            theirs.url = url
            found = theirs.report("--redis-options", json.dumps(options))
            assert sorted(found["added"] + found["unchanged"]) == sorted(names)
            assert {entry["name"] for entry in found["skipped"]} == {"gone", "text"}
    away = theirs.bring("--redis-options", json.dumps(options))
    assert (away.code, away.err.startswith("pgreact: redis-cluster://")) == (1, True)


@pytest.mark.parametrize("options", ["{", "[]"])
def test_invalid_options_are_named(theirs: RedBeat, options: str) -> None:
    said = theirs.bring("--redis-options", options)
    assert (said.code, "--redis-options" in said.err) == (2, True)


def test_import_without_url_and_application_is_refused(theirs: RedBeat) -> None:
    said = pgreact("schedule", "import", "redbeat", dsn=theirs.database.dsn)
    assert (said.code, "no Redis: give --redis" in said.err) == (2, True)


def test_a_wrong_prefix_or_server_is_named(theirs: RedBeat, database: Database) -> None:
    said = theirs.bring()
    assert (said.code, f'no entries under "{theirs.prefix}"' in said.err) == (1, True)
    for url, code in (("redis://127.0.0.1:1/0", 1), ("http://x", 2)):
        assert pgreact("schedule", "import", "redbeat", "--redis", url, dsn=database.dsn).code == code


def test_missing_package_redis_is_named(theirs: RedBeat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    said = theirs.bring()
    assert (said.code, "pip install 'pgreact[redis]'" in said.err) == (2, True)
