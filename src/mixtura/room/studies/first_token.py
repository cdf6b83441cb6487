"""Lower time to first token, lowest cost: what can be checked of that, and what cannot."""

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
_USERS = (32, 240)  # between which a service's load is taken to lie
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
    """Return the tokens of thinking at which both vendors' first tokens come equally early, and after what seconds.

    The first token of the answer comes after all tokens of thinking: `answer = first + thinking / rate`.
    """
    one, other = _facts().vendors
    thinking = (one.answer - other.answer) / (1 / one.rate - 1 / other.rate)
    return thinking, one.answer - thinking / one.rate


def _cost(machine: str) -> CostRange:
    """Return dollars for a million output tokens, from much load with cheap assumptions to little with dear ones."""
    running = host(_facts().model, machine)
    users = array(_USERS)
    found = dollars(running.chip, running.chips, users / running.token(SteadyLoad(users, _PROMPT, _OUTPUT)).seconds)
    return CostRange(found.low.min(), found.high.max())


def study() -> Study:
    """Say what the two published times leave open, what was recorded of one vendor, and what costs can be."""
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
        *((f"{each.name}: speed", f"{each.rate:,.0f} tokens a second", "measured") for each in (one, other)),
        ("equal first tokens", f"{first:.2f} s, with {thinking:,.0f} tokens of thinking", "from the four above"),
        (
            f"{one.name}: wait in the queue",
            f"{queue.at(0.5):.3f} s ({queue.at(0):.3f} to {queue.at(1):.3f})",
            "recorded",
        ),
        (f"{one.name}: prompt of {_PROMPT:,} tokens and first token", _milliseconds(firsts[one.name]), "fitted"),
        (f"{other.name}: the same, without any wait", _milliseconds(firsts[other.name]), "assumed: half the peak"),
        *((f"dollars a million output tokens, {name}", _dollars(cost), "assumed") for name, cost in costs.items()),
        (f"list price, {one.name}", f"${price:.2f}", "published"),
    ]
    return Study(
        name="first-token",
        title="Lowest latency and lowest cost",
        claim=f"{one.name} still has the lower time to first token than {other.name}, and the lowest cost a token.",
        who=ARTICLE,
        verdict="cannot be checked",
        sentence=(
            "Whose first token of any kind comes earlier the published times leave open, and nobody outside knows "
            f"what a token costs either vendor. The first token of an answer came after {other.answer:g} s at "
            f"{other.name} and {one.answer:g} s at {one.name} in {_facts().date}, since all thinking comes first and "
            f"speed decides: if the models thought less than {thinking:,.0f} tokens {other.name} began earlier, else "
            f"{one.name}. Our assumptions on cost span {_dollars(costs[one.chip])} a million tokens on LPUs, "
            f"{_dollars(costs[other.chip])} on wafers and {_dollars(costs[_GPU])} on {_GPU}, about a list price of "
            f"${price:.2f}."
        ),
        assumption=(
            "How many tokens the models thought, when it was measured, and under what load; for cost what chips "
            "really cost their owners and how many users share them."
        ),
        table=StudyTable(("what", "figure", "how known"), tuple(rows)),
        charts=_charts(costs, price),
        sources=(
            *_facts().sources,
            "list prices: the catalogue of models",
            "hardware/cost.py and chips.toml: assumptions on cost",
        ),
        method=(
            "First token = first token of the answer less thinking over speed, the same thinking at both. Cost: "
            f"price of the chips over their life and power, over tokens a second of fitted models with {_USERS[0]} "
            f"to {_USERS[1]} users, prompts and answers of {_PROMPT:,} tokens. No prompt speed of wafers is "
            "published."
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
        title="What the published times say of the first token of any kind",
        x="tokens of thinking before the answer",
        y="seconds to the first token",
        series=tuple(
            Series(each.name, tuple(thinking.tolist()), tuple((each.answer - thinking / each.rate).tolist()))
            for each in _facts().vendors
        ),
        note="The time to the first token of the answer, less thinking at the measured speed.",
    )
    places = tuple(range(len(costs)))
    right = Chart(
        title=f"Dollars for a million output tokens, {_facts().model}",
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
        note="Whiskers: from much load and cheap assumptions to little load and dear ones.",
    )
    return left, right
