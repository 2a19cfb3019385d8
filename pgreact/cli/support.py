"""Helpers of all groups of commands."""

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
    """The keys of :class:`pgreact.settings.Settings` that the commands of a part read."""

    @property
    def dsn(self) -> str:
        """The DSN of PostgreSQL."""
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
        """The configuration's name in messages."""
        ...

    @property
    def lanes(self) -> "Mapping[str, BaseModel]":
        """The lanes, by name."""
        ...


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()  # the type of an option: text like "30s", as seconds
Load = Callable[..., Configuration]  # passed to each command; reads the configuration

limit_option = click.option(
    "--limit",
    default=50,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Show at most N.",
)


def echo(line: str, *, err: bool = False) -> None:
    """Print a line, with control characters escaped: names and texts of users may have some.

    Args:
        line: The line.
        err: Print to standard error.
    """
    click.echo(printable(line), err=err)


def confirm_deletion(command: str, what: str, dsn: str) -> None:
    """Ask for confirmation before a deletion.

    Args:
        command: The command's name.
        what: The objects to delete.
        dsn: The database that has them.

    Raises:
        ConfigError: Standard input is not a terminal.
        click.Abort: The answer is no.
    """
    from pgreact.postgres import conninfo  # slow to import; --help works without it

    if not _interactive():
        raise ConfigError(f"{command} asks before it deletes {what}: give --yes to delete without a terminal")
    click.confirm(printable(f"Delete {what} from {conninfo.redacted(dsn)}?"), abort=True)


def _interactive() -> bool:
    return sys.stdin.isatty()


def jsonable(value: object) -> str:
    """Return a value that JSON has no type for as text."""
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


class SuggestingGroup(click.Group):
    """A group that suggests the nearest name for an unknown command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}{hint}", ctx) from None
