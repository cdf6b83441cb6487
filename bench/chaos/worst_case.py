"""Checks forecasts: for random recipes the simulated cloud must never bill more than the forecast's worst case.

    python -m bench.chaos.worst_case --recipes 10000

Each number gives a random recipe (layers, samples, kinds, escalation, limits, system texts in prose, code and other
scripts, a caller's tools) and a question. The replies are as long as their limit allows, or agree, or differ.
"""

import argparse
import multiprocessing
import os
import random
import sys
from collections.abc import Iterator
from typing import get_args

import msgspec

from bench.chaos.recipes import MODELS
from mixtura import (
    Aggregator,
    ChatOptions,
    Layer,
    MixturaError,
    Mixture,
    ModelRegistry,
    Policy,
    Proposer,
    Recipe,
    Usage,
)
from mixtura.chat import JsonObject
from mixtura.kinds import KINDS, AggregatorKind
from mixtura.mixture import as_conversation
from mixtura.planning.demand import demands, needs, owed
from mixtura.planning.forecast import Forecast
from mixtura.planning.schedule import acting_recipe, count_calls, schedule
from mixtura.recipe import Tools
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

KEY = "gsk_worst"
_PROSE = (
    "Weigh what each source says before you answer, and name the one you trust. ",
    "def mean(values):\n    return sum(values) / len(values)  # 3.14, 2.72 and 1.41\n",
    '{"id": 7, "tags": ["a", "b", "c"], "price": 12.5}, ',
    "Die Antwort steht am Ende, in einem einzigen Satz. ",
    "答えは最後の行に短く書いてください。",
    "I am. You are? He is; we are: they are! ",
    "1 2 3 5 8 13 21 34 55 89 144 233 377 610 987 ",
)
_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place, now or in so many days.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


def text(rng: random.Random, most: int) -> str:
    """Return 1 to `most` pieces of text, of one or several kinds."""
    return "".join(rng.choice(_PROSE) for _ in range(rng.randint(1, most))).strip()


def proposer(rng: random.Random) -> Proposer:
    """Return a random proposer."""
    return Proposer(
        model=rng.choice(MODELS),
        samples=rng.choice((1, 1, 1, 2, 3)),
        weight=rng.choice((1.0, 1.0, 2.0, 0.5)),
        temperature=rng.choice((None, 0.7)),
        system=text(rng, 8) if rng.random() < 0.3 else None,
        max_tokens=rng.choice((None, 16, 120, 700)),
    )


def recipe(rng: random.Random) -> Recipe:
    """Return a random recipe, drawn from all valid forms."""
    layers = tuple(
        Layer(proposers=tuple(proposer(rng) for _ in range(rng.randint(1, 3))))
        for _ in range(rng.choice((1, 1, 1, 2, 3)))
    )
    kind: AggregatorKind = rng.choice(get_args(AggregatorKind))
    row = KINDS[kind]
    named = row.model == "needed" or (row.model == "optional" and rng.random() < 0.6)
    shown = named and kind != "merge"
    aggregator = Aggregator(
        kind=kind,
        model=rng.choice(MODELS) if named else "",
        system=text(rng, rng.choice((3, 60))) if named and rng.random() < 0.3 else None,
        max_tokens=rng.choice((None, 40, 900)),
        template=f"Of {{question}}:\n{{drafts}}\n{text(rng, 20)}" if shown and rng.random() < 0.2 else None,
    )
    alone = len(layers) == 1 and layers[0].size == 1 and rng.random() < 0.5
    smallest = min(layer.size for layer in layers)
    return Recipe(
        name="random",
        tools=Tools(policy=rng.choice(("act", "agree")), acting=Aggregator(model=rng.choice(MODELS))),
        layers=layers,
        escalate=Layer(proposers=(proposer(rng),)) if not alone and rng.random() < 0.3 else None,
        aggregator=None if alone else aggregator,
        policy=Policy(
            deadline=600.0,
            quorum=rng.choice((None, None, rng.randint(1, smallest))),
            stop_when_agree=rng.random() < 0.3,
            first_token=rng.choice((None, 30.0)),
        ),
    )


def question(rng: random.Random) -> list[JsonObject]:
    """Return a random conversation: a question, most often, or one in the middle of calls of a tool."""
    asked: list[JsonObject] = [{"role": "user", "content": text(rng, 20)}]
    for number in range(rng.choice((0, 0, 0, 1, 3))):
        arguments = msgspec.json.encode({"place": text(rng, 2), "days": number}).decode()
        call = {"id": f"c{number}", "type": "function", "function": {"name": "weather_0", "arguments": arguments}}
        asked.append({"role": "assistant", "content": None, "tool_calls": [call]})
        asked.append({"role": "tool", "tool_call_id": f"c{number}", "content": text(rng, 4)})
    return asked


