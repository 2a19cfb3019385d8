"""Runs the command line in this process, and holds it to its word: an exit code, and never a traceback."""

from typing import NamedTuple

from click.testing import CliRunner

from pgreact.cli import main


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def pgreact(*arguments: str, dsn: str | None = None, typed: str | None = None) -> Said:
    """Run ``pgreact ARGUMENTS`` in the current directory."""
    result = CliRunner().invoke(
        main, arguments, input=typed, env={} if dsn is None else {"PGREACT_DSN": dsn}, prog_name="pgreact"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return Said(result.exit_code, result.stdout, result.stderr)
