"""Write all generated pages, and the tables of ``docs/scale.md``: ``python -m tests.docs.generate``."""

from typing import Any

import psycopg

from pgreact import logs
from pgreact.daemon import metrics
from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.doctor import catalogue
from tests.docs import scale_page
from tests.docs.pages import DOCS
from tests.docs.reference import cli, python, settings, sql
from tests.harness import fresh_database, install


def generated(connection: "psycopg.Connection[tuple[Any, ...]]") -> dict[str, str]:
    """Return the text of each page below ``docs/`` that no other test compares with its source.

    Args:
        connection: Of a superuser, to a database with pgreact's schema.
    """
    return {
        "reference/cli.md": cli.page(),
        "reference/python.md": python.page(),
        "reference/settings.md": settings.page(connection),
        "reference/sql.md": sql.page(connection),
    }


def main() -> None:
    """Write the pages."""
    with EmbeddedPostgres() as server, fresh_database(server) as database:
        install(database, {})
        with database.connect() as connection:
            found = generated(connection)
    found["logs.md"] = "\n".join(logs.catalogue()) + "\n"
    found["metrics.md"] = metrics.documentation()
    found["scale.md"] = scale_page.page()
    found["doctor.md"] = "\n".join(catalogue.page()) + "\n"
    for page, text in found.items():
        (DOCS / page).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
