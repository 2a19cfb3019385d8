"""URLs and forms of the admin as an attacker writes them."""

import json
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.test import Client

from tests.django_admin import client
from tests.integration.django.test_admin import ann, buried, dead, queue, shared  # noqa: F401 - fixtures
from tests.queue_steps import Queue

KEYS = {
    "job": ("-1", "[Infinity]", "[null]", "[NaN]", f"[{'9' * 40}]", "[{}]", "[" * 5000),
    "lane": ("[null]", '["\\u0000"]', '["\\ud800"]', "[[1]]"),
    "deadjob": (
        *("[1,1]", "[null,null]", '["2026-01-01",1]', '["9999-99-99",1]', '["0001-01-01T00:00:00+23:00",1]'),
        '["2026-01-01T00:00:00Z",Infinity]',
    ),
}


@pytest.mark.parametrize(("table", "keys"), KEYS.items())
def test_a_page_that_no_list_names_is_the_first(
    queue: Queue,  # noqa: F811
    ann: Client,  # noqa: F811
    table: str,
    keys: tuple[str, ...],
) -> None:
    for key in keys:
        assert ann.get(f"/admin/pgreact/{table}/?p={quote(key)}").status_code == 200, key


@pytest.mark.parametrize(
    "lookup",
    [
        *("job/?kwargs__card__startswith=4", "job/?args__0=4", "deadjob/?error__contains=4111"),
        *("schedule/?kwargs__card__regex=^4", "settledjob/?error__contains=4111", "job/?task__regex=((("),
        *("lane/?pk=%00", "schedule/?entry__contains={}"),
    ],
)
def test_columns_are_not_searched_by_lookups_of_the_url(
    queue: Queue,  # noqa: F811
    ann: Client,  # noqa: F811
    lookup: str,
) -> None:
    queue.add("shop.pay", kwargs="""'{"card": "4111"}'""")
    assert ann.get(f"/admin/pgreact/{lookup}").status_code == 400


def test_a_subclass_may_filter_by_a_column(
    queue: Queue,  # noqa: F811
    ann: Client,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pgreact.django.admin.jobs import JobAdmin

    queue.add("t", key="'k'")
    monkeypatch.setattr(JobAdmin, "list_filter", ("key", ("priority", admin.AllValuesFieldListFilter)))
    for query in ("key=k", "priority=0", "key__isnull=False"):
        assert ann.get(f"/admin/pgreact/job/?{query}").status_code == 200, query
    assert ann.get("/admin/pgreact/job/?kwargs__a=1").status_code == 400


def test_the_page_of_a_job_does_not_lead_users_who_may_not_view_it(queue: Queue) -> None:  # noqa: F811
    job = dead(queue)
    other = client("lars", "view_lane")
    for known in (job, job + 1):
        assert other.get(f"/admin/pgreact/job/{known}/change/").status_code == 403


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "x"])
def test_a_day_beyond_the_calendar_filters_nothing(queue: Queue, ann: Client, day: str) -> None:  # noqa: F811
    assert ann.get(f"/admin/pgreact/settledjob/?day={day}").status_code in {200, 302}


def test_a_lane_with_a_nul_is_no_lane(queue: Queue, ann: Client) -> None:  # noqa: F811
    assert ann.get("/admin/pgreact/lane/a%00/change/").status_code == 302


@pytest.mark.parametrize("rate", ["²", "9" * 400, ".", "1e400"])
def test_a_rate_that_is_no_number_is_a_mistake_of_its_field(
    queue: Queue,  # noqa: F811
    ann: Client,  # noqa: F811
    rate: str,
) -> None:
    line = {"name": "l", "rate": rate, "burst": "1", "weight": "1", "max_unstarted": "1", "max_lost": "0"}
    form = ann.post("/admin/pgreact/lane/add/", line).context["adminform"].form
    assert list(form.errors) == ["rate"]


def test_dead_jobs_that_died_in_one_millisecond_are_on_pages_once(queue: Queue, ann: Client) -> None:  # noqa: F811
    buried(queue, 120)
    queue.run("update pgreact.dead set died_at = died_at + id % 900 * interval '1 us'")
    seen: list[int] = []
    query: str | None = ""
    while query is not None:
        page = ann.get(f"/admin/pgreact/deadjob/{query}").context["cl"]
        seen += [row.pk for row in page.result_list]
        query = page.next_page
    assert sorted(seen) == [*range(1001, 1121)]


def test_occurrences_that_fired_at_one_instant_are_on_pages_once(queue: Queue, ann: Client) -> None:  # noqa: F811
    queue.run(
        "insert into pgreact.schedule (name, task, every, retention) values ('n', 't', '1 h', '9 days')",
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome) select 'n', "
        "clock - n * interval '1 s', clock, 'missed' from generate_series(1, 120) n, "
        "(select clock_timestamp()) c (clock)",
    )
    schedule = queue.value("select id from pgreact.schedule")
    seen: list[object] = []
    before: str | None = ""
    while before is not None:
        found = ann.get(f"/admin/pgreact/schedule/{schedule}/occurrences/?before={quote(before)}").context
        seen += [each["nominal_at"] for each in found["past"]]
        before = found["before"]
    assert len(seen) == len({*seen}) == 120


@pytest.mark.parametrize(
    "before", ["x", json.dumps(["2026-01-01", "2026-01-01"]), json.dumps(["0001-01-01T00:00:00+23:00"] * 2)]
)
def test_occurrences_before_no_time_are_the_last(queue: Queue, ann: Client, before: str) -> None:  # noqa: F811
    queue.run("insert into pgreact.schedule (name, task, every) values ('n', 't', '1 h')")
    schedule = queue.value("select id from pgreact.schedule")
    page = ann.get(f"/admin/pgreact/schedule/{schedule}/occurrences/?before={quote(before)}")
    assert page.status_code == 200


def test_the_preview_is_for_users_who_may_change_that_schedule(queue: Queue) -> None:  # noqa: F811
    queue.run("insert into pgreact.schedule (name, task, every) values ('n', 't', '1 h')")
    given = {"schedule_id": queue.value("select id from pgreact.schedule"), "way": "every", "every": "1h"}
    adding = client("adam", "add_schedule")
    assert adding.post("/admin/pgreact/schedule/preview/", given).status_code == 403
    assert adding.post("/admin/pgreact/schedule/preview/", {**given, "schedule_id": ""}).status_code == 200
