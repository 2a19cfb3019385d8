"""The queue's part of the configuration: limits, lanes, outbox."""

from pathlib import Path

import pytest

from pgreact.errors import ConfigError
from pgreact.quantities import format_rate, parse_limit, parse_rate, parse_retention
from pgreact.settings import Settings, load


def loaded(text: str) -> Settings:
    Path("pgreact.toml").write_text(text, encoding="utf-8")
    return load(None, {})


@pytest.mark.parametrize(("text", "jobs"), [(1, 1), (200, 200), ("none", None), (None, None)])
def test_a_limit_is_read(text: object, jobs: int | None) -> None:
    assert parse_limit(text) == jobs


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        (5, 5),
        (0.5, 0.5),
        ("10/s", 10),
        ("90/m", 1.5),
        (" 1.5 / s ", 1.5),
        ("3600/h", 1),
        ("86400/d", 1),
        ("none", None),
        (None, None),
    ],
)
def test_a_rate_is_read(text: object, jobs: float | None) -> None:
    assert parse_rate(text) == jobs


@pytest.mark.parametrize(
    ("jobs", "text"),
    [(5.0, "5/s"), (100 / 60, "100/m"), (1 / 3600, "1/h"), (0.5, "30/m"), (0.1234, "0.1234/s")],
)
def test_a_rate_is_shown_as_one_would_write_it(jobs: float, text: str) -> None:
    shown = format_rate(jobs)
    assert parse_rate(shown) == pytest.approx(jobs)
    assert shown == text


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("7d", 604800), ("none", None), (None, None)])
def test_a_retention_is_read(text: object, seconds: float | None) -> None:
    assert parse_retention(text) == seconds


def test_an_empty_file_has_the_documented_defaults() -> None:
    settings = loaded("[lanes.mail]\n")
    assert (settings.queue.max_in_progress, settings.queue.lease, settings.queue.retention) == (
        None,
        60,
        None,
    )
    lane = settings.lanes["mail"]
    assert (lane.max_in_progress, lane.weight, lane.rate, lane.burst, lane.paused) == (
        None,
        1,
        None,
        1,
        False,
    )
    assert lane.model_fields_set == set()
    assert (settings.outbox, loaded("").lanes) == ((), {})


def test_none_clears_the_queue_of_the_canary() -> None:
    settings = loaded('[queue]\ncanary_queue = "none"')
    assert (settings.queue.canary_queue, settings.queue.model_fields_set) == (None, {"canary_queue"})


def test_an_outbox_is_read() -> None:
    settings = loaded(
        '[[outbox]]\ntable = "orders"\nenqueue = "proj.t"\n'
        '[[outbox]]\ntable = "orders"\non = ["truncate"]\nenqueue = "proj.t"\nlane = "mail"\n'
    )
    first, second = settings.outbox
    assert (first.on, first.lane, first.when) == (("insert", "update", "delete"), None, None)
    assert (second.on, second.lane) == (("truncate",), "mail")


OUTBOX = '[[outbox]]\ntable = "orders"\nenqueue = "proj.t"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[queue]\nleese = '1s'", 'pgreact.toml: queue.leese: unknown key "leese"; did you mean "lease"?'),
        ("[queue]\nlease = '100ms'", "queue.lease: '100ms' is not a duration between \"1s\" and \"1d\""),
        ("[queue]\nlease = '2d'", "queue.lease: '2d' is not a duration between \"1s\" and \"1d\""),
        ("[queue]\nlease = 'long'", "queue.lease: 'long' is not a duration"),
        ("[queue]\nretention = '1m'", "queue.retention: '1m' is not a duration between \"1h\" and \"3650d\""),
        ("[queue]\nstart_within = '1m'", "queue.start_within: '1m' is not a duration between \"1h\" and"),
        ("[queue]\ncanary = '500ms'", "queue.canary: '500ms' is not a duration between \"1s\" and \"1d\""),
        ("[lanes.mail]\ntasks = 'proj.t'", "lanes.mail.tasks: "),
        ("[lanes.mail]\ntasks = ['']", "lanes.mail.tasks[0]: "),
        ("[queue]\nmax_in_progress = 0", 'queue.max_in_progress: 0 is not a limit: write a number of jobs'),
        ("[queue]\nmax_in_progress = true", "queue.max_in_progress: true is not a limit"),
        ("[queue]\nmax_in_progress = 'unlimited'", "'unlimited' is not a limit"),
        ("queue = 3", "pgreact.toml: queue: "),
        ("[lanes.mail]\nwieght = 1", 'lanes.mail.wieght: unknown key "wieght"; did you mean "weight"?'),
        ("[lanes.mail]\nweight = 0", "lanes.mail.weight: 0 is less than 1"),
        ("[lanes.mail]\nweight = 1001", "lanes.mail.weight: 1001 is more than 1000"),
        ("[lanes.mail]\nburst = 0", "lanes.mail.burst: 0 is less than 1"),
        ("[lanes.mail]\npaused = 'maybe'", "lanes.mail.paused: "),
        ("[lanes.mail]\nrate = 0", "lanes.mail.rate: 0 is not a rate between 0.000001 and"),
        ("[lanes.mail]\nrate = '5'", "lanes.mail.rate: '5' is not a rate: write \"10/s\""),
        ("[lanes.mail]\nrate = '5/y'", "lanes.mail.rate: '5/y' is not a rate"),
        ("[lanes.mail]\nrate = '2000000/s'", "lanes.mail.rate: '2000000/s' is not a rate between"),
        ("[lanes.mail]\nrate = false", "lanes.mail.rate: "),
        (f"[lanes.{'a' * 256}]", f"lanes.{'a' * 256}: a lane's name has 1 to 255 characters, none of them a"),
        ("[lanes]\nmail = 3", "pgreact.toml: lanes.mail: "),
        (OUTBOX + "whn = 'x'", 'outbox[0].whn: unknown key "whn"; did you mean "when"?'),
        (OUTBOX + "on = ['insrt']", "outbox[0].on[0]: 'insrt' is not known; did you mean \"insert\"?"),
        (OUTBOX + "on = []", "outbox[0].on: must not be empty"),
        (OUTBOX + "on = ['truncate']\nwhen = 'true'", "does not apply to a truncate"),
        (OUTBOX + 'lane = "a\\u0007"', "outbox[0].lane: a lane's name has 1 to 255 characters"),
        ("[[outbox]]\ntable = 'orders'", "outbox[0].enqueue: is missing"),
        ("[[outbox]]\nenqueue = 't'", "outbox[0].table: is missing"),
        (OUTBOX + OUTBOX, "outbox[1]: insert of orders enqueues proj.t in outbox[0] already"),
        ("[outbox]\ntable = 'orders'", "pgreact.toml: outbox: "),
        ("[routes.'pgreact.queue']\ntask = 't'", "routes.pgreact.queue: this route is built in: [queue] and"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    said = str(caught.value)
    assert said.startswith("pgreact.toml: ")
    assert message in said
    assert len(said.splitlines()) == 1
