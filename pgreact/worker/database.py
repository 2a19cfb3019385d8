"""The database of a worker: its DSN, and what a process keeps for it."""

import os
import sys
import weakref
from typing import TYPE_CHECKING, Any

import psycopg

from pgreact.errors import ConfigError, NotGuarded, PgreactError, nearest
from pgreact.postgres import conninfo
from pgreact.worker.jobs import Jobs
from pgreact.worker.session import Session
from pgreact.worker.single_flight import TIMEOUT, SingleFlight
from pgreact.worker.trouble import with_retries

if TYPE_CHECKING:
    from pgreact.worker.transaction_source import Source

# The environment variables by which libpq finds a database.
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")


class WorkerDatabase:
    """A DSN, found when a task first needs it, since configuration may follow the import, and its objects."""

    def __init__(self, dsn: str | None) -> None:
        """Take a DSN as libpq reads it; ``None``: find it as the command line does."""
        self.given = dsn
        self.main_pid: int | None = None  # of the worker, the parent of a prefork pool's children
        self.inline: Jobs | None = None  # in place of those of the DSN, while this process is no worker
        self.outside: Source | None = None  # likewise, of calls outside a transaction
        self._found: str | None = None

    @property
    def dsn(self) -> str:
        """The DSN: as given, or from ``PGREACT_DSN``, or from ``pgreact.toml``; empty: as libpq finds it."""
        if self.given is not None:
            return self.given
        if self._found is None:
            self._found = os.environ.get("PGREACT_DSN") or _configured_dsn()
        return self._found

    @property
    def shown(self) -> str:
        """The DSN without its password, for a log."""
        return conninfo.redacted(self.dsn)

    def require_dsn(self) -> None:
        """End the worker unless a DSN that libpq can read is configured: it could run no job.

        Raises:
            SystemExit: None is.
        """
        try:
            if self.dsn or any(os.environ.get(name) for name in _LIBPQ_VARIABLES):
                conninfo.redacted(self.dsn)  # raises if libpq cannot read it
                return
        except PgreactError as error:
            reason: object = error
        else:
            reason = (
                "no database is configured for this worker: set PGREACT_DSN, or dsn in pgreact.toml, or call "
                "pgreact.setup(app, dsn)"
            )
        print(f"pgreact: {reason}", file=sys.stderr)  # noqa: T201 - Celery's log is not set up yet
        raise SystemExit(2)

    @property
    def single_flight(self) -> SingleFlight:
        """The guard of flights in this process."""
        dsn = self.dsn
        return _single_flights.get(dsn) or _single_flights.setdefault(dsn, SingleFlight(dsn))

    @property
    def jobs(self) -> Jobs:
        """The runs of jobs in this process."""
        if self.inline is not None:
            return self.inline
        dsn = self.dsn
        return _jobs.get(dsn) or _jobs.setdefault(dsn, Jobs(dsn))


def _configured_dsn() -> str:
    from pgreact import settings  # loads pydantic, which a process that runs no task does not need

    return settings.load(None).dsn


# By Celery's applications.
databases: "weakref.WeakKeyDictionary[Any, WorkerDatabase]" = weakref.WeakKeyDictionary()
_single_flights: dict[str, SingleFlight] = {}  # by DSN
_jobs: dict[str, Jobs] = {}  # by DSN


class RouteId:
    """The id of a route that is known by its name, looked up once."""

    def __init__(self, name: str, database: WorkerDatabase) -> None:
        self.name = name
        self.database = database
        self._id: int | None = None
        self._others: set[int] = set()  # routes that publish the task, too

    def get(self, published_by: int | None) -> int:
        """Return the route's id.

        Args:
            published_by: The route that published the message; ``None``: none did. An unknown one leads to
                another look-up, since our route may have been deleted and created again.

        Raises:
            ConfigError: No route has this name.
            NotGuarded: The database cannot be asked.
        """
        known = self._id
        if known is None or published_by not in {None, known, *self._others}:
            known = self._id = self._look_up()
            if published_by is not None and published_by != known:
                self._others.add(published_by)
        return known

    def _look_up(self) -> int:
        dsn = self.database.dsn
        session = Session(dsn)
        try:
            ids: dict[str, int] = dict(with_retries(lambda: session.fetch_all("route_ids"), TIMEOUT))
        except NotGuarded as error:
            hint = ""
            if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                hint = "; this role needs usage on schema pgreact and select on pgreact.route"
            raise NotGuarded(f'cannot look up route "{self.name}": {error}{hint}') from error
        finally:
            session.close()
        if self.name not in ids:
            raise ConfigError(
                f'{conninfo.redacted(dsn)}: no route "{self.name}"{nearest(self.name, list(ids))}'
            )
        return ids[self.name]
