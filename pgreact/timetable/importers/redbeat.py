"""Read RedBeat's entries from Redis. Needs the package ``redis``, and not RedBeat."""

import datetime
import json
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule
from dateutil.rrule import weekday

from pgreact.errors import PgreactError
from pgreact.timetable.importers.entries import row
from pgreact.timetable.importers.last_run import begin_without_run, resume_from
from pgreact.timetable.importers.redbeat_redis import Place, connected
from pgreact.timetable.importers.rrule import Rule
from pgreact.timetable.importers.skipped import Skipped

BATCH = 1000  # entries a round trip


def read(place: Place, app: Celery) -> list[dict[str, Any] | Skipped]:
    """Read all entries, disabled ones too.

    Args:
        place: Where they are.
        app: Crontabs are in its time zone.

    Raises:
        ConfigError: The package ``redis`` is missing, or URL or options are invalid.
        PgreactError: Redis cannot be read, or has no entries under this prefix.
    """
    with connected(place) as client:
        stored = list(_stored(client, place.prefix))
    if not stored:
        raise PgreactError(f'no entries under "{place.prefix}": give redbeat_key_prefix with --prefix')
    return [entry if isinstance(entry, Skipped) else _row(*entry, app) for entry in stored]


def _stored(client: Any, prefix: str) -> Iterator[tuple[str, str, str | None] | Skipped]:
    """Yield the name of each entry, its definition and its runs, as JSON."""
    index = f"{prefix}:schedule"
    kind = client.type(index)
    if kind not in {b"zset", b"none"}:
        raise PgreactError(
            f'the key "{index}" is a {kind.decode()}, and RedBeat\'s is a zset: give redbeat_key_prefix '
            "with --prefix"
        )
    keys: list[bytes] = client.zrange(index, 0, -1)
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        pipe = client.pipeline(transaction=False)
        for key in batch:
            pipe.hmget(key, "definition", "meta")
        for key, found in zip(batch, pipe.execute(raise_on_error=False), strict=True):
            yield _entry(key.decode(errors="backslashreplace").removeprefix(prefix), found)


def _entry(name: str, found: Any) -> tuple[str, str, str | None] | Skipped:
    if isinstance(found, Exception):
        return Skipped(name, f"its key is no hash, as RedBeat's are: {found}")
    definition, meta = found
    if not definition:
        return Skipped(
            name, "its hash is missing, or has no definition; RedBeat drops such an entry when it is due"
        )
    try:
        return name, definition.decode(), meta and meta.decode()
    except UnicodeDecodeError as error:
        return Skipped(name, f"its hash is no text: {error}")


def _row(key: str, definition: str, meta: str | None, app: Celery) -> dict[str, Any] | Skipped:
    try:
        entry = json.loads(definition, object_hook=_decoded)
        runs = json.loads(meta or "{}", object_hook=_decoded)
    except Exception as error:  # noqa: BLE001 - Celery's own reading may raise anything
        return Skipped(key, " ".join(str(error).split()))
    if isinstance(entry.get("schedule"), dict) and not isinstance(entry["schedule"], Rule):
        return Skipped(
            key, f'its schedule is of the type "{entry["schedule"].get("__type__")}", unknown here'
        )
    found = row(entry.get("name") or key, entry, app)
    since = runs.get("last_run_at")
    if isinstance(found, Skipped):
        return found
    if not isinstance(since, datetime.datetime):
        return begin_without_run(found, app.now())
    return resume_from(found, since, last_run_at=since, run_count=runs.get("total_run_count") or 0)


def _decoded(stored: dict[str, Any]) -> object:
    """Decode the values that RedBeat marks with ``__type__``."""
    kind = stored.get("__type__")
    if kind not in _KINDS:
        return stored
    return _KINDS[kind]({name: value for name, value in stored.items() if name != "__type__"})


def _datetime(stored: dict[str, Any]) -> object:
    zone = stored.pop("timezone", "UTC")
    return datetime.datetime(
        **stored, tzinfo=zoneinfo.ZoneInfo(zone) if isinstance(zone, str) else _offset(zone)
    )


def _rrule(stored: dict[str, Any]) -> object:
    for name in ("dtstart", "until"):
        minutes = stored.pop(f"{name}_tz", 0)
        if stored.get(name) is not None:
            stored[name] = datetime.datetime.fromtimestamp(stored[name], _offset(minutes * 60))
    return Rule(stored)


def _offset(seconds: float) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(seconds=seconds))


_KINDS: dict[Any, Callable[[dict[str, Any]], object]] = {
    "datetime": _datetime,
    "interval": lambda stored: schedule(stored["every"], stored["relative"]),
    "crontab": lambda stored: crontab(**stored),
    "rrule": _rrule,
    "weekday": lambda stored: weekday(**stored),
}
