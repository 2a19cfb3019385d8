"""The command line: what it says, how it exits, and where it takes its settings from."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgreact import __version__
from pgreact.apply import apply
from pgreact.cli.main import main
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.postgres import application_name
from pgreact.settings import Settings
from tests.command import apply as apply_command
from tests.command import pgreact, write
from tests.harness import Database, fresh_database
from tests.hostile import PINNED
from tests.signal_listener import SignalListener

ROUTES = {
    "routes": {
        "dispatch": {
            "task": "proj.dispatch",
            "tables": [
                {"table": "job_queue", "on": ["insert", "truncate"]},
                {"table": "job_queue", "on": ["update"], "when": "new.id = 1"},
            ],
        },
        "idle": {"task": "proj.idle", "window": "2s"},
    }
}


@pytest.fixture
def applied(database: Database, installed: Callable[..., None]) -> Database:
    """A database with two routes."""
    database.run("create table job_queue (id int)")
    installed(database, ROUTES)
    return database


@pytest.fixture(scope="module")
def untouched(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """The same, for tests that leave it as it was."""
    with fresh_database(postgres) as database:
        database.run("create table job_queue (id int)")
        with database.connect(options=PINNED) as connection:
            list(apply(connection, Settings.model_validate(ROUTES), 10.0, lambda _line: None))
        yield database


@contextmanager
def daemons(database: Database, standbys: int = 0) -> Iterator[None]:
    """Hold the leader's lock, and wait for it, as daemons do."""
    with ExitStack() as stack:
        name = application_name.application_name("leader", 1_000_000_000)
        leader = stack.enter_context(database.connect(application_name=name))
        leader.execute("select pgreact.acquire_lock('leader', '1 s')")
        for number in range(standbys):
            waiting = stack.enter_context(
                database.connect(application_name=f"pgreact standby host-{number} {number + 7} 1000000000")
            )
            wait = "select pgreact.acquire_lock('leader', '60 s'), pg_advisory_unlock_all()"
            thread = threading.Thread(target=waiting.execute, args=[wait])
            thread.start()
            stack.callback(thread.join)
        waiting_now = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        database.until(f"select ({waiting_now}) = {standbys}")
        stack.callback(leader.execute, "select pg_advisory_unlock_all()")
        yield


# ---- help and exit codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *main.list_commands(None)])  # type: ignore[arg-type]
def test_every_command_has_help_with_an_example(command: str | None) -> None:
    for option in ("--help", "-h"):
        said = pgreact(*([command] if command else []), option)
        assert said.code == 0
        example = said.out.partition("Example:\n")[2].splitlines()[0]
        assert example.strip().startswith("pgreact ")
        assert (command or "apply") in example
        assert all(len(line) < 100 for line in said.out.splitlines())


def test_the_version_is_printed() -> None:
    assert pgreact("--version").out == f"pgreact, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aply"], "No such command 'aply'; did you mean \"apply\"?"),
        (["zzz"], "No such command 'zzz'; there are: apply, "),
        (["apply", "--dryrun"], "No such option"),
        (["apply", "--wait", "soon"], "'--wait': 'soon' is not a duration: write"),
        (["apply", "extra"], "unexpected extra argument"),
        (["apply", "--since", "1"], "--since goes with --sql"),
        (["signal"], "Missing argument 'ROUTE'"),
        (["listen", "--log-level", "loud"], "'loud' is not one of"),
        (["-c", "nope.toml", "status"], "pgreact: nope.toml: no such file"),
        (["--dsn", "nonsense", "status"], 'pgreact: dsn "nonsense": missing "="'),
        (["--dsn", "service=nope", "status"], "pgreact: dsn: "),
        (["--dsn", "postgresql://u:hunter2@h:port/d", "apply"], "pgreact: dsn: "),
    ],
)
def test_a_mistake_in_the_command_exits_2(arguments: list[str], message: str) -> None:
    said = pgreact(*arguments)
    assert said.code == 2
    assert message in said.err
    assert "hunter2" not in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", ["apply", "listen", "status", "signal x", "uninstall", "apply --sql"])
