"""Do gpt-oss-20b and gpt-oss-120b cost the same to serve?"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from mixtura.hardware import lpu
from mixtura.hardware.chip import chip
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape
from mixtura.hardware.step import Array, array
from mixtura.models.catalog import Catalog
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.facts import facts
from mixtura.room.studies.ratios import PredictedRatio, to
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, digits

_PROMPT = _OUTPUT = 1024  # tokens, as measured
_GROUPS = array([1, 2, 4, 8, 16, 32, 64])  # users of the smaller model in a micro-batch
_NEARLY = 1.5  # ratio of costs up to which they count as nearly the same
_ENGINE = "trtllm"  # the engine with which the highest loads were measured


class _LaunchPrices(msgspec.Struct):
    input: tuple[float, float]
    output: tuple[float, float]


class _TwoSizesFacts(msgspec.Struct, forbid_unknown_fields=True):
    models: tuple[str, str]
    ids: tuple[str, str]
    provider: str
    date: str
    sources: tuple[str, ...]
    throughput: Mapping[str, tuple[float, float]]
    speed: Mapping[str, tuple[float, float]]
    launch: _LaunchPrices


class _LpuCostRatios(NamedTuple):
    """Cost of the larger model over that of the smaller on LPUs, by users in a micro-batch of the smaller one."""

    alike: Array
    balanced: Array
    chips: tuple[int, int]
    recorded: float


@functools.cache
def _facts() -> _TwoSizesFacts:
    return facts("two_sizes", _TwoSizesFacts)


def _lpu_cost_ratios(small: ModelShape, large: ModelShape) -> _LpuCostRatios:
    """Return cost ratios on LPUs: with equal micro-batches of both models, and with equal tokens per expert."""
    machine, context = chip("lpu_v1"), _PROMPT + _OUTPUT / 2

    def cost(model: ModelShape, group: Array) -> Array:
        users = group * model.layers
        many = lpu.chips_needed(model, machine, users, context)
        return array(many / lpu.throughput(model, machine, users, context))

    base = cost(small, _GROUPS)
    fewest = (int(lpu.chips_needed(small, machine)), int(lpu.chips_needed(large, machine)))
    speed = _facts().speed["lpu_v1"]
    turns = [1 / rate / model.layers for rate, model in zip(speed, (small, large), strict=True)]
    recorded = fewest[1] * turns[1] / fewest[0] / turns[0]
    more = large.experts / large.used / (small.experts / small.used)
    return _LpuCostRatios(cost(large, _GROUPS) / base, cost(large, _GROUPS * more) / base, fewest, recorded)


def _best(model: str, machine: str) -> tuple[float, ModelHost]:
    """Return the most output tokens per second per GPU, on one or two GPUs with as many users as fit up to 1,024."""
    found = []
    for chips in (1, 2):
        one = host(model, machine, chips, engine=_ENGINE)
        users = one.room(_PROMPT + _OUTPUT)
        if users:
            rate = users / float(one.token(SteadyLoad(users, _PROMPT, _OUTPUT)).seconds) / chips
            found.append((rate, one))
    return max(found, key=lambda each: each[0])


def _predict_ratio(machine: str) -> PredictedRatio:
    """Return the predicted ratio of tokens per second per GPU at the highest load."""
    (small, one), (large, other) = (_best(model, machine) for model in _facts().models)
    spreads = [each.by.token_spread for each in (one, other) if each.by is not None]
    return PredictedRatio.of(small, large, *spreads)


def _prices() -> dict[str, float]:
    """Return the ratios of list prices, larger over smaller model, of prompt and output."""
    rows = [Catalog.load().get(_facts().provider, each) for each in _facts().ids]
    small, large = (row.price for row in rows if row is not None and row.price is not None)
    launch = _facts().launch
    return {
        "prompt, at launch": launch.input[1] / launch.input[0],
        "output, at launch": launch.output[1] / launch.output[0],
        "prompt, today": large.input / small.input,
        "output, today": large.output / small.output,
    }


def study() -> Study:
    """Compare the weights, chips, time and money of a token of both models."""
    small, large = (shape(name) for name in _facts().models)
    line, prices = _lpu_cost_ratios(small, large), _prices()
    measured = {name: rates[0] / rates[1] for name, rates in _facts().throughput.items()}
    predicted = {name: _predict_ratio(name) for name in measured}
    store = large.memory() / small.memory()
    speed = _facts().speed["lpu_v1"]
    alone, busy, full = float(line.alike[0]), float(line.balanced[0]), float(line.alike[-1])
    own = [ratio.middle for ratio in predicted.values()]
    rows = [
        ("active parameters of a token", digits(large.active / small.active), "counted"),
        ("layers", digits(large.layers / small.layers), "counted"),
        ("bytes of all weights, as released", digits(store), "counted"),
        (
            "LPUs that hold the weights",
            f"{line.chips[1] / line.chips[0]:.3g} ({line.chips[1]} : {line.chips[0]})",
            "model",
        ),
        ("time per token on LPU", digits(speed[0] / speed[1]), "recorded"),
        ("cost on LPU, one user per micro-batch", digits(alone), "model"),
        ("the same at the recorded speeds", digits(line.recorded), "model and recorded"),
        (f"cost on LPU, {_GROUPS[-1]:.0f} users per micro-batch", digits(full), "model"),
        ("cost on LPU, 1 user of the 20B against as many of the 120B as keep experts as busy", digits(busy), "model"),
        *((f"cost at full load, {name}", digits(value), "measured") for name, value in measured.items()),
        *((f"cost at full load, {name}", str(value), "predicted") for name, value in predicted.items()),
        *((f"list price of {name}", digits(value), "published") for name, value in prices.items()),
    ]
    return Study(
        name="two-sizes",
        title="20B against 120B",
        claim="Serving the 20B and the 120B MoE model costs nearly the same, as their active parameters are similar.",
        who=ARTICLE,
        verdict="holds when" if busy < _NEARLY else "does not hold",
        sentence=(
            f"It roughly holds, x{digits(busy)}, on LPUs with small KV caches that serve enough users of the 120B to "
            "keep its experts as busy as those of the 20B; with one user per micro-batch the ratio is "
            f"x{to(alone, line.recorded)}. With {_GROUPS[-1]:.0f} users per micro-batch KV caches determine the cost: "
            f"x{digits(full)}. On GPUs at full load the measured ratio is "
            f"x{to(min(measured.values()), max(measured.values()))} (predicted x{to(min(own), max(own))}), and the "
            f"ratio of list prices x{to(min(prices.values()), max(prices.values()))}."
        ),
        assumption=(
            "How many users share a micro-batch. The weights determine the number of chips, and a token's cost is the "
            f"time for which it occupies them; up to x{_NEARLY:g} counts as nearly the same here."
        ),
        table=StudyTable(("120B over 20B", "ratio", "how known"), tuple(rows)),
        charts=_charts(line, measured, predicted, prices),
        sources=(*_facts().sources, "step models of LPUs and GPUs (hardware/lpu.py, gpu.py), factors in data/"),
        method=(
            "LPU: the fewest chips for weights and KV cache of all users over tokens per second, with latencies fitted "
            "to recorded speeds. GPU: fitted step model at the largest batch that fits, up to 1,024, on one or two "
            f"GPUs, engine {_ENGINE}; ranges hold 80 % and assume independent errors of both models."
        ),
    )


def _charts(
    line: _LpuCostRatios,
    measured: Mapping[str, float],
    predicted: Mapping[str, PredictedRatio],
    prices: Mapping[str, float],
) -> tuple[Chart, ...]:
    groups, at = tuple(_GROUPS.tolist()), np.arange(len(measured)).tolist()
    price = prices["output, today"]
    first = Chart(
        title="Cost of 120B relative to 20B on LPUs",
        x="users of the 20B in a micro-batch",
        y="ratio of cost",
        series=(
            Series("equal micro-batches", groups, tuple(line.alike.tolist())),
            Series("experts equally busy", groups, tuple(line.balanced.tolist())),
            Series("list price of output", (groups[0], groups[-1]), (price, price)),
        ),
        log_x=True,
    )
    second = Chart(
        title="Cost of 120B relative to 20B on GPUs at full load",
        x="GPU",
        y="ratio of cost",
        series=(
            Series("measured", at, tuple(measured.values()), kind="bars"),
            Series(
                "predicted",
                at,
                tuple(each.middle for each in predicted.values()),
                tuple(each.low for each in predicted.values()),
                tuple(each.high for each in predicted.values()),
                kind="bars",
            ),
        ),
        labels=tuple(measured),
    )
    return first, second
