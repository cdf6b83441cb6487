"""Every call that was started ends in exactly one way, and no whole draft is lost, whenever a run is stopped."""

import asyncio
from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura import Aggregator, Layer, MixturaError, Mixture, Policy, Proposer, Recipe
from mixtura.chat import ChatRequest, Completion, Delta, Usage
from mixtura.errors import BrokenReplyError
from mixtura.events import CallFailed, CallFinished, CallStarted, Event, RunFinished
from mixtura.models.base import Emit
from mixtura.models.card import ModelCard
from mixtura.models.place import Place
from mixtura.models.served import Served
from mixtura.virtual import run_virtual


class Call(msgspec.Struct, frozen=True):
    """How a call goes: its reply is whole after `takes` seconds, and it needs `stops` seconds to be stopped."""

    takes: float
    stops: float = 0.0
    fails: bool = False
    silent: bool = False


class Played:
    """Models whose calls go as they are told, in turn; `whole` counts the replies that were handed over."""

    def __init__(self, calls: Sequence[Call], place: Place | None = None) -> None:
        self.calls = list(calls)
        self.place = place or Place()
        self.made = 0
        self.whole: list[str] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        call = self.calls[self.made % len(self.calls)]
        self.made += 1
        text = (
            f"Reply {self.made} of {request.model}, in so many words that it may be used when it is cut off early. " * 2
        )
        try:
            for word in range(4):
                await asyncio.sleep(call.takes / 4)
                if emit is not None and not call.silent:
                    emit(Delta(text=text[word * len(text) // 4 : (word + 1) * len(text) // 4]))
        except asyncio.CancelledError:
            await asyncio.sleep(call.stops)
            raise
        if call.fails:
            raise BrokenReplyError("p", request.model, "broken")
        self.whole.append(text)
        return Completion(model=request.model, text=text, usage=Usage(prompt_tokens=1, completion_tokens=1))

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model), place=self.place)

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider)

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def check_every_call_ended(events: Sequence[Event]) -> None:
    started = [event.call for event in events if isinstance(event, CallStarted)]
    ended = [event.done.call for event in events if isinstance(event, CallFinished)]
    ended += [event.failure.call for event in events if isinstance(event, CallFailed)]
    assert sorted(started) == sorted(ended)
    assert sum(isinstance(event, RunFinished) for event in events) == 1


def ask(models: Played, recipe: Recipe, leaves: float | None = None) -> list[Event]:
    """Ask in virtual time; the caller leaves after `leaves` seconds."""
    events: list[Event] = []

    async def main() -> None:
        asking = asyncio.create_task(Mixture(recipe, models=models, listeners=[events.append]).ask("Why?"))
        if leaves is not None:
            asyncio.get_running_loop().call_later(leaves, asking.cancel)
        await asyncio.wait([asking])
        if not asking.cancelled() and asking.exception() is not None:
            assert isinstance(asking.exception(), MixturaError)

    run_virtual(main())
    return events


TWO = Layer(proposers=(Proposer(model="a", samples=2), Proposer(model="b")))
SECONDS = st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 8.0])
CALLS = st.builds(
    Call, takes=SECONDS, stops=st.sampled_from([0.0, 0.3, 2.0]), fails=st.booleans(), silent=st.booleans()
)
POLICIES = st.builds(
    Policy,
    deadline=st.sampled_from([1.0, 2.0, 6.0]),
    quorum=st.sampled_from([None, 1, 2]),
    grace=st.sampled_from([0.0, 0.5]),
    hedge=st.booleans(),
    hedge_after=st.sampled_from([0.1, 0.5]),
    first_token=st.sampled_from([None, 1.0]),
    between_tokens=st.sampled_from([None, 0.4]),
)


@settings(deadline=None, max_examples=250)
@given(
    calls=st.lists(CALLS, min_size=1, max_size=8),
    policy=POLICIES,
    kind=st.sampled_from(["vote", "synthesize", "select"]),
    leaves=st.none() | SECONDS,
    queues=st.booleans(),
)
def test_every_call_ends_once(calls: list[Call], policy: Policy, kind: str, leaves: float | None, queues: bool) -> None:
    aggregator = msgspec.convert({"kind": kind, "model": "" if kind == "vote" else "c"}, Aggregator)
    place = Place(name="here", served_by="machine") if queues else None
    models = Played(calls, place)
    events = ask(models, Recipe(layers=(TWO,), aggregator=aggregator, policy=policy), leaves)
    check_every_call_ended(events)
    kept = {event.done.text for event in events if isinstance(event, CallFinished)}
    abandoned = [event for event in events if isinstance(event, CallFailed) and event.failure.usage is not None]
    assert len(set(models.whole) - kept) <= len(abandoned)


def test_a_reply_that_is_whole_wins_although_its_race_is_cancelled_while_the_other_try_is_stopped() -> None:
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model="a"),)),),
        aggregator=Aggregator(kind="vote"),
        policy=Policy(deadline=0.65, hedge=True, hedge_after=0.1),
    )
    models = Played([Call(0.5, silent=True), Call(30.0, stops=0.3)])
    events = ask(models, recipe)
    check_every_call_ended(events)
    (draft,) = [event.done for event in events if isinstance(event, CallFinished)]
    assert draft.text == models.whole[0]


def test_a_reply_that_is_whole_is_said_although_its_caller_left_meanwhile() -> None:
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model="a"),)),), policy=Policy(deadline=9.0, hedge=True, hedge_after=0.1)
    )
    models = Played([Call(0.5, silent=True), Call(30.0, stops=0.5)])
    events = ask(models, recipe, leaves=0.7)
    check_every_call_ended(events)
    assert [event.done.text for event in events if isinstance(event, CallFinished)] == models.whole


def test_a_model_in_this_process_is_never_called_silent() -> None:
    place = Place(name="file", served_by="process")
    policy = Policy(first_token="auto", between_tokens="auto", hedge=True)
    models = Played([Call(400.0, silent=True)], place)
    events = ask(models, Recipe(layers=(TWO,), aggregator=Aggregator(kind="vote"), policy=policy))
    assert models.made == 3
    assert len(models.whole) == 3
    check_every_call_ended(events)
