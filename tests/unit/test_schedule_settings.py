"""The timetable's part of the configuration."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from pgreact.errors import ConfigError, quoted
from pgreact.quantities import parse_time
from pgreact.settings import Settings, load
from pgreact.timetable.settings import ScheduleSettings

UTC = datetime.UTC
EVERY = 'task = "t"\nevery = "30s"\n'


def loaded(text: str) -> Settings:
    Path("pgreact.toml").write_text(text, encoding="utf-8")
    return load(None, {})


def entry(text: str) -> ScheduleSettings:
    return loaded(f"[schedules.a]\n{text}").schedules["a"]


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return str(caught.value)


def test_an_empty_file_has_the_documented_defaults() -> None:
    assert entry(EVERY).model_dump() == {
        "task": "t",
        "args": [],
        "kwargs": {},
        "timezone": "UTC",
        "every": 30.0,
        "cron": None,
        "cron_and": False,
        "at": None,
        "solar": None,
        "rrule": None,
        "anchor": None,
        "enabled": True,
        "start_at": None,
        "end_at": None,
        "max_runs": None,
        "jitter": 0.0,
        "misfire": "coalesce",
        "grace": 60.0,
        "catch_up": 100,
        "overlap": True,
        "delivery": "queue",
        "lane": None,
        "priority": 0,
        "max_attempts": 1,
        "options": {},
        "expires": None,
        "retention": None,
        "description": "",
    }
    assert loaded("").schedules == {}


def test_all_keys_are_read() -> None:
    found = entry(
        'task = "t"\nargs = [1, "two"]\nkwargs = {user = 1, since = 2026-01-01}\ncron = "0 9 * * *"\n'
        'cron_and = true\ntimezone = "Europe/Paris"\nanchor = 2026-01-01T00:00:00Z\nenabled = false\n'
        "start_at = 2026-01-01T00:00:00+02:00\nend_at = 2027-01-01\nmax_runs = 3\n"
        'jitter = "5m"\nmisfire = "all"\ngrace = "1h"\ncatch_up = 7\noverlap = false\ndelivery = "queue"\n'
        'lane = "mail"\npriority = -1\nmax_attempts = 2\noptions = {queue = "q"}\nexpires = "1d"\n'
        'retention = "30d"\ndescription = "the newsletter"\n'
    )
    assert (found.jitter, found.grace, found.expires, found.retention) == (300, 3600, 86400, 30 * 86400)
    assert found.kwargs == {"user": 1, "since": "2026-01-01"}
    assert found.start_at == datetime.datetime(2025, 12, 31, 22, tzinfo=UTC)
    assert found.model_fields_set == set(ScheduleSettings.model_fields) - {"every", "at", "solar", "rrule"}


@pytest.mark.parametrize("name", ["a", "send mail (daily)", "a.b", "ä", "7", "x" * 200])
def test_a_name_is_any_text(name: str) -> None:
    assert list(
        loaded(f"[schedules.{quoted(name) if name != 'a.b' else repr(name)}]\n{EVERY}").schedules
    ) == [name]


@pytest.mark.parametrize(
    ("key", "shown"), [("a", "a"), ("a-b.c_1", "a-b.c_1"), ("a b", '"a b"'), ("", '""'), ("a\nb", '"a\\nb"')]
)
def test_a_name_in_a_message_is_one_word(key: str, shown: str) -> None:
    assert quoted(key) == shown


# ---- times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-01T09:00:00+02:00",
        "2026-07-01T07:00:00Z",
        "2026-07-01T09:00:00",
        '"2026-07-01 09:00"',
        '"2026-07-01T09:00:00+02:00"',
    ],
)
def test_a_time_without_an_offset_is_read_in_the_entrys_zone(text: str) -> None:
    # the zone may stand behind it
    found = entry(f'task = "t"\nat = {text}\ntimezone = "Europe/Paris"\n')
    assert found.at == datetime.datetime(2026, 7, 1, 7, tzinfo=UTC)


def test_a_date_is_its_first_moment() -> None:
    assert entry('task = "t"\nat = 2026-07-01\n').at == datetime.datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-03-29T02:30:00", "2026-10-25T02:30:00"])
def test_a_time_that_clocks_show_twice_or_never_needs_an_offset(text: str) -> None:
    said = refused(f'[schedules.a]\ntask = "t"\ntimezone = "Europe/Paris"\nat = {text}\n')
    assert said == (
        "pgreact.toml: schedules.a.at: clocks change in Europe/Paris then: "
        f"{text.replace('T', ' ')} occurs twice or never; add the offset, like +01:00"
    )
    assert entry(f'task = "t"\ntimezone = "Europe/Paris"\nat = {text}+01:00\n')


@pytest.mark.parametrize("value", [5, "", "tomorrow", None, True, datetime.time(1)])
def test_an_invalid_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a time: write it like"):
        parse_time(value)


# ---- what is compared with the last time -------------------------------------------------------------------


def test_an_entry_has_one_form_however_it_was_written() -> None:
    one = entry('task = "t"\nevery = "1m"\nstart_at = 2026-07-01T09:00:00+02:00\nkwargs = {a = 1, b = 2}\n')
    other = entry('kwargs = {b = 2, a = 1}\nevery = 60\nstart_at = 2026-07-01T07:00:00\ntask = "t"\n')
    assert one.entry() == other.entry()
    assert one.entry() == {
        "task": "t",
        "every": 60.0,
        "start_at": "2026-07-01T07:00:00Z",
        "kwargs": {"a": 1, "b": 2},
    }


# ---- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('task = "t"', "a: does not recur: set exactly one of every, cron, at, solar and rrule"),
        (EVERY + 'cron = "x"', "a: recurs in 2 ways (every, cron): set exactly one of"),
        ('every = "5s"', "a.task: is missing"),
        ('task = ""\nevery = "5s"', "a.task: string should have at least 1 character"),
        ('task = "t"\nevery = 5e-2', "a.every: '50ms' is not a duration between \"100ms\" and"),
        (
            'task = "t"\nevery = "36501d"',
            "a.every: '36501d' is not a duration between",
        ),
        ('task = "t"\nevery = "5"', 'a.every: "5" has no unit: write "5s"'),
        ('task = "t"\ncron = ""', "a.cron: string should have at least 1 character"),
        (EVERY + "kron = 1", 'a.kron: unknown key "kron"; did you mean "cron"?'),
        (EVERY + 'misfire = "skipp"', "a.misfire: 'skipp' is not known; did you mean \"skip\"?"),
        (EVERY + 'delivery = "x"', "a.delivery: 'x' is not known; there are: direct, queue"),
        (EVERY + "catch_up = 0", "a.catch_up: 0 is less than 1"),
        (EVERY + "max_runs = 0", "a.max_runs: 0 is less than 1"),
        (EVERY + 'jitter = "32d"', "a.jitter: '32d' is not a duration between"),
        (EVERY + 'expires = "0s"', "a.expires: '0s' is not a duration between"),
        (EVERY + 'retention = "1m"', 'a.retention: \'1m\' is not a duration between "1h" and "3650d"'),
        (EVERY + "args = {}", "a.args: input should be a valid list"),
        (EVERY + "kwargs = {a = inf}", "a.kwargs: out of range float values are not JSON compliant"),
        (EVERY + 'kwargs = {a = "\\u0000"}', "a: contains a NUL character, which PostgreSQL cannot store"),
        (EVERY + 'description = "\\u0000"', "a: contains a NUL character"),
        (EVERY + 'start_at = "soon"', "a.start_at: 'soon' is not a time"),
        (EVERY + "start_at = 5", "a.start_at: 5 is not a time"),
        (EVERY + "start_at = 0001-01-01T00:00:00+01:00", "a.start_at: 0001-01-01 00:00:00+01:00 is beyond"),
        (EVERY + 'timezone = "Mars"\nstart_at = 2026-01-01', "a.start_at: 2026-01-01 00:00:00 has no offset"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(text: str, message: str) -> None:
    said = refused(f"[schedules.a]\n{text}")
    assert said.startswith("pgreact.toml: schedules.")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["''", f"'{'x' * 201}'", '"a\\u0000"'])
def test_a_bad_name_is_refused(name: str) -> None:
    assert refused(f"[schedules.{name}]\n{EVERY}").endswith(
        ": a schedule's name has 1 to 200 characters, none of them NUL"
    )


def test_a_backslash_before_u0000_is_no_nul_character() -> None:
    found: Any = entry(EVERY + "args = ['\\u0000', '\\\\u0000']")
    assert found.args == ["\\u0000", "\\\\u0000"]


def test_a_mistake_in_a_schedule_whose_name_is_no_word_quotes_it() -> None:
    assert refused(f"[schedules.'a b']\n{EVERY}x = 1").startswith(
        'pgreact.toml: schedules."a b".x: unknown key'
    )
