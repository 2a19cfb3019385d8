"""A DSN is resolved as libpq does, and its password is never shown."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from asyncpg import connect_utils

from pgreact.errors import ConfigError
from pgreact.postgres import conninfo

Env = pytest.MonkeyPatch


@pytest.fixture
def service(tmp_path: Path, monkeypatch: Env) -> Callable[[str], None]:
    """Writes a service file."""

    def write(text: str) -> None:
        (tmp_path / "services").write_text(text)
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))

    return write


def parts(dsn: str, *keys: str) -> tuple[str | None, ...]:
    found = conninfo.resolve(dsn)
    return tuple(found.get(key) for key in keys)


def asked(dsn: str) -> tuple[list[tuple[str, int] | str], dict[str, object]]:
    """Return what asyncpg makes of the arguments: addresses, and the rest."""
    arguments = conninfo.for_asyncpg(dsn)
    addresses, found, *_ = connect_utils._parse_connect_dsn_and_args(
        dsn=arguments["dsn"],
        host=arguments["host"],
        port=arguments["port"],
        user=arguments["user"],
        password=arguments["password"],
        passfile=None,
        database=arguments["database"],
        ssl=None,
        service=None,
        servicefile=None,
        direct_tls=None,
        server_settings=arguments.get("server_settings"),
        target_session_attrs=None,
        krbsrvname=None,
        gsslib=None,
    )
    return addresses, {key: getattr(found, key) for key in found._fields}


# ---- as libpq reads it -------------------------------------------------------------------------------------


def test_the_dsn_wins_over_its_service_and_that_over_the_environment(
    monkeypatch: Env, service: Callable[[str], None]
) -> None:
    service("[app]\nhost=of-service\nport=7000\nuser=of-service\n[other]\nhost=x\n")
    for variable in ("PGHOST", "PGUSER", "PGDATABASE"):
        monkeypatch.setenv(variable, "of-env")
    found = parts("service=app host=of-dsn", "host", "user", "dbname", "port", "service")
    assert found == ("of-dsn", "of-service", "of-env", "7000", None)
    assert parts("postgresql:///?service=app", "host") == ("of-service",)


def test_the_environments_service_counts_unless_the_dsn_names_another(
    monkeypatch: Env, service: Callable[[str], None]
) -> None:
    service("[app]\nhost=of-app\n[other]\nhost=of-other\n")
    monkeypatch.setenv("PGSERVICE", "app")
    assert parts("", "host") == ("of-app",)
    assert parts("service=other", "host") == ("of-other",)
    assert parts("", "host") == ("of-app",)  # and it is as before


def test_an_empty_dsn_is_the_environment(monkeypatch: Env) -> None:
    monkeypatch.setenv("PGHOST", "h")
    monkeypatch.setenv("PGPORT", "1234")
    monkeypatch.setenv("PGDATABASE", "d")
    monkeypatch.setenv("PGPASSWORD", "p")
    assert parts("", "host", "port", "dbname", "password") == ("h", "1234", "d", "p")


def test_an_option_that_is_not_given_is_libpqs_default() -> None:
    assert parts("host=h", "port", "sslmode") == ("5432", "prefer")


@pytest.mark.parametrize("dsn", ["service=nope", "postgresql:///?service=nope"])
def test_an_unknown_service_is_refused(dsn: str, service: Callable[[str], None]) -> None:
    service("[app]\nhost=x\n")
    with pytest.raises(ConfigError, match=r'^dsn.*: definition of service "nope" not found$'):
        conninfo.resolve(dsn)


def test_an_unknown_service_of_the_environment_is_refused(
    monkeypatch: Env, service: Callable[[str], None]
) -> None:
    service("[app]\nhost=x\n")
    monkeypatch.setenv("PGSERVICE", "nope")
    with pytest.raises(ConfigError, match='definition of service "nope" not found'):
        conninfo.resolve("")


def test_a_missing_service_file_is_refused(monkeypatch: Env, tmp_path: Path) -> None:
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"service file .* not found"):
        conninfo.resolve("service=app")


@pytest.mark.parametrize(
    "dsn",
    [
        "nonsense",
        "host=h nope=1",
        "postgresql://h/d?nope=1",
        "postgresql://[::1/d",
        "host=h port=bad",
        "port=99999",
        "host=a,b port=1,2,3",
        "sslmode=maybe",
        "target_session_attrs=some",
        "postgresql://h:1:2/d",
    ],
)
def test_a_dsn_that_libpq_refuses_is_refused_at_once_in_one_line(dsn: str) -> None:
    with pytest.raises(ConfigError, match=r"^dsn") as caught:
        conninfo.resolve(dsn)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "host=h",
        "host=a,b port=1,2",
        "host=a,b",
        "hostaddr=127.0.0.1",
        "hostaddr=127.0.0.1,127.0.0.2 host=a,b",
        "postgresql://u:p@[::1]:5/d",
        "host=/tmp",
        "sslmode=verify-full",
        "service=app",
        "postgresql://%2Ftmp/d",
        "host=h sslmode=require target_session_attrs=read-write load_balance_hosts=random",
    ],
)
def test_a_dsn_that_libpq_accepts_is_accepted(dsn: str, service: Callable[[str], None]) -> None:
    service("[app]\nhost=a,b\nport=1,2\n")
    assert conninfo.resolve(dsn)["port"]


# ---- for asyncpg -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "addresses"),
    [
        ("host=h port=6000", [("h", 6000)]),
        ("host=a,b port=1,2", [("a", 1), ("b", 2)]),
        ("host=a,b port=1", [("a", 1), ("b", 1)]),
        ("host=a,b port=1,", [("a", 1), ("b", 5432)]),
        ("host=/run/x,b port=5", ["/run/x/.s.PGSQL.5", ("b", 5)]),
        ("postgresql://[::1]:6000/d", [("::1", 6000)]),
        ("host=::1,fe80::1,h port=1,2,3", [("::1", 1), ("fe80::1", 2), ("h", 3)]),
        ("host=name hostaddr=127.0.0.2 port=1", [("127.0.0.2", 1)]),
        ("hostaddr=::1 port=1", [("::1", 1)]),
    ],
)
def test_asyncpg_connects_to_the_same_addresses(dsn: str, addresses: list[object]) -> None:
    assert asked(dsn)[0] == addresses


@pytest.mark.parametrize("value", ["plain", "p w", "&+%/?=#:@,", "größe", "'\"\\", "%41"])
def test_any_value_reaches_asyncpg_unharmed(monkeypatch: Env, value: str) -> None:
    monkeypatch.setenv("PGUSER", value)
    monkeypatch.setenv("PGPASSWORD", value)
    monkeypatch.setenv("PGDATABASE", value)
    found = asked("host=h")[1]
    assert (found["user"], found["password"], found["database"]) == (value, value, value)


def test_options_and_time_out_reach_asyncpg() -> None:
    arguments = conninfo.for_asyncpg("host=h options='-c search_path=x' connect_timeout=3")
    assert arguments["server_settings"] == {"options": "-c search_path=x"}
    assert arguments["timeout"] == 3
    assert "timeout" not in conninfo.for_asyncpg("host=h connect_timeout=0")
    assert "server_settings" not in conninfo.for_asyncpg("host=h application_name=x keepalives=1")


def test_tls_and_session_settings_reach_asyncpg() -> None:
    found = asked("host=h sslmode=require target_session_attrs=read-write")[1]
    assert found["sslmode"] == connect_utils.SSLMode.require
    assert found["target_session_attrs"] == connect_utils.SessionAttribute.read_write


@pytest.mark.parametrize("named", ["passfile", "PGPASSFILE"])
def test_the_password_file_is_used_as_libpq_does(monkeypatch: Env, tmp_path: Path, named: str) -> None:
    file = tmp_path / "passwords"
    found = "from-file"
    file.write_text(f"h:6000:d:u:{found}\n")
    file.chmod(0o600)
    dsn = "host=h port=6000 dbname=d user=u"
    if named == "passfile":
        dsn += f" passfile={file}"
    else:
        monkeypatch.setenv("PGPASSFILE", str(file))
    assert asked(dsn)[1]["password"] == found
    assert asked(dsn + " password=given")[1]["password"] != found


async def test_a_wrong_dsn_never_reaches_asyncpg(monkeypatch: Env) -> None:
    async def connect(**_arguments: object) -> None:
        raise AssertionError("asked asyncpg")

    monkeypatch.setattr(asyncpg, "connect", connect)
    from pgreact.postgres.session import Session

    with pytest.raises(ConfigError, match="port"):
        await Session.open("host=h port=bad", "test")


# ---- for people --------------------------------------------------------------------------------------------


def test_a_dsn_is_shown_with_host_port_database_and_user() -> None:
    assert conninfo.redacted("postgresql://u:hunter2@h:6000/d") == "host=h port=6000 dbname=d user=u"
    assert conninfo.redacted("host='a b' user=u dbname=d") == "host='a b' port=5432 dbname=d user=u"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2@h:6000/d",
        "postgresql://u:hun%zzter2hunter2@h/d",
        "host=h password=hunter2 nope=1",
        "host=h password=my hunter2",
        "host=h pasword=hunter2",
        "postgresql://u:p@hunter2@h/d",
        "user=u hunter2",
        "postgresql://u:p:hunter2@h/d",
        "postgresql://u:x@1:hunter2@h/d",
        "postgresql://u:hunter2@[::1/d",
        "postgresql://u@h/d?password=hunter2&sslmode=maybe",
        "password='hunter2",
        "postgresql://h/d?password=%hunter2",
    ],
)
def test_a_password_is_never_shown(dsn: str) -> None:
    try:
        said = conninfo.redacted(dsn)
    except ConfigError as error:
        said = str(error)
    assert "hunter2" not in said or dsn.startswith("postgresql://u:p@hunter2")  # there it is the host's name


def test_resolving_a_dsn_opens_no_connection(monkeypatch: Env, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        port = server.getsockname()[1]
        conninfo.for_asyncpg(f"postgresql://u@127.0.0.1:{port}/d?target_session_attrs=any&sslmode=disable")
        conninfo.redacted(f"host=127.0.0.1,localhost port={port}")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_environment_is_never_changed(monkeypatch: Env, service: Callable[[str], None]) -> None:
    service("[app]\nhost=h\n")
    changed: list[str] = []
    monkeypatch.setattr(type(os.environ), "__setitem__", lambda _self, key, _value: changed.append(key))
    monkeypatch.setattr(type(os.environ), "__delitem__", lambda _self, key: changed.append(key))
    assert parts("service=app", "host") == ("h",)
    conninfo.for_asyncpg("service=app")
    assert changed == []


@pytest.mark.parametrize(
    ("dsn", "what"),
    [
        ("host=h channel_binding=require", "channel_binding=require"),
        ("host=h require_auth=scram-sha-256", "require_auth=scram-sha-256"),
        ("host=h hostaddr=192.0.2.1 sslmode=verify-full", "sslmode=verify-full with hostaddr beside host"),
        ("host=a,b passfile={passwords}", "hosts whose passwords differ"),
        ("host=a,,b", "an empty host in a list"),
    ],
)
def test_options_that_asyncpg_does_not_support_are_refused(dsn: str, what: str, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("a:*:*:*:one\nb:*:*:*:other\n")
    passwords.chmod(0o600)
    with pytest.raises(ConfigError, match=re.escape(what) + ".*listen_dsn"):
        conninfo.for_asyncpg(dsn.format(passwords=passwords))


def test_a_server_without_host_name_is_verified_by_its_address(tmp_path: Path) -> None:
    assert conninfo.for_asyncpg("hostaddr=192.0.2.1 sslmode=verify-full")["host"] == ["192.0.2.1"]
    assert conninfo.for_asyncpg("host=h hostaddr=192.0.2.1 sslmode=verify-ca")["host"] == ["192.0.2.1"]
