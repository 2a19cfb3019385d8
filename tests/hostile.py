"""Defaults that an administrator may give a database, and on which pgreact must not depend.

pgreact's own sessions meet these defaults. The tests' sessions are pinned to PostgreSQL's own in all settings
that decide the form of values and the visibility of rows, so that a failure is pgreact's. Settings that act
inside pgreact's functions, in the session of any caller, are not pinned.
"""

from collections.abc import Mapping
from types import MappingProxyType

import psycopg
from psycopg import sql

# A schema first in the search path, with tables and functions named like pgreact's.
SHADOW = "shadow"
_SHADOWED_TABLES = ("queue", "in_progress", "lane", "route", "schedule", "migration", "dead", "history")
_SHADOWED_FUNCTIONS = (
    "claim(integer)",
    "enqueue(text)",
    "signal(text)",
    "mute()",
    "clock_now()",
    "fire(jsonb)",
)

_COMMON = {
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "plpgsql.extra_errors": "all",
    "plpgsql.variable_conflict": "use_column",
    "search_path": f"{SHADOW}, public",
    "row_security": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "default_transaction_deferrable": "on",
    # limits against runaway sessions, which must not end pgreact's
    "statement_timeout": "30s",
    "lock_timeout": "1s",
    "idle_session_timeout": "20s",
    "idle_in_transaction_session_timeout": "20s",
}

HOSTILE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "serializable": {
            **_COMMON,
            "default_transaction_isolation": "serializable",
            "DateStyle": "German, DMY",
            "IntervalStyle": "iso_8601",
            "TimeZone": "Australia/Lord_Howe",  # DST of half an hour
            "client_min_messages": "debug1",
        },
        "repeatable": {
            **_COMMON,
            "default_transaction_isolation": "repeatable read",
            "DateStyle": "SQL, DMY",
            "IntervalStyle": "sql_standard",
            "TimeZone": "<-0330>+3:30<-0230>,M3.2.0,M11.1.0",  # a zone that Python does not know by name
            "client_min_messages": "error",
        },
    }
)

# PostgreSQL's defaults of the settings above.
_PLAIN = {
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "plpgsql.extra_errors": "none",
    "plpgsql.variable_conflict": "error",
    "search_path": '"$user", public',
    "row_security": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_min_messages": "notice",
}


def options(settings: Mapping[str, str]) -> str:
    """Return settings as the connection parameter ``options`` of libpq.

    Args:
        settings: Values by name.
    """
    pairs = (f"{name}={value}" for name, value in settings.items())
    return " ".join("-c " + pair.replace("\\", "\\\\").replace(" ", "\\ ") for pair in pairs)


PINNED = options(_PLAIN)
_LEFT = {
    "standard_conforming_strings",
    "plpgsql.extra_errors",
    "plpgsql.variable_conflict",
    "row_security",
    "array_nulls",
    "transform_null_equals",
}
_OWN = options({name: value for name, value in _PLAIN.items() if name not in _LEFT})

