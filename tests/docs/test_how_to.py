"""Each how-to guide of the queue and the timetable does what it says."""

from pathlib import Path

import pytest

from tests.docs.pages import pages, run_page
from tests.docs.test_how_to_frameworks import FRAMEWORKS
from tests.harness import Database


@pytest.mark.parametrize("page", pages("how-to/*.md", without=FRAMEWORKS))
def test_guide_does_what_it_says(page: str, database: Database, redis_url: str, tmp_path: Path) -> None:
    run_page(page, database, redis_url, tmp_path)
