"""``pgreact schedule`` and the timetable in ``pgreact status``: what they show and do, how they exit."""

import datetime
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgreact.cli import support
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.timetable.cli import schedule
from pgreact.timetable.delivery import QueueDelivery
from pgreact.timetable.settings import ScheduleSettings
from tests.command import Result, pgreact
from tests.harness import Database
from tests.timetable import Passes

Install = Callable[..., None]

DAILY = (
    "insert into pgreact.schedule (name, task, cron, timezone) "
    "values ('send mail', 'proj.mail', '30 2 * * *', 'Europe/Paris')"
)
POLL = (
    "insert into pgreact.schedule (name, task, every, anchor) "
    "values ('poll', 'proj.poll', '90 s', '2020-01-01Z')"
)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time of New York."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def base(each_database: Database, installed: Install) -> Database:
    """A database with a second lane, on the oldest and the newest server."""
    installed(each_database, {"lanes": {"mail": {}}})
    return each_database


@pytest.fixture
def filled(base: Database) -> Database:
    """The same, with a schedule that recurs daily and one that recurs every 90 s."""
    base.run(DAILY, POLL)
    return base


def run(database: Database, *arguments: str) -> Result:
    return pgreact("schedule", *arguments, dsn=database.dsn)


def done(database: Database, *arguments: str) -> str:
    said = run(database, *arguments)
    assert (said.code, said.err) == (0, "")
    return said.out


def refused(database: Database, *arguments: str) -> str:
    said = run(database, *arguments)
    assert (said.code, said.out) == (2, "")
    return said.err


def rows(database: Database) -> dict[str, dict[str, Any]]:
    with database.connect() as connection:
        return dict(connection.execute("select name, to_jsonb(s) from pgreact.schedule s").fetchall())


def unchecked(database: Database, changes: str) -> None:
    """Change a schedule as no role of pgreact's can: what it says was right once."""
    database.run(
        "alter table pgreact.schedule disable trigger user",
        f"update pgreact.schedule set {changes} where name = 'send mail'",
        "alter table pgreact.schedule enable trigger user",
    )


def engine(database: Database, changes: str, name: str = "send mail") -> None:
    """Write as the engine does."""
    database.run(f"update pgreact.schedule set revision = revision + 1, {changes} where name = '{name}'")


# ---- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", schedule.list_commands(None))  # type: ignore[arg-type]
def test_every_command_has_help_with_an_example(command: str) -> None:
    said = pgreact("schedule", command, "--help")
    assert said.code == 0
    example = said.out.partition("Example:\n")[2].splitlines()[0]
    assert example.strip().startswith(f"pgreact schedule {command} ")
    assert all(len(line) < 100 for line in said.out.splitlines())


@pytest.mark.parametrize("command", ["add", "edit"])
def test_every_column_has_an_option(command: str) -> None:
    parameters = {parameter.name for parameter in schedule.commands[command].params}
    assert parameters == {"name", *ScheduleSettings.model_fields}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "No such command 'lst'; did you mean \"list\"?"),
        (["list", "--limit", "0"], "0 is not in the range"),
        (["show"], "Missing argument 'NAME'"),
        (["run"], "Missing argument 'NAME...'"),
        (["add", "a", "--every", "1s"], "Missing option '--task'"),
        (["add", "a", "--task", "t", "--misfire", "x"], "'x' is not one of"),
        (["edit", "a"], "no change given"),
        (["enable"], "give names of schedules, or --all"),
        (["disable", "a", "--all"], "give names of schedules, or --all"),
    ],
)
def test_a_mistake_in_the_command_exits_2(arguments: list[str], message: str) -> None:
    said = pgreact("schedule", *arguments)
    assert said.code == 2
    assert message in said.err


