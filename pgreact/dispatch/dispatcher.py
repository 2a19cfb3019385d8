"""The dispatcher: runs the flight of each route with timers, publishes and log events."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import uuid4

from pgreact import logs, tracing
from pgreact.broker.publisher import PublishFailed
from pgreact.clock import Clock
from pgreact.dispatch import flight as flights
from pgreact.dispatch.action import Action, Published
from pgreact.dispatch.flight import Flight, InFlight, SignalBatch
from pgreact.dispatch.measures import RouteMeasures
from pgreact.dispatch.route import Route
from pgreact.errors import SessionLost

RETRY_BASE = 0.1
RETRY_CAP = 5.0
DROP_PAUSE = 0.5  # seconds until a dropped message is published again: a worker waits to run the task already


class Authority(Protocol):
    """The right to dispatch."""

    async def confirm(self) -> None:
        """Return once it is certain that the right is still held for long enough to publish.

        Raises:
            SessionLost: The right may be lost.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LastDispatch:
    """The last dispatch of a route, for ``pgreact status``."""

    task_id: str
    published: float
    signals: int
    waited: float


class Runner:
    """Runs one route: its flight, its action and its timers. All of it runs in the event loop's thread."""

    def __init__(
        self, route: Route, action: Action, dispatcher: "Dispatcher", error: str | None = None
    ) -> None:
        self.route = route
        self.action = action
        self.flight = Flight()
        self.last: LastDispatch | None = None
        self.dispatches = 0
        self.error = error  # why the last publish failed
        self.removed = False
        self.measures = dispatcher.measures.setdefault(route.name, RouteMeasures())
        # since then no worker has reported the start of the task (single_flight = "run")
        self.unstarted_since: float | None = None
        self._dispatcher = dispatcher
        self._next_task_id = str(uuid4())  # Celery's id of the next call
        self._due: asyncio.TimerHandle | None = None  # of the next publish
        self._again: asyncio.TimerHandle | None = None  # of a signal that the action asked for
        self._found: str | None = None  # the reason of the sweep that gave the only signal
        self._traces: list[str] = []  # contexts of pending signals

    def signal(self, signals: int = 1, traceparent: str | None = None) -> None:
        """Mark the route dirty, and publish if it is time.

        Args:
            signals: How many.
            traceparent: The trace context of the signal, if it is known.
        """
        if traceparent is not None and len(self._traces) < tracing.MAX_LINKS:
            self._traces.append(traceparent)
        if self.flight.pending is None and logs.shows(logs.SignalReceived):
            logs.emit(logs.SignalReceived(route=self.route.name))
        self.measures.signals += signals
        self.flight = flights.signalled(self.flight, self._dispatcher.clock.monotonic(), signals)
        self.advance()

    def found(self, reason: str) -> None:
        """Signal the route, since the ready query of a sweep returned true.

        Args:
            reason: Of the sweep.
        """
        flight = self.flight
        if flight.pending is None and flight.publishing is None and flight.in_flight is None:
            self._found = reason
        self.signal()

    def advance(self) -> None:
        """Begin a publish if one is due, or set the timer for it."""
        _cancel(self._due)
        loop = asyncio.get_running_loop()
        at = flights.due(self.flight, self.route.window)
        if at is not None and not self._dispatcher.closing and not self.removed:
            wait = at - self._dispatcher.clock.monotonic()
            if wait > 0:
                self._due = loop.call_later(wait, self.advance)
            else:
                self._begin_publish()
        # not before the publish has begun: a commit waits for it
        loop.call_soon(self._dispatcher.on_change, self)

    def stop_timers(self) -> None:
        """Begin nothing more by time."""
        _cancel(self._due)
        _cancel(self._again)

    def run_changed(self, task_id: str, state: str) -> None:
        """Take note of a worker's report of a run.

        Args:
            task_id: Celery's id of the call.
            state: ``started``, ``done``, ``failed``, or ``dropped``, of its message.
        """
        before, now = self.flight, self._dispatcher.clock.monotonic()
        if state == "started":
            self.flight = flights.run_started(before, task_id)
        elif state == "dropped":
            self.flight = flights.message_dropped(before, task_id, now, DROP_PAUSE)
        else:
            self.flight = flights.run_ended(before, task_id)
        if before.in_flight is not None and self.flight != before:
            if state == "started":
                waited = round((now - before.in_flight.began) * 1000, 3)
                logs.emit(logs.FlightStarted(route=self.route.name, task_id=task_id, waited_ms=waited))
                self.unstarted_since = None
            else:
                self._log_end(before.in_flight, state)
        self.advance()

    def locks_read(self, *, held: bool) -> None:
        """Take note of the route's locks.

        Args:
            held: A worker runs the task, or waits to.
        """
        in_flight = self.flight.in_flight
        self.flight, outcome = flights.locks_read(self.flight, self._dispatcher.clock.monotonic(), held=held)
        if outcome is None or in_flight is None:
            return
        self._log_end(in_flight, outcome)
        if outcome == "expired":
            if self.unstarted_since is None:
                hint = "are workers up, and does the application call pgreact.setup(app)?"
                task_id = in_flight.task_id
                logs.emit(logs.FlightUnstarted(route=self.route.name, task_id=task_id, hint=hint))
            self.unstarted_since = self.unstarted_since or in_flight.began
        self.advance()

    def locks_due(self) -> float | None:
        """Return from when the route's locks tell whether the flight goes on; ``None``: no flight."""
        in_flight = self.flight.in_flight
        if in_flight is None or self.flight.publishing is not None:
            return None
        return in_flight.began if in_flight.started else in_flight.expires

    def _begin_publish(self) -> None:
        _cancel(self._again)
        task_id, self._next_task_id = self._next_task_id, str(uuid4())
        expires_after = self.route.expires or math.inf
        now = self._dispatcher.clock.monotonic()
        self.flight = flights.publish_began(self.flight, now, task_id, expires_after)
        batch = self.flight.publishing
        assert batch is not None
        found, self._found = (self._found if batch.signals == 1 else None), None
        self._dispatcher.start(self._publish(batch, task_id, found))

    async def _publish(self, batch: SignalBatch, task_id: str, found: str | None) -> None:
        clock = self._dispatcher.clock
        traces, self._traces = self._traces, []
        try:
            await self._dispatcher.authority.confirm()
            began = clock.monotonic()
            claimed = await self.action.publish(task_id, self._next_task_id, traces)
        except SessionLost:
            return  # the next leader sweeps
        except PublishFailed as error:
            self._traces = (traces + self._traces)[: tracing.MAX_LINKS]
            self._publish_failed(str(error))
        except Exception as error:  # noqa: BLE001 - a mistake in one route's dispatch stops no other
            self._publish_failed(f"{type(error).__name__}: {error}")
        else:
            now = clock.monotonic()
            if self.error is not None:
                logs.emit(logs.DispatchRecovered(route=self.route.name, failures=self.flight.failures))
            self.flight = flights.published(self.flight, follow=self.route.single_flight == "run")
            self.error = None
            if claimed is None:
                self.measures.published += 1
                self._measure(batch, Published(began, now), found)
                self._log_published(batch, task_id, began, now)
            else:
                self.measures.claimed += 1
                if claimed.published is not None:
                    self._measure(batch, claimed.published, found)
                if claimed.again_in is not None:
                    self._signal_in(claimed.again_in)
        self.advance()

    def _measure(self, batch: SignalBatch, published: Published, found: str | None) -> None:
        self.measures.wait.observe(published.confirmed - batch.since)
        self.measures.publish.observe(published.confirmed - published.began)
        # the signal of a commit just before the sweep has come meanwhile
        if found is not None and self.flight.pending is None:
            self.measures.sweep_finds[found] += 1

    def _signal_in(self, seconds: float) -> None:
        if seconds <= 0:
            self.signal()
        elif not self._dispatcher.closing and not self.removed:
            self._again = asyncio.get_running_loop().call_later(seconds, self.signal)

    def _publish_failed(self, error: str) -> None:
        clock = self._dispatcher.clock
        delay = clock.backoff(self.flight.failures + 1, base=RETRY_BASE, cap=RETRY_CAP)
        self.flight = flights.publish_failed(self.flight, clock.monotonic(), delay)
        self.measures.failed += 1
        if error != self.error:
            logs.emit(logs.DispatchFailed(route=self.route.name, error=error, retry_in_s=round(delay, 3)))
        self.error = error

    def _log_published(self, batch: SignalBatch, task_id: str, began: float, now: float) -> None:
        self.dispatches += 1
        self.last = LastDispatch(task_id, now, batch.signals, now - batch.since)
        logs.emit(
            logs.DispatchPublished(
                route=self.route.name,
                task_id=task_id,
                signals=batch.signals,
                waited_ms=round((now - batch.since) * 1000, 3),
                publish_ms=round((now - began) * 1000, 3),
            )
        )

    def _log_end(self, in_flight: InFlight, outcome: str) -> None:
        took = round((self._dispatcher.clock.monotonic() - in_flight.began) * 1000, 3)
        logs.emit(
            logs.FlightEnded(route=self.route.name, task_id=in_flight.task_id, outcome=outcome, took_ms=took)
        )


