"""The shell around the gates of one leader's term: it counts, reads, asks for B and lets it go."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

from pgreact import logs
from pgreact.clock import Clock
from pgreact.database.session import Session
from pgreact.dispatch.dispatcher import Runner
from pgreact.shipped import query
from pgreact.wakeup import gate as gates
from pgreact.wakeup.gate import Gate, Meter
from pgreact.wakeup.leadership import Candidate

SHUT_PATIENCE = 0.2  # seconds B is asked for in one statement, on the session that others need, too
DRAIN_PAUSE_CAP = 0.5  # seconds between two looks at a transaction that takes very long


class Post:
    """One route's gate, and what the keeper knows of it."""

    def __init__(self, runner: Runner, now: float) -> None:
        self.runner = runner
        self.setting = runner.route.gate
        self.gate = Gate(since=now)
        self.meter = Meter()
        self.wanted = False  # B is to be asked for
        self.ours = False  # the leader's session holds B
        self.polls = 0
        self.next_look = now
        self.rush = False  # notifications come too fast


class Gatekeeper:
    """Keeps the gates of all routes.

    B is asked for in the session that holds the leadership, so that no deposed leader can hold it. Polls have
    a session of their own, which no slow query holds up.
    """

    def __init__(
        self,
        candidate: Candidate,
        session: Session,
        clock: Clock,
        sweep: Callable[[Runner, str], None],
        changed: Callable[[Runner], None],
    ) -> None:
        self._candidate = candidate
        self._session = session
        self._clock = clock
        self._sweep = sweep
        self._changed = changed
        self._posts: dict[int, Post] = {}
        self._wake = asyncio.Event()
        self._ask = asyncio.Event()
        self._turn = asyncio.Lock()  # the order of reads is the protocol: nobody comes between them
        self._asking = asyncio.Lock()

    def notified(self, route_id: int) -> None:
        """A notification of this route has come."""
        post = self._posts.get(route_id)
        if post is None or post.setting != "auto" or post.rush or post.gate.mode == "polling":
            return
        if post.meter.busy(post.runner.route.gate_close_rate, self._clock.monotonic()):
            post.rush = True
            self._wake.set()

    async def take_over(self, runners: Iterable[Runner], reason: str) -> None:
        """List who may have skipped a NOTIFY, then ask for a sweep: after an election, and for new routes.

        The list comes first. A transaction that skips, and ends between a sweep and the list, would be seen
        by neither.

        Raises:
            SessionLost: A session is gone.
        """
        async with self._turn:
            posts = [Post(runner, self._clock.monotonic()) for runner in runners]
            self._posts.update({post.runner.route.id: post for post in posts})
            await self._list(posts)
            for post in posts:
                self._sweep(post.runner, reason)
                self._adopt(post)

    async def follow(self, runners: Mapping[int, Runner]) -> None:
        """Take note of routes that are new, gone, or whose gate is set otherwise.

        Raises:
            SessionLost: A session is gone.
        """
        await self.take_over([runner for i, runner in runners.items() if i not in self._posts], "added")
        async with self._turn:
            for gone in self._posts.keys() - runners.keys():
                await self._release(self._posts.pop(gone))
            for post in self._posts.values():
                if post.setting != post.runner.route.gate:
                    post.setting = post.runner.route.gate
                    await self._open(post, "set otherwise")

    async def run(self) -> None:
        """Keep the gates, for ever.

        Raises:
            SessionLost: A session is gone.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_ever(), name="polls")
            group.create_task(self._ask_for_ever(), name="gate")

    def gate(self, route_id: int) -> Gate | None:
        """Return the state of a route's gate, for ``pgreact status``."""
        post = self._posts.get(route_id)
        return post.gate if post else None

    # ---- looking ---------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._until_next_look())
            self._wake.clear()
            async with self._turn:
                await self._look()

    def _until_next_look(self) -> float | None:
        looks = [post.next_look for post in self._posts.values() if post.gate.mode != "open"]
        return max(0.0, min(looks) - self._clock.monotonic()) if looks else None

    async def _look(self) -> None:
        now = self._clock.monotonic()
        rushed = [post for post in self._posts.values() if post.rush]
        due = [post for post in self._posts.values() if post.gate.mode != "open" and post.next_look <= now]
        polled = [post for post in due if post.gate.mode == "polling"]
        # S before W's holders, in two statements: a writer that begins between them is in the list
        skips = await self._skips([*polled, *rushed])
        holders = await self._holders(due)
        now = self._clock.monotonic()
        for post in due:
            route_id, mode = post.runner.route.id, post.gate.mode
            if mode == "polling":
                post.polls += 1
                post.gate, stirred = gates.polled(post.gate, skips[route_id], holders[route_id], now)
            else:
                post.gate, stirred = gates.drained(post.gate, holders[route_id], now)
            if stirred:
                post.runner.signal()
            if post.gate.mode != mode:
                self._changed(post.runner)
            post.next_look = now + self._pause(post, now)
        for post in rushed:
            post.rush = False
            if post.gate.mode != "polling":
                post.gate = gates.closing(post.gate, skips[post.runner.route.id], now)
                self._closed(post, f"more than {post.runner.route.gate_close_rate} notifications a second")
        for post in polled:
            quiet = now - max(post.gate.stirred, post.gate.since)
            if post.setting != "closed" and quiet >= post.runner.route.gate_open_after:
                await self._open(post, f"quiet for {quiet:.1f} s")

    def _pause(self, post: Post, now: float) -> float:
        poll = post.runner.route.gate_poll
        if post.gate.mode == "polling":
            return poll
        # who drains for long ends at a moment that nobody can tell; do not ask 25 times a second for hours
        return max(poll, min(DRAIN_PAUSE_CAP, (now - post.gate.since) / 10))

    async def _skips(self, posts: list[Post]) -> dict[int, int]:
        if not posts:
            return {}
        rows = await self._session.fetch(query("skips"), [post.runner.route.id for post in posts])
        return {row["route_id"]: row["skips"] for row in rows}

    async def _holders(self, posts: list[Post]) -> dict[int, frozenset[str]]:
        found, _ = await self._locks(posts)
        return found

    async def _locks(self, posts: list[Post]) -> tuple[dict[int, frozenset[str]], set[int]]:
        """Return who holds W, and the routes whose B is somebody else's."""
        if not posts:
            return {}, set()
        ids = [post.runner.route.id for post in posts]
        rows = await self._session.fetch(query("holders"), ids, self._candidate.backend_pid)
        holders: dict[int, set[str]] = {route_id: set() for route_id in ids}
        foreign: set[int] = set()
        for row in rows:
            if row["busy"]:
                foreign.add(row["route_id"])
            else:
                holders[row["route_id"]].add(row["holder"])
        return {route_id: frozenset(found) for route_id, found in holders.items()}, foreign

    # ---- closing and opening ---------------------------------------------------------------------------

    def _closed(self, post: Post, reason: str) -> None:
        post.polls = 0
        post.next_look = self._clock.monotonic() + post.runner.route.gate_poll
        logs.emit(logs.GateClosed(route=post.runner.route.name, reason=reason))
        self._changed(post.runner)
        self._want(post)
        self._wake.set()

    async def _open(self, post: Post, reason: str) -> None:
        """Let B go, list, read S: in this order nobody who skipped is missed.

        Not S first, as in a poll: who skips between the two reads is gone before the list, and no other poll
        will see that S has moved. Whoever is in the list is drained.
        """
        was = post.gate
        await self._release(post)
        await self._list([post])
        skips = await self._skips([post])
        if post.gate.mode == "polling":
            self._want(post)
            return  # somebody else's B keeps it closed
        if was.mode == "polling":
            closed_s = round(self._clock.monotonic() - was.since, 3)
            logs.emit(
                logs.GateOpened(
                    route=post.runner.route.name, reason=reason, closed_s=closed_s, polls=post.polls
                )
            )
            self._changed(post.runner)
        if was.mode != "polling" or was.skips is None:
            self._sweep(post.runner, "opened")  # no reading to compare with
        elif gates.polled(was, skips[post.runner.route.id], post.gate.holders, self._clock.monotonic())[1]:
            post.runner.signal()
        self._adopt(post)

    async def _list(self, posts: list[Post]) -> None:
        holders, foreign = await self._locks(posts)
        now = self._clock.monotonic()
        for post in posts:
            was, route_id = post.gate.mode, post.runner.route.id
            post.gate = gates.listed(post.gate, holders[route_id], foreign=route_id in foreign, now=now)
            post.next_look = now
            post.meter.forget()
            post.rush = False
            if post.gate.mode == "polling" and was != "polling":
                self._closed(post, "another session still keeps it closed")

    def _adopt(self, post: Post) -> None:
        """Poll from now on if the gate is set closed."""
        if post.setting == "closed" and post.gate.mode != "polling":
            # whoever holds W is followed already; S without a reading counts as moved
            post.gate = Gate("polling", post.gate.holders, None, self._clock.monotonic())
            self._closed(post, "set so")
        self._wake.set()

    async def _ask_for_ever(self) -> None:
        """Ask for B wherever a gate is closed that is not set so, again and again until it is granted."""
        while True:
            self._ask.clear()
            await self._ask_once()
            if not any(post.wanted and not post.ours for post in self._posts.values()):
                await self._ask.wait()

    async def _ask_once(self) -> None:
        for post in list(self._posts.values()):
            async with self._asking:
                if post.wanted and not post.ours:
                    post.ours = await self._candidate.shut(post.runner.route.id, SHUT_PATIENCE)

    def _want(self, post: Post) -> None:
        if post.setting == "auto":
            post.wanted = True
            self._ask.set()

    async def _release(self, post: Post) -> None:
        # at once: nobody may ask again between now and the list of W's holders, which opens the gate
        post.wanted = False
        async with self._asking:
            if post.ours:
                await self._candidate.unshut(post.runner.route.id)
                post.ours = False
