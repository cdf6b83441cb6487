"""The loops of an agent: one of each kind, quiet and with refusals between."""

import pytest
from bench.agents import BUSY, RECIPES, run_loop

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("faults", ["", BUSY], ids=["quiet", "429"])
def test_an_agent_of_twenty_turns_gets_its_calls_in_order(name: str, faults: str) -> None:
    loop = run_loop(RECIPES[name], 1, faults)
    assert loop.right, loop
    assert bool(loop.refused) == bool(faults)
