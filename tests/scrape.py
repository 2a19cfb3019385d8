"""A client of the daemon's HTTP endpoint, and what it reads from ``/metrics``."""

import http.client
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    text: str
    headers: dict[str, str]


def get(address: str, path: str, accept: str = "", method: str = "GET", timeout: float = 10) -> Answer:
    """Make one request.

    Args:
        address: Host and port.
        path: What to ask for.
        accept: The header of this name.
        method: As in the request.
        timeout: Seconds.
    """
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, answer.read().decode(), headers)
    finally:
        connection.close()


class Scrape:
    """The samples of one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = list(families)
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a sample, by its name without ``pgreact_``; ``None``: there is none."""
        return self.samples.get((f"pgreact_{name}", frozenset(labels.items())))

    @property
    def names(self) -> set[str]:
        """The names of all families, without ``pgreact_``."""
        return {family.name.removeprefix("pgreact_") for family in self.families}


def scrape(address: str, accept: str = "") -> Scrape:
    """Scrape once, and parse the answer in its format."""
    answer = get(address, "/metrics", accept)
    assert answer.status == 200, answer
    if answer.headers["content-type"].startswith("application/openmetrics-text"):
        return Scrape(parse_openmetrics(answer.text))
    return Scrape(parse_text(answer.text))