def test_without_schema_a_command_says_to_apply(database: Database) -> None:
    for arguments in (
        ["list"],
        ["show", "a"],
        ["add", "a", "--task", "t", "--every", "1s"],
        ["edit", "a", "--every", "1s"],
        ["enable", "a"],
        ["run", "a"],
        ["remove", "a", "--yes"],
    ):
        said = run(database, *arguments)
        assert said.code == 1
        assert said.err.endswith('; run "pgreact apply" first\n')


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "send mial"],
        ["edit", "send mial", "--every", "1s"],
        ["enable", "poll", "send mial"],
        ["disable", "poll", "send mial"],
        ["run", "poll", "send mial"],
        ["remove", "poll", "send mial", "--yes"],
    ],
)
def test_an_unknown_name_exits_2_names_the_nearest_and_does_nothing(
    filled: Database, arguments: list[str]
) -> None:
    before = rows(filled)
    assert refused(filled, *arguments) == 'pgreact: no schedule "send mial"; did you mean "send mail"?\n'
    assert rows(filled) == before


# ---- list --------------------------------------------------------------------------------------------------


def test_schedules_are_listed_in_local_time_and_in_their_own(here: None, filled: Database) -> None:
    engine(
        filled,
        "state = 'planned', next_nominal_at = '2030-07-01T00:30Z', next_run_at = '2030-07-01T00:30Z', "
        "last_run_at = clock_timestamp() - interval '3 h', run_count = 17",
    )
    engine(filled, "state = 'failed', last_error = 'no such zone'", "poll")
    filled.run(
        "insert into pgreact.schedule (name, task, at, enabled, next_run_at) "
        "values ('once', 't', '2030-01-01T00:00Z', false, now())"
    )
    table = [line.split("  ") for line in done(filled, "list").splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in table] == [
        ["NAME", "RECURS", "NEXT RUN HERE", "IN ITS TIME ZONE", "LAST RUN", "RUNS", "STATE"],
        ["once", "at 2030-01-01T00:00:00Z", "-", "-", "-", "0", "disabled"],
        ["poll", "every 90s", "-", "-", "-", "0", "FAILED: no such zone"],
        [
            *(
                "send mail",
                "cron 30 2 * * *",
                "2030-06-30 20:30:00-04:00",
                "2030-07-01 02:30:00 Europe/Paris",
            ),
            *("3h ago", "17", "planned"),
        ],
    ]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["a_b", "axb", "Mail 1", "mail 2", "mail 20"]),
        (["mail*"], ["Mail 1", "mail 2", "mail 20"]),
        (["mail ?"], ["Mail 1", "mail 2"]),
        (["a_b"], ["a_b"]),
        (["*b"], ["a_b", "axb"]),
        (["%"], []),
        (["mail"], []),
        (["--limit", "1", "mail 2*"], ["mail 2"]),
        (["--failed"], ["mail 2"]),
        (["--failed", "a*"], []),
    ],
)
def test_a_list_can_be_narrowed(base: Database, arguments: list[str], names: list[str]) -> None:
    for name in ("mail 2", "Mail 1", "mail 20", "a_b", "axb"):
        base.run(f"insert into pgreact.schedule (name, task, every) values ('{name}', 't', '1 h')")
    engine(base, "state = 'failed'", "mail 2")
    found = json.loads(done(base, "list", "--json", *arguments))
    assert sorted(row["name"] for row in found) == sorted(names)


def test_an_empty_list_says_so_and_a_cut_one_too(filled: Database) -> None:
    assert done(filled, "list", "nothing*") == "No schedules.\n"
    cut = done(filled, "list", "--limit", "1")
    assert cut.endswith("… and more: only the first 1 are shown, see --limit\n")


def test_json_has_durations_as_one_writes_them_and_times_with_an_offset(filled: Database) -> None:
    [found] = json.loads(done(filled, "list", "poll", "--json"))
    assert (found["every"], found["grace"], found["jitter"]) == ("90s", "1m", "0s")
    assert datetime.datetime.fromisoformat(found["anchor"]) == datetime.datetime(
        2020, 1, 1, tzinfo=datetime.UTC
    )
    assert found.keys() == rows(filled)["poll"].keys()


def test_a_list_reads_no_more_than_it_shows(base: Database) -> None:
    base.run(
        "insert into pgreact.schedule (name, task, every) "
        "select 's' || n, 't', '1 h' from generate_series(1, 5000) n",
        "vacuum analyze pgreact.schedule",
    )
    with base.connect() as connection:
        plan = connection.execute(
            f"explain (analyze, format json) {query('schedule_list')}".encode(),
            {"pattern": None, "which": None, "after": None, "limit": 51},
        ).fetchall()[0][0]
    node = plan[0]["Plan"]["Plans"][0]
    assert (node["Node Type"], node["Actual Rows"]) == ("Index Scan", 51)


