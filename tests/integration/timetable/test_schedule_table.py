"""``pgreact.schedule``: refusals, the effects of an edit, and notifications of the leader."""

import calendar
import datetime
import re
import string
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgreact.apply import apply
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.settings import Settings
from pgreact.timetable import local_time
from pgreact.timetable.recurrence import Recurrence, RecurrenceError, next_after
from tests.harness import DEADLINE, Database, fresh_database
from tests.hostile import PINNED

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
WAYS = {"every", "cron", "at", "solar", "rrule"}
PLANNED = (
    "update pgreact.schedule set revision = revision + 1, state = 'planned', next_nominal_at = "
    "'2030-01-01Z', "
    "next_run_at = '2030-01-01Z'"
)


Session = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def judge(each_postgres: EmbeddedPostgres) -> Iterator[Session]:
    """A session on a database with a second lane, on the oldest and the newest server."""
    with fresh_database(each_postgres) as database:
        with database.connect(options=PINNED) as session:
            list(apply(session, Settings.model_validate({"lanes": {"mail": {}}}), 10.0, lambda _line: None))
        with database.connect() as session:
            yield session


@pytest.fixture
def base(judge: Session) -> Iterator[Session]:
    """The same, in a transaction that is taken back."""
    with judge.transaction(force_rollback=True):
        yield judge


def run(session: Session, *statements: str) -> None:
    for statement in statements:
        with session.transaction():
            session.execute(statement.encode())


def insert(session: Session, **columns: object) -> None:
    """Add a schedule, by default named a; it recurs every hour unless a recurrence is given."""
    usual = {"name": "a", "task": "t"} | ({} if WAYS & columns.keys() else {"every": "1 h"})
    row = usual | columns
    names = ", ".join(row)
    places = ", ".join(["%s"] * len(row))
    with session.transaction():
        session.execute(f"insert into pgreact.schedule ({names}) values ({places})".encode(), [*row.values()])


