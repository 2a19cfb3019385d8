"""Each tutorial of a framework does what it says."""

from pathlib import Path

import pytest

from tests.docs.pages import pages, run_page
from tests.harness import Database

TUTORIALS = ("tutorials/django*.md", "tutorials/fastapi*.md")


@pytest.mark.parametrize("page", pages(*TUTORIALS))
def test_tutorial_does_what_it_says(page: str, database: Database, redis_url: str, tmp_path: Path) -> None:
    run_page(page, database, redis_url, tmp_path)
