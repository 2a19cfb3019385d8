"""The rights of each role: the tables' owner, the daemon, writers, signallers and so on."""

import json
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from pgreact.timetable.importers import upsert
from tests.command import pgreact, write
from tests.harness import Daemon, Database, Inbox, eventually
from tests.scrape import scrape
from tests.signal_listener import SignalListener

Install = Callable[..., None]
Start = Callable[..., Daemon]

# of each type an argument: PostgreSQL does not even ask for the right to call a strict function with null
SAMPLES = {
    "integer[]": "'{1}'",
    "bigint": "1",
    "text": "'x'",
    "text[]": "'{insert}'",
    "regclass": "'pg_class'",
    "regclass[]": "'{}'",
    "regproc": "'now'",
    "regrole": "current_user",
    "interval": "'1 ms'",
    "integer": "1",
    "bigint[]": "'{1}'",
    "boolean": "true",
    "double precision": "1",
    "double precision[]": "'{1}'",
    "jsonb": "'[]'",
    "timestamp with time zone": "now()",
    "timestamp without time zone": "localtimestamp",
    "uuid": "gen_random_uuid()",
    "uuid[]": "'{}'",
    "anyelement": "null::pgreact.queue",
    "pgreact.queue": "null",
    "pgreact.queue_state": "null",
    "pgreact.queue_setting": "null",
    "pgreact.in_progress": "null",
    "pgreact.schedule": "null",
    "pgreact.task": "null",
    "pgreact.queue_head[]": "'{}'",
    "pgreact.lane_name": "'x'",
    "pgreact.tally[]": "'{}'",
    "name": "'x'",
    "oid": "1",
    "smallint": "1",
    "bytea": "''",
}
ROLES = (
    "owner",
    "daemon",
    "worker",
    "enqueuer",
    "scheduler",
    "monitor",
    "operator",
    "writer",
    "signaller",
    "nobody",
)


@pytest.fixture
def roles(database: Database, installed: Install) -> Iterator[Callable[[str], Database]]:
    """A database that pgreact was applied to by the tables' owner, who is no superuser; by role."""
    name = psycopg.conninfo.conninfo_to_dict(database.dsn)["dbname"]

    def login(role: str) -> Database:
        return Database(psycopg.conninfo.make_conninfo(database.dsn, user=f"{name}_{role}"))

    for role in ROLES:
        database.run(f"create role {name}_{role} {database.login}")
    database.run(
        f"grant create on database {name} to {name}_owner", f"create schema app authorization {name}_owner"
    )
    owner = login("owner")
    owner.run(
        "create table app.job_queue (id int, status text)",
        "create table app.parts (id int, status text) partition by range (id)",
        "create table app.low partition of app.parts for values from (0) to (100)",
        f"grant usage on schema app to {name}_writer, {name}_daemon, {name}_signaller",
        f"grant select, insert, update, delete, truncate on all tables in schema app to {name}_writer",
    )
    routes = {
        "dispatch": {
            "task": "proj.dispatch",
            "tables": [
                {"table": "app.job_queue", "on": ["insert", "update", "delete", "truncate"]},
                {"table": "app.parts", "on": ["insert", "update", "delete", "truncate"]},
            ],
        },
        "ready": {
            "task": "proj.ready",
            "tables": [
                {"table": "app.job_queue", "on": ["insert", "update"], "when": "new.status = 'ready'"}
            ],
        },
    }
    installed(owner, {"routes": routes})
    owner.run(
        f"select pgreact.grant_role('{name}_daemon', 'daemon')",
        f"select pgreact.grant_role('{name}_signaller', 'signaller')",
        f"select pgreact.grant_role('{name}_worker', 'worker')",
        f"select pgreact.grant_role('{name}_enqueuer', 'enqueuer')",
        f"select pgreact.grant_role('{name}_scheduler', 'scheduler')",
        f"select pgreact.grant_role('{name}_monitor', 'monitor')",
        f"select pgreact.grant_role('{name}_operator', 'operator')",
    )
    yield login
    for role in ROLES:
        database.run(f"drop owned by {name}_{role} cascade", f"drop role {name}_{role}")


