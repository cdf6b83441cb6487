"""What the tables share: the SDK's pipeline for any question, questions with answers, spreads."""

import asyncio
import datetime as dt
import functools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
from groq import AsyncGroq

from bench.pipelines import AGGREGATOR, PROPOSERS, SYSTEM
from bench.word_problems import answered
from mixtura.chat import JsonObject
from mixtura.models.catalog import Catalog
from mixtura.models.recorded import RecordedQuestion, RecordingIndex
from mixtura.sim import SimOptions
from mixtura.sim.replies import filler, last_user_text

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


def are_recorded() -> bool:
    """Say whether questions and answers are recorded ones; else they are word problems of our own."""
    return RECORDINGS.is_file()


@functools.cache
def _recordings(path: Path | None) -> RecordingIndex:
    return RecordingIndex(answered()) if path is None else RecordingIndex.load(path)


def _all_recordings() -> RecordingIndex:
    return _recordings(RECORDINGS if are_recorded() else None)


def answered_questions(count: int) -> list[RecordedQuestion]:
    """Return the first `count` questions with an answer of each of the recipe's models."""
    found = _all_recordings()
    needed = {found.name_of(model) for model in (*PROPOSERS, AGGREGATOR)}
    return [row for row in found.rows if needed <= row.outputs.keys()][:count]


def questions(count: int) -> list[str]:
    """Return `count` different questions: those with answers, then words without meaning."""
    real = [row.prompt or row.question for row in answered_questions(count)]
    return real + [filler(180, random.Random(f"question {place}")) for place in range(len(real), count)]


def answering_options(options: SimOptions) -> SimOptions:
    """Return options of a cloud that gives the answers of the questions, else text of the usual length."""
    found = _all_recordings()

    def reply(request: JsonObject, _call: int) -> str | None:
        return found.output(request["model"], last_user_text(request))

    return msgspec.structs.replace(options, reply=reply, tokens=USUAL_REPLY)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
