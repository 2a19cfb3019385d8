"""What workers count, over the processes and threads of each pool, and how the leader asks for it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pgreact.broker.publisher import open_app
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.dispatch.registration_monitor import CeleryWorkers
from pgreact.worker import counters
from pgreact.worker.counters import NAMES, Counters
from tests.harness import eventually
from tests.jobs_cluster import Cluster, a_cluster

JOBS = 12


@pytest.fixture(params=["prefork", "threads"])
def cluster(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, redis_url: str) -> Iterator[Cluster]:
    with a_cluster(postgres, redis_url, request.param) as found:
        yield found


def counted(cluster: Cluster) -> dict[str, Any]:
    """Ask the worker as the leader does."""
    workers = CeleryWorkers(open_app(None, cluster.broker))
    replies = asyncio.run(workers.ask("pgreact_report"))
    assert replies is not None
    found: dict[str, Any] = replies[cluster.workers[0].name]["counters"]
    return found


def test_each_run_is_counted_once_whichever_process_ran_it(cluster: Cluster) -> None:
    jobs = [cluster.enqueue("plain", f"n{number}") for number in range(JOBS)]
    jobs += [failed := cluster.enqueue("failing", sql="max_attempts => 1")]
    cluster.dispatch(copies=2)
    for job in jobs:
        cluster.until_settled(job, "failed" if job == failed else "done")
    eventually(lambda: counted(cluster)["messages_dropped"] == len(jobs), "the copies are dropped")
    found = counted(cluster)
    assert found == {
        **dict.fromkeys(NAMES, 0),
        "started": JOBS + 1,
        "settled_done": JOBS,
        "settled_failed": 1,
        "messages_dropped": JOBS + 1,
    }
    if cluster.pool != "prefork":
        return
    assert len(set(cluster.runs("pid"))) > 1, "both children ran some"

    # what a child counted outlives it, and its successor counts on
    cluster.lease("6 s")  # longer than the main process needs to see that the child died
    cluster.close_gate()
    job, task_id = cluster.run("plain", "killed", sql="max_attempts => 1, options => '{}'")
    child = cluster.until_running(task_id)
    eventually(lambda: counted(cluster)["leases_renewed"] >= 1, "its lease is renewed")
    os.kill(child, signal.SIGKILL)
    cluster.open_gate()
    cluster.until_settled(job, "lost", "done", dispatching=True)
    found = counted(cluster)
    assert (found["started"], found["settled_done"], found["settled_lost"]) == (JOBS + 3, JOBS + 1, 1)


CHILDREN = """
import os
from billiard.process import current_process
from pgreact.worker import counters

counters.share()
counters.add("started")  # the parent has its slot
children = []
for index in range(8):
    if (pid := os.fork()) == 0:
        current_process().index = index
        for _ in range(20_000):
            counters.add("started")
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print(counters.totals()["started"])
"""


def test_children_that_count_at_the_same_time_count_exactly() -> None:
    made = subprocess.run([sys.executable, "-c", CHILDREN], capture_output=True, text=True, check=True)
    assert made.stdout == f"{8 * 20_000 + 1}\n"


def test_threads_count_exactly() -> None:
    made = Counters()

    def count() -> None:
        for _ in range(2000):
            made.add("started")
            made.add("leases_renewed", 3)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made.totals()["started"], made.totals()["leases_renewed"]) == (16_000, 48_000)


def test_an_application_without_setup_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_counters", None)
    counters.add("started")
    assert counters.totals() == {}
