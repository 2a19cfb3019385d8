"""Operating: what the tally, metrics and pages cost, and how long a scrape and a page take with 10⁷ jobs."""

import contextlib
import dataclasses
import json
import random
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg

from benchmarks import queue_rate
from benchmarks.marks import DIRECTORY, Marks
from benchmarks.observer import Observer
from benchmarks.processes import Workshop
from benchmarks.queue_claims import DISK, SETTINGS, Backlog
from benchmarks.queue_sides import CONCURRENCY, Pgreact, Side, install
from benchmarks.report import Report, ms, percentile
from benchmarks.wakeup import FULL as IDLE
from benchmarks.wakeup import QUICK as SHORT_IDLE
from benchmarks.wakeup import WINDOW, idle, leading_daemon, routed_database
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.errors import PgreactError
from pgreact.postgres.queries import folder
from tests.servers import redis_server

SIDES = ("plain", "observed")  # without numbers of settled attempts, metrics and pages; with all of them
SCRAPE_PAUSE = 1.0  # seconds between two scrapes; Prometheus' default is a minute
DEADLINE = 60.0
_client = httpx.Client(timeout=DEADLINE, verify=False)  # noqa: S501 - a context of TLS would cost more than a page
JOBS = ("jobs", "jobs?state=ready", "jobs?lane=lane7", "jobs?task=bench.noop", "jobs?error=gone")
PAGES = ("", "routes", "lanes", *JOBS, "dead", "schedules", "cluster")


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    rounds: int
    jobs: int  # in each round, for each side
    commits: int  # in each round, for each side
    backlog: int  # jobs that wait
    history: int  # settled attempts
    scrapes: int
    views: int  # of each page


FULL = Size(rounds=7, jobs=4000, commits=40, backlog=10**7, history=10**6, scrapes=300, views=30)
QUICK = Size(rounds=1, jobs=800, commits=10, backlog=10**5, history=10**4, scrapes=20, views=3)


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        broker = stack.enter_context(redis_server()).url
        _jobs(report, workshop, broker, size)
        _commits(report, workshop, broker, size, quick=quick)
        _large(report, workshop, broker, size)


# ---- the cost ----------------------------------------------------------------------------------------------


def _jobs(report: Report, workshop: Workshop, broker: str, size: Size) -> None:
    """Run no-op jobs on two databases in turn, each with a daemon and a worker of its own."""
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(settings={"shared_buffers": "128MB"}))
        place = workshop.directory / "marks"
        marks = stack.enter_context(Marks(place))
        sides: dict[str, Side] = {}
        for number, name in enumerate(SIDES):
            dsn = install(workshop, postgres, name)
            url = f"{broker.rpartition('/')[0]}/{number + 1}"
            if name == "plain":
                _forget_settled(dsn)
                daemon = stack.enter_context(leading_daemon(workshop, dsn, url))
            else:
                daemon = stack.enter_context(_observed(workshop, dsn, url))
            worker = stack.enter_context(_worker(workshop, dsn, url, place))
            sides[name] = Pgreact(dsn, daemon=daemon, worker=worker)
            stack.callback(sides[name].close)
        jobs = dict.fromkeys(sides, size.jobs)
        queue_rate.measure(sides, marks, broker, rounds=1, jobs=dict.fromkeys(sides, 200))
        found = queue_rate.measure(sides, marks, broker, rounds=size.rounds, jobs=jobs)
        counted = _value(sides["observed"], "select sum(jobs) from pgreact.tally_total")
    ratios = [this["observed"].rate / this["plain"].rate for this in found]
    report.table(
        f"no-op jobs, {CONCURRENCY} at a time",
        ["jobs/s"],
        [
            (
                f"{name} numbers, metrics, pages",
                [f"{statistics.median(this[name].rate for this in found):,.0f}"],
            )
            for name in SIDES
        ],
    )
    report.note(
        f"ratios of the rounds: {', '.join(f'{ratio:.3f}' for ratio in sorted(ratios))}; {counted} counted"
    )
    report.bar("jobs/s, observed / plain", statistics.median(ratios), 0.97, least=True)


