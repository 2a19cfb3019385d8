"""The brokers and poolers that tests start need a password."""

import re
import stat

import psycopg
import pytest
from amqp.exceptions import AccessRefused
from kombu import Connection
from redis import Redis
from redis.exceptions import AuthenticationError

from tests import servers
from tests.harness import Database


def test_redis_refuses_clients_without_the_password() -> None:
    servers.require_or_skip("redis")
    with servers.redis_server() as server:
        assert Redis.from_url(server.url).ping()
        with Redis(port=server.port) as stranger, pytest.raises(AuthenticationError):
            stranger.config_get("dir")
        assert stat.S_IMODE((server.directory / "redis.conf").stat().st_mode) == 0o600


def test_rabbitmq_has_no_guest() -> None:
    servers.require_or_skip("rabbitmq")
    with servers.rabbitmq_server() as server:
        Connection(server.url).ensure_connection(max_retries=3).close()
        guest = re.sub("//.*@", "//guest:guest@", server.url)
        with pytest.raises(AccessRefused):
            Connection(guest).connect()
        assert stat.S_IMODE((server.directory / "rabbitmq.conf").stat().st_mode) == 0o600


def test_pgbouncer_refuses_clients_without_the_password(database: Database) -> None:
    servers.require_or_skip("pgbouncer")
    with servers.pgbouncer(database.dsn) as pooler:
        with psycopg.connect(pooler.url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(re.sub(":[^:]*@", "@", pooler.url))
        assert stat.S_IMODE((pooler.directory / "users").stat().st_mode) == 0o600
