"""The generated pages are those of the code: ``./run docs --generate`` writes them anew."""

import pytest

from tests.docs.generate import generated
from tests.docs.pages import DOCS
from tests.harness import Database, install


def test_reference_is_that_of_the_code(database: Database) -> None:
    install(database, {})
    with database.connect() as connection:
        found = generated(connection)
    stale = [page for page, text in found.items() if (DOCS / page).read_text("utf-8") != text]
    assert not stale, f"run ./run docs --generate: {', '.join(stale)} differ from the code"


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("cli.md", "## pgreact queue limit"),
        ("python.md", "### pgreact.enqueue"),
        ("settings.md", "| `window` | duration, 0s to 1h | `100ms` | shortest time between two dispatches |"),
        ("sql.md", "### load(lane)"),
    ],
)
def test_reference_has(page: str, line: str) -> None:
    assert line in (DOCS / "reference" / page).read_text("utf-8").splitlines()
