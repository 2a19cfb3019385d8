"""Writes pictures of the pages to docs/images: ``.venv/bin/python -m tests.web_screenshots [URL]``.

Without the URL of running pages, of the demo for example, it shows those of the tests' data.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgreact.demo.postgres import EmbeddedPostgres
from tests.browser import ROOT, chromium, serving, tab
from tests.harness import fresh_database
from tests.web_data import fill

PICTURES = ROOT / "docs" / "images"
TALLEST = 1400  # pixels of a picture
SHOTS = (
    ("overview", "", 1280, "light"),
    ("overview-phone", "", 380, "dark"),
    ("lanes", "lanes", 1280, "light"),
    ("jobs", "jobs", 1280, "light"),
    ("dead", "dead", 1280, "light"),
    ("schedules", "schedules", 1280, "light"),
    ("doctor", "doctor?run=1", 1280, "light"),
)


@contextlib.contextmanager
def _pages() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedPostgres() as server,
        fresh_database(server) as database,
    ):
        fill(database)
        with serving(database.dsn, cwd=Path(directory)) as web:
            yield web.url


def main(url: str, folder: Path, names: tuple[str, ...]) -> None:
    """Write the pictures.

    Args:
        url: Of the pages.
        folder: Where to write.
        names: Only these; none: all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, path, width, scheme in SHOTS:
            if names and name not in names:
                continue
            with tab(browser, width=width, height=800, color_scheme=scheme) as opened:
                opened.page.goto(f"{url}{path}")
                opened.page.wait_for_function(
                    "document.getElementById('connection').textContent !== 'offline'"
                )
                height = min(opened.page.evaluate("document.documentElement.scrollHeight"), TALLEST)
                opened.page.screenshot(
                    path=folder / f"web-{name}.png",
                    full_page=True,
                    clip={"x": 0, "y": 0, "width": width, "height": height},
                )


if __name__ == "__main__":
    given = sys.argv[1:]
    with _pages() if not given else contextlib.nullcontext(given[0]) as found:
        main(found, PICTURES, ())
