"""What a provider says that a call cost, on its way to the answer and into the budget."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mixtura import Aggregator, Answer, Layer, Mixture, Price, Proposer, Recipe, fold
from mixtura.chat import Completion, Usage
from mixtura.engine.allowance import Allowance, CallTab
from mixtura.limits.budget.base import DailyBudget, DailySpending
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.models.openai.pool import close_pool
from mixtura.models.registry import ModelRegistry
from mixtura.models.wrappers.priced import Priced
from mixtura.terminal import summary
from networks import answer, listening, read_request
from scripted import REQUEST, Scripted

USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}


@asynccontextmanager
async def charging(*headers: str, **said: object) -> AsyncGenerator[str]:
    """Serve an answer of 1,500 tokens whose usage says more."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]
    body = json.dumps({"id": "c", "model": "m", "choices": choices, "usage": {**USAGE, **said}})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer("200 OK", body, "application/json", *headers))

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/v1"
    await close_pool()


async def ask(url: str, *, price: Price | None = None, **more: Any) -> Answer:
    rows = [] if price is None else [CatalogModel(id="m", provider="openrouter", price=price)]
    models = ModelRegistry(Catalog.load().extended(rows), env={"OPENROUTER_BASE_URL": url, "OPENROUTER_API_KEY": "k"})
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider="openrouter"),)),))
    return await Mixture(recipe, models=models, **more).ask("Hello?")


async def test_what_was_charged_is_the_cost_where_no_price_is_known() -> None:
    async with charging(cost=0.03) as url:
        found = await ask(url)
    assert (found.cost, found.charged, found.estimate, found.unpriced) == (0.03, 0.03, None, [])
    assert summary(found).endswith("$0.030000 charged")


async def test_what_was_charged_is_the_cost_and_the_price_an_estimate_beside_it() -> None:
    async with charging(cost=0.03) as url:
        found = await ask(url, price=Price(input=2.0, output=4.0))
    assert (found.cost, found.charged) == (0.03, 0.03)
    assert found.estimate == pytest.approx(0.004)
    draft = found.calls[0] if found.calls else found.drafts[0]
    assert summary(found, 200).endswith("$0.030000 charged (estimated $0.004000)")
    assert (draft.cost, draft.charged) == (0.03, 0.03)
    assert draft.estimate == pytest.approx(0.004)


async def test_a_charge_of_nothing_is_not_believed_where_there_is_a_price() -> None:
    async with charging(cost=0) as url:
        found = await ask(url, price=Price(input=2.0, output=4.0))
        free = await ask(url)
    assert found.cost == pytest.approx(0.004)
    assert found.charged == 0.0
    assert (free.cost, free.charged, free.unpriced) == (0.0, 0.0, [])


@pytest.mark.parametrize("said", [-1, 1e6, "nan", True, [1]])
async def test_a_charge_that_cannot_be_leaves_the_price(said: object) -> None:
    async with charging(cost=said) as url:
        found = await ask(url, price=Price(input=2.0, output=4.0))
    assert found.cost == pytest.approx(0.004)
    assert (found.charged, found.estimate) == (None, None)


@pytest.mark.parametrize(("header", "dollars"), [("0.03", 0.03), ("0.0", None), ("-1", None), ("None", None)])
async def test_a_header_may_say_what_was_charged(header: str, dollars: float | None) -> None:
    async with charging(f"x-litellm-response-cost: {header}") as url:
        found = await ask(url)
    assert (found.cost, found.charged) == (dollars, dollars)
    async with charging(f"x-litellm-response-cost: {header}", cost=0.05) as url:
        assert (await ask(url)).cost == 0.05


async def test_the_daily_budget_settles_with_what_was_charged() -> None:
    class Books(DailyBudget):
        allowed = 1.0
        settled: float | None = None

        async def today(self) -> DailySpending:
            return DailySpending(day="2026-11-27", allowed=1.0, spent=0.0, reserved=0.0, seconds_left=60.0)

        async def reserve(self, run: str, dollars: float) -> None:
            pass

        async def settle(self, run: str, dollars: float) -> None:
            self.settled = dollars

        async def close(self) -> None:
            pass

    books = Books()
    async with charging(cost=0.03) as url:
        await ask(url, price=Price(input=2.0, output=4.0), budget=books)
    assert books.settled == 0.03


def test_what_a_call_was_charged_is_what_its_run_has_left() -> None:
    allowance = Allowance(1.0, 0.5)
    tab = CallTab(allowance, 0.5, lambda _: 0.1, lambda: 0.5, lambda _: None)
    tab.close(Usage(), 0.4)
    assert allowance.allows(0.6)
    assert not allowance.allows(0.61)


async def test_attempts_that_failed_come_on_top_of_what_was_charged() -> None:
    reply = Completion(
        model="m", text="x", usage=Usage(prompt_tokens=1), cost=0.5, charged=0.5, wasted=Usage(prompt_tokens=10)
    )
    done = await Priced(Scripted(reply, takes=0.0), Price(input=1.0, output=2.0)).chat(REQUEST)
    assert done.cost == pytest.approx(0.5 + 10e-6)
    assert done.estimate == pytest.approx(11e-6)


async def test_an_answer_of_both_adds_each_up() -> None:
    async with charging(cost=0.03) as charged, charging() as silent:
        env = {"OPENROUTER_BASE_URL": charged, "OPENROUTER_API_KEY": "k", "TOGETHER_BASE_URL": silent}
        rows = [CatalogModel(id="m", provider=name, price=Price(input=2.0, output=4.0)) for name in ("together",)]
        models = ModelRegistry(Catalog.load().extended(rows), env={**env, "TOGETHER_API_KEY": "k"})
        proposers = tuple(Proposer(model="m", provider=name) for name in ("openrouter", "together"))
        recipe = Recipe(layers=(Layer(proposers=proposers),), aggregator=Aggregator(kind="vote"))
        mixture = Mixture(recipe, models=models)
        async with mixture.stream("Hello?") as run:
            found = fold([event async for event in run])
    assert found.cost == pytest.approx(0.034)
    assert found.charged == 0.03
    assert found.estimate == pytest.approx(0.004)
    assert "$0.030000 of it charged" in summary(found, 200)