def everything(database: Database) -> dict[str, str]:
    """Return a statement for each function in schema pgreact, and for each way to use a table."""
    with database.connect() as connection:
        functions = connection.execute(
            "select p.oid::regproc::text, p.proargtypes::regtype[]::text[], prorettype = 'trigger'::regtype "
            "from pg_proc p where pronamespace = 'pgreact'::regnamespace"
        ).fetchall()
        tables = connection.execute(
            "select c.oid::regclass::text, attname from pg_class c join pg_attribute on attrelid = c.oid "
            "where relkind = 'r' and relnamespace = 'pgreact'::regnamespace and attnum = 1"
        ).fetchall()
    found: dict[str, str] = {}
    for name, types, is_trigger in functions:
        arguments = ", ".join(f"{SAMPLES[kind]}::{kind}" for kind in types)
        found[name] = (
            f"create temp table t (id int); create trigger t after insert on t execute function {name}()"
            if is_trigger
            else f"select {name}({arguments})"
        )
    for table, column in tables:
        found[f"select {table}"] = f"select * from {table}"
        found[f"insert {table}"] = f"insert into {table} default values"
        found[f"update {table}"] = f"update {table} set {sql.Identifier(column).as_string()} = default"
        found[f"delete {table}"] = f"delete from {table}"
        found[f"truncate {table}"] = f"truncate {table} cascade"
    return found


def allowed(database: Database, statements: dict[str, str]) -> set[str]:
    """Return the statements that a role may run; each is rolled back."""
    found = set()
    with database.connect() as connection:
        for name, statement in statements.items():
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            except psycopg.Error:
                pass  # it got past the rights
            found.add(name)
    return found


def test_a_writer_of_the_tables_needs_no_grants(roles: Callable[[str], Database]) -> None:
    statements = {
        "insert into app.job_queue values (1, 'ready')": ["dispatch", "ready"],
        "update app.job_queue set status = 'done'": ["dispatch"],
        "delete from app.job_queue": ["dispatch"],
        "truncate app.job_queue": ["dispatch"],
        "insert into app.parts values (1)": ["dispatch"],
        "update app.low set id = 2": ["dispatch"],
        "delete from app.parts": ["dispatch"],
        "truncate app.parts": ["dispatch"],
    }
    with SignalListener(roles("owner")) as ear, roles("writer").connect() as writer:
        assert ear.after(writer, *statements) == statements


@pytest.mark.parametrize("role", ["writer", "nobody"])
def test_a_role_without_grants_can_do_nothing_in_pgreact(roles: Callable[[str], Database], role: str) -> None:
    statements = everything(roles("owner"))
    assert len(statements) > 25
    assert allowed(roles(role), statements) == set()
    assert (
        allowed(roles(role), {"attach": "select pgreact.attach('app.job_queue', 'dispatch', '{insert}')"})
        == set()
    )


def test_a_signaller_signals_and_mutes_and_no_more(roles: Callable[[str], Database]) -> None:
    assert allowed(roles("signaller"), everything(roles("owner"))) == {"pgreact.signal", "pgreact.mute"}
    with SignalListener(roles("owner")) as ear:
        said = pgreact("signal", "dispatch", dsn=roles("signaller").dsn)
        assert (said.code, said.out) == (0, "signalled dispatch\n")
        assert ear.signalled() == ["dispatch"]
    said = pgreact("signal", "dispatchh", dsn=roles("signaller").dsn)
    assert (said.code, said.err) == (2, 'pgreact: no route "dispatchh"; did you mean "dispatch"?\n')


def test_a_worker_takes_and_settles_attempts_and_no_more(roles: Callable[[str], Database]) -> None:
    assert allowed(roles("worker"), everything(roles("owner"))) == {
        f"pgreact.{name}"
        for name in (
            *("start", "renew", "snooze", "postpone", "settle", "abandon", "store_result"),
            *("settle_and_start", "hand_back", "abandon_bundle"),
            "database_id",
        )
    }
    assert roles("worker").value("select count(id) from pgreact.route")


def test_an_enqueuer_enqueues_and_reads_and_no_more(roles: Callable[[str], Database]) -> None:
    assert allowed(roles("enqueuer"), everything(roles("owner"))) == {
        *(
            f"pgreact.{name}"
            for name in (
                *("enqueue", "enqueue_many", "task_id"),
                *("cancel", "retry", "readable", "why_job", "clock_now"),
            )
        ),
        *(f"select pgreact.{name}" for name in ("queue", "in_progress", "dead", "lane")),
        "pgreact.job_result",
    }
    job = roles("enqueuer").value("select pgreact.enqueue('t')")
    assert roles("enqueuer").value("select count(*) from pgreact.history") == 0
    said = pgreact("why", str(job), dsn=roles("enqueuer").dsn)
    assert said.out.startswith(f"job {job} (t) waits: no daemon leads")


