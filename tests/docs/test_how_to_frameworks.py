"""Each how-to guide of Django, SQLAlchemy, Alembic and of tests does what it says."""

from pathlib import Path

import pytest

from tests.docs.pages import pages, run_page
from tests.harness import Database

FRAMEWORKS = tuple(
    f"how-to/{name}.md"
    for name in ("django*", "alembic", "connections", "sqlalchemy", "testing", "transactional-delay")
)


@pytest.mark.parametrize("page", pages(*FRAMEWORKS))
def test_guide_does_what_it_says(page: str, database: Database, redis_url: str, tmp_path: Path) -> None:
    run_page(page, database, redis_url, tmp_path)
