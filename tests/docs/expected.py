"""The comparison of what a block printed with what its page says."""

import re

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RULE = re.compile(r"[-+]{3,}")  # of a table of psql; as wide as its values


def first_missing(expected: str, printed: str) -> str | None:
    """Return the first expected line that was not printed, if any.

    Args:
        expected: Lines, to be printed in this order; others may be printed between them. ``…`` stands for
            any text in a line; a line of it alone, for any lines. The width of blanks does not count.
        printed: The output.
    """
    lines = iter(_canonical(printed))
    for line in _canonical(expected):
        if line == "…" or not line:
            continue
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
        if not any(pattern.fullmatch(each) for each in lines):
            return line
    return None


def _canonical(text: str) -> list[str]:
    return [_RULE.sub("---", " ".join(line.split())) for line in _ANSI.sub("", text).splitlines()]