def _commits(report: Report, workshop: Workshop, broker: str, size: Size, *, quick: bool) -> None:
    """Commit on two watched tables in turn; then let the leader with an HTTP server, unscraped, be idle."""
    with ExitStack() as stack:
        # autovacuum's transactions would count as the daemon's
        postgres = stack.enter_context(EmbeddedPostgres(settings={"autovacuum": "off"}))
        observer = stack.enter_context(closing(Observer(broker, SIDES)))
        writers = {}
        for name in SIDES:
            dsn = routed_database(workshop, postgres, name, window=0, sweep=0, queue=name)
            writers[name] = stack.enter_context(psycopg.connect(dsn, autocommit=True))
            serve = leading_daemon if name == "plain" else _observed
            stack.enter_context(serve(workshop, dsn, broker))
        rounds: list[dict[str, list[float]]] = []
        for number in range(size.rounds + 1):
            found: dict[str, list[float]] = {name: [] for name in SIDES}
            for _ in range(size.commits):
                for name in random.sample(SIDES, len(SIDES)):
                    writers[name].execute("insert into job_queue default values")
                    committed = time.perf_counter()
                    arrived = observer.expect(name, len(observer.seen[name]) + 1)
                    observer.watch(random.uniform(0.02, 0.1))
                    found[name].append(arrived - committed)
            if number:  # the first one warms up
                rounds.append(found)
    ratios = [statistics.median(this["observed"]) / statistics.median(this["plain"]) for this in rounds]
    report.table(
        "commit → message published, ms",
        ["p50"],
        [(name, [ms(statistics.median(x for this in rounds for x in this[name]))]) for name in SIDES],
    )
    report.note(_ratios(ratios))
    report.bar("commit → published: p50, observed / plain", statistics.median(ratios), 1.03)
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(settings={"autovacuum": "off"}))
        dsn = routed_database(workshop, postgres, "load", window=WINDOW, sweep=60)
        http = f"127.0.0.1:{_free_port()}"
        daemon = stack.enter_context(leading_daemon(workshop, dsn, broker, "--http", http))
        idle(report, postgres.dsn(), daemon, SHORT_IDLE if quick else IDLE, quick=quick)


def _forget_settled(dsn: str) -> None:
    """Leave out what a settlement writes for the tally."""
    text = (folder("sql") / "functions" / "record_history.sql").read_text(encoding="utf-8")
    begin, end = "    if entry.started_at is null then", "    if (select s.retention is null"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise PgreactError("record_history.sql is no longer what this bench cuts")
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute((text[: text.index(begin)] + text[text.index(end) :]).encode())


@contextmanager
def _observed(workshop: Workshop, dsn: str, broker: str) -> Iterator[psutil.Process]:
    """Run a leader that is scraped, and the pages with one of them open."""
    http = f"127.0.0.1:{_free_port()}"
    stop = threading.Event()
    failures: list[Exception] = []

    def repeat(action: str, url: str) -> None:
        try:
            while not stop.is_set():
                if action == "scrape":
                    _get(url)
                    stop.wait(SCRAPE_PAUSE)
                else:
                    _follow(url, stop)
        except Exception as error:  # noqa: BLE001 - raised at the end
            failures.append(error)

    with (
        leading_daemon(workshop, dsn, broker, "--http", http) as daemon,
        _pages(workshop, dsn) as (pages, _process),
    ):
        threads = [
            threading.Thread(target=repeat, args=arguments)
            for arguments in (("scrape", f"http://{http}/metrics"), ("follow", pages))
        ]
        for thread in threads:
            thread.start()
        try:
            yield daemon
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    if failures:
        raise PgreactError(f"a scrape or a page failed: {failures[0]!r}")


def _follow(pages: str, stop: threading.Event) -> None:
    """Keep the overview open: read it again at each event, as a browser does."""
    with httpx.stream("GET", f"{pages}live", timeout=DEADLINE) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                _get(pages)
            if stop.is_set():
                return


