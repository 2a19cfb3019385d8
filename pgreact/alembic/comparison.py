"""Differences between the declared attachments and those of a database: a function of both, without I/O.

Each event of a table and target is compared alone:

- declared, not attached: attach
- attached as declared: nothing; if its trigger is lost or was changed by hand, attach again
- attached otherwise: detach first of all, attach last of all, so that in between the columns can change
- attached as declared, but this revision changes or drops a column on which the trigger depends: likewise
- attached, not declared, on a table of the models or one that is being dropped: detach
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from pgreact.alembic.attachment import TableAttachment, TableName, Target, Terms, attachment
from pgreact.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Attached:
    """One attached event of a database."""

    table: TableName  # without a schema: in the default one
    target: Target
    event: str
    terms: Terms
    origin: str
    state: str  # of its trigger: ok, or what is wrong
    columns: frozenset[str]  # on which the trigger depends


@dataclasses.dataclass(frozen=True)
class Route:
    """A route of a database."""

    task: str
    origin: str


@dataclasses.dataclass(frozen=True)
class Models:
    """The models, and the operations that Alembic has generated for them.

    Attributes:
        declared: The declared attachments, of tables named as in ``tables``.
        tables: All tables of the models; without a schema: in the default one.
        dropped: Tables that this revision drops.
        altered: Columns that this revision drops, or gives another type, by table.
        schema_of: The schema that operations name for a table.
    """

    declared: Sequence[TableAttachment]
    tables: Collection[TableName]
    dropped: Collection[TableName]
    altered: Mapping[TableName, Collection[str]]
    schema_of: Callable[[TableName], str | None] = lambda table: table.schema


@dataclasses.dataclass
class Difference:
    """The operations that make up for the difference."""

    detach: list[TableAttachment] = dataclasses.field(default_factory=list)
    alter_routes: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)  # name, old, new task
    attach: list[TableAttachment] = dataclasses.field(default_factory=list)
    repair: list[TableAttachment] = dataclasses.field(default_factory=list)
    unknown_routes: list[str] = dataclasses.field(default_factory=list)


def difference(models: Models, attached: Sequence[Attached], routes: Mapping[str, Route]) -> Difference:
    """Compare the declared attachments with those of a database.

    Raises:
        ConfigError: ``pgreact.toml`` attaches or calls what the models declare otherwise, or two declarations
            contradict each other.
    """
    found = Difference()
    found.alter_routes = list(_altered_routes(models.declared, routes))
    known = {*routes, *(each.target.name for each in models.declared if each.task is not None)}
    found.unknown_routes = sorted(
        {each.target.name for each in models.declared if each.target.kind == "route"} - known
    )
    now = {(row.table, row.target, row.event): row for row in attached}
    outdated: list[Attached] = []
    wanted = set()
    for declaration in models.declared:
        attach, repair = [], []
        for event in declaration.on:
            key = declaration.table, declaration.target, event
            wanted.add(key)
            row = now.get(key)
            if row is None:
                attach.append(event)
            elif row.terms != declaration.terms(event):
                _refuse_config(row)
                outdated.append(row)
                attach.append(event)
            elif row.columns.intersection(models.altered.get(row.table, ())):
                outdated.append(row)
                attach.append(event)
            elif row.state != "ok" and row.origin == "sql":
                repair.append(event)
        kept = outdated_of(declaration, outdated)
        if attach:
            # the route of what is only replaced stays
            part = declaration.limited_to(attach)
            found.attach.append(part.with_task(None) if kept else part)
        if repair:
            found.repair.append(declaration.limited_to(repair))
    found.attach = [_with_schema(each, models) for each in found.attach]
    found.repair = [_with_schema(each, models) for each in found.repair]
    surplus = [
        row
        for key, row in now.items()
        if key not in wanted
        and row.origin == "sql"
        and (row.table in models.tables or row.table in models.dropped)
    ]
    still = {row.target.name for row in attached if row not in surplus and row.target.kind == "route"}
    still |= {each.target.name for each in models.declared}
    found.detach = [
        _with_schema(_with_task(each, routes, still), models) for each in grouped([*surplus, *outdated])
    ]
    return found


def outdated_of(declaration: TableAttachment, rows: Iterable[Attached]) -> bool:
    """Return whether one of the rows is of a declaration."""
    return any((row.table, row.target) == (declaration.table, declaration.target) for row in rows)


def grouped(rows: Iterable[Attached]) -> Iterator[TableAttachment]:
    """Return the rows as attachments: events with the same conditions are one."""

    def common(row: Attached) -> tuple[str, ...]:
        terms = row.terms
        return (str(row.table), *row.target, str(terms.lane), str(terms.when), str(terms.always))

    for _, group in groupby(sorted(rows, key=common), common):
        events = list(group)
        first = events[0]
        changed = next((row.terms.changed for row in events if row.terms.changed is not None), None)
        lane = {} if first.terms.lane is None else {"lane": first.terms.lane}
        yield attachment(
            first.table,
            first.target,
            on=tuple(row.event for row in events),
            when=first.terms.when,
            changed=None if changed is None else tuple(sorted(changed)),
            always=first.terms.always,
            **lane,
        )


def _with_schema(each: TableAttachment, models: Models) -> TableAttachment:
    """Name the table as the models do: they may name the default schema, too."""
    return dataclasses.replace(each, table=TableName(models.schema_of(each.table), each.table.name))


def _with_task(each: TableAttachment, routes: Mapping[str, Route], still: Collection[str]) -> TableAttachment:
    """Let the route go with its last table."""
    route = routes.get(each.target.name) if each.target.kind == "route" else None
    if route is None or route.origin != "sql" or each.target.name in still:
        return each
    return each.with_task(route.task)


def _altered_routes(
    declared: Sequence[TableAttachment], routes: Mapping[str, Route]
) -> Iterator[tuple[str, str, str]]:
    tasks: dict[str, str] = {}
    for each in declared:
        if each.task is None:
            continue
        name = each.target.name
        if tasks.setdefault(name, each.task) != each.task:
            raise ConfigError(
                f'route "{name}" is declared with task "{tasks[name]}", and for table {each.table} with '
                f'"{each.task}": a route has one task'
            )
    for name, task in tasks.items():
        route = routes.get(name)
        if route is None or route.task == task:
            continue
        if route.origin != "sql":
            raise ConfigError(
                f'route "{name}" calls "{route.task}" by the configuration of "pgreact apply", and the '
                f'models declare "{task}": name the task in one place'
            )
        yield name, route.task, task


def _refuse_config(row: Attached) -> None:
    if row.origin != "sql":
        raise ConfigError(
            f'table {row.table}, {row.event}: the configuration of "pgreact apply" attaches '
            f'{row.target.kind} "{row.target.name}" with other conditions than '
            "the models declare: declare it in one place"
        )
