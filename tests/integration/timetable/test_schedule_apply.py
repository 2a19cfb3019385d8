"""``pgreact apply`` and the timetable: schedules as the file says, and what it leaves alone."""

import json
from typing import Any

import pytest

from pgreact import apply as plans
from pgreact.settings import load
from pgreact.timetable.settings import ScheduleSettings
from tests.command import apply, pgreact, write
from tests.harness import Database

FILE = """
[lanes.mail]
[schedules.poll]
task = "proj.poll"
every = "30s"
[schedules."send mail (daily)"]
task = "proj.mail"
args = ["it's", 'a \\ b']
kwargs = {to = "ä"}
cron = "0 9 * * mon-fri"
timezone = "Europe/Paris"
lane = "mail"
jitter = "1.5s"
expires = "1h"
retention = "30d"
start_at = 2026-01-01
options = {headers = {a = 1}}
"""

STEPS = """\
+ schedule poll: every 30s runs proj.poll
+ schedule send mail (daily): cron 0 9 * * mon-fri runs proj.mail
"""

MINE = "insert into pgreact.schedule (name, task, every) values ('mine', 't', '1 h')"


@pytest.fixture
def applied(database: Database) -> Database:
    """A database as ``FILE`` has it, and that file."""
    write(FILE)
    with database.connect() as connection:
        list(plans.apply(connection, load(None), 10.0, lambda _line: None))
    return database


def refused(database: Database, *options: str) -> str:
    said = pgreact("apply", *options, dsn=database.dsn)
    assert (said.code, said.out) == (2, "")
    return said.err


def schedules(database: Database) -> dict[str, dict[str, Any]]:
    with database.connect() as connection:
        return dict(connection.execute("select name, to_jsonb(s) from pgreact.schedule s").fetchall())


# ---- converging --------------------------------------------------------------------------------------------


def test_the_defaults_of_the_file_are_those_of_the_database(applied: Database) -> None:
    # each column that an entry may name, on the one hand by default, on the other as the file's default
    applied.run(MINE)
    write('[schedules.file]\ntask = "t"\nevery = "1h"\n[lanes.mail]')
    apply(applied)
    found = schedules(applied)
    for column in ScheduleSettings.model_fields:
        assert found["file"][column] == found["mine"][column], column


def test_schedules_are_made_as_the_file_says_and_twice_changes_nothing(database: Database) -> None:
    write(FILE)
    assert apply(database, "--dry-run").endswith(STEPS)
    assert apply(database).endswith(STEPS)
    before = schedules(database)
    mail = before["send mail (daily)"]
    shown = {
        key: mail[key] for key in ("args", "kwargs", "jitter", "expires", "retention", "options", "state")
    }
    assert shown == {
        "args": ["it's", "a \\ b"],
        "kwargs": {"to": "ä"},
        "jitter": "00:00:01.5",
        "expires": "01:00:00",
        "retention": "30 days",
        "options": {"headers": {"a": 1}},
        "state": "new",
    }
    assert mail["start_at"].startswith("2025-12-31T23:00:00")
    assert {row["origin"] for row in before.values()} == {"config"}
    assert apply(database) == "Nothing to change.\n"
    assert schedules(database) == before


def test_the_printed_sql_makes_the_same_schedules(database: Database) -> None:
    write(FILE)
    script = pgreact("apply", "--sql", dsn="host=/nowhere").out
    database.run(script)
    assert apply(database) == "Nothing to change.\n"
    database.run("update pgreact.schedule set every = '45 s' where name = 'poll'")
    before = schedules(database)
    database.run(script[script.index("-- schedules") :])
    assert schedules(database) == before


def test_changed_values_are_shown_old_and_new(applied: Database) -> None:
    write(
        FILE.replace('"30s"', '"1m"')
        .replace('cron = "0 9 * * mon-fri"', 'every = "1d"')
        .replace('lane = "mail"', "enabled = false")
        .replace("args = [\"it's\", 'a \\ b']", "")
        .replace('"1h"', '"90s"')
        .replace("start_at = 2026-01-01", "")
    )
    steps = (
        "~ schedule poll: every 30s → 1m\n"
        "~ schedule send mail (daily): cron 0 9 * * mon-fri → every 1d, "
        'args ["it\'s", "a \\\\ b"] → [], enabled yes → no, start_at 2025-12-31T23:00:00Z → none, '
        "lane mail → none, expires 1h → 90s\n"
    )
    assert apply(applied, "--dry-run") == steps
    assert apply(applied) == steps
    assert apply(applied) == "Nothing to change.\n"
    assert schedules(applied)["send mail (daily)"]["args"] == []


