"""The API: what it saves, and which jobs exist then."""

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pgreact.testing import EnqueuedJob, assert_enqueued

pytestmark = pytest.mark.anyio
ORDER = {"email": "ann@example.org", "total": "12.50"}


async def receipts(connection: AsyncConnection, count: int = 1) -> list[EnqueuedJob]:
    """Return the jobs of receipts, of which there must be so many."""
    return await connection.run_sync(
        lambda found: assert_enqueued("orders.tasks.send_receipt", lane="mail", count=count, connection=found)
    )


async def test_an_order_is_saved_with_the_job_of_its_receipt(
    client: httpx.AsyncClient, connection: AsyncConnection
) -> None:
    answer = await client.post("/orders", json=ORDER)
    assert answer.status_code == 201
    order = answer.json()["order"]
    [job] = await receipts(connection)
    assert (job.args, job.kwargs) == ([order], {})
    shown = await client.get(f"/orders/{order}")
    assert shown.json() == {"status": "new", "receipt_sent_at": None}


async def test_a_refused_order_leaves_neither_order_nor_job(
    client: httpx.AsyncClient, connection: AsyncConnection
) -> None:
    for _ in range(5):
        assert (await client.post("/orders", json=ORDER)).status_code == 201
    assert (await client.post("/orders", json=ORDER)).status_code == 409
    await receipts(connection, count=5)
    assert (await connection.execute(text("select count(*) from orders"))).scalar() == 5


async def test_a_change_of_the_status_is_announced(
    client: httpx.AsyncClient, connection: AsyncConnection
) -> None:
    order = (await client.post("/orders", json=ORDER)).json()["order"]
    assert (await client.post(f"/orders/{order}/pay")).json() == {"status": "paid"}
    await connection.run_sync(
        lambda found: assert_enqueued(
            "orders.tasks.announce",
            lane="announcements",
            kwargs={"operation": "update", "key": {"id": order}},
            connection=found,
        )
    )


async def test_an_unknown_order_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/orders/0")).status_code == 404
    assert (await client.post("/orders/0/pay")).status_code == 404
