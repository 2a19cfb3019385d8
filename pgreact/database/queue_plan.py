"""What must change so that lanes, limits, and what enqueues into them are as the configuration says."""

import json
from typing import Any

from psycopg import sql

from pgreact.database import queue_blueprint
from pgreact.database.change import Change, Connection, conditions, relation_of, resolve, rows
from pgreact.database.schedule_plan import schedule_changes
from pgreact.errors import ConfigError, PgreactError
from pgreact.settings import BUILT_IN, LaneSettings, QueueSettings, Settings, nearest
from pgreact.shipped import query
from pgreact.units import short, short_rate

DEFAULT = "default"  # the lane that is built in
_LANE = LaneSettings().model_dump()


def queue_changes(
    connection: Connection, settings: Settings, health: list[dict[str, Any]], *, empty: bool
) -> list[Change]:
    """Compare the queue of a database, with its outbox and schedules, with the configuration.

    Args:
        connection: Any session on it.
        settings: What it should be. Keys that it does not name are left as they are.
        health: The rows of ``trigger_health``.
        empty: pgreact's schema is yet to be made.

    Returns:
        The steps, in order.

    Raises:
        ConfigError: The file names what the database does not have, or what it refuses.
        PgreactError: A lane that the file no longer names is in use.
    """
    changes: list[Change] = []
    lanes: dict[str, dict[str, Any]] = {DEFAULT: {**_LANE, "origin": "sql", "routed": False}}
    if not empty:
        built_in = [row for row in health if row["route"] == BUILT_IN]
        complete = rows(connection, query("queue_built_in"))[0]["complete"]
        if not complete or not built_in or any(row["trigger"] != "ok" for row in built_in):
            changes.append(Change("~", "queue: what is built in", queue_blueprint.restore_statement()))
        lanes |= {row["name"]: row for row in rows(connection, query("queue_lane"))}
    changes += _limits(connection, settings, empty=empty)
    changes += _lane_changes(settings, lanes)
    gone = [name for name, lane in lanes.items() if lane["origin"] == "config" and name not in settings.lanes]
    known = {*lanes, *settings.lanes} - {name for name in gone if not _stays(name, lanes[name])}
    changes += _outbox_changes(connection, settings, known, empty=empty)
    schedules = schedule_changes(connection, settings, known, empty=empty)
    changes += schedules.values()
    return changes + [_removal(connection, name, lanes[name], [*schedules]) for name in gone]


def _limits(connection: Connection, settings: Settings, *, empty: bool) -> list[Change]:
    # the row is missing where somebody deleted it; then it has been put back before this step
    found = [] if empty else rows(connection, query("queue_setting"))
    now = found[0] if found else QueueSettings().model_dump()
    columns = {
        key: value for key, value in queue_blueprint.named(settings.queue).items() if now[key] != value
    }
    if not columns:
        return []
    what = ", ".join(
        f"{key} {_shown(key, now[key])} → {_shown(key, value)}" for key, value in columns.items()
    )
    return [Change("~", f"queue: {what}", queue_blueprint.queue_statement(columns))]


def _lane_changes(settings: Settings, lanes: dict[str, dict[str, Any]]) -> list[Change]:
    changes = []
    for name, lane in settings.lanes.items():
        columns = {**queue_blueprint.named(lane), "origin": "config"}
        now = lanes.get(name)
        if now is None:
            values = ", ".join(
                f"{key} {_shown(key, value)}" for key, value in columns.items() if key != "origin"
            )
            what = f"lane {name}: {values}" if values else f"lane {name}"
            changes.append(Change("+", what, queue_blueprint.lane_statement(name, columns)))
        elif different := [key for key, value in columns.items() if now[key] != value]:
            what = ", ".join(
                f"{key} {_shown(key, now[key])} → {_shown(key, columns[key])}" for key in different
            )
            changes.append(Change("~", f"lane {name}: {what}", queue_blueprint.lane_statement(name, columns)))
    return changes


def _stays(name: str, lane: dict[str, Any]) -> bool:
    """Whether a lane is there though nobody names it: it is built in, or a Celery queue's."""
    return name == DEFAULT or bool(lane["routed"])


