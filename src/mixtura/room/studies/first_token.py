"""Lower time to first token, lowest cost: which part of that can be checked?"""

import functools
from collections.abc import Mapping

import msgspec
import numpy as np

from mixtura.hardware.cost import CostRange, dollars
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import host
from mixtura.hardware.step import TimeEstimate, array
from mixtura.models.catalog import Catalog
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.facts import facts
from mixtura.room.studies.ratios import to
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, with_range
from mixtura.room.studies.tutorial import QueueWaits

_PROMPT, _OUTPUT = 1024, 1024  # tokens
_USERS = (32, 240)  # assumed range of a service's load
_GPU = "b200_sxm"


class _VendorFigures(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    chip: str
    answer: float
    rate: float


class _FirstTokenFacts(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    id: str
    provider: str
    date: str
    sources: tuple[str, ...]
    vendors: tuple[_VendorFigures, _VendorFigures]
    queue: QueueWaits


@functools.cache
def _facts() -> _FirstTokenFacts:
    return facts("first_token", _FirstTokenFacts)


def even() -> tuple[float, float]:
    """Return the reasoning tokens at which both vendors' first tokens arrive equally early, and after which seconds.

    The first token of the answer follows all reasoning tokens: `answer = first + thinking / rate`.
    """
    one, other = _facts().vendors
    thinking = (one.answer - other.answer) / (1 / one.rate - 1 / other.rate)
    return thinking, one.answer - thinking / one.rate


def _cost(machine: str) -> CostRange:
    """Return dollars per million output tokens, from high load and cheap assumptions to low load and expensive ones."""
    running = host(_facts().model, machine)
    users = array(_USERS)
    found = dollars(running.chip, running.chips, users / running.token(SteadyLoad(users, _PROMPT, _OUTPUT)).seconds)
    return CostRange(found.low.min(), found.high.max())


def study() -> Study:
    """Report what the published times leave open, what was recorded of one vendor, and the possible costs."""
    one, other = _facts().vendors
    thinking, first = even()
    row = Catalog.load().get(_facts().provider, _facts().id)
    price = row.price.output if row is not None and row.price is not None else 0.0
    costs = {machine: _cost(machine) for machine in (one.chip, other.chip, _GPU)}
    queue = _facts().queue
    firsts = {
        each.name: host(_facts().model, each.chip).first(SteadyLoad(1, _PROMPT, _OUTPUT)) for each in (one, other)
    }
    rows = [
        *((f"{each.name}: first token of the answer", f"{each.answer:g} s", "measured") for each in (one, other)),
        *((f"{each.name}: speed", f"{each.rate:,.0f} tokens per second", "measured") for each in (one, other)),
        ("equal first tokens", f"{first:.2f} s, with {thinking:,.0f} reasoning tokens", "from the four above"),
        (
            f"{one.name}: wait in the queue",
            f"{queue.at(0.5):.3f} s ({queue.at(0):.3f} to {queue.at(1):.3f})",
            "recorded",
        ),
        (f"{one.name}: prompt of {_PROMPT:,} tokens and first token", _milliseconds(firsts[one.name]), "fitted"),
        (f"{other.name}: the same, without queueing", _milliseconds(firsts[other.name]), "assumed: half the peak"),
        *((f"dollars per million output tokens, {name}", _dollars(cost), "assumed") for name, cost in costs.items()),
        (f"list price, {one.name}", f"${price:.2f}", "published"),
    ]
    return Study(
        name="first-token",
        title="Lowest latency and lowest cost",
        claim=f"{one.name} still has the lower time to first token than {other.name}, and the lowest cost per token.",
        who=ARTICLE,
        verdict="cannot be checked",
        sentence=(
            "The published times do not show which vendor's first token of any kind arrives earlier, and neither "
            f"vendor publishes its cost of a token. The first token of an answer came after {other.answer:g} s at "
            f"{other.name} and {one.answer:g} s at {one.name} in {_facts().date}; it follows all reasoning tokens, so "
            f"speed decides. If the models used fewer than {thinking:,.0f} reasoning tokens, {other.name} began "
            f"earlier, else {one.name}. Our assumptions give costs of {_dollars(costs[one.chip])} per million tokens "
            f"on LPUs, {_dollars(costs[other.chip])} on wafers and {_dollars(costs[_GPU])} on {_GPU}, around a list "
            f"price of ${price:.2f}."
        ),
        assumption=(
            "The number of reasoning tokens, the date and the load of the measurement; for cost, the real price of the "
            "chips to their owners and the number of users who share them."
        ),
        table=StudyTable(("what", "figure", "how known"), tuple(rows)),
        charts=_charts(costs, price),
        sources=(
            *_facts().sources,
            "list prices: the catalogue of models",
            "hardware/cost.py and chips.toml: assumptions on cost",
        ),
        method=(
            "First token = first token of the answer minus reasoning tokens over speed, with equal reasoning at both. "
            "Cost: depreciation and power of the chips over tokens per second of fitted models with "
            f"{_USERS[0]} to {_USERS[1]} users, prompts and answers of {_PROMPT:,} tokens. No prompt speed of wafers "
            "is published."
        ),
    )


def _milliseconds(step: TimeEstimate) -> str:
    middle, low, high = (1e3 * float(each) for each in (step.seconds, step.low, step.high))
    return with_range(middle, low, high, "ms")


def _dollars(cost: CostRange) -> str:
    return f"${to(*(float(f'{float(each):.2g}') for each in cost))}"


def _charts(costs: Mapping[str, CostRange], price: float) -> tuple[Chart, ...]:
    thinking = np.linspace(0, even()[0] * 1.05, 40)
    left = Chart(
        title="Time to the first token of any kind that follows from the published times",
        x="reasoning tokens before the answer",
        y="seconds to the first token",
        series=tuple(
            Series(each.name, tuple(thinking.tolist()), tuple((each.answer - thinking / each.rate).tolist()))
            for each in _facts().vendors
        ),
        note="The time to the first token of the answer, minus reasoning at the measured speed.",
    )
    places = tuple(range(len(costs)))
    right = Chart(
        title=f"Dollars per million output tokens, {_facts().model}",
        x="chip",
        y="dollars",
        series=(
            Series(
                "by our assumptions",
                places,
                tuple(float(each.middle) for each in costs.values()),
                tuple(float(each.low) for each in costs.values()),
                tuple(float(each.high) for each in costs.values()),
                kind="dots",
            ),
            Series("list price on LPUs", (places[0], places[-1]), (price, price)),
        ),
        log_y=True,
        labels=tuple(costs),
        note="Whiskers: from high load and cheap assumptions to low load and expensive ones.",
    )
    return left, right