def caller_options(rng: random.Random) -> ChatOptions:
    """Return what a caller may set, most often nothing."""
    wish = rng.choice(("none", "none", "tools", "schema", "object", "limits"))
    if wish == "tools":
        named = [{**_TOOL["function"], "name": f"weather_{number}"} for number in range(rng.randint(1, 3))]
        return ChatOptions(tools=[{"type": "function", "function": function} for function in named])
    if wish == "schema":
        schema = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(rng.randint(1, 9))}}
        return ChatOptions(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    if wish == "object":
        return ChatOptions(response_format={"type": "json_object"})
    if wish == "limits":
        return ChatOptions(max_tokens=rng.choice((5, 300, 3000)), stop=["END"], seed=7)
    return ChatOptions()


class RandomReplies:
    """The replies of one cloud's models: as long as their limit allows, all with the same answer, or different."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._mood = rng.choice(("long", "agree", "differ"))

    def __call__(self, request: JsonObject, call: int) -> str:
        if request.get("response_format") and self._rng.random() < 0.6:
            return '{"field_0": "a value", "answer": 5}'
        if self._mood == "long" or self._rng.random() < 0.3:
            return "word " * (request.get("max_completion_tokens") or request.get("max_tokens") or 1200)
        return f"The answer is {5 if self._mood == 'agree' else call}."


def problems(number: int) -> list[str]:
    """Run the random recipe of `number` once, and return what its forecast or its bookings got wrong."""
    return run_virtual(_problems(random.Random(f"worst/{number}")))


async def _problems(rng: random.Random) -> list[str]:
    made, asked, options = recipe(rng), question(rng), caller_options(rng)
    sim = SimOptions(
        plan="enterprise", unlimited=True, extra_models=MODELS, reply=RandomReplies(rng), seed=rng.getrandbits(32)
    )
    async with simulated_cloud(sim) as cloud:
        env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}
        mixture = Mixture(made, models=ModelRegistry(env=env))
        said = mixture.forecast(asked, options=options)
        try:
            await mixture.ask(asked, options=options, seed=rng.getrandbits(32))
        except MixturaError as error:
            # What a model wrote in place of JSON is refused by the cloud, and not billed.
            if cloud.ledger.total_tokens == 0 and not options.response_format:
                return [f"nothing was answered: {error}"]
        await cloud.ledger.wait_idle()
        return [*_check_bill(cloud, said), *_check_bookings(made, asked, options, said)]


def _check_bill(cloud: SimulatedCloud, said: Forecast) -> Iterator[str]:
    """Yield every figure of the bill that is above the forecast."""
    ledger = cloud.ledger
    calls, prompt, completion = ledger.calls.total(), ledger.prompt_tokens.total(), ledger.completion_tokens.total()
    if calls > said.calls:
        yield f"{calls} calls, {said.calls} forecast"
    if prompt > said.prompt_tokens:
        yield f"{prompt} prompt tokens, {said.prompt_tokens} forecast"
    if completion > said.completion_tokens:
        yield f"{completion} completion tokens, {said.completion_tokens} forecast"
    cost = _dollars(cloud)
    if said.cost is not None and not said.unpriced and cost > said.cost + 1e-12:
        yield f"${cost:.6f} billed, ${said.cost:.6f} forecast"


def _dollars(cloud: SimulatedCloud) -> float:
    """Return the bill, in dollars, of all models with a known price."""
    ledger, models = cloud.ledger, ModelRegistry(env={"GROQ_API_KEY": KEY})
    total = 0.0
    for model, prompt in ledger.prompt_tokens.items():
        price = models.card("groq", model).price
        usage = Usage(
            prompt_tokens=prompt,
            cached_tokens=ledger.cached_tokens[model],
            completion_tokens=ledger.completion_tokens[model],
        )
        total += price.cost(usage) if price is not None else 0.0
    return total


def _check_bookings(made: Recipe, asked: list[JsonObject], options: ChatOptions, said: Forecast) -> Iterator[str]:
    """Yield where the calls booked with the limiter differ from the calls that the recipe can make."""
    made = acting_recipe(made, options)
    repairs = sum(row.role == "repair" for row in said.rows)
    possible = schedule(made, options).calls
    models = ModelRegistry(env={"GROQ_API_KEY": KEY}, plan="developer")
    limited = {model for model in MODELS if models.find("groq", model).accounting.limits is not None}  # type: ignore[union-attr]
    found = demands(made, as_conversation(asked), models, options)
    if not len(possible) == said.calls - repairs == count_calls(made):
        yield f"{len(possible)} calls are possible, {said.calls} forecast, {count_calls(made)} counted"
    if [demand.call for demand in found] != [call for call in possible if call.slot.model in limited]:
        yield f"{len(found)} calls are booked of {len(possible)} that are possible"
    booked = sum(need.tokens for need in needs(found)) + sum(owed(found, needs(found)).values())
    if booked != sum(demand.size for demand in found):
        yield f"{booked} tokens are booked, {sum(demand.size for demand in found)} asked for"


def many(count: int, processes: int) -> int:
    """Check `count` recipes and print those whose forecast does not hold. Returns 1 if there are any."""
    wrong = 0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, found in enumerate(pool.imap(problems, range(count), chunksize=20)):
            if found:
                wrong += 1
                print(f"recipe {number}: {'; '.join(found)}")
    print(f"{count:,} random recipes: " + (f"{wrong} forecasts do not hold" if wrong else "every forecast holds"))
    return bool(wrong)


def main() -> int:
    """Parse the options and check the recipes."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos.worst_case", description=__doc__)
    parser.add_argument("--recipes", type=int, default=10_000, metavar="N", help="number of recipes")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="number of worker processes"
    )
    given = parser.parse_args()
    return many(given.recipes, given.processes)


if __name__ == "__main__":
    sys.exit(main())
