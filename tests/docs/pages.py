"""The pages whose blocks are run, and the run of one page."""

import shutil
from pathlib import Path

from redis import Redis

from tests.docs.blocks import RUN, Block, blocks, sandbox_of
from tests.docs.sandbox import Sandbox
from tests.harness import Database

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BROKER_DATABASE = 9  # of Redis: other tests use 0

# How many blocks of each page are only shown although their language can be run; the page says why at each.
NOT_RUN = {
    "how-to/other-languages.md": 1,
}
WITHOUT_BLOCKS = {"how-to/django-celery-beat-differences.md"}  # a table


def pages(*patterns: str, without: tuple[str, ...] = ()) -> list[str]:
    """Return the pages below ``docs/`` that match a pattern, in order.

    Args:
        patterns: Of paths below ``docs/``.
        without: Pages to leave out, as patterns.
    """
    found = {page for pattern in patterns for page in DOCS.glob(pattern)}
    found -= {page for pattern in without for page in DOCS.glob(pattern)}
    return sorted(page.relative_to(DOCS).as_posix() for page in found)


def runnable(found: list[Block]) -> list[Block]:
    """Return the blocks that are written or run."""
    return [block for block in found if block.not_run is None and (block.title or block.language in RUN)]


def run_page(page: str, database: Database, redis_url: str, folder: Path) -> None:
    """Run the blocks of a page, top to bottom, in a sandbox of its own.

    Args:
        page: Below ``docs/``.
        database: A fresh one.
        redis_url: Of the tests' Redis.
        folder: An empty one.

    Raises:
        Failure: A block did not do what the page says.
    """
    text = (DOCS / page).read_text("utf-8")
    found = blocks(text)
    not_run = [block for block in found if block.not_run is not None]
    assert len(not_run) == NOT_RUN.get(page, 0), (
        f"docs/{page}: list its blocks that are not run in {__file__}"
    )
    chosen = runnable(found)
    run = any(block.title is None for block in chosen)
    assert run != (page in WITHOUT_BLOCKS), (
        f"docs/{page}: no block is run, or it is listed wrongly in {__file__}"
    )
    broker = f"{redis_url.rpartition('/')[0]}/{BROKER_DATABASE}"
    with Redis.from_url(broker) as redis:
        redis.flushdb()
    project, state = folder / "project", folder / "state"
    state.mkdir()
    if (start := sandbox_of(text)) is not None:
        shutil.copytree(ROOT / start, project, ignore=shutil.ignore_patterns("__pycache__"))
    project.mkdir(exist_ok=True)
    with Sandbox(f"docs/{page}", project, state, database.dsn, broker) as sandbox:
        for block in chosen:
            sandbox.run(block)
        sandbox.check_background()
