"""A DSN as libpq reads it, for those who are not libpq."""

import os
from typing import Any
from urllib.parse import quote, urlencode

from psycopg import OperationalError, ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgreact.errors import ConfigError

# what asyncpg's own DSN understands; it would send any other key to the server as a setting
_ASYNCPG = (
    "host", "port", "user", "password", "dbname", "passfile", "sslmode", "sslcert", "sslkey", "sslrootcert",
    "sslcrl", "sslpassword", "target_session_attrs", "krbsrvname", "gsslib",
)  # fmt: skip


def resolve(dsn: str) -> dict[str, str]:
    """Return all that libpq would use for this DSN.

    Args:
        dsn: A URI or keyword form; empty: only the ``PG*`` variables and service files.

    Returns:
        libpq's keywords: those of the DSN, else of its service, else of ``PG*``, else compiled in
        (PostgreSQL's documentation, "Database Connection Control Functions", gives that order).

    Raises:
        ConfigError: It is no DSN, or names an unknown service.
    """
    try:
        given = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    except ProgrammingError as error:
        raise ConfigError(f"dsn {_shown(dsn)}: {str(error).strip()}") from None
    service = given.pop("service", None)
    before = os.environ.get("PGSERVICE")
    if service is not None:
        os.environ["PGSERVICE"] = service
    try:
        defaults = {
            option.keyword.decode(): option.val.decode()
            for option in pq.Conninfo.get_defaults()
            if option.val is not None
        }
    except OperationalError as error:
        raise ConfigError(f"dsn {_shown(dsn)}: {str(error).strip()}") from None
    finally:
        if service is not None:
            if before is None:
                del os.environ["PGSERVICE"]
            else:
                os.environ["PGSERVICE"] = before
    defaults.pop("service", None)
    return {**defaults, **given}


def for_asyncpg(dsn: str) -> dict[str, Any]:
    """Return the keyword arguments of ``asyncpg.connect`` for this DSN.

    Raises:
        ConfigError: As :func:`resolve`.
    """
    libpq = resolve(dsn)
    known = {key: value for key, value in libpq.items() if key in _ASYNCPG and value}
    arguments: dict[str, Any] = {"dsn": "postgresql://?" + urlencode(known, quote_via=quote)}
    if libpq.get("options"):
        arguments["server_settings"] = {"options": libpq["options"]}
    if libpq.get("connect_timeout", "0").isdigit() and int(libpq.get("connect_timeout", "0")) > 0:
        arguments["timeout"] = float(libpq["connect_timeout"])
    return arguments


def shown(dsn: str) -> str:
    """Return the DSN for a log: where it leads, without password."""
    libpq = resolve(dsn)
    return make_conninfo(
        "", **{key: libpq[key] for key in ("host", "port", "dbname", "user") if libpq.get(key)}
    )


def _shown(dsn: str) -> str:
    return '""' if not dsn else f'"{dsn.partition("@")[2] or dsn}"' if "password" not in dsn else "(hidden)"
