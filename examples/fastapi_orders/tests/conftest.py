"""The database of PGREACT_DSN, set up as a deployment does it; each test's transaction is rolled back."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from alembic import command
from alembic.config import Config
from orders.database import async_engine, engine, transaction
from orders.main import app
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run the tests on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _deployed() -> None:
    """Migrate the database, and apply lanes and schedules."""
    command.upgrade(Config(ROOT / "alembic.ini"), "head")
    engine.dispose()
    subprocess.run([sys.executable, "-m", "pgreact", "apply"], cwd=ROOT, check=True)


@pytest.fixture
async def connection() -> AsyncIterator[AsyncConnection]:
    """A connection whose transaction is rolled back."""
    async with async_engine.connect() as opened:
        begun = await opened.begin()
        yield opened
        await begun.rollback()
    await async_engine.dispose()


@pytest.fixture
async def client(connection: AsyncConnection) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API; each request's transaction is a savepoint of the test's."""

    async def in_savepoint() -> AsyncIterator[AsyncSession]:
        async with (
            AsyncSession(
                connection, join_transaction_mode="create_savepoint", expire_on_commit=False
            ) as session,
            session.begin(),
        ):
            yield session

    app.dependency_overrides[transaction] = in_savepoint
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened
    app.dependency_overrides.clear()
