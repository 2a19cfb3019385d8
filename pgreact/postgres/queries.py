"""Files of SQL and examples: beside the package in a checkout, inside it in a wheel."""

from functools import cache
from pathlib import Path


@cache
def folder(name: str) -> Path:
    """Return a folder that ships with pgreact.

    Args:
        name: ``sql`` or ``examples/plain``.

    Raises:
        FileNotFoundError: The installation is damaged.
    """
    package = Path(__file__).parents[1]
    for place in (package / name, package.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}/ is missing from {package}: install pgreact again")


def clock_definition() -> str:
    """Return the statement that creates ``pgreact.clock_now()``, which tests replace."""
    text = (folder("sql") / "functions" / "clock_now.sql").read_text(encoding="utf-8")
    return " ".join(text[text.index("create or replace") : text.index(";") + 1].split())


@cache
def query(name: str) -> str:
    """Return the text of ``sql/queries/NAME.sql``."""
    return (folder("sql") / "queries" / f"{name}.sql").read_text(encoding="utf-8")
