"""Who may see and do what in the pages: logins, roles, forms of other sites, the database's own rights."""

import contextlib
import html
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.web.app import create_app
from pgreact.web.auth import HeaderAuthentication
from pgreact.web.database import Database as Sessions
from pgreact.web.database import Refused
from pgreact.web.pages import PAGES
from pgreact.web.user import User
from tests.browser import Web, serving
from tests.command import pgreact
from tests.harness import Database, fresh_database, install

FORM = {"lane": "default", "route": "r"}
ACTIONS = [
    f"{page.route.rstrip('/')}/{name}" for page in PAGES for name in page.actions if "{" not in page.route
]
SEEN = [page.route for page in PAGES if page.listed]


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Database]:
    with fresh_database(postgres) as found:
        install(found, {"routes": {"r": {"task": "t", "tables": []}}})
        yield found


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two users, as the command writes it."""
    file = tmp_path_factory.mktemp("users") / "users"
    lines = ["# operators and monitors", ""]
    for name, role in (("ann", "operator"), ("bob", "monitor")):
        done = pgreact("web", "passwd", name, "--role", role, "--password", f"secret of {name}: ä")
        assert done.code == 0
        lines.append(done.out)
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def web(database: Database, users: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Pages with logins, below a prefix."""
    options = ("--auth", f"basic:{users}", "--prefix", "/ops/pgreact")
    with serving(database.dsn, *options, cwd=tmp_path_factory.mktemp("web")) as found:
        yield found


def client(web: Web, user: str | None = None, **headers: str) -> httpx.Client:
    """A user's client, as a browser on the same origin."""
    return httpx.Client(
        base_url=web.url,
        auth=(user, f"secret of {user}: ä".encode()) if user else None,  # type: ignore[arg-type]
        headers={"Origin": web.origin, "Sec-Fetch-Site": "same-origin", **headers},
    )


@contextlib.asynccontextmanager
async def inside(app: Starlette, outer: Starlette | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's client of the pages in this process, or of an application that mounts them."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(outer or app),
            base_url="http://pages",
            headers={"Sec-Fetch-Site": "same-origin"},
            follow_redirects=True,
        ) as client,
    ):
        yield client


def token(page: httpx.Response) -> dict[str, str]:
    """Return the token of a page as the field of a form."""
    found = re.search('name="csrf" value="([^"]+)"', page.text)
    assert found
    return {"csrf": found[1]}


def paused(database: Database) -> Any:
    return database.value("select paused from pgreact.lane where name = 'default'")


def test_pages_ask_for_a_login_and_refuse_a_wrong_one(web: Web) -> None:
    for auth in (None, ("ann", "wrong"), ("nobody", "secret of ann: ä"), ("ann", ""), ("", "")):
        answer = httpx.get(f"{web.url}lanes", auth=auth)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert "Lanes" not in answer.text
    for header in ("Basic", "Basic !", "Basic YW5u", "Bearer YW5uOmE=", "basic 4oKs"):
        assert httpx.get(f"{web.url}lanes", headers={"Authorization": header}).status_code == 401
    for path in ("static/style.css", "live"):
        assert httpx.get(web.url + path).status_code == 401


def test_monitor_sees_every_page_without_actions_and_may_not_act(web: Web, database: Database) -> None:
    with client(web, "bob") as pages:
        for path in SEEN:
            answer = pages.get(path.lstrip("/"))
            assert answer.status_code == 200
            assert 'method="post"' not in answer.text, path
        assert pages.get("lanes").text.count("bob") == 1
        for path in ACTIONS:
            answer = pages.post(path.lstrip("/"), data=FORM)
            assert answer.status_code == 403, path
            assert "bob has the role monitor" in answer.text
    assert paused(database) is False


