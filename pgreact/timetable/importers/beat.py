"""Read Celery Beat's entries: ``beat_schedule``, and the last runs from its state file."""

import datetime
import shelve
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler

from pgreact.errors import ConfigError, PgreactError
from pgreact.timetable.importers.entries import row
from pgreact.timetable.importers.last_run import resume_from
from pgreact.timetable.importers.skipped import Skipped


def read(app: Celery, state: Path | None = None) -> list[dict[str, Any] | Skipped]:
    """Read all entries that Beat would run, including those that Celery adds.

    Args:
        app: The application.
        state: The file given to ``celery beat --schedule``, by default ``celerybeat-schedule``. It is
            unpickled, as Beat does: its author must be trusted.

    Raises:
        ConfigError: The file does not exist.
        PgreactError: The application's modules cannot be imported, or the file cannot be read.
    """
    last = {} if state is None else _last_runs(state)
    return [_row(name, entry, app, last.get(name)) for name, entry in _entries(app).items()]


def _entries(app: Celery) -> dict[object, Any]:
    try:
        app.loader.init_worker()  # the application's modules may add entries
        app.finalize()
        beat = Scheduler(app, lazy=True)
        beat.install_default_entries(app.conf.beat_schedule)
    except Exception as error:
        raise PgreactError(f"{app.main}: its modules fail: {type(error).__name__}: {error}") from error
    return {**beat.schedule, **app.conf.beat_schedule}


def _last_runs(state: Path) -> dict[object, ScheduleEntry]:
    # the suffix depends on the dbm module that wrote the file
    if not any(Path(f"{state}{suffix}").exists() for suffix in ("", ".db", ".dat")):
        raise ConfigError(f"{state}: no such file; it is the one given to celery beat as --schedule")
    try:
        with shelve.open(str(state), flag="r") as kept:  # noqa: S301 - the user's own file
            return dict(kept["entries"])
    except Exception as error:
        raise PgreactError(
            f"{state}: cannot be read, {type(error).__name__}: {error}; while Beat runs, read a copy"
        ) from error


def _row(name: object, entry: object, app: Celery, last: ScheduleEntry | None) -> dict[str, Any] | Skipped:
    found = row(name, entry, app)
    since = getattr(last, "last_run_at", None)
    if isinstance(found, Skipped) or not isinstance(since, datetime.datetime):
        return found
    if since.tzinfo is None:
        since = since.replace(tzinfo=datetime.UTC)  # as Celery reads it
    # without a run last_run_at is when Beat first saw the entry
    runs = getattr(last, "total_run_count", 0)
    return resume_from(found, since, last_run_at=since if runs else None, run_count=runs)
