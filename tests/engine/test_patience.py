"""Slow is not stalled: on one machine every draft arrives, no call is sent twice and none is stopped."""

import asyncio
import itertools
from collections.abc import Callable

import msgspec
import pytest

from mixtura import Aggregator, Answer, Layer, Mixture, Policy, Proposer, Recipe, recipe_names
from mixtura.events import CallStarted, Event
from mixtura.limits.limiter import Limiter
from mixtura.planning.moving import moved_to
from mixtura.planning.schedule import count_calls
from mixtura.recipe import Fallback
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual
from slow_servers import SlowServer, slow_server

NAMES = [name for name in recipe_names() if name != "toy"]
CELLS = list(itertools.product((1.0, 5.0, 12.0, 60.0), (1, 2, 4)))


class Slow(msgspec.Struct, kw_only=True):
    """What came of questions to a slow server.

    Attributes:
        seconds: that each of them took.
        most: how many calls were at the server at once while each of them was answered.
    """

    answers: list[Answer]
    server: SlowServer
    seconds: list[float]
    most: list[int]
    events: list[Event]


def asked(
    recipe: Recipe,
    first: float,
    slots: int,
    *,
    times: int = 1,
    tokens: int | Callable[[int], int] = 40,
    env: dict[str, str] | None = None,
    **options: object,
) -> Slow:
    """Ask `recipe`, moved to one slow machine, in virtual time."""

    async def main() -> Slow:
        async with slow_server(first, slots, tokens=tokens) as server:
            events: list[Event] = []
            mixture = Mixture(recipe, env={"VLLM_BASE_URL": server.url, **(env or {})}, listeners=[events.append])
            clock = asyncio.get_running_loop().time
            answers, seconds, most = [], [], []
            for _ in range(times):
                begun, server.most = clock(), 0
                answers.append(await mixture.ask("Why is the sky blue?", **options))  # type: ignore[arg-type]
                seconds.append(clock() - begun)
                most.append(server.most)
            await asyncio.sleep(0.3)
            return Slow(answers=answers, server=server, seconds=seconds, most=most, events=events)

    return run_virtual(main())


def check_nothing_was_lost(slow: Slow, recipe: Recipe) -> None:
    calls = count_calls(recipe)
    for answer in slow.answers:
        assert answer.status == "ok"
        assert answer.failures == []
        assert not any(draft.incomplete for draft in answer.drafts)
    assert slow.server.left == 0
    assert len(slow.server.requests) == calls * len(slow.answers)


@pytest.mark.parametrize("name", ["balanced", "deep", "council", "cascade"])
@pytest.mark.parametrize(("first", "slots"), [(12.0, 1), (60.0, 1), (5.0, 2)])
def test_every_draft_of_a_slow_machine_arrives(name: str, first: float, slots: int) -> None:
    recipe = moved_to(Recipe.named(name), "vllm")
    slow = asked(recipe, first, slots)
    check_nothing_was_lost(slow, recipe)
    if slots == 1:
        assert slow.seconds[0] <= 1.1 * slow.server.busy


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_recipe_has_all_its_drafts_again_and_again(name: str) -> None:
    recipe = moved_to(Recipe.named(name), "vllm")
    for first, slots in CELLS:
        slow = asked(recipe, first, slots, times=3)
        check_nothing_was_lost(slow, recipe)
        if slots == 1:
            assert sum(slow.seconds) <= 1.1 * slow.server.busy


@pytest.mark.parametrize("first", [12.0, 60.0])
def test_a_deadline_that_is_long_enough_is_all_that_a_slow_machine_needs(first: float) -> None:
    recipe = moved_to(Recipe.named("balanced"), "vllm")
    slow = asked(recipe, first, 1, deadline=300.0)
    check_nothing_was_lost(slow, recipe)


def test_replies_of_very_different_lengths_all_arrive() -> None:
    recipe = moved_to(Recipe.named("balanced"), "vllm")
    slow = asked(recipe, 8.0, 1, tokens=lambda number: (300, 60, 340, 100)[number - 1])
    check_nothing_was_lost(slow, recipe)


def three(policy: Policy, *, samples: int = 2) -> Recipe:
    """Three drafts, or more of the second model, and an answer from them."""
    proposers = (Proposer(model="a", provider="vllm"), Proposer(model="b", provider="vllm", samples=samples))
    return Recipe(
        layers=(Layer(proposers=proposers),), aggregator=Aggregator(model="c", provider="vllm"), policy=policy
    )


WATCHFUL = Policy(first_token="auto", between_tokens="auto", hedge=True, quorum=2, grace=1.0)


@pytest.mark.parametrize("slots", [1, 2])
def test_how_many_a_machine_serves_is_learned_and_the_rest_waits_here(slots: int) -> None:
    recipe = three(WATCHFUL, samples=slots + 1)
    slow = asked(recipe, 3.0, slots, times=3)
    check_nothing_was_lost(slow, recipe)
    # Of the first question all drafts are sent at once, and two of them in a row wait there for others to end.
    assert slow.most == [slots + 2, slots, slots]
    # The third draft of a quorum of two is waited for from when it began, and not from when it was ready to be sent.
    assert all(len(answer.drafts) == slots + 2 for answer in slow.answers)


