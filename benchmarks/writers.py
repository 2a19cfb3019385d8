"""Cost of the triggers for writers, compared with no trigger and with a NOTIFY in every transaction."""

import dataclasses
import random
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from benchmarks.processes import Workshop
from benchmarks.report import Report, ms, percentile
from pgreact.demo.postgres import EmbeddedPostgres, find_binaries
from pgreact.errors import PgreactError
from tests.servers import Missing, redis_server

FLUSH = 1.5  # ms, like a network disk; the native flush is this machine's
FLUSHES = ("native", "slow")
WRITERS = (1, 16, 64)
SIDES = {"none": "no trigger", "pgreact": "pgreact, gate closed", "notify": "NOTIFY each"}
IDLE_SIDES = {"none": "no trigger", "idle": "pgreact, gate open"}

# A server that flushes its commits, by the call that the library slows.
SETTINGS = {
    "fsync": "on",
    "wal_sync_method": "fdatasync",
    "autovacuum": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
}
_CONFIGURATION = """
[routes.dispatch]
task = "tasks.dispatch_next_available"
gate = "{gate}"
options = {{ queue = "{name}" }}
tables = [{{ table = "public.job_queue", on = ["insert"] }}]
"""
_TABLE = """
create table job_queue (
    id bigint generated always as identity primary key,
    created timestamptz not null default clock_timestamp()
)
"""
_NOTIFY = """
create function notify() returns trigger language plpgsql as $$
begin
    perform pg_notify('plain', '1');
    return null;
end
$$;
create trigger notify after insert on job_queue for each statement execute function notify();
"""
_SLOW_FLUSH = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int fdatasync(int file)
{
    static int (*real)(int);
    struct timespec until;

    if (!real)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += %d;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    int done = real(file);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0))
        ;
    return done;
}
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """The number of samples."""

    rounds: int
    seconds: int  # of each run of pgbench
    settling: float  # first seconds of a run, not counted: connections, and closing the gate


FULL = Size(rounds=5, seconds=2, settling=0.6)
QUICK = Size(rounds=1, seconds=1, settling=0.4)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of pgbench."""

    rate: float  # commits a second
    p99: float  # seconds


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number of writers on one kind of flush: the runs of all sides, by round."""

    rounds: list[dict[str, Run]]

    def rate(self, side: str) -> float:
        """The median rate of the rounds."""
        return statistics.median(found[side].rate for found in self.rounds)

    def p99(self, side: str) -> float:
        """The median of the rounds' p99."""
        return statistics.median(found[side].p99 for found in self.rounds)

    def ratios(self, side: str, other: str) -> list[float]:
        """The rounds' ratios: a disturbance hits both sides of a round."""
        return [found[side].rate / found[other].rate for found in self.rounds]

    def ratio(self, side: str, other: str) -> float:
        """Their median."""
        return statistics.median(self.ratios(side, other))


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        library = _build_slow_flush(workshop)
        broker = stack.enter_context(redis_server()).url
        pgbench = find_pgbench()
        dsns: dict[str, dict[str, str]] = {}
        for flush in FLUSHES:
            environ = {"LD_PRELOAD": str(library)} if flush == "slow" else {}
            postgres = stack.enter_context(EmbeddedPostgres(settings=SETTINGS, environ=environ))
            dsns[flush] = {name: _database(workshop, postgres, name) for name in (*SIDES, "idle")}
            stack.enter_context(_listener(dsns[flush]["notify"], "plain"))
            stack.enter_context(daemon(workshop, dsns[flush]["pgreact"], broker))
            stack.enter_context(daemon(workshop, dsns[flush]["idle"], broker))
        report.note(f"PostgreSQL {postgres.major}; a flush slowed to {FLUSH} ms; one INSERT each transaction")
        bench = Bench(workshop, pgbench, size)
        cells: dict[tuple[str, int], list[dict[str, Run]]] = {}
        idle: dict[str, list[dict[str, Run]]] = {}
        for _ in range(size.rounds):
            for flush in FLUSHES:
                for writers in WRITERS:
                    cells.setdefault((flush, writers), []).append(bench.compare(dsns[flush], SIDES, writers))
                idle.setdefault(flush, []).append(bench.compare(dsns[flush], IDLE_SIDES, 1))
    _print(
        report,
        {key: Cell(rounds) for key, rounds in cells.items()},
        {flush: Cell(rounds) for flush, rounds in idle.items()},
    )


def find_pgbench() -> Path:
    """Return the path of pgbench.

    Raises:
        PgreactError: There is none.
    """
    pgbench = find_binaries() / "pgbench"
    if not pgbench.exists():
        raise PgreactError(f"no pgbench beside {pgbench.parent}/postgres; the wheel of pgreact[demo] has one")
    return pgbench


# ---- the sides ---------------------------------------------------------------------------------------------


def _database(workshop: Workshop, postgres: EmbeddedPostgres, name: str) -> str:
    """Create a database with a table and the triggers of this side."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    dsn = postgres.dsn(name)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(_TABLE.encode())
        if name == "notify":
            owner.execute(_NOTIFY.encode())
    if name in {"pgreact", "idle"}:
        file = workshop.directory / "pgreact.toml"
        # for one writer the gate is kept open; with many it closes by itself
        gate = "open" if name == "idle" else "auto"
        file.write_text(_CONFIGURATION.format(name=name, gate=gate))
        workshop.python("-m", "pgreact", "apply", PGREACT_DSN=dsn)
    return dsn


@contextmanager
def _listener(dsn: str, channel: str) -> Iterator[None]:
    """Listen and discard: the least that users of plain NOTIFY have."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"listen {channel}".encode())
        yield


