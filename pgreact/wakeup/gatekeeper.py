"""The gatekeeper: closes, polls and opens the gates of all routes, for one leader's term."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping

from pgreact import logs
from pgreact.clock import Clock
from pgreact.dispatch.dispatcher import Runner
from pgreact.errors import SessionLost
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry
from pgreact.quantities import format_duration
from pgreact.wakeup import gate as gates
from pgreact.wakeup.gate import Gate, Meter, Reading
from pgreact.wakeup.leadership import Candidate

DRAIN_PAUSE_CAP = 0.5  # seconds between two polls for a transaction that takes very long


class RouteGate:
    """One route's gate, with its meter and its next poll."""

    def __init__(self, runner: Runner, now: float) -> None:
        self.runner = runner
        self.setting = runner.route.gate
        self.gate = Gate(since=now)
        self.meter = Meter()
        self.polls = 0
        self.next_poll = now
        self.to_close = False  # notifications come too fast
        self.to_set = False  # it is polled, but S may not be set to CLOSED yet: writers may still notify


class Gatekeeper:
    """Keeps the gates of all routes.

    S is set in the session that holds the leadership, so that no deposed leader sets it. Polls have a session
    of their own, which no slow query holds up.
    """

    def __init__(
        self,
        candidate: Candidate,
        session: Session,
        clock: Clock,
        sweep: Callable[[Runner, str], None],
        changed: Callable[[Runner], None],
        troubles: Troubles,
        suspended: str | None = None,
    ) -> None:
        """Nothing is read or set yet; see :meth:`take_over`.

        Args:
            candidate: The session that holds the leadership.
            session: For the polls.
            clock: Measures.
            sweep: Asks for a sweep of a route, with a reason for the log.
            changed: A gate was opened or closed.
            troubles: Gets failures to read or set gates.
            suspended: Why notifications are not used, if so; see :meth:`suspend`.
        """
        self._suspended = suspended
        self._trouble = troubles["gates"]
        self._poll_trouble = troubles["gate polls"]
        self._set_after = 0.0  # setting S failed, and is not tried before then
        self._candidate = candidate
        self._session = session
        self._clock = clock
        self._sweep = sweep
        self._changed = changed
        self._gates: dict[int, RouteGate] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()  # the order of reads is the protocol: nothing comes between them

    def notified(self, route_id: int) -> None:
        """Count a notification of a route."""
        gate = self._gates.get(route_id)
        if gate is None or gate.setting != "auto" or gate.to_close or gate.gate.mode == "polling":
            return
        if gate.meter.exceeds(gate.runner.route.gate_close_rate, self._clock.monotonic()):
            gate.to_close = True
            self._wake.set()

    async def take_over(self, runners: Iterable[Runner], reason: str) -> None:
        """Open gates, list the writers that may have skipped a NOTIFY, then sweep.

        Called after an election, and for new routes. The sweep comes last: neither a sweep nor a later list
        would find a transaction that skips and ends between the two.

        Raises:
            SessionLost: A session is gone.
            Exception: The server refused; then all of it is to be done again.
        """
        async with self._turn:
            taken = [RouteGate(runner, self._clock.monotonic()) for runner in runners]
            self._gates.update({gate.runner.route.id: gate for gate in taken})
            await self._set_open(taken)
            await self._close_where_closed(taken)
            for gate in taken:
                self._sweep(gate.runner, reason)

    async def follow(self, runners: Mapping[int, Runner]) -> None:
        """Take note of routes that are new, gone, or whose setting ``gate`` changed.

        Raises:
            SessionLost: A session is gone.
            Exception: The server refused; then it is to be done again.
        """
        await self.take_over([runner for i, runner in runners.items() if i not in self._gates], "added")
        async with self._turn:
            for gone in self._gates.keys() - runners.keys():
                del self._gates[gone]
            for gate in self._gates.values():
                if gate.setting != gate.runner.route.gate:
                    await self._open(gate, "setting changed")
                    gate.setting = gate.runner.route.gate
                    await self._close_where_closed([gate])

    async def suspend(self, reason: str | None) -> None:
        """Close and poll all gates that are not set open, or let them open again when it is quiet.

        Args:
            reason: Why notifications are not used; ``None``: they are used again.

        Raises:
            SessionLost: A session is gone.
        """
        async with self._turn:
            self._suspended = reason
            await self._close_where_closed([g for g in self._gates.values() if g.gate.mode != "polling"])

    async def run(self) -> None:
        """Keep the gates, for ever.

        Raises:
            SessionLost: A session is gone.
        """
        while True:
            await retry(self._poll_trouble, self._poll_when_due)

    async def _poll_when_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_poll()):
                await self._wake.wait()
        self._wake.clear()
        async with self._turn:
            await self._poll()

    def gate(self, route_id: int) -> Gate | None:
        """Return the state of a route's gate, for ``pgreact status``."""
        gate = self._gates.get(route_id)
        return gate.gate if gate else None

    # ---- polling ---------------------------------------------------------------------------------------

    def _until_next_poll(self) -> float | None:
        polls = [gate.next_poll for gate in self._gates.values() if gate.gate.mode != "open"]
        return max(0.0, min(polls) - self._clock.monotonic()) if polls else None

    async def _poll(self) -> None:
        now = self._clock.monotonic()
        due = [gate for gate in self._gates.values() if gate.gate.mode != "open" and gate.next_poll <= now]
        readings = await self._read(due)
        now = self._clock.monotonic()
        for gate, reading in zip(due, readings, strict=True):
            mode = gate.gate.mode
            if mode == "polling":
                gate.polls += 1
                gate.gate, active = gates.polled(gate.gate, reading, now)
            else:
                gate.gate, active = gates.drained(gate.gate, reading.holders, now)
            if active:
                gate.runner.signal()
            if gate.gate.mode != mode:
                self._changed(gate.runner)
            gate.next_poll = now + self._pause(gate, now)
        if now >= self._set_after:
            try:
                await self._set_where_due(due, now)
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - polls and drains must go on, whatever it is
                self._set_after = self._clock.monotonic() + self._trouble.failed(error)

    async def _set_where_due(self, polled: list[RouteGate], now: float) -> None:
        await self._set_closed([gate for gate in polled if gate.to_set], None)
        for gate in polled:
            quiet = now - max(gate.gate.active_at, gate.gate.since)
            calm = gate.gate.mode == "polling" and quiet >= gate.runner.route.gate_open_after
            if calm and not self._stays_closed(gate):
                await self._open(gate, f"quiet for {format_duration(round(quiet, 1))}")
        for gate in self._gates.values():
            if gate.to_close:
                reason = f"more than {gate.runner.route.gate_close_rate} notifications a second"
                await self._close([gate], reason, gates.CLOSED)

    def _pause(self, gate: RouteGate, now: float) -> float:
        poll = gate.runner.route.gate_poll
        if gate.gate.mode == "polling":
            return poll
        # a writer may drain for hours: do not poll 25 times a second for that long
        return max(poll, min(DRAIN_PAUSE_CAP, (now - gate.gate.since) / 10))

    async def _read(self, route_gates: list[RouteGate]) -> list[Reading]:
        if not route_gates:
            return []
        (row,) = await self._session.fetch("select * from pgreact.poll_gates($1)", _ids(route_gates))
        return _readings(route_gates, row["sequence_values"], row["holders"])

    # ---- closing and opening ---------------------------------------------------------------------------

    async def _close(self, route_gates: list[RouteGate], reason: str, sequence_value: int | None) -> None:
        now = self._clock.monotonic()
        for gate in route_gates:
            # polled from now on, even if setting S fails: it may be set all the same
            gate.gate = gates.closed(gate.gate, None, now)
            gate.to_set = True
            gate.polls = 0
            gate.to_close = False
            gate.next_poll = now + gate.runner.route.gate_poll
            logs.emit(logs.GateClosed(route=gate.runner.route.name, reason=reason))
            self._changed(gate.runner)
        self._wake.set()
        await self._set_closed(route_gates, sequence_value)

    async def _set_closed(self, route_gates: list[RouteGate], sequence_value: int | None) -> None:
        """Set S of polled gates so that writers skip their NOTIFY.

        Args:
            route_gates: The gates.
            sequence_value: The value of S then; ``None`` if a writer may have skipped before that.
        """
        await self._set(route_gates, gates.CLOSED)
        for gate in route_gates:
            gate.gate = dataclasses.replace(gate.gate, sequence_value=sequence_value)
            gate.to_set = False

    async def _open(self, gate: RouteGate, reason: str) -> None:
        before = gate.gate
        # should it fail, the numbers taken since the last poll are unknown
        gate.gate = dataclasses.replace(before, sequence_value=None)
        (reading,) = await self._set_open([gate])
        if before.mode == "polling":
            closed_s = round(self._clock.monotonic() - before.since, 3)
            logs.emit(
                logs.GateOpened(
                    route=gate.runner.route.name, reason=reason, closed_s=closed_s, polls=gate.polls
                )
            )
            self._changed(gate.runner)
        if before.mode != "polling" or before.sequence_value is None:
            self._sweep(gate.runner, "opened")  # no reading to compare with
        elif gates.activity(before, reading):
            gate.runner.signal()

    async def _set_open(self, route_gates: list[RouteGate]) -> list[Reading]:
        readings = await self._set(route_gates, gates.OPEN)
        now = self._clock.monotonic()
        for gate, reading in zip(route_gates, readings, strict=True):
            gate.gate = gates.opened(gate.gate, reading.holders, now)
            gate.next_poll = now
            gate.meter.reset()
            gate.to_close = gate.to_set = False
        self._wake.set()
        return readings

    async def _close_where_closed(self, route_gates: list[RouteGate]) -> None:
        """Close and poll the gates that are to stay closed.

        Where a gate is set closed the writers skip anyway: their triggers do not compare S. But
        ``pgreact.signal`` goes by S.
        """
        for reason, closed in (
            ("set closed", [gate for gate in route_gates if gate.setting == "closed"]),
            (self._suspended, [g for g in route_gates if g.setting == "auto" and self._suspended]),
        ):
            await self._close(closed, reason or "", None)

    def _stays_closed(self, gate: RouteGate) -> bool:
        return gate.setting == "closed" or (gate.setting == "auto" and self._suspended is not None)

    async def _set(self, route_gates: list[RouteGate], sequence_value: int) -> list[Reading]:
        if not route_gates:
            return []
        row = await self._candidate.set_gates(_ids(route_gates), sequence_value)
        self._trouble.recovered()
        return _readings(route_gates, row["sequence_values"], row["holders"], undisturbed=row["undisturbed"])


def _ids(route_gates: list[RouteGate]) -> list[int]:
    return [gate.runner.route.id for gate in route_gates]


def _readings(
    route_gates: list[RouteGate], sequence_values: str, holders: str, *, undisturbed: bool = True
) -> list[Reading]:
    """Return one reading per gate from the JSON of ``poll_gates`` or ``set_gates``."""
    value_of, holders_of = json.loads(sequence_values), json.loads(holders)
    keys = [str(route_id) for route_id in _ids(route_gates)]
    return [Reading(value_of[key], frozenset(holders_of.get(key, ())), undisturbed) for key in keys]
