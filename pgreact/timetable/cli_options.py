"""The columns of a schedule as options of a command."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from pgreact.errors import ConfigError
from pgreact.timetable.columns import CHOICES, FLAGS, VALUES, Mistakes, read_columns
from pgreact.timetable.settings import WAYS, ScheduleSettings


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each column of a schedule except its task."""
    options = [
        *(
            click.option(_option(column), metavar=value, help=text)
            for column, (value, text) in VALUES.items()
        ),
        *(
            click.option(_option(column), type=click.Choice(words), help=text)
            for column, (words, text) in CHOICES.items()
        ),
        *(click.option(words, column, default=None, help=text) for column, (words, text) in FLAGS.items()),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def entry(given: Mapping[str, Any]) -> ScheduleSettings:
    """Return the schedule that a command's options describe.

    Args:
        given: The options' values, by column.

    Raises:
        ConfigError: Options are wrong; one line for each.
    """
    ways = [_option(way) for way in WAYS if way in given]
    if len(ways) != 1:
        said = f"{' and '.join(ways)} exclude each other" if ways else "no recurrence given"
        raise ConfigError(f"{said}: give one of {', '.join(map(_option, WAYS))}")
    try:
        return read_columns(given)
    except Mistakes as error:
        lines = [f"{_option(name)}: {said}" if name else said for name, said in error.columns.items()]
        raise ConfigError("\n".join(lines)) from None


def _option(column: str) -> str:
    return f"--{column.replace('_', '-')}"
