"""A project with Alembic in a temporary directory, driven in the test's own process."""

import ast
import io
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, MetaData, NullPool, create_engine

from tests.harness import Database

DRIVERS = ("psycopg", "psycopg2", "asyncpg")
_ENV = """
import asyncio

from alembic import context
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

import pgreact.alembic

config = context.config


def run(connection):
    for statement in config.attributes["before"]:
        connection.exec_driver_sql(statement)
        connection.commit()
        connection.dialect.default_schema_name = config.attributes["schema"]
    options = {"target_metadata": config.attributes["metadata"], **config.attributes["options"]}
    if translate := config.attributes.get("translate"):
        connection = connection.execution_options(schema_translate_map=translate)
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()


async def run_async(url):
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


url = config.attributes["url"]
if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **config.attributes["options"])
    with context.begin_transaction():
        context.run_migrations()
elif url.get_driver_name() == "asyncpg":
    asyncio.run(run_async(url))
else:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        run(connection)
    engine.dispose()
"""
_SCRIPT = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


def url_of(database: Database, driver: str = "psycopg") -> URL:
    """Return the URL of a database for SQLAlchemy."""
    where = conninfo_to_dict(database.dsn)
    return URL.create(
        f"postgresql+{driver}",
        str(where["user"]),
        str(where["password"]),
        str(where["host"]),
        int(where["port"]),
        str(where["dbname"]),
    )


class Project:
    """Migrations of one database, whose models a test replaces as it goes."""

    def __init__(self, path: Path, database: Database, driver: str = "psycopg", **options: Any) -> None:
        self.path = path
        self.database = database
        self.url = url_of(database, driver)
        self.metadata = MetaData()
        self.options: dict[str, Any] = options
        self.attributes: dict[str, Any] = {}
        self._count = 0
        (path / "versions").mkdir(parents=True)
        (path / "env.py").write_text(_ENV)
        (path / "script.py.mako").write_text(_SCRIPT)

    def config(self, output: io.StringIO | None = None) -> Config:
        """Return Alembic's configuration."""
        config = Config(output_buffer=output, stdout=io.StringIO())
        config.set_main_option("script_location", str(self.path))
        config.attributes |= {
            "url": self.url,
            "metadata": self.metadata,
            "options": self.options,
            "before": [],
            **self.attributes,
        }
        return config

    def autogenerate(self) -> str:
        """Write a revision by autogenerate; return its script."""
        return Path(self._revision(autogenerate=True).path).read_text()

    def write(self, upgrade: str, downgrade: str = "pass") -> None:
        """Write a revision by hand."""
        path = Path(self._revision().path)
        text = path.read_text().replace("    pass", f"    {upgrade}", 1)
        path.write_text(text.replace("    pass", f"    {downgrade}", 1))

    def _revision(self, **options: Any) -> Any:
        self._count += 1
        return command.revision(self.config(), rev_id=f"r{self._count}", message="a change", **options)

    def body(self) -> list[str]:
        """Return what autogenerate would write now, without writing it: the lines of upgrade()."""
        script = self.autogenerate()
        (self.path / "versions" / f"r{self._count}_a_change.py").unlink()
        self._count -= 1
        return lines_of(script, "upgrade")

    def edit(self, old: str, new: str) -> None:
        """Edit the last script."""
        path = self.path / "versions" / f"r{self._count}_a_change.py"
        text = path.read_text()
        assert old in text, text
        path.write_text(text.replace(old, new))

    def upgrade(self, to: str = "head") -> None:
        """Upgrade the database."""
        command.upgrade(self.config(), to)

    def downgrade(self, to: str) -> None:
        """Downgrade the database."""
        command.downgrade(self.config(), to)

    def check(self) -> None:
        """Run ``alembic check``."""
        command.check(self.config())

    def sql(self, revisions: str = "head", *, down: bool = False) -> str:
        """Return what ``--sql`` prints."""
        output = io.StringIO()
        (command.downgrade if down else command.upgrade)(self.config(output), revisions, sql=True)
        return output.getvalue()

    def create_all(self) -> None:
        """Create the tables of the models without Alembic."""
        engine = create_engine(self.url, poolclass=NullPool)
        self.metadata.create_all(engine)
        engine.dispose()


def lines_of(script: str, function: str) -> list[str]:
    """Return the statements of a function of a script, each on one line."""
    [found] = [
        node for node in ast.parse(script).body if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    return [ast.unparse(statement) for statement in found.body]
