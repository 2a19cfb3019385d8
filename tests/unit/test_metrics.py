"""The catalogue of metrics, their exposition in both formats, and the sums over workers."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pgreact.clock import Clock
from pgreact.daemon import metrics, metrics_sampler, metrics_workers
from pgreact.daemon.metrics import FAMILIES, OTHER, Exposition, Names, documentation, render
from pgreact.daemon.metrics_daemon import put_daemon
from pgreact.daemon.metrics_sampler import Sampler
from pgreact.daemon.metrics_workers import KNOWN, WorkerTotals
from pgreact.daemon.state import DaemonState, RouteReading
from pgreact.dispatch.measures import RouteMeasures
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.histogram import Histogram
from pgreact.postgres.trouble import Troubles
from pgreact.worker import counters
from tests.scrape import OPENMETRICS, Scrape

LABELS = {"route", "lane", "task", "outcome", "state", "result", "reason", "table", "version"}


def everything() -> Exposition:
    """One sample of each family; of histograms, more than one slice."""
    exposition = Exposition()
    for name, family in FAMILIES.items():
        for value in ("a", 'b "\\\n'):
            labels = dict.fromkeys(family.labels, value)
            if family.kind != "histogram":
                exposition.put(name, 1, **labels)
                if not labels:
                    break
                continue
            histogram = Histogram([2**n for n in range(metrics.SLICE)])
            histogram.observe(3)
            exposition.put_histogram(name, histogram, **labels)
            if not labels:
                break
    return exposition


async def text(exposition: Exposition, accept: str = "") -> str:
    encoder, _ = choose_encoder(accept)
    return (await render(exposition, encoder)).decode() + ("# EOF\n" if accept else "")


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_each_family_is_valid_in_both_formats(accept: str) -> None:
    shown = await text(everything(), accept)
    families = list((parse_openmetrics if accept else parse_text)(shown))
    assert len({family.name for family in families}) == len(families) == len(FAMILIES)
    for family in FAMILIES.values():
        exported = family.exported
        name = exported.removesuffix("_total").removesuffix("_info") if accept else exported
        assert shown.count(f"# HELP {name} ") == shown.count(f"# TYPE {name} ") == 1, name
        kind = "gauge" if family.kind == "info" and not accept else family.kind
        assert f"# TYPE {name} {kind}\n" in shown
        assert (f"# UNIT {name} {family.unit}\n" in shown) == bool(accept and family.unit)
    lines = [line for line in shown.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


async def test_slices_are_as_the_whole() -> None:
    encoder, _ = choose_encoder(OPENMETRICS)

    class Whole:
        def collect(self) -> Any:
            return everything()

    assert await text(everything(), OPENMETRICS) == encoder(Whole()).decode()


def test_the_catalogue_keeps_the_rules_of_names_and_labels() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch("[a-z_]+", name)
        assert not name.endswith(("_total", "_info", "_count", "_sum", "_bucket")), name
        assert set(family.labels) <= LABELS, name
        assert family.help.endswith("."), name
        assert "\n" not in family.help
        if family.kind == "histogram":
            assert family.unit == "seconds", name


def test_a_sample_with_other_labels_than_the_catalogue_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="jobs"):
        Exposition().put("jobs", 1, lane="x")


def test_the_documentation_is_current() -> None:
    file = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert file.read_text(encoding="utf-8") == documentation(), (
        "run: python -m pgreact.daemon.metrics > docs/metrics.md"
    )


def test_a_histogram_counts_by_inclusive_upper_bounds() -> None:
    histogram = Histogram([0.1, 1.0])
    for seconds in (-1.0, 0.1, 0.11, 1.0, 7.0):
        histogram.observe(seconds)
    assert list(histogram.cumulative()) == [(0.1, 2), (1.0, 4), (float("inf"), 5)]
    assert histogram.sum == pytest.approx(8.21)


def test_names_beyond_the_limit_stay_with_the_others() -> None:
    names = Names(2)
    assert [names(name) for name in ("a", "b", "c", "a", "c")] == ["a", "b", OTHER, "a", OTHER]


def test_a_sum_over_workers_never_falls() -> None:
    totals = WorkerTotals()
    totals.add("w1", {"started": 5, "done": 4})
    totals.add("w2", {"started": 3, "done": 3})
    assert totals.sums == {"started": 8, "done": 7}
    totals.add("w1", {"started": 7, "done": 4})  # w2 does not reply
    assert totals.sums == {"started": 10, "done": 7}
    totals.add("w1", {"started": 1, "done": 0})  # it was started again
    totals.add("w2", {"started": 3, "done": 3})
    assert totals.sums == {"started": 11, "done": 7}
    for number in range(KNOWN + 5):
        totals.add(f"x{number}", {"started": 1})
    assert len(totals._last) == KNOWN


def test_only_known_counters_of_a_reply_count() -> None:
    reply = {
        "counters": {"started": 2, "settled_done": 1, "settled_x": 1, "other": 1, "leases_renewed": -1, 3: 4}
    }
    assert metrics_workers._counters(reply) == {"started": 2, "settled_done": 1}
    for strange in (None, [], {"error": "unknown command"}, {"counters": [1]}):
        assert metrics_workers._counters(strange) == {}
    assert {name for name in counters.NAMES if not metrics_workers._known(name)} == set()
    assert set(counters.OUTCOMES) == metrics_workers.OUTCOMES


async def test_a_standby_shows_no_families_of_the_leader() -> None:
    state = DaemonState(Clock(), 0.0, role="standby")
    state.route_measures["dispatch"] = RouteMeasures(signals=4)
    exposition = Exposition()
    put_daemon(exposition, state)
    shown = Scrape(parse_text(await text(exposition)))
    assert shown.names == {"build_info", "leader", "elections", "listener_up"}
    assert shown.value("leader") == 0


async def test_a_leader_shows_its_routes() -> None:
    measures = RouteMeasures(signals=4, published=2, claimed=7, failed=1)
    measures.sweep_finds["backstop"] = 3
    state = DaemonState(Clock(), 0.0, role="leader")
    state.routes = lambda: [
        RouteReading("dispatch", measures, 1.5, gate_closed=True),
        RouteReading(QUEUE_ROUTE, measures, 0.0, gate_closed=False),
    ]
    exposition = Exposition()
    put_daemon(exposition, state)
    shown = Scrape(parse_text(await text(exposition)))
    assert shown.value("signals_total", route="dispatch") == 4
    assert shown.value("dispatches_total", route="dispatch", result="published") == 2
    assert shown.value("dispatches_total", route="dispatch", result="claimed") is None
    assert shown.value("dispatches_total", route=QUEUE_ROUTE, result="claimed") == 7
    assert shown.value("dispatches_total", route=QUEUE_ROUTE, result="failed") == 1
    assert shown.value("route_dirty_seconds", route="dispatch") == 1.5
    assert shown.value("gate_closed", route="dispatch") == 1
    assert shown.value("sweep_finds_total", route="dispatch", reason="backstop") == 3
    assert shown.value("dispatch_wait_seconds_count", route="dispatch") == 0


async def test_lanes_and_tasks_beyond_the_limit_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_sampler, "LANES", 2)
    monkeypatch.setattr(metrics_sampler, "TASKS", 1)

    async def nothing(_sample: object) -> None: ...

    sampler = Sampler("", Clock(), Troubles(Clock()), nothing)
    lane = {
        "known": True,
        **dict.fromkeys(("ready", "delayed", "blocked", "in_progress", "claimed"), 2),
        "oldest_s": 4.0,
        "max_in_progress": None,
        "paused": False,
    }
    times = {"bounds": [1.0], "waits": [1, 2], "wait_s": 9.0, "runs": [3, 0], "run_s": 1.0}
    exposition = Exposition()
    sampler._put(
        exposition,
        {
            "queue_lanes": [{**lane, "name": name} for name in ("a", "b", "c", "d")],
            "queue_totals": [],
            "metrics_settled": [
                {"lane": name, "task": f"t{name}", "outcome": "done", "jobs": 1} for name in ("a", "c", "d")
            ],
            "metrics_times": [{**times, "lane": name} for name in ("c", "d")],
            "metrics_schedules": [],
            "metrics_server": [],
            "trigger_health": [],
            "queue_outbox": [],
            "canary": [],
        },
    )
    shown = Scrape(parse_text(await text(exposition)))
    assert shown.value("jobs", lane="a", state="ready") == 2
    assert shown.value("jobs", lane=OTHER, state="ready") == 4
    assert shown.value("claimed_total", lane=OTHER) == 4
    assert shown.value("lane_limit", lane="a") == float("inf")
    assert shown.value("lane_limit", lane=OTHER) is None
    assert shown.value("settled_total", lane="a", task="ta", outcome="done") == 1
    assert shown.value("settled_total", lane="a", task="ta", outcome="failed") == 0
    assert shown.value("settled_total", lane="b", task="", outcome="done") == 0
    assert shown.value("settled_total", lane=OTHER, task=OTHER, outcome="done") == 2
    assert shown.value("job_wait_seconds_bucket", lane=OTHER, le="1.0") == 2
    assert shown.value("job_wait_seconds_count", lane=OTHER) == 6
    assert shown.value("job_wait_seconds_sum", lane=OTHER) == 18
