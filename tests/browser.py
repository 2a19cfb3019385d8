"""Debian's Chromium before the pages: a real server, and a record of what went wrong in the browser."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from tests import servers

ROOT = Path(__file__).parents[1]
DEADLINE = 20.0
_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Web:
    """A ``pgreact web`` process."""

    def __init__(self, dsn: str, *options: str, cwd: Path, environ: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgreact", "--dsn", dsn, "web", "--bind", "127.0.0.1:0", *options],
            env={**os.environ, "PGREACT_LOG_FORMAT": "json", **(environ or {})},
            cwd=cwd,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._found: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="web", daemon=True)
        self._reader.start()
        self.url = self._found.get(timeout=DEADLINE)
        assert self.url, "\n".join(self.lines)
        self.origin = self.url[: -len(urlsplit(self.url).path)]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["event"] == "web.started":
                    self._found.put(event["address"])
        self._found.put("")

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self._reader.join()
            if self.process.stderr:
                self.process.stderr.close()


@contextlib.contextmanager
def serving(dsn: str, *options: str, cwd: Path, **environ: str) -> Iterator[Web]:
    """Run ``pgreact web``; it must stop in order, and log no error."""
    web = Web(dsn, *options, cwd=cwd, environ=environ)
    try:
        yield web
    finally:
        code = web.stop()
    assert code == 0, web.lines
    assert not [line for line in web.lines if "Traceback" in line or '"error"' in line], web.lines


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser, for all tests of a module."""
    servers.require_or_skip("browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=servers.program("chromium"), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of the browser, with all that went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", lambda message: self._note(message.type == "error", message.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        # a browser aborts what a page that it leaves still loads
        page.on(
            "requestfailed",
            lambda request: self._note(
                request.failure != "net::ERR_ABORTED", f"{request.failure} {request.url}"
            ),
        )
        page.on("response", lambda answer: self._note(answer.status >= 400, f"{answer.status} {answer.url}"))

    def _note(self, wrong: bool, text: str) -> None:
        if wrong:
            self.faults.append(text)


@contextlib.contextmanager
def tab(
    browser: Browser, *, width: int = 1280, height: int = 800, faults: bool = False, **options: object
) -> Iterator[Tab]:
    """Open a page in a context of its own; nothing may go wrong in it.

    Args:
        browser: The browser.
        width: Of the window.
        height: Of the window.
        faults: Something goes wrong on purpose.
        options: Of the context: ``http_credentials``, ``java_script_enabled``, ``color_scheme`` and so on.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
    context.set_default_timeout(DEADLINE * 1000)
    opened = Tab(context.new_page())
    try:
        yield opened
        if not faults:
            assert opened.faults == [], opened.faults
    finally:
        context.close()
