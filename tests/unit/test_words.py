"""Retired names and unclear prose stay out: the glossary in CONTRIBUTING.md says which words to use.

A failing test names file, line, the word found and its replacement. A name matches as a whole word, in any
case, and as part of snake_case and CamelCase: ``lookout`` matches ``_lookout`` and ``LookoutError``, not
``lookouts``. A name with a dot matches a whole attribute.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (
    *("pgreact", "sql", "docs", "tests", "benchmarks", "examples", "deploy", "run", ".ci"),
    *("README.md", "CONTRIBUTING.md", "docker-compose.yml"),
)

RETIRED = {
    "airborne": "in_flight",
    "blueprint": "plan, or postgres/migrations",
    "door": "WorkerDatabase",
    "draft": "PreparedMessage",
    "drafts": "PreparedMessage",
    "heights": "sequence_values",
    "keeper": "lease_renewer",
    "let_next": "unblock_next",
    "lookout": "run_monitor",
    "owed": "pending",
    "patience": "timeout",
    "scribe": "status_writer",
    "sever": "abort",
    "severed": "aborted",
    "stirred": "activity",
    "tend_history": "maintain_history",
    "uncarried": "Skipped",
    "went_on": "resume_from",
    "wire": "BrokerConnection",
    # ordinary words, which are retired as the name of one thing only
    ".deaths": "lease_renewer",
    ".judge": "comparison",
    ".turn": "virtual_time of a lane, revision of a schedule",
    "'behind'": "'blocked'",
    "`behind`": "`blocked`",
    "pgreact.give_up": "pgreact.abandon",
    "pgreact.hold": "pgreact.snooze",
    "pgreact.look": "pgreact.poll_gates",
    "pgreact.moment": "pgreact.clock_now",
    "pgreact.remember": "pgreact.record_history",
    "queue.keep": "queue.retention",
    "queue__keep": "QUEUE__RETENTION",
}  # fmt: skip

# Patterns and their remedies. `PROSE` holds for whole texts, `OPENINGS` for docstrings and `help=`.
PROSE = {r"whoever|whomever|somebody": "name the actor: the claim, the worker, the leader, a session"}
OPENINGS = {r"It|Its|Those|What|Who|Whoever|Somebody|Nobody": "open with the noun or with the verb"}


def _pattern(name: str) -> str:
    before, after = ("" if name[0] == "." else "(?<![a-z0-9])"), "_" if "." in name else ""
    return f"{before}{re.escape(name)}(?![a-z0-9{after}])"


NAMES = {name: re.compile(_pattern(name)) for name in RETIRED}
ANY_NAME = re.compile("|".join(map(_pattern, RETIRED)))


def retired(path: str, text: str) -> Iterator[str]:
    """Yield a report of each retired name in a file's path and text."""
    for number, line in enumerate([path, *text.splitlines()]):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", line).lower()
        if ANY_NAME.search(words):
            for name, pattern in NAMES.items():
                if pattern.search(words):
                    yield f"{path}:{number or 1}: {name} -> {RETIRED[name]}"


def unclear(path: str, text: str) -> Iterator[str]:
    """Yield a report of each pattern of ``PROSE`` in a file's text."""
    for pattern, remedy in PROSE.items():
        for number, line in enumerate(text.splitlines(), 1):
            for found in re.findall(rf"(?i)\b(?:{pattern})\b", line):
                yield f"{path}:{number}: {found}: {remedy}"


def openings(path: str, text: str) -> Iterator[str]:
    """Yield a report of each docstring and help text of a Python file that opens as ``OPENINGS`` forbids."""
    for node in ast.walk(ast.parse(text)):
        prose: list[str | None] = []
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            prose.append(ast.get_docstring(node))
        elif isinstance(node, ast.Call):
            prose += [
                key.value.value
                for key in node.keywords
                if key.arg == "help" and isinstance(key.value, ast.Constant)
            ]
        for sentence in filter(None, prose):
            for pattern, remedy in OPENINGS.items():
                if found := re.match(rf"(?:{pattern})\b", sentence):
                    line = getattr(node, "lineno", 1)
                    yield f"{path}:{line}: {found[0]} ...: {remedy}"


TEXTS = {".md", ".py", ".service", ".sh", ".sql", ".toml", ".yaml", ".yml", ""}


def files() -> Iterator[tuple[str, str]]:
    """Yield path and text of each file that the rules hold for."""
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*")) if (ROOT / place).is_dir() else [ROOT / place]:
            if path.suffix in TEXTS and path.is_file() and path.name != Path(__file__).name:
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def test_retired_names_are_gone() -> None:
    reports = [report for path, text in files() for report in retired(path, text)]
    assert not reports, "\n".join(["", *reports])


def test_prose_names_its_actors() -> None:
    texts = [(path, text) for path, text in files() if not path.startswith("tests/")]
    reports = [report for path, text in texts for report in unclear(path, text)]
    assert not reports, "\n".join(["", *reports])


def test_docstrings_and_help_texts_open_with_their_subject() -> None:
    modules = [(path, text) for path, text in files() if path.startswith("pgreact/") and path.endswith(".py")]
    reports = [report for path, text in modules for report in openings(path, text)]
    assert not reports, "\n".join(["", *reports])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("self._lookout = None", "lookout"),
        ("class LookoutError:", "lookout"),
        ("perform pgreact.let_next(key);", "let_next"),
        ("await tend_history()", "tend_history"),
        ("class Uncarried:", "uncarried"),
        ("the keeper renews the leases", "keeper"),
        ("def test_the_scribe_writes(): ...", "scribe"),
        ("from pgreact.worker.deaths import repeat", ".deaths"),
        ("select pgreact.hold(1)", "pgreact.hold"),
        ("where s.turn = d.turn", ".turn"),
        ("update pgreact.queue set state = 'behind'", "'behind'"),
        ("PGREACT_QUEUE__KEEP=7d", "queue__keep"),
    ],
)
def test_retired_name_is_reported_with_line_and_replacement(text: str, name: str) -> None:
    reports = list(retired("pgreact/sample.py", f"\n{text}\n"))
    assert f"pgreact/sample.py:2: {name} -> {RETIRED[name]}" in reports


def test_retired_name_is_reported_of_a_path() -> None:
    assert list(retired("pgreact/dispatch/lookout.py", "")) == [
        "pgreact/dispatch/lookout.py:1: lookout -> run_monitor"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "gatekeeper = Gatekeeper()",
        "several workers",
        "the outdoor timekeeper",
        "two deaths of a worker",
        "it is their turn, and the others stand behind",
        "pgreact.look_up, pgreact.holders(1), pgreact.moments",
        "give_up_if_refused",
    ],
)
def test_ordinary_word_is_no_retired_name(text: str) -> None:
    assert not list(retired("pgreact/sample.py", text))


def test_prose_without_an_actor_is_reported() -> None:
    reports = list(unclear("sql/sample.sql", "select 1;\n-- Whoever is claimed waits.\n"))
    assert reports == [f"sql/sample.sql:2: Whoever: {next(iter(PROSE.values()))}"]


def test_opening_without_a_subject_is_reported() -> None:
    text = '''"""The module."""
class Sample:
    """It waits."""
    async def run(self):
        """Those with names."""
click.option("--keep", help="What is kept.")
click.option("--items", help="Items.")
'''
    assert {report.partition(" ...")[0] for report in openings("pgreact/sample.py", text)} == {
        "pgreact/sample.py:2: It",
        "pgreact/sample.py:4: Those",
        "pgreact/sample.py:6: What",
    }
