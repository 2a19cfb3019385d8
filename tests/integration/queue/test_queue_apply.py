"""``pgreact apply`` and the queue: limits, lanes and outbox as the file says, and what it leaves alone."""

from collections.abc import Callable

import pytest

from pgreact import apply as plans
from pgreact.queue.settings import LaneSettings, QueueSettings
from pgreact.settings import load
from tests.catalog import catalog
from tests.command import apply, pgreact, write
from tests.harness import Database

FILE = """
[queue]
max_in_progress = 50
lease = "30s"
retention = "7d"
dead_retention = "30d"
[lanes.mail]
max_in_progress = 10
rate = "100/m"
burst = 3
[lanes.slow]
[[outbox]]
table = "orders"
on = ["insert", "update"]
when = "new.status = 'ready' -- 'ä'"
enqueue = "proj.ready"
lane = "mail"
[[outbox]]
table = "orders"
on = ["delete", "truncate"]
enqueue = "proj.gone"
"""

STEPS = """\
~ queue: max_in_progress none → 50, lease 1m → 30s, retention none → 7d, dead_retention none → 30d
+ lane mail: max_in_progress 10, rate 100/m, burst 3
+ lane slow
+ outbox: insert, update on public.orders when new.status = 'ready' -- 'ä' enqueues proj.ready in lane mail
+ outbox: delete, truncate on public.orders enqueues proj.gone
"""

SCHEMA = """\
+ schema pgreact: migration 0001_wakeups
+ schema pgreact: migration 0002_queue
+ schema pgreact: migration 0003_timetable
+ schema pgreact: migration 0004_operate
+ schema pgreact: functions
"""

Rows = list[tuple[object, ...]]


@pytest.fixture
def ours(database: Database) -> Database:
    """A database with the table that ``FILE`` names, and that file."""
    database.run("create table orders (id int primary key, status text)")
    write(FILE)
    return database


@pytest.fixture
def applied(ours: Database) -> Database:
    """The same, once it was applied."""
    with ours.connect() as connection:
        list(plans.apply(connection, load(None), 10.0, lambda _line: None))
    return ours


def rows(database: Database, statement: str) -> Rows:
    with database.connect() as connection:
        return connection.execute(statement.encode()).fetchall()


def test_tasks_of_a_lane_and_the_time_to_start_are_kept_as_the_file_says(applied: Database) -> None:
    write(
        FILE.replace(
            'retention = "7d"', 'retention = "7d"\nstart_within = "2d"\ncanary = "1m"\ncanary_queue = "mail"'
        ).replace("[lanes.slow]", '[lanes.slow]\ntasks = ["proj.a", "proj.b"]')
    )
    assert apply(applied) == (
        "~ queue: start_within 7d → 2d, canary none → 1m, canary_queue none → mail\n"
        '~ lane slow: tasks none → ["proj.a", "proj.b"]\n'
    )
    assert apply(applied) == "Nothing to change.\n"
    assert rows(applied, "select tasks from pgreact.lane where name = 'slow'") == [(["proj.a", "proj.b"],)]
    write(
        FILE.replace('retention = "7d"', 'retention = "7d"\nstart_within = "none"\ncanary = "none"').replace(
            "[lanes.slow]", '[lanes.slow]\ntasks = "none"'
        )
    )
    assert apply(applied) == (
        '~ queue: start_within 2d → none, canary 1m → none\n~ lane slow: tasks ["proj.a", "proj.b"] → none\n'
    )


def lanes(database: Database) -> Rows:
    return rows(
        database,
        "select name, max_in_progress, weight, rate, burst, paused, origin from pgreact.lane order by name",
    )


def everything(database: Database) -> list[object]:
    return [
        catalog(database, rows=True),
        lanes(database),
        rows(database, "select * from pgreact.queue_setting"),
        rows(
            database,
            "select relation::text, event, task, lane, condition, origin from pgreact.outbox order by 1, 2",
        ),
    ]


# ---- converging --------------------------------------------------------------------------------------------


def test_the_defaults_of_the_file_are_those_of_the_database(
    database: Database, installed: Callable[..., None]
) -> None:
    installed(database)
    lane = LaneSettings()
    assert lanes(database) == [
        ("default", lane.max_in_progress, lane.weight, lane.rate, lane.burst, lane.paused, "sql")
    ]
    setting = QueueSettings()
    assert rows(
        database,
        "select max_in_progress, extract(epoch from lease)::float8, extract(epoch from retention)::float8, "
        "extract(epoch from dead_retention)::float8 from pgreact.queue_setting",
    ) == [(setting.max_in_progress, setting.lease, setting.retention, setting.dead_retention)]


