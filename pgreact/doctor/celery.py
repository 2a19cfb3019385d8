"""The broker and the workers: queues, tasks, databases, and what the settings of both allow."""

from collections.abc import Iterator
from typing import Any

from pgreact import __version__
from pgreact.broker.connection import broker_url
from pgreact.broker.publisher import shown
from pgreact.broker.remote_control import CannotAsk
from pgreact.broker.task_routing import routed
from pgreact.doctor.checks import CannotSee, Finding, check, fail, unknown, warn
from pgreact.doctor.facts import Facts, statement
from pgreact.doctor.settings import VISIBILITY
from pgreact.errors import PgreactError, nearest
from pgreact.quantities import format_duration

FEW = 20  # attempts in an hour that say nothing about a task yet
OFTEN = 0.05  # of its attempts
USUAL = 0.99  # of the runs: as long as these run, a run is a usual one


@check("celery.broker", "a connection to the broker", asks_workers=True)
def broker(facts: Facts) -> Iterator[Finding]:
    try:
        assert facts.replies is not None
    except CannotSee:
        raise
    except CannotAsk as error:
        yield unknown(
            f"{shown(facts.app)}: connected, but {error}",
            "pgreact doctor celery.lease queue.unanswered   # whether workers run jobs",
        )
    except PgreactError as error:
        yield fail(f"{shown(facts.app)} cannot be reached: {error}", "celery -A proj inspect ping")


@check("celery.workers", "the replies of workers to one question", asks_workers=True)
def workers(facts: Facts) -> Iterator[Finding]:
    try:
        replies = facts.replies
    except PgreactError as error:
        raise CannotSee("no worker could be asked: see celery.broker") from error
    if not replies:
        yield fail("no worker replies", "celery -A proj worker")


@check("celery.silent_workers", "workers that run jobs and do not reply", asks_workers=True)
def silent_workers(facts: Facts) -> Iterator[Finding]:
    names = {worker.name for worker in facts.workers}
    for row in facts.rows("doctor_running"):
        name, _, pid = row["worker"].rpartition(" ")
        if name not in names:
            yield warn(
                f"worker {name} runs a job (process {pid}) and does not reply: it hangs, is gone, or has the "
                "pool solo, which replies only between two tasks",
                f"celery -A proj inspect ping -d {name}",
            )


@check("celery.setup", "whether the workers' application calls pgreact.setup", asks_workers=True)
def setup(facts: Facts) -> Iterator[Finding]:
    for worker in facts.workers:
        if not worker.setup:
            yield fail(
                f"worker {worker.name} runs no jobs, and rejects their messages if it takes some: its "
                "application does not call pgreact.setup",
                "pgreact.setup(app)   # where the Celery application is created",
            )


@check("celery.versions", "the versions of pgreact in the workers", asks_workers=True)
def versions(facts: Facts) -> Iterator[Finding]:
    for worker in facts.workers:
        if worker.version not in {None, __version__}:
            yield warn(
                f"worker {worker.name} runs pgreact {worker.version}, and here is {__version__}",
                f"pip install pgreact=={__version__}   # there, and restart the worker",
            )


@check("celery.database", "the database that each worker uses, and whether it answers", asks_workers=True)
def database(facts: Facts) -> Iterator[Finding]:
    with facts.transaction() as connection:
        [(ours,)] = connection.execute("select pgreact.database_id()").fetchall()
    for worker in facts.workers:
        found = worker.database
        if found is None:
            continue
        if found["refused"] and found["role"] is not None:
            yield warn(
                f"worker {worker.name} can run no job: its role {found['role']} lacks rights of a worker",
                statement("select pgreact.grant_role({}, 'worker');", found["role"]),
            )
        elif found["error"] is not None:
            yield fail(
                f"worker {worker.name} does not reach its database: {found['error']}",
                "PGREACT_DSN='postgresql://…'   # in the worker's environment; then restart it",
            )
        elif found["id"] != ours:
            yield fail(
                f"worker {worker.name} uses database {found['id']}, and the daemon {ours}: it runs no job",
                "PGREACT_DSN='postgresql://…'   # the daemon's database, in the worker's environment",
            )


