"""Schedules in Django's admin: the form, errors on their fields, the next runs, actions on many."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from pgreact.demo.postgres import EmbeddedPostgres
from tests.django_admin import act, client, site, text, told
from tests.queue_steps import Queue

ADD = "/admin/pgreact/schedule/add/"
FORM = {
    "name": "report",
    "task": "orders.tasks.send_receipt",
    "enabled": "on",
    "way": "cron",
    "cron": "0 7 * * 1-5",
    "timezone": "Europe/Paris",
    "args": "[]",
    "kwargs": "{}",
    "options": "{}",
    "overlap": "on",
    "misfire": "coalesce",
    "delivery": "queue",
    "grace": "1m",
    "jitter": "0s",
    "catch_up": "100",
    "priority": "0",
    "max_attempts": "1",
}


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Queue]:
    with site(postgres, migrated) as found:
        yield found


@pytest.fixture
def queue(shared: Queue) -> Queue:
    shared.run("delete from pgreact.schedule", "truncate pgreact.schedule_history, pgreact.event_log")
    return shared


@pytest.fixture
def ann(queue: Queue) -> Client:
    return client()


def row(queue: Queue, columns: str) -> tuple[Any, ...]:
    with queue.connect() as connection:
        found = connection.execute(f"select {columns} from pgreact.schedule").fetchone()
    assert found is not None
    return found


def change(queue: Queue) -> str:
    return f"/admin/pgreact/schedule/{row(queue, 'id')[0]}/change/"


def fields(opened: Client, url: str) -> dict[str, Any]:
    """Return the fields of a form as a browser sends them."""
    form = opened.get(url).context["adminform"].form
    values = {name: form.initial.get(name) for name in form.fields}
    return {
        name: "on" if value is True else value for name, value in values.items() if value not in {None, False}
    }


@pytest.mark.parametrize(
    ("given", "column", "value"),
    [
        ({"way": "every", "every": "10m", "cron": ""}, "every", datetime.timedelta(minutes=10)),
        ({"way": "cron"}, "cron", "0 7 * * 1-5"),
        (
            {"way": "at", "at": "2030-03-29T09:00", "cron": ""},
            "at",
            datetime.datetime(2030, 3, 29, 8, tzinfo=datetime.UTC),
        ),
        ({"way": "solar", "solar": "sunset 48.86 2.35", "cron": ""}, "solar", "sunset 48.86 2.35"),
        ({"way": "rrule", "rrule": "FREQ=DAILY;BYHOUR=9", "cron": ""}, "rrule", "FREQ=DAILY;BYHOUR=9"),
    ],
)
def test_a_schedule_of_each_kind_is_added(
    queue: Queue, ann: Client, given: dict[str, str], column: str, value: object
) -> None:
    page = ann.post(ADD, FORM | given, follow=True)
    assert "was added successfully" in text(page)
    assert row(queue, f"name, task, {column}, origin") == ("report", FORM["task"], value, "sql")
    assert queue.value("select actor from pgreact.event_log where event = 'schedule.created'") == "ann"


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"cron": "61 * * * *"}, "cron", "minute 61 is not between 0 and 59"),
        ({"cron": "0 0 30 2 *"}, "cron", "never occurs"),
        ({"cron": ""}, "cron", "fill this in"),
        ({"every": "5m"}, "every", "leave this empty: the schedule recurs by a cron expression"),
        ({"way": "every", "cron": "", "every": "soon"}, "every", "is not a duration"),
        ({"way": "every", "cron": "", "every": "10"}, "every", "has no unit"),
        ({"way": "at", "cron": "", "at": "tomorrow"}, "at", "is not a time"),
        ({"way": "at", "cron": "", "at": "2030-03-31T02:30"}, "at", "occurs twice or never"),
        ({"way": "solar", "cron": "", "solar": "tea 48.86 2.35"}, "solar", 'has no event "tea"'),
        ({"way": "rrule", "cron": "", "rrule": "FREQ=SOMETIMES"}, "rrule", "FREQ"),
        ({"timezone": "Mars/Olympus"}, "timezone", 'no time zone "Mars/Olympus"'),
        ({"timezone": "europe/paris"}, "timezone", "Did you mean Europe/Paris?"),
        ({"args": "[1,"}, "args", "is not JSON"),
        ({"args": '{"a": 1}'}, "args", "list"),
        ({"kwargs": "[1]"}, "kwargs", "dictionary"),
        ({"options": '{"countdown": 5}'}, "options", "countdown"),
        ({"lane": "nowhere"}, "lane", 'no lane "nowhere"'),
        ({"max_runs": "0"}, "max_runs", "0 is less than 1"),
        ({"jitter": "40d"}, "jitter", "is not a duration between"),
        ({"misfire": "panic"}, "misfire", "is not one of the available choices"),
        ({"delivery": "direct", "overlap": ""}, "overlap", "overlap = false needs delivery"),
        ({"start_at": "2030-01-02", "end_at": "2030-01-01"}, "end_at", "ends before it starts"),
        ({"name": ""}, "name", "This field is required"),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"task": ""}, "task", "This field is required"),
        ({"priority": "high"}, "priority", "integer"),
    ],
)
def test_an_error_is_on_its_field(
    queue: Queue, ann: Client, given: dict[str, str], field: str, said: str
) -> None:
    page = ann.post(ADD, FORM | given)
    errors = page.context["adminform"].form.errors
    assert [*errors] == [field], errors
    assert said in errors[field][0]
    assert queue.value("select count(*) from pgreact.schedule") == 0


def test_a_name_is_unique(queue: Queue, ann: Client) -> None:
    ann.post(ADD, FORM)
    page = ann.post(ADD, FORM)
    assert page.context["adminform"].form.errors == {"name": ['a schedule "report" exists']}


def test_only_the_edited_columns_are_written(queue: Queue, ann: Client) -> None:
    ann.post(ADD, FORM)
    url = change(queue)
    given = fields(ann, url)
    page = ann.post(url, {**given, "grace": "5m"}, follow=True)
    assert "was changed successfully" in text(page)
    assert row(queue, "grace") == (datetime.timedelta(minutes=5),)
    details = queue.value("select details from pgreact.event_log where event = 'schedule.changed'")
    assert details == {"columns": ["grace"]}


def test_a_schedule_changes_its_way_its_name_and_whether_it_is_enabled(queue: Queue, ann: Client) -> None:
    ann.post(ADD, FORM)
    url = change(queue)
    given = fields(ann, url)
    del given["enabled"]
    ann.post(url, {**given, "way": "every", "cron": "", "every": "30s", "name": "ticker"})
    assert row(queue, "name, cron, every, enabled") == ("ticker", None, datetime.timedelta(seconds=30), False)


def test_what_the_database_refuses_at_the_write_is_a_message(
    queue: Queue, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgreact.timetable.edit.check", lambda *_: None)  # as if it had changed since
    page = ann.post(ADD, FORM | {"cron": "61 * * * *"}, follow=True)
    assert told(page)[0].startswith("Nothing was saved:")
    assert "61" in told(page)[0]


def test_the_next_ten_runs_show_where_clocks_change(queue: Queue, ann: Client) -> None:
    given = {
        "way": "cron",
        "cron": "0 7 25-31 3 *",
        "start_at": "2030-03-28T00:00",
        "timezone": "Europe/Paris",
    }
    shown = text(ann.post("/admin/pgreact/schedule/preview/", FORM | given))
    assert "Thu 2030-03-28 07:00:00 +0100" in shown
    assert "Sun 2030-03-31 07:00:00 +0200" in shown
    assert "clocks change: UTC+01:00 → UTC+02:00" in shown
    assert shown.count("07:00:00 +0") == 10
    ann.post(ADD, FORM | given)
    assert "clocks change: UTC+01:00 → UTC+02:00" in text(ann.get(change(queue)))


def test_the_preview_says_what_is_wrong(queue: Queue, ann: Client) -> None:
    shown = text(ann.post("/admin/pgreact/schedule/preview/", FORM | {"cron": "x * * * *"}))
    assert "Cron: " in shown
    assert "invalid minute" in shown
    assert queue.value("select count(*) from pgreact.schedule") == 0


def test_registered_tasks_are_suggested_and_another_one_is_a_warning(queue: Queue, ann: Client) -> None:
    assert '<option value="orders.tasks.send_receipt"' in ann.get(ADD).content.decode()
    page = ann.post(ADD, FORM | {"task": "elsewhere.task"}, follow=True)
    assert "No task elsewhere.task is registered" in " ".join(told(page))
    assert row(queue, "task") == ("elsewhere.task",)


def test_schedules_are_enabled_disabled_toggled_run_and_deleted_in_bulk(queue: Queue, ann: Client) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every) "
        "values ('a', 't', '1 h'), ('b', 't', '1 h'), ('c', 't', '1 h')"
    )
    ids = queue.value("select array_agg(id order by name) from pgreact.schedule")
    enabled = "select array_agg(enabled order by name) from pgreact.schedule"
    assert told(act(ann, "schedule", "disable_schedules", ids[:2])) == ["Disabled 2 schedules."]
    assert queue.value(enabled) == [False, False, True]
    assert told(act(ann, "schedule", "toggle_schedules", ids)) == [
        "Enabled 2 schedules.",
        "Disabled 1 schedule.",
    ]
    assert queue.value(enabled) == [True, True, False]
    assert told(act(ann, "schedule", "run_schedules", ids)) == [
        "Running 2 schedules now.",
        "1 schedule not run, since disabled: enable first.",
    ]
    assert queue.value("select count(*) from pgreact.schedule where next_run_at <= now()") == 2
    assert told(act(ann, "schedule", "enable_schedules", ids)) == ["Enabled 3 schedules."]
    page = act(ann, "schedule", "delete_selected", ids[:2])
    assert "Are you sure" in text(page)
    assert told(act(ann, "schedule", "delete_selected", ids[:2], post="yes")) == [
        "Successfully deleted 2 schedules."
    ]
    assert queue.value("select array_agg(name) from pgreact.schedule") == ["c"]
    actors = queue.value("select array_agg(distinct actor) from pgreact.event_log")
    assert actors == ["ann"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"q": "night"}, ["nightly"]),
        ({"q": "shop."}, ["sunset"]),
        ({"q": "for the boss"}, ["nightly"]),
        ({"enabled": "0"}, ["off"]),
        ({"kind": "solar"}, ["sunset"]),
        ({"kind": "cron"}, ["nightly"]),
        ({"state": "failed"}, ["broken"]),
        ({"state": "overdue"}, ["late"]),
        ({"origin": "config"}, ["off"]),
        ({"task": "shop.lights"}, ["sunset"]),
    ],
)
def test_schedules_are_searched_and_filtered(
    queue: Queue, ann: Client, query: dict[str, str], names: list[str]
) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, cron, description) "
        "values ('nightly', 't', '0 2 * * *', 'for the boss')",
        "insert into pgreact.schedule (name, task, solar) "
        "values ('sunset', 'shop.lights', 'sunset 48.86 2.35')",
        "insert into pgreact.schedule (name, task, every, enabled, origin) "
        "values ('off', 't', '1 h', false, 'config'), "
        "('broken', 't', '1 h', true, 'sql'), ('late', 't', '1 h', true, 'sql')",
        "update pgreact.schedule set state = 'failed', last_error = 'no' where name = 'broken'",
        "update pgreact.schedule set next_run_at = now() - interval '1 h' where name = 'late'",
    )
    page = ann.get("/admin/pgreact/schedule/", query)
    assert [found.name for found in page.context["cl"].result_list] == names


def test_a_schedule_of_the_configuration_says_what_apply_overwrites(queue: Queue, ann: Client) -> None:
    queue.run("insert into pgreact.schedule (name, task, every, origin) values ('c', 't', '1 h', 'config')")
    url = change(queue)
    assert "The configuration manages this schedule" in text(ann.get(url))
    given = fields(ann, url)
    ann.post(url, {**given, "name": "renamed", "every": "2h"})
    assert row(queue, "name, every") == ("c", datetime.timedelta(hours=2))


def test_the_page_of_a_schedule_says_why_and_what_was(queue: Queue, ann: Client) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every, retention, enabled) "
        "values ('h', 't', '1 h', '7 days', false)",
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome) "
        "select 'h', now() - n * interval '1 min', now() - n * interval '1 min', 'missed' "
        "from generate_series(1, 60) n",
    )
    shown = text(ann.get(change(queue)))
    assert "schedule h is disabled" in shown.replace("&quot;", "")
    assert "missed" in shown
    url = change(queue).replace("change", "occurrences")
    first = ann.get(url)
    assert len(first.context["past"]) == 50
    second = ann.get(url, {"before": first.context["before"]})
    assert len(second.context["past"]) == 10


def test_the_last_outcome_links_to_the_job(queue: Queue, ann: Client) -> None:
    queue.run("update pgreact.queue_setting set retention = '1 day'")
    queue.run("insert into pgreact.schedule (name, task, every) values ('h', 't', '1 h')")
    job = queue.add()
    queue.claim()
    queue.start(job)
    queue.settle(job, "failed", "E: no")
    queue.run(f"update pgreact.schedule set last_job = {job}, last_run_at = now()")
    page = ann.get("/admin/pgreact/schedule/").content.decode()
    assert f'href="/admin/pgreact/deadjob/{job}/change/">failed</a>' in page