def test_the_queue_is_made_as_the_file_says_and_twice_changes_nothing(ours: Database) -> None:
    assert apply(ours, "--dry-run") == SCHEMA + STEPS
    assert apply(ours) == SCHEMA + STEPS
    assert lanes(ours) == [
        ("default", None, 1, None, 1, False, "sql"),
        ("mail", 10, 1, 100 / 60, 3, False, "config"),
        ("slow", None, 1, None, 1, False, "config"),
    ]
    before = everything(ours)
    assert apply(ours) == "Nothing to change.\n"
    assert everything(ours) == before


def test_the_printed_sql_makes_the_same_queue(ours: Database) -> None:
    script = pgreact("apply", "--sql", dsn="host=/nowhere").out
    ours.run(script)
    assert apply(ours) == "Nothing to change.\n"
    by_script = everything(ours)
    ours.run(script.partition("-- functions")[2])
    assert everything(ours) == by_script


def test_changed_values_are_shown_old_and_new(applied: Database) -> None:
    write(
        FILE.replace("= 50", '= "none"')
        .replace('"30s"', '"2h"')
        .replace('"7d"', '"none"')
        .replace('"30d"', '"60d"')
        .replace('"100/m"', "2.5")
        .replace("= 10", '= "none"')
        .replace("[lanes.slow]", "[lanes.slow]\npaused = true\nweight = 3")
        .replace("new.status = 'ready'", "new.id > 5")
        .replace('["delete", "truncate"]', '["delete", "insert"]')
    )
    assert apply(applied) == (
        "~ queue: max_in_progress 50 → none, lease 30s → 2h, retention 7d → none, dead_retention 30d → 60d\n"
        "~ lane mail: max_in_progress 10 → none, rate 100/m → 150/m\n"
        "~ lane slow: weight 1 → 3, paused no → yes\n"
        "~ outbox: insert, update on public.orders when new.id > 5 -- 'ä' enqueues proj.ready in lane mail\n"
        "+ outbox: insert on public.orders enqueues proj.gone\n"
        "- outbox: truncate on public.orders enqueues proj.gone\n"
    )
    assert apply(applied) == "Nothing to change.\n"


def test_settling_finds_its_history_from_the_start(applied: Database) -> None:
    job = applied.value("select pgreact.enqueue('proj.t')")
    assert applied.value("select pgreact.cancel(%s)", job) == "cancelled"
    assert applied.value("select tableoid::regclass::text ~ '^pgreact.history_\\d{8}$' from pgreact.history")


# ---- what the file does not name ---------------------------------------------------------------------------


def test_settings_made_in_sql_stay_unless_the_file_names_them(applied: Database) -> None:
    assert pgreact("queue", "pause", "mail", dsn=applied.dsn).code == 0
    applied.run(
        "update pgreact.lane set weight = 7 where name = 'mail'",
        "insert into pgreact.lane (name, rate) values ('by_hand', 1)",
    )
    assert apply(applied) == "Nothing to change.\n"
    assert pgreact("queue", "limit", "mail", "20", dsn=applied.dsn).code == 0
    assert apply(applied) == "~ lane mail: max_in_progress 20 → 10\n"
    write(FILE.replace("burst = 3", "burst = 3\npaused = false"))
    assert apply(applied) == "~ lane mail: paused yes → no\n"
    write("")
    assert "- lane mail\n- lane slow\n" in apply(applied)
    assert [row[0] for row in lanes(applied)] == ["by_hand", "default"]


def test_the_file_adopts_a_lane_made_in_sql(applied: Database) -> None:
    applied.run("insert into pgreact.lane (name, rate) values ('by_hand', 1)")
    write(FILE + "[lanes.by_hand]\nweight = 2\n")
    assert apply(applied) == "~ lane by_hand: weight 1 → 2, origin sql → config\n"
    assert ("by_hand", None, 2, 1.0, 1, False, "config") in lanes(applied)


def test_the_default_lane_is_never_removed(applied: Database) -> None:
    applied.run("select pgreact.enqueue('proj.t')")
    write(FILE + '[lanes.default]\nmax_in_progress = 5\nrate = "1/h"\n')
    assert apply(applied) == (
        "~ lane default: max_in_progress none → 5, rate none → 1/h, origin sql → config\n"
    )
    write(FILE)
    assert apply(applied) == (
        "~ lane default: max_in_progress 5 → none, rate 1/h → none, origin config → sql\n"
    )
    assert lanes(applied)[0] == ("default", None, 1, None, 1, False, "sql")
    assert apply(applied) == "Nothing to change.\n"


