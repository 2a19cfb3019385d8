"""A step of a plan, and helpers for the plans of all parts."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgreact.errors import ConfigError, nearest

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Change:
    """One step: ``+`` adds, ``~`` changes, ``-`` removes.

    Steps that share a statement or a group are executed in one transaction.
    """

    sign: str
    what: str
    statement: str
    group: str | None = None
    tables: tuple[str, ...] = ()  # the user's tables, and schedules, that the step locks

    def __str__(self) -> str:
        """Return the step as a line of a diff."""
        return f"{self.sign} {self.what}"


def rows(connection: Connection, text: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Run a query; return its rows as dictionaries."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(text.encode(), parameters).fetchall()


def resolve(connection: Connection, table: str, place: str) -> tuple[int, str]:
    """Look up a table that the file names.

    Args:
        connection: Any session on the database.
        table: The name as the file has it.
        place: File and key, for the error.

    Returns:
        The table's oid and its full, quoted name.

    Raises:
        ConfigError: The table does not exist, or the text is not a name.
    """
    try:
        with savepoint(connection):
            connection.execute("set local search_path to default")  # the user's own
            [(oid,)] = connection.execute(
                "select pg_catalog.to_regclass(%s::pg_catalog.text)::pg_catalog.oid", (table,)
            ).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        raise  # the role may not use the schema
    except psycopg.Error as error:
        raise ConfigError(
            f'{place}.table: "{table}" is not a table name: {error.diag.message_primary}'
        ) from None
    found = connection.execute(
        "select c.oid::bigint, format('%%I.%%I', n.nspname, c.relname) from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace where c.oid = %s",
        (oid,),
    ).fetchall()
    if not found:
        known = [
            name
            for (name,) in connection.execute(
                "select format('%I.%I', n.nspname, c.relname) from pg_class c "
                "join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') "
                "and c.relpersistence <> 't' "
                "and n.nspname not in ('pg_catalog', 'information_schema', 'pgreact')"
            )
        ]
        schema, _, bare = table.rpartition(".")
        namesakes = [name for name in known if name.rpartition(".")[2] == bare]
        hint = nearest(namesakes[0] if namesakes else f"{schema or 'public'}.{bare}", known)
        raise ConfigError(f'{place}.table: no table "{table}" in the database{hint}')
    return int(found[0][0]), str(found[0][1])


def relation_of(row: Mapping[str, Any]) -> sql.Composable:
    """Return the table of a row of ``trigger_health`` or ``queue_outbox`` as an SQL expression.

    The expression has the name, since the oid differs between databases; a dropped table has only its oid.
    """
    if row["trigger"] == "table dropped":
        return sql.SQL("{}::oid").format(row["relation"])
    return sql.SQL("{}::regclass").format(row["table"])


def conditions(when: str | None, always: bool, changed: Sequence[str] | None) -> str:
    """Return the conditions of a trigger, as they follow the table's name in a line.

    Args:
        when: The trigger's condition.
        always: Whether the trigger also fires for rows that logical replication applies.
        changed: Columns of which an update must change one.
    """
    return (
        (f" when {when}" if when else "")
        + (f", changed {', '.join(changed)}" if changed else "")
        + (", always" if always else "")
    )


@contextlib.contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """Run a block in a savepoint that is rolled back, so that its failure does not end the transaction."""
    with connection.transaction(force_rollback=True):
        yield
