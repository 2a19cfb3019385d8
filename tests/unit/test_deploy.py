"""The files of ``deploy``: alerts and panels ask for metrics that exist, and alerts lead to a paragraph."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from pgreact.daemon.metrics import FAMILIES
from pgreact.doctor.examination import selected
from tests.unit.test_docs import anchors

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text("utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana/pgreact.json").read_text("utf-8"))
PANELS = DASHBOARD["panels"]
ADAPTER = yaml.safe_load(
    next(yaml.safe_load_all((DEPLOY / "hpa.yaml").read_text("utf-8")))["data"]["config.yaml"]
)
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
OF_PROMETHEUS = {"job", "instance"}  # labels that a scrape adds
PORT = 9187
SAMPLES = {
    f"{family.exported}{suffix}": {*family.labels, *(["le"] if suffix == "_bucket" else [])}
    for family in FAMILIES.values()
    for suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
}


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / file).read_text("utf-8")))


def expressions() -> Iterator[tuple[str, str]]:
    """Yield each expression of rules, dashboard and adapter, with its name."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"][1:]:
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        yield variable["name"], f"sum by ({label}) ({selector})"
    for rule in ADAPTER["externalRules"]:
        yield "adapter", rule["seriesQuery"]
        yield "adapter", rule["metricsQuery"].replace("<<.LabelMatchers>>", 'lane="mail"')


EXPRESSIONS = [
    pytest.param(
        re.sub(r"\$__(rate_)?interval", "5m", text).replace("$job", "p").replace("$lane", "mail"), id=name
    )
    for name, text in expressions()
]


def parsed(text: str) -> tuple[list[Any], set[str]]:
    """Return the selectors of an expression, and the labels that its aggregations and joins name."""
    selectors: list[Any] = []
    labels: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            selectors.append(node.vector_selector)
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier:
            labels.update(modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and modifier and modifier.matching:
            labels.update(modifier.matching.labels)

    promql_parser.walk(promql_parser.parse(text), visit)
    return selectors, labels


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression_asks_for_metrics_and_labels_that_the_daemon_exports(text: str) -> None:
    selectors, labels = parsed(text)
    assert selectors
    known: set[str] = set()
    for selector in selectors:
        assert selector.name in SAMPLES
        own = SAMPLES[selector.name] | OF_PROMETHEUS
        assert {matcher.name for matcher in selector.matchers.matchers} <= own
        known |= own
    assert labels <= known


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_has_severity_value_runbook_and_check(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Pgreact[A-Z]\w+", rule["alert"])
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "doctor"}
    assert "$value" in rule["annotations"]["description"]
    assert [check.id for check in selected([rule["annotations"]["doctor"]])] == [
        rule["annotations"]["doctor"]
    ]
    file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert file == "docs/operate.md"
    assert anchor in anchors(ROOT / file)
    assert "for" not in rule or promql_parser.parse_duration(rule["for"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_text_of_an_alert_names_labels_that_its_expression_keeps(rule: dict[str, Any]) -> None:
    _, kept = parsed(rule["expr"])
    text = rule["annotations"]["summary"] + rule["annotations"]["description"]
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept


def test_rules_have_groups_of_unique_alerts() -> None:
    assert set(RULES) == {"groups"}
    assert all(set(group) == {"name", "rules"} for group in RULES["groups"])
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))


def test_each_alert_is_set_off_by_the_tests_of_the_rules() -> None:
    cases = yaml.safe_load((DEPLOY / "prometheus/rules_test.yaml").read_text("utf-8"))["tests"]
    samples = [
        sample
        for case in cases
        for test in case["promql_expr_test"]
        for sample in test.get("exp_samples", ())
    ]
    set_off = {re.search(r'alertname="(\w+)"', sample["labels"])[1] for sample in samples}  # type: ignore[index]
    assert set_off == {rule["alert"] for rule in ALERTS}


def test_dashboard_has_unique_panels_on_its_grid() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells
        cells |= own


def test_dashboard_takes_its_data_source_and_lane_from_variables() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "lane"]
    sources = [
        thing["datasource"]
        for panel in PANELS
        for thing in (panel, *panel.get("targets", ()))
        if "datasource" in thing
    ]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    for panel in PANELS:
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(references) == len(set(references))


def test_prometheus_scrapes_every_daemon_of_compose_and_loads_the_rules() -> None:
    [config] = documents("prometheus/prometheus.yaml")
    assert [(DEPLOY / "prometheus" / file).is_file() for file in config["rule_files"]] == [True]
    [scrape] = config["scrape_configs"]
    [lookup] = scrape["dns_sd_configs"]
    assert lookup["port"] == PORT
    [service] = lookup["names"]
    assert COMPOSE["services"][service]["command"] == ["listen", "--http", f"0.0.0.0:{PORT}"]
    assert COMPOSE["services"][service]["deploy"]["replicas"] == 2
    assert "ports" not in COMPOSE["services"][service]


def test_compose_mounts_files_that_exist_where_grafana_and_prometheus_look() -> None:
    mounts = {}
    for name in ("prometheus", "grafana"):
        for mount in COMPOSE["services"][name]["volumes"]:
            source, target, _ = mount.split(":")
            assert (ROOT / source).exists()
            mounts[target] = ROOT / source
    provisioning = mounts["/etc/grafana/provisioning"]
    [provider] = yaml.safe_load((provisioning / "dashboards/pgreact.yaml").read_text("utf-8"))["providers"]
    assert mounts[f"{provider['options']['path']}/pgreact.json"] == DEPLOY / "grafana/pgreact.json"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text("utf-8"))[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"


def test_kubernetes_probes_and_scrapes_the_port_that_the_daemon_opens() -> None:
    [deployment] = [found for found in documents("kubernetes.yaml") if found["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert container["args"] == ["listen", "--http", f"0.0.0.0:{PORT}"]
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(PORT)


def test_autoscalers_scale_the_deployment_of_the_lane_whose_jobs_they_count() -> None:
    [workers] = documents("workers.yaml")
    name, lane = workers["metadata"]["name"], workers["metadata"]["labels"]["pgreact/lane"]
    [container] = workers["spec"]["template"]["spec"]["containers"]
    assert f"--queues={lane}" in container["command"]
    [places] = [word.partition("=")[2] for word in container["command"] if word.startswith("--concurrency=")]
    assert "replicas" not in workers["spec"]

    credentials, scaled = documents("keda/scaledobject.yaml")
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    assert trigger["metadata"]["query"] == f"select pgreact.load('{lane}')"
    assert trigger["metadata"]["targetQueryValue"] == places
    assert trigger["authenticationRef"]["name"] == credentials["metadata"]["name"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == name

    _, scaler = documents("hpa.yaml")
    [metric] = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == ADAPTER["externalRules"][0]["name"]["as"]
    assert metric["external"]["metric"]["selector"]["matchLabels"] == {"lane": lane}
    assert metric["external"]["target"]["averageValue"] == places
    assert scaler["spec"]["scaleTargetRef"]["name"] == name


def test_page_on_operating_names_checks_of_the_doctor() -> None:
    text = (ROOT / "docs/operate.md").read_text("utf-8")
    named = re.findall(r"`pgreact doctor ([a-z_. ]+)`", text)
    assert len(named) > 5
    assert all(selected([name]) for names in named for name in names.split())