def test_operator_acts_under_the_users_own_name(web: Web, database: Database) -> None:
    with client(web, "ann") as pages:
        answer = pages.post("lanes/pause", data={**FORM, **token(pages.get("lanes")), "back": "?x=1"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/ops/pgreact/lanes?x=1")
        assert "paused default" in pages.get("lanes").text
        assert "paused default" not in pages.get("lanes").text, "a note is shown once"
        pages.post("lanes/resume", data={**FORM, **token(pages.get("lanes"))})
    assert database.value("select actor from pgreact.event_log where event = 'lane.paused'") == "ann"
    assert paused(database) is False


def test_form_of_another_site_or_without_the_token_does_nothing(web: Web, database: Database) -> None:
    other = "http://evil.example"
    refused: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"Sec-Fetch-Site": "cross-site"}, {}),
        ({"Sec-Fetch-Site": "same-site"}, {}),
        ({"Sec-Fetch-Site": "none"}, {}),
        ({"Sec-Fetch-Site": "", "Origin": other}, {}),
        ({}, {"csrf": "A" * 43}),
        ({}, {"csrf": ""}),
    ]
    with client(web, "ann") as pages:
        good = {**FORM, **token(pages.get("lanes"))}
        for headers, fields in refused:
            answer = pages.post("lanes/pause", data={**good, **fields}, headers=headers)
            assert answer.status_code == 403, (headers, fields)
        assert pages.post("lanes/pause", data=FORM).status_code == 403
        del pages.headers["Sec-Fetch-Site"]
        assert pages.post("lanes/pause", data=good, headers={"Origin": other}).status_code == 403
        assert pages.post("lanes/pause", data=good, headers={"Origin": "null"}).status_code == 403
        del pages.headers["Origin"]
        assert "the request names no origin" in pages.post("lanes/pause", data=good).text
        pages.headers["Origin"] = web.origin
        pages.cookies.clear()
        assert pages.post("lanes/pause", data=good).status_code == 403
        assert pages.get("lanes/pause").status_code == 405
        assert paused(database) is False
        # an old browser sends no Sec-Fetch-Site, but Origin
        assert pages.post("lanes/pause", data={**FORM, **token(pages.get("lanes"))}).status_code == 303
        assert paused(database) is True
        pages.post("lanes/resume", data={**FORM, **token(pages.get("lanes"))})


def test_responses_restrict_the_browser_and_are_not_stored(web: Web) -> None:
    with client(web, "ann") as pages:
        for path in (*SEEN, "static/style.css", "/ops/pgreact/none"):
            answer = pages.get(path.lstrip("/") if path in SEEN else path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cache-control"] == ("no-cache" if "static" in path else "no-store")
            if path in SEEN:
                assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|javascript:", answer.text), (
                    path
                )
                links = re.findall(r'(?:href|src|action|hx-get|data-live)="([^"]*)"', answer.text)
                assert all(link.startswith(("/ops/pgreact/", "#", "?")) for link in links), links
        cookie = next(
            line
            for line in httpx.get(
                f"{web.url}lanes",
                auth=("ann", "secret of ann: ä".encode()),  # type: ignore[arg-type]
            ).headers.get_list("set-cookie")
        )
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert "path=/ops/pgreact/" in cookie.lower()


def test_pages_without_logins_answer_to_this_machines_names_only(database: Database, tmp_path: Path) -> None:
    with serving(database.dsn, cwd=tmp_path) as web:
        port = web.url.rsplit(":", 1)[1].rstrip("/")
        for host, status in {
            f"127.0.0.1:{port}": 200, f"localhost:{port}": 200, "[::1]": 200, "evil.example": 421,
            f"evil.example:{port}": 421, "127.0.0.1.evil.example": 421, "": 421,
        }.items():  # fmt: skip
            answer = httpx.get(f"{web.url}lanes", headers={"Host": host})
            assert answer.status_code == status, host
        for path in ("lanes/pause", "bulk/retry", "schedule/edit"):
            large = httpx.post(f"{web.url}{path}", content=b"a=" + b"x" * 2**21, headers={
                "Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site",
            })  # fmt: skip
            assert large.status_code == 413, path
        for path, headers in {
            "lanes": {"Cookie": "pgreact_note=1"}, "jobs?before=\u00b2": {}, "jobs?id=\u00b2": {},
        }.items():  # fmt: skip
            assert httpx.get(f"{web.url}{path}", headers=headers).status_code == 200, path
        foreign = httpx.get(f"{web.url}doctor?run=1", headers={"Sec-Fetch-Site": "cross-site"})
        assert "connection.reachable" not in foreign.text, "another site lets the doctor run"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bind", "0.0.0.0:0"), "lets other machines act without a login: give --auth basic:FILE"),
        (("--bind", "[::]:0"), "without a login"),
        (("--bind", "8080"), "is not an address: write HOST:PORT"),
        (("--bind", "127.0.0.1:99999"), "is not an address"),
        (("--auth", "ldap:x"), 'auth "ldap:x" is not known: write basic:FILE'),
        (("--auth", "basic:none"), "none: .*No such file"),
        (("--auth", "basic:empty"), "empty has no user"),
        (("--auth", "basic:wrong"), 'the line of "ann" is not NAME:HASH:ROLE'),
        (("--prefix", "pgreact"), "--prefix: web.prefix"),
    ],
)  # fmt: skip
def test_unsafe_or_unreadable_option_is_refused_with_the_remedy(
    options: tuple[str, ...], message: str
) -> None:
    Path("empty").write_text("# none\n")
    Path("wrong").write_text("ann:secret:operator\n")
    done = pgreact("web", *options)
    assert done.code == 2
    assert re.search(message, done.err), done.err


