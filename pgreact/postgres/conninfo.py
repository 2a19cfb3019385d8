"""A DSN as libpq reads it, for those who are not libpq.

libpq is asked: a connection with one impossible option fails before it goes anywhere, and then tells what all
its options are, from the DSN, a service file and the environment, and which password a file has for a host.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgreact.errors import ConfigError

# what asyncpg takes from a DSN alone; it would send any other key to the server as a setting
_ASYNCPG = (
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
)  # fmt: skip
# what may ask for more than asyncpg does, and the values that do not
_UNHEARD = {
    "require_auth": (),
    "channel_binding": ("prefer", "disable"),
    "gssencmode": ("prefer", "allow", "disable"),
}
_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108 - where a libpq may look without a host
_IMPOSSIBLE = "no such value"  # of an option that libpq checks late, once it knows all others
_NO_FILE = "/dev/null/none"


def resolve(dsn: str) -> dict[str, str]:
    """Return all that libpq would use for this DSN.

    Args:
        dsn: A URI or keyword form; empty: only the ``PG*`` variables and service files.

    Returns:
        libpq's keywords: those of the DSN, else of its service, else of ``PG*``, else compiled in
        (PostgreSQL's documentation, "Database Connection Control Functions", gives that order); without the
        password that a password file has, which depends on the host.

    Raises:
        ConfigError: It is no DSN, or names an unknown service.
    """
    try:
        given = conninfo_to_dict(dsn)
    except ProgrammingError as error:
        raise ConfigError(_complaint(dsn, str(error))) from None
    found = _ask(dsn, {**given, "passfile": _NO_FILE, "target_session_attrs": _IMPOSSIBLE}).options
    # the two that had to be given; with a password libpq looks for no file
    rest = _ask(dsn, {**given, "password": "-", "sslmode": _IMPOSSIBLE}).options
    for key in ("passfile", "target_session_attrs"):
        found.pop(key)
        if key in rest:
            found[key] = rest[key]
    for key in ("service", "servicefile"):
        found.pop(key, None)
    _try(dsn, found)
    return found


def for_asyncpg(dsn: str) -> dict[str, Any]:
    """Return the keyword arguments of ``asyncpg.connect`` for this DSN.

    Raises:
        ConfigError: As :func:`resolve`; or it says what asyncpg cannot do.
    """
    libpq = resolve(dsn)
    places = _places(libpq)
    hosts = [place.hostaddr or place.host for place in places]
    passwords = {_password(dsn, libpq, place) for place in places}
    refused = [
        f"{key}={libpq[key]}" for key, usual in _UNHEARD.items() if libpq.get(key) not in {None, *usual}
    ]
    if libpq.get("sslmode") == "verify-full" and any(
        place.hostaddr and place.host not in {"", place.hostaddr} for place in places
    ):
        refused.append("sslmode=verify-full with hostaddr beside host")  # it would verify the address
    if len(passwords) > 1:
        refused.append("hosts whose passwords differ")
    if len(hosts) > 1 and "" in hosts:
        refused.append("an empty host in a list")
    if refused:
        raise ConfigError(
            f"dsn: the daemon, whose driver is not libpq, cannot do: {', '.join(refused)}; give it a DSN "
            "of its own without that (listen_dsn)"
        )
    tls = {key: libpq[key] for key in _ASYNCPG if libpq.get(key)}
    arguments: dict[str, Any] = {
        "dsn": "postgresql://?" + urlencode(tls, quote_via=quote),
        "host": hosts if hosts != [""] else list(_SOCKETS),
        "port": [int(place.port) for place in places],
        "user": libpq.get("user"),
        "database": libpq.get("dbname"),
        # none is empty: otherwise it looks for one by itself
        "password": passwords.pop(),
    }
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


class _Answer(NamedTuple):
    options: dict[str, str]
    password: str  # of the first host, from a password file, too


class _Place(NamedTuple):
    host: str
    hostaddr: str
    port: str


def _ask(dsn: str, given: dict[str, Any]) -> _Answer:
    """Ask libpq what it makes of options, of which one is impossible."""
    attempt = pq.PGconn.connect_start(make_conninfo("", **given).encode())
    try:
        text = attempt.error_message.decode(errors="replace")
        if _IMPOSSIBLE not in text:
            raise ConfigError(_complaint(dsn, text))
        options = {
            option.keyword.decode(): option.val.decode()
            for option in attempt.info
            if option.val is not None and option.val != b""
        }
        return _Answer(options, attempt.password.decode())
    finally:
        attempt.finish()


def _places(libpq: dict[str, str]) -> list[_Place]:
    """Return where libpq would try to connect, in order; it has checked that the lists are of one length."""
    hosts = libpq.get("host", "").split(",")
    addresses = libpq.get("hostaddr", "").split(",")
    count = max(len(hosts), len(addresses))
    ports = libpq.get("port", "").split(",")
    if len(ports) == 1:
        ports *= count
    return [
        _Place(host, address, port.strip() or "5432")
        for host, address, port in zip(
            hosts if hosts != [""] else hosts * count,
            addresses if addresses != [""] else addresses * count,
            ports,
            strict=True,
        )
    ]


def _password(dsn: str, libpq: dict[str, str], place: _Place) -> str:
    # what is empty was so in the DSN, or nowhere named: the environment must not come in here
    known = {key: libpq.get(key, "") for key in ("user", "dbname", "passfile", "password")}
    return _ask(dsn, {**known, **place._asdict(), "target_session_attrs": _IMPOSSIBLE}).password


def _try(dsn: str, resolved: dict[str, str]) -> None:
    """Let libpq check what it only checks when it connects: ports and modes."""
    # a directory that cannot hold a socket; with a password, nobody looks for one in a file
    nowhere = {"host": ",".join(["/dev/null"] * len(_places(resolved))), "hostaddr": "", "password": "-"}
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
