"""Any recipe, any mixture of faults: the promises of a run hold all the same."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Ran, World
from mixtura import MixturaError, Recipe, recipe_names
from mixtura.chat import JsonObject
from mixtura.events import AnswerDelta, AnswerFinished, AnswerRestarted, CallStarted, RunFinished
from mixtura.sim import Reply, SimOptions

KINDS = (
    *("400", "401", "403", "404", "409", "413", "422", "429=0.5", "429=61", "429=420", "429=none", "498", "500"),
    *("502", "503", "context", "decommissioned", "json_validate", "reset", "reset_headers", "silent", "drip"),
    *("stall", "cut=2", "truncated=2", "error_event=1", "flood=9", "slow=20", "empty_choices", "not_json"),
    *("not_completion", "null_content", "empty_text", "only_reasoning", "surrogate", "usage_last"),
)
MODELS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b", "qwen/qwen3.8-27b", "llama-3.1-8b-instant", "gemma2-9b-it")
SECRET = "gsk_test_secret"


def reply(request: JsonObject, call: int) -> Reply:
    """A model that sometimes agrees, sometimes thinks aloud, and always says who it is."""
    answer = 18 if call % 3 else call
    return Reply(text=f"<think>thought {call}</think>From call {call}: the answer is {answer}.", reasoning="hm")


def check(ran: Ran, recipe: Recipe) -> None:
    """What holds whatever went wrong."""
    assert isinstance(ran.error, MixturaError | None)
    finished = [event for event in ran.events if isinstance(event, RunFinished)]
    assert len(finished) == 1
    assert ran.events[-1] is finished[0]
    assert (finished[0].status == "failed") == (ran.error is not None)
    assert ran.cloud.ledger.in_flight == 0
    assert ran.seconds <= recipe.policy.deadline + 0.05
    answer = ran.answer
    started = [event.call for event in ran.events if isinstance(event, CallStarted)]
    assert sorted(started) == list(range(len(started)))
    ended = [done.call for done in (*answer.drafts, *answer.calls)] + [failure.call for failure in answer.failures]
    assert sorted(ended) == sorted(started)
    assert SECRET not in str(ran.events)
    assert "org_" not in str(ran.events)
    if ran.error is None:
        assert answer.text.strip()
        assert "<think>" not in answer.text
        assert "thought" not in answer.text
        pieces = ""
        for event in ran.events:
            if isinstance(event, AnswerDelta):
                pieces += event.text
            elif isinstance(event, AnswerRestarted):
                pieces = ""
            elif isinstance(event, AnswerFinished):
                assert event.text == answer.text
        assert pieces.strip() == answer.text.strip()
    for body in ran.cloud.requests:
        prompt = str(body["messages"])
        assert "thought" not in prompt
        assert "hm" not in prompt.split()
    once = all(done.attempts == 1 for done in (*answer.drafts, *answer.calls))
    if once and ran.cloud.ledger.aborted == 0 and not answer.failures and not answer.usage.estimated:
        assert answer.usage.total_tokens == ran.cloud.ledger.total_tokens


def run(world: World, name: str, faults: str, watched: bool) -> None:
    """Ask a recipe in a cloud with `faults` and check what came of it."""
    sim = SimOptions(unlimited=True, reply=reply, plan="enterprise", faults=faults, profile="fixed:0.2", seed=3)
    ran = world(name, "How many eggs are left?", sim=sim, watched=watched)
    if watched:
        check(ran, Recipe.named(name))
    else:
        assert ran.cloud.ledger.in_flight == 0
        assert (ran.error is None) == bool(ran.answer.text.strip())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_keeps_its_promises_under_every_fault_of_one_model(world: World, name: str) -> None:
    models = {seat.model for layer in Recipe.named(name).layers for seat in layer.seats}
    for place, kind in enumerate(KINDS):
        victim = sorted(models)[place % len(models)]
        run(world, name, f"{kind}:{victim}", watched=place % 4 != 3)


faults = st.lists(
    st.builds(
        lambda kind, model, share, first: (
            f"{kind}{f'@{first}-' if first > 1 else ''}{f':{model}' if model else ''}%{share}"
        ),
        st.sampled_from(KINDS),
        st.sampled_from(("", *MODELS)),
        st.sampled_from((20, 50, 100)),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=4,
).map(",".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(recipe_names()), faults=faults, watched=st.booleans())
def test_every_recipe_keeps_its_promises_under_any_mixture_of_faults(
    world: World, name: str, faults: str, watched: bool
) -> None:
    run(world, name, faults, watched)
