"""Durations: parsed, checked and formatted."""

import pytest

from pgreact.quantities import check_between, format_duration, parse_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (1e-06, "0.001ms"), (0.1, "100ms"), (0.0005, "0.5ms"), (0.123457, "123.457ms"),
     (1.0, "1s"), (1.5, "1.5s"), (59.0, "59s"), (60.0, "1m"), (90.0, "90s"), (3600.0, "1h"),
     (5400.0, "90m"), (86400.0, "1d"), (90000.0, "25h")],
)  # fmt: skip
def test_a_duration_is_shown_as_one_would_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0s"),
        (0.4, "0s"),
        (119.4, "119s"),
        (120.0, "2m"),
        (3600.0, "60m"),
        (7300.0, "2h"),
        (172800.0, "2d"),
    ],
)
def test_an_age_is_shown_roughly(seconds: float, text: str) -> None:
    assert format_duration(seconds, roughly=True) == text


@pytest.mark.parametrize("text", ["99ms", "61s"])
def test_a_duration_out_of_bounds_is_refused_with_its_bounds(text: str) -> None:
    with pytest.raises(ValueError, match=f"""^'{text}' is not a duration between "100ms" and "1m"$"""):
        check_between(parse_duration(text), "100ms", "1m")


def test_bounds_are_durations_that_are_allowed() -> None:
    assert [check_between(seconds, "100ms", "1m") for seconds in (0.1, 60.0)] == [0.1, 60.0]
