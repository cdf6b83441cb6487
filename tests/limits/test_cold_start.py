"""The first second of a key of which nothing is known: a guess slows no larger plan, and a free key refuses nothing."""

import asyncio
import datetime as dt
from statistics import median
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura import MixturaError, Mixture, Recipe
from mixtura.chat import JsonObject
from mixtura.events import AnswerDelta, CallDelta
from mixtura.models.catalog import Catalog
from mixtura.sim import TUTORIAL_ERA, SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

TODAY = Catalog.load().models("groq")[0].checked or dt.date(2026, 11, 21)
ERAS = {"balanced": TODAY, "single": TODAY, "fast": TODAY, "classic": TUTORIAL_ERA}


class Crowd(NamedTuple):
    """What came of many runs that began at once: when each saw its first words, and what the cloud refused."""

    words: list[float]
    answered: int
    refused: int


def reply(request: JsonObject, call: int) -> str:
    """Write differently each time: equal drafts need no aggregator."""
    return f"In reply {call} the sky is blue because light is scattered, most of all that of short waves. " * 8


def crowd(
    recipe: str | Recipe,
    runs: int,
    *,
    plan: str = "free",
    faults: str = "",
    profile: str = "rate:100",
    prompt: str = "",
    deadline: float | None = None,
    seed: int = 0,
) -> Crowd:
    """Ask so many questions at once of a cloud whose plan nobody has named, in virtual time."""

    async def main() -> Crowd:
        options = SimOptions(
            as_of=ERAS[recipe if isinstance(recipe, str) else "balanced"],
            plan="free" if plan == "free" else "developer",
            unlimited=plan == "none",
            faults=faults,
            profile=profile,
            reply=reply,
            seed=seed,
        )
        loop = asyncio.get_running_loop()
        words: list[float] = []
        answered = 0
        async with simulated_cloud(options) as cloud:
            mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_test", "GROQ_BASE_URL": cloud.url})

            async def ask(place: int) -> None:
                nonlocal answered
                spoke = False
                try:
                    async for event in mixture.stream(f"{prompt} Question {place}: why?", deadline=deadline):
                        if isinstance(event, CallDelta | AnswerDelta) and not spoke:
                            spoke = True
                            words.append(loop.time() - begun)
                except MixturaError:
                    return
                answered += 1

            begun = loop.time()
            await asyncio.gather(*(ask(place) for place in range(runs)))
            injected = cloud.ledger.faults["429"]
            return Crowd(sorted(words), answered, cloud.ledger.refused[429] - injected)

    return run_virtual(main())


@pytest.mark.slow
@pytest.mark.parametrize("faults", ["", "slow=1@1", "500@1", "reset@1", "503@1-3", "429=0.5@1"])
@pytest.mark.parametrize(
    ("recipe", "plan"), [("balanced", "none"), ("balanced", "developer"), ("classic", "developer")]
)
def test_a_larger_plan_has_words_within_a_second_of_the_first_reply(recipe: str, plan: str, faults: str) -> None:
    runs = 50
    # At 100 tokens a second these replies take two seconds: the first words must not wait for the last ones.
    found = crowd(recipe, runs, plan=plan, faults=faults)
    assert found.answered == runs
    assert len(found.words) == runs
    assert median(found.words) <= found.words[0] + 1.0
    assert found.refused == 0


def test_a_guess_ends_with_the_head_of_the_first_reply() -> None:
    found = crowd("single", 20, plan="none")
    assert found.words[-1] <= found.words[0] + 0.5
    assert found.answered == 20


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    recipe=st.sampled_from(list(ERAS)),
    runs=st.sampled_from([30, 100, 300]),
    faults=st.sampled_from(["", "slow=1@1", "500@1", "503@1-3", "429@1", "429=2@1", "silent@1", "reset@1", "cut@1"]),
    profile=st.sampled_from(["fixed:0.05", "fixed:1", "rate:100", "lpu"]),
    words=st.sampled_from([1, 200, 2_000]),
    short=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_free_key_refuses_nothing_however_a_crowd_begins(
    recipe: str, runs: int, faults: str, profile: str, words: int, short: bool, seed: int
) -> None:
    # After a broken connection a call whose deadline leaves no time to wait tests the guess, and may be refused.
    deadline = 10.0 if short and not faults.startswith(("reset", "cut")) else None
    prompt = "Think of the sky. " * (words // 4)
    found = crowd(recipe, runs, faults=faults, profile=profile, prompt=prompt, deadline=deadline, seed=seed)
    assert found.refused == 0


@pytest.mark.parametrize("runs", [30, 100])
def test_a_short_deadline_sends_no_crowd_against_a_guess(runs: int) -> None:
    assert crowd("balanced", runs, profile="fixed:1", deadline=5.0).refused == 0
