"""The cost of the admin's lists does not grow with their tables."""

from collections.abc import Iterator

import pytest
from django.db import connection

from pgreact.demo.postgres import EmbeddedPostgres
from tests.django_admin import client, site
from tests.queue_steps import Queue

ROWS = 60_000
RANGE = 2_000  # rows that a search reads here at a time
MOST = 25_000  # rows that a page may read: the newest 5000 dead jobs, a few ranges, and not a whole table

FILL = f"""
set session_replication_role = replica;  -- without the triggers, which cost most
update pgreact.queue_setting set retention = '1 day';
select pgreact.extend_history();
insert into pgreact.lane (name) values ('mail'), ('few');
insert into pgreact.queue (id, task, args, kwargs, lane, state, key)
select n, 'shop.task' || n % 50, '[]', '{{}}', case when n <= 5 then 'few' else 'mail' end,
    case n when 77 then 'delayed' else 'ready' end, 'key' || n
from generate_series(1, {ROWS}) n;
insert into pgreact.dead (id, task, args, kwargs, priority, attempt, max_attempts, backoff, options,
    enqueued_at, died_at, outcome, error, lane)
select n, 'shop.task' || n % 50, '[]', '{{}}', 0, 1, 1, '1 s', '{{}}', now(), now() - n * interval '1 s',
    'failed', 'E: ' || n, 'mail'
from generate_series(1, {ROWS}) n;
insert into pgreact.history (id, task, attempt, outcome, enqueued_at, settled_at)
select n, 'shop.task' || n % 50, 1, 'done', now(), now()
from generate_series(1, {ROWS}) n;
analyze pgreact.queue, pgreact.dead, pgreact.history;
"""


@pytest.fixture(scope="module")
def full(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Queue]:
    with site(postgres, migrated) as queue:
        queue.run(FILL)
        yield queue


@pytest.fixture(autouse=True)
def _short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgreact.django.admin.keyset.RANGE", RANGE)
    monkeypatch.setattr("pgreact.django.admin.jobs.RANGE", RANGE)


def rows_read() -> int:
    """Return how many rows this session and earlier ones read, of the tables of jobs."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_stat_force_next_flush()")
        cursor.execute("select pg_stat_clear_snapshot()")
        cursor.execute(
            "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) from pg_stat_all_tables "
            "where schemaname = 'pgreact' and (relname in ('queue', 'dead') or relname like 'history%%')"
        )
        [found] = cursor.fetchone()
    return int(found)


@pytest.mark.parametrize(
    "page",
    [
        "job/",
        "job/?p=[100000]",
        "job/?lane=mail",
        "job/?lane=few",
        "job/?state=delayed",
        "job/?state=blocked",
        "job/?q=shop.task7",
        "job/?q=nothing.like.it",
        "job/?q=key4711",
        "job/?q=4711",
        "job/?q=00000000-0000-0000-0000-000000000000",
        "job/4711/change/",
        "deadjob/",
        "deadjob/?q=shop.task7",
        "deadjob/?q=nothing",
        "deadjob/?outcome=lost",
        "deadjob/?pattern=E:+%23",
        "deadjob/?pattern=none",
        "settledjob/",
        "settledjob/?p=[100000,%222020-01-01T00:00:00Z%22]",
        "settledjob/?outcome=failed",
        "settledjob/?q=nothing",
        "settledjob/?q=4711",
        "settledjob/4711/change/",
        "lane/",
    ],
)
def test_a_page_reads_a_bounded_number_of_rows(full: Queue, page: str) -> None:
    opened = client()
    before = rows_read()
    assert opened.get(f"/admin/pgreact/{page}").status_code == 200
    assert rows_read() - before < MOST


def test_a_search_goes_on_where_it_ended(full: Queue) -> None:
    opened = client()
    query, found = "?q=shop.task7", []
    page = opened.get(f"/admin/pgreact/deadjob/{query}").context["cl"]
    while page.result_list and len(found) < 600:
        found += [row.pk for row in page.result_list]
        page = opened.get(f"/admin/pgreact/deadjob/{page.next_page}").context["cl"]
    assert found == [n for n in range(1, found[-1] + 1) if n % 50 == 7]
    rare = opened.get("/admin/pgreact/job/?q=nothing").context["cl"]
    assert (len(rare.result_list), rare.ended) == (0, True)
    assert "search on" in opened.get("/admin/pgreact/job/?q=nothing").content.decode()
