"""A worker beside other transactions, frozen servers and hostile defaults: no other run is affected."""

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import psycopg
import pytest

from pgreact.worker.jobs import Jobs
from pgreact.worker.run import Run, settled
from tests import servers
from tests.harness import DEADLINE, Database, eventually
from tests.jobs_cluster import prepare


@pytest.fixture
def claimed(database: Database) -> Callable[[], Run]:
    """Return a function that claims a job and returns its run; the lease is 2 s."""
    prepare(database)
    database.run(
        "update pgreact.queue_setting set retention = '1 day', lease = '2 s'",
        "select pgreact.maintain_history()",
    )

    def claim() -> Run:
        database.value("select pgreact.enqueue('x', lane => 'default')")
        job = database.value("select pgreact.claim(1) -> 'jobs' -> 0")
        return Run(job["id"], job["claim_id"], 0, "w")

    return claim


@pytest.fixture
def jobs(claimed: Callable[[], Run], database: Database, caplog: pytest.LogCaptureFixture) -> Iterator[Jobs]:
    caplog.set_level(logging.INFO, "pgreact.worker")
    found = Jobs(database.dsn)
    yield found
    found.close()


def outcomes(database: Database) -> dict[str, int]:
    """Return the number of attempts by outcome."""
    with database.connect() as connection:
        rows = connection.execute("select outcome, count(*) from pgreact.history group by outcome").fetchall()
    return dict(rows)


