"""The probes and the status over HTTP, in each state of the daemon."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pgreact.address import Address
from pgreact.clock import Clock
from pgreact.daemon import http_endpoints
from pgreact.daemon.http_endpoints import Endpoints
from pgreact.daemon.http_server import HttpServer
from pgreact.daemon.state import DaemonState
from pgreact.errors import PgreactError
from pgreact.postgres.trouble import Troubles
from tests.scrape import OPENMETRICS, Answer, get, scrape

PROBES = ("/livez", "/readyz", "/leader", "/standby")


class Turned(Clock):
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Status:
    """What ``/status`` reads."""

    def __init__(self) -> None:
        self.reads = 0
        self.error: Exception | None = None
        self.may_end = threading.Event()
        self.may_end.set()

    def read(self) -> str:
        self.reads += 1
        self.may_end.wait(20)
        if self.error:
            raise self.error
        return '{"healthy": true}'


class Site:
    """The endpoints of a daemon that does not exist."""

    def __init__(self) -> None:
        self.clock = Turned()
        self.state = DaemonState(self.clock, self.clock.monotonic())
        self.status = Status()
        troubles = Troubles(self.clock)
        no_workers: Any = None
        endpoints = Endpoints(self.state, "", no_workers, troubles, self.status.read)
        self.server = HttpServer(endpoints.handlers, troubles["http"])
        self.address = ""

    async def get(self, path: str, accept: str = "") -> Answer:
        return await asyncio.to_thread(get, self.address, path, accept)

    async def passing(self) -> list[str]:
        """Return the probes that pass."""
        answers = {path: (await self.get(path)).status for path in PROBES}
        assert set(answers.values()) <= {200, 503}
        return [path for path, status in answers.items() if status == 200]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.address = str(await made.server.open(Address("127.0.0.1", 0)))
    yield made
    made.status.may_end.set()
    await made.server.close()


async def test_the_probes_follow_the_role(site: Site) -> None:
    assert await site.passing() == ["/livez"]
    assert "connecting" in (await site.get("/readyz")).text
    site.state.role = "standby"
    assert await site.passing() == ["/livez", "/readyz", "/standby"]
    site.state.role = "leader"
    assert await site.passing() == ["/livez", "/readyz", "/leader"]


async def test_a_heartbeat_that_stops_fails_the_liveness_probe(site: Site) -> None:
    site.clock.ahead += http_endpoints.TICK_LIMIT - 10
    assert (await site.get("/livez")).status == 200
    site.clock.ahead += 20
    answer = await site.get("/livez")
    assert answer.status == 503
    assert re.fullmatch(r"the last tick was 7\d(\.\d)?s ago\n", answer.text)
    site.state.tick()
    assert (await site.get("/livez")).status == 200


async def test_a_hung_event_loop_answers_no_probe(site: Site) -> None:
    failed = threading.Event()

    def probe() -> None:
        try:
            get(site.address, "/livez", timeout=0.5)
        except TimeoutError:
            failed.set()

    asking = threading.Thread(target=probe)
    asking.start()
    assert failed.wait(10), "the loop stands still here"
    asking.join()
    assert (await site.get("/livez")).status == 200


async def test_metrics_come_in_the_format_that_is_asked_for(site: Site) -> None:
    plain, other = await site.get("/metrics"), await site.get("/metrics", OPENMETRICS)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert other.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    for accept in ("", OPENMETRICS):
        found = await asyncio.to_thread(scrape, site.address, accept)
        assert found.value("leader") == 0
    strange = await site.get("/metrics", "application/openmetrics-text; version=1.x")
    assert strange.headers["content-type"] == plain.headers["content-type"]


async def test_the_status_is_read_once_for_all_who_ask_at_a_time(site: Site) -> None:
    site.status.may_end.clear()
    asked = [asyncio.create_task(site.get("/status")) for _ in range(5)]
    while not site.status.reads:  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.005)
    assert (await site.get("/livez")).status == 200, "the loop does not wait for it"
    site.status.may_end.set()
    answers = [await task for task in asked]
    assert {(answer.status, answer.text) for answer in answers} == {(200, '{"healthy": true}')}
    assert answers[0].headers["content-type"] == "application/json"
    await site.get("/status")
    assert site.status.reads == 1
    site.clock.ahead += http_endpoints.STATUS_FRESH + 1
    await site.get("/status")
    assert site.status.reads == 2


async def test_a_status_that_cannot_be_read_says_why(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, text in ((PgreactError("no server"), "no server"), (KeyError("x"), "KeyError: 'x'")):
        site.status.error = error
        site.clock.ahead += http_endpoints.STATUS_FRESH + 1
        answer = await site.get("/status")
        assert (answer.status, json.loads(answer.text)) == (503, {"error": text})
    monkeypatch.setattr(http_endpoints, "STATUS_DEADLINE", 0.1)
    site.clock.ahead += http_endpoints.STATUS_FRESH + 1
    site.status.may_end.clear()
    answer = await site.get("/status")
    assert (answer.status, json.loads(answer.text)) == (503, {"error": "not read within 100ms"})
    await site.get("/status")
    assert site.status.reads == 3, "no second thread while one waits"