def row(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = session.execute("select to_jsonb(s) from pgreact.schedule s").fetchall()[0][0]
    return found


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ""}, "the name of a schedule has 1 to 200 characters; this one has 0"),
        ({"name": "x" * 201}, "the name of a schedule has 1 to 200 characters; this one has 201"),
        ({"name": None}, "the name of a schedule has 1 to 200 characters; this one has 0"),
        ({"every": None}, 'schedule "a" recurs in 0 ways'),
        ({"every": "1 h", "cron": "* * * * *"}, 'schedule "a" recurs in 2 ways'),
        ({"every": "99 ms"}, 'schedule "a": every is 00:00:00.099'),
        ({"every": "-1 h"}, 'schedule "a": every is -01:00:00'),
        ({"every": "1 month"}, 'schedule "a": every is 1 mon'),
        ({"every": "1 year"}, 'schedule "a": every is 1 year'),
        ({"every": "1 month -29 days"}, 'schedule "a": every is 1 mon -29 days'),
        ({"every": "36501 days"}, 'schedule "a": every is 36501 days'),
        ({"cron": "* * *"}, 'cron "* * *" has 3 fields'),
        ({"cron": ""}, 'cron "" has 0 fields'),
        ({"cron": "60 * * * *"}, 'cron "60 * * * *": minute 60 is not between 0 and 59'),
        ({"cron": "* 24 * * *"}, 'cron "* 24 * * *": hour 24 is not between 0 and 23'),
        ({"cron": "* * 0 * *"}, 'cron "* * 0 * *": day of month 0 is not between 1 and 31'),
        ({"cron": "* * * 13 *"}, 'cron "* * * 13 *": month 13 is not between 1 and 12'),
        ({"cron": "* * * * 8"}, 'cron "* * * * 8": day of week 8 is not between 0 and 7'),
        ({"cron": "61 * * * * *"}, 'cron "61 * * * * *": second 61 is not between 0 and 59'),
        ({"cron": "*/0 * * * *"}, 'cron "*/0 * * * *": "*/0" has a step of 0'),
        ({"cron": "1,,2 * * * *"}, 'cron "1,,2 * * * *": invalid minute ""'),
        ({"cron": "1, * * * *"}, 'cron "1, * * * *": invalid minute ""'),
        ({"cron": "* * * * funday"}, 'cron "* * * * funday": invalid day of week "funday"'),
        ({"cron": "* * * mon *"}, 'cron "* * * mon *": invalid month "mon"'),
        ({"cron": "@noon"}, 'cron "@noon": no such name'),
        ({"solar": "sunset"}, 'solar "sunset" is not an event, a latitude and a longitude'),
        ({"solar": "moonrise 1 2"}, 'solar "moonrise 1 2" has no event "moonrise"'),
        ({"solar": "sunset 91 2"}, 'solar "sunset 91 2" has no latitude from -90 to 90, but "91"'),
        ({"solar": "sunset 1 east"}, 'solar "sunset 1 east" has no longitude from -180 to 180, but "east"'),
        ({"rrule": "daily"}, 'rrule "daily": unknown part "DAILY"'),
        ({"rrule": ""}, 'rrule "": FREQ is missing'),
        ({"rrule": "BYHOUR=1"}, 'rrule "BYHOUR=1": FREQ is missing'),
        (
            {"rrule": "FREQ=MINUTELY"},
            'rrule "FREQ=MINUTELY": FREQ MINUTELY is not supported',
        ),
        ({"rrule": "FREQ=OFTEN"}, 'rrule "FREQ=OFTEN": FREQ "OFTEN" is not one of YEARLY, MONTHLY, WEEKLY'),
        ({"rrule": "FREQ=DAILY;FREQ=DAILY"}, 'rrule "FREQ=DAILY;FREQ=DAILY": FREQ occurs twice'),
        (
            {"rrule": "FREQ=DAILY;BYHOUR=24"},
            'rrule "FREQ=DAILY;BYHOUR=24": BYHOUR 24 is not between 0 and 23',
        ),
        (
            {"rrule": "FREQ=DAILY;BYMONTHDAY=0"},
            'rrule "FREQ=DAILY;BYMONTHDAY=0": BYMONTHDAY 0 is not between 1 and 31, or the same below zero',
        ),
        ({"rrule": "FREQ=DAILY;BYHOUR=x"}, 'rrule "FREQ=DAILY;BYHOUR=x": BYHOUR "X" is not a number'),
        ({"rrule": "FREQ=DAILY;COUNT=1,2"}, 'rrule "FREQ=DAILY;COUNT=1,2": COUNT "1,2" is not a number'),
        ({"rrule": "FREQ=WEEKLY;WKST=XX"}, 'rrule "FREQ=WEEKLY;WKST=XX": WKST "XX" is not a day like MO'),
        ({"rrule": "FREQ=WEEKLY;BYDAY=XX"}, 'rrule "FREQ=WEEKLY;BYDAY=XX": BYDAY "XX" is not a list of days'),
        (
            {"rrule": "FREQ=WEEKLY;BYDAY=1MO"},
            'rrule "FREQ=WEEKLY;BYDAY=1MO": BYDAY takes numbers only with FREQ=YEARLY and MONTHLY',
        ),
        (
            {"rrule": "FREQ=MONTHLY;BYDAY=6MO"},
            'rrule "FREQ=MONTHLY;BYDAY=6MO": a month has at most five',
        ),
        (
            {"rrule": "FREQ=DAILY;UNTIL=20260230"},
            'rrule "FREQ=DAILY;UNTIL=20260230": UNTIL "20260230" is not',
        ),
        (
            {"rrule": "FREQ=DAILY;UNTIL=x"},
            'rrule "FREQ=DAILY;UNTIL=x": UNTIL "X" is not a time like',
        ),
        (
            {"rrule": "FREQ=DAILY;COUNT=1;UNTIL=20260101"},
            'rrule "FREQ=DAILY;COUNT=1;UNTIL=20260101": COUNT and UNTIL exclude each other',
        ),
        ({"rrule": "FREQ=DAILY;DTSTART=20260101"}, "DTSTART is not supported: set the column anchor"),
        ({"rrule": "FREQ=HOURLY;BYSETPOS=1"}, "BYSETPOS cannot be used with FREQ=HOURLY"),
        ({"cron": "0 0 31 2 *"}, 'cron "0 0 31 2 *" never occurs'),
        ({"cron": "0 0 30 feb */2"}, 'cron "0 0 30 feb */2" never occurs'),
        ({"cron": "0 0 1-7 * fri#2", "cron_and": True}, 'cron "0 0 1-7 * fri#2" never occurs'),
        (
            {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"},
            'rrule "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30" never occurs',
        ),
        (
            {"rrule": "FREQ=DAILY;UNTIL=20250101", "anchor": "2026-01-01Z"},
            'rrule "FREQ=DAILY;UNTIL=20250101" never occurs',
        ),
        (
            {"rrule": "FREQ=DAILY;INTERVAL=7;BYDAY=MO", "anchor": "2026-01-01Z"},
            'rrule "FREQ=DAILY;INTERVAL=7;BYDAY=MO" never occurs',
        ),
        ({"timezone": "europe/paris"}, 'no time zone "europe/paris"'),
        ({"timezone": "Europe/paris"}, 'no time zone "Europe/paris"'),
        ({"timezone": "utc"}, 'no time zone "utc"'),
        ({"timezone": "Mars"}, 'no time zone "Mars"'),
        ({"timezone": "CEST"}, 'no time zone "CEST"'),
        ({"timezone": "+02"}, 'no time zone "+02"'),
        ({"timezone": "UTC+2"}, 'no time zone "UTC+2"'),
        ({"timezone": ""}, 'no time zone ""'),
        ({"at": "infinity"}, 'schedule "a" names a time beyond the calendar'),
        ({"end_at": "infinity"}, 'schedule "a" names a time beyond the calendar'),
        ({"anchor": "0044-03-15 BC"}, 'schedule "a" names a time beyond the calendar'),
        ({"next_run_at": "10000-01-01"}, 'schedule "a" names a time beyond the calendar'),
        ({"start_at": "2026-01-02", "end_at": "2026-01-01"}, 'schedule "a" ends before it starts'),
        (
            {"overlap": False, "delivery": "direct"},
            "schedule \"a\": overlap = false needs delivery = 'queue'",
        ),
        ({"task": ""}, "a job needs the name of a task"),
        ({"task": None}, "a job needs the name of a task"),
        ({"task": "x" * 256}, "the name of a task has 255 characters at most"),
        ({"args": "{}"}, "job t: args is a JSON object, not an array"),
        ({"kwargs": "[]"}, "job t: kwargs is a JSON array, not an object"),
        ({"options": '"q"'}, "job t: options is a JSON string, not an object"),
        ({"options": '{"producer": "p"}'}, 'job t: no option "producer"'),
        ({"options": '{"eta": 1}'}, 'job t: no option "eta"'),
        ({"args": "{1"}, "invalid input syntax for type json"),
        ({"lane": "mial"}, 'no lane "mial" in pgreact.lane'),
        ({"max_attempts": 0}, "job t: max_attempts is 0; it must be at least 1"),
        ({"misfire": "never"}, "schedule_misfire_check"),
        ({"delivery": "mail"}, "schedule_delivery_check"),
        ({"max_runs": 0}, "schedule_max_runs_check"),
        ({"jitter": "32 days"}, "schedule_jitter_check"),
        ({"grace": "-1 s"}, "schedule_grace_check"),
        ({"catch_up": 0}, "schedule_catch_up_check"),
        ({"expires": "0"}, "schedule_expires_check"),
        ({"retention": "1 s"}, "schedule_retention_check"),
        ({"origin": "me"}, "schedule_origin_check"),
    ],
)
def test_wrong_schedule_is_refused(base: Session, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(psycopg.Error, match=re.escape(message)) as caught:
        insert(base, **columns)
    assert caught.value.sqlstate[:2] in {"22", "23", "42"}  # type: ignore[index]
    insert(base)
    ways = (
        {"every": None}
        if columns.keys() & {"cron", "at", "solar", "rrule"} and "every" not in columns
        else {}
    )
    changes = ways | columns
    sets = ", ".join(f"{column} = %s" for column in changes)
    with pytest.raises(psycopg.Error, match=re.escape(message)), base.transaction():
        base.execute(f"update pgreact.schedule set {sets}".encode(), [*changes.values()])


def test_a_direct_schedule_needs_no_lane(base: Session) -> None:
    insert(base, delivery="direct", lane="none")
    with pytest.raises(psycopg.errors.UndefinedObject, match='no lane "none"'):
        run(base, "update pgreact.schedule set delivery = 'queue'")


def test_a_refusal_says_what_to_write(base: Session) -> None:
    for columns, hint in (
        ({"cron": "x"}, "five (minute, hour, day of month, month, day of week)"),
        ({"cron": "60 * * * *"}, "a sixth, in front, is seconds"),
        ({"rrule": "x"}, "FREQ=MONTHLY;BYDAY=-1FR"),
        ({"solar": "x"}, "sunset 48.86 2.35"),
        ({"timezone": "x"}, "Europe/Paris"),
        ({"timezone": "europe/PARIS"}, "Did you mean Europe/Paris?"),
        ({"timezone": "america/port-au-prince"}, "Did you mean America/Port-au-Prince?"),
        ({"cron": "0 0 31 2 *"}, 'No day is "31" as day of month, "2" as month and "*" as day of week.'),
        ({"every": "1 mon"}, "cron or rrule"),
        ({"lane": "x"}, "Lanes are default, mail"),
        ({"end_at": "infinity"}, "null is no limit"),
    ):
        with pytest.raises(psycopg.Error) as caught:
            insert(base, **columns)
        assert hint in (caught.value.diag.message_hint or ""), columns


# ---- what an edit sets off ---------------------------------------------------------------------------------


def test_a_new_schedule_is_to_be_planned(base: Session) -> None:
    insert(base)
    found = row(base)
    assert (found["state"], found["revision"], found["next_run_at"]) == ("new", 1, None)


def test_a_new_schedule_may_say_when_it_runs_first(base: Session) -> None:
    insert(base, next_run_at="2030-01-01Z", state="ended", revision=7)
    found = row(base)
    assert (found["state"], found["revision"]) == ("planned", 8)
    assert found["next_run_at"].startswith("2030-01-01")


@pytest.mark.parametrize(
    "change",
    [
        "every = '2 h'",
        "every = null, cron = '* * * * *'",
        "cron_and = true",
        "timezone = 'Europe/Paris'",
        "anchor = '2026-01-01Z'",
        "start_at = '2026-01-01Z'",
        # as the row was read and written back
        "every = '2 h', next_run_at = next_run_at, state = 'planned'",
    ],
)
def test_an_edit_of_when_it_recurs_has_it_planned_anew(base: Session, change: str) -> None:
    insert(base)
    run(base, PLANNED, f"update pgreact.schedule set {change}")
    found = row(base)
    assert (found["state"], found["next_nominal_at"], found["next_run_at"]) == ("new", None, None)
    assert found["revision"] == 3


@pytest.mark.parametrize("change", ["end_at = '2036-01-01Z'", "max_runs = 5", "jitter = '1 s'", "name = 'b'"])
def test_unchanged_recurrence_is_planned_from_its_next_occurrence(base: Session, change: str) -> None:
    insert(base)
    run(base, PLANNED, f"update pgreact.schedule set {change}")
    found = row(base)
    assert (found["state"], found["next_run_at"], found["revision"]) == ("new", None, 3)
    assert found["next_nominal_at"].startswith("2030-01-01")


@pytest.mark.parametrize(
    "change",
    [
        "args = '[1]'",
        "delivery = 'direct'",
        "task = 'u'",
        "lane = 'mail'",
        "misfire = 'all'",
        "grace = '1 h'",
        "overlap = false",
        "description = 'x'",
        "enabled = false",
        "enabled = true",
        "every = '60 min'",
    ],
)
def test_an_edit_of_anything_else_leaves_the_next_run(base: Session, change: str) -> None:
    insert(base)
    run(base, PLANNED, f"update pgreact.schedule set {change}")
    found = row(base)
    assert (found["state"], found["revision"]) == ("planned", 3)
    assert found["next_nominal_at"].startswith("2030-01-01")
    assert found["next_run_at"].startswith("2030-01-01")


def test_enabled_schedule_is_planned_anew(base: Session) -> None:
    insert(base)
    run(
        base,
        PLANNED,
        "update pgreact.schedule set enabled = false",
        "update pgreact.schedule set enabled = true",
    )
    assert (row(base)["state"], row(base)["next_run_at"]) == ("new", None)


@pytest.mark.parametrize("state", ["planned", "ended"])
def test_a_user_may_set_the_next_run(base: Session, state: str) -> None:
    insert(base)
    run(base, PLANNED, f"update pgreact.schedule set revision = revision + 1, state = '{state}'")
    run(base, "update pgreact.schedule set next_run_at = '2029-01-01Z'")
    found = row(base)
    assert (found["state"], found["revision"]) == ("planned", 4)
    assert found["next_run_at"].startswith("2029-01-01")
    # what comes after is not forgotten
    assert found["next_nominal_at"].startswith("2030-01-01")
    run(base, "update pgreact.schedule set next_run_at = null")
    assert row(base)["state"] == "new"


def test_a_user_may_set_the_next_run_together_with_when_it_recurs(base: Session) -> None:
    insert(base)
    run(base, PLANNED, "update pgreact.schedule set every = '2 h', next_run_at = '2029-01-01Z'")
    found = row(base)
    assert (found["state"], found["next_nominal_at"]) == ("planned", None)
    assert found["next_run_at"].startswith("2029-01-01")


def test_edit_retries_a_failed_schedule_unless_it_is_disabled(base: Session) -> None:
    failed = (
        "update pgreact.schedule set revision = revision + 1, state = 'failed', last_error = 'no tzdata', "
        "next_nominal_at = null, next_run_at = null"
    )
    insert(base)
    run(base, failed, "update pgreact.schedule set enabled = false")
    assert (row(base)["state"], row(base)["last_error"]) == ("failed", "no tzdata")
    run(base, "update pgreact.schedule set enabled = true")
    assert (row(base)["state"], row(base)["last_error"]) == ("new", None)
    run(base, failed, "update pgreact.schedule set description = 'x'")
    assert (row(base)["state"], row(base)["last_error"]) == ("new", None)


def test_engines_own_writes_are_not_checked(base: Session) -> None:
    insert(base)
    run(base, PLANNED)
    found = row(base)
    assert (found["state"], found["revision"]) == ("planned", 2)
    assert found["next_run_at"].startswith("2030-01-01")


def test_update_that_changes_revision_is_checked_all_the_same(base: Session) -> None:
    insert(base)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='cron "x" has 1 fields'):
        run(base, "update pgreact.schedule set revision = revision + 1, every = null, cron = 'x'")


