"""The documents: CONTRIBUTING has a row for each room, and paths and links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
TABLE = "\n".join(line for line in CONTRIBUTING.splitlines() if line[:2] == "| ")
ROOMS = sorted(
    str(place.relative_to(ROOT / "pgreact"))
    for place in (ROOT / "pgreact").rglob("*")
    if (place / "__init__.py").is_file() or (place.parent.name == "pgreact" and place.suffix == ".py")
    if place.name != "__init__.py"
)
PATHS = sorted(
    {
        path
        for path in re.findall(r"`([\w.]+/[\w./]+)`", CONTRIBUTING)
        if not re.search("NAME|NNNN|^.cache", path)
    }
)
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES += sorted(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))
LINKS = [
    (str(page.relative_to(ROOT)), link)
    for page in PAGES
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    if "://" not in link
]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("room", [*ROOMS, "sql", "tests", "docs", "examples", "deploy", "benchmarks"])
def test_room_has_a_row_in_contributing(room: str) -> None:
    assert re.search(rf"`(\w+/)*{re.escape(room.rpartition('/')[2])}/?`", TABLE)


@pytest.mark.parametrize("path", PATHS)
def test_path_in_contributing_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_link_leads_to_a_file_and_a_heading(page: str, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = (ROOT / page).parent / file if file else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target)
