"""The output of the benches: tables, and bars that a run meets or misses."""

import dataclasses
import math
import os
import platform
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Bar:
    """A limit for one number: at most, or at least."""

    what: str
    value: float
    limit: float
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the number is within the limit."""
        return self.value >= self.limit if self.least else self.value <= self.limit


class Report:
    """Prints results at once, and keeps the bars for the verdict."""

    def __init__(self) -> None:
        self._bars: list[Bar] = []
        print(
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}"
        )

    def table(self, title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Print a table, its first column left-aligned and the others right-aligned."""
        first = max(len(title), *(len(name) for name, _ in rows)) + 2
        widths = [
            max(len(column), *(len(cells[index]) for _, cells in rows)) + 2
            for index, column in enumerate(columns)
        ]

        def line(name: str, cells: Sequence[str]) -> str:
            return name.ljust(first) + "".join(c.rjust(w) for c, w in zip(cells, widths, strict=True))

        print(f"\n{line(title, columns)}\n{'-' * (first + sum(widths))}")
        for name, cells in rows:
            print(line(name, cells))

    def note(self, text: str) -> None:
        """Print a remark."""
        print(f"  {text}", flush=True)

    def bar(self, what: str, value: float, limit: float, unit: str = "", *, least: bool = False) -> None:
        """Add a number and its limit to the verdict."""
        self._bars.append(Bar(what, value, limit, unit, least))

    def bar_of_rounds(self, what: str, values: Sequence[float], limit: float, *, least: bool = False) -> None:
        """Add the median of the values of some rounds, and their spread."""
        value, lowest, highest = median_and_spread(values)
        self.bar(f"{what} ({lowest:.2f} to {highest:.2f})", value, limit, least=least)

    def verdict(self) -> int:
        """Print all bars; return the exit status: 1 if one was missed."""
        self.table(
            "bar",
            ["measured", "bar", ""],
            [
                (
                    bar.what,
                    [
                        f"{bar.value:.4g}{bar.unit}",
                        f"{'≥' if bar.least else '≤'} {bar.limit:.4g}{bar.unit}",
                        _word(bar),
                    ],
                )
                for bar in self._bars
            ],
        )
        self.note(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        return 0 if all(bar.met for bar in self._bars) else 1


def median_and_spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the least and the most."""
    return statistics.median(values), min(values), max(values)


def percentile(sample: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the sample do not exceed."""
    return sorted(sample)[max(0, math.ceil(len(sample) * percent / 100) - 1)]


def ms(seconds: float) -> str:
    """Return milliseconds with two decimals."""
    return f"{seconds * 1000:.2f}"


def _word(bar: Bar) -> str:
    return "met" if bar.met else "MISSED"
