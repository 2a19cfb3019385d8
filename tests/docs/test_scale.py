"""The tables of the page on scale are those that the simulation computes, which keeps to its bounds."""

import re

import pytest

from benchmarks import scale
from pgreact.daemon.metrics import FAMILIES
from tests.docs import scale_page


def test_page_has_each_table_once() -> None:
    assert sorted(scale_page.shown()) == sorted(scale.tables())


def test_tables_are_those_of_the_simulation() -> None:
    assert scale_page.page() == scale_page.text(), "run ./run docs --generate: docs/scale.md differs"


def test_simulation_of_one_machine_agrees_with_the_measurement() -> None:
    ratios = {kind: scale.one_machine(kind) / scale.MEASURED[kind].rate for kind in scale.KINDS}
    assert ratios == dict.fromkeys(ratios, pytest.approx(1, abs=scale.TOLERANCE - 1))


def test_no_part_works_more_than_all_the_time() -> None:
    for kind in scale.LOADS:
        for machines in scale.MACHINES:
            most = scale.row(kind, machines).most
            assert all(getattr(most, part) < 1.05 for part in scale.PARTS), (kind, machines, most)


def test_jobs_alone_are_no_faster_than_the_cpu_time_of_their_parts_allows() -> None:
    costs = scale.COSTS
    for machines in scale.MACHINES:
        rate = scale.row("alone", machines).most.rate
        assert rate < 1.05 / (costs.message.daemon + costs.claim_job)
        assert rate < 1.05 * machines / costs.message.main


def test_page_names_metrics_that_exist() -> None:
    exported = {family.exported for family in FAMILIES.values()}
    named = {
        re.sub(r"_(sum|count|bucket)$", "", name) for name in re.findall(r"pgreact_\w+", scale_page.text())
    }
    assert named
    assert named <= exported
