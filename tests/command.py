"""Runs the command line in this process, and holds it to its word: an exit code, and never a traceback."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from pgreact.cli.main import main
from tests.harness import Database


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        """Return what a command that succeeds says with ``--json``."""
        assert self.code == 0, self.err
        found: dict[str, Any] = json.loads(self.out)
        return found


def pgreact(*arguments: str, dsn: str | None = None, typed: str | None = None) -> Said:
    """Run ``pgreact ARGUMENTS`` in the current directory."""
    result = CliRunner().invoke(
        main, arguments, input=typed, env={} if dsn is None else {"PGREACT_DSN": dsn}, prog_name="pgreact"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return Said(result.exit_code, result.stdout, result.stderr)


def write(text: str) -> None:
    """Write the configuration of the current directory."""
    Path("pgreact.toml").write_text(text, encoding="utf-8")


def apply(database: Database, *options: str) -> str:
    """Run ``pgreact apply``, which succeeds; return what it printed."""
    said = pgreact("apply", *options, dsn=database.dsn)
    assert (said.code, said.err) == (0, "")
    return said.out