# The tests that `./run test` runs under hostile defaults: those that exercise most of each part.
FEW = tuple(
    f"integration/{place}/test_{module}.py::test_{name}"
    for (place, module), names in {
        ("cli", "apply"): (
            "the_plan_is_printed_like_a_diff_and_twice_changes_nothing",
            "every_value_converges",
            "drift_is_mended",
            "the_printed_sql_makes_the_same_database",
            "concurrent_applies_all_succeed_and_converge",
        ),
        ("timetable", "beat"): (
            "the_entries_of_the_application_are_sent",
            "beat_takes_turns_with_the_daemon",
        ),
        ("cli", "cli"): ("status_shows_leader_standbys_routes_and_triggers",),
        ("daemon", "daemon"): ("every_kind_of_change_reaches_the_queue", "a_ready_query_cannot_write"),
        ("dispatch", "flights"): ("a_burst_during_a_run_leads_to_exactly_one_more",),
        ("queue", "outbox"): (
            "each_committed_change_is_a_job_that_names_its_row",
            "a_key_of_several_columns_and_odd_types",
            "the_job_is_of_its_task_and_lane_and_names_the_table",
        ),
        ("queue", "queue_apply"): (
            "the_queue_is_made_as_the_file_says_and_twice_changes_nothing",
            "the_printed_sql_makes_the_same_queue",
        ),
        ("queue", "queue_cli"): (
            "jobs_are_listed_in_columns",
            "a_job_is_shown_wherever_it_is",
            "status_shows_the_lanes",
        ),
        ("queue", "queue_daemon"): (
            "a_delayed_job_comes_at_its_time",
            "a_rate_is_kept_by_a_timer",
            "more_than_a_batch_goes_out",
            "killed_leaders_lose_no_job_and_claim_none_twice",
        ),
        ("queue", "queue_rules"): (
            "a_claim_returns_the_job_as_enqueued",
            "many_are_enqueued_in_order_by_one_statement",
            "a_unique_key_can_hold_while_in_progress",
            "within_a_lane_priority_comes_first_then_time_then_id",
            "a_settle_beside_an_uncommitted_claim_leaves_no_key_blocked",
            "a_delayed_job_waits_and_tells_when",
            "history_keeps_attempts_by_the_day_and_drops_whole_days",
        ),
        ("timetable", "schedule_apply"): ("the_printed_sql_makes_the_same_schedules",),
        ("timetable", "schedule_cli"): (
            "a_schedule_is_added_with_all_its_columns",
            "schedules_are_listed_in_local_time_and_in_their_own",
        ),
        ("timetable", "schedule_table"): (
            "edit_retries_a_failed_schedule_unless_it_is_disabled",
            "days_and_months_have_names",
        ),
        ("timetable", "timetable"): (
            "a_new_cron_waits_for_its_time",
            "job_has_the_values_of_its_schedule",
            "max_runs_ends_it",
        ),
        ("worker", "worker_flight"): ("every_kind_of_task_is_guarded",),
        ("worker", "worker_jobs"): (
            "a_job_runs_and_is_done",
            "failing_job_is_tried_again_and_then_dead",
            "leases_are_renewed_while_bodies_run",
        ),
    }.items()
    for name in names
)

# The modules that can run under hostile defaults: their databases come from the fixtures.
CORE = tuple(
    f"integration/{module}.py"
    for module in (
        "broker/test_job_publisher",
        "cli/test_apply",
        "cli/test_cli",
        "daemon/test_daemon",
        "dispatch/test_flight_locks",
        "dispatch/test_flights",
        "postgres/test_roles",
        "queue/test_outbox",
        "queue/test_queue_apply",
        "queue/test_queue_cli",
        "queue/test_queue_daemon",
        "queue/test_queue_rules",
        "queue/test_queue_waits",
        "timetable/test_beat",
        "timetable/test_schedule_apply",
        "timetable/test_schedule_cli",
        "timetable/test_schedule_shadow",
        "timetable/test_schedule_table",
        "timetable/test_timetable",
        "wakeup/test_triggers",
        "worker/test_worker_flight",
        "worker/test_worker_jobs",
    )
)

imposed: dict[str, str] = {}  # the defaults of this run's databases


def own() -> dict[str, str]:
    """Return the connection parameters for a session of the tests."""
    return {"options": _OWN} if imposed else {}


def give(dsn: str) -> None:
    """Set the defaults of this run on a database, if there are any.

    Args:
        dsn: Of a superuser, with the database's name.
    """
    if imposed:
        with psycopg.connect(dsn, autocommit=True, options=PINNED) as connection:
            impose(connection, connection.info.dbname, imposed)


def impose(
    connection: "psycopg.Connection[tuple[object, ...]]", database: str, settings: Mapping[str, str]
) -> None:
    """Set defaults on a database; open sessions keep theirs.

    Args:
        connection: A superuser's, in that database, in autocommit mode.
        database: Its name.
        settings: One of `HOSTILE`.
    """
    schema = sql.Identifier(SHADOW)
    connection.execute(sql.SQL("create schema if not exists {}").format(schema))
    connection.execute(sql.SQL("grant usage on schema {} to public").format(schema))
    for name in _SHADOWED_TABLES:
        connection.execute(
            sql.SQL("create table if not exists {}.{} (not_ours int)").format(schema, sql.Identifier(name))
        )
    for function in _SHADOWED_FUNCTIONS:
        connection.execute(
            sql.SQL(
                "create or replace function {}." + function + " returns void language plpgsql as "
                "$$ begin raise exception 'this is not the function of pgreact'; end $$"
            ).format(schema)
        )
    for name, value in settings.items():
        connection.execute(
            sql.SQL("alter database {} set {} = {}").format(
                sql.Identifier(database), sql.SQL(name), _value(name, value)
            )
        )


def _value(name: str, value: str) -> sql.Composable:
    # a list is not quoted: quotes would make it one name
    return sql.SQL(value) if name in {"search_path", "DateStyle"} else sql.Literal(value)
