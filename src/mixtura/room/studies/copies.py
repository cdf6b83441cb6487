"""Do GPUs need 500 copies of a model where LPUs need one?"""

from typing import NamedTuple

import numpy as np

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip, chip
from mixtura.hardware.cost import CostRange, dollars_an_hour
from mixtura.hardware.gpu import GpuSetup, memory
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.lpu import chips_needed, step
from mixtura.hardware.onchip import OnChipLayout
from mixtura.hardware.precision import bits
from mixtura.hardware.shapes import shape
from mixtura.hardware.step import Array, TimeEstimate, array
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits, with_range
from mixtura.room.studies.sweeps import data

_MODEL = "kimi-k2"
_CHIPS = 4000
_BITS = bits("int4")  # per weight on the LPUs, which the released 8 bits would not fit
_SLOWEST = 0.05  # greatest seconds per token on GPUs: 20 tokens per second, as in DeepSeek's own service
_GROUPS = (1, 2, 4, 8, 16, 32)  # users in each micro-batch of the LPUs
_CLAIMED = 500  # copies, in the claim
_MOST = 1024  # sequences in flight on one copy; the fit has no points beyond


class _GpuCopy(NamedTuple):
    """One copy on GPUs, with as many users as it serves within `_SLOWEST`."""

    host: ModelHost
    batch: float
    step: TimeEstimate
    bytes: float

    @property
    def chip_name(self) -> str:
        return self.host.chip.name.removesuffix("_sxm").upper()

    @property
    def name(self) -> str:
        return f"{self.host.chips} x {self.chip_name}"

    @property
    def rate(self) -> float:
        return self.batch / float(self.step.seconds)

    def copies_for(self, rate: float) -> float:
        return float(np.ceil(rate / self.rate))


class _LpuLine(NamedTuple):
    """The LPUs with a number of users, in one micro-batch per layer."""

    users: float
    step: TimeEstimate

    @property
    def rate(self) -> float:
        return self.users / float(self.step.seconds)


def study() -> Study:
    """Compare copies at an equal number of chips, then at equal throughput."""
    copies = [
        _copy("h200_sxm", GpuSetup(chips=8, attention_ranks=8, expert_precision="int4")),
        _copy("b200_sxm", GpuSetup(chips=8, attention_ranks=8)),
        _copy("gb200", GpuSetup(chips=72, attention_ranks=72)),
    ]
    small = copies[1]
    lines = _lines()
    first = lines[0]
    equal = _CHIPS / small.host.chips
    verdict: Verdict = (
        "holds"
        if small.copies_for(first.rate) >= _CLAIMED
        else "does not hold"
        if equal < _CLAIMED * 0.9
        else "holds when"
    )
    held = chip("lpu_v1").memory / small.host.chip.memory
    return Study(
        name="copies",
        title="500 copies against one",
        claim=f"GPU clusters would need {_CLAIMED} copies of the model and {_CLAIMED} TB of memory for it, LPUs one "
        "copy and 1 TB.",
        who=ARTICLE,
        verdict=verdict,
        sentence=_sentence(copies, small, lines),
        assumption="The quantity that is kept equal. An LPU has "
        f"{held:.2%} of the memory of a {small.chip_name}, so equal numbers of chips say little about the need; equal "
        "throughput depends on how many users share a micro-batch of the LPUs, which is not published.",
        table=StudyTable(
            ("machine", "memory of the weights", "users", "tokens per second", "ms per token", "dollars per hour"),
            (
                *(_line_row(line) for line in lines),
                *(_row(each) for each in copies),
                (
                    "8 x H100, DeepSeek-V3, measured",
                    "",
                    "",
                    f"{data().node.rate:,.0f}",
                    "",
                    _hourly_price(chip("h100"), 8),
                ),
            ),
        ),
        charts=(_copies_chart(copies, lines), _speeds_chart(copies, lines)),
        sources=(
            "chips: data sheets as in `mixtura.hardware.chip`; prices are rough and mostly unverified",
            "20 tokens per second per user: DeepSeek's account of its own service, open-infra day 6",
            data().node.source,
        ),
        method=f"The LPUs are {_CHIPS:,} of the first generation with {_BITS:g} bits per weight and as many "
        "micro-batches in flight as layers; their latency per layer is fitted to recorded speeds and assumed equal for "
        "any number of users in a micro-batch, for which no measurement is public. GPUs come from the step model, for "
        "a model that the fit has not seen on these machines (hence the spread), with prompts and answers of "
        f"{data().prompt:,} tokens and as many users as fit, up to {_MOST:,} (the most in the fit) and within "
        f"{_SLOWEST * 1e3:.0f} ms per token. Only decoding is compared, without prompts. Dollars are depreciation and "
        "power, not rent.",
    )


