"""What a run may cost at most holds whatever fails, is slow or is asked for: what could pass it is not sent."""

import contextlib
from typing import Any

import msgspec
import pytest

from asking import GEMMA, LLAMA, SEVENTY
from mixtura import Aggregator, Answer, ChatOptions, Fallback, Layer, Mixture, Policy, Proposer, Recipe, Usage
from mixtura.engine.allowance import Allowance, CallTab
from mixtura.errors import InputError, MixturaError
from mixtura.limits.budget.stores import SqliteBudget
from mixtura.models.registry import ModelRegistry
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

KEY = "gsk_x"
ALONE = Recipe(layers=(Layer(proposers=(Proposer(model=SEVENTY, max_tokens=400),)),))

LONG = " ".join(f"word{number}" for number in range(3000))


def billed(cloud: SimulatedCloud) -> float:
    """What the cloud bills, in dollars."""
    models, ledger, total = ModelRegistry(env={"GROQ_API_KEY": KEY}), cloud.ledger, 0.0
    for model, prompt in ledger.prompt_tokens.items():
        price = models.card("groq", model).price
        assert price is not None
        usage = Usage(
            prompt_tokens=prompt,
            cached_tokens=ledger.cached_tokens[model],
            completion_tokens=ledger.completion_tokens[model],
        )
        total += price.cost(usage)
    return total


def ask(
    recipe: Recipe | str, faults: str = "", *, most: float | None, **asked: Any
) -> tuple[Answer, MixturaError | None, SimulatedCloud]:
    """Ask once for at most so many times the forecast; every reply is as long as its limit allows."""

    async def main() -> tuple[Answer, MixturaError | None, SimulatedCloud]:
        sim = SimOptions(unlimited=True, faults=faults, reply=lambda request, call: LONG, profile="rate:300")
        async with simulated_cloud(sim) as cloud:
            mixture = Mixture(recipe, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url})
            cost = mixture.forecast("Why?").cost
            assert cost is not None
            error: MixturaError | None = None
            try:
                answer = await mixture.ask("Why?", max_cost=None if most is None else most * cost, **asked)
            except MixturaError as problem:
                answer, error = problem.answer or Answer(text=""), problem
            await cloud.ledger.wait_idle()
            if most is not None:
                assert billed(cloud) <= most * cost
                assert (answer.cost or 0.0) <= most * cost
            return answer, error, cloud

    return run_virtual(main())


@pytest.mark.parametrize(("most", "calls"), [(1.0, 1), (1.9, 1), (2.1, 2), (3.1, 3), (None, 4)])
@pytest.mark.parametrize(
    ("watch", "fault", "tries"),
    [("nothing", "truncated@1-3", 4), ("nothing", "empty_choices@1", 2), ("calls", "empty_choices@1", 2)],
)
def test_replies_that_are_billed_and_broken_are_asked_again_as_long_as_there_is_money(
    most: float | None, calls: int, watch: Any, fault: str, tries: int
) -> None:
    answer, error, cloud = ask(ALONE, fault, most=most, watch=watch)
    assert cloud.ledger.arrived == min(calls, tries)
    assert (error is None) == (calls >= tries)
    said = [warning for warning in answer.warnings if "was not asked again" in warning]
    assert len(said) == (calls < tries)
    if error is not None:
        assert "not asked again, since that could bring the run past the $" in error.message


def test_refusals_that_cost_nothing_are_tried_again_whatever_the_run_may_cost() -> None:
    answer, error, cloud = ask(ALONE, "503@1-2", most=1.0)
    assert error is None
    assert cloud.ledger.arrived == 3
    assert answer.warnings == ["the answer is cut off at its output limit"]


