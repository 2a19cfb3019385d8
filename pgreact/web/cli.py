"""``pgreact web``: serve the pages; ``pgreact web passwd``: make the line of a user."""

from collections.abc import Callable

import click

from pgreact.cli.support import SuggestingGroup
from pgreact.settings import Settings

Load = Callable[..., Settings]  # passed to each command; reads the configuration


@click.group(cls=SuggestingGroup, invoke_without_command=True)
@click.option("--bind", metavar="HOST:PORT", help="Listen here; default: 127.0.0.1:8080.")
@click.option(
    "--auth",
    metavar="METHOD",
    help="basic:FILE, a file of users; or header:NAME[:ROLE-NAME], set by a proxy that logs users in.",
)
@click.option("--prefix", metavar="PATH", help="Serve below this path, as /pgreact; default: at the root.")
@click.pass_context
def web(ctx: click.Context, bind: str | None, auth: str | None, prefix: str | None) -> None:
    """Serve pages that show the cluster, and let operators act.

    Without --auth the pages are open to this machine only. Stop it with Ctrl-C or SIGTERM.

    \b
    Example:
      pgreact web
      pgreact web --bind 0.0.0.0:8080 --auth basic:/etc/pgreact/users --prefix /pgreact
    """
    if ctx.invoked_subcommand is not None:
        return
    from pgreact import logs
    from pgreact.errors import ConfigError

    try:
        from pgreact.web.server import serve
    except ModuleNotFoundError as error:
        raise ConfigError(f'{error.name} is missing: pip install "pgreact[web]"') from None
    load: Load = ctx.obj
    loaded = load(**{"web.bind": bind, "web.auth": auth, "web.prefix": prefix})
    logs.configure(loaded.log_format, loaded.log_level)
    serve(loaded)


@web.command()
@click.argument("user")
@click.option(
    "--role",
    type=click.Choice(["monitor", "operator"]),
    default="monitor",
    show_default=True,
    help="A monitor reads; an operator also acts.",
)
@click.password_option(help="Asked for if not given.")
def passwd(user: str, role: str, password: str) -> None:
    """Print the line of a user for the file of --auth basic:FILE.

    \b
    Example:
      pgreact web passwd ann --role operator >> users
    """
    from pgreact.web.passwords import ROLES, password_line

    [known] = [known for known in ROLES if known == role]
    click.echo(password_line(user, password, known))
