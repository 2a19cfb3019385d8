"""PgQueuer's worker: what ``pgq run`` runs, with its defaults and on its event loop.

Not by that command itself: the one of PgQueuer 1.6 does not start with the typer of today.
"""

import os

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job

from benchmarks.marks import Teller

_tell = Teller()


async def main() -> None:
    """Work until terminated."""
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["BENCH_DSN"])))

    @queue.entrypoint("start")
    async def start(job: Job) -> None:
        _tell.began(int(job.payload or b"0"))

    @queue.entrypoint("noop")
    async def noop(_: Job) -> None:
        _tell.ended()

    await queue.run()


if __name__ == "__main__":
    uvloop.run(main())
