"""Connect to RedBeat's Redis: a server, one behind Sentinel, or a cluster."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from kombu.utils.url import maybe_sanitize_url

from pgreact.errors import ConfigError, PgreactError

# RedBeat's own options; the others are for the client
_NOT_THE_CLIENTS = {
    "retry_period",
    "cluster",
    "sentinels",
    "service_name",
    "sentinel_kwargs",
    "startup_nodes",
}
# options for the clients of Sentinel
_SENTINEL = ("username", "password", "socket_timeout", "credential_provider")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where RedBeat's entries are.

    Attributes:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis-sentinel://`` or ``redis-cluster://``.
        options: As ``redbeat_redis_options`` has them.
        ssl: As ``redbeat_redis_use_ssl`` has it.
        prefix: Of the keys.
    """

    url: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ssl: object = None
    prefix: str = "redbeat:"


def place_of(app: Celery, url: str | None, options: Mapping[str, Any] | None, prefix: str | None) -> Place:
    """Return where RedBeat's entries are, by the application's settings for RedBeat.

    Args:
        app: The application.
        url: Replaces ``redbeat_redis_url``.
        options: Replaces ``redbeat_redis_options``.
        prefix: Replaces ``redbeat_key_prefix``.
    """

    def setting(name: str) -> Any:
        return app.conf.first(f"redbeat_{name}", f"REDBEAT_{name.upper()}")

    if options is None and (options := setting("redis_options")) is None:
        # RedBeat also takes these options of the broker
        broker = app.conf.broker_transport_options or {}
        options = {name: broker[name] for name in (*_NOT_THE_CLIENTS, *_SENTINEL, "db") if name in broker}
        if not {"sentinels", "cluster", "startup_nodes"} & options.keys():
            options = {}
    return Place(
        str(url or setting("redis_url") or app.conf.broker_url),
        options,
        setting("redis_use_ssl") or app.conf.broker_use_ssl,
        prefix or setting("key_prefix") or "redbeat:",
    )


@contextlib.contextmanager
def connected(place: Place) -> Iterator[Any]:
    """Connect; commands are not retried.

    Raises:
        ConfigError: The package ``redis`` is missing, or URL or options are invalid.
        PgreactError: Redis cannot be read.
    """
    try:
        from redis import RedisError
        from redis.exceptions import RedisClusterException
    except ImportError:
        raise ConfigError("RedBeat's entries are in Redis: pip install 'pgreact[redis]'") from None
    shown = maybe_sanitize_url(place.url)
    with contextlib.ExitStack() as stack:
        try:
            client = _client(place, stack)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{shown}: {type(error).__name__}: {error}") from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise PgreactError(f"{shown}: {error}") from error
        try:
            yield client
        except TypeError as error:  # redis checks the options when it connects, at the first command
            raise ConfigError(f"{shown}: redbeat_redis_options: {error}") from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise PgreactError(f"{shown}: {error}") from error


def _client(place: Place, stack: contextlib.ExitStack) -> Any:
    from redis import Redis
    from redis.cluster import ClusterNode, RedisCluster

    options = {name: value for name, value in place.options.items() if name not in _NOT_THE_CLIENTS}
    options["decode_responses"] = False  # bytes that are no text make one entry fail, not all
    ssl = place.ssl if isinstance(place.ssl, Mapping) else {}
    if place.options.get("cluster"):
        client: Any = RedisCluster.from_url(place.url, **options)
    elif place.url.startswith("redis-cluster"):
        nodes = place.options.get("startup_nodes") or [{"host": "localhost", "port": 30001}]
        known = [ClusterNode(str(node["host"]), int(node["port"])) for node in nodes]  # type: ignore[no-untyped-call]
        client = RedisCluster(startup_nodes=known, **options)
    elif place.url.startswith("redis-sentinel"):
        return _behind_sentinel(place, ssl, stack)
    else:
        if place.url.startswith("rediss"):
            options = {"ssl_cert_reqs": "required", **ssl, **options}
        client = Redis.from_url(place.url, **options)
    stack.callback(client.close)
    return client


def _behind_sentinel(place: Place, ssl: Mapping[str, Any], stack: contextlib.ExitStack) -> Any:
    from redis.sentinel import Sentinel

    if not place.options.get("sentinels"):
        raise ValueError('redbeat_redis_options names no "sentinels", like [["sentinel-1", 26379]]')
    own = {name: place.options[name] for name in _SENTINEL if name in place.options}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [(str(host), int(port)) for host, port in place.options["sentinels"]],
        sentinel_kwargs=place.options.get("sentinel_kwargs"),
        db=place.options.get("db", 0),
        **({"ssl": True, **ssl} if ssl else {}),
        **own,
    )
    for each in sentinel.sentinels:
        stack.callback(each.close)
    service = place.options.get("service_name", "master")
    client = sentinel.master_for(service)  # type: ignore[no-untyped-call]
    stack.callback(client.close)
    return client