def test_revision_wraps_around(base: Session) -> None:
    insert(base)
    run(
        base,
        f"update pgreact.schedule set revision = {2**63 - 1}",
        "update pgreact.schedule set priority = 1",
    )
    assert row(base)["revision"] == -(2**63)


@pytest.mark.parametrize("value", ["infinity", "-infinity", "20000-01-01Z", "0044-03-15Z BC"])
@pytest.mark.parametrize(
    "column",
    [
        *("at", "anchor", "start_at", "end_at", "created_at"),
        *("next_nominal_at", "next_run_at", "last_nominal_at", "last_run_at"),
    ],
)
def test_a_time_beyond_the_calendar_is_refused_in_every_column(
    base: Session, column: str, value: str
) -> None:
    insert(base)
    way = ", every = null" if column == "at" else ""
    with pytest.raises(psycopg.errors.CheckViolation):
        run(base, f"update pgreact.schedule set revision = revision + 1, {column} = '{value}'{way}")


# ---- notifications of the leader ---------------------------------------------------------------------------


def test_leader_is_notified_once_per_transaction(
    each_database: Database, installed: Callable[..., None]
) -> None:
    installed(each_database)
    with each_database.connect() as ear, each_database.connect() as user:
        ear.execute("listen pgreact")
        with user.transaction():
            user.execute(
                "insert into pgreact.schedule (name, task, every) "
                "select 's' || n, 't', '1 h' from generate_series(1, 100) n"
            )
            user.execute("update pgreact.schedule set description = 'x'")
            user.execute("update pgreact.schedule set every = '2 h' where name = 's1'")
        user.execute("notify pgreact, 'first'")
        user.execute("update pgreact.schedule set next_run_at = now() where name = 's1'")
        user.execute("notify pgreact, 'second'")
        with user.transaction(force_rollback=True):
            user.execute("update pgreact.schedule set description = 'y'")
        user.execute(f"{PLANNED} where name = 's2'".encode())
        user.execute("delete from pgreact.schedule where name = 's3'")
        user.execute("notify pgreact, 'last'")
        heard = []
        for notification in ear.notifies(timeout=DEADLINE):
            heard.append(notification.payload)
            if notification.payload == "last":
                break
    assert heard == ["schedule", "first", "schedule", "second", "last"]