@check(
    "celery.unknown_task",
    "the tasks of routes, schedules, outboxes, first jobs and canary",
    asks_workers=True,
)
def unknown_task(facts: Facts) -> Iterator[Finding]:
    known = frozenset[str]().union(*(worker.tasks for worker in facts.workers))
    for row in facts.rows("doctor_tasks"):
        if row["task"] not in known:
            module = row["task"].rpartition(".")[0]
            remedy = "pgreact.setup(app)" if module == "pgreact" else f'app.conf.imports = ["{module}"]'
            yield fail(
                f"{row['used_by']}: no worker knows the task {row['task']}"
                f"{nearest(row['task'], [name for name in known if not name.startswith('celery.')])}",
                f"{remedy}   # and restart the workers",
            )


@check("celery.unconsumed_queue", "the Celery queues of these tasks", asks_workers=True)
def unconsumed_queue(facts: Facts) -> Iterator[Finding]:
    consumed = frozenset[str]().union(*(worker.queues for worker in facts.workers))
    wanted: dict[str, str] = {}
    for row in facts.rows("doctor_tasks"):
        queue = row["queue"] or routed(facts.app, row["task"])["queue"]
        wanted.setdefault(queue, row["used_by"])
    for queue, used_by in wanted.items():
        if queue not in consumed:
            yield fail(
                f"no worker consumes the Celery queue {queue}, of {used_by}",
                f"celery -A proj control add_consumer {queue}   # and -Q {queue} where workers are started",
            )


@check("celery.places", "the workers' places beside max_in_progress", asks_workers=True)
def places(facts: Facts) -> Iterator[Finding]:
    total = sum(worker.places for worker in facts.workers if worker.setup)
    for row in facts.rows("doctor_settings"):
        most = row["max_in_progress"]
        if row["kind"] == "queue" and most is not None and 0 < total < most:
            yield warn(
                f"max_in_progress is {most}, and the workers have {total} places: claimed jobs wait in the "
                "broker, where lanes and priorities count no more",
                statement("update pgreact.queue_setting set max_in_progress = {};", total),
            )


@check("celery.visibility_timeout", "Redis' visibility_timeout beside countdowns and runs", asks_workers=True)
def visibility_timeout(facts: Facts) -> Iterator[Finding]:
    if not broker_url(facts.app).startswith(("redis", "rediss", "sentinel", "sqs")):
        return
    ours = (facts.app.conf.broker_transport_options or {}).get("visibility_timeout")
    told = [worker.visibility_timeout or VISIBILITY for worker in facts.workers]
    least = min([float(ours or VISIBILITY), *told])
    needs = [
        (row["countdown"], f"the countdown of route {row['name']} is {format_duration(row['countdown'])}")
        for row in facts.rows("doctor_settings")
        if row["countdown"]
    ]
    for row in facts.rows("doctor_tally"):
        usual = _usual_run(row["runs"], facts)
        if row["jobs"] >= FEW and usual is not None:
            needs.append((usual, f"task {row['task']} runs for up to {format_duration(usual)}"))
    for seconds, text in needs:
        if seconds >= least:
            longer = round(2 * seconds)
            yield warn(
                f"{text}, and the broker delivers a message again after {format_duration(least)} "
                "(visibility_timeout)",
                f'app.conf.broker_transport_options = {{"visibility_timeout": {longer}}}',
            )


@check("celery.lease", "leases that no worker renews, and attempts that were lost in the last hour")
def lease(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_leases"):
        yield warn(
            f"job {row['id']} ({row['task']}) runs on {row['worker']} under a lease that ended "
            f"{format_duration(row['ended_s'], roughly=True)} ago: the worker is gone, or its task keeps "
            f"Python from switching threads for longer than the lease, {format_duration(row['lease'])}",
            _longer_lease(row),
        )
    [setting] = [row for row in facts.rows("doctor_settings") if row["kind"] == "queue"]
    for row in facts.rows("doctor_tally"):
        if row["jobs"] >= FEW and row["lost"] > OFTEN * row["jobs"]:
            yield warn(
                f"task {row['task']} lost {row['lost']} of {row['jobs']} attempts in the last hour: its "
                "workers die, or it keeps Python from switching threads for longer than the lease",
                _longer_lease(setting),
            )


def _longer_lease(row: dict[str, Any]) -> str:
    longer = format_duration(2 * row["lease"])
    return statement("update pgreact.queue_setting set lease = {};", longer)


def _usual_run(runs: list[int], facts: Facts) -> float | None:
    """Return the bound of the bucket below which almost all runs are; ``None``: not known."""
    with facts.transaction() as connection:
        [(bounds,)] = connection.execute("select pgreact.buckets()").fetchall()
    seen, total = 0, sum(runs)
    for count, bound in zip(runs, bounds, strict=False):
        seen += count
        if total and seen >= USUAL * total:
            return float(bound)
    return None
