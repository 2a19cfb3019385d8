"""Parts of generated pages."""

import re
from collections.abc import Iterable, Sequence


def head(title: str, source: str, text: str) -> list[str]:
    """Return the head of a page.

    Args:
        title: Of the page.
        source: Where its text comes from.
        text: What the page has.
    """
    return [f"# {title}", "", f"Generated from {source} by `./run docs --generate`; do not edit. {text}", ""]


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, and an empty one."""
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return [*lines, ""]


def cell(text: str) -> str:
    """Return a text that does not end its cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def code(text: str) -> str:
    """Return a text as code; nothing for nothing."""
    return f"`{text}`" if text else ""


def finished(lines: Iterable[str]) -> str:
    """Return the lines as a file."""
    return "\n".join(lines).rstrip() + "\n"
