"""``pgreact doctor``: a healthy installation passes, what breaks is found, and the remedies mend it.

The tests share an installation as the documents describe it, break one thing each, and mend it again.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.doctor import clock, connection, storage, wakeup
from pgreact.doctor import queue as queue_checks
from pgreact.doctor.examination import selected
from tests import servers
from tests.command import Result, pgreact
from tests.harness import Daemon, Database, eventually, fresh_database
from tests.jobs_cluster import JobsWorker, prepare
from tests.worker import ROOT

FILE = """
application = "tests"

[routes.dispatch]
task = "tests.jobs_app.noop"
tables = [{{ table = "public.job_queue", on = ["insert"] }}]
options = {{ queue = "{queue}" }}

[lanes.mail]
max_in_progress = 10

[[outbox]]
table = "orders"
enqueue = "tests.jobs_app.noop"

[schedules.nightly]
task = "tests.jobs_app.noop"
cron = "0 3 * * *"
options = {{ queue = "{queue}" }}
"""
SETTINGS = {"wal_level": "logical", "max_prepared_transactions": "5"}


class Installation:
    """A database, a leader, a standby and a worker, and the command that looks at them."""

    def __init__(self, server: EmbeddedPostgres, database: Database, broker: str, place: Path) -> None:
        self.server, self.database, self.broker, self.place = server, database, broker, place
        self.queue = f"q_{uuid4().hex[:12]}"
        self.file = place / "pgreact.toml"
        self.file.write_text(FILE.format(queue=self.queue))
        self.environ = {
            "PYTHONPATH": str(ROOT),
            "PGREACT_DSN": database.dsn,
            "PGREACT_APP": "tests.jobs_app",
            "PGREACT_CONFIG": str(self.file),
            "TASK_BROKER": broker,
            "TASK_QUEUE": self.queue,
            "TASK_DSN": database.dsn,
        }
        self.daemons: list[Daemon] = []
        self.workers: list[JobsWorker] = []

    def start_daemon(self) -> Daemon:
        daemon = Daemon(self.database.dsn, self.broker, cwd=self.place, environ=self.environ, level="info")
        self.daemons.append(daemon)
        return daemon

    def start_worker(self, *, queue: str = "", pool: str = "prefork", **environ: str) -> JobsWorker:
        worker = JobsWorker(self.broker, queue or self.queue, pool, 2, {**self.environ, **environ})
        self.workers.append(worker)
        return worker

    def stop_worker(self, worker: JobsWorker) -> None:
        self.workers.remove(worker)
        worker.stop()

    def command(self, *arguments: str, dsn: str | None = None) -> Result:
        return pgreact("-c", str(self.file), "-b", self.broker, *arguments, dsn=dsn or self.database.dsn)

    def look(self, *checks: str, dsn: str | None = None) -> list[dict[str, Any]]:
        """Run checks; their exit code must be that of the worst verdict."""
        done = self.command("doctor", "--json", *checks, dsn=dsn)
        found: list[dict[str, Any]] = json.loads(done.out)
        verdicts = {result["verdict"] for result in found}
        assert done.code == (2 if "fail" in verdicts else 1 if verdicts - {"ok"} else 0), done
        return found

    def finding(self, check: str, verdict: str, *words: str, dsn: str | None = None) -> dict[str, Any]:
        """Return the only finding of a check with these words; it must have this verdict."""
        results = self.look(check, dsn=dsn)
        found = [result for result in results if all(word in result["finding"] for word in words)]
        assert [result["verdict"] for result in found] == [verdict], results
        return found[0]

    def passes(self, *checks: str, dsn: str | None = None) -> None:
        found = self.look(*checks, dsn=dsn)
        assert {result["verdict"] for result in found} == {"ok"}, found

    def mend(self, found: dict[str, Any]) -> None:
        """Paste the remedy of a finding."""
        remedy = found["remedy"].partition("   # ")[0]
        assert remedy, found
        if remedy.startswith("pgreact "):
            done = self.command(*shlex.split(remedy)[1:])
            assert done.code == 0, done
        else:
            self.database.run(*(statement for statement in remedy.split(";") if statement.strip()))

    def is_found(self, check: str, verdict: str, *words: str) -> None:
        """Look at what is broken, paste the remedy, and see that the finding is gone."""
        self.mend(self.finding(check, verdict, *words))
        results = self.look(check)
        assert not [result for result in results if all(word in result["finding"] for word in words)], results


@pytest.fixture(scope="module")
def whole(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, _defaults: None
) -> Iterator[Installation]:
    """An installation that all tests of this module break and mend."""
    pages = {"max_notify_queue_pages": "64"} if servers.MAJOR >= 17 else {}
    with (
        servers.Postgres(
            bindir=servers.postgres_binaries(servers.MAJOR), settings={**SETTINGS, **pages}
        ) as server,
        fresh_database(server) as database,
    ):
        database.run("create table job_queue (id int)", "create table orders (id int primary key)")
        found = Installation(server, database, redis_url, tmp_path_factory.mktemp("installation"))
        applied = found.command("apply")
        assert applied.code == 0, applied
        try:
            worker = found.start_worker()
            found.start_daemon().ready()
            found.start_daemon().ready()
            worker.wait_for_log(" ready.", 60)
            database.run("select pgreact.enqueue('tests.jobs_app.noop')", "insert into job_queue values (1)")
            database.until("select exists (select from pgreact.settled)")
            database.run("select pgreact.roll_up()")
            yield found
        finally:
            for daemon in found.daemons:
                daemon.kill()
            for worker in list(found.workers):
                found.stop_worker(worker)


def test_a_healthy_installation_passes_each_check(whole: Installation) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pgreact", "doctor"],
        env={**os.environ, **whole.environ, "PGREACT_BROKER": whole.broker},
        capture_output=True,
        text=True,
        check=False,
        cwd=whole.place,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, _, count = done.stdout.splitlines()
    shown = [line for line in lines if line[0] != " "]  # without continuations
    assert [line.split()[:2] for line in shown] == [["OK", check.id] for check in selected(())]
    assert count == f"{len(shown)} ok"


# ---- wake-ups


def test_a_disabled_trigger_is_found(whole: Installation) -> None:
    whole.database.run("alter table job_queue disable trigger pgreact_1_insert")
    whole.is_found("wakeup.triggers", "fail", "route dispatch", "public.job_queue", "disabled")


def test_a_disabled_trigger_that_was_attached_in_sql_is_attached_again(whole: Installation) -> None:
    whole.database.run(
        "create table mine (id int, state text)",
        "insert into pgreact.route (name, task, options) select 'mine', task, options from pgreact.route "
        "where name = 'dispatch'",
        "select pgreact.attach('mine', 'mine', '{update}', 'new.id > 1', changed => '{state}')",
        "alter table mine disable trigger all",
    )
    before = whole.database.value(
        "select (condition, changed, always)::text from pgreact.watched w "
        "join pgreact.route r on r.id = route_id where r.name = 'mine'"
    )
    whole.is_found("wakeup.triggers", "fail", "route mine", "public.mine", "disabled")
    assert before == whole.database.value(
        "select (condition, changed, always)::text from pgreact.watched w "
        "join pgreact.route r on r.id = route_id where r.name = 'mine'"
    )
    whole.database.run("delete from pgreact.route where name = 'mine'", "drop table mine")


def test_an_outbox_whose_trigger_was_dropped_is_found(whole: Installation) -> None:
    name = whole.database.value(
        "select tgname from pg_trigger where tgrelid = 'orders'::regclass and tgname like '%insert%'"
    )
    whole.database.run(f'drop trigger "{name}" on orders')
    whole.is_found("wakeup.triggers", "fail", "outbox tests.jobs_app.noop", "public.orders", "missing")


def test_a_table_that_a_subscription_feeds_is_found(whole: Installation) -> None:
    database = whole.database
    with fresh_database(whole.server) as source:
        source.run("create table job_queue (id int)", "create publication p for table job_queue")
        with database.connect() as session:
            session.execute(
                psycopg.sql.SQL(
                    "create subscription fed connection {} publication p with (slot_name = none, "
                    "create_slot = false, enabled = false, copy_data = false)"
                ).format(source.dsn)
            )
    whole.finding("wakeup.replicated_tables", "fail", "route dispatch", "subscription fed", "job_queue")
    database.run("select pgreact.attach('job_queue', 'dispatch', '{insert}', always => true)")
    whole.passes("wakeup.replicated_tables")
    database.run("drop subscription fed", "select pgreact.attach('job_queue', 'dispatch', '{insert}')")


@pytest.mark.parametrize(
    "of", ["role postgres", "database {name}", "role postgres in database {name}", "system"]
)
def test_a_default_that_silences_triggers_is_found(whole: Installation, of: str) -> None:
    name = whole.database.value("select current_database()")
    whole.database.run(f"alter {of.format(name=name)} set session_replication_role = replica")
    if of == "system":
        whole.database.run("select pg_reload_conf()")
        whole.database.until("select current_setting('session_replication_role') = 'replica'")
    with contextlib.suppress(AssertionError) if of == "system" else contextlib.nullcontext():
        whole.finding("wakeup.replication_role", "fail", "session_replication_role")
    [found] = whole.look("wakeup.replication_role")
    whole.mend(found)
    eventually(lambda: whole.look("wakeup.replication_role")[0]["verdict"] == "ok", "the default is reset")


def test_functions_of_another_version_are_found(whole: Installation) -> None:
    whole.database.run("update pgreact.migration set checksum = 'older' where name = 'functions'")
    whole.is_found("wakeup.schema", "fail", "functions")


def test_a_schema_of_a_newer_pgreact_is_found(whole: Installation) -> None:
    whole.database.run("insert into pgreact.migration (name, checksum) values ('9999_later', '')")
    whole.finding("wakeup.schema", "fail", "newer pgreact", "9999_later")
    whole.database.run("delete from pgreact.migration where name = '9999_later'")
    whole.passes("wakeup.schema")


def test_orphans_are_found(whole: Installation) -> None:
    whole.database.run("create sequence pgreact.gate_99")
    whole.is_found("wakeup.orphans", "warn", "gate_99")


def test_a_second_leader_without_the_lock_is_found(whole: Installation) -> None:
    with whole.database.connect(application_name="pgreact leader elsewhere 7 1 0.1.0"):
        whole.is_found("wakeup.two_leaders", "fail", "elsewhere pid 7")


def test_a_daemon_of_another_version_is_found(whole: Installation) -> None:
    with whole.database.connect(application_name="pgreact standby elsewhere 7 1 0.0.9"):
        whole.finding("wakeup.versions", "warn", "elsewhere pid 7", "0.0.9")
    with whole.database.connect(application_name="pgreact standby elsewhere 7 1"):
        whole.finding("wakeup.versions", "warn", "an unknown version")


def test_a_route_that_nothing_wakes_is_found(whole: Installation) -> None:
    whole.database.run(
        "insert into pgreact.route (name, task, sweep) values ('idle', 'tests.jobs_app.noop', '0')"
    )
    whole.is_found("wakeup.sweep", "warn", "route idle")
    whole.database.run("delete from pgreact.route where name = 'idle'")


def test_a_route_that_stays_dirty_or_fails_is_found(
    whole: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the leader cannot make the message, and retries with growing pauses
    whole.database.run(
        "insert into pgreact.route (name, task, options) values ('lost', 'tests.jobs_app.noop', "
        '\'{"serializer": "none such"}\')'
    )
    monkeypatch.setattr(wakeup, "DIRTY", 0.0)
    whole.database.run("select pgreact.signal('lost')")
    whole.database.until(
        "select exists (select from pgreact.flight where error is not null and dirty_since is not null)"
    )
    assert {"route lost" in found["finding"] for found in whole.look("wakeup.routes")} == {True}
    whole.finding("wakeup.dirty", "fail", "route lost", "a signal waits")
    whole.database.run("delete from pgreact.route where name = 'lost'")
    whole.database.until("select not exists (select from pgreact.trouble)")
    whole.passes("wakeup.routes", "wakeup.dirty")


# ---- connection


def test_a_server_that_is_away_is_found_and_the_rest_is_unknown(whole: Installation) -> None:
    away = make_conninfo(whole.database.dsn, port=1)
    found = {result["id"]: result for result in whole.look("connection", "storage", dsn=away)}
    assert found.pop("connection.reachable")["verdict"] == "fail"
    assert {result["verdict"] for result in found.values()} == {"unknown"}


def test_a_frozen_server_does_not_hold_the_doctor_up(
    whole: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgreact.doctor import facts

    monkeypatch.setattr(facts, "HUNG", 1.0)
    reached = facts.Facts.rows

    def freeze(self: facts.Facts, name: str, **values: Any) -> Any:
        (pid,) = self.connection.execute("select pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGSTOP)
        try:
            return reached(self, name, **values)
        finally:
            os.kill(pid, signal.SIGCONT)

    monkeypatch.setattr(facts.Facts, "rows", freeze)
    found = whole.look("storage.dead_rows", "storage.autovacuum")
    assert [result["verdict"] for result in found] == ["unknown", "unknown"]


def test_a_pooler_in_transaction_mode_is_found(whole: Installation) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(whole.database.dsn) as pooler:
        whole.finding("connection.pooler", "fail", "pooler in transaction mode", dsn=pooler.url)
        with whole.file.open("r+") as file:
            text = file.read()
            file.seek(0)
            file.write(f'listen_dsn = "{whole.database.dsn}"\n{text}')
        try:
            whole.passes("connection.pooler", dsn=pooler.url)
        finally:
            whole.file.write_text(text)


def test_a_replica_is_found(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.stop()
    (own_postgres.directory / "data" / "standby.signal").touch()
    own_postgres.start()
    done = pgreact("doctor", "connection.replica", "--json", dsn=own_postgres.dsn())
    assert (done.code, "replica" in json.loads(done.out)[0]["finding"]) == (2, True)


def test_a_database_of_another_application_is_found(whole: Installation) -> None:
    whole.database.run("update pgreact.installation set application = 'shop'")
    whole.finding("connection.application", "fail", 'belongs to the application "shop"')
    whole.database.run("update pgreact.installation set application = 'tests'")
    whole.passes("connection.application")


def test_a_database_without_the_schema_is_cannot_see_with_apply_as_remedy(whole: Installation) -> None:
    with fresh_database(whole.server) as bare:
        found = whole.look("connection", "wakeup", "celery", "queue", "timetable", dsn=bare.dsn)
    bad = {result["id"]: result for result in found if result["verdict"] != "ok"}
    missing = bad.pop("connection.configuration")
    assert missing["verdict"] == "fail"
    assert 'no table "public.job_queue"' in missing["finding"]
    assert missing["remedy"].startswith("create what the file names, or correct ")
    assert bad.pop("wakeup.schema")["verdict"] == "fail"
    assert {"connection.application", "wakeup.orphans", "celery.database"} < {*bad}
    assert all(result["finding"].startswith("cannot see: ") for result in bad.values()), bad
    assert {result["remedy"] for result in bad.values()} == {"pgreact apply"}


def test_a_database_that_differs_from_the_file_is_found(whole: Installation) -> None:
    whole.database.run("update pgreact.lane set max_in_progress = 3 where name = 'mail'")
    whole.is_found("connection.configuration", "warn", "lane mail")


@pytest.fixture
def role(whole: Installation) -> Iterator[str]:
    """A role that may log in, and no more."""
    name = f"r_{uuid4().hex[:8]}"
    whole.database.run(f"create role {name} {whole.database.login}")
    yield name
    whole.database.run(f"drop owned by {name} cascade", f"drop role {name}")


def test_what_a_role_may_not_see_is_unknown_until_it_is_granted(whole: Installation, role: str) -> None:
    theirs = make_conninfo(whole.database.dsn, user=role)
    found = whole.finding("queue.no_places", "unknown", "cannot see", dsn=theirs)
    whole.mend(found)
    whole.passes("queue.no_places", dsn=theirs)
    found = whole.finding("storage.xmin", "unknown", "cannot see: grant pg_monitor", dsn=theirs)
    whole.mend(found)
    assert [result for result in whole.look(dsn=theirs) if result["verdict"] != "ok"] == []
    whole.database.run("revoke usage on schema public from public")
    whole.mend(whole.finding("connection.configuration", "unknown", "denied for schema public", dsn=theirs))
    whole.passes("connection.configuration", dsn=theirs)
    whole.database.run("grant usage on schema public to public")


@pytest.mark.parametrize("kind", ["daemon", "worker", "monitor"])
def test_a_role_that_lacks_a_right_of_its_kind_is_found(whole: Installation, role: str, kind: str) -> None:
    whole.database.run(f"select pgreact.grant_role('{role}', '{kind}')")
    name = {"daemon": "pgreact standby h 7 1 0.1.0", "worker": "pgreact worker h 7 1", "monitor": "psql"}[
        kind
    ]
    theirs = make_conninfo(whole.database.dsn, user=role)
    rights = list(connection.rights_of(kind))
    assert len(rights) >= 8
    of, thing, right = rights[-1]
    with whole.database.connect(user=role, application_name=name):
        as_whom = theirs if kind == "monitor" else whole.database.dsn
        whole.passes("connection.grants", dsn=as_whom)
        if of == "columns":
            whole.database.run(
                f"revoke all on {thing} from {role}", f"revoke all (id, task) on {thing} from {role}"
            )
            columns = whole.database.value(
                f"select string_agg(attname, ', ') from pg_attribute where attrelid = '{thing}'::regclass "
                "and attnum > 0 and not attisdropped"
            )
            whole.database.run(f"revoke select ({columns}) on {thing} from {role}")
        else:
            whole.database.run(f"revoke {right} on {'' if of == 'table' else of} {thing} from {role}")
        found = whole.finding(
            "connection.grants", "warn" if kind == "monitor" else "fail", role, right, dsn=as_whom
        )
        whole.mend(found)
        whole.passes("connection.grants", dsn=as_whom)


@pytest.mark.skipif(
    servers.MAJOR < 17, reason="the queue of older servers takes 2 GB before it is a quarter full"
)
def test_a_full_queue_of_notifications_is_found_with_the_session_that_fills_it(whole: Installation) -> None:
    # on another database: the daemons stay out of it
    with (
        fresh_database(whole.server) as other,
        contextlib.suppress(psycopg.OperationalError),  # the remedy ends the session
        other.connect(autocommit=False) as listener,
    ):
        listener.execute("listen anything")
        listener.commit()
        listener.execute("select 1")
        with other.connect() as sender:
            for _ in range(3):
                sender.execute(
                    "select pg_notify('anything', repeat('x', 7000) || n) from generate_series(1, 8) n"
                )
        assert other.value("select pg_notification_queue_usage() between 0.26 and 0.49")
        found = whole.finding("connection.notify_queue", "warn", "% full")
        assert found["remedy"] == f"select pg_terminate_backend({listener.info.backend_pid});"
        whole.mend(found)
        with other.connect() as sender:  # the next one moves the queue's tail
            eventually(
                lambda: (
                    sender.execute("notify anything")
                    and whole.look("connection.notify_queue")[0]["verdict"] == "ok"
                ),
                "the queue is empty",
            )


def test_time_outs_that_end_a_run_before_it_begins_are_found(whole: Installation, role: str) -> None:
    whole.database.run(f"alter role {role} set idle_in_transaction_session_timeout = '5ms'")
    whole.is_found("connection.timeouts", "warn", f"role {role}", "idle_in_transaction_session_timeout")
    whole.database.run(f"alter role {role} set idle_in_transaction_session_timeout = '1min'")
    whole.passes("connection.timeouts")  # a worker switches it off


# ---- storage


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be old."""
    monkeypatch.setattr(storage, "LONG", 0.0)


