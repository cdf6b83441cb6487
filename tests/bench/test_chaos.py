"""Any recipe, any fault, at any stage: what has to hold of a run holds all the same (see bench/chaos)."""

import random
import re
from typing import get_args

import msgspec
import pytest
from bench.chaos.checks import find_broken
from bench.chaos.recipes import cloud_recipes, recipes, stages
from bench.chaos.scenarios import (
    LARGE,
    STAGES,
    AimedFault,
    ChaosScenario,
    Reach,
    circumstances,
    kinds,
    scenario,
    stage_models,
)
from bench.chaos.world import PlayedScenario, play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixtura import Recipe
from mixtura.sim.faults import BrokenTransferKind, OddReplyKind, RefusalKind

pytestmark = pytest.mark.slow

SEED = 5
PARTS, SIZE = 12, 50


def check(case: ChaosScenario) -> None:
    """Play a scenario; every invariant that broke is told together with the line that repeats it."""
    found = find_broken(play(case))
    assert not found, "\n".join([case.words, *found, f"python -m bench.chaos --one {case.id}", repr(case)])


@pytest.mark.parametrize("part", range(PARTS))
def test_a_sample_of_the_fault_matrix_keeps_every_invariant(part: int) -> None:
    for number in range(part * SIZE, (part + 1) * SIZE):
        check(scenario(SEED, number))


@st.composite
def scenarios(draw: st.DrawFn) -> ChaosScenario:
    """Any one to four faults at any stages of any recipe."""
    name = draw(st.sampled_from(sorted(recipes())))
    recipe = recipes()[name]

    def aim(stage: str, kind: str, reach: Reach) -> AimedFault:
        return AimedFault(
            stage, kind, reach, draw(st.sampled_from(sorted(stage_models(recipe, stage)))) if reach == "one" else ""
        )

    places = st.sampled_from(stages(recipe))
    wrong = st.sampled_from([kind for kind in kinds() if kind.partition("=")[0] not in LARGE])
    aims = draw(st.lists(st.builds(aim, places, wrong, st.sampled_from(get_args(Reach))), min_size=1, max_size=4))
    number = draw(st.integers(0, 2**31))
    return circumstances(random.Random(number), SEED, number, name, tuple(aims), mixed=True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=scenarios())
def test_any_mixture_of_faults_keeps_every_invariant(case: ChaosScenario) -> None:
    check(case)


def test_every_fault_of_the_cloud_meets_every_stage_of_every_recipe() -> None:
    every = {str(kind) for part in (RefusalKind, BrokenTransferKind, OddReplyKind) for kind in get_args(part)}
    wanted = {(name, stage, kind) for name in cloud_recipes() for stage in stages(Recipe.named(name)) for kind in every}
    case = [scenario(1, number) for number in range(10_000)]
    met = {(one.recipe, one.aims[0].stage, one.aims[0].kind) for one in case if not one.mixed}
    assert wanted <= met


@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_befalls_the_stage_it_is_aimed_at_and_no_other(stage: str) -> None:
    befallen = 0
    for name, recipe in recipes().items():
        if stage in stages(recipe):
            quiet = circumstances(random.Random(0), SEED, 0, name, (AimedFault(stage, "400"),), mixed=False)
            case = msgspec.structs.replace(
                quiet, limited=False, deadline=None, profile="fixed:0.3", runs=1, leaves=None, quality=0.4
            )
            played = play(case)
            roles = {failure.role for failure in played.runs[0].answer.failures}
            # Without a draft the aggregator answers alone, to a prompt like a proposer's.
            assert roles <= {stage, "aggregator" if stage == "proposer" else stage}
            befallen += played.cloud.ledger.faults["400"]
    assert befallen


def said(played: PlayedScenario) -> list[str]:
    """The events of a run, less what no seed fixes: the clock on the wall and the cloud's port."""
    return [re.sub(r"(?<=127.0.0.1:)\d+", "", f"{event}") for event in played.runs[0].events[1:]]


def test_a_scenario_is_the_same_each_time_it_is_played() -> None:
    case = scenario(SEED, 7)
    first, again = play(case), play(case)
    assert said(first) == said(again)
    assert first.bill.rows == again.bill.rows
