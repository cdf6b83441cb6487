"""Times, costs and memory of mixtures, in the simulated cloud with its fitted `lpu` profile."""

import asyncio
import csv
import gzip
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import groq

from bench import server
from bench.tutorial.asking import (
    DRAFT_TOKENS,
    KEY,
    LARGE,
    QUESTION,
    SMALL,
    TRIO,
    ClaimRow,
    Measurement,
    measure_virtually,
    mixture_on_cloud,
    textbook_recipe,
)
from mixtura import Answer, Layer, Mixture, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.events import AnswerDelta, CallDelta
from mixtura.sim import SimOptions
from mixtura.sim.replies import filler

ROUNDS = 150
SHORT_DRAFT, SHORT_ANSWER = 120, 170
GPUS = Path(__file__).resolve().parents[2] / "../shared/data/hardware/gpu_serving_dev.csv.gz"


def _alone(model: str) -> Recipe:
    return Recipe(layers=(Layer(proposers=(Proposer(model=model, max_tokens=1024),)),))


def _short_reply(request: JsonObject, call: int) -> str:
    return filler(SHORT_ANSWER if request["model"] == LARGE else SHORT_DRAFT, random.Random(call))


def _lpu(*, short: bool = False) -> SimOptions:
    return SimOptions(profile="lpu", unlimited=True, tokens=DRAFT_TOKENS, reply=_short_reply if short else None)


async def _answers(recipe: Recipe, options: SimOptions) -> list[Answer]:
    async with mixture_on_cloud(recipe, options) as (mixture, _):
        return [await mixture.ask(QUESTION, seed=round_) for round_ in range(ROUNDS)]


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} s (90 % under {statistics.quantiles(seconds, n=10)[-1]:.2f} s)"


def _drafting_time(answer: Answer) -> float:
    return max(draft.timing.total for draft in answer.drafts)


async def _first_token() -> ClaimRow:
    seconds = []
    async with mixture_on_cloud(_alone(SMALL), _lpu()) as (mixture, _):
        for _round in range(ROUNDS):
            async with mixture.stream(QUESTION) as events:
                async for event in events:
                    if isinstance(event, AnswerDelta):
                        seconds.append(event.at)
                        break
    return ClaimRow(
        "8B: about 150 ms to the first token", f"{_spread(seconds)}, without the network", "the right order"
    )


async def _parallel() -> ClaimRow:
    one = [answer.seconds for answer in await _answers(_alone(SMALL), _lpu())]
    three = [_drafting_time(answer) for answer in await _answers(textbook_recipe([SMALL] * 3), _lpu())]
    ratio = statistics.median(three) / statistics.median(one)
    return ClaimRow(
        "three proposers take as long as one",
        f"one {_spread(one)}, the slowest of three {_spread(three)}: x{ratio:.2f}, since each call queues by itself",
        "nearly",
    )


async def _times(*, short: bool) -> ClaimRow:
    answers = await _answers(textbook_recipe(), _lpu(short=short))
    drafting = [_drafting_time(answer) for answer in answers]
    writing = [answer.calls[-1].timing.total for answer in answers]
    total = [answer.seconds for answer in answers]
    under = sum(seconds < (1.5 if short else 2.0) for seconds in total) / len(total)
    if short:
        claim = "420 ms + 760 ms; under 1.5 s is normal"
        sizes, limit = f"{SHORT_DRAFT}-token drafts and a {SHORT_ANSWER}-token answer", "1.5 s"
    else:
        claim, sizes, limit = "under two seconds", "400-token drafts and answer, as in its FAQ", "2 s"
    return ClaimRow(
        claim,
        f"with {sizes}: drafts {_spread(drafting)}, aggregator {_spread(writing)}, in all {_spread(total)}; "
        f"{under:.0%} of them under {limit}",
        "about every other time" if short else "not with its own lengths",
    )


async def _short_times() -> ClaimRow:
    return await _times(short=True)


async def _long_times() -> ClaimRow:
    return await _times(short=False)


async def _against_one() -> ClaimRow:
    mixtures, alone = await _answers(textbook_recipe(), _lpu()), await _answers(_alone(LARGE), _lpu())
    tokens = [statistics.mean(answer.usage.total_tokens for answer in group) for group in (mixtures, alone)]
    dollars = [statistics.mean(answer.cost or 0.0 for answer in group) for group in (mixtures, alone)]
    seconds = [statistics.median(answer.seconds for answer in group) for group in (mixtures, alone)]
    return ClaimRow(
        "against the 70B alone: 3-4x the tokens, 1.0-1.5 s against 0.4-0.7 s",
        f"x{tokens[0] / tokens[1]:.1f} the tokens, x{dollars[0] / dollars[1]:.1f} the dollars "
        f"(${dollars[0]:.5f} against ${dollars[1]:.5f}), {seconds[0]:.2f} s against {seconds[1]:.2f} s",
        "dearer than said",
    )


