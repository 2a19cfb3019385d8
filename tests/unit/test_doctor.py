"""``pgreact doctor`` without servers: offline checks, how results are shown, checks that fail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pgreact.doctor import examination, examine
from pgreact.doctor.catalogue import page
from pgreact.doctor.checks import CHECKS, Check, Finding, warn
from pgreact.doctor.facts import Facts
from pgreact.doctor.result import Result as Outcome
from pgreact.doctor.result import Verdict
from pgreact.settings import Settings
from tests.command import Result, pgreact, write

ROOT = Path(__file__).parents[2]


def offline(*arguments: str, code: int) -> dict[str, dict[str, Any]]:
    """Run the offline checks; return the results by id."""
    done = pgreact(*arguments, "doctor", "--offline", "--json")
    assert done.code == code, done
    return {result["id"]: result for result in json.loads(done.out)}


def test_offline_checks_pass_with_a_broker_and_nothing_else() -> None:
    found = offline("-b", "redis://localhost/0", code=0)
    assert {key.partition(".")[0] for key in found} == {"settings"}


def test_a_missing_application_is_found_and_the_broker_unknown() -> None:
    found = offline(code=2)
    assert found["settings.application"]["verdict"] == "fail"
    assert found["settings.broker"]["verdict"] == "unknown"


def test_a_broker_inside_the_process_is_found() -> None:
    assert "reaches no worker" in offline("-b", "memory://", code=2)["settings.broker"]["finding"]


def test_a_task_that_the_application_lacks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    write('[routes.a]\ntask = "tests.jobs_app.nop"\n')
    found = offline("-A", "tests.jobs_app", "-b", "redis://localhost/0", code=2)
    assert 'did you mean "tests.jobs_app.noop"' in found["settings.tasks"]["finding"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('[routes.a]\ntask = "t"\ncountdown = "20s"\n', 2, "each call expires (15s) before it may start"),
        ('[routes.a]\ntask = "t"\nsweep = 0\n', 1, "only pgreact.signal() wakes it"),
        (
            "[queue]\nmax_in_progress = 2\n[lanes.a]\nmax_in_progress = 3\n",
            1,
            "3 exceeds that of all lanes, 2",
        ),
        ('dsn = "dbname=a"\nlisten_dsn = "dbname=b"\n', 1, 'leads to database "a", and listen_dsn to "b"'),
    ],
)
def test_settings_that_contradict_each_other_are_found(text: str, code: int, words: str) -> None:
    write(text)
    found = offline("-b", "redis://localhost/0", code=code)["settings.contradictions"]
    assert words in found["finding"]


def test_the_remedy_of_a_contradiction_removes_it() -> None:
    write('[routes.a]\ntask = "t"\ncountdown = "20s"\n')
    found = offline("-b", "redis://localhost/0", code=2)["settings.contradictions"]
    write(f'{found["remedy"]}\ntask = "t"\ncountdown = "20s"\n')
    offline("-b", "redis://localhost/0", code=0)


@pytest.mark.parametrize(
    ("name", "version", "needed"),
    [("celery", "5.0", "celery>=5.5"), ("cronsim", "3.0.1", "cronsim<3,>=2.8")],
)
def test_a_package_that_is_too_old_or_too_new_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, needed: str
) -> None:
    other = tmp_path / f"{name}-{version}.dist-info"
    other.mkdir()
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = offline("-b", "redis://localhost/0", code=2)["settings.packages"]
    assert found["finding"] == f"{name} {version} is installed, and pgreact needs {needed}"
    assert found["remedy"] == f"pip install '{needed}'"


def of(check_id: str, *findings: Finding | Exception) -> Check:
    """Return a check that finds this."""

    def run(_facts: Facts) -> Iterator[Finding]:
        for finding in findings:
            if isinstance(finding, Exception):
                raise finding
            yield finding

    return Check(check_id, f"what {check_id} looks at", run, offline=True, asks_workers=False)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Check]:
    """The checks that there are: none yet."""
    monkeypatch.setattr(examination, "CHECKS", found := dict[str, Check]())
    return found


def test_a_check_that_fails_is_unknown_and_the_others_run(checks: dict[str, Check]) -> None:
    checks["queue.a"] = of("queue.a", warn("found before", ""), ZeroDivisionError("by nothing"))
    checks["queue.b"] = of("queue.b")
    results = examine(Settings(), offline=True)
    assert [(result.id, result.verdict) for result in results] == [
        ("queue.a", Verdict.WARN),
        ("queue.a", Verdict.UNKNOWN),
        ("queue.b", Verdict.OK),
    ]
    assert results[1].finding == "the check failed: ZeroDivisionError: by nothing"


def test_a_check_shows_ten_findings_and_counts_the_others(checks: dict[str, Check]) -> None:
    checks["queue.a"] = of("queue.a", *(warn(f"number {n}", "") for n in range(25)))
    results = examine(Settings(), offline=True)
    assert len(results) == 10
    assert results[-1].finding == "number 9 (and 15 more like it)"


def test_no_check_begins_once_the_time_is_up(
    checks: dict[str, Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "LIMIT", -1.0)
    checks["queue.a"] = of("queue.a")
    assert [result.verdict for result in examine(Settings(), offline=True)] == [Verdict.UNKNOWN]


def test_progress_names_each_check_before_it_runs(checks: dict[str, Check]) -> None:
    checks.update({name: of(name) for name in ("wakeup.b", "queue.a")})
    seen: list[tuple[int, int, str]] = []
    examine(Settings(), progress=lambda *step: seen.append(step))
    assert seen == [(0, 2, "wakeup.b"), (1, 2, "queue.a")]


def shown(*arguments: str) -> Result:
    return pgreact("-b", "redis://localhost/0", "doctor", *arguments)


def test_findings_are_shown_with_remedies_and_the_worst_last(checks: dict[str, Check]) -> None:
    failing = Finding(Verdict.FAIL, "no daemon leads", "pgreact listen\nagain")
    checks["wakeup.a"] = of("wakeup.a", failing)
    checks["queue.b"] = of("queue.b", warn("full", "drain it"))
    checks["queue.c"] = of("queue.c")
    done = shown()
    assert done.code == 2
    assert done.out.splitlines() == [
        "OK       queue.c   what queue.c looks at",
        "WARN     queue.b   full",
        "                   > drain it",
        "FAIL     wakeup.a  no daemon leads",
        "                   > pgreact listen",
        "                     again",
        "",
        "1 ok, 1 warn, 1 fail",
    ]


def test_list_names_checks_and_areas_choose_among_them() -> None:
    every = [line.split()[0] for line in shown("--list").out.splitlines()]
    assert every == [check.id for check in examination.selected(())]
    assert len(every) == len(CHECKS) > 50
    clocks = [line.split()[0] for line in shown("--list", "clock", "queue.dying").out.splitlines()]
    assert clocks == ["clock.frozen", "clock.workers", "clock.daemons", "clock.expires", "queue.dying"]
    assert {row["id"] for row in json.loads(shown("--list", "--json", "--offline").out)} < {*every}


def test_an_unknown_check_is_a_mistake_of_usage() -> None:
    done = shown("--list", "wakeup.trigger")
    assert (done.code, done.err) == (
        2,
        'pgreact: no check "wakeup.trigger"; did you mean "wakeup.triggers"?\n',
    )


@pytest.mark.parametrize("more", [[], ["--list"]])
def test_a_check_that_does_not_run_offline_is_a_mistake_of_usage(more: list[str]) -> None:
    done = shown("--offline", *more, "wakeup")
    assert (done.code, done.err) == (2, "pgreact: none of these checks runs offline: wakeup\n")
    done = shown("--offline", *more, "wakeup.leader", "settings.broker")
    assert (done.code, done.err) == (2, "pgreact: these checks do not run offline: wakeup.leader\n")


def asked(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    monkeypatch.setattr("pgreact.doctor.facts.open_app", lambda *_: app)
    return examine(Settings(), only=["celery.broker"])


def test_remote_control_that_is_off_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.worker_enable_remote_control = False
    [found] = asked(app, monkeypatch)
    assert found.verdict is Verdict.UNKNOWN
    assert "connected, but the application switches remote control off" in found.finding


def test_a_broker_that_refuses_the_reply_queue_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **_options: object) -> None:
        raise ValueError("queue name is too long")

    monkeypatch.setattr("kombu.transport.memory.Channel._new_queue", refuse)
    [found] = asked(Celery(broker="memory://", set_as_current=False), monkeypatch)
    assert found.verdict is Verdict.UNKNOWN
    assert (
        "connected, but this broker cannot carry questions to workers: ValueError: queue name"
        in found.finding
    )


def test_the_page_of_checks_is_current() -> None:
    assert (ROOT / "docs" / "doctor.md").read_text("utf-8") == "\n".join(page()) + "\n"
