"""A sandbox: the folder, database and processes in which the blocks of a page are run, as in one terminal."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.docs.blocks import Block
from tests.docs.expected import first_missing
from tests.docs.statements import error_text, execute, read_again

DEADLINE = 90.0  # seconds for all blocks of a page
WAIT = 30.0  # seconds until a block has printed what the page says
ENDED = {
    None,
    0,
    -signal.SIGTERM,
    128 + signal.SIGTERM,
}  # exit statuses of a background command that is no failure

# The database's time to commit, dispatch and run passes between two blocks, as between two commands of a
# reader. A command that only reads is repeated until it prints what the page says.
_READS = re.compile(
    r"(python manage\.py )?pgreact (status|why|doctor|queue (list|show)|schedule (list|show)|apply --check)\b"
    r"|(cat|grep|tail|head|ls|curl) "
)

# A script in a project of Django may use its models, as in "manage.py shell".
_PYTHON = """\
import os, pathlib, re, runpy, sys
sys.path.insert(0, os.getcwd())
if (manage := pathlib.Path("manage.py")).is_file():
    name = re.search("DJANGO_SETTINGS_MODULE., *.([A-Za-z0-9_.]+)", manage.read_text())[1]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", name)
    import django
    django.setup()
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class Failure(AssertionError):
    """A block that did not do what its page says."""


