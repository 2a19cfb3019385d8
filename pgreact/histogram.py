"""Histograms of durations: counts by bucket and a sum, for a cost of well under a microsecond; quantiles."""

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence

LATENCIES = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)  # seconds


class Histogram:
    """Counts durations by the buckets of Prometheus: each has an inclusive upper bound.

    Attributes:
        bounds: The upper bounds in seconds, ascending.
        counts: Durations by bucket, and above the last bound; not cumulative.
        sum: Of the durations, in seconds.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(
        self, bounds: Sequence[float] = LATENCIES, counts: Sequence[int] | None = None, total: float = 0.0
    ) -> None:
        """Count from zero, or go on from counts.

        Args:
            bounds: As the attribute.
            counts: One more than there are bounds.
            total: The sum so far.
        """
        self.bounds = bounds
        self.counts = list(counts) if counts is not None else [0] * (len(bounds) + 1)
        self.sum = total

    def observe(self, seconds: float) -> None:
        """Count one duration; a clock that was set back makes no negative ones."""
        if seconds < 0:
            seconds = 0.0
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each upper bound, infinity last, with the number of durations up to it."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield bound, total


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Return the value below which a share of a histogram's observations lie, as Prometheus estimates it.

    Args:
        counts: Observations by bucket, and above the last bound.
        bounds: The upper bounds of the buckets; the first one begins at 0.
        share: Between 0 and 1.

    Returns:
        Interpolated within its bucket; the last bound, if it lies above; ``None`` without observations.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for (low, high), count in zip(itertools.pairwise((0.0, *bounds)), counts, strict=False):
        if count and below + count >= rank:
            return low + (high - low) * (rank - below) / count
        below += count
    return bounds[-1]
