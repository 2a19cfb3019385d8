"""The pages of jobs, dead jobs and schedules in a browser: search, actions, what stays hidden."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pgreact.demo.postgres import EmbeddedPostgres
from tests.browser import Web, chromium, serving, tab
from tests.queue_steps import Queue, queue_database

HOSTILE = "<img src=x onerror=alert(1)> \"a' &amp;/../%00?x=1#\t"
REDACT = '[web]\nredact = {"shop.pay" = ["card"]}\n'
CARD = "4111222233334444"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Queue]:
    with queue_database(postgres) as found:
        yield found


@pytest.fixture(scope="module")
def web(shared: Queue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "pgreact.toml").write_text(REDACT)
    with serving(shared.dsn, "--auth", "header:X-User:X-Role", cwd=folder) as found:
        yield found


@pytest.fixture
def queue(shared: Queue) -> Queue:
    shared.empty()
    shared.run("delete from pgreact.schedule", "truncate pgreact.schedule_history, pgreact.event_log")
    shared.run("update pgreact.queue_setting set retention = '1 day'")
    return shared


@pytest.fixture
def page(web: Web, browser: Browser) -> Iterator[Page]:
    with opened(web, browser) as found:
        yield found


@contextlib.contextmanager
def opened(
    web: Web, browser: Browser, role: str = "operator", *, faults: bool = False, width: int = 1280
) -> Iterator[Page]:
    headers = {"X-User": "ann", "X-Role": role}
    with tab(browser, faults=faults, width=width, extra_http_headers=headers) as found:
        yield found.page


def died(queue: Queue, count: int, error: str, task: str = "t", kwargs: str = "{}") -> None:
    """Add dead jobs in one statement."""
    queue.run(
        f"""
        insert into pgreact.dead (id, lane, task, args, kwargs, priority, attempt, max_attempts, backoff,
            options, enqueued_at, outcome, error)
        select nextval(pg_get_serial_sequence('pgreact.queue', 'id')), 'default', '{task}', '[]', '{kwargs}',
            0, 1, 1, '1 s', '{{}}', now(), 'failed', replace('{error}', 'N', n::text)
        from generate_series(1, {count}) n
        """
    )


def events(queue: Queue) -> list[tuple[str, str, str]]:
    with queue.connect() as connection:
        return [
            (str(event), str(subject), str(actor))
            for event, subject, actor in connection.execute(
                "select event, subject, actor from pgreact.event_log order by id"
            )
        ]


# ---- jobs --------------------------------------------------------------------------------------------------


def test_jobs_are_searched_by_keyboard_and_a_wrong_field_says_what_to_write(
    queue: Queue, web: Web, page: Page
) -> None:
    queue.add("mail.send", kwargs="""'{"user": {"id": 7}}'""")
    queue.add("mail.other")
    page.goto(f"{web.url}jobs")
    page.get_by_label("Task", exact=True).focus()
    page.keyboard.type("mail.*")
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.get_by_label("Arguments")).to_be_focused()
    page.keyboard.type("args.user.id:7")
    page.keyboard.press("Enter")
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    expect(page.locator("code.arguments")).to_have_text('user={"id": 7}')
    expect(page.locator("#more")).to_have_text("These are all.")
    page.get_by_label("Arguments").fill("args.user..id:7")
    page.keyboard.press("Enter")
    expect(page.locator("#e-args")).to_contain_text('write "args.user.id:1"')
    expect(page.get_by_label("Task", exact=True)).to_have_value("mail.*")
    page.get_by_label("Arguments").fill("$.kwargs.(")
    page.keyboard.press("Enter")
    expect(page.locator("#e-args")).to_contain_text("PostgreSQL: ")


def test_list_of_jobs_follows_a_commit_and_keeps_its_pages(queue: Queue, web: Web, page: Page) -> None:
    for _ in range(51):
        queue.add()
    page.goto(f"{web.url}jobs?state=ready")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    expect(page.locator("#connection")).to_have_text("live")
    [job] = [int(text) for text in page.locator("table.jobs tbody th").all_inner_texts()]
    queue.run(f"select pgreact.cancel({job})", "select pgreact.log_event('job.cancelled', 'x')")
    expect(page.get_by_text("No job matches.")).to_be_visible()


def test_one_job_is_retried_and_cancelled_under_the_users_name(queue: Queue, web: Web, page: Page) -> None:
    died(queue, 1, "E: 1")
    job = queue.value("select id from pgreact.dead")
    page.goto(f"{web.url}jobs?state=dead")
    page.get_by_role("button", name=f"Retry job {job}").click()
    expect(page.get_by_role("status").filter(has_text=f"retried job {job}")).to_be_visible()
    assert queue.state(job) == "ready"
    page.goto(f"{web.url}jobs/{job}")
    page.get_by_role("button", name=f"Cancel job {job}").click()
    expect(page.get_by_role("status").filter(has_text=f"cancelled job {job}")).to_be_visible()
    expect(page.get_by_role("heading", name="cancelled")).to_be_visible()
    assert events(queue) == [("job.retried", str(job), "ann"), ("job.cancelled", str(job), "ann")]


def test_page_of_a_job_shows_its_way_its_error_and_why_it_waits(queue: Queue, web: Web, page: Page) -> None:
    first = queue.add("t", key="'k'", max_attempts="2", backoff="'0 s'")
    queue.claim()
    queue.start(first)
    queue.settle(first, "failed", "ValueError: first\n  File x")
    queue.claim()
    queue.start(first)
    second = queue.add("t", key="'k'")
    queue.claim()
    page.goto(f"{web.url}jobs/{first}")
    expect(page.locator("svg.way")).to_have_count(2)
    expect(page.get_by_role("region", name="Attempt 1")).to_contain_text("ValueError: first")
    page.goto(f"{web.url}jobs/{second}")
    expect(page.locator("ol.causes")).to_contain_text(f"job {first}")
    page.get_by_role("link", name=str(first), exact=True).first.click()
    expect(page.get_by_role("heading", name=f"Job {first}")).to_be_visible()


# ---- many jobs ---------------------------------------------------------------------------------------------


def test_bulk_action_hits_what_its_confirmation_showed_and_no_later_job(
    queue: Queue, web: Web, page: Page
) -> None:
    died(queue, 1200, "ValueError: user N is gone")
    died(queue, 3, "KeyError: N")
    page.goto(f"{web.url}dead")
    row = page.get_by_role("row", name="ValueError: user # is gone")
    expect(row).to_contain_text("1,200")
    row.get_by_role("link", name="Retry all").click()
    expect(page.get_by_role("heading", name="Retry 1,200 jobs?")).to_be_visible()
    expect(page.locator("ul.groups")).to_have_text("1,200 dead: t")
    died(queue, 2, "ValueError: user N is gone")
    queue.run("delete from pgreact.dead where id = (select min(id) from pgreact.dead)")
    page.get_by_role("button", name="Retry 1,200 jobs").click()
    expect(page.get_by_text("1,199 retried, 1 no longer matched.")).to_be_visible()
    assert queue.value("select count(*) from pgreact.queue") == 1199
    assert queue.value("select count(*) from pgreact.dead") == 5
    [(event, subject, actor)] = events(queue)
    assert (event, actor) == ("jobs.retried", "ann")
    assert subject == "state dead, pattern ValueError: user # is gone"
    assert queue.value("select details ->> 'jobs' from pgreact.event_log") == "1200"


def test_bulk_cancel_and_discard_by_a_filter(queue: Queue, web: Web, page: Page) -> None:
    kept = queue.add("keep")
    for _ in range(3):
        queue.add("drop.this")
    died(queue, 2, "E: N", task="drop.this")
    page.goto(f"{web.url}jobs?task=drop.*")
    page.get_by_role("link", name="Cancel all that match").click()
    page.get_by_role("button", name="Cancel 3 jobs").click()
    expect(page.get_by_text("3 cancelled, 0 no longer matched.")).to_be_visible()
    page.goto(f"{web.url}jobs?task=drop.*")
    page.get_by_role("link", name="Discard all that match").click()
    page.get_by_role("button", name="Discard 2 jobs").click()
    expect(page.get_by_text("2 discarded, 0 no longer matched.")).to_be_visible()
    assert queue.state(kept) == "ready"
    assert queue.value("select count(*) from pgreact.dead") == 0
    assert [event for event, *_ in events(queue)] == ["jobs.cancelled", "jobs.discarded"]


# ---- what stays hidden -------------------------------------------------------------------------------------


def test_hidden_values_reach_no_page(queue: Queue, web: Web, browser: Browser) -> None:
    kwargs = json.dumps({"card": CARD, "n": 1})
    died(queue, 1, f"ValueError: card {CARD}", task="shop.pay", kwargs=kwargs)
    dead = queue.value("select id from pgreact.dead")
    job = queue.add("shop.pay", kwargs=f"'{kwargs}'", max_attempts="3", backoff="'1 h'")
    queue.claim()
    queue.start(job)
    queue.settle(job, "failed", f"ValueError: card {CARD}")
    queue.run(
        "insert into pgreact.schedule (name, task, every, kwargs) "
        f"values ('pay', 'shop.pay', '1 h', '{kwargs}')"
    )
    with opened(web, browser, faults=True) as page:
        for path in (
            "jobs",
            f"jobs/{dead}",
            f"jobs/{job}",
            "dead",
            "bulk/retry",
            "schedules",
            "schedule?name=pay",
            "schedule/edit?name=pay",
            "jobs?args=n:1&task=shop.pay",
        ):
            assert CARD not in (page.goto(f"{web.url}{path}") or pytest.fail(path)).text(), path
        page.goto(f"{web.url}jobs/{job}")
        expect(page.get_by_text('"card": "•••"')).to_be_visible()
        page.goto(f"{web.url}jobs?args=card:{CARD}&task=shop.pay")
        expect(page.locator("#e-args")).to_contain_text("hidden")
        for search in (
            f"args=card:{CARD}",
            f"args=$.**%20%3F%20(%40%20%3D%3D%20%22{CARD}%22)",
            f"error={CARD}",
        ):
            page.goto(f"{web.url}jobs?{search}")
            expect(page.get_by_text("No job matches.")).to_be_visible()
        # the arguments stay as they are when another column is edited
        page.goto(f"{web.url}schedule/edit?name=pay")
        page.get_by_label("Priority").fill("5")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("changed priority of pay")).to_be_visible()
    assert queue.value("select kwargs ->> 'card' from pgreact.schedule") == CARD


def test_monitor_reads_all_but_arguments_and_changes_nothing(
    queue: Queue, browser: Browser, tmp_path: Path
) -> None:
    died(queue, 1, "E: 1", kwargs=json.dumps({"card": CARD}))
    job = queue.value("select id from pgreact.dead")
    queue.run("insert into pgreact.schedule (name, task, every) values ('s', 't', '1 h')")
    queue.run(f"create role watcher {queue.login}", "select pgreact.grant_role('watcher', 'monitor')")
    try:
        with (
            serving(queue.dsn.replace("//postgres:", "//watcher:"), cwd=tmp_path) as web,
            tab(browser) as found,
        ):
            for path in (f"jobs/{job}", "jobs", "dead", "schedules", "schedule?name=s"):
                found.page.goto(f"{web.url}{path}")
                expect(found.page.get_by_role("heading", level=1)).to_be_visible()
                assert CARD not in found.page.content()
                assert found.page.locator("p.failed").all_inner_texts() == [], path
            found.page.goto(f"{web.url}jobs")
            expect(found.page.get_by_text("Arguments are not shown")).to_be_visible()
            found.page.goto(f"{web.url}jobs?args=card:1")
            expect(found.page.locator("#e-args")).to_contain_text("for operators alone")
    finally:
        queue.run("drop owned by watcher", "drop role watcher")


def test_user_with_the_role_monitor_sees_no_action_and_may_none(
    queue: Queue, web: Web, browser: Browser
) -> None:
    died(queue, 1, "E: 1")
    job = queue.value("select id from pgreact.dead")
    queue.run("insert into pgreact.schedule (name, task, every) values ('s', 't', '1 h')")
    with opened(web, browser, "monitor", faults=True) as page:
        for path in ("jobs", f"jobs/{job}", "dead", "schedules", "schedule?name=s"):
            page.goto(f"{web.url}{path}")
            assert page.locator("main form[method=post]").count() == 0, path
            assert page.get_by_role("link", name="…").count() == 0, path
        for path in ("bulk/retry", "schedule/new", "schedule/edit?name=s", "schedules/bulk/disable"):
            answer = page.goto(f"{web.url}{path}")
            assert answer is not None
            assert answer.status == 403
        for path in ("jobs/retry", "bulk/discard", "schedule/delete", "schedules/bulk/disable"):
            assert page.request.post(f"{web.url}{path}", form={"job": str(job), "name": "s"}).status == 403


def test_action_from_another_site_is_refused(queue: Queue, web: Web, browser: Browser) -> None:
    queue.run("insert into pgreact.schedule (name, task, every) values ('s', 't', '1 h')")
    with opened(web, browser, faults=True) as page:
        page.goto(f"{web.url}schedules")
        for path in ("bulk/discard", "schedule/delete", "schedule/new", "schedules/bulk/disable"):
            assert page.request.post(f"{web.url}{path}", form={"name": "s"}).status == 403
    assert queue.value("select count(*) from pgreact.schedule where enabled") == 1


# ---- schedules ---------------------------------------------------------------------------------------------


def test_schedule_is_added_with_errors_at_its_fields(queue: Queue, web: Web, browser: Browser) -> None:
    with opened(web, browser, faults=True) as page:
        page.goto(f"{web.url}schedules")
        page.get_by_role("link", name="New schedule").click()
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#e-name")).to_have_text("a schedule needs a name")
        page.get_by_label("Name").fill(HOSTILE)
        page.get_by_label("Task", exact=True).fill("proj.poll")
        page.get_by_label("Every").fill("5 parsecs")
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#e-every")).to_contain_text("is not a duration")
        page.get_by_label("Every").fill("")
        page.get_by_label("Cron", exact=True).fill("61 * * * *")
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#e-cron")).to_contain_text("61")
        expect(page.get_by_label("Task", exact=True)).to_have_value("proj.poll")
        page.get_by_label("Cron", exact=True).fill("30 2 * * *")
        page.get_by_label("Time zone").fill("Europe/Nowhere")
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#e-timezone")).to_contain_text("Europe/Nowhere")
        page.get_by_label("Time zone").fill("Europe/Paris")
        page.get_by_label("Kwargs").fill('{"a": ')
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#e-kwargs")).to_contain_text("is not JSON")
        page.get_by_label("Kwargs").fill('{"a": 1}')
        page.get_by_label("Lane").fill("absent")
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#e-lane")).to_contain_text('no lane "absent"')
        page.get_by_label("Lane").fill("")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("heading", name="<img src=x")).to_be_visible()
    assert queue.value("select kwargs ->> 'a' from pgreact.schedule where name = %s", HOSTILE) == "1"
    assert events(queue) == [("schedule.created", HOSTILE, "ann")]


def test_schedule_is_edited_switched_run_and_deleted(queue: Queue, web: Web, page: Page) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every, max_runs) values ('poll', 'proj.poll', '1 h', 9)"
    )
    page.goto(f"{web.url}schedule?name=poll")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Every").fill("")
    page.get_by_label("Cron", exact=True).fill("30 2 * * *")
    page.get_by_label("Time zone").fill("Europe/Paris")
    page.get_by_label("Max runs").fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="changed")).to_be_visible()
    with queue.connect() as connection:
        [row] = connection.execute("select every, cron, timezone, max_runs from pgreact.schedule").fetchall()
    assert row == (None, "30 2 * * *", "Europe/Paris", None)
    page.get_by_role("button", name="Run now poll").click()
    expect(page.get_by_role("status").filter(has_text="running poll")).to_be_visible()
    assert queue.value("select next_run_at <= now() from pgreact.schedule")
    page.get_by_role("button", name="Disable poll").click()
    expect(page.get_by_role("button", name="Enable poll")).to_be_visible()
    page.get_by_role("button", name="Enable poll").click()
    expect(page.get_by_role("button", name="Disable poll")).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete poll?")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No schedule matches.")).to_be_visible()
    assert [event for event, *_ in events(queue)] == [
        "schedule.changed",
        "schedule.run_requested",
        "schedule.disabled",
        "schedule.enabled",
        "schedule.deleted",
    ]
    assert {actor for *_, actor in events(queue)} == {"ann"}


def test_schedules_that_match_are_disabled_together(queue: Queue, web: Web, page: Page) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every) "
        "select 'mail ' || n, 't', '1 h' from generate_series(1, 60) n",
        "insert into pgreact.schedule (name, task, every) values ('other', 't', '1 h')",
    )
    page.goto(f"{web.url}schedules?name=mail")
    expect(page.locator("table.schedules tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("table.schedules tbody tr")).to_have_count(10)
    page.get_by_role("link", name="Disable all that match").click()
    queue.run("insert into pgreact.schedule (name, task, every) values ('mail later', 't', '1 h')")
    page.get_by_role("button", name="Disable 60 schedules").click()
    expect(page.get_by_text("disable: 60 schedules")).to_be_visible()
    with queue.connect() as connection:
        left = connection.execute("select name from pgreact.schedule where enabled order by name").fetchall()
    assert left == [("mail later",), ("other",)]
    page.goto(f"{web.url}schedules?which=disabled")
    expect(page.locator("table.schedules tbody tr")).to_have_count(50)


def test_punch_card_and_history_show_what_became_of_occurrences(queue: Queue, web: Web, page: Page) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every, retention) values ('poll', 't', '1 h', '30 days')",
        "insert into pgreact.schedule_history select 'poll', n, n + interval '10 min', "
        "case when ago in (3, 27) then 'missed' else 'fired' end, null, null, null "
        "from generate_series(1, 48) ago, lateral (select now() - ago * interval '1 hour') moments (n)",
    )
    page.goto(f"{web.url}schedule?name=poll")
    expect(page.locator("svg.punch circle.o-fired")).to_have_count(46)
    expect(page.locator("svg.punch circle.o-missed")).to_have_count(2)
    expect(page.locator("svg.punch line.late")).to_have_count(46)
    expect(page.get_by_role("row", name="missed").first).to_be_visible()


def test_pages_fit_a_narrow_screen(queue: Queue, web: Web, browser: Browser) -> None:
    died(queue, 3, "ValueError: " + "a_very_long_word" * 8)
    job = queue.value("select min(id) from pgreact.dead")
    queue.run(
        "insert into pgreact.schedule (name, task, every, retention) "
        "values (repeat('name', 40), 't', '1 h', '1 day')"
    )
    with opened(web, browser, width=360) as page:
        for path in (
            "jobs",
            f"jobs/{job}",
            "dead",
            "bulk/retry",
            "schedules",
            f"schedule?name={'name' * 40}",
            "schedule/new",
        ):
            page.goto(f"{web.url}{path}")
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, (path, width)


def test_hostile_texts_are_shown_as_they_are(queue: Queue, web: Web, page: Page) -> None:
    died(queue, 1, "<script>alert(1)</script>", task="<b>t</b>")
    job = queue.value("select id from pgreact.dead")
    page.goto(f"{web.url}dead")
    page.get_by_role("link", name="<script>alert(#)</script>", exact=True).click()
    expect(page.locator(".task")).to_have_text("<b>t</b>")
    page.goto(f"{web.url}jobs/{job}")
    expect(page.locator("pre.error")).to_have_text("<script>alert(1)</script>")


def test_actions_of_jobs_are_in_view_whatever_their_table_holds(queue: Queue, page: Page, web: Web) -> None:
    died(queue, 1, "w" * 300, task="proj." + "long_name." * 15 + "task")
    page.goto(f"{web.url}jobs?state=dead")
    hidden = "table => table.parentElement.scrollWidth > table.parentElement.clientWidth"
    assert page.eval_on_selector("table.jobs", hidden), "the table is wider than its place"
    for button in page.locator("table.jobs td.actions button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 1260
