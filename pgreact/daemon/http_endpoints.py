"""The daemon's paths over HTTP: probes, metrics and status.

============ =========================================================================================
path         is 200 while
============ =========================================================================================
``/livez``   event loop and heartbeat go on: a tick came within 60 s. It runs no SQL, since a restart
             helps no daemon whose database is away
``/readyz``  the daemon leads or stands by
``/leader``  it leads
``/standby`` it stands by
``/metrics`` always
``/status``  the status can be read; the body is that of ``pgreact status --json``
============ =========================================================================================

Otherwise the answer is 503, with the reason.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client.exposition import choose_encoder

from pgreact.daemon.http_server import Handler, Request, Response
from pgreact.daemon.metrics import Encoder, Exposition, render
from pgreact.daemon.metrics_daemon import put_daemon
from pgreact.daemon.metrics_sampler import Sample, Sampler
from pgreact.daemon.metrics_workers import WorkerMetrics
from pgreact.daemon.state import DaemonState
from pgreact.dispatch.registration_monitor import CeleryWorkers
from pgreact.errors import PgreactError
from pgreact.postgres.trouble import Troubles
from pgreact.quantities import format_duration

TICK_LIMIT = 60.0  # seconds without a tick after which the daemon counts as hung
STATUS_FRESH = 1.0  # seconds that a status is shown again
STATUS_DEADLINE = 5.0  # seconds that a request waits for it
_END = b"# EOF\n"


class Endpoints:
    """Answers the requests of one daemon."""

    def __init__(
        self,
        state: DaemonState,
        dsn: str,
        workers: CeleryWorkers,
        troubles: Troubles,
        read_status: Callable[[], str],
    ) -> None:
        """Read nothing yet.

        Args:
            state: Of the daemon.
            dsn: Straight to the primary server.
            workers: The application's.
            troubles: Gets what fails.
            read_status: Returns the JSON of the status; it blocks, and runs in a thread.
        """
        self._state = state
        self._sampler = Sampler(dsn, state.clock, troubles, self._prepare)
        self._workers = WorkerMetrics(workers, self._sampler, state.clock, troubles)
        self._status = _StatusReader(state, read_status)
        self._encoder, self._content_type = choose_encoder("")
        self._prepared: tuple[Sample, str, bytes] | None = (
            None  # the last sample, in the format last asked for
        )

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers, by path."""
        return {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/leader": self._leader,
            "/standby": self._standby,
            "/metrics": self._metrics,
            "/status": self._status.handle,
        }

    async def observe_term(self) -> None:
        """Read database and workers while metrics are scraped, for as long as this daemon leads."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sampler.run(), name="sampler")
            group.create_task(self._workers.run(), name="worker metrics")

    async def _livez(self, _request: Request) -> Response:
        silent = self._state.clock.monotonic() - self._state.ticked_at
        shown = format_duration(round(silent, 1))
        return _probe(f"the last tick was {shown} ago", passes=silent <= TICK_LIMIT)

    async def _readyz(self, _request: Request) -> Response:
        return _probe(self._role, passes=self._state.role is not None)

    async def _leader(self, _request: Request) -> Response:
        return _probe(self._role, passes=self._state.role == "leader")

    async def _standby(self, _request: Request) -> Response:
        return _probe(self._role, passes=self._state.role == "standby")

    @property
    def _role(self) -> str:
        return self._state.role or "connecting to the database"

    async def _metrics(self, request: Request) -> Response:
        self._sampler.scraped()
        try:
            self._encoder, self._content_type = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # a version that is no number
            self._encoder, self._content_type = choose_encoder("")
        encoder: Encoder = self._encoder
        content_type = self._content_type
        own = Exposition()
        put_daemon(own, self._state)
        sample = self._sampler.sample if self._state.role == "leader" else None
        if sample is not None:
            own.put("sample_age_seconds", self._state.clock.monotonic() - sample.at)
        if self._state.role == "leader":
            self._workers.put(own)
        text = await render(own, encoder)
        if sample is not None:
            text += await self._render(sample, encoder, content_type)
        if content_type.startswith("application/openmetrics-text"):
            text += _END
        return Response(HTTPStatus.OK, text, content_type)

    async def _prepare(self, sample: Sample) -> None:
        """Format a sample ahead of the next scrape."""
        await self._render(sample, self._encoder, self._content_type)

    async def _render(self, sample: Sample, encoder: Encoder, content_type: str) -> bytes:
        prepared = self._prepared
        if prepared is None or prepared[0] is not sample or prepared[1] != content_type:
            prepared = self._prepared = sample, content_type, await render(sample.exposition, encoder)
        return prepared[2]


def _probe(reason: str, *, passes: bool) -> Response:
    status = HTTPStatus.OK if passes else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(status, f"{reason}\n".encode())


class _StatusReader:
    """Reads the status in a thread of its own: one at a time, and none within a second of the last."""

    def __init__(self, state: DaemonState, read: Callable[[], str]) -> None:
        self._clock = state.clock
        self._read = read
        self._reading: asyncio.Future[Response] | None = None
        self._last: tuple[float, Response] | None = None

    async def handle(self, _request: Request) -> Response:
        if self._last is not None and self._clock.monotonic() - self._last[0] <= STATUS_FRESH:
            return self._last[1]
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_future()
            # not of an executor: the end of the program would wait for it
            threading.Thread(target=self._run, args=(self._reading,), name="status", daemon=True).start()
        try:
            async with asyncio.timeout(STATUS_DEADLINE):
                return await asyncio.shield(self._reading)
        except TimeoutError:
            limit = format_duration(STATUS_DEADLINE)
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, json.dumps({"error": f"not read within {limit}"}))

    def _run(self, result: "asyncio.Future[Response]") -> None:
        try:
            response = _json(HTTPStatus.OK, self._read())
        except PgreactError as error:
            response = _json(HTTPStatus.SERVICE_UNAVAILABLE, json.dumps({"error": str(error)}))
        except Exception as error:  # noqa: BLE001 - whatever it is, a request waits for an answer
            text = f"{type(error).__name__}: {error}"
            response = _json(HTTPStatus.SERVICE_UNAVAILABLE, json.dumps({"error": text}))
        with contextlib.suppress(RuntimeError):  # the daemon has ended
            result.get_loop().call_soon_threadsafe(self._done, result, response)

    def _done(self, result: "asyncio.Future[Response]", response: Response) -> None:
        self._reading = None
        self._last = self._clock.monotonic(), response
        result.set_result(response)


def _json(status: HTTPStatus, text: str) -> Response:
    return Response(status, text.encode(), "application/json")
