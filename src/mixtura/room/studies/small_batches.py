"""Are LPUs efficient at small batches? Their speed is; their cost depends on the load."""

import functools
from typing import NamedTuple

import msgspec
import numpy as np

from mixtura.hardware import lpu
from mixtura.hardware.chip import chip
from mixtura.hardware.cost import CostRange, dollars_an_hour
from mixtura.hardware.host import host
from mixtura.hardware.onchip import OnChipLayout
from mixtura.hardware.shapes import shape
from mixtura.hardware.step import Array, TimeEstimate, array
from mixtura.models.catalog import Catalog
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.facts import facts
from mixtura.room.studies.ratios import to
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, digits, with_range

_USERS = array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])
_FULL = 256  # users at which GPU and LPU are compared
_MOST = 4096  # largest micro-batch considered for the break-even


class _RecordedSpeed(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    rate: float
    kind: str


class _LpuAssembly(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    id: str
    provider: str
    chips: int
    bits: float
    context: int
    gpu: str
    gpus: int


class _LpuFacts(msgspec.Struct, forbid_unknown_fields=True):
    chip: str
    sources: tuple[str, ...]
    speeds: tuple[_RecordedSpeed, ...]
    assembly: _LpuAssembly


class _BatchCurve(NamedTuple):
    """One machine over `users`: its step times, and dollars per million output tokens."""

    name: str
    users: Array
    step: TimeEstimate
    dollars: CostRange
    chips: int


@functools.cache
def _facts() -> _LpuFacts:
    return facts("lpu_speeds", _LpuFacts)


def _layers() -> tuple[Array, Array, Array]:
    """Return microseconds per layer, layers, and billions of weights of each recorded model."""
    rows = [(shape(each.model), each.rate) for each in _facts().speeds]
    micro = [1e6 / rate / model.layers for model, rate in rows]
    return array(micro), array([model.layers for model, _ in rows]), array([model.weights / 1e9 for model, _ in rows])


def _lpus() -> _BatchCurve:
    assembly = _facts().assembly
    model, machine = shape(assembly.model), chip(_facts().chip)
    fits = [
        each for each in _USERS if lpu.chips_needed(model, machine, each, assembly.context, _layout()) <= assembly.chips
    ]
    step = lpu.step(model, machine, fits, assembly.context, _layout())
    hour = dollars_an_hour(machine, assembly.chips)
    return _BatchCurve(
        f"{assembly.chips:,} LPUs", array(fits), step, _million(hour, array(fits) / step.seconds), assembly.chips
    )


def _layout() -> OnChipLayout:
    return OnChipLayout(chips=_facts().assembly.chips, bits=_facts().assembly.bits)


def _gpus() -> _BatchCurve:
    assembly = _facts().assembly
    machine = host(assembly.model, assembly.gpu, assembly.gpus)
    users = _USERS[: np.searchsorted(_USERS, machine.room(assembly.context), "right")]
    step = machine.decode(users, assembly.context)
    return _BatchCurve(
        f"{assembly.gpus} x {assembly.gpu}", users, step, _million(machine.hour(), users / step.seconds), assembly.gpus
    )


def _million(hour: CostRange, rate: Array) -> CostRange:
    """Return dollars per million tokens at `rate` tokens per second."""
    return CostRange(hour.low / rate / 3.6e-3, hour.high / rate / 3.6e-3)


def break_even(price: float) -> tuple[float, float]:
    """Return the users per micro-batch from which the LPUs earn their cost, with cheap and with expensive assumptions.

    Args:
        price: dollars per million output tokens; prompts are assumed to cost and to earn nothing.
    """
    assembly = _facts().assembly
    model, machine = shape(assembly.model), chip(_facts().chip)
    group = np.geomspace(1, _MOST, 200)
    needed = lpu.chips_needed(model, machine, group * model.layers, assembly.context, _layout())
    group = group[needed <= assembly.chips]
    rate = group * model.layers / lpu.step(model, machine, group * model.layers, assembly.context, _layout()).seconds
    earned = rate * price * 3.6e-3
    hour = dollars_an_hour(machine, assembly.chips)
    low, high = (float(np.interp(float(cost), earned, group, left=1.0, right=np.inf)) for cost in (hour.low, hour.high))
    return low, high


def study() -> Study:
    """Compare recorded times per layer, then speed and cost of LPUs and GPUs by batch."""
    assembly, (micro, layers, weights) = _facts().assembly, _layers()
    line, gpus = _lpus(), _gpus()
    row = Catalog.load().get(assembly.provider, assembly.id)
    price = row.price.output if row is not None and row.price is not None else 0.0
    least = break_even(price)
    slower = {
        each.name: float(np.interp(_FULL, each.users, each.step.seconds) / each.step.seconds[0])
        for each in (line, gpus)
    }
    rows = [
        (f"{each.model}", f"{size:,.0f}", f"{each.rate:,.0f}", f"{time:.1f}", each.kind)
        for each, size, time in zip(_facts().speeds, weights, micro, strict=True)
    ]
    rows.append(("mean", "-", "-", f"{micro.mean():.1f} (deviation {micro.std(ddof=1):.1f})", "-"))
    tokens = 1e6 / array([each.rate for each in _facts().speeds])
    by_layers, by_weights = (float(np.corrcoef(tokens, each)[0, 1]) for each in (layers, np.log(weights)))
    return Study(
        name="small-batches",
        title="Small batches on LPUs",
        claim="With all weights on the chips, LPUs can use smaller batches and still perform well.",
        who=ARTICLE,
        verdict="holds when",
        sentence=(
            "It holds for speed, and for cost when each micro-batch has "
            f"{to(*(float(f'{each:.2g}') for each in least))} users or more: only then do {assembly.chips:,} LPUs earn "
            f"their price at ${price:g} per million tokens. Recorded times are {micro.mean():.0f} us per layer "
            f"(deviation {micro.std(ddof=1):.0f}) from {weights.min():,.0f} to {weights.max():,.0f} billion weights, "
            f"and by our model a step of {_FULL} users takes x{digits(slower[line.name])} the time of a step of one "
            f"({gpus.name}: x{digits(slower[gpus.name])}). With {_FULL} users in total a million tokens costs "
            f"${_at(line)} on the LPUs and ${_at(gpus)} on the GPUs."
        ),
        assumption=(
            "That the latency of a layer does not grow with the users of a micro-batch: the batches of the recorded "
            f"endpoints are not published. Weights in {assembly.bits:g} bits (the width is not published), list price "
            "of the chip, 3 to 5 years, 50 to 90 % in use; prompts earn and cost nothing."
        ),
        table=StudyTable(("model", "billion weights", "tokens per second", "us per layer", "how known"), tuple(rows)),
        charts=_charts((line, gpus), price, (micro, weights)),
        sources=(
            *_facts().sources,
            "list price of the output: the catalogue of models",
            "hardware/cost.py: assumptions on cost",
        ),
        method=(
            f"Time per token correlates with layers ({by_layers:.2f}) more than with the logarithm of weights "
            f"({by_weights:.2f}). LPU: fitted step model of {assembly.model}; GPU: fitted step model of {gpus.name}, "
            f"weights as released. Contexts of {assembly.context:,} tokens, decoding only. {_side(line)}; "
            f"{_side(gpus)}."
        ),
    )


def _at(curve: _BatchCurve) -> str:
    """Return the cost of a million tokens with `_FULL` users, as text."""
    return to(*(float(np.interp(_FULL, curve.users, each)) for each in curve.dollars))


def _side(curve: _BatchCurve) -> str:
    """Return a machine's speeds for one user and for `_FULL` users, as text."""
    times = curve.step.seconds, curve.step.high, curve.step.low
    rate, low, high = (1 / float(np.interp(_FULL, curve.users, each)) for each in times)
    alone = 1 / float(curve.step.seconds[0])
    return (
        f"{curve.name}: {digits(alone)} tokens per second for a single user, {with_range(rate, low, high)} for each "
        f"of {_FULL}, {digits(rate * _FULL / curve.chips)} per chip"
    )


def _charts(curves: tuple[_BatchCurve, ...], price: float, seen: tuple[Array, Array]) -> tuple[Chart, ...]:
    model = _facts().assembly.model
    micro, weights = seen
    speed = Chart(
        title=f"Tokens per second of one user, {model}",
        x="users at once",
        y="tokens per second of each",
        series=tuple(
            Series(
                each.name,
                _list(each.users),
                _list(1 / each.step.seconds),
                _list(1 / each.step.high),
                _list(1 / each.step.low),
            )
            for each in curves
        ),
        log_x=True,
        log_y=True,
        note="Fitted models; bands hold 80 %.",
    )
    ends = (float(_USERS[0]), float(_USERS[-1]))
    cost = Chart(
        title=f"Dollars per million output tokens, {model}",
        x="users at once",
        y="dollars",
        series=(
            *(
                Series(
                    each.name,
                    _list(each.users),
                    _list(each.dollars.middle),
                    _list(each.dollars.low),
                    _list(each.dollars.high),
                )
                for each in curves
            ),
            Series("list price on LPUs", ends, (price, price)),
        ),
        log_x=True,
        log_y=True,
        note="Bands: assumptions on life, use, electricity and the price of chips.",
    )
    recorded = Chart(
        title="Microseconds per layer on LPUs, by size of the model",
        x="billion weights",
        y="us per layer",
        series=(Series("recorded", _list(weights), _list(micro), kind="dots"),),
        log_x=True,
    )
    return recorded, speed, cost


def _list(values: Array) -> tuple[float, ...]:
    return tuple(values.tolist())