# ---- the same language on both sides -----------------------------------------------------------------------


def database_takes(judge: Session, kind: str, *given: object) -> str | None:
    """Return why the database refuses it; ``None``: it does not."""
    places = ", ".join(["%s"] * len(given))
    try:
        judge.execute(f"select pgreact.check_{kind}({places})".encode(), given)
    except psycopg.errors.InvalidParameterValue as error:
        return str(error)
    return None


def timetable_takes(kind: str, text: str, **more: Any) -> str | None:
    """Return why the timetable refuses it; ``None``: it does not."""
    recurrence: Any = {"anchor": NOW, kind: text, **more}
    try:
        next_after(Recurrence(**recurrence), NOW)
    except RecurrenceError as error:
        return str(error)
    return None


_VALUE = st.one_of(
    st.integers(0, 65).map(str),
    st.sampled_from(
        [
            "*",
            "0",
            "1",
            "7",
            "007",
            "31",
            "jan",
            "may",
            "december",
            "sun",
            "mon",
            "friday",
            "L",
            "LW",
            "l",
            "5L",
        ]
    ),
    st.sampled_from(
        ["fril", "satL", "fri#2", "1#5", "0#6", "6#0", "?", "W", "15W", "-1", "1.5", "", "x", "²"]
    ),
)
_TERM = st.builds(
    lambda value, end, step: value + end + step,
    _VALUE,
    st.one_of(st.just(""), _VALUE.map(lambda value: f"-{value}")),
    st.one_of(st.just(""), st.sampled_from(["/1", "/2", "/01", "/0", "/70", "/", "/x", "/-1", "/1000"])),
)
_FIELD = st.lists(_TERM, min_size=1, max_size=3).map(",".join)
_PLAIN = st.sampled_from(["*", "1", "2-4", "*/5", "3,4"])
# mostly one unusual field at a time: one reason for a refusal would hide another
_CRON = st.one_of(
    st.integers(5, 6).flatmap(
        lambda count: st.tuples(
            st.lists(_PLAIN, min_size=count, max_size=count), st.integers(0, count - 1), _FIELD
        ).map(lambda parts: " ".join([*parts[0][: parts[1]], parts[2], *parts[0][parts[1] + 1 :]]))
    ),
    st.lists(_FIELD, min_size=4, max_size=7).map(" ".join),
    st.sampled_from(
        ["@daily", "@DAILY", " @weekly ", "@midnight", "@annually", "@reboot", "@", "", " ", "@daily 1"]
    ),
    st.lists(_PLAIN, min_size=5, max_size=5).map(lambda fields: f"\t {'   '.join(fields)}\n"),
    st.text(string.digits + "*/,-#L @", max_size=20),
)


