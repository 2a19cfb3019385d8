"""The settings that pgreact's own sessions depend on, whatever server, database and role have as defaults."""

from collections.abc import Mapping
from types import MappingProxyType

from psycopg import sql

# Those that only a superuser may set are not here: no function of ours depends on them.
SESSION_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # each statement must see what others committed before it began
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        # Only the catalogue: an operator or function that another role made must never be taken for
        # PostgreSQL's. A user's own text (a `ready` query, the name of a table) is read after
        # "set local search_path to default".
        "search_path": "pg_catalog, pg_temp",
        # how values are written and read
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "TimeZone": "UTC",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "quote_all_identifiers": "off",
        "array_nulls": "on",
        # how statements are read
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "plpgsql.extra_errors": "none",
        "plpgsql.extra_warnings": "none",
        # how long they may take; a session that wants a limit sets its own
        "statement_timeout": "0",
        "lock_timeout": "0",
        "transaction_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
    }
)


def pin(settings: Mapping[str, str], *, local: bool) -> str:
    """Return the statement that sets settings.

    Args:
        settings: Values by name. What this version of PostgreSQL does not have is left out.
        local: To the end of the transaction only, as behind a pooler, which gives a session to another client
            after it; otherwise to the end of the session.
    """
    values = sql.SQL(", ").join(sql.SQL("({}, {})").format(name, value) for name, value in settings.items())
    return (
        sql.SQL(
            "select pg_catalog.set_config(s.name, s.value, {}) from (values {}) s (name, value) "
            "where pg_catalog.current_setting(s.name, true) is not null"
        )
        .format(local, values)
        .as_string()
    )
