"""The catalogue of metrics, and their exposition in Prometheus' formats.

``docs/metrics.md`` is generated from this module: ``python -m pgreact.daemon.metrics > docs/metrics.md``.

A scrape runs no SQL. The families of a daemon are read from its memory (``metrics_daemon``), those of the
database from the sample that the leader takes in the background (``metrics_sampler``), those of the workers
from their last replies (``metrics_workers``).
"""

import asyncio
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from pgreact.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram", "info"]
Source = Literal["daemon", "leader", "database", "workers"]
Encoder = Callable[[Any], bytes]

PREFIX = "pgreact_"
OTHER = "(other)"
SLICE = 40  # samples that are formatted before other tasks get the event loop: less than a millisecond
UNITS = ("seconds", "ratio", "bytes")


class Family(NamedTuple):
    """A metric with all its labels.

    ``name`` is without prefix and, of counters, without ``_total``.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    source: Source
    help: str

    @property
    def exported(self) -> str:
        """The name as queries have it; of a histogram, without ``_bucket``, ``_sum`` and ``_count``."""
        return PREFIX + self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")

    @property
    def unit(self) -> str:
        """The unit, which is the end of the name, if any."""
        return next((unit for unit in UNITS if self.name.endswith(f"_{unit}")), "")


def _family(source: Source, name: str, kind: Kind, labels: str, text: str) -> Family:
    return Family(name, kind, tuple(labels.split()), source, text)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _family("daemon", "build", "info", "version", "Version of this daemon."),
        _family("daemon", "leader", "gauge", "", "1 if this daemon leads."),
        _family("daemon", "elections", "counter", "", "Elections that this daemon won."),
        _family(
            "daemon",
            "listener_up",
            "gauge",
            "",
            "1 if this daemon hears notifications; 0 while it connects, polls or sits out a flood.",
        ),
        _family(
            "daemon",
            "probe_seconds",
            "gauge",
            "",
            "Round trip of the last notification that this daemon sent to itself; every 15 s.",
        ),
        _family(
            "leader",
            "signals",
            "counter",
            "route",
            "Signals: notifications, polls of a closed gate, sweeps, and timers of the queue.",
        ),
        _family(
            "leader",
            "dispatches",
            "counter",
            "route result",
            "Dispatches by result: published (the broker has the call), claimed (the queue's route took jobs "
            "or found none), failed (tried again).",
        ),
        _family(
            "leader",
            "dispatch_wait_seconds",
            "histogram",
            "route",
            "From the first signal of a dispatch until the broker confirmed its messages; includes the "
            "route's window.",
        ),
        _family(
            "leader",
            "publish_seconds",
            "histogram",
            "route",
            "From the begin of a publish until the broker confirmed its messages.",
        ),
        _family(
            "leader",
            "route_dirty_seconds",
            "gauge",
            "route",
            "For how long a signal has waited for a publish to begin; 0: none waits.",
        ),
        _family(
            "leader", "gate_closed", "gauge", "route", "1 while writers do not notify and the leader polls."
        ),
        _family(
            "leader",
            "sweep_finds",
            "counter",
            "route reason",
            "Dispatches that only a sweep caused and that published something. Reason backstop: work that "
            "nothing had signalled.",
        ),
        _family(
            "leader",
            "republished",
            "counter",
            "",
            "Messages of jobs sent again, since no worker started them within the lease or a publish was cut "
            "short.",
        ),
        _family(
            "leader",
            "schedule_lateness_seconds",
            "histogram",
            "",
            "From the time at which an occurrence was due until it was fired.",
        ),
        _family(
            "leader",
            "misfires",
            "counter",
            "",
            "Firings at which an occurrence was found later than its grace, missed, or skipped since a run "
            "went on.",
        ),
        _family(
            "database",
            "jobs",
            "gauge",
            "lane state",
            "Jobs by state: ready, delayed, blocked (counted up to 10,000, or to less with many lanes), "
            "in_progress.",
        ),
        _family("database", "dead_jobs", "gauge", "", "Dead jobs that are neither retried nor purged."),
        _family(
            "database",
            "oldest_ready_seconds",
            "gauge",
            "lane",
            "For how long the oldest ready job could have run; 0: none is ready.",
        ),
        _family(
            "database",
            "lane_limit",
            "gauge",
            "lane",
            "max_in_progress of the lane; +Inf: no limit.",
        ),
        _family("database", "lane_paused", "gauge", "lane", "1 if the lane is paused."),
        _family("database", "claimed", "counter", "lane", "Jobs claimed since the installation."),
        _family(
            "database",
            "settled",
            "counter",
            "lane task outcome",
            "Attempts settled since the installation. At most 100 tasks have their names here; the rest are "
            "(other).",
        ),
        _family(
            "database",
            "job_wait_seconds",
            "histogram",
            "lane",
            "From ready to the start in a worker. A delayed job does not wait until its time has come.",
        ),
        _family(
            "database",
            "job_run_seconds",
            "histogram",
            "lane",
            "From the start in a worker to the settlement.",
        ),
        _family(
            "database",
            "schedules",
            "gauge",
            "state",
            "Schedules by state: planned, overdue (by more than a minute), new, failed, disabled, ended, "
            "counted up to 10,001 each or by delivery.",
        ),
        _family(
            "database",
            "triggers",
            "gauge",
            "state",
            "Triggers of watched tables and outboxes by state: ok, or what is wrong, as missing or disabled.",
        ),
        _family(
            "database",
            "notify_queue_ratio",
            "gauge",
            "",
            "Share of PostgreSQL's queue of notifications that is used. At 1 commits that notify fail.",
        ),
        _family(
            "database",
            "oldest_xmin_age_seconds",
            "gauge",
            "",
            "Age of the oldest transaction, prepared ones included, that keeps vacuum from removing rows of "
            "this database. Absent without the role pg_read_all_stats.",
        ),
        _family("database", "dead_rows", "gauge", "table", "Dead rows of pgreact's busy tables, estimated."),
        _family(
            "database",
            "canary_seconds",
            "gauge",
            "",
            "From the enqueue of the last canary that came back until its settlement; with [queue] canary.",
        ),
        _family(
            "database",
            "canary_age_seconds",
            "gauge",
            "",
            "For how long no canary has come back: at most its interval and its way, while all is well.",
        ),
        _family(
            "database",
            "canary_failures",
            "counter",
            "",
            "Canaries that had not come back in time when the leader looked.",
        ),
        _family("database", "sample_age_seconds", "gauge", "", "Age of what was read from the database."),
        _family(
            "workers",
            "workers",
            "gauge",
            "",
            "Workers that replied to the last question of the leader; absent if they could not be asked.",
        ),
        _family("workers", "worker_started", "counter", "", "Attempts that workers started."),
        _family(
            "workers",
            "worker_settled",
            "counter",
            "outcome",
            "Runs that workers ended, by outcome; snoozed and postponed runs go on by another message.",
        ),
        _family(
            "workers",
            "worker_messages_dropped",
            "counter",
            "",
            "Messages of jobs that workers dropped: duplicates, expired and cancelled ones.",
        ),
        _family("workers", "worker_leases_renewed", "counter", "", "Leases that workers renewed."),
        _family(
            "workers",
            "worker_settlements_retried",
            "counter",
            "",
            "Settlements that could not be sent and are tried again.",
        ),
        _family("workers", "worker_flights_run", "counter", "", "Runs under single flight."),
        _family(
            "workers",
            "worker_flights_dropped",
            "counter",
            "",
            "Calls that single flight dropped, since one run went on and one waited.",
        ),
    )
}


class Exposition:
    """Collects samples, and yields the families that have some, in the order of the catalogue."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def put(self, name: str, value: float, **labels: str) -> None:
        """Add one sample of a counter, gauge or info.

        Args:
            name: Of the family, as in the catalogue.
            value: The value.
            **labels: All labels of the family.
        """
        family, metric = self._metric(name, labels)
        metric.add_sample(family.exported, labels, value)

    def put_histogram(self, name: str, histogram: Histogram, **labels: str) -> None:
        """Add the samples of a histogram.

        Args:
            name: Of the family, as in the catalogue.
            histogram: Its counts.
            **labels: All labels of the family.
        """
        family, metric = self._metric(name, labels)
        total = 0
        for bound, total in histogram.cumulative():
            le: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
            metric.add_sample(f"{family.exported}_bucket", {**labels, "le": le}, total)
        metric.add_sample(f"{family.exported}_count", labels, total)
        metric.add_sample(f"{family.exported}_sum", labels, histogram.sum)

    def __iter__(self) -> Iterator[Metric]:
        return (self._metrics[name] for name in FAMILIES if name in self._metrics)

    def _metric(self, name: str, labels: Collection[str]) -> tuple[Family, Metric]:
        family = FAMILIES[name]
        assert tuple(labels) == family.labels, f"{name}: {tuple(labels)}, not {family.labels}"
        metric = self._metrics.get(name)
        if metric is None:
            metric = Metric(PREFIX + name, family.help, family.kind, family.unit)
            self._metrics[name] = metric
        return family, metric