# ---- show --------------------------------------------------------------------------------------------------


def test_a_schedule_is_shown_with_its_next_occurrences_and_the_change_of_clocks(
    here: None, filled: Database
) -> None:
    engine(
        filled,
        "state = 'planned', next_nominal_at = '2030-10-25T00:30Z', next_run_at = '2030-10-25T00:30Z', "
        "last_nominal_at = '2030-10-24T00:30Z'",
    )
    out = done(filled, "show", "send mail")
    columns = dict(line.split(maxsplit=1) for line in out.partition("\n\n")[0].splitlines())
    assert columns["cron"] == "30 2 * * *"
    assert columns["grace"] == "1m"
    assert columns["next_run_at"] == "2030-10-24 20:30:00-04:00"
    assert "last_error" not in columns
    occurrences = out.partition("next occurrences:\n")[2].splitlines()
    assert len(occurrences) == 11
    assert [line.split("  ")[1:] for line in occurrences[:5]] == [
        ["in Europe/Paris", "", "", "", "", "", "run here"],
        ["2030-10-25 02:30:00+02:00", "2030-10-24 20:30:00-04:00"],
        ["2030-10-26 02:30:00+02:00", "2030-10-25 20:30:00-04:00"],
        ["2030-10-27 02:30:00+02:00", "2030-10-26 20:30:00-04:00"],
        ["2030-10-28 02:30:00+01:00", "2030-10-27 21:30:00-04:00", "clocks change: UTC+02:00 → UTC+01:00"],
    ]


def test_the_first_occurrence_is_compared_with_the_last_one(filled: Database) -> None:
    engine(
        filled,
        "state = 'planned', next_nominal_at = '2030-10-28T01:30Z', next_run_at = '2030-10-28T01:30Z', "
        "last_nominal_at = '2030-10-27T00:30Z'",
    )
    found = json.loads(done(filled, "show", "send mail", "--json"))["occurrences"]
    assert [each["clocks_change"] for each in found] == ["UTC+02:00 → UTC+01:00", *[None] * 9]


def test_unplanned_schedule_shows_its_future_occurrences(filled: Database) -> None:
    found = json.loads(done(filled, "show", "poll", "--json"))
    assert (found["schedule"]["state"], found["error"], found["history"]) == ("new", None, [])
    times = [datetime.datetime.fromisoformat(each["nominal_at"]) for each in found["occurrences"]]
    assert len(times) == 10
    anchor = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    period = datetime.timedelta(seconds=90)
    assert all((moment - anchor) % period == datetime.timedelta() for moment in times)
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {period}


def test_jitter_puts_off_the_run_not_the_occurrence(filled: Database) -> None:
    filled.run("update pgreact.schedule set jitter = '5 min' where name = 'send mail'")
    found = json.loads(done(filled, "show", "send mail", "--json"))["occurrences"]
    delays = [
        datetime.datetime.fromisoformat(each["run_at"]) - datetime.datetime.fromisoformat(each["nominal_at"])
        for each in found
    ]
    assert all(datetime.timedelta() <= delay < datetime.timedelta(minutes=5) for delay in delays)
    assert len(set(delays)) > 5


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ("max_runs = 3, run_count = 1", 2),
        ("max_runs = 3, run_count = 3", 0),
        ("end_at = date_trunc('hour', now()) + interval '60 days', every = '30 days', cron = null", 1),
        ("enabled = false", 10),
        # since then it was disabled
        (
            (
                "enabled = false, revision = revision + 1, next_nominal_at = '2020-01-01Z', "
                "next_run_at = '2020-01-01Z'"
            ),
            10,
        ),
        # to be run by hand before its next occurrence is known
        ("next_run_at = '2031-01-01Z', state = 'planned'", 10),
        ("at = '2020-01-01Z', cron = null", 1),
        ("at = '2020-01-01Z', cron = null, enabled = false", 0),
    ],
)
def test_only_future_occurrences_are_shown(filled: Database, change: str, count: int) -> None:
    filled.run(f"update pgreact.schedule set {change} where name = 'send mail'")
    occurrences = json.loads(done(filled, "show", "send mail", "--json"))["occurrences"]
    assert len(occurrences) == count
    now = filled.value("select clock_timestamp()")
    ahead = [each for each in occurrences if datetime.datetime.fromisoformat(each["nominal_at"]) > now]
    assert ahead == occurrences or change.startswith("at =")
    out = done(filled, "show", "send mail")
    assert ("no further occurrence" in out) == (count == 0)
    assert (", once it is enabled:" in out) == change.startswith("enabled = false")


