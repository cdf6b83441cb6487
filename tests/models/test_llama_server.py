"""A mixture asked of a real server: llama.cpp's own, over HTTP, with the toy models of the package."""

import asyncio
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mixtura import ChatOptions, Mixture, Recipe
from mixtura.engine.answers import extract
from mixtura.errors import NoAnswerError
from mixtura.events import CallDelta, CallFinished
from mixtura.recipe import Aggregator, Layer, Proposer
from servers import llama_server

pytestmark = pytest.mark.models

FILES = Path(str(files("mixtura.models.toy"))) / "files"
QUESTION = "Ada has 125 apples. Then she buys 317 more. How many apples does Ada have now?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with llama_server(FILES / "toy-dense.gguf") as running:
        yield running


def recipe(url: str, kind: str = "vote", **given: Any) -> Recipe:
    at: dict[str, Any] = {"provider": url, "model": "toy-dense", "max_tokens": 60, **given}
    aggregator = Aggregator(kind="vote") if kind == "vote" else Aggregator(kind="synthesize", **at)
    return Recipe(name="served", layers=(Layer(proposers=(Proposer(**at, samples=3),)),), aggregator=aggregator)


async def busy(url: str) -> list[bool]:
    """Return for each slot of the server whether it is writing."""
    async with aiohttp.ClientSession() as session, session.get(f"{url.removesuffix('/v1')}/slots") as reply:
        return [slot["is_processing"] for slot in await reply.json()]


async def test_three_drafts_of_a_real_server_are_counted(url: str) -> None:
    answer = await Mixture(recipe(url, temperature=0.0), env={}).ask(QUESTION)
    assert answer.status == "ok"
    assert answer.text.endswith("Answer: 442")
    assert [extract(draft.text) for draft in answer.drafts] == ["442"] * 3
    assert not answer.usage.estimated
    assert all(draft.usage.prompt_tokens > 20 and draft.usage.completion_tokens > 10 for draft in answer.drafts)
    assert answer.usage.total_tokens == sum(draft.usage.total_tokens for draft in answer.drafts)
    assert answer.unpriced


async def test_what_is_streamed_is_the_answer_and_the_usage_is_the_servers(url: str) -> None:
    events = [event async for event in Mixture(recipe(url), env={}).stream(QUESTION, watch="calls")]
    finished = [event.done for event in events if isinstance(event, CallFinished)]
    assert len(finished) == 3
    for done in finished:
        pieces = [event.text for event in events if isinstance(event, CallDelta) and event.call == done.call]
        assert len(pieces) > 5
        assert "".join(pieces) == done.text
        assert not done.usage.estimated


async def test_a_prompt_beyond_the_servers_context_is_said_to_be_too_large(url: str) -> None:
    with pytest.raises(NoAnswerError, match="exceeds the available context size") as caught:
        await Mixture(recipe(url), env={}).ask(f"{QUESTION} " * 60)
    answer = caught.value.answer
    assert answer is not None
    assert {failure.kind for failure in answer.failures} == {"too_large"}


async def test_a_run_that_is_left_leaves_no_slot_busy(url: str) -> None:
    alone = Layer(proposers=(Proposer(provider=url, model="toy-dense", max_tokens=400),))
    endless = ChatOptions(extra={"ignore_eos": True})
    mixture = Mixture(Recipe(name="alone", layers=(alone,)), env={})
    asking = asyncio.create_task(mixture.ask(QUESTION, options=endless))
    async with asyncio.timeout(20):
        while not any(await busy(url)):
            assert not asking.done()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while any(await busy(url)):  # noqa: ASYNC110  # it is another process that changes what is waited for
            await asyncio.sleep(0.01)
