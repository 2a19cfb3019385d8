"""The tables of ``docs/scale.md``, which ``benchmarks/scale.py`` computes; its prose is written by hand.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

import re

from benchmarks.scale import tables
from tests.docs.pages import DOCS

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n)[^<]*(<!-- end -->)")


def page() -> str:
    """Return the page with its tables computed anew."""
    found = tables()
    return _TABLE.sub(lambda match: f"{match[1]}\n{found[match[2]]}\n{match[3]}", text())


def text() -> str:
    """Return the page as it is."""
    return (DOCS / "scale.md").read_text("utf-8")


def shown() -> list[str]:
    """Return the names of the page's tables."""
    return [match[2] for match in _TABLE.finditer(text())]
