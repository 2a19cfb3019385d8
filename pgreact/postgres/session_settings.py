"""The settings of pgreact's own sessions, whatever the defaults of server, database and role."""

from collections.abc import Mapping
from types import MappingProxyType

from psycopg import sql

# Settings that only a superuser may set are not here: no function of pgreact depends on them.
SESSION_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # each statement must see the commits of others before it began
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        # Only the catalogue: a function or operator of another role must never shadow PostgreSQL's. User text
        # (a `ready` query, the name of a table) is parsed after "set local search_path to default".
        "search_path": "pg_catalog, pg_temp",
        # text formats of values
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "TimeZone": "UTC",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "quote_all_identifiers": "off",
        "array_nulls": "on",
        # parsing of statements
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "plpgsql.extra_errors": "none",
        "plpgsql.extra_warnings": "none",
        # no timeouts; a session that wants one sets its own
        "statement_timeout": "0",
        "lock_timeout": "0",
        "transaction_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
    }
)


def set_config_statement(settings: Mapping[str, str], *, local: bool) -> str:
    """Return the statement that sets settings.

    Args:
        settings: Values by name. The statement skips names that this version of PostgreSQL does not have.
        local: Set them until the end of the transaction, as behind a pooler, which may hand the session to
            another client after it; otherwise until the end of the session.
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