def test_an_open_transaction_that_holds_xmin_is_found(whole: Installation, impatient: None) -> None:
    with (
        contextlib.suppress(psycopg.OperationalError),  # the remedy ends the session
        whole.database.connect(autocommit=False, application_name="report") as session,
    ):
        session.execute("set transaction isolation level repeatable read")
        session.execute("select 1")
        whole.is_found("storage.xmin", "warn", str(session.info.backend_pid), "report")


def test_a_prepared_transaction_is_found(whole: Installation, impatient: None) -> None:
    with whole.database.connect() as session:
        session.execute("begin; select txid_current(); prepare transaction 'half a transfer'")
    try:
        whole.is_found("storage.xmin", "warn", "half a transfer")
    finally:
        if whole.database.value("select exists (select from pg_prepared_xacts)"):
            whole.database.run("rollback prepared 'half a transfer'")


def test_a_replication_slot_that_nothing_uses_is_found(whole: Installation) -> None:
    whole.database.run("select pg_create_logical_replication_slot('left', 'pgoutput')")
    whole.is_found("storage.xmin", "warn", "replication slot left", "is used by nothing")


def test_dead_rows_that_no_vacuum_removes_are_found(
    whole: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "DEAD", 500)
    monkeypatch.setattr(storage, "STALE", 0.0)
    whole.database.run(
        "alter table pgreact.settled set (autovacuum_enabled = off)",
        "begin; insert into pgreact.settled (settled_at, task, outcome) select now(), 't', 'done' "
        "from generate_series(1, 1000); rollback",
    )
    eventually(lambda: whole.look("storage.dead_rows")[0]["verdict"] == "warn", "the statistics are written")
    found = whole.finding("storage.dead_rows", "warn", "pgreact.settled", "last vacuumed never")
    whole.mend(found)
    eventually(lambda: whole.look("storage.dead_rows")[0]["verdict"] == "ok", "the statistics are written")
    whole.is_found("storage.autovacuum", "warn", "pgreact.settled: autovacuum is off")


