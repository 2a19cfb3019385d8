"""Entries of Celery's beat_schedule as columns of pgreact.schedule."""

import datetime
import decimal
import json
import zoneinfo
from typing import Any

import pytest
from celery import Celery
from celery.beat import BeatLazyFunc, ScheduleEntry
from celery.schedules import BaseSchedule, crontab, schedule, solar
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Exchange, Queue

from pgreact.timetable.importers.entries import row
from pgreact.timetable.importers.skipped import Skipped
from pgreact.timetable.recurrence import next_after
from pgreact.timetable.schedule_row import recurrence

PARIS = zoneinfo.ZoneInfo("Europe/Paris")


def application(**changed: Any) -> Celery:
    """Return an application that is not the current one."""
    app = Celery("proj", set_as_current=False)
    app.conf.update({"timezone": "Europe/Paris", **changed})
    return app


APP = application()


def carried(entry: object, app: Celery = APP) -> dict[str, Any]:
    """Return the columns of an entry, without name and task."""
    found = row("an entry", entry, app)
    assert isinstance(found, dict), found
    json.dumps(found)
    assert (found.pop("name"), found.pop("task")) == ("an entry", "proj.add")
    return found


def when(given: object, **more: Any) -> dict[str, Any]:
    """Return the columns of an entry that recurs so."""
    return carried({"task": "proj.add", "schedule": given, **more})


def refusal(entry: object, name: object = "an entry") -> str:
    """Return why an entry stays behind."""
    found = row(name, entry, APP)
    assert isinstance(found, Skipped), found
    assert found.name == str(name)
    return found.reason


@pytest.mark.parametrize("given", [90, 90.0, datetime.timedelta(seconds=90), schedule(90.0)])
def test_an_interval_is_seconds(given: object) -> None:
    assert when(given) == {"every": 90}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "* * * * *"),
        ({"minute": 0, "hour": 7}, "0 7 * * *"),
        ({"minute": "*/15", "hour": "8-17"}, "*/15 8-17 * * *"),
        ({"minute": {30, 0}, "hour": [9]}, "0,30 9 * * *"),
        ({"hour": "22-2"}, "* 22-2 * * *"),
        ({"day_of_week": "mon-fri"}, "* * * * mon-fri"),
        ({"day_of_week": "Fri-MON"}, "* * * * fri-mon"),
        ({"month_of_year": "jan,6-8"}, "* * * jan,6-8 *"),
        ({"day_of_month": "*/10"}, "* * */10 * *"),
        ({"minute": (minute for minute in (5, 6))}, "5,6 * * * *"),
    ],
)
def test_a_crontab_is_written_as_its_author_wrote_it(fields: dict[str, Any], text: str) -> None:
    assert when(crontab(**fields)) == {"cron": text, "timezone": "Europe/Paris"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"hour": "22-2/2"}, "* 0,2,22 * * *"),  # the steps of a range that wraps are counted from its start
        ({"hour": "8-17/3"}, "* 8,11,14,17 * * *"),
        ({"minute": "0, 30"}, "0,30 * * * *"),
        ({"day_of_week": "monday,Sunday"}, "* * * * 0,1"),
        ({"month_of_year": "mon"}, "* * * 1 *"),  # Celery reads either kind of name everywhere
        ({"minute": "0-59"}, "* * * * *"),
        ({"day_of_week": range(7)}, "* * * * *"),
        ({"minute": "*/90"}, "*/90 * * * *"),
    ],
)
def test_ambiguous_crontab_fields_are_written_out(fields: dict[str, Any], text: str) -> None:
    assert when(crontab(**fields))["cron"] == text


@pytest.mark.parametrize(
    ("days", "weekdays", "both"),
    [
        ("13", "fri", True),
        ("*/2", "1-5", True),
        ("13", "*", False),
        ("1-31", "fri", False),
        ("*", "fri", False),
    ],
)
def test_days_of_month_and_of_week_must_both_match_as_in_celery(days: str, weekdays: str, both: bool) -> None:
    found = when(crontab(minute=0, hour=0, day_of_month=days, day_of_week=weekdays))
    assert found.get("cron_and", False) is both