@pytest.mark.parametrize(("most", "calls"), [(1.0, 1), (2.1, 2)])
def test_a_fallback_is_asked_after_a_billed_failure_only_where_there_is_money_for_it(most: float, calls: int) -> None:
    slot = Proposer(model=SEVENTY, max_tokens=400, fallbacks=(Fallback(model=LLAMA),))
    recipe = Recipe(layers=(Layer(proposers=(slot,)),))
    _, error, cloud = ask(recipe, f"empty_choices:{SEVENTY}", most=most)
    asked = [body["model"] for body in cloud.requests]
    assert asked[0] == SEVENTY
    # What is left at 2.1 pays one more attempt of the dear model, and then the cheap one.
    assert (asked[-1] == LLAMA) == (error is None) == (most > 2)
    assert len(asked) >= calls


@pytest.mark.parametrize(("most", "hedged"), [(1.0, False), (2.0, True), (None, True)])
def test_a_second_try_is_paid_before_it_is_made(most: float | None, hedged: bool) -> None:
    recipe = msgspec.structs.replace(ALONE, policy=Policy(deadline=60.0, hedge=True, hedge_after=1.0))
    answer, error, cloud = ask(recipe, "silent@1", most=most)
    assert ("hedged" in [said.kind for said in answer.decisions]) == hedged
    assert len(cloud.requests) == 1 + hedged
    assert (error is None) == hedged
    refused = [said for said in answer.decisions if "was not asked a second time" in said.reason]
    assert len(refused) == (not hedged)


def test_a_call_that_falls_silent_again_and_again_is_tried_twice() -> None:
    recipe = msgspec.structs.replace(ALONE, policy=Policy(deadline=60.0, hedge=True, hedge_after=40.0, first_token=1.0))
    _, error, cloud = ask(recipe, "silent", most=None)
    assert error is not None
    assert len(cloud.requests) == 2


def test_what_finished_calls_left_over_pays_for_the_attempts_of_others() -> None:
    first, second = Proposer(model=SEVENTY, max_tokens=900), Proposer(model=GEMMA, max_tokens=100)
    layers = (Layer(proposers=(first,)), Layer(proposers=(second,)))
    recipe = Recipe(layers=layers, aggregator=Aggregator(kind="vote"), policy=Policy(deadline=90.0))

    async def main() -> list[str]:
        sim = SimOptions(unlimited=True, faults=f"empty_choices@1:{GEMMA}", tokens=50)
        async with simulated_cloud(sim) as cloud:
            mixture = Mixture(recipe, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url})
            await mixture.ask("Why?", max_cost=mixture.forecast("Why?").cost)
            return [body["model"] for body in cloud.requests]

    assert run_virtual(main()) == [SEVENTY, GEMMA, GEMMA]


@pytest.mark.parametrize("kind", ["empty_choices", "not_json", "cut=30", "truncated=12", "stall=20", "slow=8", "500"])
@pytest.mark.parametrize("most", [1.0, 1.5, 2.5])
@pytest.mark.slow
def test_no_fault_brings_a_mixture_past_what_it_may_cost(kind: str, most: float) -> None:
    for recipe in ("classic", "balanced", "fast"):
        for watch in ("nothing", "calls"):
            ask(recipe, f"{kind}@1-4", most=most, watch=watch, deadline=30.0)


@pytest.mark.parametrize("runs", [1.5, 2.5])
def test_the_day_is_not_passed_either_and_what_was_reserved_pays_for_a_second_attempt(
    runs: float, tmp_path: Any
) -> None:
    async def main() -> tuple[float, float, float]:
        sim = SimOptions(unlimited=True, faults="empty_choices@1", reply=lambda request, call: LONG)
        async with simulated_cloud(sim) as cloud:
            env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}
            cost = Mixture(ALONE, env=env).forecast("Why?").cost
            assert cost is not None
            budget = SqliteBudget(tmp_path / "budget.db", runs * cost, lambda: 0.0)
            refused = pytest.raises(MixturaError, match="not asked again")
            with refused if runs < 2 else contextlib.nullcontext():
                await Mixture(ALONE, env=env, budget=budget).ask("Why?")
            today = await budget.today()
            assert cloud.ledger.arrived == int(runs)
            return today.spent, today.reserved, billed(cloud)

    spent, reserved, bill = run_virtual(main())
    assert reserved == 0
    assert spent == pytest.approx(bill)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_new_tokens", "num_predict"])
