"""Runs the command line in the test's process; a traceback fails the test."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from pgreact.cli.main import main
from tests.harness import Database


class Result(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        """Return the output of ``--json``, parsed; the command must have succeeded."""
        assert self.code == 0, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found


def pgreact(*arguments: str, dsn: str | None = None, typed: str | None = None) -> Result:
    """Run ``pgreact ARGUMENTS`` in the current directory."""
    result = CliRunner().invoke(
        main, arguments, input=typed, env={} if dsn is None else {"PGREACT_DSN": dsn}, prog_name="pgreact"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return Result(result.exit_code, result.stdout, result.stderr)


def write(text: str) -> None:
    """Write ``pgreact.toml`` in the current directory."""
    Path("pgreact.toml").write_text(text, encoding="utf-8")


def apply(database: Database, *options: str) -> str:
    """Run ``pgreact apply``, which must succeed; return its output."""
    done = pgreact("apply", *options, dsn=database.dsn)
    assert (done.code, done.err) == (0, "")
    return done.out
