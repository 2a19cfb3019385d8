"""The course of ``pgreact demo --web``: a shop under a steady load, and its pages, until a signal ends it."""

import importlib.util
from typing import NoReturn

import click
import psycopg

from pgreact.demo.cluster import DAEMONS, Cluster
from pgreact.demo.journal import ENDED, Journal
from pgreact.errors import PgreactError
from pgreact.postgres.queries import folder, query
from pgreact.quantities import format_duration

TIMEOUT = 30.0  # seconds, for a step that takes less
PAUSE = 0.25  # seconds between two transactions of the load
WORKERS = {"worker A": ("celery", 12), "worker B": ("reports", 1)}  # by name: Celery queue, threads
WEB = "pages"


class Shop(Cluster):
    """The cluster of the shop: as that of the example application, with another one."""

    def __init__(self, journal: Journal) -> None:
        """Choose the parts; start nothing.

        Raises:
            PgreactError: A package or PostgreSQL is missing; says how to get it.
        """
        if importlib.util.find_spec("starlette") is None:
            raise PgreactError('the pages need more packages: pip install "pgreact[demo,web]"')
        super().__init__(journal, folder("demo") / "shop.toml")

    def make_tables(self) -> None:
        """Create the shop's table, and those of the broker."""
        self.make_broker()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(
                "create table orders (id bigint generated always as identity primary key, total numeric)"
            )

    def start(self) -> None:
        """Start daemons, workers and the pages."""
        options = ["--log-format", "json", "--log-level", "info"]
        for name in DAEMONS:
            self.daemons[name] = self._start(name, ["pgreact", "listen", *options], timeout=5)
        for name, (queue, threads) in WORKERS.items():
            command = ["celery", "-A", "pgreact.demo.shop:app", "worker", "-n", f"{name[-1]}@shop"]
            command += ["-Q", queue, "-P", "threads", "-c", str(threads), "--loglevel=WARNING"]
            quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
            self._start(name, [*command, *quiet], timeout=0)
        self._start(WEB, ["pgreact", "web", "--bind", "127.0.0.1:0"], timeout=5)

    def _environ(self) -> dict[str, str]:
        return {**super()._environ(), "PGREACT_HTTP": "127.0.0.1:0", "PGREACT_LOG_FORMAT": "json"}


def showcase(journal: Journal) -> NoReturn:
    """Run the shop until a signal.

    Args:
        journal: Receives the events of all processes.

    Raises:
        PgreactError: A part is missing, did not start, or ended.
        Interrupted: A signal asked to stop.
    """
    click.echo("pgreact demo --web: a shop on this machine, removed at the end")
    shop = Shop(journal)
    with shop:
        shop.make_tables()
        shop.apply()
        with psycopg.connect(shop.dsn, autocommit=True) as connection:
            connection.execute(query("demo_past").encode())
            connection.execute(query("demo_schedules").encode())
            if importlib.util.find_spec("ephem") is not None:
                connection.execute(query("demo_solar").encode())
            shop.start()
            address = journal.wait_for("web.started", WEB).keys["address"]
            if not journal.until(
                lambda: bool(journal.find("leader.elected") and journal.find("standby.waiting")), TIMEOUT
            ):
                raise PgreactError(f"no leader and standby in {format_duration(TIMEOUT)}")
            click.echo(f"  pages    {address}")
            for opened in journal.find("http.opened"):
                click.echo(f"  metrics  http://{opened.keys['address']}/metrics, of {opened.source}")
            click.echo("\nCharts of the time before now show made-up numbers. End it with Ctrl-C.")
            while True:
                connection.execute(query("demo_load").encode())
                for ended in journal.find(ENDED):
                    raise PgreactError(f"{ended.source} ended:\n{ended.keys['output']}")
                journal.sleep(PAUSE)
