"""Shared by the measurements: a simulated cloud, the tutorial's pipeline on the SDK, and the rows of the table."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from groq import AsyncGroq

from mixtura import Aggregator, Layer, Mixture, Proposer, Recipe
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.sim.replies import filler
from mixtura.virtual import run_virtual

SMALL, OTHER, LARGE = "llama-3.1-8b-instant", "gemma2-9b-it", "llama-3.3-70b-versatile"
TRIO = (SMALL, SMALL, OTHER)
KEY = "gsk_simulated"
# The limits count five tokens more than the text has, so this question counts as 200 tokens.
QUESTION = filler(195, random.Random("question"))
DRAFT_TOKENS = 400


class ClaimRow(NamedTuple):
    """One row of the table."""

    claim: str
    measured: str
    verdict: str


def measure_virtually(one: Callable[[], Coroutine[Any, Any, ClaimRow]]) -> ClaimRow:
    """Run one measurement in virtual time.

    The SDK jitters its retries with the global random generator. It is seeded here, so the figures are reproducible.
    """
    random.seed(0)
    return run_virtual(one())


def textbook_recipe(proposers: Sequence[str] = TRIO) -> Recipe:
    """Return the tutorial's recipe with the given proposers. The default equals the built-in `classic`."""
    slots = tuple(Proposer(model=model, temperature=0.7, max_tokens=1024) for model in proposers)
    return Recipe(
        name="textbook",
        layers=(Layer(proposers=slots),),
        aggregator=Aggregator(model=LARGE, temperature=0.3, max_tokens=1024),
    )


@asynccontextmanager
async def mixture_on_cloud(recipe: str | Recipe, options: SimOptions) -> AsyncIterator[tuple[Mixture, SimulatedCloud]]:
    """Yield a mixture and the simulated cloud that answers its calls."""
    async with simulated_cloud(options) as cloud:
        yield Mixture(recipe, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}), cloud


Measurement = Callable[[], Coroutine[Any, Any, ClaimRow]]


class GatherPipeline:
    """The tutorial's pipeline: the official SDK, its own retries, `asyncio.gather`."""

    def __init__(self, url: str, proposers: Sequence[str] = TRIO) -> None:
        self._client = AsyncGroq(api_key=KEY, base_url=url)
        self._proposers = tuple(proposers)

    async def ask(self) -> str:
        """Return the aggregator's text. An SDK error of any call is raised."""
        drafts = await asyncio.gather(*(self._call(model, QUESTION, 0.7) for model in self._proposers))
        block = "\n\n".join(f"--- Draft {place} ---\n{draft}" for place, draft in enumerate(drafts, 1))
        return await self._call(LARGE, f"{QUESTION}\n\n{block}", 0.3)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(self, model: str, text: str, temperature: float) -> str:
        reply = await self._client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], temperature=temperature, max_tokens=1024
        )
        return reply.choices[0].message.content or ""
