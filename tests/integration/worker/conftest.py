"""Workers of each pool, which run jobs."""

from collections.abc import Iterator

import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests.jobs_cluster import Cluster, a_cluster


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def one_of_each_pool(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, redis_url: str
) -> Iterator[Cluster]:
    """A worker, shared by the tests of a module."""
    with a_cluster(postgres, redis_url, request.param) as found:
        yield found


@pytest.fixture
def cluster(one_of_each_pool: Cluster) -> Cluster:
    """A worker that has run nothing yet."""
    one_of_each_pool.forget()
    return one_of_each_pool
