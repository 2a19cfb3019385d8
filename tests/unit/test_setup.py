"""``pgreact.setup``: which database an application's workers ask."""

import pytest
from celery import Celery

import pgreact
from pgreact.worker.database import doors


def test_setup_again_without_a_dsn_keeps_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGREACT_DSN", "dbname=environment")
    app = Celery("proj", broker="memory://", set_as_current=False)
    found = []
    for dsn in (None, "dbname=first", None, "dbname=second", None):
        pgreact.setup(app, dsn=dsn)
        found.append(doors[app].dsn)
    assert found == ["dbname=environment", *["dbname=first"] * 2, *["dbname=second"] * 2]


def test_setup_reads_no_configuration_yet() -> None:
    app = Celery("proj", set_as_current=False)
    app.config_from_object("a.module.that.is.not.there.yet")
    pgreact.setup(app)
    assert not app.configured
