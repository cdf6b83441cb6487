"""How long one call may be silent: by who serves it, its prompt, what waits beside it, and what was measured."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mixtura.chat import Delta, Message
from mixtura.engine.context import Run
from mixtura.engine.patience import CallPatience
from mixtura.engine.progress import Progress
from mixtura.limits.account import Account
from mixtura.limits.concurrency import ServerQueue, Visit
from mixtura.models.card import ModelCard, Predicted
from mixtura.models.place import ONE_MACHINE, Patience, Place
from mixtura.recipe import Policy

GROQ = Patience(first_token=10.0, prompt_rate=100.0, between_tokens=5.0, hedge_after=4.0)
SHORT = (Message(role="user", content="Why?"),)
LONG = (Message(role="user", content="x" * 40_000),)


class Told:
    """A run as its patience sees it: what was measured and predicted of the model, at event-loop time 100."""

    def __init__(self, *latencies: float, predicted: Predicted | None = None, policy: Policy | None = None) -> None:
        self.account_ = Account("k")
        for seconds in latencies:
            self.account_.latency.add(seconds + 1, seconds, 50)
        self.policy = policy or Policy(first_token="auto", between_tokens="auto", hedge=True)
        self.predicted = predicted

    def patience(self, place: Place, messages: tuple[Message, ...] = SHORT, **progress: Any) -> CallPatience:
        models = SimpleNamespace(
            card=lambda _p, m: ModelCard(id=m, provider="p", predicted=self.predicted if m == "m" else None)
        )
        told = SimpleNamespace(
            recipe=SimpleNamespace(policy=self.policy),
            models=models,
            account=lambda _p, m: self.account_ if m == "m" else None,
            loop=SimpleNamespace(time=lambda: 100.0),
        )
        call = Progress("p", "m")
        call.place, call.since, call.streamed = place, 100.0, True
        for name, value in progress.items():
            setattr(call, name, value)
        return CallPatience(cast("Run", told), call, messages)


MANY = Place(name="api", patience=GROQ)
ONE = Place(name="desk", served_by="machine", patience=ONE_MACHINE)
HERE = Place(name="file", served_by="process")


def test_a_long_prompt_is_read_for_longer() -> None:
    assert Told().patience(MANY).silent_at == pytest.approx(110.0, abs=0.1)
    assert Told().patience(MANY, LONG).silent_at == pytest.approx(100 + 10 + 10_000 / 100)
    assert Told().patience(ONE, LONG).silent_at == pytest.approx(100 + 120 + 10_000 / 20)


def test_what_was_measured_or_predicted_lengthens_it_and_never_shortens_it() -> None:
    assert Told(*[20.0] * 9).patience(MANY).silent_at == pytest.approx(160.0)
    assert Told(*[0.1] * 9).patience(MANY).silent_at == pytest.approx(110.0, abs=0.1)
    assert Told(*[20.0] * 7).patience(MANY).silent_at == pytest.approx(110.0, abs=0.1), "seven calls say little"
    assert Told(predicted=Predicted(first=15.0, token=0.1)).patience(MANY).silent_at == pytest.approx(145.0)


def test_a_call_that_is_not_sent_or_not_streamed_cannot_be_silent_and_one_in_this_process_is_not() -> None:
    assert Told().patience(MANY, since=None).silent_at == math.inf
    assert Told().patience(MANY, streamed=False).silent_at == math.inf
    assert Told().patience(HERE).silent_at == math.inf
    assert Told().patience(MANY, since=None).late_at == math.inf


def test_between_tokens_silence_counts_from_the_latest_piece() -> None:
    patience = Told().patience(MANY)
    patience._progress.take(Delta(text="a"), 107.0)
    assert patience.silent_at == pytest.approx(112.0)
    assert patience.longest_gap == 5.0
    assert patience.late_at == math.inf


def test_while_a_machine_reads_for_another_call_it_may_write_nothing() -> None:
    async def main() -> None:
        queue = ServerQueue()
        mine, other = await queue.enter(), await queue.enter()
        mine.streamed = other.streamed = True
        mine.piece(101.0)
        patience = Told().patience(ONE, shared=mine)
        patience._progress.take(Delta(text="a"), 101.0)
        assert patience.seconds == pytest.approx(60 + 120, abs=0.1)
        other.piece(102.0)
        assert patience.seconds == pytest.approx(60.0)
        queue.leave(other, 103.0)
        queue.leave(mine, 103.0)

    asyncio.run(main())


def test_calls_whose_prompts_may_be_read_at_the_same_time_have_the_time_of_all() -> None:
    async def main() -> None:
        queue = ServerQueue()
        visits: list[Visit] = [await queue.enter() for _ in range(3)]
        for visit in visits:
            visit.sent, visit.streamed = 100.0, True
        patience = Told().patience(ONE, shared=visits[0])
        assert patience.silent_at == pytest.approx(100 + 3 * 120, abs=0.2)
        visits[1].streamed = False
        assert patience.silent_at == math.inf, "a whole reply may be written there"
        queue.leave(visits[1], 150.0)
        assert patience.silent_at == pytest.approx(150 + 2 * 120, abs=0.2)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("latencies", "place", "late"),
    [((), MANY, 104.0), ([1.0] * 9, MANY, 101.0), ([1.0] * 9, ONE, 160.0), ([90.0] * 9, ONE, 190.0)],
)
def test_a_call_is_late_by_what_was_measured_where_no_queue_is_in_it(
    latencies: list[float], place: Place, late: float
) -> None:
    assert Told(*latencies).patience(place).late_at == pytest.approx(late)


def test_seconds_that_a_recipe_states_are_taken_at_their_word() -> None:
    policy = Policy(first_token=3.0, between_tokens=2.0, hedge=True, hedge_after=1.5)
    patience = Told(policy=policy).patience(ONE, LONG)
    assert (patience.silent_at, patience.longest_gap, patience.late_at) == (103.0, 2.0, 101.5)
    open_end = Told(policy=Policy(hedge=True)).patience(MANY)
    assert (open_end.silent_at, open_end.longest_gap) == (math.inf, math.inf)