def test_absent_extra_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pgreact.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = pgreact("web")
    assert (done.code, done.err) == (2, 'pgreact: uvicorn is missing: pip install "pgreact[web]"\n')


def test_port_that_is_in_use_is_a_failure_and_not_a_mistake(web: Web) -> None:
    port = web.origin.rsplit(":", 1)[1]
    done = pgreact("web", "--bind", f"127.0.0.1:{port}")
    assert done.code == 1
    assert "Address already in use" in done.err


def _from(address: str | None, *headers: tuple[str, str]) -> HTTPConnection:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw, "client": (address, 1) if address else None})


def test_header_counts_from_a_proxy_alone_and_only_once() -> None:
    plain = HeaderAuthentication("X-User", None, ("10.1.0.0/16", "::1"))
    ann = ("X-User", "ann")
    assert plain(_from("10.1.2.3", ann)) == User("ann", "operator")
    assert plain(_from("::1", ann)) == User("ann", "operator")
    for stranger in ("10.2.0.1", "127.0.0.1", "", "unix", None):
        assert plain(_from(stranger, ann)) is None
    assert plain(_from("10.1.2.3", ann, ("X-User", "eve"))) is None
    assert plain(_from("10.1.2.3", ("X-User", ""))) is None
    assert plain(_from("10.1.2.3")) is None
    roles = HeaderAuthentication("X-User", "X-Role", ("10.1.0.0/16",))
    assert roles(_from("10.1.2.3", ann, ("X-Role", "operator"))) == User("ann", "operator")
    for other in ([], [("X-Role", "admin")], [("X-Role", "operator"), ("X-Role", "operator")]):
        assert roles(_from("10.1.2.3", ann, *other)) == User("ann", "monitor")


def test_header_of_the_proxy_logs_in_through_the_command(database: Database, tmp_path: Path) -> None:
    with serving(database.dsn, "--auth", "header:X-User:X-Role", cwd=tmp_path) as web:
        assert httpx.get(f"{web.url}lanes").status_code == 403
        seen = httpx.get(f"{web.url}lanes", headers={"X-User": "ann", "X-Role": "operator"})
        assert 'aria-label="Pause default"' in seen.text


async def test_application_mounts_the_pages_with_its_own_users(database: Database) -> None:
    def eve(connection: HTTPConnection) -> User | None:
        return User("eve", "operator") if "x-in" in connection.headers else None

    app = create_app(database.dsn, auth=eve)
    async with inside(app, Starlette(routes=[Mount("/a/b", app)])) as pages:
        assert (await pages.get("/a/b/lanes")).status_code == 403
        pages.headers["x-in"] = "1"
        fields = {**FORM, **token(await pages.get("/a/b/lanes"))}
        answer = await pages.post("/a/b/lanes/pause", data=fields)
        assert answer.status_code == 200
        assert "paused default" in answer.text
        await pages.post("/a/b/lanes/resume", data=fields)
    assert database.value("select actor from pgreact.event_log order by id desc limit 1") == "eve"


async def test_role_without_rights_reads_every_page_and_its_actions_fail_plainly(database: Database) -> None:
    database.run(
        f"create role web_monitor {database.login}", "select pgreact.grant_role('web_monitor', 'monitor')"
    )
    try:
        dsn = make_conninfo(database.dsn, user="web_monitor")
        app = create_app(dsn, auth=lambda _connection: User("ann", "operator"))
        async with inside(app) as pages:
            for path in SEEN:
                answer = await pages.get(path)
                assert answer.status_code == 200
                assert "permission denied" not in answer.text, path
            answer = await pages.post("/lanes/pause", data={**FORM, **token(await pages.get("/lanes"))})
            assert "permission denied for table lane" in answer.text
    finally:
        database.run("drop owned by web_monitor", "drop role web_monitor")


