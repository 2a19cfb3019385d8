"""The limit: asyncpg hears the commit, and kombu publishes from within the callback. No promise is kept.

``python -m benchmarks.bare DSN BROKER QUEUE``; the message is one that a Celery worker would take.
"""

import asyncio
import sys
from uuid import uuid4

import asyncpg
import sdnotify
from kombu import Connection


async def main(dsn: str, broker: str, queue: str) -> None:
    """Publish one message for each notification, for ever."""
    options = {"confirm_publish": True} if broker.startswith("amqp") else {}
    producer = Connection(broker, transport_options=options).Producer()
    assert producer.channel is not None  # connects

    def heard(*_: object) -> None:
        producer.publish(
            [[], {}, {}],
            routing_key=queue,
            headers={"lang": "py", "task": "tasks.dispatch_next_available", "id": str(uuid4())},
            serializer="json",
            delivery_mode="persistent",
        )

    connection = await asyncpg.connect(dsn)
    await connection.add_listener("pgreact", heard)
    sdnotify.SystemdNotifier().notify("READY=1")
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:4]))
