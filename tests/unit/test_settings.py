"""The configuration: file, environment and command line, checked as one object."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pgreact.address import Address
from pgreact.errors import ConfigError, nearest
from pgreact.quantities import parse_duration
from pgreact.settings import Given, load, use

ROUTE = '[routes.dispatch]\ntask = "proj.dispatch"\n'


def written(text: str) -> str:
    Path("pgreact.toml").write_text(text, encoding="utf-8")
    return "pgreact.toml"


def refused(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(text), environ or {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        ("1d", 86400),
        ("0", 0),
        ("0.0", 0),
        (" 5 s ", 5),
        (3, 3),
        (0.25, 0.25),
        (0, 0),
        ("0.1234567s", 0.123457),
        ("0.0001ms", 0),
    ],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1.5",
        "s",
        "5 sec",
        "-1s",
        "1m30s",
        "1,5s",
        "inf",
        -1,
        True,
        None,
        [],
        float("nan"),
        float("inf"),
        "99999d",
    ],
)
def test_an_invalid_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|has no unit"):
        parse_duration(text)


def test_a_route_has_the_documented_defaults() -> None:
    route = load(written(ROUTE), {}).routes["dispatch"]
    assert (route.window, route.countdown, route.expires, route.sweep) == (0.1, 0, 15, 60)
    assert (route.single_flight, route.options, route.ready, route.tables) == ("publish", {}, None, ())


def test_settings_are_frozen() -> None:
    settings = load(written(ROUTE), {})
    with pytest.raises(ValidationError):
        settings.dsn = "x"
    with pytest.raises(ValidationError):
        settings.routes["dispatch"].window = 5


def test_the_command_line_wins_over_the_environment_and_that_over_the_file() -> None:
    file = written('dsn = "file"\napp = "file"\nbroker = "file"\n' + ROUTE + 'window = "1s"\nsweep = "1s"\n')
    environ = {"PGREACT_DSN": "env", "PGREACT_APP": "env", "PGREACT_ROUTES__DISPATCH__WINDOW": "2s"}
    settings = load(file, environ, {"dsn": "line", "app": None})
    assert (settings.dsn, settings.app, settings.broker) == ("line", "env", "file")
    assert (settings.routes["dispatch"].window, settings.routes["dispatch"].sweep) == (2, 1)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(written('dsn = "file"'), {"PGREACT_DSN": ""}).dsn == "file"


def test_the_file_is_found_by_option_then_variable_then_here(tmp_path: Path) -> None:
    for name in ("option", "variable", "pgreact"):
        (tmp_path / f"{name}.toml").write_text(f'dsn = "{name}"')
    variable = {"PGREACT_CONFIG": "variable.toml"}
    assert load("option.toml", variable).dsn == "option"
    assert load(None, variable).dsn == "variable"
    assert load(None, {}).dsn == "pgreact"
    assert load(None, {}).source == "pgreact.toml"


def test_without_a_file_the_environment_suffices() -> None:
    settings = load(None, {"PGREACT_BROKER": "redis://"})
    assert (settings.source, settings.broker, settings.routes) == (None, "redis://", {})


def test_the_daemon_connects_to_listen_dsn() -> None:
    assert load(None, {"PGREACT_DSN": "a"}).daemon_dsn == "a"
    assert load(None, {"PGREACT_DSN": "a", "PGREACT_LISTEN_DSN": "b"}).daemon_dsn == "b"


def test_a_routes_variable_matches_names_that_no_variable_can_hold() -> None:
    file = written('[routes."My-route.v2"]\ntask = "t"\n[routes.other]\ntask = "t"')
    environ = {"PGREACT_ROUTES__MY_ROUTE_V2__TASK": "x", "PGREACT_ROUTES__OTHER__SINGLE_FLIGHT": "publish"}
    assert load(file, environ).routes["My-route.v2"].task == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dns = 'x'", 'pgreact.toml: dns: unknown key "dns"; did you mean "dsn"?'),
        (ROUTE + "windows = 1", 'routes.dispatch.windows: unknown key "windows"; did you mean "window"?'),
        (
            ROUTE + 'tables = [{ table = "x", on = ["insert"], whn = "x" }]',
            'unknown key "whn"; did you mean "when"?',
        ),
        (
            ROUTE + 'tables = [{ on = ["insert"] }]',
            "routes.dispatch.tables[0].table: is missing",
        ),
        (ROUTE + 'tables = [{ table = "x" }]', "routes.dispatch.tables[0].on: is missing"),
        (ROUTE + 'tables = [{ table = "x", on = [] }]', "routes.dispatch.tables[0].on: must not be empty"),
        (
            ROUTE + 'tables = [{ table = "x", on = ["inserts"] }]',
            "routes.dispatch.tables[0].on[0]: 'inserts' is not known; did you mean \"insert\"?",
        ),
        (ROUTE + 'tables = [{ table = "x", on = ["insert", "insert"] }]', "on names an event twice"),
        (
            ROUTE + 'tables = [{ table = "x", on = ["truncate"], when = "true" }]',
            "does not apply to a truncate",
        ),
        (
            ROUTE + 'tables = [{ table = "x", on = ["insert"] }, { table = "x", on = ["insert"] }]',
            "routes.dispatch.tables[1]: insert of x is in tables[0] already",
        ),
        (ROUTE + 'tables = [{ table = "", on = ["insert"] }]', "routes.dispatch.tables[0].table: "),
        (ROUTE + 'tables = "x"', "routes.dispatch.tables: "),
        (ROUTE + "window = '1 fortnight'", "routes.dispatch.window: '1 fortnight' is not a duration"),
        (ROUTE + "window = '100'", '"100" has no unit: write "100s" or another'),
        (ROUTE + "window = '2h'", 'window: \'2h\' is not a duration between "0s" and "1h"'),
        (ROUTE + "sweep = '1ms'", "sweep must be 0 (off) or at least"),
        (ROUTE + "single_flight = 'publsh'", 'did you mean "publish"?'),
        (ROUTE + "options = { eta = 1 }", "options must not name eta: set the route's own countdown"),
        (ROUTE + "ready = ''", "routes.dispatch.ready: "),
        ("[routes.dispatch]", "routes.dispatch.task: is missing"),
        ("[routes.'a b']\ntask = 't'", "a route's name begins with a letter"),
        ("[routes.'1a']\ntask = 't'", "a route's name begins with a letter"),
        (f"[routes.{'a' * 64}]\ntask = 't'", "a route's name begins with a letter"),
        ("[routes]\ndispatch = 3", "pgreact.toml: routes.dispatch: "),
        ("routes = 3", "pgreact.toml: routes: "),
        ("dsn = 3", "pgreact.toml: dsn: "),
        ("log_level = 'loud'", "log_level: 'loud' is not known; there are: debug, error, info, warning"),
        ("dsn = ", "pgreact.toml: "),
        ("[a]\n[a]", "pgreact.toml: "),
        (ROUTE + ROUTE, "pgreact.toml: "),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(text: str, message: str) -> None:
    said = refused(text)
    assert said.startswith("pgreact.toml: ")
    assert message in said
    assert len(said.splitlines()) == 1


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(refused(ROUTE + "windo = 1\nswep = 1\n").splitlines()) == 2


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PGREACT_ROUTES__DISPATCH__WINDOW", "soon", "__WINDOW: routes.dispatch.window: 'soon'"),
        ("PGREACT_ROUTES__DISPACH__WINDOW", "1s", 'no route "dispach" in the file; did you mean "dispatch"?'),
        (
            "PGREACT_ROUTES__DISPATCH__WINDOWS",
            "1s",
            '"windows" cannot be set here; did you mean "window"?',
        ),
        ("PGREACT_ROUTES__DISPATCH__TABLES", "x", '"tables" cannot be set here; '),
        ("PGREACT_QUEUE__RETENTIN", "7d", '"retentin" cannot be set here; did you mean "retention"?'),
        (
            "PGREACT_QUEUE__DEFAULT__LEASE",
            "7d",
            '"default__lease" cannot be set here; there are: canary, canary_queue, dead_retention, lease',
        ),
        ("PGREACT_QUEUE__RETENTION", "soon", "__RETENTION: queue.retention: 'soon'"),
        ("PGREACT_LANES__MAIL__WEIGHT", "1", 'no lane "mail" in the file'),
        ("PGREACT_SCHEDULES__A", "1", 'no schedule "a" in the file'),
        ("PGREACT_LOG_LEVEL", "loud", "PGREACT_LOG_LEVEL: log_level: 'loud' is not known"),
        ("PGREACT_HTTP", "9187", "PGREACT_HTTP: http: '9187' is not an address: write HOST:PORT, like"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, value: str, message: str) -> None:
    assert message in refused(ROUTE, {variable: value})


def test_a_variable_for_a_route_that_is_no_table_is_no_crash() -> None:
    assert 'no route "dispatch"' in refused(
        "[routes]\ndispatch = 3", {"PGREACT_ROUTES__DISPATCH__WINDOW": "1s"}
    )


def test_the_environment_overrides_queue_lanes_and_schedules() -> None:
    settings = load(
        written(
            '[lanes.mail]\nweight = 2\n[schedules."send mail (daily)"]\ntask = "t"\nevery = "1d"\n'
            '[schedules.other]\ntask = "t"\nevery = "1d"\n'
        ),
        {
            "PGREACT_QUEUE__RETENTION": "7d",
            "PGREACT_QUEUE__MAX_IN_PROGRESS": "50",
            "PGREACT_LANES__MAIL__PAUSED": "true",
            "PGREACT_LANES__MAIL__RATE": "5/s",
            "PGREACT_SCHEDULES__SEND_MAIL__DAILY___EVERY": "1h",
            "PGREACT_SCHEDULES__OTHER__ENABLED": "false",
        },
    )
    assert (settings.queue.retention, settings.queue.max_in_progress) == (7 * 86400, 50)
    assert (settings.lanes["mail"].paused, settings.lanes["mail"].weight) == (True, 2)
    assert settings.schedules["send mail (daily)"].every == 3600
    assert not settings.schedules["other"].enabled


def test_an_override_that_is_wrong_names_the_option() -> None:
    with pytest.raises(ConfigError, match=r"^--log-level: log_level: 'loud'"):
        load(None, {}, {"log_level": "loud"})
    with pytest.raises(ConfigError, match=r"^--prefix: web.prefix: write a path like /pgreact, without"):
        load(None, {}, {"web.prefix": "pgreact"})


@pytest.mark.parametrize("name", ["nope.toml", "."])
def test_a_file_that_cannot_be_read_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        load(name, {})


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "pgreact.toml").write_bytes(b'dsn = "\xff"')
    with pytest.raises(ConfigError, match=r"^pgreact.toml: "):
        load(None, {})


def test_a_secret_in_the_file_is_not_shown() -> None:
    assert "hunter2" not in refused('dsn = ["postgresql://u:hunter2@h/db"]\nbroker = 1\n')


def test_nearest_names_few_of_many() -> None:
    assert nearest("insrt", ["insert", "delete"]) == '; did you mean "insert"?'
    assert nearest("zzz", ["b", "a"]) == "; there are: a, b"
    assert nearest("zzz", []) == ""
    assert nearest("zzz", [f"n{number:03}" for number in range(500)]).endswith("n010, n011, …")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9187", "127.0.0.1", 9187),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ],
)
def test_an_address_has_host_and_port(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert address == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "wrong",
    ["", ":9187", "9187", "host", "host:", "host:65536", "::1:80", "[::1]", "http://x:1", "a b:1", 9187],
)
def test_anything_else_is_no_address(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not an address: write HOST:PORT"):
        Address.parse(wrong)


@pytest.fixture
def given() -> Iterator[dict[str, Any]]:
    """The configuration that this program has without a file."""
    data: dict[str, Any] = {}
    use(lambda: Given("settings.PGREACT", data))
    yield data
    use(None)


def test_a_program_may_have_the_configuration(given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"dsn": "dbname=shop", "queue": {"lease": "30s"}}
    Path("pgreact.toml").write_text("no TOML")
    settings = load(None, {"PGREACT_QUEUE__LEASE": "20s"})
    assert (settings.dsn, settings.queue.lease, settings.source) == ("dbname=shop", 20.0, "settings.PGREACT")
    assert given == {"dsn": "dbname=shop", "queue": {"lease": "30s"}}
    named = tmp_path / "named.toml"
    named.write_text('dsn = "dbname=other"')
    assert load(str(named), {}).dsn == "dbname=other"
    given["rutes"] = {}
    with pytest.raises(
        ConfigError, match=r'settings\.PGREACT: rutes: unknown key "rutes"; did you mean "routes"'
    ):
        load(None, {})
