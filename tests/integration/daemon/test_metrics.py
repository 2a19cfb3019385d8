"""Metrics and probes of real daemons: each family follows what happens, and only the leader shows its own."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
import pytest_asyncio

from pgreact import logs
from pgreact.daemon import daemon, metrics_sampler, metrics_workers
from pgreact.daemon.metrics import FAMILIES
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.queue import roll_up
from tests.harness import Daemon, Database, Inbox, eventually, fresh_database, install, one_route
from tests.in_process import Running, running
from tests.scrape import OPENMETRICS, Scrape, get, scrape

Start = Callable[..., Daemon]
Install = Callable[..., None]

ASYNC = pytest.mark.asyncio(loop_scope="module")
HTTP = {"PGREACT_HTTP": "127.0.0.1:0"}
LEADERS = {name for name, family in FAMILIES.items() if family.source == "leader"}
SAMPLED = {
    name
    for name, family in FAMILIES.items()
    if family.source == "database" and not name.startswith("canary")  # which is off
}


class Scraped:
    """A daemon in this process, and its metrics."""

    def __init__(self, run: Running, inbox: Inbox, database: Database) -> None:
        self.run, self.inbox, self.database = run, inbox, database
        self.workers: dict[str, Any] = {}
        self.askable = True
        self.address = ""

    async def scrape(self) -> Scrape:
        return await asyncio.to_thread(scrape, self.address)

    async def get(self, path: str) -> int:
        return (await asyncio.to_thread(get, self.address, path)).status

    async def until(self, condition: Callable[[Scrape], object], what: str) -> Scrape:
        """Scrape until a condition holds; return that scrape."""
        found: list[Scrape] = []

        def holds() -> object:
            found[:] = [scrape(self.address)]
            return condition(found[0])

        await asyncio.to_thread(eventually, holds, what)
        return found[0]

    async def follow(self, name: str, **labels: str) -> Callable[[], Any]:
        """Note the value of a sample; return a function that waits until it has grown."""
        before = (await self.scrape()).value(name, **labels) or 0

        async def grown() -> float:
            found = await self.until(lambda s: (s.value(name, **labels) or 0) > before, f"{name} grows")
            value = found.value(name, **labels)
            assert value is not None
            return value - before

        return grown


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def led(postgres: EmbeddedPostgres, redis_url: str) -> AsyncIterator[Scraped]:
    """A daemon that leads, samples often, and asks workers that a test makes up; shared by the tests."""
    with fresh_database(postgres) as database, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(metrics_sampler, "INTERVAL", 0.05)
        monkeypatch.setattr(metrics_workers, "INTERVAL", 0.05)
        monkeypatch.setattr(roll_up, "PAUSE", 0.05)
        monkeypatch.setattr(daemon, "HEARTBEAT", 0.1)
        inbox = Inbox(redis_url, f"q_{uuid4().hex[:12]}")
        database.run("create table job_queue (id int)")
        install(
            database,
            {
                **one_route(inbox, gate="open"),
                "lanes": {"mail": {"max_in_progress": 7}, "slow": {"paused": True}, "idle": {}},
                "schedules": {"off": {"task": "proj.off", "every": "1h", "enabled": False}},
            },
        )
        async with running(database, inbox.url, monkeypatch, http="127.0.0.1:0") as run:
            yield await led_by(run, inbox, database, monkeypatch)
        inbox.close()


async def led_by(run: Running, inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch) -> Scraped:
    """Wait until a daemon leads and has taken a sample."""
    scraped = Scraped(run, inbox, database)

    async def ask(_command: str, **_arguments: object) -> dict[str, Any] | None:
        return scraped.workers if scraped.askable else None

    monkeypatch.setattr(run.daemon.workers, "ask", ask)
    await run.until(lambda: run.count(logs.SweepFinished, reason="elected") == 2, "it leads")
    scraped.address = next(event.address for event in run.events if isinstance(event, logs.HttpOpened))
    await scraped.until(lambda s: s.value("sample_age_seconds") is not None, "a sample is taken")
    return scraped


def test_a_bad_address_is_an_error_of_usage(database: Database, inbox: Inbox, daemons: Start) -> None:
    refused = daemons(database.dsn, inbox.url, environ={"PGREACT_HTTP": "9187"})
    assert refused.exit() == 2
    assert "PGREACT_HTTP: http: '9187' is not an address: write HOST:PORT" in refused.events[-1]["text"]


def test_a_taken_port_is_an_error(database: Database, inbox: Inbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "pgreact", "--dsn", database.dsn, "-b", inbox.url, "listen"]
        said = subprocess.run(
            [*command, "--http", address], capture_output=True, text=True, timeout=60, check=False
        )
    assert said.returncode == 1
    assert f"pgreact: http: cannot listen on {address}: " in said.stderr


@ASYNC
async def test_a_canary_on_its_way_grows_older(led: Scraped) -> None:
    led.database.run("update pgreact.queue_setting set canary = '1h'")
    found = await led.until(lambda s: (s.value("canary_age_seconds") or 0) > 0, "it was sent")
    assert found.value("canary_seconds") is None
    led.database.run(
        "update pgreact.canary set returned_at = clock_timestamp(), seconds = 0.25, failures = 3"
    )
    found = await led.until(lambda s: s.value("canary_seconds") == 0.25, "it came back")
    assert found.value("canary_failures_total") == 3
    led.database.run("update pgreact.queue_setting set canary = null")
    await led.until(lambda s: s.value("canary_age_seconds") is None, "it is off")


@ASYNC
async def test_each_family_is_there_though_nothing_happens(led: Scraped) -> None:
    for accept in ("", OPENMETRICS):
        found = await asyncio.to_thread(scrape, led.address, accept)
        # but what needs a settled job, a worker, or a canary
        absent = {name for name in FAMILIES if name.startswith(("job_", "worker", "canary"))}
        expected = FAMILIES.keys() - absent
        shown = {name.removesuffix("_info") for name in found.names}
        assert shown >= expected
        assert found.value("leader") == 1
        assert found.value("listener_up") == 1
        assert 0 < (found.value("probe_seconds") or 0) < 5
        assert found.value("jobs", lane="idle", state="ready") == 0
        assert found.value("oldest_ready_seconds", lane="idle") == 0
        assert found.value("lane_limit", lane="mail") == 7
        assert found.value("lane_paused", lane="mail") == 0
        assert found.value("lane_paused", lane="slow") == 1
        assert found.value("claimed_total", lane="idle") == 0
        assert found.value("settled_total", lane="idle", task="", outcome="lost") == 0
        assert found.value("schedules", state="disabled") == 1
        assert found.value("schedules", state="failed") == 0
        assert found.value("dead_rows", table="queue") is not None
        assert 0 <= (found.value("notify_queue_ratio") or 0) < 1


@ASYNC
async def test_a_commit_moves_the_metrics_of_its_route(led: Scraped) -> None:
    signals = await led.follow("signals_total", route="dispatch")
    published = await led.follow("dispatches_total", route="dispatch", result="published")
    wait = await led.follow("dispatch_wait_seconds_count", route="dispatch")
    publish = await led.follow("publish_seconds_bucket", route="dispatch", le="5.0")
    led.database.run("insert into job_queue values (1)")
    assert [await each() for each in (signals, published, wait, publish)] == [1, 1, 1, 1]
    await asyncio.to_thread(led.inbox.take)
    assert (await led.scrape()).value("sweep_finds_total", route="dispatch", reason="opened") == 0


@ASYNC
async def test_a_sweep_that_finds_unsignalled_work_is_counted(led: Scraped) -> None:
    finds = await led.follow("sweep_finds_total", route="dispatch", reason="backstop")
    led.database.run("alter table job_queue disable trigger all", "insert into job_queue values (1)")
    found = await led.until(lambda s: s.value("triggers", state="disabled") == 4, "its triggers are shown")
    assert (found.value("triggers", state="ok") or 0) > 0, "those of the queue"
    led.database.run("update pgreact.route set sweep = '1 s' where name = 'dispatch'")
    assert await finds() >= 1
    led.database.run(
        "update pgreact.route set sweep = '0' where name = 'dispatch'",
        "truncate job_queue",
        "alter table job_queue enable trigger all",
    )


@ASYNC
async def test_a_dispatch_that_fails_leaves_the_route_dirty(led: Scraped) -> None:
    failed = await led.follow("dispatches_total", route="dispatch", result="failed")
    dispatch = "update pgreact.route set options = '{}' where name = 'dispatch'"
    led.database.run(dispatch.format('{"serializer": "no-such"}'))
    await led.run.until(
        lambda: any(
            isinstance(event, logs.RouteChanged) and "options" in event.keys for event in led.run.events
        ),
        "the route is changed",
    )
    led.database.run("insert into job_queue values (1)")
    await failed()
    await led.until(lambda s: (s.value("route_dirty_seconds", route="dispatch") or 0) > 0.2, "it stays dirty")
    led.database.run(dispatch.format(json.dumps(led.inbox.options)))
    await led.until(lambda s: s.value("route_dirty_seconds", route="dispatch") == 0, "it is clean")


@ASYNC
async def test_a_closed_gate_is_shown(led: Scraped) -> None:
    assert (await led.scrape()).value("gate_closed", route="dispatch") == 0
    led.database.run("update pgreact.route set gate = 'closed' where name = 'dispatch'")
    await led.until(lambda s: s.value("gate_closed", route="dispatch") == 1, "the gate is closed")
    led.database.run("update pgreact.route set gate = 'open' where name = 'dispatch'")
    await led.until(lambda s: s.value("gate_closed", route="dispatch") == 0, "the gate is open")


@ASYNC
async def test_a_job_moves_the_metrics_of_its_lane(led: Scraped) -> None:
    options = json.dumps({"queue": led.inbox.queue})
    claims = await led.follow("dispatches_total", route=QUEUE_ROUTE, result="claimed")
    led.database.run(
        f"select pgreact.enqueue('proj.job', lane => 'mail', options => '{options}')",
        f"select pgreact.enqueue('proj.job', lane => 'slow', options => '{options}')",
        "select pgreact.enqueue('proj.job', lane => 'slow', run_at => now() + interval '1 h')",
    )
    await claims()
    found = await led.until(lambda s: s.value("jobs", lane="mail", state="in_progress") == 1, "it is claimed")
    found = await led.until(lambda s: (s.value("oldest_ready_seconds", lane="slow") or 0) > 0, "one waits")
    assert found.value("jobs", lane="slow", state="ready") == 1
    assert found.value("jobs", lane="slow", state="delayed") == 1
    assert found.value("claimed_total", lane="mail") == 1
    job = "(select id from p), (select claim_id from p)"
    mail = "with p as (select id, claim_id from pgreact.in_progress where lane = 'mail')"
    led.database.run(
        f"{mail} select pgreact.start({job}, 0, 'w')", f"{mail} select pgreact.settle({job}, 'failed', 'x')"
    )
    led.database.run("select pgreact.signal('pgreact.queue')")
    found = await led.until(
        lambda s: s.value("settled_total", lane="mail", task="proj.job", outcome="failed") == 1,
        "it is counted",
    )
    assert found.value("settled_total", lane="mail", task="proj.job", outcome="done") == 0
    assert found.value("job_wait_seconds_count", lane="mail") == 1
    assert found.value("job_run_seconds_bucket", lane="mail", le="86400.0") == 1
    assert found.value("dead_jobs") == 1


@ASYNC
async def test_a_message_that_is_sent_again_is_counted(led: Scraped) -> None:
    republished = await led.follow("republished_total")
    led.database.run("update pgreact.queue_setting set lease = '1 s'")
    options = json.dumps({"queue": led.inbox.queue})
    led.database.run(f"select pgreact.enqueue('proj.job', options => '{options}')")
    assert await republished() == 1
    led.database.run("update pgreact.queue_setting set lease = '1 min'")


@ASYNC
async def test_a_schedule_moves_the_metrics_of_the_timetable(led: Scraped) -> None:
    lateness = await led.follow("schedule_lateness_seconds_count")
    misfires = await led.follow("misfires_total")
    options = json.dumps({"queue": led.inbox.queue})
    led.database.run(
        "insert into pgreact.schedule (name, task, every, grace, options) "
        f"values ('often', 'proj.often', '100 ms', '0', '{options}')"
    )
    assert await lateness() >= 1
    assert await misfires() >= 1
    await led.until(lambda s: (s.value("schedules", state="planned") or 0) == 1, "it is planned")
    led.database.run("delete from pgreact.schedule where name = 'often'")


@ASYNC
async def test_an_old_transaction_is_shown_as_long_as_it_holds_back_vacuum(led: Scraped) -> None:
    with led.database.connect(autocommit=False) as connection:
        connection.execute("select pg_current_xact_id()")
        await led.until(lambda s: (s.value("oldest_xmin_age_seconds") or 0) > 0.3, "it grows old")
    await led.until(lambda s: (s.value("oldest_xmin_age_seconds") or 0) < 0.3, "it is gone")


@ASYNC
async def test_the_counters_of_the_workers_are_added_up(led: Scraped) -> None:
    led.workers |= {"w1": {"counters": {"started": 2, "settled_done": 1}}, "w2": {"error": "no such command"}}
    await led.until(
        lambda s: s.value("worker_started_total") == 2 and s.value("workers") == 2, "they replied"
    )
    assert (await led.scrape()).value("worker_settled_total", outcome="done") == 1
    led.workers.clear()
    found = await led.until(lambda s: s.value("workers") == 0, "they are gone")
    assert found.value("worker_started_total") == 2


@ASYNC
async def test_workers_that_could_not_be_asked_are_not_counted_as_none(led: Scraped) -> None:
    await led.until(lambda s: s.value("workers") == 0, "they were asked")
    led.askable = False
    await led.until(lambda s: s.value("workers") is None, "they could not be asked")
    led.askable = True
    await led.until(lambda s: s.value("workers") == 0, "they were asked again")


@ASYNC
async def test_a_scrape_runs_no_statement_and_sampling_ends_without_scrapes(
    led: Scraped, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = "select count(*) from pg_stat_activity where application_name like 'pgreact metrics %'"
    assert led.database.value(sessions) == 1
    monkeypatch.setattr(metrics_sampler, "SCRAPED_WITHIN", 0.0)
    await asyncio.to_thread(led.database.until, f"select ({sessions}) = 0")
    found = await led.scrape()
    assert not found.names & SAMPLED
    assert found.names >= LEADERS
    monkeypatch.setattr(metrics_sampler, "SCRAPED_WITHIN", 90.0)
    await led.until(lambda s: s.value("sample_age_seconds") is not None, "it samples again")


@ASYNC
async def test_a_statement_that_fails_leaves_the_others(led: Scraped) -> None:
    led.database.run("alter table pgreact.schedule rename column next_run_at to gone")
    found = await led.until(lambda s: "schedules" not in s.names, "schedules are left out")
    assert found.value("jobs", lane="mail", state="ready") == 0
    assert led.run.count(logs.StatementFailed, statement="metrics: metrics_schedules") == 1
    led.database.run("alter table pgreact.schedule rename column gone to next_run_at")
    await led.until(lambda s: "schedules" in s.names, "they are back")


@ASYNC
async def test_lost_sessions_fail_the_readiness_probe_and_not_the_liveness_probe(
    led: Scraped, postgres: EmbeddedPostgres
) -> None:
    assert [await led.get(path) for path in ("/livez", "/readyz", "/leader", "/standby")] == [
        200,
        200,
        200,
        503,
    ]
    name, elections = led.database.value("select current_database()"), led.run.count(logs.LeaderElected)
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections false".encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        await led.run.until(lambda: led.run.count(logs.ListenerLost), "the sessions are lost")
        assert [await led.get(path) for path in ("/livez", "/readyz", "/leader")] == [200, 503, 503]
        found = await led.scrape()
        assert not found.names & (LEADERS | SAMPLED)
        assert (found.value("leader"), found.value("listener_up")) == (0, 0)
        admin.execute(f"alter database {name} allow_connections true".encode())
    await led.run.until(lambda: led.run.count(logs.LeaderElected) > elections, "it leads again")
    found = await led.until(
        lambda s: SAMPLED - s.names <= {"job_wait_seconds", "job_run_seconds"}, "all is back"
    )
    assert found.value("elections_total") == elections + 1
    assert await led.get("/readyz") == 200


def test_only_the_leader_shows_what_the_leader_knows(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))

    def start() -> tuple[Daemon, str]:
        started = daemons(database.dsn, inbox.url, environ=HTTP).ready()
        return started, started.wait_for("http.opened")["address"]

    (first, at_first), (second, at_second) = start(), start()
    assert (scrape(at_first).value("leader"), scrape(at_second).value("leader")) == (1, 0)
    eventually(lambda: scrape(at_first).value("sample_age_seconds") is not None, "the leader samples")
    assert scrape(at_first).names >= LEADERS
    assert not scrape(at_second).names & (LEADERS | SAMPLED)
    assert get(at_second, "/standby").status == get(at_second, "/readyz").status == 200
    status = get(at_second, "/status")
    assert status.status == 200
    assert json.loads(status.text)["leader"]["pid"] == first.pid

    # the first loses its leadership and lives on
    database.run(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        f"where application_name like 'pgreact % {first.pid} %'"
    )
    first.wait_for("standby.waiting")
    eventually(lambda: scrape(at_second).names >= LEADERS | {"jobs"}, "the second leads")
    assert not scrape(at_first).names & (LEADERS | SAMPLED)
    assert get(at_first, "/standby").status == 200

    # the second hangs: it answers nothing
    second.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        get(at_second, "/livez", timeout=0.3)
    second.signal(signal.SIGCONT)
    assert get(at_second, "/livez").status == 200
    assert second.stop() == 0
    first.wait_for("leader.elected", count=2)
    eventually(lambda: scrape(at_first).names >= LEADERS | {"jobs"}, "the first leads again")


def test_without_the_setting_no_port_is_open(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    installed(database, {})
    quiet = daemons(database.dsn, inbox.url).ready()
    assert not quiet.seen("http.opened")
    listening = [found for found in psutil.Process(quiet.pid).net_connections() if found.status == "LISTEN"]
    assert not listening