@pytest.mark.parametrize("wrong", ["timezone = 'Europe/paris'", "cron = '0 0 31 2 *'"])
def test_a_failed_schedule_says_why(filled: Database, wrong: str) -> None:
    """Both were right once, by the data of another machine, or are not checked any more."""
    unchecked(filled, wrong)
    assert "next occurrences unknown: " in done(filled, "show", "send mail")
    engine(filled, "state = 'failed', last_error = 'no such zone'")
    found = json.loads(done(filled, "show", "send mail", "--json"))
    assert (found["error"], found["occurrences"]) == ("no such zone", [])
    out = done(filled, "show", "send mail")
    assert "FAILED: no such zone\n" in out
    assert "\"pgreact schedule enable 'send mail'\"" in out
    assert "no further occurrence" not in out


@pytest.mark.parametrize("moment", ["'2029-01-01T12:34:56Z'", "date_trunc('hour', now()) - interval '90 s'"])
def test_a_run_by_hand_is_no_occurrence(filled: Database, moment: str) -> None:
    filled.run(f"update pgreact.schedule set next_run_at = {moment} where name = 'send mail'")
    found = json.loads(done(filled, "show", "send mail", "--json"))
    assert found["schedule"]["state"] == "planned"
    assert {each["nominal_at"][11:19] for each in found["occurrences"]} == {"02:30:00"}


def test_schedule_with_an_unknown_zone_shows_the_error(filled: Database) -> None:
    unchecked(filled, "timezone = 'Mars/Base'")
    out = done(filled, "show", "send mail")
    assert 'next occurrences unknown: time zone "Mars/Base" is not known here' in out
    assert json.loads(done(filled, "show", "send mail", "--json"))["occurrences"] == []
    assert "Mars/Base" not in done(filled, "list")  # it has no next run


def test_history_is_shown_if_it_is_kept(here: None, filled: Database) -> None:
    filled.run(
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome, job, task_id, error) "
        "values "
        "('send mail', '2026-01-01Z', '2026-01-01T00:00:00.25Z', 'fired', 7, null, null), "
        "('send mail', '2026-01-02Z', '2026-01-02T00:00:01Z', 'fired', null, "
        "'00000000-0000-0000-0000-000000000001', null), "
        "('send mail', '2026-01-03Z', '2026-01-03T00:01Z', 'missed', null, null, '3 missed'), "
        "('poll', '2026-01-03Z', '2026-01-03Z', 'fired', 1, null, null)"
    )
    history = done(filled, "show", "send mail").partition("history:\n")[2]
    assert [line.split() for line in history.splitlines()] == [
        ["OCCURRENCE", "OUTCOME", "LATE", "JOB", "OR", "TASK"],
        ["2026-01-02", "19:00:00-05:00", "missed", "1m", "3", "missed"],
        ["2026-01-01", "19:00:00-05:00", "fired", "1s", "00000000-0000-0000-0000-000000000001"],
        ["2025-12-31", "19:00:00-05:00", "fired", "250ms", "7"],
    ]


# ---- add and edit ------------------------------------------------------------------------------------------


