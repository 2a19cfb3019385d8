"""The first page and the tutorials to move in do what they say."""

from pathlib import Path

import pytest

from tests.docs.pages import pages, run_page
from tests.docs.test_tutorials_frameworks import TUTORIALS
from tests.harness import Database


@pytest.mark.parametrize("page", pages("index.md", "tutorials/*.md", without=TUTORIALS))
def test_page_does_what_it_says(page: str, database: Database, redis_url: str, tmp_path: Path) -> None:
    run_page(page, database, redis_url, tmp_path)
