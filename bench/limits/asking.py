"""What the tables share: the SDK's pipeline for any question, questions and answers that were recorded, spreads."""

import asyncio
import datetime as dt
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
from groq import AsyncGroq

from bench.pipelines import AGGREGATOR, PROPOSERS, SYSTEM
from mixtura.models.catalog import Catalog
from mixtura.models.recorded import RecordedQuestion, RecordingIndex
from mixtura.sim import SimOptions
from mixtura.sim.replies import filler

KEY = "gsk_bench"
RECORDINGS = Path(__file__).resolve().parents[2] / "../shared/data/recordings/gsm8k-dev.jsonl.gz"
TODAY = Catalog.load().models("groq")[0].checked or dt.date(2026, 11, 21)
# Recorded drafts and answers to these questions have 100 to 250 tokens.
USUAL_REPLY = 170


class GatherPipeline:
    """bench/pipelines.py's `sdk` for any question and models: AsyncGroq as it comes (2 retries), asyncio.gather."""

    def __init__(self, url: str, proposers: Sequence[str] = PROPOSERS, aggregator: str = AGGREGATOR) -> None:
        self._client = AsyncGroq(api_key=KEY, base_url=url)
        self._proposers = tuple(proposers)
        self._aggregator = aggregator

    async def ask(self, question: str) -> str:
        """Return the aggregator's text; raises what the SDK raises for any of the calls."""
        drafts = await asyncio.gather(*(self._propose(model, question) for model in self._proposers))
        block = "\n\n".join(f"--- Draft {place} ---\n{draft}" for place, draft in enumerate(drafts, 1))
        reply = await self._client.chat.completions.create(
            model=self._aggregator,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{question}\n\n{block}"}],
            temperature=0.3,
            max_tokens=1024,
        )
        return reply.choices[0].message.content or ""

    async def _propose(self, model: str, question: str) -> str:
        reply = await self._client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0.7, max_tokens=1024
        )
        return reply.choices[0].message.content or ""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def recorded_questions(count: int) -> list[RecordedQuestion]:
    """Return the first `count` recorded questions that the recipe's models answered; none without the recordings."""
    if not RECORDINGS.is_file():
        return []
    found = RecordingIndex.load(RECORDINGS)
    needed = {found.name_of(model) for model in (*PROPOSERS, AGGREGATOR)}
    return [row for row in found.rows if needed <= row.outputs.keys()][:count]


def questions(count: int) -> list[str]:
    """Return `count` different questions: recorded ones, or words without meaning where there are none."""
    real = [row.prompt or row.question for row in recorded_questions(count)]
    return real + [filler(180, random.Random(f"question {place}")) for place in range(len(real), count)]


def answering_options(options: SimOptions) -> SimOptions:
    """Return options of a cloud that answers from the recordings, else with text of the usual length."""
    files = (str(RECORDINGS),) if RECORDINGS.is_file() else ()
    return msgspec.structs.replace(options, recordings=files, tokens=USUAL_REPLY)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
