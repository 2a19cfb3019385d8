"""The shell around the flights: timers, publishes, and a word in the log."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import uuid4

from pgreact import logs
from pgreact.broker.publisher import Publisher, PublishFailed
from pgreact.clock import Clock
from pgreact.dispatch import flight as flights
from pgreact.dispatch.flight import Airborne, Flight, Load
from pgreact.dispatch.route import Route
from pgreact.errors import SessionLost

RETRY_BASE = 0.1
RETRY_CAP = 5.0
DROP_PAUSE = 0.5  # seconds until a message that was dropped is published again: somebody waits to run


class Authority(Protocol):
    """The right to dispatch."""

    async def confirm(self) -> None:
        """Return once it is certain that the right is still held for long enough to publish.

        Raises:
            SessionLost: It is not.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Last:
    """The last dispatch of a route, for ``pgreact status``."""

    task_id: str
    published: float
    signals: int
    waited: float


class Runner:
    """One route's flight and what moves it. Everything runs in the event loop's thread."""

    def __init__(self, route: Route, owner: "Dispatcher", error: str | None = None) -> None:
        self.route = route
        self.flight = Flight()
        self.last: Last | None = None
        self.dispatches = 0
        self.error = error  # why the last publish failed
        self.removed = False
        self.unanswered_since: float | None = None  # no worker that knows pgreact has begun a task since
        self._owner = owner
        self._following = str(uuid4())  # Celery's id of the next call
        self._timer: asyncio.TimerHandle | None = None

    def signal(self, signals: int = 1) -> None:
        """Something changed for the route."""
        if self.flight.owed is None and logs.shows(logs.SignalReceived):
            logs.emit(logs.SignalReceived(route=self.route.name))
        self.flight = flights.signalled(self.flight, self._owner.clock.monotonic(), signals)
        self.advance()

    def advance(self) -> None:
        """Publish if it is time, or set the timer for when it will be."""
        self.rest()
        loop = asyncio.get_running_loop()
        at = flights.due(self.flight, self.route.window)
        if at is not None and not self._owner.closing and not self.removed:
            wait = at - self._owner.clock.monotonic()
            if wait > 0:
                self._timer = loop.call_later(wait, self.advance)
            else:
                self._depart()
        # not before the publish has begun: a commit's way to Celery leads through here
        loop.call_soon(self._owner.on_change, self)

    def _depart(self) -> None:
        task_id, self._following = self._following, str(uuid4())
        lasts = self.route.expires or math.inf
        self.flight = flights.begun(self.flight, self._owner.clock.monotonic(), task_id, lasts)
        assert self.flight.carried is not None
        self._owner.start(self._publish(self.flight.carried, task_id))

    def rest(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def told(self, task_id: str, word: str) -> None:
        """A worker tells of a flight: started, done, failed or dropped."""
        flight, now = self.flight, self._owner.clock.monotonic()
        if word == "started":
            self.flight = flights.started(flight, task_id)
            if flight.airborne is not None and self.flight != flight:
                waited = round((now - flight.airborne.departed) * 1000, 3)
                logs.emit(logs.FlightStarted(route=self.route.name, task_id=task_id, waited_ms=waited))
                self.unanswered_since = None
        elif word == "dropped":
            self.flight = flights.dropped(flight, task_id, now, DROP_PAUSE)
        else:
            self.flight = flights.ended(flight, task_id)
        if flight.airborne is not None and self.flight != flight and word != "started":
            self._landed(flight.airborne, word)
        self.advance()

    def looked(self, *, held: bool) -> None:
        """The route's locks were read: does a worker run its task, or wait to?"""
        flight, now = self.flight, self._owner.clock.monotonic()
        self.flight, outcome = flights.looked(flight, now, held=held)
        if outcome is None or flight.airborne is None:
            return
        self._landed(flight.airborne, outcome)
        if outcome == "expired":
            if self.unanswered_since is None:
                hint = "are workers up, and does the application call pgreact.setup(app)?"
                task_id = flight.airborne.task_id
                logs.emit(logs.FlightUnstarted(route=self.route.name, task_id=task_id, hint=hint))
            self.unanswered_since = self.unanswered_since or flight.airborne.departed
        self.advance()

    def look_due(self) -> float | None:
        """Return from when somebody should look whether the flight still goes on."""
        airborne = self.flight.airborne
        if airborne is None or self.flight.carried is not None:
            return None
        return airborne.departed if airborne.started else airborne.expires

    def _landed(self, airborne: Airborne, outcome: str) -> None:
        took = round((self._owner.clock.monotonic() - airborne.departed) * 1000, 3)
        logs.emit(
            logs.FlightEnded(route=self.route.name, task_id=airborne.task_id, outcome=outcome, took_ms=took)
        )

    async def _publish(self, load: Load, task_id: str) -> None:
        clock = self._owner.clock
        try:
            await self._owner.authority.confirm()
            began = clock.monotonic()
            sent = await self._owner.publisher.publish(self.route, task_id, self._following)
        except SessionLost:
            return  # whoever leads next sweeps
        except PublishFailed as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - a mistake in one route's dispatch stops no other
            self._failed(f"{type(error).__name__}: {error}")
        else:
            now = clock.monotonic()
            if self.error is not None:
                logs.emit(logs.DispatchRecovered(route=self.route.name, failures=self.flight.failures))
            self.flight = flights.published(self.flight, follow=self.route.single_flight == "run")
            self.error = None
            if sent:
                self._tell(load, task_id, began, now)
        self.advance()

    def _tell(self, load: Load, task_id: str, began: float, now: float) -> None:
        self.dispatches += 1
        self.last = Last(task_id, now, load.signals, now - load.since)
        logs.emit(
            logs.DispatchPublished(
                route=self.route.name,
                task_id=task_id,
                signals=load.signals,
                waited_ms=round((now - load.since) * 1000, 3),
                publish_ms=round((now - began) * 1000, 3),
            )
        )

    def _failed(self, error: str) -> None:
        clock = self._owner.clock
        delay = clock.backoff(self.flight.failures + 1, base=RETRY_BASE, cap=RETRY_CAP)
        self.flight = flights.failed(self.flight, clock.monotonic(), delay)
        if error != self.error:
            logs.emit(logs.DispatchFailed(route=self.route.name, error=error, retry_in_s=round(delay, 3)))
        self.error = error


class Dispatcher:
    """All routes of one leader's term. Leaving it waits for the publish in hand and starts no other."""

    def __init__(
        self,
        publisher: Publisher,
        authority: Authority,
        clock: Clock,
        routes: Mapping[int, Route],
        errors: Mapping[int, str] | None = None,
    ) -> None:
        """Nothing is published yet.

        Args:
            publisher: Of the calls.
            authority: The right to publish them.
            clock: Measures.
            routes: By id.
            errors: What failed when the leader before ended, by route: to be told when it is over.
        """
        self.publisher = publisher
        self.authority = authority
        self.clock = clock
        self.on_change: Callable[[Runner], None] = lambda _runner: None
        self.closing = False
        self.runners = {
            route_id: Runner(route, self, (errors or {}).get(route_id)) for route_id, route in routes.items()
        }
        self._publishing: set[asyncio.Task[None]] = set()

    @property
    def routes(self) -> dict[int, Route]:
        """The routes as they are now, by id."""
        return {route_id: runner.route for route_id, runner in self.runners.items()}

    def signal(self, route_id: int) -> bool:
        """Mark a route dirty; return whether there is such a route."""
        runner = self.runners.get(route_id)
        if runner is None:
            return False
        runner.signal()
        return True

    def reroute(self, routes: Mapping[int, Route]) -> None:
        """Take over the routes as they are now, keeping the flights of those that stay."""
        for gone in self.runners.keys() - routes.keys():
            runner = self.runners.pop(gone)
            runner.removed = True
            runner.rest()
            logs.emit(logs.RouteChanged(route=runner.route.name, change="removed", keys=[]))
        for route_id, route in routes.items():
            known = self.runners.get(route_id)
            if known is None:
                self.runners[route_id] = Runner(route, self)
                logs.emit(logs.RouteChanged(route=route.name, change="added", keys=[]))
            elif keys := known.route.changed(route):
                known.route = route
                if route.single_flight == "publish" and known.flight.carried is None:
                    known.flight = dataclasses.replace(known.flight, airborne=None)
                logs.emit(logs.RouteChanged(route=route.name, change="changed", keys=keys))
                known.advance()

    def start(self, publish: Coroutine[Any, Any, None]) -> None:
        """Run a publish beside everything else."""
        task = asyncio.get_running_loop().create_task(publish, name="publish")
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Start nothing more, and wait for what is in hand: it has a deadline of its own."""
        self.closing = True
        for runner in self.runners.values():
            runner.rest()
        if self._publishing:
            await asyncio.wait(self._publishing)
