"""The commands, from click."""

import inspect
from collections.abc import Iterator

import click

from pgreact.cli.main import main
from tests.docs.reference.markdown import code, finished, head, table


def page() -> str:
    """Return ``docs/reference/cli.md``."""
    lines = head(
        "Commands", "the commands' own help", "Exit codes: 0, 1 failed, 2 wrong use or configuration."
    )
    return finished([*lines, *_command(main, click.Context(main, info_name="pgreact"))])


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield from (f"## {context.command_path}", "")
    yield from (f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}", "")
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            title, *example = paragraph.removeprefix("\b\n").splitlines()
            yield from (title, "", "```sh", *(line.removeprefix("  ") for line in example), "```", "")
        else:
            yield from (" ".join(paragraph.split()), "")
    options = [
        record
        for parameter in command.get_params(context)
        if "--help" not in parameter.opts and (record := parameter.get_help_record(context))
    ]
    if options:
        yield from table(("option", ""), [(code(names), text) for names, text in options])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, info_name=name, parent=context))
