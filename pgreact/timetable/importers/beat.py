"""What Celery Beat has: ``beat_schedule``, and the last runs in the file that it keeps."""

import datetime
import shelve
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler

from pgreact.errors import ConfigError, PgreactError
from pgreact.timetable.importers.last_run import went_on
from pgreact.timetable.importers.rows import row
from pgreact.timetable.importers.skipped import Uncarried


def read(app: Celery, state: Path | None = None) -> list[dict[str, Any] | Uncarried]:
    """Read all that Beat would run, what Celery adds to it included.

    Args:
        app: The application whose Beat it is.
        state: The file given to ``celery beat --schedule``, by default ``celerybeat-schedule``. It is opened
            as Beat does: trust whoever wrote it.

    Raises:
        ConfigError: The file is not there.
        PgreactError: The application's modules cannot be imported, or the file cannot be read.
    """
    last = {} if state is None else _last_runs(state)
    return [_carried(name, entry, app, last.get(name)) for name, entry in _entries(app).items()]


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
    # which of these there are depends on the module that made them
    if not any(Path(f"{state}{suffix}").exists() for suffix in ("", ".db", ".dat")):
        raise ConfigError(f"{state}: there is no such file; celery beat is told its name by --schedule")
    try:
        with shelve.open(str(state), flag="r") as kept:  # noqa: S301 - it is the user's own
            return dict(kept["entries"])
    except Exception as error:
        raise PgreactError(
            f"{state}: cannot be read, {type(error).__name__}: {error}; while Beat runs, read a copy"
        ) from error


def _carried(
    name: object, entry: object, app: Celery, last: ScheduleEntry | None
) -> dict[str, Any] | Uncarried:
    found = row(name, entry, app)
    since = getattr(last, "last_run_at", None)
    if isinstance(found, Uncarried) or not isinstance(since, datetime.datetime):
        return found
    if since.tzinfo is None:
        since = since.replace(tzinfo=datetime.UTC)  # as Celery reads it
    # without a run it is when Beat first saw the entry
    runs = getattr(last, "total_run_count", 0)
    return went_on(found, since, last_run_at=since if runs else None, run_count=runs)
