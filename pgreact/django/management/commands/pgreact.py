"""``manage.py pgreact``: the command line ``pgreact`` with Django's settings."""

import argparse
import contextlib
import copy
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import connections

from pgreact.cli.main import TRACEBACK, main

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """Run pgreact with the configuration of Django's settings.

The setting PGREACT takes what pgreact.toml takes; the database comes from DATABASES.

\b
Example:
  manage.py pgreact listen    # run the daemon, as a service on two machines
  manage.py pgreact status
"""


class Command(BaseCommand):
    """Passes all arguments to click, whose options may have the names of Django's."""

    help = "Runs pgreact with Django's settings: listen, status, doctor, schedule, queue and others."
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return a parser that takes each argument as it is."""
        parser = super().create_parser(prog_name, subcommand, **options)
        parser.prefix_chars = ""  # no argument is an option of this parser
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the arguments of :func:`call_command`."""
        parser.add_argument("args", nargs=argparse.REMAINDER)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print the help, for ``manage.py help pgreact``."""
        _run(["--help"], prog_name, subcommand)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run a command of the command line.

        Args:
            argv: As ``sys.argv`` has them: program, ``pgreact``, arguments.

        Raises:
            SystemExit: The command's exit code.
        """
        connections.close_all()  # those of the start: a daemon would keep them idle
        try:
            _run(argv[2:], argv[0], argv[1])
        finally:
            connections.close_all()

    def handle(self, *args: str, **options: Any) -> None:
        """Run a command for :func:`call_command`.

        Raises:
            CommandError: Its exit code, which is ``returncode``, is not 0.
        """
        with (
            contextlib.redirect_stdout(options.get("stdout") or sys.stdout),
            contextlib.redirect_stderr(options.get("stderr") or sys.stderr),
        ):
            try:
                _run(args, "manage.py", "pgreact")
            except SystemExit as end:
                if end.code:
                    said = f"pgreact {' '.join(args)}: exit code {end.code}"
                    raise CommandError(said, returncode=int(end.code)) from None


def _run(arguments: "Sequence[str]", program: str, subcommand: str) -> None:
    """Run the command line; a mistake is a line on standard error.

    Raises:
        SystemExit: Always, with the exit code.
    """
    name = Path(program).name
    name = "python -m django" if name == "__main__.py" else name
    command = copy.copy(main)
    command.help = HELP
    command.params = [*main.params, *_DJANGO_OPTIONS]
    command.commands = {key: found for key, found in main.commands.items() if key != "demo"}
    command.main([*arguments], prog_name=f"{name} {subcommand}")


def _keep_colors_away(ctx: click.Context, _option: click.Parameter, given: bool) -> None:
    if given:
        ctx.color = False
        os.environ["NO_COLOR"] = "1"


def _show_tracebacks(ctx: click.Context, _option: click.Parameter, given: bool) -> None:
    ctx.meta[TRACEBACK] = given


_DJANGO_OPTIONS = (
    click.Option(
        ["--settings"],
        metavar="MODULE",
        expose_value=False,
        help="Django's settings; default: DJANGO_SETTINGS_MODULE.",
    ),
    click.Option(
        ["--pythonpath"],
        metavar="DIRECTORY",
        expose_value=False,
        help="Directory to add to Python's path.",
    ),
    click.Option(
        ["--traceback"],
        is_flag=True,
        expose_value=False,
        callback=_show_tracebacks,
        help="Print the traceback of an error.",
    ),
    click.Option(
        ["--no-color"],
        is_flag=True,
        expose_value=False,
        callback=_keep_colors_away,
        help="Print without colors.",
    ),
)
