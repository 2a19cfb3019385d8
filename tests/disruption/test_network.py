"""A leader whose network vanishes: in a network namespace, so that its kernel stops answering, too."""

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import uuid4

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests import servers
from tests.harness import Daemon, Database, Inbox, one_route

HERE, THERE = "10.251.83.1", "10.251.83.2"  # ends of a cable between two namespaces of this test


class Island(NamedTuple):
    """A network namespace that reaches this one by a cable."""

    name: str
    cable: str

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` inside."""
        _ip("-n", self.name, *arguments)

    def vanish(self) -> None:
        """Answer nothing any more, neither data nor keep-alives."""
        self.ip("address", "delete", f"{THERE}/30", "dev", self.cable)

    def reappear(self) -> None:
        """Return under the old address."""
        self.ip("address", "add", f"{THERE}/30", "dev", self.cable)


def _ip(*arguments: str) -> None:
    subprocess.run([servers.program("ip"), *arguments], check=True, capture_output=True)


@pytest.fixture
def island() -> Iterator[Island]:
    """A machine of its own, as far as the network goes."""
    servers.require_or_skip("netns")
    tag = uuid4().hex[:6]
    island, cable = Island(f"pgreact-{tag}", f"pi{tag}"), f"ph{tag}"
    _ip("netns", "add", island.name)
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", island.cable, "netns", island.name)
        _ip("address", "add", f"{HERE}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        island.ip("link", "set", "lo", "up")
        island.ip("link", "set", island.cable, "up")
        island.reappear()
        yield island
    finally:
        _ip("netns", "delete", island.name)


@pytest.fixture
def reachable(island: Island) -> Iterator[EmbeddedPostgres]:
    """A server that the island may log in to."""
    binaries = servers.postgres_binaries()
    with servers.Postgres(bindir=binaries, settings={"listen_addresses": f"127.0.0.1,{HERE}"}) as server:
        with (server.directory / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {THERE}/32 scram-sha-256\n")
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("select pg_reload_conf()")
        yield server


def test_a_leader_whose_network_vanishes_is_replaced_in_15_s_and_steps_down(
    island: Island,
    reachable: EmbeddedPostgres,
    inbox: Inbox,
    installed: Callable[..., None],
    daemons: Callable[..., Daemon],
) -> None:
    database = Database(reachable.dsn())
    database.run("create table job_queue (id int)")
    installed(database, one_route(inbox))
    far_dsn = reachable.dsn().replace("127.0.0.1", HERE)
    leader = daemons(far_dsn, inbox.url, prefix=(servers.program("ip"), "netns", "exec", island.name))
    leader.wait_for("sweep.finished", route="dispatch", dispatch=False)
    standby = daemons(database.dsn, inbox.url).ready()

    began = time.monotonic()
    island.vanish()
    database.run("insert into job_queue values (1)")
    standby.wait_for("dispatch.published", deadline=30)
    assert time.monotonic() - began < 15
    inbox.take()

    leader.wait_for("leader.lost", deadline=30)
    island.reappear()
    leader.wait_for("standby.waiting", deadline=30)
    assert not leader.seen("dispatch.published")