@settings(max_examples=800, deadline=None)
@given(text=_CRON, both=st.booleans())
def test_the_database_takes_the_cron_that_the_timetable_takes(judge: Session, text: str, both: bool) -> None:
    found = database_takes(judge, "cron", text, both)
    assert (found is None) == (timetable_takes("cron", text, cron_and=both) is None)


_DAYS_OF_MONTH = st.sampled_from(
    [
        "*",
        "*/2",
        "*/31",
        "*/40",
        "29",
        "30",
        "31",
        "30-1",
        "31,L",
        "L",
        "LW",
        "1-7",
        "29-31/2",
        "22-24",
        "5/24",
        "8-14,31",
    ]
)
_MONTHS = st.sampled_from(
    ["*", "*/5", "2", "feb", "4,6,9,11", "nov-feb/3", "apr", "february-april/2", "11/3", "2,jul"]
)
_DAYS_OF_WEEK = st.sampled_from(
    [
        "*",
        "*/2",
        "*/7",
        "mon",
        "sat,sun",
        "6-7",
        "5/2",
        "fri#5",
        "fri#1",
        "0#2,tue#2",
        "monL",
        "7L",
        "sat#5,sunL",
        "friday",
    ]
)


@settings(max_examples=800, deadline=None)
@given(fields=st.tuples(_DAYS_OF_MONTH, _MONTHS, _DAYS_OF_WEEK), both=st.booleans())
def test_the_database_knows_which_cron_never_occurs(
    judge: Session, fields: tuple[str, ...], both: bool
) -> None:
    text = f"0 0 {' '.join(fields)}"
    found = database_takes(judge, "cron", text, both)
    assert (found is None) == (timetable_takes("cron", text, cron_and=both) is None)
    assert found is None or f'cron "{text}" never occurs' in found


