"""A DSN as libpq reads it, for those who are not libpq."""

import os
import re
from typing import Any
from urllib.parse import quote, urlencode

from psycopg import ProgrammingError, pq
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
        raise ConfigError(_complaint(dsn, str(error))) from None
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
    finally:
        if service is not None:
            if before is None:
                del os.environ["PGSERVICE"]
            else:
                os.environ["PGSERVICE"] = before
    service = defaults.pop("service", None)
    found = {**defaults, **given}
    _try(dsn, found if service is None else {**found, "service": service})
    return found


def for_asyncpg(dsn: str) -> dict[str, Any]:
    """Return the keyword arguments of ``asyncpg.connect`` for this DSN.

    Raises:
        ConfigError: As :func:`resolve`.
    """
    libpq = resolve(dsn)
    known = {key: value for key, value in libpq.items() if key in _ASYNCPG and value}
    if address := libpq.get("hostaddr"):
        known["host"] = address
    if host := known.get("host"):
        # in asyncpg's eyes a colon begins a port
        known["host"] = ",".join(
            f"[{each}]" if ":" in each and not each.startswith("/") else each for each in host.split(",")
        )
    if port := known.get("port"):
        known["port"] = ",".join(each or "5432" for each in port.split(","))
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


def _try(dsn: str, resolved: dict[str, str]) -> None:
    """Let libpq check what it only checks when it connects: ports, modes, and that the service is defined."""
    hosts = (resolved.get("hostaddr") or resolved.get("host") or "").count(",") + 1
    # a directory that cannot hold a socket; with a password, nobody looks for one in a file
    nowhere = {"host": ",".join(["/dev/null"] * hosts), "hostaddr": "", "password": "-"}
    attempt = pq.PGconn.connect_start(make_conninfo("", **{**resolved, **nowhere}).encode())
    text = attempt.error_message.decode(errors="replace")
    attempt.finish()
    if "/dev/null" not in text:
        raise ConfigError(_complaint(dsn, text))


def _complaint(dsn: str, text: str) -> str:
    """Say what libpq said; it quotes what it did not understand, which may be part of a password."""
    said = text.strip().splitlines()[0]
    if re.fullmatch(r"[\w./-]+", dsn):
        return f'dsn "{dsn}": {said}'
    if not re.match("invalid connection option|invalid URI query parameter|(definition of )?service", said):
        keywords = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        said = re.sub('"([^"]*)"', lambda found: found[0] if found[1] in keywords else '"…"', said)
    return f"dsn: {said}"
