"""The shell around the gates of one leader's term: it counts notifications, looks, and sets S."""

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
from pgreact.postgres.trouble import Troubles, persist
from pgreact.wakeup import gate as gates
from pgreact.wakeup.gate import Gate, Meter, Seen
from pgreact.wakeup.leadership import Candidate

DRAIN_PAUSE_CAP = 0.5  # seconds between two looks at a transaction that takes very long


class Post:
    """One route's gate, and what the keeper knows of it."""

    def __init__(self, runner: Runner, now: float) -> None:
        self.runner = runner
        self.setting = runner.route.gate
        self.gate = Gate(since=now)
        self.meter = Meter()
        self.polls = 0
        self.next_look = now
        self.rush = False  # notifications come too fast
        self.unshut = False  # it is polled, but S is not known to be set so: writers may still notify


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
        muted: str | None = None,
    ) -> None:
        """Nothing is read or set yet; see :meth:`take_over`.

        Args:
            candidate: The session that holds the leadership.
            session: For the polls.
            clock: Measures.
            sweep: Asks for a sweep of a route, for this reason.
            changed: A gate was opened or closed.
            troubles: Where failures to read or set gates are reported.
            muted: Why notifications are not heard, if so; see :meth:`mute`.
        """
        self._muted = muted
        self._trouble = troubles["gates"]
        self._polls = troubles["gate polls"]
        self._set_after = 0.0  # setting S failed, and is not tried before then
        self._candidate = candidate
        self._session = session
        self._clock = clock
        self._sweep = sweep
        self._changed = changed
        self._posts: dict[int, Post] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()  # the order of reads is the protocol: nobody comes between them

    def notified(self, route_id: int) -> None:
        """A notification of this route has come."""
        post = self._posts.get(route_id)
        if post is None or post.setting != "auto" or post.rush or post.gate.mode == "polling":
            return
        if post.meter.busy(post.runner.route.gate_close_rate, self._clock.monotonic()):
            post.rush = True
            self._wake.set()

    async def take_over(self, runners: Iterable[Runner], reason: str) -> None:
        """Open gates, list who may have skipped a NOTIFY, then sweep: after an election, and for new routes.

        The sweep comes last. A transaction that skips, and ends between a sweep and the list, would be seen
        by neither.

        Raises:
            SessionLost: A session is gone.
            Exception: The server refused; then it is to be done again, all of it.
        """
        async with self._turn:
            posts = [Post(runner, self._clock.monotonic()) for runner in runners]
            self._posts.update({post.runner.route.id: post for post in posts})
            await self._set_open(posts)
            await self._adopt(posts)
            for post in posts:
                self._sweep(post.runner, reason)

    async def follow(self, runners: Mapping[int, Runner]) -> None:
        """Take note of routes that are new, gone, or whose gate is set otherwise.

        Raises:
            SessionLost: A session is gone.
            Exception: The server refused; then it is to be done again.
        """
        await self.take_over([runner for i, runner in runners.items() if i not in self._posts], "added")
        async with self._turn:
            for gone in self._posts.keys() - runners.keys():
                del self._posts[gone]
            for post in self._posts.values():
                if post.setting != post.runner.route.gate:
                    await self._open(post, "set otherwise")
                    post.setting = post.runner.route.gate
                    await self._adopt([post])

    async def mute(self, reason: str | None) -> None:
        """Close and poll all gates that are not set open, or open them again when it is quiet.

        Args:
            reason: Why notifications are not heard, or must not be sent; ``None``: they are heard again.

        Raises:
            SessionLost: A session is gone.
        """
        async with self._turn:
            self._muted = reason
            await self._adopt([post for post in self._posts.values() if post.gate.mode != "polling"])

    async def run(self) -> None:
        """Keep the gates, for ever.

        Raises:
            SessionLost: A session is gone.
        """
        while True:
            await persist(self._polls, self._look_when_due)

    async def _look_when_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_look()):
                await self._wake.wait()
        self._wake.clear()
        async with self._turn:
            await self._look()

    def gate(self, route_id: int) -> Gate | None:
        """Return the state of a route's gate, for ``pgreact status``."""
        post = self._posts.get(route_id)
        return post.gate if post else None

    # ---- looking ---------------------------------------------------------------------------------------

    def _until_next_look(self) -> float | None:
        looks = [post.next_look for post in self._posts.values() if post.gate.mode != "open"]
        return max(0.0, min(looks) - self._clock.monotonic()) if looks else None

    async def _look(self) -> None:
        now = self._clock.monotonic()
        due = [post for post in self._posts.values() if post.gate.mode != "open" and post.next_look <= now]
        found = await self._seen(due)
        now = self._clock.monotonic()
        for post, seen in zip(due, found, strict=True):
            mode = post.gate.mode
            if mode == "polling":
                post.polls += 1
                post.gate, stirred = gates.polled(post.gate, seen, now)
            else:
                post.gate, stirred = gates.drained(post.gate, seen.holders, now)
            if stirred:
                post.runner.signal()
            if post.gate.mode != mode:
                self._changed(post.runner)
            post.next_look = now + self._pause(post, now)
        if now >= self._set_after:
            try:
                await self._set_where_due(due, now)
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - polls and drains must go on, whatever it is
                self._set_after = self._clock.monotonic() + self._trouble.failed(error)

    async def _set_where_due(self, looked_at: list[Post], now: float) -> None:
        await self._shut([post for post in looked_at if post.unshut], None)
        for post in looked_at:
            quiet = now - max(post.gate.stirred, post.gate.since)
            calm = post.gate.mode == "polling" and quiet >= post.runner.route.gate_open_after
            if calm and not self._stays_closed(post):
                await self._open(post, f"quiet for {quiet:.1f} s")
        for post in self._posts.values():
            if post.rush:
                reason = f"more than {post.runner.route.gate_close_rate} notifications a second"
                await self._close([post], reason, gates.SHUT)

    def _pause(self, post: Post, now: float) -> float:
        poll = post.runner.route.gate_poll
        if post.gate.mode == "polling":
            return poll
        # who drains for long ends at a moment that nobody can tell; do not ask 25 times a second for hours
        return max(poll, min(DRAIN_PAUSE_CAP, (now - post.gate.since) / 10))

    async def _seen(self, posts: list[Post]) -> list[Seen]:
        if not posts:
            return []
        (row,) = await self._session.fetch("select * from pgreact.poll_gates($1)", _ids(posts))
        return _read(posts, row["sequence_values"], row["holders"])

    # ---- closing and opening ---------------------------------------------------------------------------

    async def _close(self, posts: list[Post], reason: str, height: int | None) -> None:
        now = self._clock.monotonic()
        for post in posts:
            # polled from now on, whatever becomes of setting S: a sequence that was set stays set
            post.gate = gates.closing(post.gate, None, now)
            post.unshut = True
            post.polls = 0
            post.rush = False
            post.next_look = now + post.runner.route.gate_poll
            logs.emit(logs.GateClosed(route=post.runner.route.name, reason=reason))
            self._changed(post.runner)
        self._wake.set()
        await self._shut(posts, height)

    async def _shut(self, posts: list[Post], height: int | None) -> None:
        """Set S of gates that are polled so that writers do not notify.

        Args:
            posts: The gates.
            height: What S is then; ``None`` if a writer may have skipped its NOTIFY before that.
        """
        await self._set(posts, gates.SHUT)
        for post in posts:
            post.gate = dataclasses.replace(post.gate, height=height)
            post.unshut = False

    async def _open(self, post: Post, reason: str) -> None:
        was = post.gate
        # should it fail, the numbers taken since the last poll are unknown
        post.gate = dataclasses.replace(was, height=None)
        (seen,) = await self._set_open([post])
        if was.mode == "polling":
            closed_s = round(self._clock.monotonic() - was.since, 3)
            logs.emit(
                logs.GateOpened(
                    route=post.runner.route.name, reason=reason, closed_s=closed_s, polls=post.polls
                )
            )
            self._changed(post.runner)
        if was.mode != "polling" or was.height is None:
            self._sweep(post.runner, "opened")  # no reading to compare with
        elif gates.stirred(was, seen):
            post.runner.signal()

    async def _set_open(self, posts: list[Post]) -> list[Seen]:
        found = await self._set(posts, gates.OPEN)
        now = self._clock.monotonic()
        for post, seen in zip(posts, found, strict=True):
            post.gate = gates.listed(post.gate, seen.holders, now)
            post.next_look = now
            post.meter.forget()
            post.rush = post.unshut = False
        self._wake.set()
        return found

    async def _adopt(self, posts: list[Post]) -> None:
        """Poll from now on where the gate is to stay closed.

        Where it is set closed the writers skip anyway; their triggers do not ask S. Its height tells
        ``pgreact.signal``.
        """
        for reason, closed in (
            ("set so", [post for post in posts if post.setting == "closed"]),
            (self._muted, [post for post in posts if post.setting == "auto" and self._muted]),
        ):
            await self._close(closed, reason or "", None)

    def _stays_closed(self, post: Post) -> bool:
        return post.setting == "closed" or (post.setting == "auto" and self._muted is not None)

    async def _set(self, posts: list[Post], height: int) -> list[Seen]:
        if not posts:
            return []
        row = await self._candidate.set_gates(_ids(posts), height)
        self._trouble.over()
        return _read(posts, row["sequence_values"], row["holders"], alone=row["alone"])


def _ids(posts: list[Post]) -> list[int]:
    return [post.runner.route.id for post in posts]


def _read(posts: list[Post], heights: str, holders: str, *, alone: bool = True) -> list[Seen]:
    """Take apart what a function in SQL has read."""
    height_of, holders_of = json.loads(heights), json.loads(holders)
    keys = [str(route_id) for route_id in _ids(posts)]
    return [Seen(height_of[key], frozenset(holders_of.get(key, ())), alone) for key in keys]