class Sandbox:
    """Runs blocks; the end of the ``with`` block ends their background processes."""

    def __init__(self, page: str, folder: Path, state: Path, dsn: str, broker: str) -> None:
        """Prepare a sandbox; start nothing.

        Args:
            page: The page's path, for messages.
            folder: Where the blocks are run.
            state: An empty folder beside it, for what the terminal keeps.
            dsn: A fresh database.
            broker: The URL of an empty broker.
        """
        self._page, self._folder, self._state, self._dsn = page, folder, state, dsn
        self._end = time.monotonic() + DEADLINE
        self._background: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self._environ = _environ(dsn, broker)
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._roles = _roles(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        for _, process, _ in self._background:
            family: list[psutil.Process] = []
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid).children(recursive=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()
            psutil.wait_procs(family, timeout=5)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for role in _roles(connection) - self._roles:  # roles outlive the database
                connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))

    def run(self, block: Block) -> None:
        """Write or run a block, and compare what it prints.

        Raises:
            Failure: It failed, printed something else, or took too long; names page, line and output.
        """
        try:
            if block.title is not None:
                path = self._folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, "utf-8")
            elif block.language == "sql":
                self._sql(block)
            elif block.language == "sh":
                self._sh(block)
            elif block.language == "python":
                script = self._state / "block.py"
                script.write_text(block.text, "utf-8")
                run = f"{shlex.quote(sys.executable)} -c {shlex.quote(_PYTHON)} {shlex.quote(str(script))}"
                self._expect(block, self._shell(block, run), None)
        except subprocess.TimeoutExpired as error:
            raise self._failure(
                block, f"did not end in {DEADLINE:g} s", (error.output or b"").decode()
            ) from None

    def check_background(self) -> None:
        """Check that no background command failed.

        Raises:
            Failure: One ended with an error.
        """
        for line, process, _ in self._background:
            if process.poll() not in ENDED:
                raise Failure(f"{self._page}: `{line} &` ended with {process.returncode}\n{self._logs()}")

    # ---- sh ----------------------------------------------------------------------------------------------

    def _sh(self, block: Block) -> None:
        printed, log, script = "", None, ""
        for line in [*block.text.replace("\\\n", " ").splitlines(), ""]:
            if line.endswith(" &") or not line:
                if script.strip():
                    printed += self._shell(block, script)
                script = ""
            if line.endswith(" &"):
                log = self._start(line.removesuffix(" &"))
            else:
                script += f"{line}\n"
        if log is not None:
            started = log
            self._expect(block, printed, lambda: printed + started.read_text("utf-8", "replace"))
        elif all(_READS.match(line) for line in block.text.splitlines() if line.strip()):
            self._expect(block, printed, lambda: self._shell(block, block.text))
        else:
            self._expect(block, printed, None)

    def _shell(self, block: Block, script: str) -> str:
        """Run a script in the terminal; return what it printed."""
        reads = all(_READS.match(line) for line in script.splitlines() if line.strip())
        end = min(self._end, time.monotonic() + WAIT)
        while True:
            done = subprocess.run(
                ["sh", "-e", "-c", f"{self._resume()}\n{script}\n{self._keep()}"],
                env=self._environ,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=max(0.1, self._end - time.monotonic()),
                check=False,
            )
            failed = bool(done.returncode) != block.fails
            if not (failed and reads) or time.monotonic() > end:
                break
            time.sleep(0.05)  # between two looks
        printed = done.stdout.decode(errors="replace")
        if failed:
            raise self._failure(block, f"ended with {done.returncode}", printed)
        return printed

    def _start(self, line: str) -> Path:
        """Start a command in the background; return its log."""
        log = self._state / f"background{len(self._background)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"{self._resume()}\n{line}"],
                env=self._environ,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._background.append((line, process, log))
        return log

    def _resume(self) -> str:
        """Return the command that restores directory and variables of the terminal."""
        state = self._state / "terminal"
        return f". {shlex.quote(str(state))}" if state.exists() else ":"

    def _keep(self) -> str:
        state = shlex.quote(str(self._state / "terminal"))
        return f'{{ export -p; printf \'cd "%s"\\n\' "$PWD"; }} > {state}'

    # ---- sql ---------------------------------------------------------------------------------------------

    def _sql(self, block: Block) -> None:
        try:
            printed = execute(self._connection, block.text)
        except psycopg.Error as error:
            refusal = error_text(error)
            if not block.fails and "ERROR:" not in (block.expected or ""):
                raise self._failure(block, "was refused", refusal) from None
            self._expect(block, refusal, None)
            return

        def again() -> str | None:
            found = read_again(self._dsn, block.text, printed)
            return None if found is None else "\n".join(found)

        self._expect(block, "\n".join(printed), again)

    # ---- what it must print ------------------------------------------------------------------------------

    def _expect(self, block: Block, printed: str, again: Callable[[], str | None] | None) -> None:
        end = min(self._end, time.monotonic() + WAIT)
        while missing := first_missing(block.expected or "", printed):
            late = time.monotonic() > end
            following = None if again is None or late else again()
            if following is None:
                raise self._failure(block, f"did not print this line: {missing}", printed)
            printed = following
            time.sleep(0.05)  # between two looks

    def _failure(self, block: Block, what: str, printed: str) -> Failure:
        code = "".join(f"    {line}\n" for line in block.text.splitlines())
        shown = "".join(f"    {line}\n" for line in printed.splitlines()[-60:])
        head = f"{self._page}:{block.line}: the {block.language} block {what}"
        return Failure(f"{head}\n{code}printed:\n{shown}{self._logs()}")

    def _logs(self) -> str:
        parts = []
        for line, _, log in self._background:
            last = log.read_text("utf-8", "replace").splitlines()[-25:]
            parts.append("".join([f"log of {line}:\n", *(f"    {each}\n" for each in last)]))
        return "".join(parts)


def _roles(connection: "psycopg.Connection[tuple[Any, ...]]") -> set[str]:
    return {role for (role,) in connection.execute("select rolname from pg_roles")}


def _environ(dsn: str, broker: str) -> Mapping[str, str]:
    hidden = ("PG", "DJANGO", "CELERY", "PYTEST", "VIRTUAL_ENV")
    parts = conninfo_to_dict(dsn)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts["port"]),
        "PGUSER": str(parts["user"]),
        "PGPASSWORD": str(parts["password"]),
        "PGDATABASE": str(parts["dbname"]),
        "PGREACT_DSN": dsn,
        "BROKER_URL": broker,
        "C_FORCE_ROOT": "1",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # a file may be replaced twice in a second
        "PYTHONUNBUFFERED": "1",
    }
