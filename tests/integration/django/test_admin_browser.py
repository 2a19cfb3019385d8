"""Django's admin of pgreact's tables in Chromium, under a policy that refuses inline scripts and styles."""

import contextlib
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from pgreact.demo.postgres import EmbeddedPostgres
from tests.browser import chromium, tab
from tests.django_admin import PASSWORD, serving, site, user
from tests.queue_steps import Queue


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def _in_a_thread(function: object, *args: object) -> None:
    """Call what uses Django's connection: Django refuses in this thread, where playwright has a loop."""
    thread = threading.Thread(target=function, args=args)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def _users() -> None:
    from django.db import connections

    user("ann", superuser=True)
    user("vic", "view_schedule", "view_deadjob")
    connections.close_all()


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Queue]:
    with site(postgres, migrated) as found:
        _in_a_thread(_users)
        yield found


@pytest.fixture(scope="module")
def address(shared: Queue) -> Iterator[str]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def state(address: str, browser: Browser) -> dict[str, object]:
    """Log in as ann by the form; return the cookies."""
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{address}/admin/pgreact/schedule/")
        page.fill("[name=username]", "ann")
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        expect(page.locator("#content h1")).to_have_text("Select schedule to change")
        return dict(page.context.storage_state())


@pytest.fixture
def queue(shared: Queue) -> Queue:
    shared.empty()
    shared.run("delete from pgreact.schedule", "truncate pgreact.schedule_history, pgreact.event_log")
    return shared


@pytest.fixture
def page(queue: Queue, address: str, browser: Browser, state: dict[str, object]) -> Iterator[Page]:
    with opened(address, browser, state) as found:
        yield found


@contextlib.contextmanager
def opened(
    address: str, browser: Browser, state: dict[str, object], *, width: int = 1280, **more: object
) -> Iterator[Page]:
    with tab(browser, width=width, storage_state=state, base_url=address, **more) as found:
        yield found.page


def pick(page: Page, action: str) -> None:
    """Run an action on the selected rows."""
    page.select_option("[name=action]", action)
    page.click("button[name=index]")


@pytest.mark.parametrize(
    ("way", "value", "described"),
    [
        ("every", "10m", "every 10 minutes"),
        ("cron", "0 7 * * 1-5", "at 07:00 on weekdays, Europe/Paris"),
        ("at", "2030-03-29T09:00", "once, at 2030-03-29 09:00, Europe/Paris"),
        ("solar", "sunset 48.86 2.35", "at sunset in 48.86 2.35"),
        (
            "rrule",
            "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17",
            "every month on the last Friday at 17:00, Europe/Paris",
        ),
    ],
)
def test_a_schedule_of_each_kind_is_added_with_its_next_runs(
    queue: Queue, page: Page, way: str, value: str, described: str
) -> None:
    page.goto("/admin/pgreact/schedule/add/")
    page.fill("[name=name]", f"by {way}")
    page.fill("[name=task]", "orders.tasks.send_receipt")
    page.check(f"[name=way][value={way}]")
    page.fill(f"[name={way}]", value)
    page.fill("[name=timezone]", "Europe/Paris")
    runs = page.locator("#pgreact-runs tbody tr")
    expect(runs).to_have_count(1 if way == "at" else 10)
    page.click("[name=_save]")
    expect(page.locator(".messagelist .success")).to_contain_text("was added successfully")
    expect(page.locator("#result_list .field-recurs")).to_have_text(described)
    assert queue.value("select name from pgreact.schedule") == f"by {way}"


def test_the_form_shows_the_fields_of_the_chosen_way_alone(queue: Queue, page: Page) -> None:
    page.goto("/admin/pgreact/schedule/add/")
    expect(page.locator("[name=every]")).to_be_visible()
    expect(page.locator("[name=cron]")).to_be_hidden()
    page.fill("[name=every]", "5m")
    page.check("[name=way][value=cron]")
    expect(page.locator("[name=cron]")).to_be_visible()
    expect(page.locator("[name=every]")).to_be_hidden()
    page.fill("[name=name]", "nightly")
    page.fill("[name=task]", "t")
    page.fill("[name=cron]", "0 2 * * *")
    page.click("[name=_save]")  # the interval that was typed before is not sent
    expect(page.locator(".messagelist .success")).to_contain_text("was added successfully")


def test_an_error_is_on_its_field(queue: Queue, page: Page) -> None:
    page.goto("/admin/pgreact/schedule/add/")
    page.fill("[name=name]", "wrong")
    page.fill("[name=task]", "t")
    page.check("[name=way][value=cron]")
    page.fill("[name=cron]", "0 25 * * *")
    expect(page.locator("#pgreact-runs .errorlist")).to_contain_text("hour 25 is not between 0 and 23")
    page.click("[name=_save]")
    expect(page.locator(".field-cron .errorlist")).to_contain_text("hour 25 is not between 0 and 23")
    expect(page.locator("[name=cron]")).to_have_value("0 25 * * *")


