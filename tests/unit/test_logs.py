"""The catalogue of events, and the format of the lines."""

import dataclasses
import datetime
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import pytest
import structlog

from pgreact import logs

EVENTS = logs.Event.__subclasses__()
REPOSITORY = Path(__file__).parents[2]
SAMPLES: dict[Any, Any] = {
    int | None: 7,
    str: 'ä "x"\n',
    int: 3,
    float: 0.5,
    bool: True,
    list[str]: ["window"],
    str | None: None,
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Undo what ``configure`` does to the process."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sample(event: type[logs.Event]) -> logs.Event:
    hints = get_type_hints(event)
    return event(**{field.name: SAMPLES[hints[field.name]] for field in dataclasses.fields(event)})


def lines(
    monkeypatch: pytest.MonkeyPatch, form: logs.Format, level: logs.Level, stream: io.StringIO
) -> list[str]:
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(form, level)
    for event in EVENTS:
        logs.emit(sample(event))
    logging.getLogger("kombu").info("chatter")
    logging.getLogger("kombu").warning("news of %s", "others")
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_is_named_noun_and_past_participle(event: type[logs.Event]) -> None:
    noun, _, verb = event.name.partition(".")
    irregular = {"lost", "waiting"}  # waiting is a state: it is logged once, when it begins
    assert re.fullmatch(r"[a-z]+", noun)
    assert verb in irregular or re.fullmatch(r"[a-z]+ed", verb)
    assert event.__name__.lower() == noun + verb
    assert verb != "waiting" or noun in {"standby", "timetable"}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_and_each_of_its_keys_is_explained(event: type[logs.Event]) -> None:
    assert event.__doc__
    assert "pgreact.logs" not in event.__doc__  # the text that dataclass puts in by itself names the class
    for hint in get_type_hints(event, include_extras=True).values():
        if "ClassVar" not in str(hint):
            assert get_origin(hint) is Annotated


def test_event_names_are_unique_and_none_is_missing() -> None:
    names = [event.name for event in EVENTS]
    assert len(set(names)) == len(names)
    assert set(names) >= {
        "listener.connected",
        "listener.lost",
        "leader.elected",
        "leader.lost",
        "leader.resigned",
        "standby.waiting",
        "signal.received",
        "dispatch.published",
        "dispatch.failed",
        "sweep.finished",
        "route.changed",
        "notification.rejected",
        "daemon.started",
        "daemon.stopped",
    }


def test_the_documentation_is_what_the_code_says() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "pgreact.logs"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        cwd=REPOSITORY,
    ).stdout
    assert (REPOSITORY / "docs" / "logs.md").read_text(encoding="utf-8") == made, (
        "run: python -m pgreact.logs > docs/logs.md"
    )


@pytest.mark.parametrize("form", ["json", "auto"])
def test_away_from_a_terminal_each_event_is_a_line_of_json(
    monkeypatch: pytest.MonkeyPatch, form: logs.Format
) -> None:
    *ours, other = map(json.loads, lines(monkeypatch, form, "debug", io.StringIO()))
    assert {(*line,)[:3] for line in (*ours, other)} == {("timestamp", "level", "event")}
    assert [line["event"] for line in ours] == [event.name for event in EVENTS]
    for event, line in zip(EVENTS, ours, strict=True):
        assert line.pop("level") == event.level
        assert datetime.datetime.fromisoformat(line.pop("timestamp")).utcoffset() == datetime.timedelta()
        assert line == {"event": event.name, **dataclasses.asdict(sample(event))}
    assert (other["event"], other["level"], other["logger"]) == ("news of others", "warning", "kombu")


@pytest.mark.parametrize(("form", "stream"), [("auto", Terminal()), ("console", io.StringIO())])
def test_on_a_terminal_events_are_for_people(
    monkeypatch: pytest.MonkeyPatch, form: logs.Format, stream: io.StringIO
) -> None:
    found = lines(monkeypatch, form, "debug", stream)
    assert not any(line.startswith("{") for line in found)
    assert [event.name for event in EVENTS if not any(event.name in line for line in found)] == []
    assert ("\x1b[" in stream.getvalue()) == stream.isatty()


def test_json_can_be_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(json.loads(line) for line in lines(monkeypatch, "json", "info", Terminal()))


@pytest.mark.parametrize(("level", "least"), [("debug", 10), ("info", 20), ("warning", 30), ("error", 40)])
def test_a_level_hides_events_below_it(
    monkeypatch: pytest.MonkeyPatch, level: logs.Level, least: int
) -> None:
    found = [json.loads(line) for line in lines(monkeypatch, "json", level, io.StringIO())]
    numbers = logging.getLevelNamesMapping()
    assert {line["event"] for line in found if "logger" not in line} == {
        event.name for event in EVENTS if numbers[event.level.upper()] >= least
    }


def test_an_exception_of_a_library_stays_one_line_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("json", "info")
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("kombu").exception("outer")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: inner" in json.loads(line)["exception"]


def test_an_installed_rich_neither_formats_tracebacks_nor_is_loaded() -> None:
    code = "import pgreact.logs, sys; assert 'rich' not in sys.modules; import rich.table; print('free')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "free\n", done.stderr
