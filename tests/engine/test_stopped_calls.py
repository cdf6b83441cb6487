"""Calls that are stopped: when one is silent, how many tries there are, and what is over once a run is over."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from asking import World
from mixtura import (
    Aggregator,
    Answer,
    ChatRequest,
    Completion,
    Delta,
    Event,
    Layer,
    Mixture,
    ModelCard,
    Policy,
    Price,
    Proposer,
    Recipe,
    Usage,
    fold,
)
from mixtura.decisions import CutDetail
from mixtura.events import AnswerDelta, CallFailed, CallFinished, CallStarted, Decision, RunFinished
from mixtura.models.base import Emit
from mixtura.models.served import Served
from mixtura.virtual import run_virtual

WORD = "Log-structured trees take writes in memory first and merge them on disk later. "


class Slow:
    """Writes a piece every `every` seconds.

    `first` are the seconds before the first piece, call by call, the last one again and again. A call that is `stalled`
    never ends; a call that is stopped takes `stops` seconds to end, as a socket may.
    """

    def __init__(
        self, pieces: int, every: float, *, first: Sequence[float] = (0.0,), stalled: bool = False, stops: float = 0.0
    ) -> None:
        self.pieces = pieces
        self.every = every
        self.first = first
        self.stalled = stalled
        self.stops = stops
        self.calls = self.running = 0

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        before = self.first[min(self.calls, len(self.first) - 1)]
        self.calls += 1
        self.running += 1
        try:
            await asyncio.sleep(before)
            for _ in range(self.pieces):
                await asyncio.sleep(self.every)
                if emit is not None:
                    emit(Delta(WORD))
            if self.stalled:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(self.stops)
            raise
        finally:
            self.running -= 1
        usage = Usage(prompt_tokens=10, completion_tokens=self.pieces)
        return Completion(model=request.model, text=WORD * self.pieces, usage=usage)


class Own:
    """Models by name: the second call of a model may be another's."""

    def __init__(self, **models: Slow) -> None:
        self.models = models

    def find(self, provider: str, model: str) -> Served:
        return Served(self.models[model], self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider, price=Price(input=1.0, output=1.0))

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def recipe(*models: str, **policy: object) -> Recipe:
    return Recipe(
        layers=(Layer(proposers=tuple(Proposer(model=model, provider="own") for model in models)),),
        aggregator=Aggregator(kind="vote") if len(models) > 1 else None,
        policy=msgspec.convert(policy, Policy),
    )


def asked(told: Recipe, models: Own) -> list[Event]:
    async def main() -> list[Event]:
        return [event async for event in Mixture(told, models=models).stream("Why?")]

    return run_virtual(main())


def endings(events: list[Event]) -> dict[int, int]:
    """How often each call that was started has ended."""
    ended = [event.done.call for event in events if isinstance(event, CallFinished)]
    ended += [event.failure.call for event in events if isinstance(event, CallFailed)]
    return {event.call: ended.count(event.call) for event in events if isinstance(event, CallStarted)}


def test_a_call_that_goes_on_writing_is_not_silent_however_long_it_takes() -> None:
    events = asked(recipe("m", first_token=3.0, between_tokens=2.0), Own(m=Slow(pieces=12, every=1.5)))
    answer = fold(events)
    assert answer.text == WORD * 12
    assert (answer.failures, list(endings(events).values())) == ([], [1])


def test_a_call_is_silent_from_its_last_piece_on() -> None:
    told = recipe("m", first_token=30.0, between_tokens=2.0, deadline=60.0)
    events = asked(told, Own(m=Slow(pieces=6, every=1.0, stalled=True)))
    pieces = [event.at for event in events if isinstance(event, AnswerDelta)]
    (ended, *_) = [event for event in events if isinstance(event, CallFailed | CallFinished)]
    assert pieces[5] == pytest.approx(6.0)
    assert ended.at == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize("stops", [0.0, 0.5])
def test_whoever_lost_has_stopped_when_the_run_is_over(stops: float) -> None:
    model = Slow(pieces=3, every=0.1, first=(60.0, 0.0), stops=stops)
    told = recipe("m", first_token=30.0, hedge=True, hedge_after=1.0)
    heard: list[tuple[Event, int]] = []

    async def main() -> Answer:
        return await Mixture(
            told, models=Own(m=model), listeners=[lambda event: heard.append((event, model.running))]
        ).ask("Why?")

    answer = run_virtual(main())
    assert answer.text == WORD * 3
    assert (model.calls, model.running) == (2, 0)
    # When it is said of a call that it was stopped, it has stopped.
    assert [running for event, running in heard if isinstance(event, CallFailed | RunFinished)] == [0, 0]
    assert endings([event for event, _ in heard]) == {0: 1, 1: 1}


def test_a_run_that_is_stopped_makes_no_draft_of_what_was_written() -> None:
    heard: list[Event] = []
    told = recipe("m", "n", quorum=1, grace=30.0, first_token=30.0)
    mixture = Mixture(told, models=Own(m=Slow(20, 0.5), n=Slow(20, 0.5)), listeners=[heard.append])

    async def main() -> None:
        asking = asyncio.create_task(mixture.ask("Why?"))
        await asyncio.sleep(5.0)
        asking.cancel()
        await asyncio.wait([asking])

    run_virtual(main())
    assert endings(heard) == {0: 1, 1: 1}
    assert not [event for event in heard if isinstance(event, Decision) and isinstance(event.detail, CutDetail)]


@pytest.mark.parametrize("policy", [{"first_token": 3.0}, {"first_token": 9.0, "hedge": True, "hedge_after": 1.0}])
@pytest.mark.parametrize("aggregates", [True, False])
def test_there_is_no_third_try(world: World, policy: dict[str, object], aggregates: bool) -> None:
    model = world.SEVENTY if aggregates else world.GEMMA
    told = Recipe(
        layers=(Layer(proposers=(Proposer(model=world.LLAMA), Proposer(model=world.GEMMA))),),
        aggregator=Aggregator(model=world.SEVENTY),
        policy=msgspec.convert({**policy, "deadline": 120.0}, Policy),
    )
    ran = world(told, faults=f"silent:{model}")
    assert len(ran.prompts(model)) == 2
    started = [event for event in ran.events if isinstance(event, CallStarted) and event.model == model]
    assert len(started) == 2
    assert set(endings(ran.events).values()) == {1}