def test_schedules_are_switched_and_run_in_bulk(queue: Queue, page: Page) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, every) "
        "select 's' || n, 't', '1 h' from generate_series(1, 3) n"
    )
    page.goto("/admin/pgreact/schedule/")
    page.check("#action-toggle")
    pick(page, "disable_schedules")
    expect(page.locator(".messagelist")).to_contain_text("Disabled 3 schedules.")
    page.check("#action-toggle")
    pick(page, "enable_schedules")
    expect(page.locator(".messagelist")).to_contain_text("Enabled 3 schedules.")
    page.locator("#result_list .action-select").first.check()
    pick(page, "run_schedules")
    expect(page.locator(".messagelist")).to_contain_text("Running 1 schedule now.")
    assert queue.value("select array_agg(name) from pgreact.schedule where next_run_at <= now()") == ["s1"]


def test_jobs_are_cancelled_and_dead_jobs_retried_across_pages(queue: Queue, page: Page) -> None:
    job = queue.add()
    page.goto("/admin/pgreact/job/")
    page.click(f"#result_list >> text='{job}'")
    expect(page.locator(".pgreact-why")).to_contain_text(f"job {job}")
    page.go_back()
    page.check("#action-toggle")
    pick(page, "cancel_jobs")
    expect(page.locator(".messagelist")).to_contain_text("1 job cancelled.")
    queue.run(
        "insert into pgreact.dead (id, task, args, kwargs, priority, attempt, max_attempts, backoff, options,"
        " enqueued_at, outcome, error) select 1000 + n, 't', '[]', '{}', 0, 1, 1, '1 s', '{}',"
        " now(), 'failed', 'Timeout: host ' || n from generate_series(1, 70) n"
    )
    page.goto("/admin/pgreact/deadjob/")
    page.click("text='Timeout: host # (70)'")
    page.check("#action-toggle")
    page.click("text='Select all 70 dead jobs'")
    pick(page, "retry_jobs")
    expect(page.locator(".messagelist")).to_contain_text("70 jobs queued again.")
    expect(page.locator(".pgreact-pages")).to_contain_text("0 dead jobs")


def test_a_lane_is_limited_in_its_line_and_paused(queue: Queue, page: Page) -> None:
    page.goto("/admin/pgreact/lane/")
    page.fill("[name=form-0-rate]", "100/m")
    page.fill("[name=form-0-max_in_progress]", "7")
    page.click("[name=_save]")
    expect(page.locator(".messagelist .success")).to_contain_text("1 lane was changed successfully.")
    expect(page.locator("[name=form-0-rate]")).to_have_value("100/m")
    page.check("#action-toggle")
    pick(page, "pause_lanes")
    expect(page.locator(".messagelist")).to_contain_text("Paused 1 lane.")
    assert queue.value("select paused and max_in_progress = 7 from pgreact.lane")


def test_the_history_is_read_by_pages(queue: Queue, page: Page) -> None:
    queue.run(
        "update pgreact.queue_setting set retention = '1 day'",
        "insert into pgreact.history (id, task, attempt, outcome, enqueued_at, settled_at)"
        " select n, 't', 1, 'done', now(), now() from generate_series(1, 60) n",
    )
    page.goto("/admin/pgreact/settledjob/")
    expect(page.locator("#result_list tbody tr")).to_have_count(50)
    page.click("text='next page »'")
    expect(page.locator("#result_list tbody tr")).to_have_count(10)
    page.click("text='« first page'")
    expect(page.locator("#result_list tbody tr")).to_have_count(50)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_narrow_screen_in_both_schemes(
    queue: Queue, address: str, browser: Browser, state: dict[str, object], scheme: str
) -> None:
    queue.run(
        "insert into pgreact.schedule (name, task, cron, retention)"
        " values ('nightly', 't', '0 2 * * *', '7 days')",
        "insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome)"
        " values ('nightly', now(), now(), 'missed')",
    )
    schedule = queue.value("select id from pgreact.schedule")
    with opened(address, browser, state, width=390, color_scheme=scheme) as page:
        for path in ("schedule/", f"schedule/{schedule}/change/", "deadjob/", "lane/", "job/", "settledjob/"):
            page.goto(f"/admin/pgreact/{path}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, (path, wide)


def test_a_user_who_may_view_has_no_buttons(queue: Queue, address: str, browser: Browser) -> None:
    queue.run("insert into pgreact.schedule (name, task, cron) values ('nightly', 't', '0 2 * * *')")
    with tab(browser, base_url=address) as opened_:
        page = opened_.page
        page.goto("/admin/pgreact/schedule/")
        page.fill("[name=username]", "vic")
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.click("text='nightly'")
        expect(page.locator(".pgreact-why")).to_contain_text("at 02:00 every day, UTC", ignore_case=True)
        assert page.locator("[name=_save], [name=action], .addlink").count() == 0
