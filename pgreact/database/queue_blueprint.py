"""The SQL that makes the queue as the configuration says, as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from pgreact.settings import LaneSettings, Outbox, QueueSettings, Settings
from pgreact.shipped import folder, query

_INTERVALS = {"lease", "keep", "dead_retention", "start_within"}


def named(entry: QueueSettings | LaneSettings) -> dict[str, Any]:
    """Return what the file itself says of the queue or of a lane; times in seconds."""
    return {key: getattr(entry, key) for key in type(entry).model_fields if key in entry.model_fields_set}


def queue_statement(columns: Mapping[str, Any]) -> str:
    """Return the statement that sets what holds for all lanes together."""
    return sql.SQL("update pgreact.queue_setting set {};").format(_sets(columns)).as_string()


def lane_statement(name: str, columns: Mapping[str, Any]) -> str:
    """Return the statement that makes a lane, or sets these columns of one."""
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
    """Return the statements that let changes of a table enqueue jobs, as the file says.

    Args:
        table: Its full, quoted name, or what the file has.
        entry: Task, lane and condition.
        events: Those of the entry that are to be attached.
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
    """Return the statements that put back what is built in, should it be gone."""
    watch = folder("sql") / "functions" / "watch_queue.sql"
    return f"{query('queue_restore')}\n{watch.read_text(encoding='utf-8')}"


def script(settings: Settings) -> list[str]:
    """Return all of it, for somebody's own migration tool."""
    parts = []
    if columns := named(settings.queue):
        parts.append(f"-- queue\n\n{queue_statement(columns)}")
    parts += [
        f"-- lane {name}\n\n{lane_statement(name, named(lane))}" for name, lane in settings.lanes.items()
    ]
    parts += [
        f"-- outbox {entry.table}\n\n{outbox_statement(entry.table, entry, entry.on)}"
        for entry in settings.outbox
    ]
    return parts


def _sets(columns: Mapping[str, Any]) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL(
            "{} = make_interval(secs => {})" if key in _INTERVALS and value is not None else "{} = {}"
        ).format(sql.Identifier(key), value)
        for key, value in columns.items()
    )