def _sentence(copies: list[_GpuCopy], small: _GpuCopy, lines: list[_LpuLine]) -> str:
    equal, last = _CHIPS / small.host.chips, lines[-1]
    few, many = small.copies_for(lines[0].rate), small.copies_for(last.rate)
    lone = min(float(each.host.decode(1, _context()).seconds) for each in copies)
    return (
        f"It holds when the number of chips is equal: {_CHIPS:,} GPUs in groups of {small.host.chips} are {equal:,.0f} "
        f"copies with {equal * small.bytes / 1e12:,.0f} TB of weights as released, while the LPUs hold "
        f"{_line_bytes() / 1e12:.2f} TB at {_BITS:g} bits; but {few:,.0f} to {many:,.0f} such groups equal the "
        f"predicted throughput of the LPUs ({_GROUPS[0]} to {_GROUPS[len(lines) - 1]} users in each micro-batch, at "
        f"{1 / _SLOWEST:.0f} tokens per second per user or more on the GPUs). At the rate measured for DeepSeek-V3 on "
        f"a node of 8 H100, up to {np.ceil(last.rate / data().node.rate):.0f} nodes are needed. In groups of 72, "
        f"{_CHIPS:,} GPUs are {_CHIPS // 72} copies. An hour of the LPUs costs "
        f"{_hourly_price(chip('lpu_v1'), _CHIPS)} dollars, an hour of {many:,.0f} groups "
        f"{_hourly_price(small.host.chip, int(many) * small.host.chips)}, at rough prices. No number of copies reaches "
        f"the LPUs' speed for one user: {digits(1 / float(last.step.seconds))} tokens per second or more, against "
        f"{digits(1 / lone)} for a single user on the fastest of these groups, without speculation on either side."
    )


def _context() -> float:
    """Return the mean tokens of context of a sequence."""
    return data().prompt + data().output / 2


def _copy(name: str, setup: GpuSetup) -> _GpuCopy:
    """Return one copy with as many users as it holds and serves within `_SLOWEST`."""
    found = host(_MODEL, name, setup.chips, setup=setup)
    held = memory(found.shape, found.chip, found.setup, data().prompt + data().output).sequences
    batches = array(np.arange(1, min(held, _MOST) + 1))
    batch = float(batches[found.decode(batches, _context()).seconds <= _SLOWEST][-1])
    kept = found.shape.memory(setup.precision, setup.expert_precision)
    return _GpuCopy(found, batch, found.decode(batch, _context()), kept)


def _lines() -> list[_LpuLine]:
    """Return the LPUs with growing micro-batches, as far as they fit."""
    model, lpu, context = shape(_MODEL), chip("lpu_v1"), data().prompt + data().output
    found = []
    for group in _GROUPS:
        users = float(group * model.layers)
        if chips_needed(model, lpu, users, context, OnChipLayout(bits=_BITS)) <= _CHIPS:
            found.append(_LpuLine(users, step(model, lpu, users, context, OnChipLayout(chips=_CHIPS, bits=_BITS))))
    return found


def _line_bytes() -> float:
    return shape(_MODEL).weights * _BITS / 8


def _hourly_price(machine: Chip, chips: int) -> str:
    try:
        found: CostRange = dollars_an_hour(machine, chips)
    except ConfigError:
        return "not known"
    return f"{digits(float(found.low), 2)} to {digits(float(found.high), 2)}"


def _line_row(line: _LpuLine) -> tuple[str, ...]:
    middle, low, high = (float(value) for value in (line.step.seconds, line.step.low, line.step.high))
    return (
        f"{_CHIPS:,} x Groq LPU v1",
        f"{_line_bytes() / 1e12:.2f} TB",
        f"{line.users:,.0f}",
        with_range(line.users / middle, line.users / high, line.users / low),
        with_range(1e3 * middle, 1e3 * low, 1e3 * high),
        _hourly_price(chip("lpu_v1"), _CHIPS),
    )


def _row(each: _GpuCopy) -> tuple[str, ...]:
    middle, low, high = (float(value) for value in (each.step.seconds, each.step.low, each.step.high))
    return (
        each.name,
        f"{each.bytes / 1e12:.2f} TB",
        f"{each.batch:,.0f}",
        with_range(each.rate, each.batch / high, each.batch / low),
        with_range(1e3 * middle, 1e3 * low, 1e3 * high),
        _hourly_price(each.host.chip, each.host.chips),
    )


def _copies_chart(copies: list[_GpuCopy], lines: list[_LpuLine]) -> Chart:
    groups = [float(group) for group in _GROUPS[: len(lines)]]
    return Chart(
        title=f"Copies on GPUs with the decode throughput of {_CHIPS:,} LPUs",
        x="users in each micro-batch of the LPUs",
        y="copies",
        series=(
            *(
                Series(
                    f"{each.name}, copies",
                    groups,
                    [line.rate / each.rate for line in lines],
                    [float(line.rate / each.rate * (each.step.low / each.step.seconds)) for line in lines],
                    [float(line.rate / each.rate * (each.step.high / each.step.seconds)) for line in lines],
                )
                for each in copies
            ),
            Series(f"{_CHIPS:,} GPUs in groups of 8", [groups[0], groups[-1]], [_CHIPS / 8] * 2),
        ),
        log_x=True,
        log_y=True,
        note=f"At {1 / _SLOWEST:.0f} tokens per second per user or more on GPUs. Bands hold eight of ten copies, by "
        "the spread of the GPU model alone.",
    )


def _speeds_chart(copies: list[_GpuCopy], lines: list[_LpuLine]) -> Chart:
    def speeds(each: _GpuCopy) -> tuple[Array, Array]:
        batches = array(np.geomspace(1, each.batch, 25))
        taken = each.host.decode(batches, _context()).seconds
        return 1 / taken, batches / taken / each.host.chips

    series = [Series(each.name, *(values.tolist() for values in speeds(each))) for each in copies]
    line = ([1 / float(each.step.seconds) for each in lines], [each.rate / _CHIPS for each in lines])
    return Chart(
        title="Speed of one user against throughput of a chip, decoding",
        x="tokens per second per user",
        y="tokens per second per chip",
        series=(*series, Series(f"{_CHIPS:,} x LPU v1", *line, kind="dots")),
        log_x=True,
        log_y=True,
        note="LPUs with micro-batches from 1 user (lowest) to the largest that fit.",
    )
