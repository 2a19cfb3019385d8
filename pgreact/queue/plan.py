"""The plan of the queue: steps that make limits, lanes and outbox in the database match the configuration."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import sql

from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import ConfigError, PgreactError, argument, nearest
from pgreact.postgres.change import Change, Connection, conditions, relation_of, resolve, rows
from pgreact.postgres.queries import folder, query
from pgreact.quantities import format_change, format_column, format_count
from pgreact.queue.settings import LaneSettings, Outbox, QueueSections, QueueSettings

DEFAULT = "default"  # the built-in lane
_LANE = LaneSettings().model_dump()
_INTERVALS = {"lease", "retention", "dead_retention", "start_within", "canary"}


class QueuePlan(NamedTuple):
    """The steps of the queue, and the lanes that the steps of schedules may use."""

    changes: list[Change]
    lanes: set[str]  # after the steps
    removed: dict[str, dict[str, Any]]  # lanes that the configuration does not name any more


def plan(
    connection: Connection, sections: QueueSections, label: str, health: list[dict[str, Any]], *, empty: bool
) -> QueuePlan:
    """Compare the queue of a database, with its lanes and outbox, with the configuration.

    Args:
        connection: Any session on it.
        sections: The configuration. Keys that are not set stay as they are.
        label: The configuration's name in errors.
        health: The rows of ``trigger_health``.
        empty: Whether pgreact's schema does not exist yet.

    Returns:
        The steps, in order. Lanes are removed after the steps of other parts, see :func:`removals`.

    Raises:
        ConfigError: The configuration names a lane, table or column that does not exist.
    """
    changes: list[Change] = []
    lanes: dict[str, dict[str, Any]] = {DEFAULT: {**_LANE, "origin": "sql", "routed": False}}
    if not empty:
        built_in = [row for row in health if row["route"] == QUEUE_ROUTE]
        complete = rows(connection, query("queue_built_in"))[0]["complete"]
        if not complete or not built_in or any(row["trigger"] != "ok" for row in built_in):
            changes.append(Change("~", "queue: built-in route, lane and triggers", restore_statement()))
        lanes |= {row["name"]: row for row in rows(connection, query("queue_lane"))}
    changes += _limits(connection, sections.queue, empty=empty)
    changes += _lane_changes(sections.lanes, lanes)
    removed = {
        name: lane
        for name, lane in lanes.items()
        if lane["origin"] == "config" and name not in sections.lanes
    }
    known = {*lanes, *sections.lanes} - {name for name, lane in removed.items() if not _stays(name, lane)}
    changes += _outbox_changes(connection, sections.outbox, label, known, empty=empty)
    return QueuePlan(changes, known, removed)


def removals(
    connection: Connection, removed: Mapping[str, dict[str, Any]], replanned: Collection[str]
) -> list[Change]:
    """Return the steps that remove lanes.

    Args:
        connection: Any session on the database.
        removed: The lanes to remove, see :class:`QueuePlan`.
        replanned: Schedules that earlier steps change or remove; these do not keep a lane in use.

    Raises:
        PgreactError: A lane is in use.
    """
    return [_removal(connection, name, lane, [*replanned]) for name, lane in removed.items()]


def _limits(connection: Connection, queue: QueueSettings, *, empty: bool) -> list[Change]:
    # a deleted row is restored by an earlier step
    found = [] if empty else rows(connection, query("queue_setting"))
    now = found[0] if found else QueueSettings().model_dump()
    columns = {key: value for key, value in named(queue).items() if now[key] != value}
    if not columns:
        return []
    what = ", ".join(format_change(key, now[key], value) for key, value in columns.items())
    return [Change("~", f"queue: {what}", queue_statement(columns))]


def _lane_changes(wanted: Mapping[str, LaneSettings], lanes: dict[str, dict[str, Any]]) -> list[Change]:
    changes = []
    for name, lane in wanted.items():
        columns = {**named(lane), "origin": "config"}
        now = lanes.get(name)
        if now is None:
            values = ", ".join(
                f"{key} {format_column(key, value)}" for key, value in columns.items() if key != "origin"
            )
            what = f"lane {name}: {values}" if values else f"lane {name}"
            changes.append(Change("+", what, lane_statement(name, columns)))
        elif different := [key for key, value in columns.items() if now[key] != value]:
            what = ", ".join(format_change(key, now[key], columns[key]) for key in different)
            changes.append(Change("~", f"lane {name}: {what}", lane_statement(name, columns)))
    return changes


def _stays(name: str, lane: dict[str, Any]) -> bool:
    """Return whether a lane exists without being configured: the built-in one, or a Celery queue's."""
    return name == DEFAULT or bool(lane["routed"])


