"""The catalogue of a database, without oids and other numbers that differ between databases."""

from typing import Any

from tests.harness import Database

_OURS = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"
_PARTS = {
    "schemas": f"""
        select nspname, nspacl::text, obj_description(oid)
        from pg_namespace n
        where {_OURS}""",
    "relations": f"""
        select c.oid::regclass::text, relkind, relpersistence, relispartition, relacl::text, reloptions,
            obj_description(c.oid)
        from pg_class c
        join pg_namespace n on n.oid = relnamespace
        where {_OURS}""",
    "columns": f"""
        select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
            pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
        from pg_attribute
        join pg_class c on c.oid = attrelid
        join pg_namespace n on n.oid = relnamespace
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attnum > 0 and {_OURS}""",
    "constraints": f"""
        select conrelid::regclass::text, conname, pg_get_constraintdef(c.oid)
        from pg_constraint c
        join pg_namespace n on n.oid = connamespace
        where {_OURS}""",
    "indexes": f"""
        select indexrelid::regclass::text, pg_get_indexdef(indexrelid)
        from pg_index
        join pg_class c on c.oid = indexrelid
        join pg_namespace n on n.oid = relnamespace
        where {_OURS}""",
    "functions": f"""
        select p.oid::regprocedure::text, pg_get_functiondef(p.oid), proacl::text, obj_description(p.oid)
        from pg_proc p
        join pg_namespace n on n.oid = pronamespace
        where prokind = 'f' and {_OURS}""",
    "triggers": """
        select tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid)
        from pg_trigger
        where not tgisinternal""",
    "types": f"""
        select t.oid::regtype::text, typtype
        from pg_type t
        join pg_namespace n on n.oid = typnamespace
        where {_OURS}""",
    "counts": """
        select (select count(*) from pg_proc), (select count(*) from pg_class),
            (select count(*) from pg_type), (select count(*) from pg_trigger),
            (select count(*) from pg_default_acl)""",
}
_ROWS = {
    "routes": "select to_jsonb(r) - 'id' from pgreact.route r",
    "watched": """
        select r.name, relation::text, event, condition, w.origin
        from pgreact.watched w
        join pgreact.route r on r.id = route_id""",
    "migrations": "select name, checksum from pgreact.migration",
}


def catalog(database: Database, *, rows: bool = False) -> dict[str, list[str]]:
    """Describe all objects; with ``rows``, also the rows of pgreact's tables."""
    with database.connect() as connection:

        def described(statement: str) -> list[str]:
            found: list[tuple[Any, ...]] = connection.execute(statement.encode()).fetchall()
            return sorted(map(repr, found))

        return {part: described(text) for part, text in (_PARTS | (_ROWS if rows else {})).items()}