def test_a_schedule_is_added_with_all_its_columns(base: Database) -> None:
    arguments = {
        "--task": "proj.t",
        "--args": '[1, "two"]',
        "--kwargs": '{"a": null}',
        "--timezone": "Europe/Paris",
        "--cron": "0 9 * * mon-fri",
        "--anchor": "2026-01-01",
        "--start-at": "2026-07-01T09:00",
        "--end-at": "2030-07-01T09:00:00+00:00",
        "--max-runs": "9",
        "--jitter": "1m",
        "--misfire": "all",
        "--grace": "2m",
        "--catch-up": "3",
        "--delivery": "queue",
        "--lane": "mail",
        "--priority": "-4",
        "--max-attempts": "5",
        "--options": '{"queue": "q"}',
        "--expires": "1h",
        "--retention": "2h",
        "--description": "for you",
    }
    flags = ["--cron-and", "--no-overlap", "--disabled"]
    pairs = [text for pair in arguments.items() for text in pair]
    assert done(base, "add", "my own", *pairs, *flags) == "added my own\n"
    found = rows(base)["my own"]
    shown = {key: value for key, value in found.items() if key in ScheduleSettings.model_fields}
    moments = {key: shown.pop(key) for key in ("anchor", "start_at", "end_at")}
    assert shown == {
        "task": "proj.t",
        "args": [1, "two"],
        "kwargs": {"a": None},
        "timezone": "Europe/Paris",
        "every": None,
        "cron": "0 9 * * mon-fri",
        "cron_and": True,
        "at": None,
        "solar": None,
        "rrule": None,
        "enabled": False,
        "max_runs": 9,
        "jitter": "00:01:00",
        "misfire": "all",
        "grace": "00:02:00",
        "catch_up": 3,
        "overlap": False,
        "delivery": "queue",
        "lane": "mail",
        "priority": -4,
        "max_attempts": 5,
        "options": {"queue": "q"},
        "expires": "01:00:00",
        "retention": "02:00:00",
        "description": "for you",
    }
    assert {key: datetime.datetime.fromisoformat(value).timestamp() for key, value in moments.items()} == {
        "anchor": datetime.datetime(2025, 12, 31, 23, tzinfo=datetime.UTC).timestamp(),
        "start_at": datetime.datetime(2026, 7, 1, 7, tzinfo=datetime.UTC).timestamp(),
        "end_at": datetime.datetime(2030, 7, 1, 9, tzinfo=datetime.UTC).timestamp(),
    }
    assert (found["origin"], found["entry"]) == ("sql", None)


@pytest.mark.parametrize(
    ("way", "text", "column"),
    [
        ("--every", "100ms", "00:00:00.1"),
        ("--at", "2030-01-01T00:00:00Z", None),
        ("--solar", "sunset 48.86 2.35", "sunset 48.86 2.35"),
        ("--rrule", "FREQ=DAILY;BYHOUR=9", "FREQ=DAILY;BYHOUR=9"),
    ],
)
def test_a_schedule_recurs_in_one_of_five_ways(
    base: Database, way: str, text: str, column: str | None
) -> None:
    done(base, "add", "a", "--task", "t", way, text)
    found = rows(base)["a"][way.removeprefix("--")]
    assert found == column if column else found.startswith("2030-01-01T00:00:00")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no recurrence given: give one of --every, --cron, --at, --solar, --rrule"),
        (["--every", "1s", "--cron", "x"], "--every and --cron exclude each other: give one of --every,"),
        (["--every", "5"], '--every: "5" has no unit: write "5s"'),
        (["--every", "1s", "--jitter", "x"], "--jitter: 'x' is not a duration"),
        (["--every", "1s", "--max-runs", "many"], "--max-runs: input should be a valid integer"),
        (["--every", "1s", "--args", "[1"], "--args: [1 is not JSON: "),
        (["--every", "1s", "--args", "{}"], "--args: input should be a valid list"),
        (["--at", "noon"], "--at: 'noon' is not a time: write it like"),
        (["--cron", "* * *"], 'cron "* * *" has 3 fields; It has five'),
        (["--rrule", "x"], 'rrule "x": unknown part "X"'),
        (["--solar", "x"], 'solar "x" is not an event, a latitude and a longitude'),
        (["--every", "1s", "--timezone", "Mars"], 'no time zone "Mars"; Write an IANA name'),
        (["--every", "1s", "--lane", "mial"], 'no lane "mial" in pgreact.lane; Lanes are default, mail'),
        (["--every", "1s", "--options", '{"eta": 1}'], 'job t: no option "eta"; Set run_at.'),
        (["--every", "1s", "--end-at", "2020-01-01", "--start-at", "2021-01-01"], "ends before it starts"),
        (["--every", "1s", "--kwargs", '{"a": "\\u0000"}'], "contains a NUL character"),
    ],
)
def test_a_bad_value_exits_2_with_what_is_wrong(base: Database, arguments: list[str], message: str) -> None:
    said = refused(base, "add", "a", "--task", "t", *arguments)
    assert message in said
    assert said.startswith("pgreact: ")
    assert len(said.splitlines()) == 1
    assert rows(base) == {}


