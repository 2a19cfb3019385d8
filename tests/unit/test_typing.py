"""What a type checker says of calls of the public API."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import datetime
from typing import Unpack

import psycopg

import pgreact


def right(connection: psycopg.Connection, cursor: psycopg.Cursor) -> None:
    job = pgreact.enqueue(connection, "a", [1], {"b": 2}, lane="mail", run_at=datetime.timedelta(1))
    job.task_id.upper()
    pgreact.enqueue_many(cursor, [pgreact.Job("a", unique_while="in_progress"), "b"])[0].task_id.upper()
    retried: bool = pgreact.retry(connection, job)
    if (outcome := pgreact.cancel(connection, job)) is not None:
        outcome.upper()
    pgreact.signal(connection, "dispatch")
    pgreact.mute(connection)


async def awaited(connection: psycopg.AsyncConnection) -> str:
    retried: bool = await pgreact.retry(connection, 1)
    await pgreact.mute(connection)
    return (await pgreact.enqueue(connection, "a", key="k")).task_id


def mail(connection: psycopg.Connection, **parameters: Unpack[pgreact.JobParameters]) -> int:
    return pgreact.enqueue(connection, "mail", **parameters)


def wrong(connection: psycopg.Connection) -> None:
    pgreact.enqueue(connection, "a", priorty=1)  # wrong
    pgreact.enqueue(connection, "a", priority="high")  # wrong
    pgreact.enqueue(connection, "a", unique_while="dead")  # wrong
    pgreact.enqueue(None, "a")  # wrong
    pgreact.Job("a", lane=7)  # wrong
    pgreact.Job("a", delay=7)  # wrong
    pgreact.cancel(connection, "a")  # wrong
    pgreact.signal(connection, 1)  # wrong
"""


def test_type_checker_refuses_wrong_calls_alone(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary",
         "--cache-dir", str(tmp_path / "cache"), "app.py"],
        cwd=tmp_path, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    assert refused == {
        number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")
    }, done.stdout + done.stderr
