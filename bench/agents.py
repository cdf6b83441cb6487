"""Loops of an agent over the simulated cloud: are its calls of a tool the right ones, in the right order?

    python -m bench.agents --loops 100

An agent asks for the weather of twenty cities, one call after the other, and then writes. The simulated model that is
offered the tool asks for the next city; the others draft. Each kind of aggregator runs so many loops, once undisturbed
and once with one call in ten refused with 429.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from mixtura import Aggregator, ChatOptions, Layer, MixturaError, Mixture, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.recipe import Tools
from mixtura.sim import Reply, SimOptions, ToolCall, simulated_cloud
from mixtura.virtual import run_virtual

TURNS = 20
SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
# A call in ten; the cloud names a second to wait.
BUSY = "429=1%10"
# The refusals speak of a free plan's limits, which a run then keeps: five drafts at once wait for most of a minute.
DEADLINE = 300.0
_DRAFTS = (Layer(proposers=(Proposer(model=SMALL, samples=3),)),)
RECIPES: dict[str, str | Recipe] = {
    "balanced": "balanced",
    "single": "single",
    "vote": "vote",
    "cascade (vote)": "cascade",
    "council (rank)": "council",
    "select": Recipe(layers=_DRAFTS, aggregator=Aggregator(kind="select", model=LARGE)),
    "auto": Recipe(layers=_DRAFTS, aggregator=Aggregator(kind="auto", model=LARGE)),
    "merge": Recipe(layers=_DRAFTS, aggregator=Aggregator(kind="merge", model=LARGE)),
    "agree": Recipe(layers=_DRAFTS, aggregator=Aggregator(model=LARGE), tools=Tools(policy="agree")),
}


class Loop(NamedTuple):
    """What became of one loop: the cities asked for in their order, the last text, and how often a call was refused."""

    cities: list[str]
    text: str
    refused: int

    @property
    def right(self) -> bool:
        """Every city was asked for once, in order, and an answer was written then."""
        return self.cities == [f"City {place}" for place in range(TURNS)] and self.text == f"All {TURNS} are sunny."


def reply(request: JsonObject, _call: int) -> Reply | str:
    """Ask for the next city where the tool is offered, and write when all are known."""
    if not request.get("tools"):
        return "Ask the tool."
    seen = sum(turn["role"] == "tool" for turn in request["messages"])
    if seen < TURNS:
        arguments = json.dumps({"city": f"City {seen}"})
        return Reply(text=None, tool_calls=(ToolCall(name="weather", arguments=arguments),))
    return f"All {seen} are sunny."


def run_loop(recipe: str | Recipe, seed: int, faults: str = "") -> Loop:
    """Run one loop in virtual time, over one cloud."""
    return run_virtual(_loop(recipe, seed, faults))


async def _loop(recipe: str | Recipe, seed: int, faults: str) -> Loop:
    sim = SimOptions(plan="enterprise", unlimited=True, reply=reply, faults=faults, seed=seed, profile="lpu")
    history: list[JsonObject] = [{"role": "user", "content": "How is the weather in all cities?"}]
    cities: list[str] = []
    text = ""
    async with simulated_cloud(sim) as cloud:
        mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_agent", "GROQ_BASE_URL": cloud.url})
        for _ in range(TURNS + 1):
            try:
                answer = await mixture.ask(history, options=ChatOptions(tools=[TOOL]), seed=seed, deadline=DEADLINE)
            except MixturaError:
                break
            text = answer.text
            if not answer.tool_calls:
                break
            history.append({"role": "assistant", "content": text or None, "tool_calls": answer.tool_calls})
            for call in answer.tool_calls:
                cities.append(json.loads(call["function"]["arguments"])["city"])
                history.append({"role": "tool", "tool_call_id": call["id"], "content": "Sunny."})
        await asyncio.sleep(0)
        return Loop(cities, text, cloud.ledger.faults.get("429", 0))


def _measure(job: tuple[str, int, str]) -> tuple[str, str, Loop]:
    name, seed, faults = job
    return name, faults, run_loop(RECIPES[name], seed, faults)


def rows(loops: int, processes: int) -> Iterator[str]:
    """Yield the lines of the table, and last a verdict."""
    jobs = [(name, seed, faults) for name in RECIPES for faults in ("", BUSY) for seed in range(loops)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = pool.map(_measure, jobs, chunksize=4)
    yield f"{'kind':16} {'quiet':>11} {'with 429':>11} {'refused':>8}"
    wrong = 0
    for name in RECIPES:
        quiet = [loop for which, faults, loop in done if (which, faults) == (name, "")]
        busy = [loop for which, faults, loop in done if (which, faults) == (name, BUSY)]
        right = [sum(loop.right for loop in found) for found in (quiet, busy)]
        wrong += 2 * loops - sum(right)
        refused = sum(loop.refused for loop in busy)
        yield f"{name:16} {right[0]:4} of {loops:3} {right[1]:4} of {loops:3} {refused:8,}"
    yield "every loop is right" if not wrong else f"{wrong} loops are wrong"


def main() -> int:
    """Parse the options and run the loops."""
    parser = argparse.ArgumentParser(prog="python -m bench.agents", description=__doc__)
    parser.add_argument("--loops", type=int, default=100, metavar="N", help="loops a kind, each undisturbed and busy")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    given = parser.parse_args()
    last = ""
    for last in rows(given.loops, given.processes):
        print(last, flush=True)
    return int("wrong" in last)


if __name__ == "__main__":
    sys.exit(main())
