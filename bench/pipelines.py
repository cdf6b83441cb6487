"""The same mixture three ways: three proposers at once, one aggregator.

`sdk` is the pipeline of the tutorial, with the official groq SDK and asyncio.gather. `bare` is the least a client
can do: four posts over one pooled aiohttp session, replies decoded into typed structs, no error handling, no
events, no usage. `ours` is `Mixture.ask`.
"""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
from groq import AsyncGroq

from mixtura import Aggregator, Layer, Mixture, Proposer, Recipe

QUESTION = "Explain the tradeoffs between B-tree and LSM-tree indexes for write-heavy workloads."
PROPOSERS = ("llama-3.1-8b-instant", "llama-3.1-8b-instant", "gemma2-9b-it")
AGGREGATOR = "llama-3.3-70b-versatile"
SYSTEM = "You read several drafts and write one answer."

Pipeline = Callable[[], Awaitable[str]]


def prompt(drafts: list[str]) -> str:
    """Return the aggregator's prompt of the two hand-written pipelines."""
    block = "\n\n".join(f"--- Draft {place} ---\n{draft}" for place, draft in enumerate(drafts, 1))
    return f"{QUESTION}\n\n{block}"


def sdk(url: str) -> tuple[Pipeline, Callable[[], Awaitable[None]]]:
    """The tutorial's pipeline and how to close it."""
    client = AsyncGroq(api_key="gsk_bench", base_url=url)

    async def propose(model: str) -> str:
        reply = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], temperature=0.7, max_tokens=1024
        )
        return reply.choices[0].message.content or ""

    async def mixture() -> str:
        drafts = await asyncio.gather(*(propose(model) for model in PROPOSERS))
        reply = await client.chat.completions.create(
            model=AGGREGATOR,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt(drafts)}],
            temperature=0.3,
            max_tokens=1024,
        )
        return reply.choices[0].message.content or ""

    return mixture, client.close


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Reply(msgspec.Struct):
    choices: list[_Choice]


def bare(url: str) -> tuple[Pipeline, Callable[[], Awaitable[None]]]:
    """The least that four posts can cost with this HTTP client."""
    session = aiohttp.ClientSession()
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(_Reply).decode
    headers = {"authorization": "Bearer gsk_bench", "content-type": "application/json"}
    address = f"{url}/openai/v1/chat/completions"

    async def post(model: str, messages: list[dict[str, str]], temperature: float) -> str:
        body = encode({"model": model, "messages": messages, "temperature": temperature, "max_tokens": 1024})
        async with session.post(address, data=body, headers=headers) as response:
            return decode(await response.read()).choices[0].message.content

    async def mixture() -> str:
        question = [{"role": "user", "content": QUESTION}]
        drafts = await asyncio.gather(*(post(model, question, 0.7) for model in PROPOSERS))
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt(drafts)}]
        return await post(AGGREGATOR, messages, 0.3)

    return mixture, session.close


def ours(url: str) -> tuple[Pipeline, Callable[[], Awaitable[None]]]:
    """Mixtura's library, events folded into an Answer."""
    recipe = Recipe(
        layers=(Layer(proposers=tuple(Proposer(model=m, temperature=0.7, max_tokens=1024) for m in PROPOSERS)),),
        aggregator=Aggregator(model=AGGREGATOR, temperature=0.3, max_tokens=1024),
    )
    mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_bench", "GROQ_BASE_URL": url})

    async def ask() -> str:
        return (await mixture.ask(QUESTION)).text

    async def close() -> None:
        """Nothing to close: connections end with the event loop."""

    return ask, close


PIPELINES = {"groq SDK + gather": sdk, "bare aiohttp": bare, "Mixtura": ours}
