"""DSNs resolved by libpq, for a driver that is not libpq.

A connection attempt with one impossible option fails before libpq opens a socket. The failed connection then
has all its options, from the DSN, a service file and the environment, and the password that a file has for a
host.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgreact.errors import ConfigError

# keys that asyncpg takes from a DSN only; it sends any other key to the server as a setting
_ASYNCPG = (
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
)  # fmt: skip
# keys that asyncpg does not support, and the values that ask for nothing
_UNSUPPORTED = {
    "require_auth": (),
    "channel_binding": ("prefer", "disable"),
    "gssencmode": ("prefer", "allow", "disable"),
}
_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108 - the default directories of libpq's builds
_IMPOSSIBLE = "no such value"  # for an option that libpq checks after it has resolved all others
_NO_FILE = "/dev/null/none"


def resolve(dsn: str) -> dict[str, str]:
    """Return the options that libpq uses for a DSN.

    Args:
        dsn: A URI or keyword/value string; empty: only the ``PG*`` variables and service files.

    Returns:
        Values by libpq's keyword: from the DSN, else its service, else ``PG*``, else compiled in (the order
        of "Database Connection Control Functions" in PostgreSQL's documentation). The password of a password
        file is left out, since it depends on the host.

    Raises:
        ConfigError: The DSN is invalid, or names an unknown service.
    """
    try:
        given = conninfo_to_dict(dsn)
    except ProgrammingError as error:
        raise ConfigError(_error_text(dsn, str(error))) from None
    found = _ask_libpq(dsn, {**given, "passfile": _NO_FILE, "target_session_attrs": _IMPOSSIBLE}).options
    # the two options that had to be given; with a password, libpq reads no password file
    rest = _ask_libpq(dsn, {**given, "password": "-", "sslmode": _IMPOSSIBLE}).options
    for key in ("passfile", "target_session_attrs"):
        found.pop(key)
        if key in rest:
            found[key] = rest[key]
    for key in ("service", "servicefile"):
        found.pop(key, None)
    _check(dsn, found)
    return found


def for_asyncpg(dsn: str) -> dict[str, Any]:
    """Return the keyword arguments of ``asyncpg.connect`` for a DSN.

    Raises:
        ConfigError: As :func:`resolve`; or the DSN asks for something that asyncpg cannot do.
    """
    libpq = resolve(dsn)
    endpoints = _endpoints(libpq)
    hosts = [endpoint.hostaddr or endpoint.host for endpoint in endpoints]
    passwords = {_password(dsn, libpq, endpoint) for endpoint in endpoints}
    refused = [
        f"{key}={libpq[key]}" for key, usual in _UNSUPPORTED.items() if libpq.get(key) not in {None, *usual}
    ]
    if libpq.get("sslmode") == "verify-full" and any(
        endpoint.hostaddr and endpoint.host not in {"", endpoint.hostaddr} for endpoint in endpoints
    ):
        refused.append("sslmode=verify-full with hostaddr beside host")  # asyncpg would verify the address
    if len(passwords) > 1:
        refused.append("hosts whose passwords differ")
    if len(hosts) > 1 and "" in hosts:
        refused.append("an empty host in a list")
    if refused:
        raise ConfigError(
            f"dsn: the daemon's driver, asyncpg, does not support {', '.join(refused)}; give the daemon "
            "a DSN of its own without that (listen_dsn)"
        )
    tls = {key: libpq[key] for key in _ASYNCPG if libpq.get(key)}
    arguments: dict[str, Any] = {
        "dsn": "postgresql://?" + urlencode(tls, quote_via=quote),
        "host": hosts if hosts != [""] else list(_SOCKETS),
        "port": [int(endpoint.port) for endpoint in endpoints],
        "user": libpq.get("user"),
        "database": libpq.get("dbname"),
        # empty, not None: else asyncpg looks for a password by itself
        "password": passwords.pop(),
    }
    if libpq.get("options"):
        arguments["server_settings"] = {"options": libpq["options"]}
    if libpq.get("connect_timeout", "0").isdigit() and int(libpq.get("connect_timeout", "0")) > 0:
        arguments["timeout"] = float(libpq["connect_timeout"])
    return arguments


def redacted(dsn: str) -> str:
    """Return host, port, database and user of a DSN: for logs, without password."""
    libpq = resolve(dsn)
    return make_conninfo(
        "", **{key: libpq[key] for key in ("host", "port", "dbname", "user") if libpq.get(key)}
    )


class _Resolved(NamedTuple):
    options: dict[str, str]
    password: str  # for the first host, also from a password file


class _Endpoint(NamedTuple):
    host: str
    hostaddr: str
    port: str


def _ask_libpq(dsn: str, given: dict[str, Any]) -> _Resolved:
    """Let libpq resolve options, one of which is impossible."""
    attempt = pq.PGconn.connect_start(make_conninfo("", **given).encode())
    try:
        text = attempt.error_message.decode(errors="replace")
        if _IMPOSSIBLE not in text:
            raise ConfigError(_error_text(dsn, text))
        options = {
            option.keyword.decode(): option.val.decode()
            for option in attempt.info
            if option.val is not None and option.val != b""
        }
        return _Resolved(options, attempt.password.decode())
    finally:
        attempt.finish()


def _endpoints(libpq: dict[str, str]) -> list[_Endpoint]:
    """Return where libpq connects, in order; it has checked that the lists have one length."""
    hosts = libpq.get("host", "").split(",")
    addresses = libpq.get("hostaddr", "").split(",")
    count = max(len(hosts), len(addresses))
    ports = libpq.get("port", "").split(",")
    if len(ports) == 1:
        ports *= count
    return [
        _Endpoint(host, address, port.strip() or "5432")
        for host, address, port in zip(
            hosts if hosts != [""] else hosts * count,
            addresses if addresses != [""] else addresses * count,
            ports,
            strict=True,
        )
    ]


def _password(dsn: str, libpq: dict[str, str], endpoint: _Endpoint) -> str:
    # an empty value was empty in the DSN, or not given: the environment must not replace it
    known = {key: libpq.get(key, "") for key in ("user", "dbname", "passfile", "password")}
    return _ask_libpq(dsn, {**known, **endpoint._asdict(), "target_session_attrs": _IMPOSSIBLE}).password


def _check(dsn: str, resolved: dict[str, str]) -> None:
    """Let libpq check ports and modes, which it does only when it connects."""
    # a directory that cannot hold a socket; with a password, libpq reads no password file
    nowhere = {"host": ",".join(["/dev/null"] * len(_endpoints(resolved))), "hostaddr": "", "password": "-"}
    attempt = pq.PGconn.connect_start(make_conninfo("", **{**resolved, **nowhere}).encode())
    text = attempt.error_message.decode(errors="replace")
    attempt.finish()
    if "/dev/null" not in text:
        raise ConfigError(_error_text(dsn, text))


def _error_text(dsn: str, text: str) -> str:
    """Return libpq's message, without the parts that it quotes: they may be part of a password."""
    message = text.strip().splitlines()[0]
    if re.fullmatch(r"[\w./-]+", dsn):
        return f'dsn "{dsn}": {message}'
    if not re.match(
        "invalid connection option|invalid URI query parameter|(definition of )?service", message
    ):
        keywords = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        message = re.sub('"([^"]*)"', lambda found: found[0] if found[1] in keywords else '"…"', message)
    return f"dsn: {message}"