def test_a_scheduler_edits_schedules_and_no_more(roles: Callable[[str], Database]) -> None:
    assert allowed(roles("scheduler"), everything(roles("owner"))) == {
        *(f"{way} pgreact.schedule" for way in ("select", "insert", "delete")),
        "select pgreact.schedule_history",
        "select pgreact.lane",
        "pgreact.clock_now",
        "pgreact.upsert_schedules",
    }
    ours = roles("scheduler")
    ours.run(
        "insert into pgreact.schedule (name, task, cron, timezone, options) "
        "values ('a', 't', '0 9 * * mon-fri', 'Europe/Paris', '{\"queue\": \"mail\"}')",
        "update pgreact.schedule set next_run_at = now()",
    )
    assert ours.value("select state from pgreact.schedule") == "planned"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='cron "x" has 1 fields'):
        ours.run("update pgreact.schedule set cron = 'x'")
    ours.run("delete from pgreact.schedule")


INTERNAL = (
    *("id", "origin", "entry", "created_at", "state", "next_nominal_at", "last_nominal_at", "last_run_at"),
    *("last_job", "last_error", "run_count", "misfire_count", "revision", "planned_at"),
    "replanned_at",
)


def test_a_scheduler_writes_the_columns_that_a_user_decides_and_no_other(
    roles: Callable[[str], Database],
) -> None:
    roles("owner").run("insert into pgreact.schedule (name, task, every) values ('a', 't', '1 h')")
    columns = roles("owner").value(
        "select array_agg(attname::text) from pg_attribute "
        "where attrelid = 'pgreact.schedule'::regclass and attnum > 0 and not attisdropped "
        "and attidentity = ''"  # which nobody can write
    )
    updates = {column: f"update pgreact.schedule set {column} = {column}" for column in columns}
    inserts = {column: f"insert into pgreact.schedule ({column}) select null" for column in columns}
    ours = roles("scheduler")
    assert allowed(ours, updates) == allowed(ours, inserts) == {*columns} - {*INTERNAL}


def test_a_schedulers_commands_all_work(roles: Callable[[str], Database]) -> None:
    def done(*arguments: str) -> str:
        said = pgreact("schedule", *arguments, dsn=roles("scheduler").dsn)
        assert said.code == 0, said.err
        return said.out

    done("add", "poll", "--task", "proj.poll", "--every", "30s")
    done("edit", "poll", "--cron", "@daily", "--jitter", "1m")
    for command in ("disable", "enable", "run", "show", "list"):
        done(command, *([] if command == "list" else ["poll"]))
    assert '"next_run_at": "' in done("show", "poll", "--json")
    with roles("scheduler").connect() as connection:
        row = {"name": "old", "task": "proj.old", "every": 60.0, "last_run_at": "2026-01-01T00:00:00+00:00"}
        assert upsert.write(connection, [row], "sql").added == ("old",)
        assert upsert.write(connection, [{**row, "name": "app"}], "app", prune=True).added == ("app",)
        assert upsert.write(connection, [], "app", prune=True).removed == ("app",)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match='of origin "config"'):
            connection.execute("select pgreact.upsert_schedules('[]', 'config')")
    done("remove", "poll", "old", "--yes")


def test_the_daemons_role_reads_routes_writes_flights_and_no_more(roles: Callable[[str], Database]) -> None:
    assert allowed(roles("daemon"), everything(roles("owner"))) == {
        *(
            f"pgreact.{name}"
            for name in (
                "claim",
                "database_id",
                "readable",
                "replaced",
                "unpublished",
                "route_tasks",
                "unanswered",
                "settle",
                "maintain_history",
                "fire",
                "clock_now",
                "maintain_schedule_history",
                "send_canary",
                "trigger_arguments",
                "outbox_trigger",
                "outbox_key",
                "trigger_parts",
                "trigger_definition",
                "trigger_state",
                "json_types",
                "lane_depths",
                "roll_up",
                "buckets",
                "add_counts",
                "sum_counts",
                "log_event",
            )
        ),
        *(
            f"select pgreact.{name}"
            for name in (
                "lane",
                "lane_state",
                "task",
                "queue_setting",
                "queue",
                "in_progress",
                "dead",
                "outbox",
                "schedule",
                "canary",
                "tally_total",
                "event_log",
            )
        ),
        "pgreact.acquire_lock",
        "pgreact.lock_class",
        "pgreact.poll_gates",
        "pgreact.set_gates",
        "select pgreact.installation",
        "select pgreact.migration",
        "select pgreact.route",
        "select pgreact.watched",
        "select pgreact.flight",
        "insert pgreact.flight",
        "update pgreact.flight",
        *(f"{right} pgreact.trouble" for right in ("select", "insert", "update", "delete")),
    }


