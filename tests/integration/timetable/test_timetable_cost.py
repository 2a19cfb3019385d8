"""What the engine's statements cost does not depend on how many schedules there are."""

from typing import Any

import pytest

from pgreact.postgres.queries import query
from tests.harness import Database

MANY = 50_000
KIND = 20  # of each kind that needs attention


@pytest.fixture
def many(database: Database, installed: Any) -> Database:
    """A timetable with many schedules, a few of them due, disabled, failed or ended."""
    installed(database)
    database.run(
        # past the trigger's checks, which have tests of their own
        "alter table pgreact.schedule disable trigger user",
        "insert into pgreact.schedule (name, task, every, state, next_nominal_at, next_run_at, delivery) "
        "select 's' || n, 't', '1 day', 'planned', now() + n * interval '1 s', now() + n * interval '1 s', "
        f"'queue' from generate_series(-2, {MANY}) n",
        *(
            "insert into pgreact.schedule (name, task, every, state, enabled, next_run_at) "
            f"select '{name} ' || n, 't', '1 day', {columns} from generate_series(1, {KIND}) n"
            for name, columns in (
                ("disabled", "'planned', false, now()"),
                ("failed", "'failed', true, null"),
                ("ended", "'ended', true, null"),
                ("overdue", "'planned', true, now() - interval '2 min'"),
            )
        ),
        "alter table pgreact.schedule enable trigger user",
        "vacuum analyze pgreact.schedule",
    )
    return database


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


@pytest.mark.parametrize("name", ["timetable_next", "timetable_due"])
def test_reading_due_schedules_touches_few_pages(many: Database, name: str) -> None:
    statement = query(name)
    # nothing read yet and nothing set aside, a thousand of each kind, all of them
    for number, value in enumerate(("'queue'", "0", "null", "0", "'{}'", "1000", "null"), 1):
        statement = statement.replace(f"${number}", value)
    with many.connect() as connection:
        found = connection.execute(f"explain (analyze, buffers, format json) {statement}".encode()).fetchone()
    assert found is not None
    plan = found[0][0]["Plan"]
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 40


# The statements, and how many rows of the table each may read; a count ends at 10,001 for each delivery.
VIEWS: dict[str, tuple[int, dict[str, str]]] = {
    "timetable_ahead": (0, {"$1": "null", "$2": "0", "$3": "500", "$4": "'1 day'"}),
    "timetable_overview": (20_200, {}),
    "metrics_schedules": (20_200, {}),
    "schedule_names": (4000, {"%(name)s": "'s4567'"}),
    "schedule_differences": (
        2,
        {"%(entries)s": """'[{"name": "s7", "entry": {}}, {"name": "new", "entry": {}}]'"""},
    ),
    **{
        f"schedule_list {which}": (
            101 + 2 * KIND,
            {"%(pattern)s": "null", "%(after)s": "null", "%(limit)s": "101", "%(which)s": which},
        )
        for which in ("null", "'enabled'", "'disabled'", "'overdue'", "'failed'", "'ended'")
    },
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_many_schedules_read_few_rows(many: Database, name: str) -> None:
    limit, values = VIEWS[name]
    statement = query(name.partition(" ")[0])
    for key, value in values.items():
        statement = statement.replace(key, value)
    # as after many firings: hence no index is cheaper for being all there is to read
    many.run("update pg_class set relallvisible = 0 where oid = 'pgreact.schedule'::regclass")
    with many.connect() as connection:
        found = connection.execute(f"explain (analyze, format json) {statement}".encode()).fetchone()
    assert found is not None
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(found[0][0]["Plan"])
        if node.get("Relation Name") == "schedule"
    )
    assert read <= limit


def test_firing_a_few_reads_a_few_rows(many: Database) -> None:
    with many.connect(autocommit=False) as connection:
        moved = connection.execute(
            "select count(*) from pgreact.fire((select jsonb_agg(jsonb_build_object('id', id, 'revision', "
            "revision, "
            "'state', 'planned', 'occurrences', jsonb_build_array(next_nominal_at), "
            "'next_nominal_at', now() + interval '1 day', 'next_run_at', now() + interval '1 day')) "
            "from pgreact.schedule where id <= 3))"
        ).fetchone()
        assert moved == (3,)
        read = connection.execute(
            "select seq_scan, idx_tup_fetch <= 9 from pg_stat_xact_user_tables where relname = 'schedule'"
        ).fetchone()
        assert read == (0, True)