def _removal(connection: Connection, name: str, now: dict[str, Any], replanned: list[str]) -> Change:
    if _stays(name, now):
        back = {**_LANE, "origin": "sql" if name == DEFAULT else "queue"}
        what = [
            f"{key} {_shown(key, now[key])} → {_shown(key, value)}"
            for key, value in back.items()
            if now[key] != value
        ]
        sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(key), back[key]) for key in back)
        statement = sql.SQL("update pgreact.lane set {} where name = {}").format(sets, name).as_string()
        return Change("~", f"lane {name}: {', '.join(what)}", statement)
    [used] = rows(connection, query("queue_lane_use"), {"lane": name, "replanned": replanned})
    waiting, in_progress, outbox, schedules = used.values()
    kept = f"lane {name}: the file no longer names it, but"
    if waiting or in_progress:
        raise PgreactError(
            f"{kept} it holds jobs ({waiting} waiting, {in_progress} in progress): cancel those that wait "
            f"(pgreact queue purge --lane {name}) or move them to another lane (SQL: update column lane of "
            "pgreact.queue), and let the others end; nothing was changed"
        )
    if outbox:
        raise PgreactError(
            f"{kept} changes of {outbox} enqueue into it: attach them with another lane, or detach them; "
            "nothing was changed"
        )
    if schedules:
        raise PgreactError(
            f"{kept} schedules enqueue into it ({schedules}): give them another lane "
            "(pgreact schedule edit NAME --lane LANE), or remove them; nothing was changed"
        )
    removal = sql.SQL(
        "delete from pgreact.lane where name = {0}; delete from pgreact.lane_state where lane = {0}"
    ).format(name)
    return Change("-", f"lane {name}", removal.as_string())


def _outbox_changes(
    connection: Connection, settings: Settings, lanes: set[str], *, empty: bool
) -> list[Change]:
    now = {
        (row["relation"], row["event"], row["task"]): row
        for row in ([] if empty else rows(connection, query("queue_outbox")))
    }
    wanted: set[tuple[int, str, str]] = set()
    changes: list[Change] = []
    for index, entry in enumerate(settings.outbox):
        place = f"{settings.file or 'configuration'}: outbox[{index}]"
        if entry.lane is not None and entry.lane not in lanes:
            raise ConfigError(f'{place}.lane: no lane "{entry.lane}"{nearest(entry.lane, sorted(lanes))}')
        relation, table = resolve(connection, entry.table, place)
        events = []
        sign = "~"
        for event in entry.on:
            key = relation, event, entry.enqueue
            if key in wanted:
                raise ConfigError(f"{place}: {event} of {table} enqueues {entry.enqueue} already")
            wanted.add(key)
            row = now.get(key)
            if row is None:
                sign = "+"
            elif (
                row["condition"],
                row["changed"],
                row["always"],
                row["lane"],
                row["trigger"],
                row["origin"],
            ) == (
                entry.when,
                entry.changed_by(event),
                entry.always,
                entry.lane,
                "ok",
                "config",
            ):
                continue
            events.append(event)
        if events:
            lane = "" if entry.lane is None else f" in lane {entry.lane}"
            when = conditions(entry.when, entry.always, entry.changed_by(*events))
            what = f"outbox: {', '.join(events)} on {table}{when} enqueues {entry.enqueue}{lane}"
            statement = queue_blueprint.outbox_statement(table, entry, events)
            changes.append(Change(sign, what, statement, tables=(table,)))
    for (relation, event, task), row in now.items():
        if row["origin"] == "config" and (relation, event, task) not in wanted:
            removal = sql.SQL(
                "delete from pgreact.outbox where relation::oid = {} and event = {} and task = {}"
            ).format(relation_of(row), event, task)
            what = f"outbox: {event} on {row['table']} enqueues {task}"
            changes.append(Change("-", what, removal.as_string(), tables=(row["table"],)))
    return changes


def _shown(key: str, value: Any) -> str:
    if key == "paused":
        return "yes" if value else "no"
    if value is None:
        return "none"
    if key == "rate":
        return short_rate(value)
    if isinstance(value, float):
        return short(value)
    return json.dumps(value, ensure_ascii=False)