def test_the_daemon_runs_with_the_daemons_role(
    roles: Callable[[str], Database], inbox: Inbox, daemons: Start
) -> None:
    roles("owner").run(
        f"update pgreact.route set sweep = '0', options = '{{\"queue\": \"{inbox.queue}\"}}', "
        "ready = 'select false' where name = 'dispatch'",
        "delete from pgreact.route where name = 'ready'",
    )
    daemon = daemons(roles("daemon").dsn, inbox.url, environ={"PGREACT_HTTP": "127.0.0.1:0"})
    daemon.wait_for("sweep.finished", route="dispatch", dispatch=False)
    address = daemon.wait_for("http.opened")["address"]
    eventually(lambda: scrape(address).value("sample_age_seconds") is not None, "metrics are sampled")
    roles("writer").run("insert into app.job_queue values (1)")
    published = daemon.wait_for("dispatch.published")
    assert inbox.take()["id"] == published["task_id"]
    roles("owner").until(
        "select exists (select from pgreact.flight where dispatches = 1 and dirty_since is null)"
    )

    said = pgreact("status", dsn=roles("daemon").dsn)
    assert said.code == 0
    assert f"pid {daemon.pid}" in said.out
    assert published["task_id"] in said.out

    for delivery in ("queue", "direct"):
        roles("owner").run(
            "insert into pgreact.schedule (name, task, at, delivery, options) "
            f"values ('{delivery}', 't', now(), '{delivery}', '{{\"queue\": \"{inbox.queue}\"}}')"
        )
        daemon.wait_for("schedule.fired", schedule=delivery)
        assert inbox.take()["periodic_task_name"] == delivery

    roles("owner").run("update pgreact.route set \"window\" = '1 s'")
    assert daemon.wait_for("route.changed")["keys"] == ["window"]
    assert daemon.stop() == 0
    assert not daemon.seen("statement.failed")


def test_the_daemon_controls_the_gate_of_a_route_of_any_role(
    roles: Callable[[str], Database], database: Database, inbox: Inbox, daemons: Start
) -> None:
    database.run(
        "insert into pgreact.route (name, task, gate, sweep, ready, options) values "
        f"('theirs', 't', 'closed', '0', 'select false', '{{\"queue\": \"{inbox.queue}\"}}')",
        "select pgreact.attach('app.job_queue', 'theirs', '{insert}')",
        "delete from pgreact.route where name <> 'theirs'",
    )
    daemon = daemons(roles("daemon").dsn, inbox.url)
    daemon.wait_for("gate.closed", route="theirs")
    roles("writer").run("insert into app.job_queue values (1)")
    assert inbox.take()["task"] == "t"
    roles("owner").run("update pgreact.route set gate = 'auto'")
    daemon.wait_for("gate.opened", route="theirs")
    roles("owner").run("delete from pgreact.route")
    daemon.wait_for("route.changed", change="removed")


def test_a_daemon_without_grants_says_what_to_run(
    roles: Callable[[str], Database], redis_url: str, daemons: Start
) -> None:
    daemon = daemons(roles("nobody").dsn, redis_url)
    assert daemon.exit() == 1
    said = "\n".join(event["text"] for event in daemon.seen("(text)"))
    assert "permission denied for schema pgreact" in said
    assert "pgreact.grant_role('<this role>', 'daemon')" in said
    assert "Traceback" not in said


def test_status_and_signal_without_grants_say_what_is_missing(roles: Callable[[str], Database]) -> None:
    for command in (["status"], ["signal", "dispatch"]):
        said = pgreact(*command, dsn=roles("writer").dsn)
        assert said.code == 1
        assert "permission denied for schema pgreact" in said.err
        assert len(said.err.splitlines()) == 1


def test_grant_role_names_the_kinds_there_are(roles: Callable[[str], Database]) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='no kind of role "boss"') as caught:
        roles("owner").run("select pgreact.grant_role(current_user::regrole, 'boss')")
    assert "daemon" in (caught.value.diag.message_hint or "")


