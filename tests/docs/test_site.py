"""The site is built without a warning, has each page in its navigation, and loads nothing from elsewhere."""

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser import chromium, tab
from tests.docs.pages import DOCS, ROOT, pages


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


def build(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Build the site into a folder."""
    return subprocess.run(
        # not with --quiet, which hides the warnings from --strict
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("link", "warning"),
    [
        ("queue.md#no-such-heading", "does not contain an anchor '#no-such-heading'"),
        ("no-such-page.md", "the target is not found among documentation files"),
        ("../no/such/file.py", "the target is not found among documentation files"),
    ],
)
def test_broken_link_fails_the_build(link: str, warning: str, tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (copy / "index.md").write_text(f"# A\n\n[broken]({link})\n", "utf-8")
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text("utf-8"), "utf-8")
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1
    assert link.partition("#")[0] in done.stderr
    assert warning in done.stderr


def test_each_page_is_in_the_navigation_of_the_site(site: Path) -> None:
    home = (site / "index.html").read_text("utf-8")
    navigation = set(re.findall(r'<a href="(?:\./)?([^"#]+\.html)" class="md-nav__link', home))
    missing = {page.removesuffix(".md") + ".html" for page in pages("**/*.md")} - navigation - {"index.html"}
    assert not missing


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(r'(?:\bsrc=|<link[^>]+href=|url\(|@import )["\']?((?:https?:)?//[^"\')\s]+)')
    found = [
        (str(file.relative_to(site)), url)
        for file in site.rglob("*")
        if file.suffix in {".html", ".css"}
        for url in loads.findall(file.read_text("utf-8"))
    ]
    assert not found


def test_link_that_leaves_the_pages_leads_to_a_page_of_the_file(site: Path) -> None:
    assert "../examples/plain/proj/tasks.py" in (DOCS / "operate.md").read_text("utf-8")
    assert 'href="source/examples/plain/proj/tasks.py.html"' in (site / "operate.html").read_text("utf-8")
    shown = (site / "source/examples/plain/proj/tasks.py.html").read_text("utf-8")
    assert "dispatch_next_available" in shown


def test_search_answers_in_the_browser_without_a_request_to_elsewhere(site: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    origin = f"http://127.0.0.1:{server.server_port}/"
    try:
        with chromium() as browser, tab(browser) as opened:
            requests: list[str] = []
            opened.page.on("request", lambda request: requests.append(request.url))
            opened.page.goto(f"{origin}index.html?q=misfire")
            opened.page.locator(".md-search-result a[href*='timetable.html']").first.wait_for()
        assert {url for url in requests if not url.startswith((origin, "data:", "blob:"))} == set()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
