"""The database: the web process is asynchronous, tasks and migrations are not; psycopg serves both."""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, sessionmaker

URL = "postgresql+psycopg://"
# PGREACT_DSN as pgreact reads it: a URL or key=value; unset, the variables PGHOST, PGDATABASE and so on
WHERE: Any = conninfo_to_dict(os.environ.get("PGREACT_DSN", ""))

engine = create_engine(URL, connect_args=WHERE)
Session = sessionmaker(engine)
async_engine = create_async_engine(URL, connect_args=WHERE)
WebSession = async_sessionmaker(async_engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The base of the models."""


async def transaction() -> AsyncIterator[AsyncSession]:
    """A session for one request: its transaction commits if the request succeeds."""
    async with WebSession.begin() as session:
        yield session


# scope="function": the commit comes before the response. By default it would come after it, and a client
# could hear of an order whose commit then fails.
Transaction = Annotated[AsyncSession, Depends(transaction, scope="function")]
