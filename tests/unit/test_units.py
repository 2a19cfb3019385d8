"""Quantities as they are shown."""

import pytest

from pgreact.quantities import duration, short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (1e-06, "0.000001s"), (0.1, "100ms"), (0.0005, "0.0005s"), (0.123457, "0.123457s"),
     (1.0, "1s"), (1.5, "1.5s"), (59.0, "59s"), (60.0, "1m"), (90.0, "90s"), (3600.0, "1h"),
     (5400.0, "90m"), (86400.0, "1d"), (90000.0, "25h")],
)  # fmt: skip
def test_a_duration_is_shown_as_one_would_write_it(seconds: float, text: str) -> None:
    assert short(seconds) == text
    assert duration(text) == seconds


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
    assert short(seconds, roughly=True) == text