async def test_page_names_the_grant_that_a_role_without_rights_lacks(database: Database) -> None:
    database.run(f'create role "web-nobody" {database.login}')
    try:
        app = create_app(
            make_conninfo(database.dsn, user="web-nobody"), auth=lambda _connection: User("ann", "operator")
        )
        async with inside(app) as pages:
            for path in ("/", "/jobs", "/lanes"):
                text = html.unescape((await pages.get(path)).text)
                assert "permission denied for schema pgreact" in text, path
                assert text.count("""select pgreact.grant_role('"web-nobody"', 'monitor')""") == 1, path
                assert "Narrow it" not in text
    finally:
        database.run('drop role "web-nobody"')


def test_reading_transaction_cannot_write(database: Database) -> None:
    sessions = Sessions(database.dsn)
    with pytest.raises(Refused, match="read-only transaction"), sessions.reading() as connection:
        connection.execute("update pgreact.lane set paused = true")
    with sessions.acting("ann") as connection:
        connection.execute("update pgreact.lane set paused = true where name = 'default'")
    with sessions.reading() as connection:
        connection.execute("select 1")
    sessions.close()
    database.run("update pgreact.lane set paused = false")


async def test_operator_role_may_do_all_that_the_pages_offer(database: Database) -> None:
    database.run(
        f"create role web_operator {database.login}", "select pgreact.grant_role('web_operator', 'operator')"
    )
    try:
        app = create_app(
            make_conninfo(database.dsn, user="web_operator"), auth=lambda _connection: User("ann", "operator")
        )
        limits = {
            "max_in_progress": "5",
            "max_unstarted": "50",
            "weight": "2",
            "rate": "none",
            "burst": "1",
            "bundle": "20",
        }
        async with inside(app) as pages:
            for path in ("/lanes/pause", "/lanes/resume", "/lanes/limit", "/routes/signal"):
                answer = await pages.post(path, data={**FORM, **limits, **token(await pages.get("/lanes"))})
                assert 'class="note done"' in answer.text, answer.text
    finally:
        database.run("drop owned by web_operator", "drop role web_operator")


async def test_job_whose_arguments_are_too_large_has_a_page_without_them(database: Database) -> None:
    job = database.value(
        "insert into pgreact.queue (task, args) values ('t', jsonb_build_array((select "
        "string_agg(md5(n::text), '') from generate_series(1, 50000) n))) returning id"
    )
    app = create_app(database.dsn, auth=lambda _connection: User("ann", "operator"))
    async with inside(app) as pages:
        answer = await pages.get(f"/jobs/{job}")
    assert answer.status_code == 200
    assert "Not shown: too large, or the job has just ended." in answer.text


async def test_part_that_takes_too_long_says_so_and_the_others_show(database: Database) -> None:
    app = create_app(database.dsn, auth=lambda _connection: User("ann", "monitor"))
    with database.connect(autocommit=False) as blocker:
        blocker.execute("lock table pgreact.event_log in access exclusive mode")
        async with inside(app) as pages:
            answer = await pages.get("/cluster")
    assert answer.status_code == 200
    assert answer.text.count("took longer than 2 s") == 2, "versions and events"
    assert "No worker runs a job." in answer.text


async def test_pages_say_that_the_database_is_away_and_come_back(own_postgres: EmbeddedPostgres) -> None:
    with fresh_database(own_postgres) as own:
        install(own, {})
        app = create_app(own.dsn, auth=lambda _connection: User("ann", "operator"))
        async with inside(app) as pages:
            fields = {**FORM, **token(await pages.get("/lanes"))}
            with psycopg.connect(own_postgres.dsn(), autocommit=True) as admin:
                admin.execute(
                    f"alter database {own.value('select current_database()')} allow_connections false"
                )
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname like 't_%'"
                )
                answer = await pages.get("/lanes")
                assert answer.status_code == 503
                assert "The database is away" in answer.text
                assert 'data-live="/live' in answer.text, "it comes back by itself"
                assert (
                    "is not currently accepting connections"
                    in (await pages.post("/lanes/pause", data=fields)).text
                )
                admin.execute(f"alter database {own.dsn.rsplit('/', 1)[1]} allow_connections true")
            assert (await pages.get("/lanes")).status_code == 200