@pytest.mark.parametrize("short", [False, True])
def test_days_and_months_have_names(judge: Session, short: bool) -> None:
    months = calendar.month_abbr if short else calendar.month_name
    days = calendar.day_abbr if short else calendar.day_name
    texts = [*(f"0 0 1 {month} *" for month in months[1:]), *(f"0 0 * * {day}" for day in days)]
    texts += [f"0 0 * * {day}L" for day in days]
    for text in texts:
        assert database_takes(judge, "cron", text, True) is None
        assert timetable_takes("cron", text) is None


_NUMBERS = st.lists(
    st.one_of(
        st.integers(-370, 370).map(str), st.sampled_from(["0", "01", "+1", "1", "-1", "x", "", "1000000"])
    ),
    min_size=1,
    max_size=3,
).map(",".join)
_PARTS = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "BYHOUR",
                "BYMINUTE",
                "BYMONTH",
                "BYMONTHDAY",
                "BYSECOND",
                "BYSETPOS",
                "BYWEEKNO",
                "BYYEARDAY",
                "COUNT",
                "INTERVAL",
                "BYEASTER",
                "X",
            ]
        ),
        _NUMBERS,
    ),
    st.tuples(
        st.just("BYDAY"), st.sampled_from(["MO", "MO,FR", "-1FR", "5MO", "+1TU,SU", "0MO", "XX", "MO,", ""])
    ),
    st.tuples(st.just("WKST"), st.sampled_from(["MO", "su", "XX", "MO,TU"])),
    st.tuples(
        st.just("UNTIL"),
        st.sampled_from(
            ["20270101", "20270101T000000Z", "20270230", "20270101T240000", "2027", "00000101", "x"]
        ),
    ),
).map("=".join)