class Names:
    """The values of a label whose number is bounded: later ones are ``(other)``, for good.

    A value that changed sides would make its counter, and that of the others, jump.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return the label's value for a name."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name


class _Part(NamedTuple):
    """Some samples of a metric, as a registry that the encoders of prometheus_client read."""

    metric: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.metric


async def render(metrics: Iterable[Metric], encoder: Encoder) -> bytes:
    """Format metrics, a slice at a time, so that no dispatch waits for it.

    Args:
        metrics: The families.
        encoder: Of prometheus_client, as ``choose_encoder`` returns it.

    Returns:
        The lines, without the last one of OpenMetrics.
    """
    lines: list[bytes] = []
    for metric in metrics:
        for first in range(0, len(metric.samples), SLICE):
            part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            part.samples = metric.samples[first : first + SLICE]
            text = encoder(_Part(part)).removesuffix(b"# EOF\n")
            lines.append(text if first == 0 else _without_comments(text))
            await asyncio.sleep(0)
    return b"".join(lines)


def _without_comments(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))


_SOURCES: dict[Source, str] = {
    "daemon": "Of each daemon",
    "leader": "Of the leader",
    "database": "Of the leader, read from the database",
    "workers": "Of the leader, from the workers",
}
_HEAD = """\
# Metrics

Generated from `pgreact/daemon/metrics.py`; do not edit. With the setting [`http`](configuration.md) `pgreact
listen` serves these at `/metrics`, in Prometheus' text format or in OpenMetrics.

A daemon that stops leading stops exporting what only the leader knows: scrape all daemons, and aggregate
without `instance`. A scrape runs no SQL. While scrapes come, the leader reads the database every 10 s and
asks the workers every 30 s; it stops 90 s after the last scrape. Counters start at 0 with each daemon, except
those read from the database. `pgreact_worker_*` are sums over the workers; they need `pgreact.setup(app)` and
remote control. At most 100 lanes have their names as label; the rest are `(other)`.
"""


def documentation() -> str:
    """Return ``docs/metrics.md``."""
    lines = [_HEAD]
    for source, title in _SOURCES.items():
        lines += [f"## {title}", "", "| metric | type | labels | |", "|---|---|---|---|"]
        lines += [
            f"| `{family.exported}` | {family.kind} | {', '.join(family.labels)} | {family.help} |"
            for family in FAMILIES.values()
            if family.source == source
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(documentation())