def test_an_output_limit_in_extra_is_held_against_what_the_run_may_cost(name: str) -> None:
    answer, error, cloud = ask(ALONE, most=1.2, options=ChatOptions(extra={name: 30_000}))
    assert error is None
    (body,) = cloud.requests
    assert body["max_completion_tokens"] == 400
    assert name == "max_completion_tokens" or name not in body
    assert answer.warnings[0].endswith(": max_tokens cut from 30,000 to 400")
    # It is not the caller's own wish that the answer ends there.
    assert "the answer is cut off at its output limit" in answer.warnings


def test_a_callers_limit_is_halved_with_the_recipes() -> None:
    answer, _, cloud = ask(ALONE, most=0.75, options=ChatOptions(max_tokens=30_000))
    (body,) = cloud.requests
    assert body["max_completion_tokens"] == 256
    assert answer.warnings[0].endswith(": output limits cut to 50%")


@pytest.mark.parametrize("name", ["n", "best_of", "num_return_sequences"])
def test_a_request_for_several_replies_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' cannot be 5; a run has one answer"):
        Mixture(ALONE, env={}).forecast("Why?", options=ChatOptions(extra={name: 5}))
    with pytest.raises(ValueError, match=f"extra.{name}: cannot be set there"):
        Proposer(model=SEVENTY, extra={name: 5})


def test_a_long_text_in_extra_is_part_of_the_prompt() -> None:
    mixture = Mixture(ALONE, env={})
    more = {"documents": [{"text": "a word " * 2000}]}
    plain = mixture.forecast("Why?").prompt_tokens
    assert mixture.forecast("Why?", options=ChatOptions(extra=more)).prompt_tokens > plain + 2000
    slot = Proposer(model=SEVENTY, max_tokens=400, extra=more)
    own = Mixture(Recipe(layers=(Layer(proposers=(slot,)),)), env={})
    assert own.forecast("Why?").prompt_tokens > plain + 2000


def tab_of(most: float, said: list[str]) -> CallTab:
    """The tab of a call that costs a dollar at most, in a run of one such call."""
    return CallTab(Allowance(most, 1.0), 1.0, lambda usage: usage.completion_tokens, lambda: 1.0, said.append)


def test_an_allowance_pays_attempts_out_of_what_is_left() -> None:
    said: list[str] = []
    tab = tab_of(3.0, said)
    tab.waste(Usage(completion_tokens=2))
    assert tab.refusal() == ""
    tab.fail(2.0, untold=True)  # is charged already
    assert tab.refusal() == ""
    tab.fail(2.5, untold=False)
    assert tab.refusal() == "not asked again, since that could bring the run past the $3.000000 that it may cost"
    assert tab.refusal(0.5) == ""
    assert len(said) == 1
    allowance = Allowance(3.0, 1.0)
    assert allowance.take(2.0)
    assert not allowance.take(0.01)
    allowance.release(0.5)
    assert allowance.take(0.5)


@pytest.mark.parametrize("usage", [None, Usage(prompt_tokens=9, estimated=True)])
def test_what_nobody_knows_is_charged_as_if_all_of_it_had_been_written(usage: Usage | None) -> None:
    tab = tab_of(2.0, [])
    tab.waste(usage)
    assert tab.refusal() == ""
    tab.waste(Usage(prompt_tokens=9, completion_tokens=1, estimated=True))
    assert tab.refusal()


def test_a_model_that_is_not_asked_again_by_itself_is_charged_when_it_fails() -> None:
    tab = tab_of(1.5, [])
    tab.fail(0.0, untold=True)
    assert tab.refusal()