# ---- queue


@pytest.fixture
def held(whole: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of lane mail are ready and stay where they are: another session holds the queue's state."""
    monkeypatch.setattr(queue_checks, "STALLED", -1.0)
    with whole.database.connect(autocommit=False) as session:
        session.execute("select * from pgreact.queue_state for update")
        yield
    whole.database.run("delete from pgreact.queue", "delete from pgreact.in_progress")


def add(whole: Installation, **arguments: object) -> int:
    given = "".join(f", {name} => {value}" for name, value in {"lane": "'mail'", **arguments}.items())
    return int(whole.database.value(f"select pgreact.enqueue('tests.jobs_app.noop'{given})"))


def put_in_progress(whole: Installation, job: int, **columns: str) -> None:
    """Insert a claimed job; the columns are SQL expressions."""
    now = dict.fromkeys(("run_at", "enqueued_at", "claimed_at"), "now()")
    text = {
        "lane": "mail",
        "task": "t",
        "args": "[]",
        "kwargs": "{}",
        "unique_while": "queued",
        "options": "{}",
    }
    row = {
        **{name: f"'{value}'" for name, value in text.items()},
        **dict.fromkeys(("attempt", "max_attempts"), "1"),
        "id": str(job),
        "priority": "0",
        "backoff": "'1 s'",
        "task_id": "gen_random_uuid()",
        "lease_until": "now() + interval '1 h'",
        "claim_number": "99999999",
        **now,
        **columns,
    }
    whole.database.run(
        f"insert into pgreact.in_progress ({', '.join(row)}) values ({', '.join(row.values())})"
    )


def test_a_paused_lane_is_found(whole: Installation, held: None) -> None:
    whole.database.run("update pgreact.lane set paused = true where name = 'mail'")
    add(whole)
    assert whole.look("queue.unclaimed_head")[0]["verdict"] == "ok"  # the other check says why
    whole.is_found("queue.paused_lane", "warn", "lane mail", "1 job is ready")


def test_a_lane_without_places_is_found(whole: Installation, held: None) -> None:
    add(whole)
    whole.database.run("update pgreact.lane set max_in_progress = 0 where name = 'mail'")
    whole.is_found("queue.no_places", "fail", "lane mail", "max_in_progress is 0")
    whole.database.run("update pgreact.queue_setting set max_in_progress = 0")
    whole.is_found("queue.no_places", "fail", "whole queue")
    whole.database.run("update pgreact.lane set max_in_progress = 10, rate = 0.00001 where name = 'mail'")
    whole.is_found("queue.no_places", "warn", "lane mail", "of work at")


def test_a_head_that_no_claim_takes_is_found_with_the_reason(whole: Installation, held: None) -> None:
    job = add(whole)
    whole.finding("queue.unclaimed_head", "warn", f"job {job}", "has places, so claims fail")
    put_in_progress(whole, -1)
    put_in_progress(whole, -2)
    whole.database.run("update pgreact.lane set max_in_progress = 2 where name = 'mail'")
    found = whole.finding("queue.unclaimed_head", "warn", "2 of 2 places are taken")
    whole.mend(found)
    whole.finding("queue.unclaimed_head", "warn", "claims fail")
    whole.database.run("update pgreact.lane set max_unstarted = 2 where name = 'mail'")
    whole.finding("queue.unclaimed_head", "warn", "no worker starts 2 published jobs")
    whole.database.run(
        "update pgreact.lane set max_unstarted = 200, max_in_progress = 10 where name = 'mail'"
    )
    whole.database.run("update pgreact.queue_setting set max_in_progress = 2")
    found = whole.finding("queue.unclaimed_head", "warn", "2 of 2 places of all lanes")
    whole.mend(found)
    whole.database.run("update pgreact.queue_setting set max_in_progress = null")
    whole.database.run(
        "insert into pgreact.queue (task, run_at) values ('never.looked_up', now() - interval '2 min')",
        "delete from pgreact.queue where lane is not null",
    )
    whole.finding("queue.unclaimed_head", "fail", "never.looked_up", "have no lane")


def test_a_key_blocked_by_an_orphan_is_found(whole: Installation, held: None) -> None:
    first, second = (add(whole, key="'user:1'") for _ in range(2))
    whole.database.run(f"update pgreact.queue set state = 'blocked' where id = {second}")
    whole.passes("queue.blocked_orphan")
    whole.database.run(f"delete from pgreact.queue where id = {first}")
    whole.database.run(f"update pgreact.queue set state = 'blocked' where id = {second}")
    whole.is_found("queue.blocked_orphan", "fail", f"job {second}", "user:1")


def test_jobs_that_no_worker_starts_are_found(whole: Installation, held: None) -> None:
    hour_ago = "now() - interval '1 h'"
    put_in_progress(
        whole, -1, options='\'{"queue": "void"}\'', claimed_at=hour_ago, published_at="now()", publishes="3"
    )
    whole.finding("queue.unanswered", "fail", "Celery queue void", "4 times")


def test_a_lease_that_no_worker_renews_is_found(whole: Installation, held: None) -> None:
    ended = "now() - interval '1 min'"
    put_in_progress(whole, -1, started_at="now()", worker="'gone@host 12'", lease_until=ended)
    found = whole.finding("celery.lease", "warn", "job -1", "gone@host 12", "lease")
    whole.mend(found)
    assert whole.database.value("select lease = '2 min' from pgreact.queue_setting")
    whole.database.run("update pgreact.queue_setting set lease = '60 s'")
    whole.finding("celery.silent_workers", "warn", "gone@host", "process 12")


def test_a_task_that_loses_its_attempts_is_found(whole: Installation) -> None:
    whole.database.run(
        "insert into pgreact.tally select (jsonb_populate_record(t, "
        '\'{"task": "tests.jobs_app.stuck", "outcome": "lost", "jobs": 30}\')).* from pgreact.tally t '
        "where t.outcome = 'done' limit 1"
    )
    whole.finding("celery.lease", "warn", "tests.jobs_app.stuck lost 30 of 30 attempts")
    whole.database.run("delete from pgreact.tally where task = 'tests.jobs_app.stuck'")
    whole.passes("celery.lease")


def test_a_canary_that_does_not_come_back_is_found(whole: Installation) -> None:
    whole.database.run(
        "update pgreact.canary set sent_at = now() - interval '5 min', checked_at = now(), every = '1 h'",
        "update pgreact.queue_setting set canary = '1 h'",
    )
    whole.finding("queue.canary", "fail", "the last canary has not come back: cancelled")
    whole.database.run(
        "insert into pgreact.lane (name, paused) values ('lost', true)",
        "update pgreact.canary set job = pgreact.enqueue('pgreact.canary', lane => 'lost'), "
        "returned_at = null, sent_at = now() - interval '5 min', checked_at = now()",
    )
    job = whole.database.value("select job from pgreact.canary")
    assert whole.finding("queue.canary", "fail", "its lane lost is paused")["remedy"] == f"pgreact why {job}"
    whole.database.run(f"update pgreact.queue_setting set canary_queue = '{whole.queue}'")
    whole.passes("celery.unconsumed_queue", "celery.unknown_task")
    whole.database.run("update pgreact.queue_setting set canary_queue = 'lost'")
    whole.finding("celery.unconsumed_queue", "fail", "no worker consumes", "lost, of the canary")
    whole.database.run(
        "update pgreact.queue_setting set canary = null, canary_queue = null",
        "delete from pgreact.queue where lane = 'lost'",
        "delete from pgreact.lane where name = 'lost'",
    )
    whole.passes("queue.canary")


def test_jobs_that_keep_dying_are_found(whole: Installation) -> None:
    whole.database.run(
        "insert into pgreact.dead (id, task, args, kwargs, priority, attempt, max_attempts, backoff, "
        "options, enqueued_at, died_at, outcome) select n, 't', '[]', '{}', 0, 1, 1, '1 s', '{}', now(), "
        "now() - n * interval '1 min', 'failed' from generate_series(1, 14) n"
    )
    whole.finding("queue.dying", "warn", "14 in the last 15 minutes")
    whole.database.run("delete from pgreact.dead")
    whole.passes("queue.dying")


def test_a_missing_row_of_the_queue_is_found(whole: Installation) -> None:
    whole.database.run("delete from pgreact.queue_setting")
    whole.is_found("queue.built_in", "fail", "rows that every claim needs")


def test_the_cost_of_the_checks_does_not_grow_with_the_queue(whole: Installation, held: None) -> None:
    whole.database.run(
        "insert into pgreact.queue (task, lane, state, key) select 'tests.jobs_app.noop', 'mail', "
        "case when n > 40000 then 'ready' else 'blocked' end, case when n <= 40000 then 'k' end "
        "from generate_series(1, 100000) n",
    )
    read = "select sum(idx_tup_read + seq_tup_read) from pg_stat_all_indexes i join pg_stat_all_tables t "
    read += "using (relid) where t.relname = 'queue'"
    eventually(
        lambda: whole.database.value(
            "select n_live_tup > 90000 from pg_stat_all_tables where relname = 'queue'"
        ),
        "the statistics are written",
    )
    whole.database.run("vacuum analyze pgreact.queue")  # otherwise autovacuum may read it meanwhile
    before = whole.database.value(read)
    found = whole.look("connection", "wakeup", "storage", "celery.lease", "queue", "timetable")
    assert "unknown" not in {result["verdict"] for result in found}, found
    [lane] = [result for result in found if result["id"] == "queue.unclaimed_head"]
    assert "lane mail" in lane["finding"]
    eventually(lambda: whole.database.value(read) > before, "the statistics are written")
    assert whole.database.value(read) - before < 60_000


# ---- broker, workers and clocks


def test_a_broker_that_is_away_is_found_and_the_workers_are_unknown(whole: Installation) -> None:
    done = pgreact(
        "-b", "redis://127.0.0.1:1/0", "doctor", "--json", "celery", "clock", dsn=whole.database.dsn
    )
    found = {result["id"]: result["verdict"] for result in json.loads(done.out)}
    assert (done.code, found.pop("celery.broker")) == (2, "fail")
    assert {found.pop(name) for name in ("celery.lease", "clock.daemons", "clock.frozen")} == {"ok"}
    assert set(found.values()) == {"unknown"}


def test_a_task_and_a_queue_that_no_worker_knows_are_found(whole: Installation) -> None:
    whole.database.run(
        "insert into pgreact.route (name, task, options, expires, countdown) "
        "values ('odd', 'tests.jobs_app.nop', "
        "'{\"queue\": \"nobodys\"}', null, '2 h')",
        "update pgreact.queue_setting set max_in_progress = 5",
    )
    found = {result["id"]: result for result in whole.look("celery")}
    assert 'did you mean "tests.jobs_app.noop"' in found["celery.unknown_task"]["finding"]
    assert found["celery.unknown_task"]["verdict"] == "fail"
    assert "consumes the Celery queue nobodys, of route odd" in found["celery.unconsumed_queue"]["finding"]
    assert found["celery.unconsumed_queue"]["verdict"] == "fail"
    assert "max_in_progress is 5, and the workers have 2 places" in found["celery.places"]["finding"]
    assert "the countdown of route odd is 2h" in found["celery.visibility_timeout"]["finding"]
    whole.mend(found["celery.places"])
    whole.database.run("delete from pgreact.route where name = 'odd'")
    whole.passes("celery")
    whole.database.run("update pgreact.queue_setting set max_in_progress = null")


def test_workers_that_cannot_do_their_work_are_found(whole: Installation, role: str) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    servers.require_or_skip("faketime")
    with fresh_database(whole.server) as other:
        prepare(other)
        bare = whole.start_worker(pool="solo", TASK_BARE="yes")
        weak = whole.start_worker(pool="solo", PGREACT_DSN=make_conninfo(whole.database.dsn, user=role))
        astray = whole.start_worker(
            pool="solo",
            PGREACT_DSN=other.dsn,
            LD_PRELOAD=str(library),
            FAKETIME="+90s",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )
        for worker in (bare, weak, astray):
            worker.wait_for_log(" ready.", 60)
        results = whole.look("celery", "clock")
        found = {
            (result["id"], worker.name): result
            for result in results
            for worker in (bare, weak, astray)
            if worker.name in result["finding"]
        }
        assert len(found) == len([result for result in results if result["verdict"] != "ok"]), results
        assert {key: found[key]["verdict"] for key in found} == {
            ("celery.setup", bare.name): "fail",
            ("celery.database", weak.name): "warn",
            ("celery.database", astray.name): "fail",
            ("clock.workers", astray.name): "warn",
            ("clock.expires", astray.name): "fail",
        }
        assert "route dispatch expires after 15s" in found["clock.expires", astray.name]["finding"]
        whole.mend(found["celery.database", weak.name])
        whole.stop_worker(bare)
        whole.stop_worker(astray)
        whole.passes("celery", "clock")
        whole.stop_worker(weak)


def test_a_worker_of_another_version_is_found(whole: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgreact.doctor import celery

    monkeypatch.setattr(celery, "__version__", "0.2.0")
    whole.finding("celery.versions", "warn", "runs pgreact 0.1.0, and here is 0.2.0")


def test_the_clock_of_a_daemons_host_is_compared(whole: Installation) -> None:
    since = int(whole.database.value("select extract(epoch from now())")) - 60
    with whole.database.connect(application_name=f"pgreact standby slow 7 {since} 0.1.0"):
        whole.finding("clock.daemons", "warn", "slow", "behind")
    with whole.database.connect(application_name=f"pgreact standby fast 7 {since + 120} 0.1.0"):
        whole.finding("clock.daemons", "warn", "fast", "ahead of")
    assert clock.SKEW < 60


def test_a_worker_that_hangs_is_no_worker(whole: Installation) -> None:
    whole.workers[0].process.send_signal(signal.SIGSTOP)
    found = {result["id"]: result["verdict"] for result in whole.look("celery")}
    assert found["celery.workers"] == "fail"
    assert found["celery.unconsumed_queue"] == "unknown"
    whole.stop_worker(whole.workers[0])


def test_a_missing_standby_and_then_a_missing_leader_are_found(whole: Installation) -> None:
    whole.daemons[1].kill()
    whole.database.until(
        "select count(*) = 1 from pg_stat_activity where application_name ~ '^pgreact (leader|standby)'"
    )
    whole.finding("wakeup.standby", "warn", "no daemon stands by")
    whole.database.run("update pgreact.route set gate = 'closed' where name = 'dispatch'")
    whole.passes("wakeup.gate")
    whole.daemons[0].kill()
    whole.database.until(
        "select not exists (select from pg_stat_activity where application_name like 'pgreact leader%')"
    )
    whole.finding("wakeup.leader", "fail", "no daemon leads")
    whole.finding("wakeup.gate", "fail", "route dispatch", "closed")


def test_schedules_that_do_not_run_are_found(whole: Installation) -> None:
    for daemon in whole.daemons:
        daemon.kill()  # the leader would fire and plan them
    direct = "'tests.jobs_app.noop', '1 h', 'direct'"
    whole.database.run(
        "insert into pgreact.schedule (name, task, every, delivery) "
        f"values ('broken', {direct}), ('late', {direct}), "
        f"('odd name', {direct}), ('clumsy', {direct})",
        "insert into pgreact.lane (name) values ('short')",
        "insert into pgreact.schedule (name, task, every, lane) "
        "values ('homeless', 'tests.jobs_app.noop', '1 h', 'short')",
        "delete from pgreact.lane where name = 'short'",
        "update pgreact.schedule set state = 'failed', last_error = 'no such zone' where name = 'broken'",
        "update pgreact.schedule set next_run_at = now() - interval '1 h' where name = 'late'",
        "update pgreact.schedule set next_run_at = now() + interval '1 h' where name = 'clumsy'",
        "update pgreact.schedule set misfire_count = 5 where name = 'clumsy'",
        "update pgreact.schedule set created_at = now() - interval '1 h' where name = 'odd name'",
        "insert into pgreact.schedule (name, task, every, overlap, retention, misfire_count) "
        "values ('slow', 'tests.jobs_app.noop', '1 min', false, null, 5), "
        "('away', 'tests.jobs_app.noop', '1 min', false, '1 d', 5)",
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome) "
        "values ('away', now(), now(), 'missed')",
    )
    whole.is_found("timetable.failed", "fail", "schedule broken", "no such zone")
    whole.finding("timetable.overdue", "fail", "schedule late")
    whole.finding("timetable.unplanned", "warn", "schedule odd name")
    whole.finding("timetable.misfires", "warn", "schedule clumsy", "5 missed, 0 run")
    assert "grace" in whole.finding("timetable.misfires", "warn", "schedule away", "5 missed")["remedy"]
    slow = whole.finding("timetable.misfires", "warn", "schedule slow", "last longer than its interval, 1m")
    assert slow["remedy"].startswith("update pgreact.schedule set every = 2 * every where name = 'slow';")
    whole.is_found(
        "timetable.missing_lane", "fail", "schedule homeless", "short does not exist, so it cannot"
    )
    whole.database.run(
        "delete from pgreact.schedule where origin = 'sql'", "delete from pgreact.lane where name = 'short'"
    )
    whole.passes("timetable")
