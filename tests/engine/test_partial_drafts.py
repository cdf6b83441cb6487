"""What a stopped call had written, as a draft: how much it takes, what it is billed, how long it took."""

import asyncio

import pytest

from mixtura import (
    Aggregator,
    ChatOptions,
    ChatRequest,
    Completion,
    Delta,
    Draft,
    Layer,
    MixturaError,
    Mixture,
    ModelCard,
    ModelError,
    Policy,
    Price,
    Proposer,
    Recipe,
    Usage,
)
from mixtura.decisions import CutDetail
from mixtura.errors import OverloadedError
from mixtura.events import Answer
from mixtura.limits.limiter import Limiter
from mixtura.models.base import Emit
from mixtura.models.served import Accounting, Served
from mixtura.virtual import run_virtual

PRICE = Price(input=0.0, output=1_000_000.0)  # a dollar a token that is written


class Stalls:
    """The model "whole" answers at once; the others write `text` in pieces, one a second, and then nothing more."""

    def __init__(self, text: str, pieces: int) -> None:
        self.text = text
        self.pieces = pieces

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        if request.model == "whole":
            return Completion(model="whole", text="A whole draft.", usage=Usage(completion_tokens=3), cost=3.0)
        size = -(-len(self.text) // self.pieces)
        for start in range(0, len(self.text), size):
            await asyncio.sleep(1.0)
            if emit is not None:
                emit(Delta(self.text[start : start + size], reasoning="Hm. "))
        await asyncio.Event().wait()
        raise AssertionError

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        assert provider == "own"
        return ModelCard(id=model, provider=provider, price=PRICE if model == "stalls" else Price(input=1, output=1))

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def asked(text: str, *, pieces: int = 4) -> Answer:
    """Ask two models, one of which stalls, and wait nine seconds for it."""
    slots = (Proposer(model="whole", provider="own"), Proposer(model="stalls", provider="own", weight=2.5))
    told = Recipe(
        layers=(Layer(proposers=slots),),
        aggregator=Aggregator(kind="vote"),
        policy=Policy(quorum=1, grace=9.0, deadline=60.0),
    )
    return run_virtual(Mixture(told, models=Stalls(text, pieces)).ask("Why?"))


def partial_of(answer: Answer) -> Draft:
    (partial,) = [draft for draft in answer.drafts if draft.incomplete]
    return partial


def test_a_partial_draft_says_who_wrote_what_and_how_it_ended() -> None:
    partial = partial_of(asked("word " * 20))
    assert partial.text == "word " * 20
    assert partial.reasoning == "Hm. " * 4
    assert (partial.model, partial.answered_by, partial.provider, partial.weight) == ("stalls", "stalls", "own", 2.5)
    assert (partial.finish_reason, partial.choice) == ("unknown", "")
    assert partial.timing.total == pytest.approx(9.0)


def test_a_partial_draft_is_billed_by_the_price_of_its_model_for_the_pieces_that_came() -> None:
    answer = asked("word " * 20)
    partial = partial_of(answer)
    assert (partial.usage.completion_tokens, partial.usage.estimated) == (4, True)
    assert partial.cost == pytest.approx(4.0)
    assert answer.cost == pytest.approx(4.0 + 3.0)


@pytest.mark.parametrize(("size", "kept"), [(79, False), (80, True)])
def test_fewer_than_eighty_characters_are_no_draft(size: int, kept: bool) -> None:
    text = "x" * size
    assert bool([draft for draft in asked(f"  {text}\n").drafts if draft.incomplete]) is kept


class Silent:
    """Says nothing at all, or raises `error`; its account has seen calls of ten tokens a second, after one second."""

    def __init__(self, error: ModelError | None = None) -> None:
        self.error = error
        self.accounting = Accounting(key="own/m", group="own", keeper=Limiter())
        for _ in range(9):
            self.accounting.account(self.accounting.limiter()).latency.add(11.0, 1.0, 101)

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        assert request.context is not None
        await asyncio.sleep(2.0)  # it waits its turn
        request.context.begin(asyncio.get_running_loop().time())
        if self.error is not None:
            await asyncio.sleep(5.0)
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model), accounting=self.accounting)

    def card(self, provider: str, model: str) -> ModelCard:
        assert provider == "own"
        return ModelCard(id=model, provider=provider, price=Price(input=0.0, output=1_000_000.0))

    def replacement(self, provider: str, model: str) -> str | None:
        return None


@pytest.mark.parametrize(("seconds", "most", "tokens"), [(8.0, 500, 50), (2.5, 500, 0), (60.0, 200, 200)])
def test_a_call_that_was_not_streamed_is_billed_for_the_time_it_had_to_write(
    seconds: float, most: int, tokens: int
) -> None:
    slot = Proposer(model="m", provider="own", max_tokens=most)
    told = Recipe(layers=(Layer(proposers=(slot,)),), policy=Policy(deadline=seconds))
    with pytest.raises(MixturaError) as caught:
        run_virtual(Mixture(told, models=Silent()).ask("Why?"))
    answer = caught.value.answer
    assert answer is not None
    (lost,) = answer.failures
    assert lost.usage is not None
    assert lost.usage.estimated
    # Two seconds in the queue and one to the first token leave the rest for ten tokens a second.
    assert lost.usage.completion_tokens == tokens
    assert lost.cost == pytest.approx(float(tokens))


@pytest.mark.parametrize("usage", [None, Usage(completion_tokens=7)])
def test_a_call_that_failed_is_billed_for_what_its_error_says_and_for_nothing_else(usage: Usage | None) -> None:
    error = OverloadedError("own", "m", "over capacity")
    error.usage = usage
    told = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider="own"),)),), policy=Policy(deadline=60.0))
    with pytest.raises(MixturaError) as caught:
        run_virtual(Mixture(told, models=Silent(error)).ask("Why?"))
    assert caught.value.answer is not None
    (lost,) = caught.value.answer.failures
    assert lost.usage == usage
    assert lost.cost == (None if usage is None else pytest.approx(7.0))


def test_one_answer_that_stalls_is_used_with_a_warning() -> None:
    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="stalls", provider="own"),)),),
        policy=Policy(deadline=60.0, between_tokens=5.0, hedge=False),
    )
    answer = run_virtual(Mixture(told, models=Stalls("word " * 20, 4)).ask("Why?"))
    (cut,) = [said for said in answer.decisions if said.detail == CutDetail(call=0)]
    assert cut.reason.endswith("the answer is what it had written")
    assert cut.warning
    assert answer.text == "word " * 20


def test_a_call_that_was_not_streamed_is_billed_for_no_more_than_its_caller_allowed() -> None:
    told = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider="own"),)),), policy=Policy(deadline=60.0))
    with pytest.raises(MixturaError) as caught:
        run_virtual(Mixture(told, models=Silent()).ask("Why?", options=ChatOptions(max_tokens=70)))
    assert caught.value.answer is not None
    assert [lost.cost for lost in caught.value.answer.failures] == [pytest.approx(70.0)]
