"""Procrastinate's application; ``procrastinate --app benchmarks.procrastinate_app.app worker`` runs it."""

import os

import procrastinate

from benchmarks.marks import MarkWriter

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DSN"]))
_marks = MarkWriter()


# coroutines, as Procrastinate recommends: a plain function needs a thread
@app.task(name="bench.start")
async def start(number: int) -> None:
    """Report the start."""
    _marks.began(number)


@app.task(name="bench.noop")
async def noop() -> None:
    """Report the end only."""
    _marks.ended()
