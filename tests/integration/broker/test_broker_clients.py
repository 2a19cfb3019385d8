"""A broker whose client is not installed as it should be: whoever connects says what to install."""

import subprocess
import sys

import pytest

from tests.worker import ROOT

# in a process of its own: kombu keeps what it has imported
CONNECT = """
import sys
url, missing = sys.argv[1:]
sys.modules[missing] = None
from celery import Celery
from pgreact.broker.publisher import open_app
from pgreact.broker.connection import BrokerConnection, PublishFailed
from pgreact.errors import ConfigError
try:
    open_app(None, url)
except ConfigError as error:
    print(error)
try:
    BrokerConnection(Celery(broker=url, set_as_current=False), 1).producer
except PublishFailed as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("url", "missing", "install"),
    [
        ("redis://127.0.0.1:1", "redis", "pip install 'pgreact[redis]'"),
        ("redis://127.0.0.1:1", "packaging.version", "pip install 'pgreact[redis]'"),
        ("sentinel://127.0.0.1:1", "packaging.version", "pip install 'pgreact[redis]'"),
        ("sqs://", "boto3", "pip install 'kombu[sqs]'"),
        ("mongodb://127.0.0.1:1", "pymongo", "pip install 'kombu[mongodb]'"),
        ("etcd://127.0.0.1:1", "etcd", "install the client that this kind of broker needs"),
    ],
)
def test_a_client_that_is_missing_is_named_with_the_extra_that_brings_it(
    url: str, missing: str, install: str
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", CONNECT, url, missing], cwd=ROOT, capture_output=True, text=True, check=False
    )
    checked, published = said.stdout.splitlines() or [said.stderr, ""]
    assert checked.startswith(f"broker pgreact via {url}"), said
    assert checked.endswith(install)
    assert published.endswith(install)