@settings(max_examples=400, deadline=None)
@given(
    freq=st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "daily", "X"]),
    parts=st.lists(_PARTS, max_size=2),
    shape=st.sampled_from(["FREQ={};{}", "RRULE:FREQ={};{}", " freq={} ; {} ", "{1};FREQ={0}", "{1}"]),
)
def test_the_database_takes_the_rule_that_the_timetable_takes(
    judge: Session, freq: str, parts: list[str], shape: str
) -> None:
    text = shape.format(freq, ";".join(parts))
    found = database_takes(judge, "rrule", text, NOW, "UTC")
    assert (found is None) == (timetable_takes("rrule", text) is None)


@settings(max_examples=100, deadline=None)
@given(
    freq=st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]),
    parts=st.fixed_dictionaries(
        {},
        optional={
            "INTERVAL": st.sampled_from(["2", "4", "7", "12", "24", "52"]),
            "BYMONTH": st.sampled_from(["1", "2", "4,6", "12"]),
            "BYMONTHDAY": st.sampled_from(["1", "28", "29", "30", "31", "-30", "-31", "13,-1"]),
            "BYYEARDAY": st.sampled_from(["1", "60", "366", "-366", "-1"]),
            "BYWEEKNO": st.sampled_from(["1", "20", "53", "-1"]),
            "BYDAY": st.sampled_from(["MO", "SA,SU", "TH"]),
            "BYSETPOS": st.sampled_from(["1", "2", "-1", "-5", "40"]),
            "BYHOUR": st.sampled_from(["0", "5", "9,17"]),
            "WKST": st.sampled_from(["SU", "WE"]),
            "UNTIL": st.sampled_from(["20251231", "20260215", "20260101T083000", "20280301T120000Z"]),
        },
    ),
    zone=st.sampled_from(["UTC", "Europe/Paris"]),
)
@example(freq="MONTHLY", parts={"BYDAY": "5FR", "BYMONTH": "2"}, zone="UTC")
@example(freq="MONTHLY", parts={"BYDAY": "1FR,MO"}, zone="UTC")
@example(freq="YEARLY", parts={"BYDAY": "53TH"}, zone="UTC")
@example(freq="YEARLY", parts={"BYDAY": "-53MO", "BYYEARDAY": "1"}, zone="UTC")
@example(freq="YEARLY", parts={"BYDAY": "2MO", "BYMONTHDAY": "15"}, zone="UTC")
@example(freq="DAILY", parts={"INTERVAL": "7", "BYDAY": "MO"}, zone="UTC")
@example(freq="HOURLY", parts={"INTERVAL": "24", "BYHOUR": "5"}, zone="Europe/Paris")
@example(freq="HOURLY", parts={"INTERVAL": "2", "UNTIL": "20260101T083000"}, zone="Europe/Paris")
@example(freq="DAILY", parts={"BYHOUR": "8,10", "UNTIL": "20260101T100000"}, zone="Europe/Paris")
@example(freq="DAILY", parts={"BYHOUR": "8,10", "UNTIL": "20260101T103000"}, zone="Europe/Paris")
def test_the_database_knows_which_rule_never_occurs(
    judge: Session, freq: str, parts: dict[str, str], zone: str
) -> None:
    if freq == "HOURLY":
        parts.pop("BYSETPOS", None)
    text = ";".join(f"{name}={value}" for name, value in {"FREQ": freq, **parts}.items())
    anchor = NOW.replace(hour=8, minute=30)
    found = database_takes(judge, "rrule", text, anchor, zone)
    assert (found is None) == (timetable_takes("rrule", text, anchor=anchor, timezone=zone) is None), text
    assert found is None or f'rrule "{text}" never occurs' in found


