"""Imports between pgreact's modules; the contracts in ``pyproject.toml`` say more."""

import graphlib
import json
import subprocess
import sys

import grimp
import pytest


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("pgreact", exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    "module",
    [
        "pgreact",
        "pgreact.postgres.errors",
        "pgreact.queue.enqueue",
        "pgreact.queue.connections",
        "pgreact.queue.eager",
    ],
)
def test_a_web_process_that_enqueues_loads_no_part_of_the_daemon(module: str) -> None:
    heavy = {"asyncpg", "click", "pydantic", "structlog"}
    loaded = subprocess.run(
        [sys.executable, "-c", f"import json, sys, {module}; print(json.dumps([*sys.modules]))"],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    assert heavy & {*json.loads(loaded)} == set()
