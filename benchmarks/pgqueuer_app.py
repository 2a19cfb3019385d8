"""PgQueuer's worker, with the defaults and the event loop of ``pgq run``.

That command of PgQueuer 1.6 itself does not start with current releases of typer.
"""

import os

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job

from benchmarks.marks import MarkWriter

_marks = MarkWriter()


async def main() -> None:
    """Run the worker until it is terminated."""
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["BENCH_DSN"])))

    @queue.entrypoint("start")
    async def start(job: Job) -> None:
        _marks.began(int(job.payload or b"0"))

    @queue.entrypoint("noop")
    async def noop(_: Job) -> None:
        _marks.ended()

    await queue.run()


if __name__ == "__main__":
    uvloop.run(main())