@contextmanager
def _pages(workshop: Workshop, dsn: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run ``pgreact web``; yield the address of its pages, and its process."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/"
    arguments = ("-m", "pgreact", "web", "--bind", f"127.0.0.1:{port}")
    with workshop.running(
        *arguments, says_ready=False, PGREACT_DSN=dsn, PGREACT_WEB__REFRESH="15s"
    ) as process:
        end = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(httpx.TransportError):
                _get(url)
                break
            if time.monotonic() > end:
                raise PgreactError("pgreact web does not answer")
            time.sleep(0.1)
        yield url, process


@contextmanager
def _worker(workshop: Workshop, dsn: str, broker: str, marks: Path) -> Iterator[psutil.Process]:
    with workshop.running(
        *("-m", "celery", "-A", "benchmarks.queue_app", "worker", "-c", str(CONCURRENCY)),
        says_ready=False,
        **{"BENCH_DSN": dsn, "BENCH_BROKER": broker, DIRECTORY: str(marks)},
    ) as process:
        yield process


# ---- a large backlog ---------------------------------------------------------------------------------------

_HISTORY = """
insert into pgreact.history (id, lane, task, attempt, outcome, error, task_id, enqueued_at, run_at, ready_at,
    claimed_at, published_at, started_at, settled_at)
select n, 'lane' || 1 + n %% 200, 'bench.task' || n %% 20, 1,
    case when n %% 50 = 0 then 'failed' else 'done' end,
    case when n %% 50 = 0 then 'ValueError: job ' || n end, gen_random_uuid(),
    t.at, t.at, t.at, t.at, t.at, t.at, t.at
from generate_series(1, %(rows)s) n
cross join lateral (
    select date_trunc('day', now()) + (now() - date_trunc('day', now())) * n / %(rows)s as at
) t
"""
_DEAD = """
insert into pgreact.dead (id, lane, task, args, kwargs, priority, attempt, max_attempts, backoff, options,
    enqueued_at, died_at, outcome, error)
select -n, 'lane' || 1 + n %% 200, 'bench.task' || n %% 20, '[]', '{}', 0, 1, 1, '5 s', '{}',
    now(), now() - n * interval '1 s', 'failed', 'ValueError: job ' || n || ' of tenant ' || n %% 7
from generate_series(1, %(rows)s) n
"""
_TALLY = """
insert into pgreact.tally{table}
select m, 'lane' || l, 'bench.noop', o, 10, pgreact.histogram(array[1, 2, 3]), 1,
    pgreact.histogram(array[3, 4, 5]), 2, 10, 0.1, 0.2, 0.3, 0.4
from generate_series(date_trunc('{field}', now()) - interval '{past}', now(), interval '1 {field}') m
cross join generate_series(1, 200) l
cross join unnest(array['done', 'failed']) o
"""


def _large(report: Report, workshop: Workshop, broker: str, size: Size) -> None:
    """Scrape and open pages while a worker works off a large backlog."""
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(settings=SETTINGS))
        waiting = size.backlog
        if waiting > 10**6 and shutil.disk_usage(postgres.directory).free < DISK:
            report.note(f"10⁷ rows need {DISK / 1e9:.0f} GB on the disk: 10⁶ are measured")
            waiting = 10**6
        dsn = install(workshop, postgres, "large")
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute("update pgreact.queue_setting set retention = '30 days'")
            owner.execute(_HISTORY.encode(), {"rows": size.history})
            owner.execute(_DEAD.encode(), {"rows": size.history // 10})
            for table, field, past in (("", "minute", "24 h"), ("_hour", "hour", "8 days")):
                owner.execute(_TALLY.format(table=table, field=field, past=past).encode())
            owner.execute("vacuum (analyze) pgreact.history, pgreact.dead, pgreact.tally, pgreact.tally_hour")
        stack.enter_context(closing(Backlog(dsn, waiting)))
        place = workshop.directory / "marks-large"
        marks = stack.enter_context(Marks(place))
        url = f"{broker.rpartition('/')[0]}/3"
        http = f"127.0.0.1:{_free_port()}"
        daemon = stack.enter_context(leading_daemon(workshop, dsn, url, "--http", http))
        stack.enter_context(_worker(workshop, dsn, url, place))
        pages, web = stack.enter_context(_pages(workshop, dsn))
        _until(lambda: marks.ended()[0] > 200, "the worker works")
        _until(lambda: b'state="ready"' in _get(f"http://{http}/metrics"), "the leader has a sample")
        before, began = marks.ended()[0], time.monotonic()
        scrapes = []
        for _ in range(size.scrapes):
            scrapes.append(_seconds(f"http://{http}/metrics"))
            time.sleep(random.uniform(0.02, 0.08))
        views: dict[str, list[float]] = {page: [] for page in PAGES}
        for _ in range(size.views):
            for page in random.sample(PAGES, len(PAGES)):
                views[page].append(_seconds(pages + page))
        rate = (marks.ended()[0] - before) / (time.monotonic() - began)
        memory = {"pgreact listen": daemon, "pgreact web": web}
        resident = {name: process.memory_info().rss / 1e6 for name, process in memory.items()}
    _print_times(report, {"/metrics": scrapes, **{f"/{page}": found for page, found in views.items()}})
    report.note(
        f"{waiting:,} jobs wait in 201 lanes, the history has {size.history:,}; "
        f"{rate:,.0f} jobs/s run meanwhile"
    )
    report.table("memory", ["RSS"], [(name, [f"{size_:.1f} MB"]) for name, size_ in resident.items()])
    report.bar("scrape p99", percentile(scrapes, 99) * 1000, 20, " ms")
    every = [seconds for found in views.values() for seconds in found]
    report.bar("page p99", percentile(every, 99) * 1000, 100, " ms")
    report.bar("RSS of pgreact web", resident["pgreact web"], 90, " MB")
    report.bar("RSS of pgreact listen", resident["pgreact listen"], 80, " MB")


def _ratios(found: list[float]) -> str:
    return f"ratios of the rounds: {', '.join(f'{ratio:.3f}' for ratio in sorted(found))}"


def _print_times(report: Report, found: Mapping[str, list[float]]) -> None:
    report.table(
        "under load, ms",
        ["p50", "p99"],
        [(name, [ms(statistics.median(times)), ms(percentile(times, 99))]) for name, times in found.items()],
    )


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise PgreactError(f"not in {DEADLINE:g} s: {what}")
        time.sleep(0.2)


def _seconds(url: str) -> float:
    began = time.perf_counter()
    _get(url)
    return time.perf_counter() - began


def _get(url: str) -> bytes:
    return _client.get(url).raise_for_status().content


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _value(side: Side, statement: str) -> str:
    row = side.connection.execute(statement.encode()).fetchone()
    return json.dumps(row[0] if row else None, default=str)