def _field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[Any]:
    """Whatever Celery takes for a field."""
    number = st.integers(low, high)
    value = st.one_of(number.map(str), st.sampled_from(names)) if names else number.map(str)
    item = st.one_of(
        value,
        st.builds("{}-{}".format, value, value),
        st.builds("{}-{}/{}".format, number, number, st.integers(1, 9)),
        st.builds("*/{}".format, st.integers(1, 99)),
        st.just("*"),
    )
    return st.one_of(
        number, st.sets(number, min_size=1), st.lists(item, min_size=1, max_size=3).map(",".join)
    )


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        dict,
        minute=_field(0, 59),
        hour=_field(0, 23),
        day_of_month=_field(1, 28),
        month_of_year=_field(1, 12, ("jan", "February", "mar", "DEC")),
        day_of_week=_field(0, 6, ("sun", "Monday", "fri", "SAT")),
    ),
    st.integers(0, 4 * 366 * 86400),
)
def test_a_crontab_recurs_when_celery_says(fields: dict[str, Any], second: int) -> None:
    after = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second)
    given_crontab = crontab(**fields)
    columns = carried({"task": "proj.add", "schedule": given_crontab}, application(timezone="UTC"))
    found = next_after(recurrence(columns, after), after)

    def matches(moment: datetime.datetime) -> bool:
        return (
            moment.minute in given_crontab.minute
            and moment.hour in given_crontab.hour
            and moment.day in given_crontab.day_of_month
            and moment.month in given_crontab.month_of_year
            and moment.isoweekday() % 7 in given_crontab.day_of_week
        )

    assert found is not None
    assert matches(found)
    # none in between, as far as one can look
    moment = after.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    for _ in range(2 * 1440):
        if moment >= found:
            break
        assert not matches(moment), moment
        moment += datetime.timedelta(minutes=1)


