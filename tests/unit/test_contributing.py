"""CONTRIBUTING names each room of the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = "\n".join(
    line for line in (ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines() if line[:2] == "| "
)
ROOMS = sorted(
    str(place.relative_to(ROOT / "pgreact"))
    for place in (ROOT / "pgreact").rglob("*")
    if (place / "__init__.py").is_file() or (place.parent.name == "pgreact" and place.suffix == ".py")
    if place.name != "__init__.py"
)


@pytest.mark.parametrize("room", [*ROOMS, "sql", "tests", "docs", "examples", "deploy", "benchmarks"])
def test_each_room_is_named(room: str) -> None:
    assert re.search(rf"`(\w+/)*{re.escape(room.rpartition('/')[2])}/?`", TABLE)
