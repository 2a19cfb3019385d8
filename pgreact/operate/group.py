"""What all groups of commands have in common."""

import datetime
from collections.abc import Callable

import click

from pgreact.settings import Settings, nearest

Load = Callable[..., Settings]  # what a command gets: reads the configuration


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
