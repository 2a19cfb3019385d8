"""Reads the schedules that are due, page by page, and leaves out what cannot be dealt with now.

Two kinds of rows stay where they are, and must not hold up the others:

- Rows that another transaction has locked are passed by: looks begin behind them, until it is time to begin
  from the start again. To remember the place takes no memory, however many they are.
- A row that cannot be read, fired or even marked as failed is set aside: looks leave it out, and it is tried
  again alone, at growing distances, until it works, is edited or is no longer due.
"""

import dataclasses
import math
from collections.abc import Container, Sequence

import asyncpg

from pgreact.clock import Clock
from pgreact.errors import SessionLost
from pgreact.postgres.errors import Meaning, meaning
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, persist

TIMEOUT = 30.0  # seconds for a page
# Looks begin from the start again after so many seconds, and so many for each row that was passed by: about
# ten times what it takes to try it. So the leader is busy with locked rows for a small part of its time.
LOCKED_PAUSE, LOCKED_COST, LOCKED_MOST = 0.1, 0.0003, 5.0
EDITED_PAUSE = 1.0  # seconds between two tries of a row that is set aside, when an edit may have mended it
ALONE = 20  # rows set aside that are tried again in a round, at most
NAMED = 1000  # rows set aside that are reported one by one; the others together
OTHERS = "other schedules"


class Unreadable(ValueError):
    """A row has values that this process has no form for."""

    sqlstate = "22008"  # datetime_field_overflow: it is the row's


def of_a_row(error: Exception) -> bool:
    """Return whether it may be the values of a row that a statement on many rows failed for.

    Damaged data and exceptions while an answer is read may be, too. All else passes, or is nobody's row.
    """
    state = getattr(error, "sqlstate", None) or ""
    return meaning(error) in {Meaning.DATA, Meaning.FAULT} or state.startswith("XX")


@dataclasses.dataclass(slots=True)
class _Aside:
    """A row that is set aside: what is reported of it, when it was tried, and when it will be."""

    subject: str
    tried: float
    until: float


