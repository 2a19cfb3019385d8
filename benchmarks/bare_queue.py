"""The least that a way over PostgreSQL, a broker and Celery costs: no rules, and no care for failures.

``BENCH_DSN=DSN BENCH_BROKER=URL python -m benchmarks.bare_queue QUEUE``. For each notification it claims a
job by one UPDATE, and publishes by kombu in the event loop itself a message that was ready but for its ids.
The task ``bench.bare`` takes its job by one more UPDATE.
"""

import asyncio
import os
import sys
from uuid import uuid4

import asyncpg
import sdnotify
from kombu import Connection

from benchmarks.bare_message import BODY, HEADERS

SCHEMA = """
create table bare_job (
    id bigint generated always as identity primary key,
    number bigint not null,
    claimed_at timestamptz,
    started_at timestamptz
) with (fillfactor = 50);
create index on bare_job (id) where claimed_at is null;
create function bare_notify() returns trigger language plpgsql as
    $$ begin notify bare_job; return null; end $$;
create trigger bare_notify after insert on bare_job for each row execute function bare_notify();
"""
CLAIM = """
update bare_job
set claimed_at = now()
where id = (select id from bare_job where claimed_at is null order by id limit 1 for update skip locked)
returning id, number
"""
START = "update bare_job set started_at = now() where id = %s and started_at is null returning id"


async def main(dsn: str, broker: str, queue: str) -> None:
    """Claim and publish one job for each notification, for ever."""
    options = {"confirm_publish": True} if broker.startswith("amqp") else {}
    producer = Connection(broker, transport_options=options).Producer()
    assert producer.channel is not None  # connects
    claims, listener = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    committed = asyncio.Event()
    await listener.add_listener("bare_job", lambda *_: committed.set())
    sdnotify.SystemdNotifier().notify("READY=1")
    while True:
        await committed.wait()
        committed.clear()
        for job, number in await claims.fetch(CLAIM):
            task_id = str(uuid4())
            producer.publish(
                [[job, number], *BODY[1:]],
                routing_key=queue,
                headers={**HEADERS, "task": "bench.bare", "id": task_id, "root_id": task_id},
                correlation_id=task_id,
                serializer="json",
                delivery_mode=2,  # persistent, as Celery's
            )


if __name__ == "__main__":
    asyncio.run(main(os.environ["BENCH_DSN"], os.environ["BENCH_BROKER"], sys.argv[1]))