def test_long_values_are_cut(applied: Database) -> None:
    write(FILE.replace('{to = "ä"}', f'{{to = "{"x" * 1000}"}}'))
    [line] = apply(applied).splitlines()
    assert line.endswith("xxx…")
    assert len(line) < 130


def test_schedule_removed_from_the_file_is_deleted(applied: Database) -> None:
    applied.run(MINE)
    write("[lanes.mail]")
    assert apply(applied) == "- schedule poll\n- schedule send mail (daily)\n"
    assert list(schedules(applied)) == ["mine"]


def test_the_plan_is_printed_as_json(applied: Database) -> None:
    write("[lanes.mail]")
    assert json.loads(apply(applied, "--json")) == [
        {"sign": "-", "what": "schedule poll"},
        {"sign": "-", "what": "schedule send mail (daily)"},
    ]


def test_a_name_with_a_line_feed_is_one_line(applied: Database) -> None:
    write(FILE + '[schedules."a\\nb"]\ntask = "t"\nevery = 1')
    assert apply(applied) == '+ schedule "a\\nb": every 1s runs t\n'


# ---- edits in SQL ------------------------------------------------------------------------------------------


def test_an_edit_in_sql_survives_until_the_entry_changes(applied: Database) -> None:
    applied.run(
        "update pgreact.schedule set every = '45 s', description = 'mine', enabled = false "
        "where name = 'poll'"
    )
    assert apply(applied) == "Nothing to change.\n"
    # another entry's change leaves it alone, too, and so does another way to write the same
    write(FILE.replace('"30s"', "30.0").replace('"1h"', '"2h"'))
    assert apply(applied) == "~ schedule send mail (daily): expires 1h → 2h\n"
    assert schedules(applied)["poll"]["every"] == "00:00:45"
    write(FILE.replace('"30s"', '"1m"').replace('"1h"', '"2h"'))
    assert apply(applied) == '~ schedule poll: every 45s → 1m, enabled no → yes, description mine → ""\n'
    assert apply(applied) == "Nothing to change.\n"


def test_entry_that_matches_an_edited_row_is_recorded(applied: Database) -> None:
    applied.run("update pgreact.schedule set every = '1 min' where name = 'poll'")
    write(FILE.replace('"30s"', '"1m"'))
    assert apply(applied) == "~ schedule poll: same as in the file\n"
    assert schedules(applied)["poll"]["entry"] == {"task": "proj.poll", "every": 60.0}


@pytest.mark.parametrize("origin", ["sql", "app"])
def test_a_schedule_of_another_origin_is_taken_over(applied: Database, origin: str) -> None:
    applied.run(MINE, f"update pgreact.schedule set origin = '{origin}', run_count = 7 where name = 'mine'")
    write(FILE + '[schedules.mine]\ntask = "t"\nevery = "1h"\nmisfire = "all"\n')
    assert apply(applied) == f"~ schedule mine: origin {origin} → config, misfire coalesce → all\n"
    row = schedules(applied)["mine"]
    assert (row["origin"], row["run_count"]) == ("config", 7)
    # an origin set back by hand stays only until the file names the schedule
    applied.run("update pgreact.schedule set origin = 'sql' where name = 'mine'")
    assert apply(applied) == "~ schedule mine: origin sql → config\n"


def test_apply_keeps_the_columns_that_the_database_computed(applied: Database) -> None:
    applied.run(
        "update pgreact.schedule set revision = revision + 1, state = 'planned', run_count = 5, last_run_at "
        "= now(), "
        "next_nominal_at = '2030-01-01Z', next_run_at = '2030-01-01Z'"
    )
    write(FILE.replace('task = "proj.poll"', 'task = "proj.other"'))
    assert apply(applied) == "~ schedule poll: task proj.poll → proj.other\n"
    row = schedules(applied)["poll"]
    assert (row["run_count"], row["state"]) == (5, "planned")
    assert row["next_run_at"].startswith("2030-01-01T00:00:00")
    write(FILE.replace('"30s"', '"1m"'))
    apply(applied)
    assert (schedules(applied)["poll"]["state"], schedules(applied)["poll"]["run_count"]) == ("new", 5)