@contextmanager
def daemon(workshop: Workshop, dsn: str, broker: str) -> Iterator[None]:
    """Run `pgreact listen`, which closes the gate by itself when commits come fast."""
    with workshop.running("-m", "pgreact", "listen", PGREACT_DSN=dsn, PGREACT_BROKER=broker):
        yield


def _build_slow_flush(workshop: Workshop) -> Path:
    """Compile the library that slows PostgreSQL's flush.

    Raises:
        Missing: There is no C compiler.
        PgreactError: It does not compile.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise Missing("a C compiler, to build the slow flush (Debian: apt-get install gcc libc6-dev)")
    library = workshop.directory / "slow_flush.so"
    built = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library, "-ldl"],
        input=_SLOW_FLUSH % (FLUSH * 1e6),
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise PgreactError(f"the slow flush does not compile:\n{built.stderr}")
    workshop.directory.chmod(0o755)  # under root, PostgreSQL runs as `nobody` and must reach it
    library.chmod(0o755)
    return library


# ---- the runs ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bench:
    """pgbench, and its log of transactions."""

    workshop: Workshop
    pgbench: Path
    size: Size

    def compare(self, dsns: Mapping[str, str], sides: Mapping[str, str], writers: int) -> dict[str, Run]:
        """Run the writers on all sides in random order."""
        return {
            side: self.run(dsns[side], writers, "insert into job_queue default values", "job_queue")
            for side in random.sample(list(sides), len(sides))
        }

    def run(self, dsn: str, writers: int, statement: str, table: str, *, mode: str = "simple") -> Run:
        """Run a statement in transactions of its own, and empty the table that it fills.

        Args:
            dsn: The database.
            writers: Clients of pgbench.
            statement: What each transaction executes.
            table: The table's name.
            mode: pgbench's query mode.
        """
        prefix = self.workshop.directory / "commits"
        options = [
            "-n",
            "-c",
            str(writers),
            "-j",
            str(min(writers, 2)),
            "-T",
            str(self.size.seconds),
            "-M",
            mode,
        ]
        done = subprocess.run(
            [self.pgbench, *options, "-l", f"--log-prefix={prefix}", "-f", "-", dsn],
            input=f"{statement};\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PgreactError(f"pgbench failed:\n{done.stderr}")
        commits = []  # (end, duration)
        for log in prefix.parent.glob(f"{prefix.name}.*"):
            for line in log.read_text().splitlines():
                _, _, took, _, epoch, fraction = line.split()
                commits.append((int(epoch) + int(fraction) / 1e6, int(took) / 1e6))
            log.unlink()
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(f"truncate {table}".encode())
        begin = min(commits)[0] + self.size.settling
        # at the end of a run, pgbench's clients leave one by one
        end = min(commits)[0] + self.size.seconds - 0.1
        counted = [took for when, took in commits if begin <= when < end]
        return Run(len(counted) / (end - begin), percentile(counted, 99))


# ---- the report --------------------------------------------------------------------------------------------


def _print(report: Report, cells: Mapping[tuple[str, int], Cell], idle: Mapping[str, Cell]) -> None:
    columns = [f"{flush} {writers}" for flush, writers in cells]
    report.table(
        "commits/s, by flush and writers",
        columns,
        [
            *((what, [f"{cell.rate(side):,.0f}" for cell in cells.values()]) for side, what in SIDES.items()),
            ("pgreact / no trigger", [f"{cell.ratio('pgreact', 'none'):.2f}" for cell in cells.values()]),
            ("pgreact / NOTIFY", [f"{cell.ratio('pgreact', 'notify'):.1f}" for cell in cells.values()]),
        ],
    )
    report.table(
        "p99 of a commit, ms",
        columns,
        [(what, [ms(cell.p99(side)) for cell in cells.values()]) for side, what in SIDES.items()],
    )
    report.table(
        "one writer, gate = open",
        [f"{flush}{what}" for flush in idle for what in (" commits/s", " p99 ms")],
        [
            (
                what,
                [text for cell in idle.values() for text in (f"{cell.rate(side):,.0f}", ms(cell.p99(side)))],
            )
            for side, what in IDLE_SIDES.items()
        ],
    )
    for flush in FLUSHES:
        for writers, least in ((16, 0.9), (64, 0.75)):
            ratios = cells[flush, writers].ratios("pgreact", "none")
            what = f"{flush} flush, {writers} writers: pgreact / no trigger"
            report.bar_of_rounds(what, ratios, least, least=True)
        ratios = cells[flush, 1].ratios("pgreact", "none")
        least = 0.93 if flush == "native" else 0.9
        report.bar_of_rounds(f"{flush} flush, one writer: pgreact / no trigger", ratios, least, least=True)
    ratios = idle["native"].ratios("idle", "none")
    report.bar_of_rounds(
        "native flush, one writer, gate open: pgreact / no trigger", ratios, 0.85, least=True
    )
    ratios = cells["slow", 64].ratios("pgreact", "notify")
    report.bar_of_rounds("slow flush, 64 writers: pgreact / NOTIFY each", ratios, 10, least=True)