@pytest.mark.parametrize(
    ("changed", "zone"),
    [
        ({"timezone": "America/New_York"}, "America/New_York"),
        ({"timezone": None}, "UTC"),
        ({"timezone": datetime.UTC}, "UTC"),
        ({"timezone": datetime.timezone(datetime.timedelta(hours=2))}, "Etc/GMT-2"),
        ({"timezone": datetime.timezone(datetime.timedelta(hours=-3))}, "Etc/GMT+3"),
        ({"timezone": None, "enable_utc": False}, None),
    ],
)
def test_a_crontab_is_read_in_the_time_zone_of_its_application(
    changed: dict[str, Any], zone: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if zone is None:  # that of the machine
        zone = "Asia/Kolkata"
        monkeypatch.setattr("celery.utils.time.timezone.local", zoneinfo.ZoneInfo(zone))
    app = application(**changed)
    assert carried({"task": "proj.add", "schedule": crontab()}, app)["timezone"] == zone


def test_a_time_zone_without_a_name_is_refused_where_it_matters() -> None:
    app = application(timezone=datetime.timezone(datetime.timedelta(hours=12, minutes=45)))
    found = row("an entry", {"task": "proj.add", "schedule": crontab()}, app)
    assert isinstance(found, Skipped)
    assert "no IANA name" in found.reason
    assert carried({"task": "proj.add", "schedule": 5}, app) == {"every": 5}


@pytest.mark.parametrize(("minutes", "name"), [(330, "Asia/Kolkata"), (-120, "Etc/GMT+2"), (0, "UTC")])
def test_a_time_zone_at_a_fixed_offset_is_one_that_keeps_it(minutes: int, name: str) -> None:
    app = application(timezone=datetime.timezone(datetime.timedelta(minutes=minutes)))
    assert carried({"task": "proj.add", "schedule": crontab()}, app)["timezone"] == name


def test_a_deadline_for_late_crontabs_is_grace() -> None:
    app = application(beat_cron_starting_deadline=300)
    found = carried({"task": "proj.add", "schedule": crontab()}, app)
    assert (found["misfire"], found["grace"]) == ("skip", 300)
    assert carried({"task": "proj.add", "schedule": 5}, app) == {"every": 5}


@pytest.mark.parametrize(
    ("seconds", "columns"),
    [
        (86400, {"cron": "0 0 * * *"}),
        (100000, {"cron": "0 0 * * *"}),
        (2 * 86400, {"rrule": "FREQ=DAILY;INTERVAL=2;BYHOUR=0;BYMINUTE=0;BYSECOND=0"}),
        (2 * 3600, {"every": 7200}),
        (5400, {"every": 3600}),
        (150, {"every": 120}),
        (30, {"every": 30}),
        (1.5, {"every": 1}),
        (0.5, {"every": 0.5}),
    ],
)
def test_a_relative_interval_falls_on_whole_days_hours_and_minutes(
    seconds: float, columns: dict[str, Any]
) -> None:
    expected = {**columns, "timezone": "Europe/Paris", "relative": seconds}
    for found in (when(seconds, relative=True), when(schedule(seconds, relative=True))):
        grid = datetime.datetime.fromisoformat(found.pop("grid"))
        assert found == expected
        if seconds >= 60:
            assert grid.second == grid.microsecond == 0


def test_solar_events_keep_their_place() -> None:
    assert when(solar("sunset", decimal.Decimal("48.860000"), -0.0000001)) == {
        "solar": "sunset 48.860000 -0.0000001"
    }


def test_arguments_are_written_as_celery_would_send_them() -> None:
    found = when(5, args=(1, "ä", None), kwargs={"on": datetime.date(2030, 1, 2)})
    assert json.loads(found["args"]) == [1, "ä", None]
    assert json.loads(found["kwargs"]) == {"on": {"__type__": "date", "__value__": "2030-01-02"}}
    assert when(5, args=None, kwargs=None, options=None) == {"every": 5}


def test_options_are_imported_but_for_retries_of_publishing() -> None:
    options = {
        "queue": "mail",
        "priority": 3,
        "headers": {"x": [1]},
        "routing_key": None,
        "retry": True,
        "retry_policy": {"max_retries": 3},
    }
    found = when(5, options=options)
    assert json.loads(found["options"]) == {"queue": "mail", "priority": 3, "headers": {"x": [1]}}
    assert "retry" in options
    assert when(5, options={"retry": False}) == {"every": 5}


@pytest.mark.parametrize(
    ("expires", "columns"),
    [
        (30, {"expires": 30}),
        (datetime.timedelta(minutes=1), {"expires": 60}),
        (datetime.datetime(2030, 1, 2, tzinfo=PARIS), {"end_at": "2030-01-02T00:00:00+01:00"}),
        (datetime.datetime(2030, 1, 2), {"end_at": "2030-01-02T00:00:00+00:00"}),  # noqa: DTZ001
        ("2030-01-02T00:00:00Z", {"end_at": "2030-01-02T00:00:00+00:00"}),
    ],
)
def test_expires_is_a_span_of_each_occurrence_or_the_end_of_all(
    expires: object, columns: dict[str, Any]
) -> None:
    assert when(5, options={"expires": expires}) == {"every": 5, **columns}


def test_an_entry_object_is_read_like_a_dict() -> None:
    entry = ScheduleEntry(
        name="an entry",
        task="proj.add",
        schedule=crontab(minute=5),
        args=(1,),
        options={"queue": "q"},
        app=APP,
    )
    assert carried(entry) == carried(
        {"task": "proj.add", "schedule": crontab(minute=5), "args": (1,), "options": {"queue": "q"}}
    )


def test_an_entry_may_be_disabled() -> None:
    assert when(5, enabled=False) == {"every": 5, "enabled": False}
    assert when(5, enabled=True) == {"every": 5}


class Moon(BaseSchedule):
    """A schedule that only its application knows."""


class Later(crontab):
    """A crontab with a mind of its own."""


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"schedule": 5}, "its task is None, not a name"),
        ({"task": "proj.add"}, "it has no schedule"),
        ({"task": "proj.add", "schedule": Moon()}, "Moon, which only Celery can run"),
        ({"task": "proj.add", "schedule": Later()}, "Later, which only Celery can run"),
        ({"task": "proj.add", "schedule": "5 s"}, "builtins.str, which only Celery can run"),
        ({"task": "proj.add", "schedule": True}, "builtins.bool, which only Celery can run"),
        (
            {"task": "proj.add", "schedule": crontab(nowfun=datetime.datetime.now)},
            "its schedule has a nowfun",
        ),
        ({"task": "proj.add", "schedule": crontab(minute=[])}, "its minute matches nothing"),
        ({"task": "proj.add", "schedule": schedule(None)}, "its interval is None"),
        ({"task": "proj.add", "schedule": 5, "args": [print]}, "args[0]: type builtin_function_or_method"),
        (
            {"task": "proj.add", "schedule": 5, "args": [BeatLazyFunc(print)]},
            "args[0] is a BeatLazyFunc, which Beat calls",
        ),
        ({"task": "proj.add", "schedule": 5, "kwargs": {"x": {1}}}, 'kwargs["x"]: type set is not JSON'),
        (
            {"task": "proj.add", "schedule": 5, "kwargs": {"x": BeatLazyFunc(print)}},
            'kwargs["x"] is a BeatLazyF',
        ),
        ({"task": "proj.add", "schedule": 0.05}, "its interval is 50ms, and the shortest is 100ms"),
        ({"task": "proj.add", "schedule": 0}, "its interval is 0s, and the shortest is 100ms"),
        (
            {"task": "proj.add", "schedule": datetime.timedelta(days=50_000)},
            "its interval is 50000d, and the longest is 36500d",
        ),
        (
            {"task": "proj.add", "schedule": 5, "options": {"queue": Queue("odd", Exchange("e", "topic"))}},
            'add the Queue "odd" there',
        ),
        (
            {"task": "proj.add", "schedule": 5, "options": {"queue": Queue("durable", durable=False)}},
            'add the Queue "durable" there',
        ),
        ({"task": "proj.add", "schedule": 5, "args": 7}, "args is of type int, not a list"),
        ({"task": "proj.add", "schedule": 5, "args": "ab"}, "args is of type str, not a list"),
        ({"task": "proj.add", "schedule": 5, "kwargs": [1]}, "kwargs is of type list, not a dict"),
        ({"task": "proj.add", "schedule": 5, "options": {"countdown": 3}}, "its option countdown"),
        ({"task": "proj.add", "schedule": 5, "options": {"eta": PARIS}}, "its option eta"),
        ({"task": "proj.add", "schedule": 5, "options": {"task_id": "1"}}, "its option task_id"),
        ({"task": "proj.add", "schedule": 5, "options": {"link": print}}, 'options["link"]: type builtin'),
        ({"task": "proj.add", "schedule": 5, "options": {"expires": -1}}, "its option expires is -1"),
        ({"task": "proj.add", "schedule": 5, "options": {"expires": "soon"}}, "Invalid isoformat string"),
        ({"task": "proj.add", "schedule": 5, "often": True}, 'unknown key "often"'),
        ({"task": "proj\0", "schedule": 5}, "task: a NUL character"),
        (7, "it is of type int, not a dict"),
    ],
)
def test_skipped_entries_have_a_reason(entry: object, reason: str) -> None:
    assert reason in refusal(entry)