# ---- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_refusal_by_the_database_names_file_and_entry(applied: Database, options: list[str]) -> None:
    before = schedules(applied)
    write(
        FILE.replace('"30s"', '"1m"')
        + '[schedules.a]\ntask = "t"\ncron = "* * *"\n'
        + '[schedules."b c"]\ntask = "t"\nevery = 5\ntimezone = "Mars"\n'
        + '[schedules.d]\ntask = "t"\nevery = 4\nstart_at = 2026-01-01\nend_at = 2025-01-01\n'
        + '[schedules.e]\ntask = "t"\nevery = 4\noptions = {eta = 1}\n'
    )
    lines = refused(applied, *options).splitlines()
    assert [line.partition("; ")[0] for line in lines] == [
        'pgreact: pgreact.toml: schedules.a: cron "* * *" has 3 fields',
        'pgreact: pgreact.toml: schedules."b c": no time zone "Mars"',
        "pgreact: pgreact.toml: schedules.d: ends before it starts",
        'pgreact: pgreact.toml: schedules.e: job t: no option "eta"',
    ]
    assert schedules(applied) == before


def test_a_first_apply_refuses_before_any_schedule_is_made(database: Database) -> None:
    write(FILE + '[schedules.a]\ntask = "t"\ncron = "x"\n')
    said = pgreact("apply", dsn=database.dsn)
    assert said.code == 2
    assert said.err.startswith('pgreact: pgreact.toml: schedules.a: cron "x" has 1 fields; ')
    assert "Traceback" not in said.err
    assert schedules(database) == {}


def test_an_unknown_lane_is_named_with_the_nearest(database: Database) -> None:
    write(FILE.replace('lane = "mail"', 'lane = "mial"'))
    assert refused(database) == (
        'pgreact: pgreact.toml: schedules."send mail (daily)".lane: no lane "mial"; did you mean "mail"?\n'
    )
    write(FILE.replace('lane = "mail"', 'lane = "mial"\ndelivery = "direct"'))
    assert apply(database).endswith(STEPS)


def test_a_lane_and_its_schedules_come_and_go_together(applied: Database) -> None:
    write("")
    assert apply(applied) == "- schedule poll\n- schedule send mail (daily)\n- lane mail\n"
    write(FILE)
    assert apply(applied) == f"+ lane mail\n{STEPS}"
    write(FILE.replace("[lanes.mail]", "").replace('lane = "mail"', ""))
    assert apply(applied, "--dry-run") == "~ schedule send mail (daily): lane mail → none\n- lane mail\n"
    assert apply(applied) == "~ schedule send mail (daily): lane mail → none\n- lane mail\n"


def test_a_lane_that_schedules_use_stays(applied: Database) -> None:
    applied.run(
        *(
            f"insert into pgreact.schedule (name, task, every, lane) values ('s{number}', 't', '1 s', 'mail')"
            for number in range(4)
        ),
        "update pgreact.schedule set lane = 'mail' where name = 'poll'",
    )
    write('[schedules.poll]\ntask = "proj.poll"\nevery = "30s"\n')
    for options in ([], ["--dry-run"]):
        said = pgreact("apply", *options, dsn=applied.dsn)
        assert said.code == 1
        assert said.err == (
            "pgreact: lane mail: the file no longer names it, but schedules enqueue into it "
            "(poll, s0, s1, …): give them another lane (pgreact schedule edit NAME --lane LANE), or remove "
            "them; nothing was changed\n"
        )
    applied.run("update pgreact.schedule set delivery = 'direct'")
    assert apply(applied) == "- schedule send mail (daily)\n- lane mail\n"


# ---- many --------------------------------------------------------------------------------------------------


def test_thousands_are_one_statement(database: Database) -> None:
    write("".join(f'[schedules."job {n}"]\ntask = "t"\nevery = "{n + 1}s"\n' for n in range(3000)))
    assert len(apply(database).splitlines()) == 3000 + 5
    # each transaction notifies once
    assert database.value("select count(distinct xmin::text) from pgreact.schedule") == 1
    write("".join(f'[schedules."job {n}"]\ntask = "t"\nevery = "{n + 2}s"\n' for n in range(3000)))
    assert len(apply(database).splitlines()) == 3000
    assert database.value("select count(distinct xmin::text) from pgreact.schedule") == 1