def test_existing_or_invalid_name_is_refused(filled: Database) -> None:
    assert refused(filled, "add", "poll", "--task", "t", "--every", "1s") == (
        'pgreact: schedule "poll" exists: "pgreact schedule edit" changes it\n'
    )
    for name in ("", "x" * 201):
        said = refused(filled, "add", name, "--task", "t", "--every", "1s")
        assert "the name of a schedule has 1 to 200 characters" in said


def test_edit_updates_the_given_columns_only(filled: Database) -> None:
    filled.run(
        "update pgreact.schedule set end_at = '2040-01-01Z', max_runs = 5, args = '[1]' "
        "where name = 'send mail'"
    )
    before = rows(filled)["send mail"]
    assert (
        done(filled, "edit", "send mail", "--end-at", "none", "--max-runs", "none") == "changed send mail\n"
    )
    after = rows(filled)["send mail"]
    assert {key for key in before if before[key] != after[key]} == {"end_at", "max_runs", "revision"}
    assert (after["end_at"], after["max_runs"]) == (None, None)
    # another way to recur replaces the first one, and a time is read in the zone that it has already
    done(filled, "edit", "send mail", "--every", "2h", "--start-at", "2026-07-01T09:00")
    after = rows(filled)["send mail"]
    assert (after["every"], after["cron"]) == ("02:00:00", None)
    assert datetime.datetime.fromisoformat(after["start_at"]).timestamp() == (
        datetime.datetime(2026, 7, 1, 7, tzinfo=datetime.UTC).timestamp()
    )
    done(filled, "edit", "send mail", "--task", "proj.other", "--timezone", "UTC", "--disabled")
    after = rows(filled)["send mail"]
    assert (after["task"], after["timezone"], after["enabled"], after["every"]) == (
        "proj.other",
        "UTC",
        False,
        "02:00:00",
    )


def test_a_bad_edit_exits_2_with_what_is_wrong(filled: Database) -> None:
    before = rows(filled)
    for arguments, message in (
        (["--cron", "x"], 'cron "x" has 1 fields'),
        (["--every", "1s", "--at", "2030-01-01"], "--every and --at exclude each other"),
        (["--lane", "x"], 'no lane "x"'),
        (["--grace", "x"], "--grace: 'x' is not a duration"),
    ):
        assert message in refused(filled, "edit", "poll", *arguments)
    assert rows(filled) == before


# ---- enable, disable, run, remove --------------------------------------------------------------------------


def test_schedules_are_disabled_and_enabled(filled: Database) -> None:
    engine(filled, "state = 'planned', next_nominal_at = '2030-01-01Z', next_run_at = '2030-01-01Z'")
    assert done(filled, "disable", "poll", "send mail") == "disabled poll\ndisabled send mail\n"
    assert not any(row["enabled"] for row in rows(filled).values())
    assert done(filled, "enable", "send mail", "send mail") == "enabled send mail\n"
    found = rows(filled)
    assert (found["send mail"]["enabled"], found["send mail"]["state"]) == (True, "new")
    assert not found["poll"]["enabled"]


def test_all_schedules_are_disabled_and_enabled(filled: Database) -> None:
    done(filled, "disable", "poll")
    assert done(filled, "disable", "--all") == "disabled 1 schedules\n"
    assert done(filled, "enable", "--all") == "enabled 2 schedules\n"
    assert all(row["enabled"] for row in rows(filled).values())