def test_row_that_another_transaction_holds_costs_no_other_run_its_lease(
    claimed: Callable[[], Run], jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [claimed() for _ in range(3)]
    for run in runs:
        assert jobs.start(run)
    with database.connect() as other, other.transaction():
        other.execute("select pgreact.cancel(%s)", (runs[0].job,))
        database.until(
            "select count(*) = 2 from pgreact.in_progress where lease_until > started_at + interval '5 s'"
        )
        assert database.value("select count(*) from pgreact.in_progress where lease_until < now()") == 1
    database.until("select min(lease_until) > now() from pgreact.in_progress")
    for run in runs:
        jobs.end(settled(run, "done"))
    assert outcomes(database) == {"done": 3}
    (logged,) = [
        record.getMessage() for record in caplog.records if "lease.renewal_failed" in record.getMessage()
    ]
    assert logged.endswith(
        f"1 of 3 jobs that run here; tried again: another transaction holds their rows: jobs [{runs[0].job}]"
    )
    assert "lease.renewed: " in caplog.text


def test_settlement_waits_no_longer_than_a_part_of_the_lease(
    claimed: Callable[[], Run], jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    run = claimed()
    assert jobs.start(run)
    with database.connect() as other, other.transaction():
        other.execute("lock table pgreact.in_progress in access exclusive mode")
        began = time.monotonic()
        jobs.end(settled(run, "done"))
        assert time.monotonic() - began < 1.5
        assert (
            f"settlement.delayed: job {run.job}, task {run.task_id}: done: is sent as soon as possible"
            in caplog.text
        )
        # the statement ended on the server, too: it holds up no other
        database.until(
            "select count(*) = 0 from pg_locks l join pg_stat_activity a using (pid) "
            "where not l.granted and a.query like '%settle%' and a.pid <> pg_backend_pid()"
        )
    eventually(lambda: outcomes(database) == {"done": 1}, "it is settled")
    eventually(lambda: "settlement.sent: " in caplog.text, "recovered")


def test_frozen_server_process_holds_up_no_run(
    claimed: Callable[[], Run], jobs: Jobs, database: Database
) -> None:
    run = claimed()
    assert jobs.start(run)
    with jobs._pool.session() as session:
        assert session._connection
        pid = session._connection.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        jobs.end(settled(run, "done"))
        eventually(lambda: outcomes(database) == {"done": 1}, "another session settled it")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_run_whose_end_is_refused_keeps_its_lease_until_a_right_is_granted(
    claimed: Callable[[], Run], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{psycopg.conninfo.conninfo_to_dict(database.dsn)['dbname']}_worker"
    database.run(
        f"create role {name} {database.login}",
        f"grant usage on schema pgreact to {name}",
        f"grant execute on function pgreact.start, pgreact.renew to {name}",
        "update pgreact.queue_setting set lease = '1 s'",
    )
    jobs, run = Jobs(psycopg.conninfo.make_conninfo(database.dsn, user=name)), claimed()
    assert jobs.start(run)
    jobs.end(settled(run, "done"))
    database.until("select lease_until > started_at + interval '3 s' from pgreact.in_progress")
    database.value("select pgreact.claim(1)")
    assert outcomes(database) == {}
    database.run(f"grant execute on function pgreact.settle to {name}")
    eventually(lambda: outcomes(database) == {"done": 1}, "it is settled")
    jobs.close()
    assert caplog.text.count("settlement.delayed: ") == 1
    database.run(f"drop owned by {name}", f"drop role {name}")


def test_lease_renewer_survives_any_exception(
    claimed: Callable[[], Run],
    jobs: Jobs,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mistakes: SimpleQueue[Exception] = SimpleQueue()
    for mistake in (KeyError("a"), KeyError("b"), MemoryError()):
        mistakes.put(mistake)
    renew = jobs._renewer._renew

    def mistaken(**values: Any) -> None:
        if not mistakes.empty():
            raise mistakes.get()
        renew(**values)

    monkeypatch.setattr(jobs._renewer, "_renew", mistaken)
    run = claimed()
    assert jobs.start(run)
    database.until("select lease_until > started_at + interval '4 s' from pgreact.in_progress")
    jobs.end(settled(run, "done"))
    assert outcomes(database) == {"done": 1}
    eventually(lambda: "lease.renewer_recovered: " in caplog.text, "recovered")
    assert caplog.text.count("lease.renewer_failed: ") == 2  # once for each kind


HOSTILE = {
    "serializable": {"default_transaction_isolation": "serializable"},
    "repeatable": {"default_transaction_isolation": "'repeatable read'"},
    "read-only": {"default_transaction_read_only": "on"},
    "hurried": {"statement_timeout": "'40ms'"},
}


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
@pytest.mark.parametrize("defaults", list(HOSTILE.values()), ids=list(HOSTILE))
def test_jobs_run_once_each_whatever_the_databases_defaults(
    defaults: dict[str, str],
    pooled: bool,
    claimed: Callable[[], Run],
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    count, threads = 240, 6
    database.run(
        "update pgreact.queue_setting set lease = '60 s'",
        "select pgreact.enqueue('x', lane => 'default', key => 'k' || i % 40) "
        f"from generate_series(1, {count}) i",
    )
    if "statement_timeout" in defaults:
        database.run(
            "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.08); "
            "return new; end $$",
            "create trigger slow before insert on pgreact.history for each row execute function slow()",
        )
    name = psycopg.conninfo.conninfo_to_dict(database.dsn)["dbname"]
    for setting, value in defaults.items():
        database.run(f"alter database {name} set {setting} = {value}")
    # the session that plays the daemon pins its settings
    pins = {"default_transaction_isolation": "read\\ committed", "default_transaction_read_only": "off"}
    options = " ".join(
        f"-c {setting}={value}" for setting, value in (pins | {"statement_timeout": "0"}).items()
    )
    pinned = psycopg.conninfo.make_conninfo(database.dsn, options=options)
    messages: SimpleQueue[Any] = SimpleQueue()
    ran: list[int] = []

    def work(jobs: Jobs) -> None:
        while (job := messages.get()) is not None:
            run = Run(job["id"], job["claim_id"], 0, "w")
            if jobs.start(run):
                ran.append(run.job)
                jobs.end(settled(run, "done"))

    def serve(dsn: str) -> None:
        jobs = Jobs(dsn)
        workers = [threading.Thread(target=work, args=(jobs,), daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        until = time.monotonic() + DEADLINE
        with psycopg.connect(pinned, autocommit=True) as daemon:
            while len(ran) < count and time.monotonic() < until:
                for job in daemon.execute("select pgreact.claim(100) -> 'jobs'").fetchone()[0]:  # type: ignore[index]
                    messages.put(job)
            for _ in workers:
                messages.put(None)
            for worker in workers:
                worker.join(DEADLINE)
            jobs.close()
            settled_as = daemon.execute("select outcome, count(*) from pgreact.history group by 1").fetchall()
        assert settled_as == [("done", count)]

    if pooled:
        servers.require_or_skip("pgbouncer")
        with servers.pgbouncer(database.dsn) as bouncer:
            serve(bouncer.url)
    else:
        serve(database.dsn)
    assert max(Counter(ran).values()) == 1
    assert not caplog.records
