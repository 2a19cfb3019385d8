"""What all groups of commands have in common."""

import datetime
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import click

from pgreact.errors import ConfigError, nearest
from pgreact.logs import printable
from pgreact.quantities import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel


class Configuration(Protocol):
    """What the commands of a part read of the configuration, see :class:`pgreact.settings.Settings`."""

    @property
    def dsn(self) -> str:
        """PostgreSQL."""
        ...

    @property
    def app(self) -> str | None:
        """The Celery application."""
        ...

    @property
    def broker(self) -> str | None:
        """The broker's URL."""
        ...

    @property
    def label(self) -> str:
        """What messages call the configuration."""
        ...

    @property
    def lanes(self) -> "Mapping[str, BaseModel]":
        """The lanes that it names."""
        ...


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()  # the type of an option: text like "30s", as seconds
Load = Callable[..., Configuration]  # given to each command: reads the configuration

limit_option = click.option(
    "--limit",
    default=50,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="At most so many.",
)


def echo(line: str, *, err: bool = False) -> None:
    """Print a line, in which names and texts of users may be: no terminal obeys them.

    Args:
        line: What to print.
        err: To standard error.
    """
    click.echo(printable(line), err=err)


def confirm_deletion(command: str, what: str, dsn: str) -> None:
    """Ask before something is deleted.

    Args:
        command: Which command asks.
        what: Is to be deleted.
        dsn: From where.

    Raises:
        ConfigError: Nobody can answer.
        click.Abort: The answer is no.
    """
    from pgreact.postgres import conninfo  # help is quick without it

    if not _answers():
        raise ConfigError(f"{command} asks before it deletes {what}: give --yes where nobody can answer")
    click.confirm(printable(f"Delete {what} from {conninfo.shown(dsn)}?"), abort=True)


def _answers() -> bool:
    return sys.stdin.isatty()


def jsonable(value: object) -> str:
    """Return what JSON has no form for, as text."""
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


class NearestGroup(click.Group):
    """Says which command may have been meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}{hint}", ctx) from None
