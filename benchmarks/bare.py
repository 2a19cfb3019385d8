"""The lower bound: an asyncpg listener whose callback publishes by kombu, without any guarantee.

``BENCH_DSN=DSN BENCH_BROKER=URL python -m benchmarks.bare QUEUE``. The message is
Celery's, made beforehand, so that broker and consumer do the same work for both sides.
"""

import asyncio
import os
import sys
from uuid import uuid4

import asyncpg
import sdnotify
from kombu import Connection

from benchmarks.bare_message import BODY, HEADERS

TASK = {"task": "tasks.dispatch_next_available", "expires": "2026-01-01T00:00:00.000000+00:00"}


async def main(dsn: str, broker: str, queue: str) -> None:
    """Publish one message for each notification, for ever."""
    options = {"confirm_publish": True} if broker.startswith("amqp") else {}
    producer = Connection(broker, transport_options=options).Producer()
    assert producer.channel is not None  # connects

    def publish(*_: object) -> None:
        task_id = str(uuid4())
        producer.publish(
            BODY,
            routing_key=queue,
            headers={**HEADERS, **TASK, "id": task_id, "root_id": task_id},
            correlation_id=task_id,
            serializer="json",
            delivery_mode=2,  # persistent, as Celery's
            expiration=15,
        )

    connection = await asyncpg.connect(dsn)
    await connection.add_listener("pgreact", publish)
    sdnotify.SystemdNotifier().notify("READY=1")
    await asyncio.Event().wait()


asyncio.run(main(os.environ["BENCH_DSN"], os.environ["BENCH_BROKER"], sys.argv[1]))
