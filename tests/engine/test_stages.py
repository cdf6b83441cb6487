"""How the time until the deadline is shared among the stages to come."""

from collections.abc import Sequence

import pytest

from mixtura import ModelRegistry, Recipe
from mixtura.engine.context import Run
from mixtura.planning.options import RunOptions
from mixtura.virtual import run_virtual


@pytest.mark.parametrize(
    ("expected", "share"),
    [
        ((1.0, 1.0), 0.5),
        ((3.0, 1.0), 0.75),
        ((0.0, 1.0), 0.2),  # half of an even share at least: 0.25 against 1
        ((0.0, 0.0), 0.5),  # calls that took no time that a clock can tell
        ((0.0,), 1.0),
    ],
)
def test_a_stage_gets_the_share_of_time_that_it_is_expected_to_take(expected: Sequence[float], share: float) -> None:
    async def main() -> float:
        options = RunOptions(deadline=100.0)
        run = Run(Recipe.named("classic"), (), ModelRegistry(env={}), lambda event: None, options)
        return run.until(expected) - run.start

    assert run_virtual(main()) == pytest.approx(100.0 * share)