class Dispatcher:
    """The runners of all routes, for one leader's term.

    Leaving it waits for the publishes in hand and begins no other.
    """

    def __init__(
        self,
        actions: Callable[[Route], Action],
        authority: Authority,
        clock: Clock,
        routes: Mapping[int, Route],
        errors: Mapping[int, str] | None = None,
        measures: dict[str, RouteMeasures] | None = None,
    ) -> None:
        """Make a runner for each route; nothing is published yet.

        Args:
            actions: Returns the action of a route.
            authority: The right to publish.
            clock: Measures.
            routes: By id.
            errors: What failed when the previous leader ended, by route: logged when it is over.
            measures: By the name of the route: earlier terms of this process counted here.
        """
        self.measures = {} if measures is None else measures
        self.authority = authority
        self.clock = clock
        self.on_change: Callable[[Runner], None] = lambda _runner: None
        self.closing = False
        self._actions = actions
        self.runners = {
            route_id: Runner(route, actions(route), self, (errors or {}).get(route_id))
            for route_id, route in routes.items()
        }
        self._publishes: set[asyncio.Task[None]] = set()

    @property
    def routes(self) -> dict[int, Route]:
        """The routes in force, by id."""
        return {route_id: runner.route for route_id, runner in self.runners.items()}

    def signal(self, route_id: int, traceparent: str | None = None) -> bool:
        """Mark a route dirty; return whether the route exists.

        Args:
            route_id: The route's id.
            traceparent: The trace context of the signal, if it is known.
        """
        runner = self.runners.get(route_id)
        if runner is None:
            return False
        runner.signal(traceparent=traceparent)
        return True

    def reroute(self, routes: Mapping[int, Route]) -> None:
        """Put routes in force; the flights of routes that stay go on.

        Args:
            routes: All of them, by id.
        """
        for gone in self.runners.keys() - routes.keys():
            runner = self.runners.pop(gone)
            runner.removed = True
            runner.stop_timers()
            logs.emit(logs.RouteChanged(route=runner.route.name, change="removed", keys=[]))
        for route_id, route in routes.items():
            known = self.runners.get(route_id)
            if known is None:
                self.runners[route_id] = Runner(route, self._actions(route), self)
                logs.emit(logs.RouteChanged(route=route.name, change="added", keys=[]))
            elif keys := known.route.changed(route):
                known.route, known.action = route, self._actions(route)
                known.measures = self.measures.setdefault(route.name, RouteMeasures())
                if route.single_flight == "publish" and known.flight.publishing is None:
                    known.flight = dataclasses.replace(known.flight, in_flight=None)
                logs.emit(logs.RouteChanged(route=route.name, change="changed", keys=keys))
                known.advance()

    def start(self, publish: Coroutine[Any, Any, None]) -> None:
        """Run a publish in a task of its own."""
        task = asyncio.get_running_loop().create_task(publish, name="publish")
        self._publishes.add(task)
        task.add_done_callback(self._publishes.discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing = True
        for runner in self.runners.values():
            runner.stop_timers()
        if self._publishes:
            await asyncio.wait(self._publishes)  # each has a deadline of its own


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
