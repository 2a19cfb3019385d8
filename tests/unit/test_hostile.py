"""The hostile defaults: the sessions of the tests are pinned against them, and the tests named are there."""

from pathlib import Path

import pytest

from tests import hostile

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", hostile.HOSTILE)
def test_a_pinned_session_has_no_hostile_default(name: str) -> None:
    for setting, value in hostile.HOSTILE[name].items():
        assert f"-c {setting}=" in hostile.PINNED
        assert f"{setting}={value} " not in hostile.PINNED + " "


@pytest.mark.parametrize("test", hostile.FEW)
def test_the_files_that_always_run_under_hostile_defaults_exist(test: str) -> None:
    module, name = test.split("::")
    assert f"def {name}(" in (ROOT / module).read_text(encoding="utf-8")


@pytest.mark.parametrize("module", hostile.CORE)
def test_the_files_that_may_run_under_hostile_defaults_exist(module: str) -> None:
    assert (ROOT / module).exists()