@pytest.mark.parametrize("way", ["--all", "once", "sql"])
async def test_one_off_due_while_disabled_does_not_fire_when_enabled(base: Database, way: str) -> None:
    base.run(
        "insert into pgreact.schedule (name, task, at, enabled) values "
        "('once', 't', now() - interval '1 min', false), ('later', 't', now() + interval '1 day', false)"
    )
    if way == "sql":
        base.run("update pgreact.schedule set enabled = true")
    else:
        said = run(base, "enable", way)
        assert said.code == 0
        assert ("note: once was due at " in said.err) == (way == "once")
    session = await Session.open(base.dsn, "test")
    await Passes(session, QueueDelivery()).run()
    found = rows(base)
    assert (found["once"]["state"], found["once"]["run_count"]) == ("ended", 0)
    # a moment that is set anew counts, and so does a run by hand
    base.run("update pgreact.schedule set at = now() where name = 'once'")
    await Passes(session, QueueDelivery()).run()
    assert rows(base)["once"]["run_count"] == 1
    done(base, "run", "once")
    await Passes(session, QueueDelivery()).run()
    await session.close()
    assert rows(base)["once"]["run_count"] == 2
    if way != "once":
        assert rows(base)["later"]["state"] == "planned"


def test_a_failed_schedule_tries_again_when_it_is_enabled(filled: Database) -> None:
    engine(filled, "state = 'failed', last_error = 'x'")
    done(filled, "enable", "send mail")
    assert (rows(filled)["send mail"]["state"], rows(filled)["send mail"]["last_error"]) == ("new", None)


def test_enabling_an_invalid_schedule_shows_the_error(filled: Database) -> None:
    unchecked(filled, "enabled = false, lane = 'gone'")
    assert 'no lane "gone" in pgreact.lane' in refused(filled, "enable", "send mail")


def test_a_schedule_is_run_now(filled: Database) -> None:
    engine(filled, "state = 'planned', next_nominal_at = '2030-01-01Z', next_run_at = '2030-01-01Z'")
    assert done(filled, "run", "poll", "send mail") == "running poll\nrunning send mail\n"
    assert filled.value(
        "select bool_and(next_run_at between now() - interval '1 min' and now() and state = 'planned') "
        "from pgreact.schedule"
    )
    assert rows(filled)["send mail"]["next_nominal_at"].startswith("2030-01-01")


def test_a_disabled_schedule_is_not_run_and_the_others_neither(filled: Database) -> None:
    done(filled, "disable", "poll")
    before = rows(filled)
    assert refused(filled, "run", "poll", "send mail") == 'pgreact: "poll" is disabled: enable it first\n'
    assert rows(filled) == before


def test_remove_asks_unless_yes_is_given(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(filled, "remove", "poll", "send mail") == (
        "pgreact: remove asks before it deletes poll, send mail: give --yes to delete without a terminal\n"
    )
    monkeypatch.setattr(support, "_interactive", lambda: True)
    said = pgreact("schedule", "remove", "poll", dsn=filled.dsn, typed="n\n")
    assert said.code == 1
    assert "Delete poll from " in said.out
    assert len(rows(filled)) == 2
    said = pgreact("schedule", "remove", "poll", dsn=filled.dsn, typed="y\n")
    assert (said.code, said.out.splitlines()[-1]) == (0, "removed poll")
    assert done(filled, "remove", "send mail", "--yes") == "removed send mail\n"
    assert rows(filled) == {}


def test_change_of_a_schedule_in_the_file_notes_that_the_file_wins(database: Database) -> None:
    Path("pgreact.toml").write_text('[schedules.poll]\ntask = "t"\nevery = "30s"\n', encoding="utf-8")
    assert pgreact("apply", dsn=database.dsn).code == 0
    database.run(
        "insert into pgreact.schedule (name, task, every, origin) values ('beat', 't', '1 h', 'app')"
    )
    note = 'note: poll is in the configuration: "pgreact apply" overwrites this once the entry changes\n'
    for command in (["edit", "--every", "1m"], ["disable"], ["enable"]):
        said = run(database, command[0], "poll", *command[1:])
        assert (said.code, said.err) == (0, note)
    assert run(database, "disable", "beat").err == (
        "note: beat is in the application's beat_schedule: "
        '"celery beat" overwrites this once the entry changes\n'
    )
    assert run(database, "run", "poll").err == ""
    assert run(database, "remove", "poll", "--yes").err == (
        'note: poll is in the configuration: "pgreact apply" adds it again\n'
    )
    assert pgreact("apply", dsn=database.dsn).out == "+ schedule poll: every 30s runs t\n"


# ---- status ------------------------------------------------------------------------------------------------


def timetable(database: Database) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pgreact("status", "--json", dsn=database.dsn).out)["timetable"]
    return found