def test_a_monitor_sees_all_but_the_arguments_of_jobs(
    roles: Callable[[str], Database], database: Database
) -> None:
    write(
        '[routes.dispatch]\ntask = "proj.dispatch"\ntables = [{ table = "app.job_queue", on = ["insert"] }]\n'
        '[routes.fresh]\ntask = "t"\nready = "select true"\n'
        '[schedules.poll]\ntask = "t"\nevery = "1m"\n[[outbox]]\ntable = "app.job_queue"\nenqueue = "t"\n'
    )
    database.run(
        "alter table app.job_queue add primary key (id)",
        "select pgreact.attach('app.job_queue', enqueue => 'o')",
        "select pgreact.enqueue('a'), pgreact.enqueue('b', run_at => now() + interval '1 h')",
        "select pgreact.claim(1)",
        "select pgreact.enqueue('c')",
        "select pgreact.drop_job(max(id), 'expired', 'late') from pgreact.queue",
        "insert into pgreact.schedule (name, task, every) values ('old', 't', '1 h')",
    )
    monitor = roles("monitor")
    found = pgreact("status", "--json", dsn=monitor.dsn)
    assert json.loads(found.out)["file"] == {
        "name": "pgreact.toml", "differs": [],
        "not_compared": "a right is missing: permission denied for schema app",
    }  # fmt: skip
    role = psycopg.conninfo.conninfo_to_dict(monitor.dsn)["user"]
    database.run(f"grant usage on schema app to {role}")
    commands = (
        "status", "status --json", "queue list", "schedule list", "schedule show old", "apply --check",
        "why 1", "why 4", "why old", "why route:dispatch",
    )  # fmt: skip
    for command in commands:
        seen, whole = (pgreact(*command.split(), dsn=roles(role).dsn) for role in ("monitor", "owner"))
        assert (seen.code, seen.err) == (whole.code, whole.err) == (seen.code, "")
        assert re.sub(r"\d+", "0", seen.out) == re.sub(r"\d+", "0", whole.out)
    assert "permission denied" in pgreact("queue", "show", "1", dsn=roles("monitor").dsn).err
    owner = everything(roles("owner"))
    may = allowed(roles("monitor"), owner)
    assert not {name for name in may if name.startswith(("insert", "update", "delete", "truncate"))}
    assert {f"select pgreact.{table}" for table in ("queue", "in_progress", "dead")} & may == set()
    assert {name for name in may if not name.startswith("select ")} == {
        f"pgreact.{name}"
        for name in (
            "lock_class", "trigger_arguments", "outbox_trigger", "outbox_key", "trigger_parts", "clock_now",
            "trigger_definition", "trigger_state", "replaced", "json_types", "readable", "unanswered", "load",
            "lane_depths", "why_job", "buckets", "add_counts", "sum_counts", "database_id", "error_pattern",
        )
    }  # fmt: skip
    for table in ("queue", "in_progress", "dead"):
        for column in ("args", "kwargs", "options"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                roles("monitor").run(f"select {column} from pgreact.{table}")


def test_an_operator_acts_on_lanes_jobs_and_schedules_beyond_what_a_monitor_sees(
    roles: Callable[[str], Database],
) -> None:
    statements = everything(roles("owner"))
    more = allowed(roles("operator"), statements) - allowed(roles("monitor"), statements)
    assert more == {
        *(f"select pgreact.{name}" for name in ("queue", "in_progress", "dead")),
        *(f"{way} pgreact.schedule" for way in ("insert", "delete")),
        *(
            f"pgreact.{name}"
            for name in ("cancel", "retry", "discard", "signal", "log_event", "upsert_schedules")
        ),
    }
    ours = roles("operator")
    ours.run("update pgreact.lane set paused = true, max_in_progress = 3 where name = 'default'")
    changed = "select details - 'max_in_progress' from pgreact.event_log where event = 'lane.paused'"
    assert ours.value(changed) == {"paused": [False, True]}
    role = psycopg.conninfo.conninfo_to_dict(ours.dsn)["user"]
    assert ours.value("select actor from pgreact.event_log where event = 'lane.paused'") == role
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ours.run("update pgreact.lane set name = 'mine'")


def test_apply_needs_the_owner_of_the_tables(roles: Callable[[str], Database]) -> None:
    assert pgreact("apply", dsn=roles("writer").dsn).code == 1
    assert "permission denied" in pgreact("apply", dsn=roles("daemon").dsn).err
    assert pgreact("uninstall", "--yes", dsn=roles("daemon").dsn).code == 1
