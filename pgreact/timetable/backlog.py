"""The backlog: reads schedules that are new or due, page by page.

Two kinds of rows cannot be fired now, and must not hold up the others:

- Locked by another transaction: skipped. Reads begin behind them, and from the start again after a while.
  Only a position is kept, so their number does not matter.
- Not readable, or at fault and not even to be marked as failed: set aside. Reads leave the row out; it is
  tried again alone, at growing intervals, until it works, is edited or is no longer due.
"""

import dataclasses
import math
from collections.abc import Container, Sequence

import asyncpg

from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres.errors import ErrorKind, classify
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry

TIMEOUT = 30.0  # seconds for a page
# Seconds until reads begin from the start again: at least, for each skipped row (about ten times what a try
# of it takes), and at most. So the leader spends a small part of its time on locked rows.
LOCKED_PAUSE, LOCKED_COST, LOCKED_MOST = 0.1, 0.0003, 5.0
EDITED_PAUSE = 1.0  # seconds between two tries of a row that is set aside, if schedules are edited
ALONE = 20  # rows set aside that one pass tries again, at most
NAMED = 1000  # rows set aside that are reported by name; the others are reported together
OTHERS = "other schedules"


class Unreadable(ValueError):
    """A row has values that Python cannot represent."""

    sqlstate = "22008"  # datetime_field_overflow: the row is at fault


def of_a_row(error: Exception) -> bool:
    """Return whether one row may have made a statement on many rows fail.

    Wrong values do, and damaged data, and an answer that cannot be read. Any other error concerns all rows.
    """
    state = getattr(error, "sqlstate", None) or ""
    return classify(error) in {ErrorKind.DATA, ErrorKind.FAULT} or state.startswith("XX")


@dataclasses.dataclass(slots=True)
class _Aside:
    """A row that is set aside: the subject of its reports, when it was tried, when it will be."""

    subject: str
    tried: float
    until: float


