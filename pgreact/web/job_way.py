"""The way of one attempt, in spans from its enqueue to its settlement."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_WIDTH = 1000.0
_NARROWEST = 4.0

# from this time on, the attempt was in the part of this name
_PARTS = (
    ("enqueued_at", "held", "delayed, behind a job of its key, or after an earlier attempt"),
    ("ready_at", "transaction", "ready, but its transaction was open"),
    ("committed_at", "claim", "ready, until a claim took it"),
    ("claimed_at", "publish", "until its message was made"),
    ("published_at", "broker", "until a worker started it"),
    ("started_at", "run", "the task ran"),
)


class Span(NamedTuple):
    """A part of the way.

    Attributes:
        part: Its name.
        about: What it is.
        begin: Its first moment.
        seconds: How long it took, or has taken so far.
        x: Where it begins in a bar, of 1000.
        width: Its share of the bar.
    """

    part: str
    about: str
    begin: datetime.datetime
    seconds: float
    x: float
    width: float


def way(row: Mapping[str, Any], now: datetime.datetime) -> list[Span]:
    """Return the spans of an attempt.

    Args:
        row: Of ``web_job`` or ``web_job_attempts``.
        now: The end of an attempt that is not settled.
    """
    if row["claimed_at"] is None:
        return []
    found = list(_spans(row, now))
    total = sum(seconds for *_, seconds in found) or 1.0
    widths = [max(seconds / total * _WIDTH, _NARROWEST) for *_, seconds in found]
    scale = _WIDTH / sum(widths)
    spans, x = [], 0.0
    for (part, about, begin, seconds), width in zip(found, widths, strict=True):
        spans.append(Span(part, about, begin, seconds, round(x, 1), round(width * scale, 1)))
        x += width * scale
    return spans


def _spans(
    row: Mapping[str, Any], now: datetime.datetime
) -> Iterator[tuple[str, str, datetime.datetime, float]]:
    if row["committed_at"] is None:  # not known: the claim's part begins when the job was ready
        row = {**row, "ready_at": None, "committed_at": row["ready_at"]}
    known = [(part, about, row[name]) for name, part, about in _PARTS if row[name] is not None]
    ends = [begin for *_, begin in known[1:]] + [row.get("settled_at") or now]
    for (part, about, begin), end in zip(known, ends, strict=True):
        # clocks of two machines may differ
        seconds = max(0.0, (end - begin).total_seconds())
        if part != "held" or seconds > 0:
            yield part, about, begin, seconds