@pytest.mark.parametrize(
    "text",
    [
        *(
            "sunset 48.86 2.35",
            " Sunset  +48 -2. ",
            "dawn_civil -89.5 180",
            "solar_noon 90 0",
            "solar_noon .5 -.5",
            "sunset 0 -180",
        ),
        *(
            "sunset",
            "sunset 1 2 3",
            "sunset,1,2",
            "sunset 91 0",
            "sunset 89.6 0",
            "dawn_civil -90 180",
            "sunset 0 -181",
            "noon 1 2",
            "sunset x 2",
            "",
        ),
    ],
)
def test_the_database_takes_the_place_that_the_timetable_takes(judge: Session, text: str) -> None:
    assert (database_takes(judge, "solar", text) is None) == (timetable_takes("solar", text) is None)


def test_the_database_takes_time_zones_that_the_timetable_takes(
    judge: Session,
) -> None:
    names = {name for (name,) in judge.execute("select name from pg_timezone_names")}
    names |= {name for (name,) in judge.execute("select abbrev from pg_timezone_abbrevs")}
    names |= {"utc", "europe/paris", "+01", "UTC+3", "Mars", "<+03>-3", "", "Europe/Paris ", "../UTC", "a/b"}
    taken = {name for name in names if database_takes(judge, "timezone", name) is None}
    assert len(taken) > 400
    for name in taken:
        local_time.get_zone(name)
        assert database_takes(judge, "timezone", name.lower()) is not None
        assert database_takes(judge, "timezone", name.swapcase()) is not None
    # some there are on one side only, as their data are of another year
    assert len(zoneinfo.available_timezones() - taken) < 20
