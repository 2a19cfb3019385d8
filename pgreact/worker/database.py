"""The database a worker asks, and what it asks once."""

import os
import sys
import weakref
from typing import Any

import psycopg

from pgreact import settings
from pgreact.errors import ConfigError, NotGuarded, PgreactError, nearest
from pgreact.postgres import conninfo
from pgreact.worker.jobs import Jobs
from pgreact.worker.session import Session
from pgreact.worker.single_flight import PATIENCE, Flights
from pgreact.worker.trouble import patiently

# What libpq looks at that says where a database is.
_PLACES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")


class Door:
    """The way to the database, found when a task first needs it: configuration may come after the import."""

    def __init__(self, dsn: str | None) -> None:
        """Take a DSN as libpq reads it, or ``None``: as the command line finds it."""
        self.given = dsn
        self.main_pid: int | None = None  # of the worker, which outlives the children of a prefork pool
        self._found: str | None = None

    @property
    def dsn(self) -> str:
        """The DSN."""
        if self.given is not None:
            return self.given
        if self._found is None:
            self._found = os.environ.get("PGREACT_DSN") or settings.load(None).dsn
        return self._found

    @property
    def shown(self) -> str:
        """Where the DSN leads, for a log."""
        return conninfo.shown(self.dsn)

    def refuse_none(self) -> None:
        """End the worker if nothing readable tells which database it serves: it could take no job.

        Raises:
            SystemExit: Nothing does.
        """
        try:
            if self.dsn or any(os.environ.get(name) for name in _PLACES):
                conninfo.shown(self.dsn)  # raises if libpq cannot read it
                return
        except PgreactError as error:
            wrong: object = error
        else:
            wrong = (
                "nothing says which database this worker serves: set PGREACT_DSN, or dsn in pgreact.toml, or "
                "call pgreact.setup(app, dsn)"
            )
        print(f"pgreact: {wrong}", file=sys.stderr)  # noqa: T201 - Celery's log is not there yet
        raise SystemExit(2)

    @property
    def flights(self) -> Flights:
        """The flights of that database in this process."""
        dsn = self.dsn
        return _flights.get(dsn) or _flights.setdefault(dsn, Flights(dsn))

    @property
    def jobs(self) -> Jobs:
        """The jobs of that database in this process."""
        dsn = self.dsn
        return _jobs.get(dsn) or _jobs.setdefault(dsn, Jobs(dsn))


doors: "weakref.WeakKeyDictionary[Any, Door]" = weakref.WeakKeyDictionary()  # of Celery's applications
_flights: dict[str, Flights] = {}
_jobs: dict[str, Jobs] = {}


class Named:
    """A route known by its name; the database is asked for its id once."""

    def __init__(self, name: str, door: Door) -> None:
        self.name = name
        self.door = door
        self._id: int | None = None
        self._others: set[int] = set()

    def id(self, published_by: int | None) -> int:
        """Return the route's id.

        Args:
            published_by: The route whose message this is, if it is one. If that is not the one we know, ours
                may have been deleted and made anew: we ask again.

        Raises:
            ConfigError: There is no such route.
            NotGuarded: The database cannot be asked.
        """
        known = self._id
        if known is None or published_by not in {None, known, *self._others}:
            known = self._id = self._ask()
            if published_by is not None and published_by != known:
                self._others.add(published_by)
        return known

    def _ask(self) -> int:
        dsn = self.door.dsn
        session = Session(dsn)
        try:
            ids: dict[str, int] = dict(patiently(lambda: session.all("route_ids"), PATIENCE))
        except NotGuarded as error:
            hint = ""
            if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                hint = "; this role needs usage on schema pgreact and select on pgreact.route"
            raise NotGuarded(f'cannot look up route "{self.name}": {error}{hint}') from error
        finally:
            session.close()
        if self.name not in ids:
            raise ConfigError(f'{conninfo.shown(dsn)}: no route "{self.name}"{nearest(self.name, list(ids))}')
        return ids[self.name]