class Backlog:
    """The schedules of one delivery that are to be planned or are due."""

    def __init__(self, delivery: str, look: int, troubles: Troubles, clock: Clock) -> None:
        """Nothing was looked at yet.

        Args:
            delivery: As in the column ``delivery``.
            look: How many schedules are read at a time.
            troubles: Where rows that are set aside, and reads that fail, are reported.
            clock: Measures.
        """
        self._delivery = delivery
        self._look = look
        self._troubles = troubles
        self._clock = clock
        self._reading = troubles[f"due schedules ({delivery})"]
        self._next = troubles[f"next schedule ({delivery})"]
        self._aside: dict[int, _Aside] = {}
        self._alone: list[int] = []  # to be tried in this round
        self._more = False  # in this round
        self._ahead = -math.inf  # of the monotonic clock is the database's, at most so many seconds
        self.put_back = 0.0  # seconds that the database's clock was put back by
        self._begin_again()

    def edited(self) -> None:
        """Take note that schedules were edited: what is set aside may work now."""
        for aside in self._aside.values():
            aside.until = min(aside.until, aside.tried + EDITED_PAUSE)

    async def wait(self, session: Session) -> tuple[float, bool]:
        """Return seconds until something is to be done, 0 or less: now; and whether any is sent directly.

        Raises:
            SessionLost: The session is gone.
        """
        if self._passed and self._clock.monotonic() >= self._until():
            self._begin_again()
        places = self._delivery, self._new, *self._planned, [*self._aside]
        [row] = await persist(self._next, lambda: session.fetch(query("timetable_next"), *places))
        now = self._clock.monotonic()
        ahead = row["clock"] - now
        self.put_back = max(self.put_back, self._ahead - ahead)
        self._ahead = ahead
        waits = [aside.until - now for aside in self._aside.values()]
        if row["wait"] is not None:
            waits.append(row["wait"])
        if self._passed:
            waits.append(self._until() - now)
        return min(waits, default=math.inf), row["direct"]

    def _until(self) -> float:
        """Return when looks begin from the start again."""
        return self._began + min(max(LOCKED_PAUSE, self._passed * LOCKED_COST), LOCKED_MOST)

    def _begin_again(self) -> None:
        self._new = 0  # the id behind which looks begin
        self._planned: tuple[object, int] = None, 0  # and next_run_at and id
        self._passed = 0  # so many rows were passed by
        self._began = 0.0  # when the first of them was

    # ---- a round ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a round."""
        now = self._clock.monotonic()
        self._alone = [id_ for id_, aside in self._aside.items() if aside.until <= now][:ALONE]
        self._more = True

    async def page(self, session: Session) -> Sequence[asyncpg.Record] | None:
        """Read more; ``None``: the round has read all there is.

        Raises:
            SessionLost: The session is gone.
        """
        while self._alone:
            id_ = self._alone.pop()
            if rows := await self._readable(session, (self._delivery, 0, None, 0, []), [id_]):
                return rows
            if self._aside[id_].until <= self._clock.monotonic():
                self._back(id_)  # it was deleted or disabled, or is no longer due
        if not self._more:
            return None
        places = self._delivery, self._new, *self._planned, [*self._aside]
        found = await self._read(session, places, None)
        if isinstance(found, Exception):
            ids = await persist(
                self._reading,
                lambda: session.fetch(query("timetable_ids"), *places, self._look, timeout=TIMEOUT),
            )
            self._more = len(ids) >= self._look
            return await self._readable(session, places, [row["id"] for row in ids])
        self._more = len(found) >= self._look
        return found

    async def _read(
        self, session: Session, places: tuple[object, ...], ids: Sequence[int] | None
    ) -> Sequence[asyncpg.Record] | Exception:
        """Read a page, or those of its rows with these ids; return an error that may be a row's."""

        async def attempt() -> Sequence[asyncpg.Record] | Exception:
            try:
                return await session.fetch(query("timetable_due"), *places, self._look, ids, timeout=TIMEOUT)
            except SessionLost:
                raise
            except Exception as error:
                if of_a_row(error):
                    return error
                raise

        return await persist(self._reading, attempt)

    async def _readable(
        self, session: Session, places: tuple[object, ...], ids: Sequence[int]
    ) -> Sequence[asyncpg.Record]:
        """Read those rows that can be read; what cannot is looked for by halves, and set aside."""
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
        except Exception:  # noqa: BLE001 - then what it is called cannot be read either
            self.set_aside(id_, f"with id {id_}", error)
            return
        for row in rows:
            if row["beyond"] is not None:
                error = Unreadable(f"{row['beyond']}: set it to a time between the years 1 and 9999")
            self.set_aside(id_, row["name"], error)

    def dealt_with(self, rows: Sequence[asyncpg.Record], moved: Container[int]) -> None:
        """Take note of which rows of a page were moved on; the others are locked, and passed by.

        Args:
            rows: The page.
            moved: The ids of those that were.
        """
        now = self._clock.monotonic()
        for row in rows if self._aside else ():
            if (aside := self._aside.get(row["id"])) is None:
                continue
            if row["id"] in moved:
                self._back(row["id"])
            elif aside.until <= now:
                aside.until = now + LOCKED_PAUSE
        passed = [row for row in rows if row["id"] not in moved and row["id"] not in self._aside]
        if not passed:
            return
        if not self._passed:
            self._began = now
        self._passed += len(passed)
        states = {row["state"] for row in passed}
        for row in reversed(rows):
            if row["state"] not in states:
                continue
            states.remove(row["state"])
            if row["state"] == "new":
                self._new = row["id"]
            else:
                run_at = row["next_run_at"]
                # the driver's form of -infinity has no time zone
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

    def _back(self, id_: int) -> None:
        """Let a row be one of many again."""
        subject = self._aside.pop(id_).subject
        if subject != OTHERS or all(aside.subject != OTHERS for aside in self._aside.values()):
            self._troubles.forget(subject)
