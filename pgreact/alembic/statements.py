"""The statements that set up schema ``pgreact`` and remove it."""

from psycopg import sql

from pgreact.postgres import migrations
from pgreact.postgres.session_settings import SESSION_SETTINGS
from pgreact.postgres.statements import do, dollar_quoted, filled, raw

# those that the text of a migration depends on; the others concern a session
_SETTINGS = {
    name: value
    for name, value in SESSION_SETTINGS.items()
    if not name.startswith("default_") and not name.endswith("_timeout")
}


def upgrade() -> str:
    """Return the statement that runs the migrations that have not run, and the functions if they changed.

    It reads ``pgreact.migration`` when it runs, so it can be repeated. It fails where
    a newer pgreact has been.
    """
    steps = [*migrations.migrations(), migrations.functions()]
    return do(
        "upgrade",
        settings=[[name, value] for name, value in _SETTINGS.items()],
        names=[step.name for step in steps],
        steps=sql.SQL("\n").join(map(_step, steps)),
    )


def _step(step: migrations.Migration) -> sql.Composable:
    changed: sql.Composable = sql.SQL("false")
    if step.name == migrations.FUNCTIONS:
        changed = sql.SQL("applied ->> {} <> {}").format(step.name, step.checksum)
    script = raw(dollar_quoted(f"\n{step.script}\n"))
    return filled("upgrade_step", name=step.name, changed=changed, script=script)


def uninstall() -> str:
    """Return the statement that removes all objects of pgreact."""
    from pgreact.apply import uninstall_script  # heavy: it plans all parts

    return uninstall_script().strip().rstrip(";")
