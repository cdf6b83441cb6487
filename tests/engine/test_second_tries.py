"""What is tried a second time and what is not, who wins, and what is said of the tries that were lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mixtura import Aggregator, ChatRequest, Completion, Delta, Layer, Mixture, ModelError, Proposer, Recipe, Usage
from mixtura.decisions import HedgedDetail
from mixtura.errors import ConfigError, OverloadedError, RejectedError
from mixtura.events import AnswerDelta, CallDelta, CallFailed, CallFinished, Event, RunFinished
from mixtura.limits.limiter import Limiter
from mixtura.models.base import Emit
from mixtura.models.place import Place
from mixtura.models.served import Accounting, Served
from mixtura.recipe import Fallback, Policy
from mixtura.virtual import run_virtual
from own_models import Asked, Told, failed

Reply = Callable[[ChatRequest, Emit], Awaitable[Any]]
ANSWER = "An LSM-tree."


def writes(*pieces: str, every: float = 0.1, first: float = 0.0, then: ModelError | None = None) -> Reply:
    """Write pieces, and then be whole or fail."""

    async def reply(request: ChatRequest, emit: Emit) -> Any:
        await asyncio.sleep(first)
        for piece in pieces:
            await asyncio.sleep(every)
            emit(Delta(piece))
        usage = Usage(prompt_tokens=3, completion_tokens=len(pieces))
        return then or Completion(model=request.model, text="".join(pieces), usage=usage)

    return reply


async def silent(request: ChatRequest, emit: Emit) -> Any:
    await asyncio.Event().wait()


def alone(*, instead: str = "", **policy: Any) -> Recipe:
    fallbacks = tuple(Fallback(model=model, provider="own") for model in instead)
    slot = Proposer(model="a", provider="own", fallbacks=fallbacks)
    return Recipe(layers=(Layer(proposers=(slot,)),), policy=Policy(**{"deadline": 60.0, **policy}))


def failures(asked: Asked) -> list[tuple[str, str, str]]:
    return [
        (event.failure.model, event.failure.kind, event.failure.reason)
        for event in asked.events
        if isinstance(event, CallFailed)
    ]


def hedges(asked: Asked) -> list[tuple[Any, str]]:
    return [(said.detail, said.reason) for said in asked.answer.decisions if said.kind == "hedged"]


@pytest.mark.parametrize("pieces", [0, 1, 3])
@pytest.mark.parametrize("kind", [OverloadedError, RejectedError])
def test_a_call_that_breaks_off_while_it_writes_is_made_once_more(pieces: int, kind: type[ModelError]) -> None:
    models = Told(a=[writes(*["Half "] * pieces, then=failed("a", kind=kind)), writes(ANSWER)])
    asked = Asked(alone(first_token=30.0), models)
    again = pieces > 0 and kind is OverloadedError
    assert len(models.requests) == 1 + again
    assert (asked.error is None) == again
    assert hedges(asked) == ([(HedgedDetail(model="a", by="a"), "a broke off; asked a second time")] if again else [])
    assert failures(asked) == [("a", kind.kind, "no luck")]


def test_a_call_that_breaks_off_again_is_given_up() -> None:
    models = Told(a=writes("Half ", then=failed("a")))
    asked = Asked(alone(first_token=30.0), models)
    assert asked.error is not None
    assert len(models.requests) == 2
    assert [kind for _, kind, _ in failures(asked)] == ["overloaded", "overloaded"]


def test_a_call_that_is_late_is_tried_beside_and_the_first_whole_reply_wins() -> None:
    models = Told(a=[silent, writes(ANSWER)])
    asked = Asked(alone(hedge=True, hedge_after=2.0), models)
    assert asked.answer.text == ANSWER
    assert hedges(asked) == [(HedgedDetail(model="a", by="a"), "a is slower than usual; asked a second time")]
    assert failures(asked) == [("a", "abandoned", "another try was faster")]
    (draft,) = asked.answer.drafts
    assert draft.call == 1
    assert [started.call for started in asked.started] == [0, 1]


def test_the_second_try_asks_the_fall_back_and_says_so() -> None:
    models = Told(a=silent, b=writes(ANSWER))
    asked = Asked(alone(instead="b", hedge=True, hedge_after=2.0), models)
    assert hedges(asked) == [
        (HedgedDetail(model="a", by="b"), "a is slower than usual; asked a second time, b in its place")
    ]
    (draft,) = asked.answer.drafts
    assert (draft.model, draft.answered_by) == ("a", "b")


def test_the_first_try_wins_where_it_is_whole_before_the_second() -> None:
    models = Told(a=[writes(ANSWER, first=2.5), silent])
    asked = Asked(alone(hedge=True, hedge_after=2.0), models)
    (draft,) = asked.answer.drafts
    assert draft.call == 0
    assert failures(asked) == [("a", "abandoned", "another try was faster")]


def test_no_third_try_is_made() -> None:
    models = Told(a=silent)
    asked = Asked(alone(hedge=True, hedge_after=1.0, deadline=20.0), models)
    assert len(models.requests) == 2
    assert asked.error is not None
    assert failures(asked) == [("a", "timed_out", "no whole answer within 20 s of the run")] * 2


def test_a_failure_beside_a_second_try_leaves_it_to_that() -> None:
    models = Told(a=[writes(first=3.0, then=failed("a", kind=RejectedError)), writes(ANSWER, first=4.0)])
    asked = Asked(alone(hedge=True, hedge_after=1.0), models)
    assert asked.answer.text == ANSWER
    assert failures(asked) == [("a", "rejected", "no luck")]
    assert len(models.requests) == 2


@pytest.mark.parametrize(
    ("policy", "pieces", "reason"),
    [
        ({"first_token": 3.0}, 0, "its first token did not come within 3 s"),
        ({"between_tokens": 2.5}, 2, "its next token did not come within 2.5 s"),
    ],
)
def test_a_call_that_falls_silent_is_made_once_more_and_then_given_up(
    policy: dict[str, Any], pieces: int, reason: str
) -> None:
    async def stalls(request: ChatRequest, emit: Emit) -> Any:
        for _ in range(pieces):
            emit(Delta("Half "))
        await asyncio.Event().wait()

    models = Told(a=[stalls, writes(ANSWER)])
    asked = Asked(alone(**policy), models)
    assert asked.answer.text == ANSWER
    assert failures(asked) == [("a", "timed_out", reason)]
    models = Told(a=stalls)
    asked = Asked(alone(**policy), models)
    assert asked.error is not None
    assert failures(asked) == [("a", "timed_out", reason)] * 2


def test_where_calls_wait_for_each_other_silence_is_not_tried_again_behind_itself() -> None:
    class Desk(Told):
        def find(self, provider: str, model: str) -> Served:
            place = Place(name=provider, served_by="machine")
            return Served(self, self.card(provider, model), place=place)

    models = Desk(a=silent, b=writes(ANSWER))
    asked = Asked(alone(first_token=3.0, hedge=True, hedge_after=1.0), models)
    assert asked.error is not None
    assert len(models.requests) == 1
    elsewhere = Proposer(model="a", provider="own", fallbacks=(Fallback(model="b", provider="away"),))
    told = Recipe(layers=(Layer(proposers=(elsewhere,)),), policy=Policy(first_token=3.0, deadline=60.0))
    assert Asked(told, Desk(a=silent, b=writes(ANSWER))).answer.text == ANSWER


def test_who_writes_first_is_read_alone_and_the_other_is_stopped() -> None:
    one = writes("One ", "and ", "only.", first=3.0, every=1.0)
    other = writes("Another ", "one.", first=1.5, every=1.0)
    models = Told(a=[one, other])
    asked = Asked(alone(hedge=True, hedge_after=1.0), models, watch="answer")
    assert asked.answer.text == "Another one."
    assert "".join(event.text for event in asked.events if isinstance(event, AnswerDelta)) == "Another one."
    assert failures(asked) == [("a", "abandoned", "another try was faster")]


def test_drafts_that_are_watched_are_shown_by_try() -> None:
    models = Told(a=[writes("One ", "draft.", first=3.0), writes("Another.", first=9.0)], b="Two.")
    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))),),
        aggregator=Aggregator(kind="vote"),
        policy=Policy(hedge=True, hedge_after=1.0, deadline=60.0),
    )
    asked = Asked(told, models, watch="calls")
    shown = [(event.call, event.text) for event in asked.events if isinstance(event, CallDelta)]
    assert shown == [(0, "One "), (0, "draft.")]


def test_the_longest_of_two_lost_tries_becomes_the_draft() -> None:
    text = "An LSM-tree gathers its writes in memory and merges them on disk when there are enough of them. "
    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="a", provider="own"),)),),
        aggregator=Aggregator(kind="vote"),
        policy=Policy(first_token=30.0, between_tokens=30.0, deadline=60.0),
    )
    broken = failed("a", 5)
    for first, second in ((1, 2), (2, 1)):
        models = Told(a=[writes(*[text] * first, then=broken), writes(*[text] * second, then=broken)])
        asked = Asked(told, models)
        (draft,) = asked.answer.drafts
        assert draft.text == text * 2
        assert draft.incomplete == "overloaded"
        assert draft.call == (1 if second == 2 else 0)
        assert len(failures(asked)) == 1


@pytest.mark.parametrize(("first", "in_time"), [(2.85, True), (2.95, False)])
def test_a_first_token_may_come_until_the_last_moment(first: float, in_time: bool) -> None:
    # A piece takes another tenth of a second.
    models = Told(a=[writes(ANSWER, first=first), silent])
    assert (Asked(alone(first_token=3.0), models).error is None) is in_time


def test_a_try_that_is_whole_and_lost_all_the_same_is_billed_for_what_it_wrote() -> None:
    # Both are whole at the same moment: four seconds from the beginning.
    models = Told(a=[writes("One", first=3.9), writes("Other", first=1.9)])
    asked = Asked(alone(hedge=True, hedge_after=2.0), models)
    assert asked.answer.text == "One"
    (lost,) = [event.failure for event in asked.events if isinstance(event, CallFailed)]
    assert (lost.kind, lost.usage) == ("abandoned", Usage(prompt_tokens=3, completion_tokens=1))


def left_after(seconds: float, told: Recipe, models: Told) -> list[Event]:
    """Ask, and leave before there is an answer."""
    events: list[Event] = []

    async def main() -> None:
        asking = asyncio.create_task(Mixture(told, models=models, listeners=[events.append]).ask("Why?"))
        await asyncio.sleep(seconds)
        asking.cancel()
        await asyncio.wait([asking])

    run_virtual(main())
    return events


def test_an_answer_that_is_whole_as_its_reader_leaves_is_said() -> None:
    async def slow_to_stop(request: ChatRequest, emit: Emit) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)

    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="a", provider="own"),)),),
        aggregator=Aggregator(model="c", provider="own"),
        policy=Policy(hedge=True, hedge_after=1.0, deadline=60.0),
    )
    events = left_after(3.2, told, Told(a="A draft.", c=[writes(ANSWER, first=2.9), slow_to_stop]))
    whole = [event.done for event in events if isinstance(event, CallFinished)]
    assert [(done.role, done.call, done.text) for done in whole] == [
        ("proposer", 0, "A draft."),
        ("aggregator", 1, ANSWER),
    ]


@pytest.mark.parametrize("policy", [{}, {"first_token": 30.0}])
def test_calls_whose_reader_leaves_are_abandoned_and_not_out_of_time(policy: dict[str, Any]) -> None:
    two = (Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))
    told = Recipe(
        layers=(Layer(proposers=two),),
        aggregator=Aggregator(kind="vote"),
        policy=Policy(**{"deadline": 60.0, **policy}),
    )
    events = left_after(3.0, told, Told(a="One.", b=silent))
    (lost,) = [event.failure for event in events if isinstance(event, CallFailed)]
    assert (lost.model, lost.kind, lost.reason) == ("b", "abandoned", "the run was stopped")
    assert isinstance(events[-1], RunFinished)
    assert (events[-1].status, events[-1].error) == ("failed", "the run was stopped")


def test_drafts_that_run_out_of_time_are_failures_and_not_abandoned() -> None:
    two = (Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))
    told = Recipe(layers=(Layer(proposers=two),), aggregator=Aggregator(kind="vote"), policy=Policy(deadline=9.0))
    asked = Asked(told, Told(a="One.", b=silent))
    assert failures(asked) == [("b", "timed_out", "no whole answer within 9 s of the run")]
    assert next(said.reason for said in asked.answer.decisions) == "1 of 2 drafts did not come (b: timed out)"


def test_a_mistake_in_one_call_stops_the_others_and_is_said_of_them() -> None:
    two = (Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))
    told = Recipe(layers=(Layer(proposers=two),), aggregator=Aggregator(kind="vote"), policy=Policy(deadline=60.0))

    async def mistaken(request: ChatRequest, emit: Emit) -> Any:
        await asyncio.sleep(1.0)
        return ConfigError("set it up first")

    asked = Asked(told, Told(a=mistaken, b=silent))
    assert isinstance(asked.error, ConfigError)
    assert sorted(failures(asked)) == [
        ("a", "abandoned", "the run failed"),
        ("b", "abandoned", "the run was stopped"),
    ]


class Counted(Told):
    """Models whose calls are counted, and begin when they are sent."""

    def __init__(self, **replies: object) -> None:
        super().__init__(**replies)
        self.accounting = Accounting(key="own/a", group="own", keeper=Limiter())

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model), accounting=self.accounting)

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        assert request.context is not None
        request.context.begin(asyncio.get_running_loop().time())
        return await super().chat(request, emit=emit, deadline=deadline)


@pytest.mark.parametrize("streamed", [True, False])
def test_how_long_a_lost_try_was_waited_for_counts_among_the_waits_of_its_model(streamed: bool) -> None:
    models = Counted(a=[silent, writes(ANSWER, first=1.9)])
    silence: dict[str, Any] = {"first_token": 30.0} if streamed else {}
    assert Asked(alone(hedge=True, hedge_after=2.0, **silence), models).answer.text == ANSWER
    latency = models.accounting.account(models.accounting.limiter()).latency
    waits, others = (latency.first, latency.total) if streamed else (latency.total, latency.first)
    assert (len(waits), len(others)) == (1, 0)
    assert waits.at(0.5) == pytest.approx(4.0)


def test_neither_a_try_that_wrote_nor_a_second_one_counts_as_waited_for() -> None:
    models = Counted(a=[writes(ANSWER, first=2.5), silent])
    assert Asked(alone(hedge=True, hedge_after=2.0), models).answer.text == ANSWER
    # A draft that writes slowly loses against its second try, but it was not silent.
    models = Counted(a=[writes("One ", *["more "] * 40, first=1.95, every=0.2), writes("Two.", first=1.0)], b="Three.")
    two = (Proposer(model="a", provider="own"), Proposer(model="b", provider="own"))
    policy = Policy(hedge=True, hedge_after=2.0, deadline=60.0)
    told = Recipe(layers=(Layer(proposers=two),), aggregator=Aggregator(kind="vote"), policy=policy)
    asked = Asked(told, models, watch="calls")
    assert {draft.text for draft in asked.answer.drafts} == {"Two.", "Three."}
    latency = models.accounting.account(models.accounting.limiter()).latency
    assert (len(latency.first), len(latency.total)) == (0, 0)
