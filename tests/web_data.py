"""A database as a busy cluster leaves it: lanes, jobs, numbers of an hour and of a week, events."""

from pathlib import Path

from tests.harness import Database, install

HERE = Path(__file__).parent

CONFIGURATION = {
    "routes": {
        "search_index": {
            "task": "shop.tasks.index",
            "window": "500ms",
            "tables": [{"table": "public.article", "on": ["insert", "update", "delete"]}],
        },
        "stock": {
            "task": "shop.tasks.stock",
            "single_flight": "run",
            "tables": [{"table": "public.item", "on": ["update"], "changed": ["amount"]}],
        },
    },
    "lanes": {
        "mail": {"max_in_progress": 20, "rate": "20/s", "burst": 5},
        "images": {"max_in_progress": 4},
        "reports": {"weight": 2},
        "webhooks": {},
    },
}

# lane, task, attempts a minute; seconds of transaction, claim, publish, broker and run: usually, and lately
_TRAFFIC = (
    (
        "default",
        "shop.tasks.index",
        60,
        (0.004, 0.012, 0.003, 0.006, 0.08),
        (0.004, 0.013, 0.003, 0.006, 0.08),
    ),
    ("mail", "shop.tasks.send_mail", 90, (0.003, 0.02, 0.003, 0.008, 0.2), (0.003, 0.9, 0.004, 0.009, 0.2)),
    ("images", "shop.tasks.resize", 12, (0.01, 0.05, 0.004, 0.03, 2.1), (0.01, 0.06, 0.004, 4.6, 2.2)),
    ("reports", "shop.tasks.report", 2, (0.02, 0.3, 0.003, 0.02, 14.0), (0.02, 0.3, 0.003, 0.02, 47.0)),
    ("webhooks", "shop.tasks.call", 35, (0.002, 0.02, 0.003, 0.007, 0.4), (0.002, 0.02, 0.003, 0.007, 0.4)),
)


def fill(database: Database) -> None:
    """Fill an empty database."""
    database.run(
        "create schema if not exists public",
        "create table public.article (id bigint primary key, title text)",
        "create table public.item (id bigint primary key, amount integer)",
    )
    install(database, CONFIGURATION)
    tally = (HERE / "web_tally.sql").read_text()
    with database.connect() as connection:
        for lane, task, rate, usual, lately in _TRAFFIC:
            for table, unit, first, last, step, factor, parts in (
                ("pgreact.tally", "minute", "14 min", "0 min", "1 min", 1, lately),
                ("pgreact.tally", "minute", "3 h", "15 min", "1 min", 1, usual),
                ("pgreact.tally_hour", "hour", "8 days", "49 h", "1 h", 60, usual),
            ):
                transaction, claim, publish, broker, run = parts
                connection.execute(
                    tally.format(table=table).encode(),
                    {
                        "lane": lane,
                        "task": task,
                        "rate": rate * factor,
                        "unit": unit,
                        "first": first,
                        "last": last,
                        "step": step,
                        "run": run,
                        "wait": transaction + claim + publish + broker,
                        "transaction": transaction,
                        "claim": claim,
                        "publish": publish,
                        "broker": broker,
                    },
                )
        for statement in (HERE / "web_data.sql").read_text().split(";\n"):
            connection.execute(statement.encode())
