"""Django's admin of pgreact's tables: lists, pages, actions, permissions, what stays hidden."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.timetable.settings import ScheduleSettings
from tests.django_admin import act, client, site, text, told
from tests.queue_steps import Queue

CARD = "4111222233334444"
MODELS = ("Schedule", "ScheduleHistory", "Job", "InProgress", "DeadJob", "Lane", "SettledJob")
LISTS = ("schedule", "job", "inprogress", "deadjob", "lane", "settledjob")


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Queue]:
    with site(postgres, migrated) as found:
        yield found


@pytest.fixture
def queue(shared: Queue) -> Queue:
    shared.empty()
    shared.run("delete from pgreact.schedule", "truncate pgreact.schedule_history, pgreact.event_log")
    shared.run("update pgreact.queue_setting set retention = '1 day'")
    return shared


@pytest.fixture
def ann(queue: Queue) -> Client:
    return client()


def dead(queue: Queue, error: str = "ValueError: no", task: str = "t", **arguments: Any) -> int:
    """Let a job die."""
    job = queue.add(task, **arguments)
    queue.claim()
    queue.start(job)
    queue.settle(job, "failed", error)
    return job


def buried(queue: Queue, count: int, error: str = "'E'") -> None:
    """Add dead jobs from id 1001 on, which died at one instant; the error is an expression of ``n``."""
    queue.run(
        "insert into pgreact.dead (id, task, args, kwargs, priority, attempt, max_attempts, backoff, options,"
        " enqueued_at, died_at, outcome, error) select 1000 + n, 't', '[]', '{}', 0, 1, 1, '1 s', '{}',"
        f" now(), '2026-01-01Z', 'failed', {error} from generate_series(1, {count}) n"
    )


def events(queue: Queue) -> list[tuple[str, str, str]]:
    with queue.connect() as connection:
        return connection.execute(
            "select event, subject, actor from pgreact.event_log order by id"
        ).fetchall()


def test_each_list_shows_its_rows(queue: Queue, ann: Client) -> None:
    waiting = queue.add("t", run_at="now() + interval '1 h'", key="'user:1'")
    broken = dead(queue, "KeyError: 'x'")
    running = queue.add()
    queue.claim()
    queue.start(running)
    queue.run("insert into pgreact.schedule (name, task, cron) values ('nightly', 't', '30 2 * * 1-5')")
    expected = {
        "schedule": ["nightly", "at 02:30 on weekdays, UTC"],
        "job": [str(waiting), "delayed", "user:1"],
        "inprogress": [str(running), "started", "w"],
        "deadjob": [str(broken), "KeyError: 'x'", "failed"],
        "lane": ["default", "sql"],
        "settledjob": [str(broken), "failed"],
    }
    for table, words in expected.items():
        shown = text(ann.get(f"/admin/pgreact/{table}/")).replace("&#x27;", "'")
        assert [word for word in words if word not in shown] == [], table


def test_the_page_of_a_job_says_why_it_does_not_run(queue: Queue, ann: Client) -> None:
    queue.run("update pgreact.lane set paused = true where name = 'default'")
    job = queue.add(kwargs="""'{"user": 42}'""")
    shown = text(ann.get(f"/admin/pgreact/job/{job}/change/"))
    assert "is paused" in shown
    assert "&quot;user&quot;: 42" in shown


def test_the_page_of_a_settled_job_has_all_its_attempts(queue: Queue, ann: Client) -> None:
    job = queue.add(max_attempts="2", backoff="interval '0'")
    for outcome in ("failed", "done"):
        queue.claim()
        queue.start(job)
        queue.settle(job, outcome, "ValueError: first" if outcome == "failed" else None)
    shown = text(ann.get(f"/admin/pgreact/settledjob/{job}/change/"))
    assert "ValueError: first" in shown
    assert "done" in shown


def test_the_page_of_a_job_that_has_moved_leads_to_where_it_is(queue: Queue, ann: Client) -> None:
    job = dead(queue)
    page = ann.get(f"/admin/pgreact/job/{job}/change/")
    assert page.headers["Location"] == f"/admin/pgreact/deadjob/{job}/change/"
    act(ann, "deadjob", "discard_jobs", [job])
    page = ann.get(f"/admin/pgreact/job/{job}/change/")
    assert page.headers["Location"] == f"/admin/pgreact/settledjob/{job}/change/"


def test_the_index_lists_no_table_where_no_database_can_have_it(queue: Queue, ann: Client) -> None:
    assert "/admin/pgreact/lane/" in ann.get("/admin/").content.decode()
    with override_settings(PGREACT={"DATABASE": "nowhere"}):
        assert "/admin/pgreact/lane/" not in ann.get("/admin/").content.decode()


def test_actions_on_jobs_say_what_was_done_and_what_was_not(queue: Queue, ann: Client) -> None:
    jobs = [queue.add() for _ in range(3)]
    page = act(ann, "job", "cancel_jobs", jobs[:2])
    assert told(page) == ["2 jobs cancelled."]
    assert queue.state(jobs[0]) is None
    assert queue.state(jobs[2]) == "ready"
    assert ("jobs.cancelled", "2 jobs", "ann") in events(queue)
    logged = queue.value(
        "select array_agg(object_id) from django_admin_log where change_message = '2 jobs cancelled.'"
    )
    assert {str(job) for job in jobs[:2]} <= set(logged)


def test_a_running_job_is_cancelled_for_its_further_attempts(queue: Queue, ann: Client) -> None:
    job = queue.add(max_attempts="3")
    queue.claim()
    queue.start(job)
    page = act(ann, "inprogress", "cancel_jobs", [job])
    assert told(page) == ["0 jobs cancelled; 1 job already running, for the last time."]


def test_a_delayed_job_runs_now_and_a_ready_one_is_left(queue: Queue, ann: Client) -> None:
    later = queue.add(run_at="now() + interval '1 h'")
    now = queue.add()
    page = act(ann, "job", "run_jobs_now", [later, now])
    assert told(page)[0].startswith("1 job made ready; 1 job left as they were")
    assert queue.state(later) == "ready"


def test_dead_jobs_are_retried_and_discarded(queue: Queue, ann: Client) -> None:
    first, second = dead(queue), dead(queue)
    assert told(act(ann, "deadjob", "retry_jobs", [first])) == ["1 job queued again."]
    assert told(act(ann, "deadjob", "discard_jobs", [second])) == ["1 job discarded."]
    assert (queue.state(first), queue.state(second)) == ("ready", None)
    assert ("jobs.retried", "1 jobs", "ann") not in events(queue)
    assert ("jobs.retried", f"job {first}", "ann") in events(queue)


def test_an_error_pattern_selects_dead_jobs_and_all_that_match_are_retried(queue: Queue, ann: Client) -> None:
    buried(queue, 60, "'TimeoutError: host ' || n")
    other = dead(queue, "KeyError: 1")
    query = "?pattern=TimeoutError%3A+host+%23"
    page = ann.get(f"/admin/pgreact/deadjob/{query}")
    assert "TimeoutError: host # (60)" in text(page)
    assert "Select all 60 dead jobs" in text(page)
    told_ = told(act(ann, "deadjob", "retry_jobs", [1001], query, select_across="1"))
    assert told_ == ["60 jobs queued again."]
    assert queue.state(other) == "failed"


def test_a_locked_job_is_reported_and_the_others_are_done(queue: Queue, ann: Client) -> None:
    jobs = [queue.add() for _ in range(4)]
    with queue.connect(autocommit=False) as other:
        other.execute("select from pgreact.queue where id = %s for update", (jobs[1],))
        page = act(ann, "job", "cancel_jobs", jobs)
    assert told(page) == ["3 jobs cancelled; 1 job locked by other transactions: try again."]


@pytest.mark.parametrize(
    ("term", "by_index"), [("{id}", True), ("{task_id}", False), ("user:7", True), ("ship", False)]
)
def test_a_search_finds_a_job(queue: Queue, ann: Client, term: str, by_index: bool) -> None:
    job = queue.add("shop.ship", key="'user:7'")
    queue.add()
    task_id = queue.value("select task_id from pgreact.queue where id = %s", job)
    page = ann.get("/admin/pgreact/job/", {"q": term.format(id=job, task_id=task_id)})
    assert [row.pk for row in page.context["cl"].result_list] == [job]


def test_hidden_values_are_on_no_page(queue: Queue, ann: Client) -> None:
    arguments = f"""'{{"card": "{CARD}", "order": 7}}'"""
    waiting = queue.add("shop.pay", kwargs=arguments)
    queue.add("shop.pay", kwargs=arguments)
    running = queue.add("shop.pay", kwargs=arguments)
    broken = dead(queue, f"CardError: {CARD}", "shop.pay", kwargs=arguments)
    queue.run(
        "insert into pgreact.schedule (name, task, every, kwargs) "
        f"values ('pay', 'shop.pay', '1 h', {arguments})"
    )
    schedule = queue.value("select id from pgreact.schedule")
    pages = [f"/admin/pgreact/{table}/" for table in LISTS]
    pages += [f"/admin/pgreact/inprogress/{job}/change/" for job in (waiting, running)]
    pages += [
        f"/admin/pgreact/deadjob/{broken}/change/",
        f"/admin/pgreact/settledjob/{broken}/change/",
        f"/admin/pgreact/schedule/{schedule}/change/",
        "/admin/pgreact/deadjob/?pattern=CardError",
    ]
    viewer = client("vic", *(f"view_{table}" for table in LISTS))
    for page in pages:
        for opened in (ann, viewer):
            found = opened.get(page)
            assert found.status_code == 200, page
            assert CARD not in found.content.decode(), page
    shown = ann.get(f"/admin/pgreact/deadjob/{broken}/change/").content.decode()
    assert "CardError: •••" in shown
    assert "&quot;order&quot;: 7" in shown
    by_class = ann.get("/admin/pgreact/deadjob/?pattern=CardError")
    assert [row.pk for row in by_class.context["cl"].result_list] == [broken]


def test_a_hidden_schedule_keeps_its_arguments_when_it_is_edited(queue: Queue, ann: Client) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every, kwargs) "
        f"""values ('pay', 'shop.pay', '1 h', '{{"card": "{CARD}"}}')"""
    )
    schedule = queue.value("select id from pgreact.schedule")
    form = ann.get(f"/admin/pgreact/schedule/{schedule}/change/").context["adminform"].form
    data = {
        name: value
        for name, value in form.initial.items()
        if name in form.fields and value not in (None, False)
    }
    ann.post(f"/admin/pgreact/schedule/{schedule}/change/", {**data, "every": "2h"})
    assert queue.value("select every = '2 h' from pgreact.schedule")
    assert queue.value("select kwargs ->> 'card' from pgreact.schedule") == CARD


def test_lanes_are_limited_in_the_list_paused_and_resumed(queue: Queue, ann: Client) -> None:
    queue.run("insert into pgreact.lane (name) values ('mail')")
    for _ in range(3):
        queue.add(lane="'mail'")
    page = ann.get("/admin/pgreact/lane/")
    rows = page.context["cl"].result_list
    assert [(lane.pk, lane.counts["waiting"]) for lane in rows] == [("default", 0), ("mail", 3)]
    data = {"form-TOTAL_FORMS": "2", "form-INITIAL_FORMS": "2", "_save": "Save"}
    for number, name in enumerate(("default", "mail")):
        data |= {f"form-{number}-name": name, f"form-{number}-weight": "1", f"form-{number}-rate": ""}
        data |= {f"form-{number}-max_in_progress": ""}
    page = ann.post(
        "/admin/pgreact/lane/", {**data, "form-1-rate": "90/m", "form-1-max_in_progress": "4"}, follow=True
    )
    assert told(page) == ["1 lane was changed successfully."]
    with queue.connect() as connection:
        found = connection.execute(
            "select rate, max_in_progress from pgreact.lane where name = 'mail'"
        ).fetchone()
    assert found == (1.5, 4)
    page = ann.post("/admin/pgreact/lane/", {**data, "form-1-rate": "fast"})
    assert "is not a rate" in text(page)
    assert told(act(ann, "lane", "pause_lanes", ["mail"])) == ["Paused 1 lane."]
    assert queue.value("select paused from pgreact.lane where name = 'mail'")
    assert told(act(ann, "lane", "resume_lanes", ["mail", "default"])) == ["Resumed 1 lane."]
    assert ("lane.paused", "mail", "ann") in events(queue)


def test_a_lane_in_use_is_not_deleted(queue: Queue, ann: Client) -> None:
    queue.run("insert into pgreact.lane (name) values ('mail'), ('idle')")
    queue.add(lane="'mail'")
    page = ann.post("/admin/pgreact/lane/mail/delete/", {"post": "yes"})
    assert "lane mail (waiting: 1)" in text(page)
    ann.post("/admin/pgreact/lane/idle/delete/", {"post": "yes"})
    assert queue.value("select array_agg(name order by name) from pgreact.lane") == ["default", "mail"]


def test_a_lane_is_added(queue: Queue, ann: Client) -> None:
    data = {
        "name": "bulk",
        "burst": "1",
        "weight": "5",
        "max_unstarted": "200",
        "max_lost": "3",
        "tasks": "a\nb",
    }
    wrong = ann.post("/admin/pgreact/lane/add/", {**data, "weight": "5000"})
    assert "Ensure this value is less than or equal to 1000" in text(wrong)
    assert ann.post("/admin/pgreact/lane/add/", data).status_code == 302
    assert queue.value("select tasks from pgreact.lane where name = 'bulk'") == ["a", "b"]


def test_users_who_may_view_see_no_actions(queue: Queue) -> None:
    viewer = client("vic", *(f"view_{table}" for table in LISTS))
    job = queue.add()
    queue.run("insert into pgreact.schedule (name, task, every) values ('tick', 't', '1 h')")
    for table in LISTS:
        page = viewer.get(f"/admin/pgreact/{table}/")
        assert page.context["action_form"] is None, table
        assert 'name="_save"' not in page.content.decode()
    act(viewer, "job", "cancel_jobs", [job])
    assert queue.state(job) == "ready"
    schedule = queue.value("select id from pgreact.schedule")
    assert "1:00:00" in text(viewer.get(f"/admin/pgreact/schedule/{schedule}/change/"))
    assert viewer.post(f"/admin/pgreact/schedule/{schedule}/change/", {"every": "2h"}).status_code == 403
    assert viewer.post("/admin/pgreact/schedule/preview/", {}).status_code == 403


@pytest.mark.parametrize(
    ("permission", "table", "actions"),
    [
        ("cancel_job", "job", {"cancel_jobs"}),
        ("retry_job", "job", {"run_jobs_now"}),
        ("cancel_inprogress", "inprogress", {"cancel_jobs"}),
        ("retry_deadjob", "deadjob", {"retry_jobs"}),
        ("discard_deadjob", "deadjob", {"discard_jobs"}),
        ("pause_lane", "lane", {"pause_lanes", "resume_lanes"}),
        ("run_schedule", "schedule", {"run_schedules"}),
        ("change_schedule", "schedule", {"enable_schedules", "disable_schedules", "toggle_schedules"}),
        ("delete_schedule", "schedule", {"delete_selected"}),
    ],
)
def test_a_permission_allows_its_actions_alone(
    queue: Queue, permission: str, table: str, actions: set[str]
) -> None:
    opened = client("pam", f"view_{table}", permission)
    page = opened.get(f"/admin/pgreact/{table}/")
    choices = page.context["action_form"].fields["action"].choices
    assert {name for name, _ in choices if name} == actions


def test_a_user_without_a_permission_sees_nothing(queue: Queue) -> None:
    stranger = client("sid", "view_lane")
    assert stranger.get("/admin/pgreact/lane/").status_code == 200
    for table in LISTS:
        if table != "lane":
            assert stranger.get(f"/admin/pgreact/{table}/").status_code == 403


def test_pages_follow_by_key(queue: Queue, ann: Client) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every) "
        "select 'schedule ' || lpad(n::text, 3, '0'), 't', '1 h' from generate_series(1, 120) n"
    )
    seen: list[str] = []
    query = ""
    for _ in range(3):
        page = ann.get(f"/admin/pgreact/schedule/{query}").context["cl"]
        seen += [row.name for row in page.result_list]
        query = page.next_page
    assert query is None
    assert seen == [f"schedule {number:03}" for number in range(1, 121)]
    page = ann.get("/admin/pgreact/schedule/", {"p": "[1, 2]"}).context["cl"]
    assert page.result_list[0].name == "schedule 001"


def test_dead_jobs_that_died_at_one_instant_are_on_pages_once(queue: Queue, ann: Client) -> None:
    buried(queue, 120)
    first = ann.get("/admin/pgreact/deadjob/").context["cl"]
    second = ann.get(f"/admin/pgreact/deadjob/{first.next_page}").context["cl"]
    assert [row.pk for row in first.result_list] == [*range(1120, 1070, -1)]
    assert [row.pk for row in second.result_list] == [*range(1070, 1020, -1)]


def test_a_time_beyond_the_calendar_is_shown(queue: Queue, ann: Client) -> None:
    job = queue.add()
    queue.run("update pgreact.queue set run_at = 'infinity'")
    assert str(job) in text(ann.get("/admin/pgreact/job/"))
    assert "9999" in text(ann.get(f"/admin/pgreact/job/{job}/change/"))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_the_columns_of_its_table(queue: Queue, model: str) -> None:
    from pgreact.django import models

    fields = {field.column: field for field in getattr(models, model)._meta.concrete_fields if field.column}
    table = getattr(models, model)._meta.db_table.replace('"', "")
    with queue.connect() as connection:
        found = connection.execute(
            "select attname::text, attnotnull from pg_attribute where attrelid = %s::regclass and attnum > 0",
            (table,),
        ).fetchall()
    columns = dict(found)
    assert set(fields) <= set(columns)
    assert {name for name, field in fields.items() if not field.null} <= {
        name for name in columns if columns[name]
    }


def test_each_column_that_users_set_is_in_the_form(queue: Queue, ann: Client) -> None:
    form = ann.get("/admin/pgreact/schedule/add/").context["adminform"]
    shown = {name for fieldset in form for line in fieldset for name in line.fields}
    assert shown == {"name", "way", *ScheduleSettings.model_fields}


def test_the_models_are_those_of_the_migrations(queue: Queue) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "pgreact", check=True, dry_run=True, verbosity=0)
