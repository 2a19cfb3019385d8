"""The pages in a browser, on a real database: what they show, their actions, their updates."""

import re
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from pgreact.demo.postgres import EmbeddedPostgres
from tests.browser import Web, chromium, serving, tab
from tests.harness import Database, eventually, fresh_database
from tests.web_data import fill

PAGES = {"": "Overview", "routes": "Routes", "lanes": "Lanes", "cluster": "Cluster", "doctor": "Doctor"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Database]:
    """A busy cluster's database, shared by the tests of this module."""
    with fresh_database(postgres) as found:
        fill(found)
        yield found


@pytest.fixture(scope="module")
def web(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving(database.dsn, cwd=tmp_path_factory.mktemp("web")) as found:
        yield found


@pytest.fixture
def page(web: Web, browser: Browser) -> Iterator[Page]:
    """A tab in which nothing may go wrong, with the pages as its base."""
    with tab(browser, base_url=web.url) as opened:
        yield opened.page


def live(page: Page, path: str) -> None:
    """Open a page, and wait until it hears of changes."""
    page.goto(path)
    expect(page.locator("#connection")).to_have_text("live")


def test_every_page_opens_by_the_navigation_without_a_fault(page: Page) -> None:
    page.goto("./")
    for title in PAGES.values():
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=title).click()
        expect(page.get_by_role("heading", level=1, name=title)).to_be_visible()
        expect(page.locator('nav a[aria-current="page"]')).to_have_text(title)


def test_overview_shows_totals_charts_and_the_cell_that_lights_up_with_its_reason(page: Page) -> None:
    page.goto("./")
    expect(page.locator(".totals")).to_contain_text(re.compile(r"delayed\s*37"))
    expect(page.locator(".verdict")).to_contain_text("no daemon leads")
    expect(page.locator(".bottleneck")).to_contain_text(re.compile("mail · claim.*no daemon leads"))
    reports = page.get_by_role("row", name="reports").first
    expect(reports.locator(".level1")).to_contain_text("its tasks run longer than usual")
    expect(page.get_by_role("img", name=re.compile("Attempts settled by minute"))).to_be_visible()
    assert len(page.locator(".charts svg path.line").all()) == 10, "wait and run of five lanes"
    page.get_by_text("events in this hour").click()
    expect(page.get_by_text("gate.closed", exact=True)).to_be_visible()


def test_lane_is_paused_and_resumed_by_a_click_under_the_users_name(page: Page, database: Database) -> None:
    page.goto("lanes")
    page.get_by_role("button", name="Pause default").click()
    expect(page.get_by_role("status").filter(has_text="paused default")).to_be_visible()
    assert database.value("select paused from pgreact.lane where name = 'default'")
    assert database.value("select actor from pgreact.event_log where event = 'lane.paused'") == "local"
    page.get_by_role("button", name="Resume default").click()
    expect(page.get_by_role("button", name="Pause default")).to_be_visible()
    assert database.value("select actor from pgreact.event_log where event = 'lane.resumed'") == "local"


def test_limits_of_a_lane_change_together_or_not_at_all(page: Page, database: Database) -> None:
    page.goto("lanes")
    row = page.get_by_role("row", name="webhooks")

    def set_limits(**values: str) -> None:
        row.get_by_text("Limits", exact=True).click()
        for label, value in values.items():
            row.get_by_label(label.replace("_", " ")).fill(value)
        row.get_by_role("button", name="Set limits").click()

    set_limits(Jobs_in_progress="7", Rate="30/m")
    expect(page.locator(".note.done")).to_have_text(re.compile("changed the limits of webhooks.*apply"))
    found = "select (max_in_progress, rate, burst)::text from pgreact.lane where name = 'webhooks'"
    assert database.value(found) == "(7,0.5,1)"
    set_limits(Jobs_in_progress="9", Rate="fast")
    expect(page.locator(".note.failed")).to_have_text(re.compile("rate: 'fast' is not a rate: write"))
    assert database.value(found) == "(7,0.5,1)"


def test_route_is_signalled_by_a_click_and_the_log_says_who_did(page: Page, database: Database) -> None:
    page.goto("routes")
    with database.connect() as listener:
        listener.execute("listen pgreact")
        page.get_by_role("button", name="Signal stock").click()
        expect(page.locator(".note.done")).to_have_text("signalled stock")
        assert [note.channel for note in listener.notifies(timeout=10, stop_after=1)] == ["pgreact"]
    logged = "select (subject, actor)::text from pgreact.event_log where event = 'route.signalled'"
    assert database.value(logged) == "(stock,local)"


def test_trigger_that_is_disabled_shows_on_its_route_with_the_remedy(page: Page, database: Database) -> None:
    database.run("alter table public.item disable trigger all")
    try:
        page.goto("routes")
        expect(page.get_by_role("row", name="public.item")).to_contain_text('disabled: run "pgreact apply"')
    finally:
        database.run("alter table public.item enable trigger all")


def test_page_follows_a_commit_without_a_reload(page: Page, database: Database) -> None:
    hostile = """<script>alert(1)</script>'"; drop table x --"""
    live(page, "lanes")
    page.evaluate("window.marked = true")
    with database.connect() as connection:
        connection.execute("insert into pgreact.lane (name) values (%s)", (hostile,))
    expect(page.get_by_role("rowheader", name=hostile)).to_be_visible()
    page.get_by_role("button", name=f"Pause {hostile}").click()
    expect(page.locator(".note.done")).to_have_text(f"paused {hostile}")
    assert database.value("select paused from pgreact.lane where name = %s", hostile)
    live(page, "lanes")
    page.evaluate("window.marked = true")
    with database.connect() as connection:
        connection.execute("delete from pgreact.lane where name = %s", (hostile,))
    expect(page.get_by_role("rowheader", name=hostile)).to_have_count(0)
    assert page.evaluate("window.marked")


