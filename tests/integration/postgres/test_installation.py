"""An application owns a database: another is refused before it changes or publishes anything."""

import json
from collections.abc import Callable

import pytest

from pgreact.settings import Settings
from tests.catalog import catalog
from tests.command import apply, pgreact, write
from tests.harness import NEVER, Daemon, Database, Inbox

Start = Callable[..., Daemon]


def file(app: str | None, route: str, application: str | None = None) -> str:
    """Return a file with one route."""
    return (
        (f'app = "{app}"\n' if app else 'broker = "memory://"\n')
        + (f'application = "{application}"\n' if application else "")
        + f'[routes.{route}]\ntask = "t"\nsweep = {NEVER}\n'
    )


REFUSED = (
    'pgreact: this database belongs to the application "proj", and this is "mall": give each a database of '
    'its own; if they are one, set application = "proj" in pgreact.toml; if "mall" is to take its place, run '
    '"pgreact apply --take-over"\n'
)


@pytest.fixture
def taken(database: Database) -> Database:
    """A database of the application "proj"."""
    write(file("proj.celery:app", "dispatch"))
    assert apply(database).endswith("+ application proj\n+ route dispatch: calls t\n")
    assert apply(database) == "Nothing to change.\n"
    return database


@pytest.mark.parametrize(
    ("app", "application", "name"),
    [
        ("proj.celery:app", None, "proj"), ("proj", None, "proj"), ("proj:app", None, "proj"),
        ("proj.celery:app", "mall", "mall"), (None, "mall", "mall"), (None, None, None), (":app", None, None),
    ],
)  # fmt: skip
def test_an_application_has_its_configured_name_or_that_of_its_package(
    app: str | None, application: str | None, name: str | None
) -> None:
    assert Settings(app=app, application=application).owner == name


def test_apply_by_another_application_is_refused_and_changes_nothing(taken: Database) -> None:
    taken.run("update pgreact.migration set checksum = 'older' where name = 'functions'")
    before = catalog(taken, rows=True)
    write(file("mall.main:celery", "sell"))
    for options in ((), ("--dry-run",), ("--json",)):
        said = pgreact("apply", *options, dsn=taken.dsn)
        assert (said.code, said.out, said.err) == (1, "", REFUSED)
    assert catalog(taken, rows=True) == before


@pytest.mark.parametrize(
    "text",
    [
        file(None, "dispatch"),
        file("proj.other:app", "dispatch"),
        file("mall.main:app", "dispatch", "proj"),
    ],
)
def test_an_application_of_the_same_name_or_without_name_is_accepted(taken: Database, text: str) -> None:
    write(text)
    assert apply(taken) == "Nothing to change.\n"


def test_the_applications_name_is_also_read_from_the_environment(
    taken: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGREACT_APPLICATION", "mall")
    assert pgreact("apply", dsn=taken.dsn).err == REFUSED


def test_the_first_named_application_becomes_owner_of_a_database_without_one(database: Database) -> None:
    write(file(None, "dispatch"))
    assert "application" not in apply(database)
    write(file("proj", "dispatch"))
    assert apply(database) == "+ application proj\n"


def test_take_over_replaces_owner_and_routes(taken: Database) -> None:
    write(file("mall", "sell"))
    plan = "~ application proj → mall\n- route dispatch, with its triggers\n+ route sell: calls t\n"
    tried = pgreact("apply", "--take-over", "--dry-run", dsn=taken.dsn)
    assert (tried.code, tried.out) == (0, plan)
    assert tried.err.startswith('warning: tasks not checked: Celery application "mall" cannot be')
    assert apply(taken, "--take-over") == plan
    assert apply(taken) == "Nothing to change.\n"
    assert "application mall\n" in pgreact("status", dsn=taken.dsn).out
    assert json.loads(pgreact("status", "--json", dsn=taken.dsn).out)["application"] == "mall"
    write(file(None, "sell"))
    said = pgreact("apply", "--take-over", dsn=taken.dsn)
    assert (said.code, said.err) == (
        2, "pgreact: --take-over needs a name: set application (or app) in pgreact.toml\n",
    )  # fmt: skip


def test_the_printed_sql_refuses_another_application(taken: Database) -> None:
    taken.run(pgreact("apply", "--sql", "--since", "4").out)
    write(file("mall", "sell"))
    script = pgreact("apply", "--sql", "--since", "4").out
    with pytest.raises(Exception, match="this database belongs to another application than mall"):
        taken.run(script)
    assert taken.value("select count(*) from pgreact.route where name = 'sell'") == 0


def listen(daemons: Start, database: Database, inbox: Inbox, application: str | None) -> Daemon:
    """Start a daemon of an application."""
    return daemons(
        database.dsn, inbox.url, environ={"PGREACT_APPLICATION": application} if application else None
    )


def test_a_daemon_of_another_application_is_refused(taken: Database, inbox: Inbox, daemons: Start) -> None:
    write("")
    other = listen(daemons, taken, inbox, "mall")
    assert other.exit() == 1
    assert [event["text"] for event in other.seen("(text)")] == [REFUSED.strip()]
    for name in ("proj", None):
        assert listen(daemons, taken, inbox, name).ready().stop() == 0


def test_a_leader_steps_down_when_another_application_takes_over(
    taken: Database, inbox: Inbox, daemons: Start
) -> None:
    write("")
    leader = listen(daemons, taken, inbox, "proj").ready()
    taken.run("update pgreact.installation set application = 'mall'")
    lost = leader.wait_for("leader.lost", deadline=30)
    assert 'belongs to the application "mall"' in lost["reason"]
    successor = listen(daemons, taken, inbox, "mall")
    successor.wait_for("leader.elected")
    taken.run("update pgreact.installation set application = 'proj'")  # and back
    successor.wait_for("leader.lost", deadline=30)
    leader.wait_for("leader.elected", count=2, deadline=30)
