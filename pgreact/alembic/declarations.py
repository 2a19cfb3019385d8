"""Declarations beside the models: which changes of a mapped table signal a route or enqueue a task.

Kept in ``MetaData.info``, where autogenerate finds them; a table's own ``info`` would be rendered into each
``op.create_table``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

from sqlalchemy import MetaData, Table

from pgreact.alembic.attachment import TableAttachment, TableName, Target, attachment
from pgreact.errors import ConfigError, nearest
from pgreact.queue.attachment import OUTBOX_EVENTS

_KEY = "pgreact"  # in MetaData.info
_Mapped = TypeVar("_Mapped")


@overload
def watch(
    target: None = None,
    *,
    route: str,
    task: str | None = ...,
    on: Sequence[str],
    when: str | None = ...,
    changed: Sequence[str] | None = ...,
    always: bool = ...,
) -> Callable[[_Mapped], _Mapped]: ...
@overload
def watch(
    target: _Mapped,
    *,
    route: str,
    task: str | None = ...,
    on: Sequence[str],
    when: str | None = ...,
    changed: Sequence[str] | None = ...,
    always: bool = ...,
) -> _Mapped: ...
def watch(
    target: Any = None,
    *,
    route: str,
    task: str | None = None,
    on: Sequence[str],
    when: str | None = None,
    changed: Sequence[str] | None = None,
    always: bool = False,
) -> Any:
    """Declare that changes of a table signal a route; ``alembic revision --autogenerate`` attaches it::

        @watch(route="dispatch", task="app.tasks.dispatch", on=("insert", "update"), changed=("status",))
        class Order(Base): ...


        watch(orders, route="dispatch", on=("insert",))  # a Table

    Args:
        target: A mapped class or a ``Table``; without it, a decorator for a mapped class.
        route: The route's name.
        task: The name of the route's task. Given, a missing route is created by the migration; otherwise
            ``pgreact.toml`` must bring the route before the migration runs.
        on: Of ``insert``, ``update``, ``delete`` and ``truncate``.
        when: A condition in SQL, with ``new`` and ``old``.
        changed: Names of columns, of which an update must change one.
        always: Signal also for rows that logical replication applies.

    Returns:
        The target.

    Raises:
        TypeError: The target is neither.
        ConfigError: A value is wrong, or another declaration has the same event.
    """
    if target is None:
        return lambda mapped: watch(
            mapped, route=route, task=task, on=on, when=when, changed=changed, always=always
        )
    table = _table(target, "watch")
    name = TableName(table.schema, table.name)
    given = {"task": task, "on": on, "when": when, "changed": changed, "always": always}
    _declare(table, attachment(name, Target("route", route), **given))
    return target


@overload
def outbox(
    target: None = None,
    *,
    enqueue: str,
    lane: str | None = ...,
    on: Sequence[str] = ...,
    when: str | None = ...,
    changed: Sequence[str] | None = ...,
    always: bool = ...,
) -> Callable[[_Mapped], _Mapped]: ...
@overload
def outbox(
    target: _Mapped,
    *,
    enqueue: str,
    lane: str | None = ...,
    on: Sequence[str] = ...,
    when: str | None = ...,
    changed: Sequence[str] | None = ...,
    always: bool = ...,
) -> _Mapped: ...
def outbox(
    target: Any = None,
    *,
    enqueue: str,
    lane: str | None = None,
    on: Sequence[str] = OUTBOX_EVENTS,
    when: str | None = None,
    changed: Sequence[str] | None = None,
    always: bool = False,
) -> Any:
    """Declare that each change of a table enqueues a job, in the transaction of the change.

    Args:
        target: As in :func:`watch`.
        enqueue: The name of the task.
        lane: The lane of the jobs. The migration creates a missing one, without limits.
        on: As in :func:`watch`; by default ``insert``, ``update`` and ``delete``.
        when: As in :func:`watch`.
        changed: As in :func:`watch`.
        always: As in :func:`watch`.

    Returns:
        The target.

    Raises:
        TypeError: The target is neither a mapped class nor a ``Table``.
        ConfigError: A value is wrong, or another declaration has the same event.
    """
    if target is None:
        return lambda mapped: outbox(
            mapped, enqueue=enqueue, lane=lane, on=on, when=when, changed=changed, always=always
        )
    table = _table(target, "outbox")
    name = TableName(table.schema, table.name)
    given = {"lane": lane, "on": on, "when": when, "changed": changed, "always": always}
    _declare(table, attachment(name, Target("outbox", enqueue), **given))
    return target


def declared(metadata: MetaData) -> Iterator[tuple[Table, TableAttachment]]:
    """Return what is declared for the tables of a ``MetaData``, in order."""
    entries: list[tuple[Table, TableAttachment]] = metadata.info.get(_KEY, [])
    for table, found in entries:
        if metadata.tables.get(table.key) is table:  # not removed, as by MetaData.clear()
            yield table, found


def _declare(table: Table, found: TableAttachment) -> None:
    place = f"table {found.table}"
    for column in found.what.changed or ():
        known = [each.name for each in table.columns]
        if column not in known:
            raise ConfigError(f'{place}: changed: no column "{column}"{nearest(column, known)}')
    for other_table, other in declared(table.metadata):
        if other_table is not table or other.target != found.target:
            continue
        if other == found:
            return  # declared again, as by a module that is loaded twice
        if twice := sorted(set(other.on) & set(found.on)):
            raise ConfigError(
                f"{place}: {', '.join(twice)} is declared for {found.target.kind} "
                f'"{found.target.name}" already'
            )
    table.metadata.info.setdefault(_KEY, []).append((table, found))


def _table(target: Any, function: str) -> Table:
    table = getattr(target, "__table__", target)
    if not isinstance(table, Table):
        what = target.__qualname__ if isinstance(target, type) else type(target).__name__
        raise TypeError(
            f"pgreact.alembic.{function}: {what} is neither a Table nor a class that is mapped to one: "
            "an abstract class or a mixin has no table yet, declare its subclasses"
        )
    return table