def test_a_mistake_in_the_file_exits_2_whatever_the_command(command: str) -> None:
    Path("pgreact.toml").write_text('[routes.dispatch]\ntask = "t"\nwindow = "often"\nsweeep = "1s"\n')
    said = pgreact(*command.split())
    assert said.code == 2
    window, sweep = said.err.splitlines()
    assert window.startswith(
        "pgreact: pgreact.toml: routes.dispatch.window: 'often' is not a duration: write"
    )
    assert (
        sweep == 'pgreact: pgreact.toml: routes.dispatch.sweeep: unknown key "sweeep"; did you mean "sweep"?'
    )


# ---- listen, up to where it would run ----------------------------------------------------------------------

BROKEN = {
    "broken.py": "raise RuntimeError('no luck')",
    "plain.py": "app = 3",
    "syntax.py": "def",
    "shop.py": "import celery\napp = celery.Celery('shop', broker='memory://')",
}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, 'no Celery application: set "app" or "broker" in pgreact.toml, or give -A proj'),
        (["-A", "missing_module"], 2, 'Celery application "missing_module" cannot be imported: '),
        (["-A", "broken"], 2, 'Celery application "broken" cannot be imported: RuntimeError: no luck'),
        (["-A", "syntax"], 2, 'Celery application "syntax" cannot be imported: SyntaxError'),
        (["-A", "shop:nope"], 2,
         'cannot be imported: module "shop" has no attribute "nope"; there are: app'),
        (["-A", "shop.ap"], 2,
         'cannot be imported: module "shop" has no attribute "ap"; did you mean "app"?'),
        (["-A", "plain:app"], 2, '"plain:app" is a int, not a Celery application'),
        (["-b", "memory://", "--dsn", "nonsense"], 2, 'dsn "nonsense": missing "="'),
        (["-b", "memory://", "--dsn", "host=127.0.0.1 port=1"], 1, "cannot connect to host=127.0.0.1 port=1"),
    ],
    ids=str,
)  # fmt: skip
def test_listen_names_the_reason_why_it_cannot_run(arguments: list[str], code: int, message: str) -> None:
    for name, text in BROKEN.items():
        Path(name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pgreact", *arguments, "listen"],
        capture_output=True, encoding="utf-8", timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.startswith("pgreact: ") or '"event"' in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# ---- where the settings come from --------------------------------------------------------------------------


def reached(*options: str) -> bool:
    """Tell whether a command finds the database."""
    said = pgreact(*options, "signal", "idle")
    assert said.code in {0, 1}
    return said.code == 0


def test_the_dsn_comes_from_option_then_variable_then_file_then_libpqs_variables(
    untouched: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "host=127.0.0.1 port=1"
    config = Path("pgreact.toml")

    parts = psycopg.conninfo.conninfo_to_dict(untouched.dsn)
    for variable, key in {
        "PGHOST": "host",
        "PGPORT": "port",
        "PGUSER": "user",
        "PGPASSWORD": "password",
        "PGDATABASE": "dbname",
    }.items():
        monkeypatch.setenv(variable, str(parts[key]))
    assert reached()
    config.write_text(f'dsn = "{nowhere}"')
    assert not reached()
    config.write_text(f'dsn = "{untouched.dsn}"')
    monkeypatch.setenv("PGPORT", "1")
    assert reached()
    monkeypatch.setenv("PGREACT_DSN", nowhere)
    assert not reached()
    assert reached("--dsn", untouched.dsn)


def test_a_service_file_names_the_database(untouched: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(untouched.dsn)
    lines = (f"{key}={value}" for key, value in parts.items())
    Path("services").write_text("\n".join(["[app]", *lines]) + "\n[other]\nhost=127.0.0.1\nport=1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(Path("services").resolve()))
    assert reached("--dsn", "service=app")
    assert reached("--dsn", "postgresql:///?service=app")
    assert not reached("--dsn", "service=other")
    monkeypatch.setenv("PGSERVICE", "app")
    assert reached()
    monkeypatch.setenv("PGSERVICE", "other")
    assert not reached()
    assert reached("--dsn", "service=app")


def test_the_configuration_is_found_by_option_and_variable(
    untouched: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("far.toml").write_text(f'dsn = "{untouched.dsn}"')
    assert reached("-c", "far.toml")
    monkeypatch.setenv("PGREACT_CONFIG", "far.toml")
    assert reached()


# ---- signal ------------------------------------------------------------------------------------------------


def test_signal_signals(untouched: Database) -> None:
    with SignalListener(untouched) as ear:
        said = pgreact("signal", "dispatch", dsn=untouched.dsn)
        assert said == (0, "signalled dispatch\n", "")
        assert ear.signalled() == ["dispatch"]


def test_signal_of_an_unknown_route_names_the_nearest(untouched: Database, database: Database) -> None:
    said = pgreact("signal", "dispach", dsn=untouched.dsn)
    assert said == (2, "", 'pgreact: no route "dispach"; did you mean "dispatch"?\n')
    said = pgreact("signal", "zzz", dsn=untouched.dsn)
    assert said.err == 'pgreact: no route "zzz"; there are: dispatch, idle, pgreact.queue\n'
    with database.connect() as connection:
        list(apply(connection, Settings(), 10.0, lambda _line: None))
    said = pgreact("signal", "zzz", dsn=database.dsn)
    assert said == (2, "", 'pgreact: no route "zzz"; there are: pgreact.queue\n')


@pytest.mark.parametrize("command", ["signal x", "status"])
def test_without_schema_a_command_says_to_apply(database: Database, command: str) -> None:
    said = pgreact(*command.split(), dsn=database.dsn)
    assert said.code == 1
    assert said.err.endswith('; run "pgreact apply" first\n')
    assert len(said.err.splitlines()) == 1


# ---- status ------------------------------------------------------------------------------------------------


def test_status_shows_leader_standbys_routes_and_triggers(applied: Database) -> None:
    applied.run(
        "insert into pgreact.flight "
        "(route_id, dispatches, task_id, published_at, signals, waited_ms, dirty_since) "
        "select id, 12, 'task-1', now(), 1, 4.5, now() - interval '3 h' "
        "from pgreact.route where name = 'dispatch'"
    )
    with daemons(applied, standbys=2):
        said = pgreact("status", dsn=applied.dsn)
        found = json.loads(pgreact("status", "--json", dsn=applied.dsn).out)
    assert said.code == 0
    leader, first, second, *rest = said.out.splitlines()
    assert leader.startswith(f"leader   {application_name.HOST} pid {os.getpid()}, for ")
    assert first.startswith("standby  host-0 pid 7, for ")
    assert second.startswith("standby  host-1 pid 8, for ")
    assert rest[0] == ""
    assert rest[1] == "route dispatch → proj.dispatch (window 100ms)"
    assert rest[2].startswith("  last dispatch 0s ago: task task-1, 1 signal, waited 4.5ms; 12 in all")
    assert rest[3:] == [
        "  dirty for 3h",
        "  insert on public.job_queue: trigger ok",
        "  update on public.job_queue when new.id = 1: trigger ok",
        "  truncate on public.job_queue: trigger ok",
        "",
        "route idle → proj.idle (window 2s)",
        "  no dispatch yet",
        "  watches no table",
        "",
        "queue    0 ready, 0 delayed, 0 blocked; 0/- in progress; 0 dead",
        "  lane     ready  delayed  blocked  oldest  in progress  jobs/s",
        "  default      0        0        0       -          0/-    0.00",
    ]

    assert found["healthy"] is True
    since = "2001-09-09T01:46:40+00:00"
    assert found["leader"] == {"host": application_name.HOST, "pid": os.getpid(), "since": since}
    assert found["standbys"][1] == {"host": "host-1", "pid": 8, "since": since}
    dispatch, idle = found["routes"]
    assert dispatch["last_dispatch"]["task_id"] == "task-1"
    assert dispatch["tables"][1] == {
        "table": "public.job_queue",
        "event": "update",
        "condition": "new.id = 1",
        "changed": None,
        "always": False,
        "origin": "config",
        "trigger": "ok",
    }
    assert (idle["last_dispatch"], idle["dirty_since"], idle["tables"]) == (None, None, [])


def test_status_exits_1_when_no_daemon_leads(untouched: Database) -> None:
    said = pgreact("status", dsn=untouched.dsn)
    assert said.code == 1
    assert said.out.startswith('leader   NONE: no daemon leads; start one with "pgreact listen"\n')
    said = pgreact("status", "--json", dsn=untouched.dsn)
    found = json.loads(said.out)
    assert (said.code, found["healthy"], found["leader"], found["standbys"]) == (1, False, None, [])


# 0: number of jobs; 1: seconds ago
DIE = """
insert into pgreact.dead (id, lane, task, args, kwargs, priority, attempt, max_attempts, backoff, options,
    enqueued_at, outcome, died_at)
select coalesce(max(d.id), 0) + n, 'default', 't', '[]', '{{}}', 0, 1, 1, '0', '{{}}', now(), 'failed',
    now() - interval '{1} s'
from generate_series(1, {0}) n
left join pgreact.dead d on true
group by n
"""

PLAN = """
update pgreact.schedule
set revision = 2, state = 'planned', next_nominal_at = now(),
    next_run_at = now() - case name when 'daily' then interval '61 s' else '50 s' end
"""
WRONG = {
    'insert on public.job_queue: trigger MISSING: run "pgreact apply"': [
        "drop trigger pgreact_1_insert on job_queue"
    ],
    'truncate on public.job_queue: trigger DISABLED: run "pgreact apply"': [
        "alter table job_queue disable trigger pgreact_1_truncate"
    ],
    'insert on public.job_queue: trigger WRONG VERSION: run "pgreact apply"': [
        "create function pgreact.signal_v0() returns trigger language plpgsql as 'begin return null; end'",
        "drop trigger pgreact_1_insert on job_queue",
        "create trigger pgreact_1_insert after insert on job_queue execute function pgreact.signal_v0()",
    ],
    'trigger TABLE DROPPED: run "pgreact apply"': ["drop table job_queue"],
    'insert on public.job_queue: trigger WRONG GATE: run "pgreact apply"': [
        "alter table pgreact.route disable trigger gate",
        "update pgreact.route set gate = 'open'",
    ],
    "delete on public.other: trigger DISABLED: call pgreact.attach again": [
        "create table other (id int)",
        "select pgreact.attach('other', 'idle', '{delete}')",
        "alter table other disable trigger all",
    ],
    "FAILED: daily: no such zone": [
        "insert into pgreact.schedule (name, task, every) values ('daily', 't', '1 d')",
        "update pgreact.schedule set revision = 2, state = 'failed', last_error = 'no such zone'",
    ],
    "REPAIR   trigger pgreact_1_insert on public.job_queue: orphaned, nothing attached it: run": [
        "truncate pgreact.watched"
    ],
    'REPAIR   route daily: the sequence of its gate is missing: run "pgreact apply"': [
        "insert into pgreact.route (name, task) values ('daily', 't')",
        "drop sequence pgreact.gate_3",
    ],
    "FAILING: broker says no": ["insert into pgreact.flight (route_id, error) values (2, 'broker says no')"],
    'insert on public.old: trigger ANOTHER TABLE HAS ITS NAME: run "pgreact apply"': [
        "alter table job_queue rename to old",
        "create table job_queue (id int)",
    ],
    "delete on other.y: trigger ANOTHER TABLE HAS ITS NAME: call pgreact.attach for that table, and": [
        "create schema other create table x (id int)",
        "select pgreact.attach('other.x', 'idle', '{delete}')",
        "alter table other.x rename to y; create table other.x (id int)",
    ],
    "UNHEALTHY  timetable: schedules are overdue by more than a minute: 1, first daily": [
        "insert into pgreact.schedule (name, task, every) select unnest('{daily,later}'::text[]), 't', '1 d'",
        PLAN,
    ],
    "UNHEALTHY  queue: jobs keep dying, 10 in the last 15 minutes: pgreact queue list --state dead": [
        DIE.format(4, 60), DIE.format(3, 360), DIE.format(3, 700), DIE.format(3, 5000)
    ],
    "UNHEALTHY  task of route idle: nobody knows it": [
        "insert into pgreact.trouble values ('listen', 'task of route idle', 'nobody knows it', now())"
    ],
}  # fmt: skip


@pytest.mark.parametrize(("shown", "harm"), WRONG.items())
def test_status_exits_1_when_something_is_wrong(applied: Database, shown: str, harm: list[str]) -> None:
    with daemons(applied):
        assert pgreact("status", dsn=applied.dsn).code == 0
        applied.run(*harm)
        said = pgreact("status", dsn=applied.dsn)
        found = pgreact("status", "--json", dsn=applied.dsn)
    assert said.code == 1
    assert shown in said.out
    assert found.code == 1
    told = json.loads(found.out)
    assert told["healthy"] is False
    lines = [line for line in said.out.splitlines() if line.startswith("UNHEALTHY  ")]
    assert [f"UNHEALTHY  {reason}" for reason in told["reasons"]] == lines != []


@pytest.mark.parametrize(
    "deaths",
    [
        [(50, 60)],
        [(9, 60)],
        [(4, 60), (5, 360)],
        [(3, 60), (3, 360), (3, 700)],
        [(9, 360), (9, 700), (9, 1000)],
    ],
)
def test_jobs_that_died_earlier_raise_no_alarm(applied: Database, deaths: list[tuple[int, int]]) -> None:
    applied.run(*(DIE.format(count, ago) for count, ago in deaths))
    with daemons(applied):
        found = pgreact("status", "--json", dsn=applied.dsn).report()
    assert found["queue"]["dead"] == sum(count for count, _ in deaths)


FILE = """
[routes.dispatch]
task = "proj.dispatch"
tables = [
  { table = "job_queue", on = ["insert", "truncate"] },
  { table = "job_queue", on = ["update"], when = "new.id = 1" },
]
[routes.idle]
task = "proj.idle"
window = "2s"
"""


def test_status_shows_where_the_database_differs_from_the_file(applied: Database) -> None:
    def said(code: int) -> dict[str, Any]:
        found = pgreact("status", "--json", dsn=applied.dsn)
        assert found.code == code
        return dict(json.loads(found.out))

    with daemons(applied):
        assert said(0)["file"] == {"name": None, "differs": [], "not_compared": "no configuration file"}
        write('application = "proj"')
        assert said(0)["file"]["not_compared"] == "the file names no routes, lanes, outbox or schedules"
        write(FILE)
        assert said(0)["file"] == {"name": "pgreact.toml", "differs": [], "not_compared": None}
        applied.run("update pgreact.route set task = 'x'  where name = 'idle'", "drop table job_queue")
        assert 'no table "job_queue" in the database' in said(1)["file"]["differs"][0]
        applied.run("create table job_queue (id int)")
        found = said(1)
        assert found["file"]["differs"] == pgreact("apply", "--check", dsn=applied.dsn).out.splitlines()
        assert found["file"]["differs"][-1] == "~ route idle: task x → proj.idle"
        assert found["reasons"][-1].startswith("the database differs from pgreact.toml: + route dispatch: ")
        apply_command(applied)
        assert said(0)["reasons"] == []


def test_a_foreign_session_in_the_leaders_lock_is_shown_by_its_name(untouched: Database) -> None:
    with untouched.connect(application_name="psql") as other:
        other.execute("select pg_advisory_lock(pgreact.lock_class('leader'), 0)")
        assert "leader   psql pid None" in pgreact("status", dsn=untouched.dsn).out
