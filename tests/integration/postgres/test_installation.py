"""A database belongs to one application: another is refused before it changes or sends anything."""

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
    'pgreact: this database belongs to the application "proj", and this is "shop": give each a database of '
    'its own; if they are one, set application = "proj" in pgreact.toml; if "shop" is to take its place, run '
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
        ("proj.celery:app", "shop", "shop"), (None, "shop", "shop"), (None, None, None), (":app", None, None),
    ],
)  # fmt: skip
def test_an_application_is_named_or_goes_by_its_package(
    app: str | None, application: str | None, name: str | None
) -> None:
    assert Settings(app=app, application=application).belongs_to == name


def test_apply_of_another_is_refused_and_changes_nothing(taken: Database) -> None:
    taken.run("update pgreact.migration set checksum = 'older' where name = 'functions'")
    before = catalog(taken, rows=True)
    write(file("shop.main:celery", "sell"))
    for options in ((), ("--dry-run",), ("--json",)):
        said = pgreact("apply", *options, dsn=taken.dsn)
        assert (said.code, said.out, said.err) == (1, "", REFUSED)
    assert catalog(taken, rows=True) == before


@pytest.mark.parametrize(
    "text",
    [
        file(None, "dispatch"),
        file("proj.other:app", "dispatch"),
        file("shop.main:app", "dispatch", "proj"),
    ],
)
def test_who_has_that_name_or_none_is_let_in(taken: Database, text: str) -> None:
    write(text)
    assert apply(taken) == "Nothing to change.\n"


def test_a_name_comes_from_the_environment_too(taken: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGREACT_APPLICATION", "shop")
    assert pgreact("apply", dsn=taken.dsn).err == REFUSED


def test_the_first_with_a_name_takes_a_database_of_nobody(database: Database) -> None:
    write(file(None, "dispatch"))
    assert "application" not in apply(database)
    write(file("proj", "dispatch"))
    assert apply(database) == "+ application proj\n"


def test_another_may_take_over_and_its_routes_replace_those_before(taken: Database) -> None:
    write(file("shop", "sell"))
    plan = "~ application proj → shop\n- route dispatch, with its triggers\n+ route sell: calls t\n"
    tried = pgreact("apply", "--take-over", "--dry-run", dsn=taken.dsn)
    assert (tried.code, tried.out) == (0, plan)
    assert tried.err.startswith('warning: tasks not checked: Celery application "shop" cannot be')
    assert apply(taken, "--take-over") == plan
    assert apply(taken) == "Nothing to change.\n"
    assert "application shop\n" in pgreact("status", dsn=taken.dsn).out
    assert json.loads(pgreact("status", "--json", dsn=taken.dsn).out)["application"] == "shop"
    write(file(None, "sell"))
    said = pgreact("apply", "--take-over", dsn=taken.dsn)
    assert (said.code, said.err) == (
        2, "pgreact: --take-over needs a name: set application (or app) in pgreact.toml\n",
    )  # fmt: skip


def test_the_printed_sql_refuses_another_too(taken: Database) -> None:
    taken.run(pgreact("apply", "--sql", "--since", "3").out)
    write(file("shop", "sell"))
    script = pgreact("apply", "--sql", "--since", "3").out
    with pytest.raises(Exception, match="this database belongs to another application than shop"):
        taken.run(script)
    assert taken.value("select count(*) from pgreact.route where name = 'sell'") == 0


def listen(daemons: Start, database: Database, inbox: Inbox, application: str | None) -> Daemon:
    """Start a daemon of an application."""
    return daemons(
        database.dsn, inbox.url, environ={"PGREACT_APPLICATION": application} if application else None
    )


def test_a_daemon_of_another_is_refused(taken: Database, inbox: Inbox, daemons: Start) -> None:
    write("")
    other = listen(daemons, taken, inbox, "shop")
    assert other.exit() == 1
    assert [event["text"] for event in other.seen("(text)")] == [REFUSED.strip()]
    for name in ("proj", None):
        assert listen(daemons, taken, inbox, name).ready().stop() == 0


def test_a_leader_whose_database_is_taken_steps_down(taken: Database, inbox: Inbox, daemons: Start) -> None:
    write("")
    leader = listen(daemons, taken, inbox, "proj").ready()
    taken.run("update pgreact.installation set application = 'shop'")
    lost = leader.wait_for("leader.lost", deadline=30)
    assert 'belongs to the application "shop"' in lost["reason"]
    successor = listen(daemons, taken, inbox, "shop")
    successor.wait_for("leader.elected")
    taken.run("update pgreact.installation set application = 'proj'")  # and back
    successor.wait_for("leader.lost", deadline=30)
    leader.wait_for("leader.elected", count=2, deadline=30)
