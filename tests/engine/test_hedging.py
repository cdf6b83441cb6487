"""Whether a second try may be made: room in the rate limits that nobody waits for, and money that the run has left."""

from collections.abc import Callable
from typing import Any

import pytest

from mixtura import ChatRequest, Completion, Layer, ModelCard, Price, Proposer, Recipe
from mixtura.chat import ChatOptions, Message
from mixtura.decisions import NoticedDetail
from mixtura.engine.allowance import Allowance
from mixtura.engine.ask import Ask
from mixtura.engine.calls import worst_cost
from mixtura.engine.context import Run
from mixtura.engine.hedging import has_room, pay
from mixtura.events import Decision, Event
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need, Priority
from mixtura.limits.window import Limits
from mixtura.models.base import Emit
from mixtura.models.served import Accounting, Served
from mixtura.planning.options import RunOptions
from mixtura.recipe import Fallback
from mixtura.tokens import estimate_messages
from mixtura.virtual import run_virtual

SLOT = Proposer(model="slow", provider="own", max_tokens=500, fallbacks=(Fallback(model="other", provider="away"),))
OTHER = SLOT.fallbacks[0]
QUESTION = (Message(role="user", content="Why is the sky blue? " * 100),)
PROMPT = estimate_messages(QUESTION)


class Counted:
    """Models whose calls are counted by one limiter, each with the limits that the test gives it."""

    def __init__(self, **limits: Limits | None) -> None:
        self.limits = limits
        self.keeper = Limiter()

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        raise AssertionError("nothing is sent")

    def accounting(self, model: str) -> Accounting:
        return Accounting(key=f"own/{model}", group="own", limits=self.limits[model], known=True, keeper=self.keeper)

    def find(self, provider: str, model: str) -> Served:
        accounting = self.accounting(model) if model in self.limits else None
        return Served(self, self.card(provider, model), accounting=accounting)

    def card(self, provider: str, model: str) -> ModelCard:
        most = {"slow": 500, "other": 100, "large": 100_000}[model]
        assert provider == ("own" if model == "slow" else "away")
        return ModelCard(id=model, provider=provider, max_output=most, price=Price(input=0.0, output=1e6))

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def ask_of(slot: Proposer = SLOT, **options: Any) -> Ask:
    return Ask("proposer", slot, QUESTION, options=ChatOptions(**options))


def tried(models: Counted, work: Callable[[Run], None]) -> list[Event]:
    """Have `work` done with a run that has begun, and return the events."""
    events: list[Event] = []

    async def main() -> None:
        recipe = Recipe(layers=(Layer(proposers=(SLOT,)),))
        work(Run(recipe, QUESTION, models, events.append, RunOptions()))

    run_virtual(main())
    return events


def room(models: Counted, asked: Fallback | Proposer = SLOT, **options: Any) -> bool:
    found: list[bool] = []
    tried(models, lambda run: found.append(has_room(run, ask_of(**options), asked)))
    return found[0]


def test_where_nothing_is_counted_or_limited_there_is_room() -> None:
    assert room(Counted())
    assert room(Counted(slow=Limits()))


@pytest.mark.parametrize(("left", "fits"), [(1.2, True), (0.98, False)])
def test_a_second_try_has_room_where_its_prompt_and_its_longest_reply_fit_now(left: float, fits: bool) -> None:
    models = Counted(slow=Limits(tpm=10_000))

    def work(run: Run) -> None:
        account = run.account("own", "slow")
        assert account is not None
        account.take(10_000 - int(left * (PROMPT + 500)), run.loop.time())
        assert has_room(run, ask_of(), SLOT) is fits

    tried(models, work)


def test_the_room_is_counted_for_whom_the_second_try_asks() -> None:
    # The other model writes 100 tokens at most, and it has its own limits.
    models = Counted(slow=Limits(tpm=100), other=Limits(tpm=PROMPT * 2 + 250))
    assert not room(models)
    assert room(models, OTHER)
    assert not room(Counted(slow=Limits(tpm=10_000), other=Limits(tpm=PROMPT)), OTHER)


def test_a_callers_limit_makes_the_second_try_smaller() -> None:
    models = Counted(slow=Limits(tpm=int(1.1 * PROMPT) + 200))
    assert not room(models)
    assert room(models, max_tokens=50)


@pytest.mark.parametrize("priority", list(Priority))
@pytest.mark.parametrize("need", [Need("own/slow", 1, 0), Need("own/slow", 0, 1)])
def test_no_second_try_takes_room_that_others_wait_for(priority: Priority, need: Need) -> None:
    models = Counted(slow=Limits(tpm=100_000), other=Limits(tpm=100_000))

    def work(run: Run) -> None:
        assert has_room(run, ask_of(), SLOT)
        ticket = models.keeper.queue.join([need], priority, run.loop.time())
        assert not has_room(run, ask_of(), SLOT)
        assert has_room(run, ask_of(), OTHER), "nobody waits for that one"
        models.keeper.queue.leave(ticket)
        assert has_room(run, ask_of(), SLOT)

    tried(models, work)


@pytest.mark.parametrize("asked", [SLOT, OTHER])
def test_what_a_second_try_costs_at_most_is_set_aside(asked: Fallback | Proposer) -> None:
    most = 500.0 if asked is SLOT else 100.0

    def work(run: Run) -> None:
        assert worst_cost(run, ask_of(), asked) == most
        run.allowance = Allowance(1000.0 + 1.5 * most, 1000.0)
        assert pay(run, ask_of(), asked, racing=True)
        assert not run.allowance.allows(0.6 * most)
        assert run.allowance.allows(0.4 * most)

    assert tried(Counted(), work) == []


def test_a_run_without_a_limit_pays_every_second_try() -> None:
    def work(run: Run) -> None:
        assert pay(run, ask_of(), SLOT, racing=True)

    assert tried(Counted(), work) == []


@pytest.mark.parametrize("racing", [True, False])
def test_a_second_try_that_the_run_cannot_pay_is_said_and_warns_where_it_was_the_last_hope(racing: bool) -> None:
    def work(run: Run) -> None:
        run.allowance = Allowance(750.0, 500.0)
        assert not pay(run, ask_of(), SLOT, racing=racing)

    (said,) = tried(Counted(), work)
    assert isinstance(said, Decision)
    assert said.detail == NoticedDetail()
    assert said.reason == (
        "slow was not asked a second time: that could bring the run past the $750.000000 that it may cost"
    )
    assert said.warning is not racing


def test_an_answer_may_be_longer_than_a_draft_and_needs_the_room() -> None:
    def work(run: Run) -> None:
        slot = Proposer(model="large", provider="away")
        draft, answer = (Ask(role, slot, QUESTION) for role in ("proposer", "aggregator"))
        assert has_room(run, draft, slot)
        assert not has_room(run, answer, slot)

    tried(Counted(large=Limits(tpm=2200)), work)


def test_asking_whether_there_is_room_takes_none() -> None:
    models = Counted(slow=Limits(tpm=10_000))

    def work(run: Run) -> None:
        assert all(has_room(run, ask_of(), SLOT) for _ in range(50))

    tried(models, work)