def test_update_leaves_an_open_form_and_what_is_typed_into_it(page: Page, database: Database) -> None:
    live(page, "lanes")
    row = page.get_by_role("row", name="reports")
    row.get_by_text("Limits", exact=True).click()
    row.get_by_label("Rate").fill("77/s")
    page.locator("h1").click()
    database.run("update pgreact.lane set weight = 5 where name = 'default'")
    expect(page.get_by_role("row", name="default").locator("input[name=weight]")).to_have_value("5")
    expect(row.get_by_label("Rate")).to_be_visible()
    expect(row.get_by_label("Rate")).to_have_value("77/s")


def test_events_are_filtered_and_paged_by_their_ids(page: Page, database: Database) -> None:
    database.run("select pgreact.log_event('lane.changed', 'x' || n) from generate_series(1, 120) n")
    page.goto("cluster?kind=lane&text=X")
    first = page.locator(".events tbody tr td:nth-child(3)").all_text_contents()
    page.get_by_role("link", name="Older").click()
    page.wait_for_url(re.compile("before="))
    second = page.locator(".events tbody tr td:nth-child(3)").all_text_contents()
    assert first + second == [f"x{n}" for n in range(120, 20, -1)]
    page.get_by_label("Kind").select_option("gate")
    page.get_by_label("Subject or actor").fill("app-2")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".events tbody tr")).to_have_count(2)
    expect(page.locator(".events")).to_contain_text("gate.closed")


def test_cluster_lists_leader_standby_and_workers(page: Page, database: Database) -> None:
    names = ("pgreact leader app-1 12 1790000000", "pgreact standby app-2 34 1790000000")
    lock = "select pg_advisory_lock(pgreact.lock_class('leader')::integer, 0)"
    with database.connect(application_name=names[0]) as leader, database.connect(application_name=names[1]):
        leader.execute(lock.encode())
        page.goto("cluster")
        expect(page.get_by_role("row", name="leader leads")).to_contain_text("app-1")
        expect(page.locator(".note-line")).to_contain_text("No standby")
        expect(page.get_by_role("row", name="celery@app-1")).to_be_visible()


def test_doctor_examines_once_the_button_is_pressed(page: Page) -> None:
    page.goto("doctor")
    expect(page.locator(".results")).to_have_count(0)
    page.get_by_role("button", name="Examine").click()
    expect(page.get_by_text("no daemon leads: nothing is dispatched")).to_be_visible()
    expect(page.get_by_role("button", name="Examine again")).to_be_visible()


def test_pages_fit_a_phone_without_scrolling_sideways(web: Web, browser: Browser) -> None:
    with tab(browser, width=360, height=740, base_url=web.url) as opened:
        for path in (*PAGES, "doctor?run=1"):
            opened.page.goto(path or "./")
            wide = opened.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, path


def test_keyboard_reaches_the_content_and_its_actions(page: Page, database: Database) -> None:
    page.goto("lanes")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause default")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".note.done")).to_have_text("paused default")
    page.get_by_role("button", name="Resume default").press("Enter")
    expect(page.locator(".note.done")).to_have_text("resumed default")


def test_pages_and_actions_work_without_javascript(web: Web, browser: Browser, database: Database) -> None:
    with tab(browser, java_script_enabled=False, base_url=web.url) as opened:
        for path, title in PAGES.items():
            opened.page.goto(path or "./")
            expect(opened.page.get_by_role("heading", level=1, name=title)).to_be_visible()
        expect(opened.page.get_by_role("button", name="Theme")).to_be_hidden()
        opened.page.goto("lanes")
        opened.page.get_by_role("button", name="Pause default").click()
        opened.page.get_by_role("button", name="Resume default").click()
        expect(opened.page.locator(".note.done")).to_have_text("resumed default")


def test_theme_follows_the_system_until_the_user_chooses_one(web: Web, browser: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with tab(browser, color_scheme="dark", base_url=web.url) as opened:
        opened.page.goto("lanes")
        dark = opened.page.evaluate(background)
        opened.page.get_by_role("button", name="Light").click()
        light = opened.page.evaluate(background)
        assert dark != light
        opened.page.goto("cluster")
        assert opened.page.evaluate(background) == light


def test_hidden_page_leaves_its_connection_and_catches_up_when_it_is_shown(
    page: Page, database: Database
) -> None:
    listens = (
        "select count(*) = {} from pg_stat_activity "
        "where datname = current_database() and query = 'listen pgreact_live'"
    )
    live(page, "lanes")
    database.until(listens.format(1))
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
    page.evaluate(f"{hide} document.dispatchEvent(new Event('visibilitychange')); }}", True)
    database.until(listens.format(0))
    database.run("update pgreact.lane set weight = 9 where name = 'mail'")
    page.evaluate(f"{hide} document.dispatchEvent(new Event('visibilitychange')); }}", False)
    expect(page.get_by_role("row", name="mail").locator("input[name=weight]")).to_have_value("9")


def test_process_that_served_all_pages_is_small(web: Web, page: Page) -> None:
    for path in ("./", "routes", "lanes", "cluster"):
        page.goto(path)
    eventually(
        lambda: psutil.Process(web.process.pid).memory_info().rss < 90 * 2**20,
        f"RSS is {psutil.Process(web.process.pid).memory_info().rss / 2**20:.0f} MB",
        deadline=1,
    )