async def _tokens() -> ClaimRow:
    (answer, *_) = await _answers(textbook_recipe(), SimOptions(unlimited=True, tokens=DRAFT_TOKENS))
    return ClaimRow(
        "200-token question, 400-token drafts: 3,000-3,500 tokens",
        f"by its own numbers 3 x 200 + 3 x 400 + (200 + 1,200 + about 120) + 400 = 3,720; counted "
        f"{answer.usage.total_tokens:,} ({answer.usage.prompt_tokens:,} in, {answer.usage.completion_tokens:,} out)",
        "too low",
    )


async def _measure_streaming() -> ClaimRow:
    shown, begun, total = [], [], []
    async with mixture_on_cloud(textbook_recipe(), _lpu()) as (mixture, _):
        for round_ in range(ROUNDS // 4):
            first: dict[type, float] = {}
            async with mixture.stream(QUESTION, seed=round_) as events:
                async for event in events:
                    first.setdefault(type(event), event.at)
                    last = event.at
            shown.append(first[CallDelta])
            begun.append(first[AnswerDelta])
            total.append(last)
    medians = [statistics.median(seconds) for seconds in (shown, begun, total)]
    return ClaimRow(
        "streaming UX is not possible",
        f"first words of a draft after {medians[0]:.2f} s, of the answer after {medians[1]:.2f} s, "
        f"all of it after {medians[2]:.2f} s",
        "does not hold",
    )


VIRTUAL: tuple[Measurement, ...] = (
    _first_token,
    _parallel,
    _short_times,
    _long_times,
    _measure_streaming,
    _tokens,
    _against_one,
)
"""Each measurement returns one row and needs a virtual clock of its own."""


async def synchronous() -> ClaimRow:
    """Ask through a synchronous client, in real time."""
    call = 0.3
    async with mixture_on_cloud(textbook_recipe(), SimOptions(profile=f"fixed:{call}", unlimited=True)) as (_, cloud):
        client = groq.Groq(api_key=KEY, base_url=cloud.url)
        mixture = Mixture(textbook_recipe(), client=client)
        answer = await asyncio.to_thread(mixture.ask_sync, QUESTION)
        client.close()
    whole = answer.seconds / call
    return ClaimRow(
        "synchronous calls lose the parallelism",
        f"Mixtura with the SDK's synchronous client: {whole:.1f} times one call for 3 + 1 calls "
        f"({len(TRIO) + 1}.0 one after the other)",
        "not here",
    )


_CHILD = """
import asyncio, os, sys
{}
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
_OURS = "import mixtura; assert mixtura.ask('Why?', 'classic').text"
_SDK = """
from bench.pipelines import sdk
async def main():
    async with sdk(os.environ["GROQ_BASE_URL"]) as ask:
        assert await ask()
asyncio.run(main())
"""


def memory() -> ClaimRow | None:
    """Measure the peak memory of a process that asks once. Returns None if the system does not report it."""
    if not Path("/proc/self/status").is_file():
        return None
    with server.running() as url:
        env = {**os.environ, "GROQ_BASE_URL": url, "GROQ_API_KEY": KEY}

        def peak(code: str) -> int:
            command = [sys.executable, "-c", _CHILD.format(code)]
            return int(subprocess.run(command, env=env, check=True, capture_output=True).stdout) // 1024

        ours, sdk = peak(_OURS), peak(_SDK)
    return ClaimRow(
        "the client needs under 100 MB",
        f"peak of one process that asks once: Mixtura {ours} MB, the groq SDK {sdk} MB",
        "holds",
    )


def gpus() -> ClaimRow | None:
    """Compare the recorded times per token of GPU servers at 4 and 8 parallel calls; None without the recordings."""
    if not GPUS.is_file():
        return None
    settings: dict[tuple[str, ...], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(GPUS, "rt", newline="") as file:
        for line in csv.DictReader(file):
            if not line["batch_size"]:
                continue
            own = ("id", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms")
            setting = (line["model_path"], *(value for name, value in line.items() if name not in own))
            settings[setting][int(line["batch_size"])].append(float(line["silicon_tpot_ms"]))
    slower = {
        setting: statistics.mean(times[8]) / statistics.mean(times[4])
        for setting, times in settings.items()
        if 4 in times and 8 in times
    }
    dense = [ratio for setting, ratio in slower.items() if "Llama-3.1-70B" in setting[0]]
    return ClaimRow(
        "on GPUs parallel calls queue behind each other",
        f"time per token at 8 calls at once over that at 4, {len(slower)} recorded settings: median "
        f"x{statistics.median(slower.values()):.2f} (Llama 70B x{statistics.median(dense):.2f}); a queue gives x2",
        "does not hold",
    )


def rows() -> tuple[list[ClaimRow], list[str]]:
    """Return the rows of this module and the names of the omitted ones."""
    found = [measure_virtually(measure) for measure in VIRTUAL]
    found.append(asyncio.run(synchronous()))
    rest = {"parallel calls on GPUs (no recordings)": gpus(), "memory (the system does not tell)": memory()}
    found += [row for row in rest.values() if row is not None]
    return found, [name for name, row in rest.items() if row is None]