def test_now_and_then_one_more_is_let_through_to_see_whether_there_are_more_slots() -> None:
    slow = asked(three(WATCHFUL), 3.0, 1, times=10)
    check_nothing_was_lost(slow, three(WATCHFUL))
    assert slow.most[0] == 3
    assert set(slow.most[1:]) == {1, 2}
    assert slow.most.count(2) == 2, "of forty calls, one after sixteen"


def test_a_call_that_waits_here_has_not_begun() -> None:
    recipe = msgspec.structs.replace(
        three(Policy(first_token=4.0, hedge=True, hedge_after=4.0)),
    )
    moved = moved_to(recipe, "lmstudio")  # which takes one call at a time

    async def main() -> Answer:
        async with slow_server(3.0, 1) as server:
            answer = await Mixture(moved, env={"LMSTUDIO_BASE_URL": server.url}).ask("Why?")
            assert server.most == 1
            return answer

    answer = run_virtual(main())
    assert len(answer.drafts) == 3
    assert answer.failures == []


def test_a_recipe_is_taken_at_its_word() -> None:
    slow = asked(three(Policy(first_token=2.0, deadline=60.0, hedge=True)), 1.0, 4)
    assert len(slow.answers[0].drafts) == 3
    impatient = three(Policy(first_token=2.0, deadline=60.0, hedge=True))
    with pytest.raises(Exception, match="first token did not come within 2 s"):
        asked(impatient, 5.0, 4)


def test_a_second_try_goes_elsewhere_or_nowhere() -> None:
    there = Proposer(model="a", provider="vllm", fallbacks=(Fallback(model="b", provider="vllm"),))
    policy = Policy(hedge=True, hedge_after=2.0)
    slow = asked(Recipe(layers=(Layer(proposers=(there,)),), policy=policy), 20.0, 1)
    assert [event.model for event in slow.events if isinstance(event, CallStarted)] == ["a"]

    async def main() -> tuple[Answer, int]:
        told = SimOptions(unlimited=True, profile="fixed:0.5", reply=lambda _request, _call: "Elsewhere.")
        async with slow_server(20.0, 1) as server, simulated_cloud(told) as cloud:
            away = msgspec.structs.replace(there, fallbacks=(Fallback(model="llama-3.1-8b-instant"),))
            env = {"VLLM_BASE_URL": server.url, "GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_x"}
            answer = await Mixture(Recipe(layers=(Layer(proposers=(away,)),), policy=policy), env=env).ask("Why?")
            await asyncio.sleep(0.3)
            return answer, server.left

    answer, left = run_virtual(main())
    assert (answer.text, left) == ("Elsewhere.", 1)


def test_a_machine_that_hangs_is_given_up_before_the_deadline() -> None:
    with pytest.raises(Exception, match="first token did not come"):
        asked(three(WATCHFUL), 5000.0, 4)


def test_a_run_on_one_machine_says_how_long_it_may_take() -> None:
    slow = asked(three(WATCHFUL), 1.0, 1)
    said = [decision.reason for decision in slow.answers[0].decisions]
    assert said[0].startswith("4 calls may have to wait for each other there: 20 minutes at most")
    again = asked(three(WATCHFUL), 1.0, 1, times=2)
    assert not any("wait for each other" in decision.reason for decision in again.answers[1].decisions)


def test_a_whole_reply_in_front_is_no_silence() -> None:
    # The selector's reply is not streamed: while it is written, a draft of another run waits behind it.
    recipe = msgspec.structs.replace(three(WATCHFUL), aggregator=Aggregator(kind="select", model="c", provider="vllm"))
    slow = asked(recipe, 100.0, 1)
    assert slow.answers[0].failures == []


@pytest.mark.parametrize(("deadline", "drafts"), [(25.0, 2), (15.5, 1), (60.0, 3)])
def test_on_one_machine_drafts_leave_the_time_that_the_answer_needs(deadline: float, drafts: int) -> None:
    # A call takes 7 s: as many drafts as leave another 7 s to write the answer.
    recipe = three(Policy(first_token="auto", between_tokens="auto", deadline=deadline))
    slow = asked(recipe, 5.0, 1)
    (answer,) = slow.answers
    assert len(answer.drafts) == drafts
    assert slow.server.requests[-1]["model"] == "c"
    assert answer.source == answer.calls[-1].call
    assert answer.seconds <= deadline


def test_a_machine_that_works_for_somebody_else_is_waited_for() -> None:
    async def main() -> Answer:
        async with slow_server(60.0, 1) as server:
            env = {"VLLM_BASE_URL": server.url}
            recipe = moved_to(Recipe.named("balanced"), "vllm")

            async def in_a_process_of_its_own(delay: float) -> Answer:
                await asyncio.sleep(delay)
                return await Mixture(recipe, env=env, limiter=Limiter()).ask("Why is the sky blue?")

            one, _ = await asyncio.gather(in_a_process_of_its_own(0.0), in_a_process_of_its_own(2.0))
            return one

    answer = run_virtual(main())
    assert (answer.status, answer.failures) == ("ok", [])


def test_a_recipe_that_states_seconds_asks_no_machine_whether_it_is_there() -> None:
    with pytest.raises(Exception, match="its first token did not come within 30 s"):
        asked(three(Policy(first_token=30.0, hedge=True)), 5000.0, 4)