class Backlog:
    """The schedules of one delivery that are new or due.

    Attributes:
        set_back: Seconds that the database's clock was set back by, at most since the reader cleared it.
    """

    def __init__(self, delivery: str, page: int, troubles: Troubles, clock: Clock) -> None:
        """Read nothing yet.

        Args:
            delivery: As in the column ``delivery``.
            page: Schedules read at a time.
            troubles: Where rows that are set aside, and reads that fail, are reported.
            clock: Measures pauses.
        """
        self._delivery = delivery
        self._page = page
        self._troubles = troubles
        self._clock = clock
        self._reading = troubles[f"due schedules ({delivery})"]
        self._next = troubles[f"next schedule ({delivery})"]
        self._aside: dict[int, _Aside] = {}
        self._alone: list[int] = []  # rows set aside that this pass tries again
        self._more = False  # this pass has more pages
        self._ahead = -math.inf  # seconds by which the database's clock is ahead of the monotonic one
        self.set_back = 0.0
        self._begin_again()

    def edited(self) -> None:
        """Try rows that are set aside sooner: an edit may have mended them."""
        for aside in self._aside.values():
            aside.until = min(aside.until, aside.tried + EDITED_PAUSE)

    async def wait(self, session: Session) -> tuple[float, bool]:
        """Ask what is next.

        Returns:
            Seconds until a pass is due, 0 or less: now; and whether any schedule is of direct delivery.

        Raises:
            SessionLost: The session is gone.
        """
        if self._skipped and self._clock.monotonic() >= self._until():
            self._begin_again()
        places = self._delivery, self._new, *self._planned, [*self._aside]
        [row] = await retry(self._next, lambda: session.fetch(query("timetable_next"), *places))
        now = self._clock.monotonic()
        ahead = row["clock"] - now
        self.set_back = max(self.set_back, self._ahead - ahead)
        self._ahead = ahead
        waits = [aside.until - now for aside in self._aside.values()]
        if row["wait"] is not None:
            waits.append(row["wait"])
        if self._skipped:
            waits.append(self._until() - now)
        return min(waits, default=math.inf), row["direct"]

    def _until(self) -> float:
        """Return when reads begin from the start again."""
        return self._began + min(max(LOCKED_PAUSE, self._skipped * LOCKED_COST), LOCKED_MOST)

    def _begin_again(self) -> None:
        self._new = 0  # reads of new schedules begin behind this id
        self._planned: tuple[object, int] = None, 0  # those of due ones behind this next_run_at and id
        self._skipped = 0  # locked rows before these positions
        self._began = 0.0  # when the first of them was skipped

    # ---- a pass ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a pass."""
        now = self._clock.monotonic()
        self._alone = [id_ for id_, aside in self._aside.items() if aside.until <= now][:ALONE]
        self._more = True

    async def page(self, session: Session) -> Sequence[asyncpg.Record] | None:
        """Read a page; ``None``: the pass has read all.

        Raises:
            SessionLost: The session is gone.
        """
        while self._alone:
            id_ = self._alone.pop()
            if rows := await self._readable(session, (self._delivery, 0, None, 0, []), [id_]):
                return rows
            if self._aside[id_].until <= self._clock.monotonic():
                self._restore(id_)  # it was deleted or disabled, or is no longer due
        if not self._more:
            return None
        places = self._delivery, self._new, *self._planned, [*self._aside]
        found = await self._read(session, places, None)
        if isinstance(found, Exception):
            ids = await retry(
                self._reading,
                lambda: session.fetch(query("timetable_ids"), *places, self._page, timeout=TIMEOUT),
            )
            self._more = len(ids) >= self._page
            return await self._readable(session, places, [row["id"] for row in ids])
        self._more = len(found) >= self._page
        return found

    async def _read(
        self, session: Session, places: tuple[object, ...], ids: Sequence[int] | None
    ) -> Sequence[asyncpg.Record] | Exception:
        """Read a page, or its rows with these ids; return the error if one row may be at fault."""

        async def attempt() -> Sequence[asyncpg.Record] | Exception:
            try:
                return await session.fetch(query("timetable_due"), *places, self._page, ids, timeout=TIMEOUT)
            except SessionLost:
                raise
            except Exception as error:
                if of_a_row(error):
                    return error
                raise

        return await retry(self._reading, attempt)

    async def _readable(
        self, session: Session, places: tuple[object, ...], ids: Sequence[int]
    ) -> Sequence[asyncpg.Record]:
        """Return the rows that can be read; search the others by halves, and set them aside."""
        if not ids:
            return []
        found = await self._read(session, places, ids)
        if not isinstance(found, Exception):
            return found
        if len(ids) == 1:
            await self._unreadable(session, ids[0], found)
            return []
        half = len(ids) // 2
        return [
            *await self._readable(session, places, ids[:half]),
            *await self._readable(session, places, ids[half:]),
        ]

    async def _unreadable(self, session: Session, id_: int, error: Exception) -> None:
        try:
            rows = await session.fetch(query("timetable_unreadable"), id_)
        except SessionLost:
            raise
        except Exception:  # noqa: BLE001 - its name cannot be read either
            self.set_aside(id_, f"with id {id_}", error)
            return
        for row in rows:
            if row["beyond"] is not None:
                error = Unreadable(f"{row['beyond']}: set it to a time between the years 1 and 9999")
            self.set_aside(id_, row["name"], error)

    def dealt_with(self, rows: Sequence[asyncpg.Record], done: Container[int]) -> None:
        """Skip the rows of a page that were not written: another transaction has them locked.

        Args:
            rows: The page.
            done: The ids of the rows that were written.
        """
        now = self._clock.monotonic()
        for row in rows if self._aside else ():
            if (aside := self._aside.get(row["id"])) is None:
                continue
            if row["id"] in done:
                self._restore(row["id"])
            elif aside.until <= now:
                aside.until = now + LOCKED_PAUSE
        skipped = [row for row in rows if row["id"] not in done and row["id"] not in self._aside]
        if not skipped:
            return
        if not self._skipped:
            self._began = now
        self._skipped += len(skipped)
        states = {row["state"] for row in skipped}
        for row in reversed(rows):
            if row["state"] not in states:
                continue
            states.remove(row["state"])
            if row["state"] == "new":
                self._new = row["id"]
            else:
                run_at = row["next_run_at"]
                # asyncpg returns -infinity as a datetime without a time zone
                self._planned = (run_at if run_at.tzinfo else None), row["id"]

    # ---- rows at fault ---------------------------------------------------------------------------------

    def set_aside(self, id_: int, name: str, error: Exception) -> None:
        """Leave a row out, and try it again later.

        Args:
            id_: Its id.
            name: Its name.
            error: Why.
        """
        aside = self._aside.get(id_)
        if aside is None:
            subject = f"schedule {name[:200]}" if len(self._aside) < NAMED else OTHERS
            aside = self._aside[id_] = _Aside(subject, 0, 0)
        aside.tried = self._clock.monotonic()
        aside.until = aside.tried + self._troubles[aside.subject].failed(error)

    def _restore(self, id_: int) -> None:
        """Read a row that was set aside with the others again."""
        subject = self._aside.pop(id_).subject
        if subject != OTHERS or all(aside.subject != OTHERS for aside in self._aside.values()):
            self._troubles.forget(subject)