def _removal(connection: Connection, name: str, now: dict[str, Any], replanned: list[str]) -> Change:
    if _stays(name, now):
        back = {**_LANE, "origin": "sql" if name == DEFAULT else "queue"}
        what = [format_change(key, now[key], value) for key, value in back.items() if now[key] != value]
        sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(key), back[key]) for key in back)
        statement = sql.SQL("update pgreact.lane set {} where name = {}").format(sets, name).as_string()
        return Change("~", f"lane {name}: {', '.join(what)}", statement)
    [used] = rows(connection, query("queue_lane_use"), {"lane": name, "replanned": replanned})
    waiting, in_progress, outbox, schedules = used.values()
    kept = f"lane {name}: the file no longer names it, but"
    if waiting or in_progress:
        raise PgreactError(
            f"{kept} it has jobs ({format_count(waiting)} waiting, {in_progress} in progress): cancel the "
            f"waiting jobs (pgreact queue purge --lane {argument(name)}) or move them to another lane (SQL: "
            "update column lane of pgreact.queue), and let the others end; nothing was changed"
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
    connection: Connection, outbox: Sequence[Outbox], label: str, lanes: set[str], *, empty: bool
) -> list[Change]:
    now = {
        (row["relation"], row["event"], row["task"]): row
        for row in ([] if empty else rows(connection, query("queue_outbox")))
    }
    wanted: set[tuple[int, str, str]] = set()
    changes: list[Change] = []
    for index, entry in enumerate(outbox):
        place = f"{label}: outbox[{index}]"
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
            elif entry.is_attached(row, event):
                continue
            events.append(event)
        if events:
            lane = "" if entry.lane is None else f" in lane {entry.lane}"
            when = conditions(entry.when, entry.always, entry.changed_by(*events))
            what = f"outbox: {', '.join(events)} on {table}{when} enqueues {entry.enqueue}{lane}"
            statement = outbox_statement(table, entry, events)
            changes.append(Change(sign, what, statement, tables=(table,)))
    for (relation, event, task), row in now.items():
        if row["origin"] == "config" and (relation, event, task) not in wanted:
            removal = sql.SQL(
                "delete from pgreact.outbox where relation::oid = {} and event = {} and task = {}"
            ).format(relation_of(row), event, task)
            what = f"outbox: {event} on {row['table']} enqueues {task}"
            changes.append(Change("-", what, removal.as_string(), tables=(row["table"],)))
    return changes


def named(entry: QueueSettings | LaneSettings) -> dict[str, Any]:
    """Return the keys that the file sets, with their values; times in seconds."""
    return {key: getattr(entry, key) for key in type(entry).model_fields if key in entry.model_fields_set}


def queue_statement(columns: Mapping[str, Any]) -> str:
    """Return the statement that updates ``queue_setting``."""
    return sql.SQL("update pgreact.queue_setting set {};").format(_sets(columns)).as_string()


def lane_statement(name: str, columns: Mapping[str, Any]) -> str:
    """Return the statement that creates a lane, or updates these columns of it."""
    every = {**columns, "origin": "config"}
    return (
        sql.SQL("insert into pgreact.lane (name, {})\nvalues ({}, {})\non conflict (name) do update set {};")
        .format(
            sql.SQL(", ").join(map(sql.Identifier, every)),
            name,
            sql.SQL(", ").join(map(sql.Literal, every.values())),
            _sets(every),
        )
        .as_string()
    )


def outbox_statement(table: str, entry: Outbox, events: Sequence[str]) -> str:
    """Return the statements that attach an outbox entry to its table.

    Args:
        table: The table's full, quoted name, or the name in the file.
        entry: Task, lane and condition, from the file.
        events: The events of the entry to attach.
    """
    return (
        sql.SQL(
            "select pgreact.attach({table}, enqueue => {task}, events => {events}, condition => {condition}, "
            "lane => {lane}, always => {always}, changed => {changed});\n"
            "update pgreact.outbox set origin = 'config'\n"
            "where relation = {table}::regclass and event = any ({events}) and task = {task};"
        )
        .format(
            table=table,
            task=entry.enqueue,
            events=list(events),
            condition=entry.when,
            lane=entry.lane,
            always=entry.always,
            changed=entry.changed_by(*events),
        )
        .as_string()
    )


def restore_statement() -> str:
    """Return the statements that restore the built-in route, lane, settings and triggers."""
    watch = folder("sql") / "functions" / "watch_queue.sql"
    return f"{query('queue_restore')}\n{watch.read_text(encoding='utf-8')}"


def script(sections: QueueSections) -> list[str]:
    """Return the statements for the whole configuration, for a migration tool of the user's."""
    parts = []
    if columns := named(sections.queue):
        parts.append(f"-- queue\n\n{queue_statement(columns)}")
    parts += [
        f"-- lane {name}\n\n{lane_statement(name, named(lane))}" for name, lane in sections.lanes.items()
    ]
    parts += [
        f"-- outbox {entry.table}\n\n{outbox_statement(entry.table, entry, entry.on)}"
        for entry in sections.outbox
    ]
    return parts


def _sets(columns: Mapping[str, Any]) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL(
            "{} = make_interval(secs => {})" if key in _INTERVALS and value is not None else "{} = {}"
        ).format(sql.Identifier(key), value)
        for key, value in columns.items()
    )
