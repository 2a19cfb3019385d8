"""Functions and tables of the schema, from the catalog of a live database."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.docs.reference.markdown import code, finished, head, table

KINDS = ("daemon", "worker", "enqueuer", "scheduler", "monitor", "operator", "signaller")
PROCESSES = {"daemon", "worker"}  # a function that these call is pgreact's own
OWNERS = ("attach", "detach", "grant_role", "purge")  # for the owner of the schema, who runs "pgreact apply"
GUIDES = {
    "attach": "../queue.md",
    "cancel": "../queue.md#enqueue",
    "enqueue": "../queue.md#enqueue",
    "enqueue_many": "../queue.md#enqueue",
    "grant_role": "../configuration.md#roles",
    "load": "../how-to/scaling.md",
    "retry": "../queue.md#enqueue",
    "why_job": "../queue.md#why-a-job-does-not-run",
}

_FUNCTIONS = """
select p.proname, p.oid::regprocedure::text, pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc'),
    pg_get_function_arguments(p.oid), {kinds}
from pg_proc p
where p.pronamespace = 'pgreact'::regnamespace and p.prorettype <> 'trigger'::regtype
order by p.proname, p.pronargs, pg_get_function_arguments(p.oid)
"""
_TABLES = """
select c.oid, c.relname, obj_description(c.oid, 'pg_class'), {kinds}
from pg_class c
where c.relnamespace = 'pgreact'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
order by c.relname
"""
_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
    a.attidentity <> '', col_description(a.attrelid, a.attnum)
from pg_attribute a
left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
_RIGHTS = ("select", "insert", "update", "delete")
_SHORT = {"timestamp with time zone": "timestamptz", "double precision": "float8"}


def page(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
    """Return ``docs/reference/sql.md``.

    Args:
        connection: Of a superuser, to a database with pgreact's schema; changes are rolled back.
    """
    lines = head(
        "SQL",
        "the catalog of a database",
        "Kinds of roles are those of `pgreact.grant_role`: see [Roles](../configuration.md#roles).",
    )
    with connection.transaction(force_rollback=True):
        (database,) = connection.execute("select current_database()").fetchone() or ("",)
        roles = {kind: f"{database}_{kind}" for kind in KINDS}
        for kind, role in roles.items():
            connection.execute(f'create role "{role}"'.encode())
            connection.execute("select pgreact.grant_role(%s::regrole, %s)", (role, kind))
        lines += _functions(connection, roles)
        lines += _tables(connection, roles)
    return finished(lines)


def _functions(connection: "psycopg.Connection[tuple[Any, ...]]", roles: dict[str, str]) -> Iterator[str]:
    kinds = ", ".join(f"has_function_privilege('{role}', p.oid, 'execute')" for role in roles.values())
    rows = connection.execute(_FUNCTIONS.format(kinds=kinds).encode()).fetchall()
    found = [(*row[:5], [kind for kind, may in zip(roles, row[5:], strict=True) if may]) for row in rows]
    yield from ("## Functions for applications", "")
    for name, _, result, comment, arguments, callers in found:
        if callers and not PROCESSES & {*callers}:
            yield from _function(name, result, comment, arguments, f"Kinds: {', '.join(callers)}.")
    yield from ("## Functions for the owner", "")
    for name, _, result, comment, arguments, callers in found:
        if name in OWNERS:
            assert not callers, f"{name} is for the owner, and granted to {callers}"
            yield from _function(name, result, comment, arguments, "")
    yield from ("## Functions of pgreact itself", "")
    yield from ("Called by daemons, workers and commands; they may change with any release.", "")
    own = [
        (code(_short(shown)), comment, ", ".join(callers))
        for _, shown, _, comment, _, callers in found
        if PROCESSES & {*callers}
    ]
    yield from table(("function", "does", "kinds"), own)


def _function(name: str, result: str, comment: str, arguments: str, callers: str) -> Iterator[str]:
    parts = _short(arguments).split(", ") if arguments else []
    inside = ", ".join(parts) if len(arguments) < 60 else "\n    " + ",\n    ".join(parts) + "\n"
    guide = f" [Guide]({GUIDES[name]})." if name in GUIDES else ""
    yield from (
        f"### {name}({_names(parts)})",
        "",
        f"{comment[0].upper()}{comment[1:]}. {callers}{guide}".rstrip(),
        "",
    )
    yield from ("```sql", f"pgreact.{name}({inside}) returns {_short(result)}", "```", "")


def _names(parts: list[str]) -> str:
    """Return the names of the first arguments, which tell overloaded functions apart."""
    names = [part.split()[0] for part in parts if not part.startswith("OUT ")]
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")


def _tables(connection: "psycopg.Connection[tuple[Any, ...]]", roles: dict[str, str]) -> Iterator[str]:
    kinds = ", ".join(
        f"has_any_column_privilege('{role}', c.oid, '{right}')"
        if right != "delete"
        else f"has_table_privilege('{role}', c.oid, '{right}')"
        for role in roles.values()
        for right in _RIGHTS
    )
    yield from ("## Tables", "")
    yield "Read and join them as you like. Change rows of `lane`, `route` and `schedule`; the others through"
    yield "functions and commands."
    yield ""
    for oid, name, comment, *may in connection.execute(_TABLES.format(kinds=kinds).encode()).fetchall():
        rights = {kind: [right for right in _RIGHTS if may.pop(0)] for kind in roles}
        if not any(rights.values()):
            continue
        yield from (f"### {name}", "", f"{comment[0].upper()}{comment[1:]}.", "")
        said = "; ".join(f"{kind}: {', '.join(granted)}" for kind, granted in rights.items() if granted)
        yield from (f"Rights, of some columns or all: {said}.", "")
        columns = connection.execute(_COLUMNS.encode(), (oid,)).fetchall()
        yield from table(
            ("column", "type", "default", ""),
            [
                (
                    code(column),
                    _short(kind) + ("" if null else " or null"),
                    "generated" if identity else code(_short(default or "")),
                    text or "",
                )
                for column, kind, null, default, identity, text in columns
            ],
        )


def _short(text: str) -> str:
    """Return types and defaults as people write them."""
    text = re.sub(
        r"(?<!\w)(NULL|'[^']*')::[\w. ]+(\[\])?", lambda found: found[1].replace("NULL", "null"), text
    )
    text = text.replace("DEFAULT", "default")
    for long, short in _SHORT.items():
        text = text.replace(long, short)
    return text
