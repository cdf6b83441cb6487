"""The benchmark of the cold start runs, at sizes that say nothing but that it does."""

import pytest
from bench.limits.table import Table

from bench import cold_start

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", [cold_start.CASES[0], cold_start.CASES[-1]], ids=lambda case: case.name)
def test_both_pipelines_are_timed_cold_and_warm(case: cold_start.Case) -> None:
    found = Table()
    cold_start.add_case(found, case, "classic", runs=3, rounds=1)
    assert [row.verdict for row in found.rows] == ["holds", "", "holds", "", "holds"]
    assert all("warm" in row.shown for row in found.rows[:4])


def test_a_free_plan_is_asked_without_a_refusal() -> None:
    found = Table()
    cold_start.add_free(found, "balanced", 5)
    assert [row.verdict for row in found.rows] == ["holds", ""]