def test_code_of_the_application_that_fails_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given = crontab()
    monkeypatch.delattr(given, "_orig_minute")
    assert "AttributeError" in refusal({"task": "proj.add", "schedule": given})


def test_a_name_must_be_there() -> None:
    assert "its name has 0 characters" in refusal({"task": "proj.add", "schedule": 5}, "")


@pytest.mark.parametrize("letter", ["n", "ä"])
def test_a_long_name_is_cut_always_in_the_same_way(letter: str) -> None:
    entry = {"task": "proj.add", "schedule": 5}
    names = {row(name, entry, APP)["name"] for name in (letter * 201, letter * 201, letter * 202)}  # type: ignore[index]
    assert len(names) == 2
    assert all(len(name) == 200 and name.startswith(letter * 150) for name in names)
    assert row(letter * 200, entry, APP)["name"] == letter * 200  # type: ignore[index]
    assert refusal({}, names.pop()) == "its task is None, not a name"


def test_a_signature_without_a_name_is_imported_by_what_it_calls() -> None:
    app = application()
    app.add_periodic_task(5, app.signature("proj.add", args=("x" * 300,)))
    [(name, entry)] = app.conf.beat_schedule.items()
    found = row(name, entry, app)
    assert isinstance(found, dict)
    assert found["name"].startswith("proj.add('xxx")
    assert found["args"] == json.dumps(["x" * 300])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"queue": Queue("mail")}, {"queue": "mail"}),
        ({"queue": Queue("mail", Exchange("mail"), "mail")}, {"queue": "mail"}),
        ({"queue": Queue("urgent", max_priority=9)}, {"queue": "urgent"}),
        ({"queue": Queue("news", Exchange("news", "topic"), "news.#")}, {"queue": "news"}),
        (
            {"exchange": Exchange("news", "topic"), "routing_key": "a"},
            {"exchange": "news", "routing_key": "a"},
        ),
    ],
    ids=repr,
)
def test_queues_and_exchanges_are_called_by_name(options: dict[str, Any], expected: dict[str, Any]) -> None:
    known = [Queue("urgent", max_priority=9), Queue("news", Exchange("news", "topic"), "news.#")]
    found = row("a", {"task": "t", "schedule": 5, "options": options}, application(task_queues=known))
    assert isinstance(found, dict), found
    assert json.loads(found["options"]) == expected


@pytest.mark.parametrize("nothing", [None, [], (), 0, ""])
def test_no_arguments_may_be_written_in_many_ways(nothing: object) -> None:
    assert when(5, args=nothing, kwargs=nothing, options=None) == {"every": 5}


def test_an_interval_may_be_very_long() -> None:
    assert when(datetime.timedelta(days=36_500)) == {"every": 36_500 * 86_400}


def test_names_that_are_no_text_are_written_as_text() -> None:
    assert refusal({}, 7) == "its task is None, not a name"