@pytest.mark.parametrize(
    ("used", "holds"),
    [
        (
            "select pgreact.enqueue('proj.t', lane => 'slow') from generate_series(1, 3)",
            "(3 waiting, 0 in progress)",
        ),
        (
            "select pgreact.enqueue('t', lane => 'slow') from generate_series(1, 2); select pgreact.claim(2)",
            "(0 waiting, 2 in progress)",
        ),
        (
            "select pgreact.attach('orders', enqueue => 'proj.own', lane => 'slow')",
            "but changes of public.orders enqueue into it: attach them with another lane",
        ),
    ],
)
def test_a_lane_in_use_is_not_removed_and_nothing_else_is_changed(
    applied: Database, used: str, holds: str
) -> None:
    applied.run(*used.split("; "))
    write(FILE.replace("[lanes.slow]", "[lanes.new]").replace('"30s"', '"40s"'))
    before = everything(applied)
    for options in ((), ("--dry-run",)):
        said = pgreact("apply", *options, dsn=applied.dsn)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("pgreact: lane slow: the file no longer names it, but ")
        assert holds in said.err
        assert len(said.err.splitlines()) == 1
        assert everything(applied) == before
    applied.run(
        "update pgreact.queue set lane = 'default'",
        "delete from pgreact.in_progress",
        "delete from pgreact.outbox where origin = 'sql'",
    )
    assert apply(applied) == "~ queue: lease 30s → 40s\n+ lane new\n- lane slow\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"orders"', '"order"',
         'outbox[0].table: no table "order" in the database; did you mean "public.orders"?'),
        ('lane = "mail"', 'lane = "mial"', 'outbox[0].lane: no lane "mial"; did you mean "mail"?'),
        ('table = "orders"\non = ["delete", "truncate"]\nenqueue = "proj.gone"',
         'table = "public.orders"\non = ["update"]\nenqueue = "proj.ready"',
         "outbox[1]: update of public.orders enqueues proj.ready already"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_before_anything_changes(
    ours: Database, old: str, new: str, message: str
) -> None:
    write(FILE.replace(old, new, 1))
    before = catalog(ours)
    said = pgreact("apply", dsn=ours.dsn)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("pgreact: pgreact.toml: outbox[")
    assert message in said.err
    assert catalog(ours) == before


def test_an_outbox_may_use_a_lane_made_in_sql_but_none_that_goes(applied: Database) -> None:
    applied.run("insert into pgreact.lane (name) values ('by_hand')")
    write(FILE.replace('lane = "mail"', 'lane = "by_hand"'))
    assert apply(applied).endswith("enqueues proj.ready in lane by_hand\n")
    write(FILE.replace('lane = "mail"', 'lane = "slow"').replace("[lanes.slow]", ""))
    said = pgreact("apply", dsn=applied.dsn)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith('pgreact: pgreact.toml: outbox[0].lane: no lane "slow"')


# ---- drift -------------------------------------------------------------------------------------------------

GONE = "~ outbox: truncate on public.orders enqueues proj.gone"


@pytest.mark.parametrize(
    ("harm", "mended"),
    [
        ("drop trigger {truncate} on orders", GONE),
        ("alter table orders disable trigger {truncate}", GONE),
        ("update pgreact.outbox set lane = 'slow' where event = 'truncate'", GONE),
        ("update pgreact.outbox set origin = 'sql' where event = 'truncate'", GONE),
        ("select pgreact.detach('orders', '{{truncate}}', 'proj.gone')", GONE.replace("~", "+")),
        ("alter table orders rename id to number",
         "~ outbox: delete on public.orders enqueues proj.gone"),
        ("drop table orders; create table orders (id int primary key, status text)",
         "+ outbox: delete, truncate on public.orders enqueues proj.gone"),
    ],
)  # fmt: skip
def test_an_outbox_that_drifted_is_mended(applied: Database, harm: str, mended: str) -> None:
    names = {
        event: applied.value("select pgreact.outbox_trigger('proj.gone', %s)", event)
        for event in ("delete", "truncate")
    }
    applied.run(*harm.format(**names).split("; "))
    assert mended in apply(applied).splitlines()
    assert apply(applied) == "Nothing to change.\n"
    assert pgreact("status", dsn=applied.dsn).out.count("trigger ok") == 4


QUEUE_ROUTE = "~ queue: built-in route, lane and triggers\n"


@pytest.mark.parametrize(
    "harm",
    [
        "drop trigger pgreact_0_insert on pgreact.queue",
        "alter table pgreact.in_progress disable trigger user",
        "delete from pgreact.route where id = 0",
        "truncate pgreact.route cascade",
        "delete from pgreact.lane",
        "delete from pgreact.queue_setting",
        "truncate pgreact.queue_state",
    ],
)
def test_built_in_rows_and_triggers_are_restored(
    database: Database, installed: Callable[..., None], harm: str
) -> None:
    installed(database)
    before = everything(database)
    database.run(harm)
    assert apply(database) == QUEUE_ROUTE
    assert apply(database) == "Nothing to change.\n"
    assert everything(database) == before


def test_uninstall_takes_the_outbox_with_it(applied: Database) -> None:
    assert pgreact("uninstall", "--yes", dsn=applied.dsn).out.count("- trigger pgreact_outbox_") == 4
    assert applied.value("select count(*) from pg_trigger where not tgisinternal") == 0
    applied.run("insert into orders values (1)", "truncate orders")