def told(database: Database) -> list[str]:
    return (
        pgreact("status", dsn=database.dsn).out.partition("timetable  ")[2].partition("\n\n")[0].splitlines()
    )


def test_status_counts_schedules_and_names_the_next(filled: Database) -> None:
    assert timetable(filled) == {
        "enabled": 2,
        "disabled": 0,
        "next": None,
        "overdue": 0,
        "failed": 0,
        "failures": [],
        "replanned": None,
    }
    assert told(filled) == ["2 schedules"]
    engine(filled, "state = 'planned', next_run_at = now() + interval '3 h 1 min'")
    engine(
        filled, "state = 'planned', next_run_at = now() + interval '2 h 1 min', delivery = 'direct'", "poll"
    )
    assert told(filled) == ["2 schedules; next: poll, in 2h"]
    found = timetable(filled)["next"]
    assert found["name"] == "poll"
    assert datetime.datetime.fromisoformat(found["run_at"]) == filled.value(
        "select next_run_at from pgreact.schedule where name = 'poll'"
    )
    done(filled, "disable", "poll")
    assert told(filled) == ["1 schedule, 1 disabled; next: send mail, in 3h"]
    engine(filled, "next_run_at = now() - interval '3 h 1 min'")
    assert told(filled) == ["1 schedule, 1 disabled; next: send mail, due for 3h"]


def test_a_failed_schedule_makes_status_unhealthy_unless_it_is_disabled(filled: Database) -> None:
    with filled.connect(application_name="psql") as leader:
        leader.execute("select pg_advisory_lock(pgreact.lock_class('leader'), 0)")
        assert pgreact("status", dsn=filled.dsn).code == 0
        engine(filled, "state = 'failed', last_error = 'no such zone'")
        assert pgreact("status", dsn=filled.dsn).code == 1
        assert told(filled) == ["2 schedules", "  FAILED: send mail: no such zone"]
        found = timetable(filled)
        assert (found["failed"], found["failures"]) == (1, [{"name": "send mail", "error": "no such zone"}])
        filled.run("update pgreact.schedule set enabled = false where name = 'send mail'")
        assert pgreact("status", dsn=filled.dsn).code == 0


def test_status_names_replanned_schedules(base: Database) -> None:
    base.run(
        "insert into pgreact.schedule (name, task, every) "
        "select 's' || n, 't', '1 h' from generate_series(1, 8) n",
        "update pgreact.schedule set revision = revision + 1, "
        "replanned_at = now() - case when name < 's8' then interval '125 min' else interval '8 days' end",
    )
    assert timetable(base)["replanned"]["count"] == 7
    assert told(base)[1:] == [
        "  planned anew 2h ago, because the clock had been far ahead: s1, s2, s3, s4, s5 and 2 more"
    ]


def test_status_text_is_silent_about_an_empty_timetable(base: Database) -> None:
    assert timetable(base)["enabled"] == 0
    assert "timetable" not in pgreact("status", dsn=base.dsn).out


def test_status_names_the_first_failed_schedules_and_counts_the_others(base: Database) -> None:
    base.run(
        "insert into pgreact.schedule (name, task, every) "
        "select 's' || n, 't', '1 h' from generate_series(1, 8) n",
        "update pgreact.schedule set revision = revision + 1, state = 'failed', last_error = 'x'",
    )
    assert told(base)[1:] == [
        *(f"  FAILED: s{number}: x" for number in range(1, 6)),
        "  and 3 more: pgreact schedule list --failed",
    ]
