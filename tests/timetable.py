"""A timetable for tests."""

import json
from typing import Any

from pgreact.clock import Clock
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.timetable.backlog import Backlog
from pgreact.timetable.delivery import Delivery
from pgreact.timetable.firing import Outcome, fire_due
from pgreact.timetable.measures import TimetableMeasures
from tests.harness import Database, Inbox


class Timetable:
    """A database with a timetable, and a broker's queue for its direct messages."""

    def __init__(self, database: Database, inbox: Inbox) -> None:
        self.database = database
        self.inbox = inbox

    def add(self, name: str, **columns: str) -> None:
        """Add a schedule; columns are SQL. Its jobs stay queued, unless ``lane`` is given."""
        columns = {"task": "'proj.tick'", "lane": "'held'", "retention": "'1 day'", **columns}
        self.database.run(
            f"insert into pgreact.schedule (name, {', '.join(columns)}) "
            f"values ('{name}', {', '.join(columns.values())})"
        )

    def direct(self, name: str, **columns: str) -> None:
        """Add a schedule whose messages go to the inbox."""
        options = json.dumps({"queue": self.inbox.queue})
        self.add(name, **{"delivery": "'direct'", "options": f"'{options}'", **columns})

    def column(self, name: str, column: str) -> Any:
        """Return a column of a schedule."""
        return self.database.value(f"select {column} from pgreact.schedule where name = %s", name)

    def until(self, name: str, condition: str) -> None:
        """Wait until a schedule meets an SQL condition."""
        self.database.until(f"select {condition} from pgreact.schedule where name = '{name}'")

    def jobs(self, name: str) -> int:
        """Count the jobs that a schedule has enqueued."""
        return int(
            self.database.value(
                "select count(*) from pgreact.queue where options -> 'headers' ->> 'periodic_task_name' = %s",
                name,
            )
        )

    def run_now(self, name: str) -> None:
        """Run a schedule now, as its users do."""
        self.database.run(f"update pgreact.schedule set next_run_at = now() where name = '{name}'")

    def outcomes(self, name: str) -> list[str]:
        """Return the outcomes of a schedule's occurrences."""
        with self.database.connect() as connection:
            return [
                row[0]
                for row in connection.execute(
                    "select outcome from pgreact.schedule_history where schedule = %s "
                    "order by fired_at, nominal_at",
                    (name,),
                )
            ]

    def turn_clock(self, by: str) -> None:
        """Set the timetable's clock off by an interval."""
        self.database.run(
            "create or replace function pgreact.clock_now() returns timestamptz language sql "
            f"set search_path = pg_catalog, pg_temp as $$ select clock_timestamp() + interval '{by}' $$",
            "notify pgreact, 'schedule'",
        )


def row(database: Database, name: str, *columns: str) -> tuple[Any, ...]:
    """Return columns of a schedule."""
    with database.connect() as connection:
        found = connection.execute(
            f"select {', '.join(columns)} from pgreact.schedule where name = %s".encode(), (name,)
        ).fetchone()
    assert found is not None, f"no schedule {name}"
    return found


class Passes:
    """The engine's passes of one delivery, one at a time, without its loop."""

    def __init__(self, session: Session, delivery: Delivery) -> None:
        self.troubles = Troubles(Clock())
        self.backlog = Backlog(delivery.name, delivery.page, self.troubles, Clock())
        self.measures = TimetableMeasures()
        self._session = session
        self._delivery = delivery

    async def run(self) -> Outcome:
        """Make one pass."""
        return await fire_due(
            self._session, self._delivery, self.backlog, self.troubles["fire"], self.measures
        )

    async def wait(self) -> float:
        """Return seconds until the next pass."""
        return (await self.backlog.wait(self._session))[0]
