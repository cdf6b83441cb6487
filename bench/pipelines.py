"""The same mixture several ways, whole replies: three proposers at once, one aggregator.

`sdk` is the pipeline of the tutorial, with the official groq SDK and asyncio.gather. `bare` is the least a client
can do: four posts over one pooled aiohttp session, replies decoded into typed structs, no error handling, no
events, no usage. `ours` is `Mixture.ask`, of a plain recipe and of those in the package.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import aiohttp
import msgspec
from groq import AsyncGroq

from mixtura import Aggregator, Layer, Mixture, Proposer, Recipe

QUESTION = "Explain the tradeoffs between B-tree and LSM-tree indexes for write-heavy workloads."
PROPOSERS = ("llama-3.1-8b-instant", "llama-3.1-8b-instant", "gemma2-9b-it")
AGGREGATOR = "llama-3.3-70b-versatile"
SYSTEM = "You read several drafts and write one answer."
KEY = "gsk_bench"

# A pipeline asks the question once and returns the answer; it is made for the server's base URL, in the event loop
# that it is asked in.
Ask = Callable[[], Awaitable[str]]
MakePipeline = Callable[[str], AbstractAsyncContextManager[Ask]]


def prompt(drafts: list[str]) -> str:
    """Return the aggregator's prompt of the hand-written pipelines."""
    block = "\n\n".join(f"--- Draft {place} ---\n{draft}" for place, draft in enumerate(drafts, 1))
    return f"{QUESTION}\n\n{block}"


@contextlib.asynccontextmanager
async def sdk(url: str) -> AsyncGenerator[Ask, None]:
    """Make the tutorial's pipeline."""
    async with AsyncGroq(api_key=KEY, base_url=url) as client:

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

        yield mixture


class Said(msgspec.Struct):
    """The message of a whole reply, or the delta of a chunk."""

    content: str | None = None


class _Choice(msgspec.Struct):
    message: Said


class Reply(msgspec.Struct):
    """As much of a whole reply as a hand-written pipeline reads."""

    choices: list[_Choice]


class BareClient:
    """The least that a client on aiohttp does: requests encoded and replies decoded by msgspec, over one session."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._address = f"{url}/openai/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Reply).decode

    def post(
        self, model: str, messages: list[dict[str, str]], temperature: float, **more: bool
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request; use the reply in `async with`."""
        asked = {"model": model, "messages": messages, "temperature": temperature, "max_tokens": 1024, **more}
        return self._session.post(self._address, data=self._encode(asked), headers=self._headers)

    async def draft(self, model: str) -> str:
        """Return a proposer's whole reply."""
        async with self.post(model, [{"role": "user", "content": QUESTION}], 0.7) as response:
            return self._decode(await response.read()).choices[0].message.content or ""

    async def drafts(self) -> list[str]:
        """Ask all proposers at once."""
        return await asyncio.gather(*(self.draft(model) for model in PROPOSERS))

    async def compose(self, drafts: list[str]) -> str:
        """Return the aggregator's whole reply."""
        async with self.post(AGGREGATOR, compose_messages(drafts), 0.3) as response:
            return self._decode(await response.read()).choices[0].message.content or ""


def compose_messages(drafts: list[str]) -> list[dict[str, str]]:
    """Return what a hand-written pipeline sends its aggregator."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt(drafts)}]


@contextlib.asynccontextmanager
async def bare(url: str) -> AsyncIterator[Ask]:
    """Make the least that four posts can cost with this HTTP client."""
    async with aiohttp.ClientSession() as session:
        client = BareClient(session, url)

        async def mixture() -> str:
            return await client.compose(await client.drafts())

        yield mixture


PLAIN = Recipe(
    layers=(Layer(proposers=tuple(Proposer(model=m, temperature=0.7, max_tokens=1024) for m in PROPOSERS)),),
    aggregator=Aggregator(model=AGGREGATOR, temperature=0.3, max_tokens=1024),
)


def mixture_of(recipe: Recipe | str, url: str) -> Mixture:
    """Return a Mixture that asks the server at `url` and reads nothing else of the environment."""
    return Mixture(recipe, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": url})


def ours(recipe: Recipe | str = PLAIN) -> MakePipeline:
    """Return Mixtura's library as a pipeline that nobody watches: events folded into an Answer."""

    @contextlib.asynccontextmanager
    async def make(url: str) -> AsyncIterator[Ask]:
        mixture = mixture_of(recipe, url)

        async def ask() -> str:
            return (await mixture.ask(QUESTION)).text

        # Nothing to close: connections end with the event loop.
        yield ask

    return make
