"""Fits the simulated cloud's `lpu` profile to recorded Groq usage figures and writes sim/data/timings.toml.

    python -m bench.fit_timings [../shared/data/timings/groq_usage_dev.csv]

`python -m bench.timing_folds` holds such fits against records that they were not fitted to.

Medians are each model's own, spreads are pooled. The logarithm of a model's spread is the mean of its own records' and
of all models' (the median model, so to speak), which counts as much as four records; no spread is below its floor.
Eight records can agree to nine digits, and a model that was recorded in one session shows that session's spread only.

- `tps`, the decode rate of replies of at least 40 tokens (of all where there is none): the median of four or more,
  else tokens over seconds of all together. `tps_spread` is that of all replies around it.
- `prefill` and `prefill_base` are the Theil-Sen line of prompt time over prompt tokens, of all models where a model's
  own does not rise; it is scaled to the model's median. Prompts that take three times as long or longer are
  `congested`: their share is pooled too, and `[congestion]` says how much longer all of them take.
- `queue` are the queue times at every tenth percentile, because they are not of one kind (5 ms when idle, a hundred
  times that when not). `queue_stretch` widens them to the pooled spread around the same median.

The figures of all models apply to models without records, whose speed is the published one. It misses recorded speeds
by a factor of 1.4 either way; that is a doubt about the model, which its calls share, so it is no spread of calls.
"""

import argparse
import csv
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec
import tomli_w

from mixtura.sim.timing import FittedFigures, FittedTimings, PromptCongestion

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "../shared/data/timings/groq_usage_dev.csv"
TARGET = ROOT / "src/mixtura/sim/data/timings.toml"
ENOUGH = 4
LONG = 40
CONGESTED = 3.0
POOLED_RECORDS = 4
TPS_FLOOR, PREFILL_FLOOR, QUEUE_FLOOR = 0.02, 0.05, 0.2
HEAD = f"""\
# Written by `python -m bench.fit_timings` from recorded Groq usage figures; do not edit by hand.
# tps: decode tokens per second; prefill: prompt tokens per second on top of prefill_base seconds.
# tps_spread, prefill_spread: the scale of the time's logarithm, pooled over models (all models count as
# {POOLED_RECORDS} records), at least {TPS_FLOOR:g} and {PREFILL_FLOOR:g}.
# congested: the share of prompts that take [congestion] times longer, pooled in the same way.
# queue: seconds at every tenth percentile from least to most; queue_stretch: how much farther from the median than
# that queue times lie, on a logarithmic scale: pooled, at least 1.
# [default] is for models without records: their speed is as published, their calls differ as those of all models do.
"""


class Record(NamedTuple):
    """One recorded reply; times in seconds."""

    model: str
    queue: float
    prompt_tokens: int
    prompt: float
    completion_tokens: int
    completion: float


class PromptLine(NamedTuple):
    """Seconds that a prompt takes: `base`, and `slope` for each token."""

    slope: float
    base: float

    def seconds(self, tokens: int) -> float:
        """Return the usual time of a prompt."""
        return self.base + self.slope * tokens

    def scaled(self, factor: float) -> "PromptLine":
        """Return the line of prompts that take `factor` times as long."""
        return PromptLine(self.slope * factor, self.base * factor)


class OwnSpread(NamedTuple):
    """The spread of a model's records on a logarithmic scale, and how many records show it."""

    spread: float
    records: int

    def pooled_with(self, pooled: float, floor: float) -> float:
        """Return the spread of the model's next record: this one drawn to `pooled`, with the doubt about the median."""
        count = self.records if self.records > 1 else 0
        own = math.log(max(self.spread, floor))
        spread = math.exp((count * own + POOLED_RECORDS * math.log(pooled)) / (count + POOLED_RECORDS))
        return spread * math.sqrt(1 + 1 / self.records)


class ModelRecords:
    """The records of one model, and what they show by themselves."""

    def __init__(self, rows: Sequence[Record], usual: PromptLine) -> None:
        self.rows = rows
        self.rate = _decode_rate(rows)
        self.line = _own_line(rows, usual)
        self._excess = [row.prompt / self.line.seconds(row.prompt_tokens) for row in rows]

    @cached_property
    def writing(self) -> OwnSpread:
        """The spread of decode rates."""
        return _own_spread([math.log(_rate(row) / self.rate) for row in self.rows])

    @cached_property
    def reading(self) -> OwnSpread:
        """The spread of prompt times without congestion."""
        return _own_spread([math.log(times) for times in self._excess if times < CONGESTED])

    @cached_property
    def waiting(self) -> OwnSpread:
        """The spread of queue times."""
        usual = statistics.median(row.queue for row in self.rows)
        return _own_spread([math.log(row.queue / usual) for row in self.rows])

    @cached_property
    def congested(self) -> list[float]:
        """The logarithms of how many times longer congested prompts took."""
        return [math.log(times) for times in self._excess if times >= CONGESTED]


class PooledFigures(NamedTuple):
    """What all models show together: spreads of a usual model, and the share of congested prompts."""

    writing: float
    reading: float
    waiting: float
    congested: float

    def of(self, model: ModelRecords) -> FittedFigures:
        """Return the figures of one model."""
        count = len(model.rows)
        congested = (len(model.congested) + POOLED_RECORDS * self.congested) / (count + POOLED_RECORDS)
        figures = FittedFigures(
            tps=rounded(model.rate),
            tps_spread=rounded(model.writing.pooled_with(self.writing, TPS_FLOOR)),
            prefill=rounded(1 / model.line.slope),
            prefill_base=rounded(model.line.base),
            prefill_spread=rounded(model.reading.pooled_with(self.reading, PREFILL_FLOOR)),
            congested=rounded(congested),
        )
        if count < ENOUGH:
            return figures
        wider = model.waiting.pooled_with(self.waiting, QUEUE_FLOOR) / max(model.waiting.spread, 1e-9)
        return msgspec.structs.replace(figures, **_queue(model.rows, wider))


def read(path: Path) -> list[Record]:
    """Return the usage records, without those of systems of several models: their times are sums.

    Raises:
        OSError: there is no such file.
        KeyError: it lacks a column.
        ValueError: a field is not a number above 0.
    """
    with path.open(newline="") as file:
        return [_record(line) for line in csv.DictReader(file) if not line["model"].startswith("groq/")]


def _record(line: Mapping[str, str]) -> Record:
    names = ("queue_time", "prompt_time", "completion_time")
    queue, prompt, completion = (float(line[name]) for name in names)
    tokens = int(line["prompt_tokens"]), int(line["completion_tokens"])
    if not all(value > 0 and math.isfinite(value) for value in (queue, prompt, completion, *tokens)):
        raise ValueError(f"times and tokens have to be above 0, and in a row of {line['model']} they are not")
    return Record(line["model"], queue, tokens[0], prompt, tokens[1], completion)


def fit(records: Sequence[Record]) -> FittedTimings:
    """Fit the figures of each model and of all together.

    Raises:
        ValueError: the records are too few, or prompt times do not rise with the prompts.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.model].append(record)
    usual = prompt_line(records)
    if len(records) < ENOUGH or usual is None:
        raise ValueError(f"at least {ENOUGH} records are needed, with prompt times that rise with the prompts' tokens")
    models = {name: ModelRecords(rows, usual) for name, rows in sorted(groups.items())}
    congested = [times for model in models.values() for times in model.congested]
    pooled = PooledFigures(
        _usual_spread([model.writing for model in models.values()], TPS_FLOOR),
        _usual_spread([model.reading for model in models.values()], PREFILL_FLOOR),
        _usual_spread([model.waiting for model in models.values() if len(model.rows) >= ENOUGH], QUEUE_FLOOR),
        len(congested) / len(records),
    )
    return FittedTimings(
        default=_default(records, usual, pooled),
        congestion=_congestion(congested),
        models={name: pooled.of(model) for name, model in models.items()},
        records={name: len(model.rows) for name, model in models.items()},
    )


def _default(records: Sequence[Record], usual: PromptLine, pooled: PooledFigures) -> FittedFigures:
    """Return the figures of a model without records: the line of all, and how calls of one model differ."""
    figures = FittedFigures(
        tps=rounded(_decode_rate(records)),
        tps_spread=rounded(pooled.writing),
        prefill=rounded(1 / usual.slope),
        prefill_base=rounded(usual.base),
        prefill_spread=rounded(pooled.reading),
        congested=rounded(pooled.congested),
    )
    return msgspec.structs.replace(figures, **_queue(records, 1.0))


def _rate(row: Record) -> float:
    return row.completion_tokens / row.completion


def _decode_rate(rows: Sequence[Record]) -> float:
    rated = [row for row in rows if row.completion_tokens >= LONG] or rows
    if len(rated) >= ENOUGH:
        return statistics.median(_rate(row) for row in rated)
    return sum(row.completion_tokens for row in rated) / sum(row.completion for row in rated)


def prompt_line(rows: Sequence[Record]) -> PromptLine | None:
    """Return the Theil-Sen line of prompt time over prompt tokens, None where the records show no rise."""
    pairs = [(row.prompt_tokens, row.prompt) for row in rows]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(pairs, 2) if abs(b[0] - a[0]) >= 100]
    slope = statistics.median(slopes) if len(slopes) >= 3 else 0.0
    if slope <= 0:
        return None
    return PromptLine(slope, max(0.0, statistics.median(time - slope * tokens for tokens, time in pairs)))


def _own_line(rows: Sequence[Record], usual: PromptLine) -> PromptLine:
    """Return the line that half of the model's prompts without congestion are below.

    Of fewer than four records, one counts as much as what is usual: they may all be congested.
    """
    line = (prompt_line(rows) if len(rows) >= ENOUGH else None) or usual
    excess = [row.prompt / line.seconds(row.prompt_tokens) for row in rows]
    middle = statistics.median(excess)
    if len(rows) < ENOUGH:
        return line.scaled(middle ** (len(rows) / (len(rows) + 1)))
    return line.scaled(statistics.median(times for times in excess if times < CONGESTED * middle))


def _own_spread(logarithms: Sequence[float]) -> OwnSpread:
    """Return the root mean square around 0 with a degree of freedom less: 0 stands for a median of the same values."""
    squares = sum(value * value for value in logarithms)
    return OwnSpread(math.sqrt(squares / max(1, len(logarithms) - 1)), len(logarithms))


def _usual_spread(spreads: Sequence[OwnSpread], floor: float) -> float:
    """Return the geometric mean over the models that have two records or more."""
    return statistics.geometric_mean([max(own.spread, floor) for own in spreads if own.records > 1] or [floor])


def _congestion(logarithms: Sequence[float]) -> PromptCongestion:
    if not logarithms:
        return PromptCongestion(1.0, 0.0)
    middle = statistics.fmean(logarithms)
    spread = _own_spread([value - middle for value in logarithms]).spread
    return PromptCongestion(rounded(math.exp(middle)), rounded(spread))


def _queue(rows: Sequence[Record], wider: float) -> dict[str, tuple[float, ...] | float]:
    """Return the percentiles, and how far they are stretched: by `wider`, and by what `n` records usually fall short.

    The next record lies between the least and the most of `n` with a probability of (n - 1) / (n + 1).
    """
    waits = sorted(row.queue for row in rows)
    tenths = statistics.quantiles(waits, n=10, method="inclusive")
    short = (len(waits) + 1) / (len(waits) - 1)
    percentiles = tuple(rounded(value) for value in (waits[0], *tenths, waits[-1]))
    return {"queue": percentiles, "queue_stretch": rounded(max(1.0, wider) * short)}


def rounded(value: float) -> float:
    """Return `value` to four digits: the records do not support more."""
    return float(f"{value:.4g}")


def records_of(parser: argparse.ArgumentParser, path: Path) -> list[Record]:
    """Return the records in `path`, or end the program with a sentence that says what is wrong with it."""
    try:
        return read(path)
    except OSError:
        parser.exit(3, f"{parser.prog}: no recorded usage figures in {path}: give a file like {SOURCE.name}\n")
    except (KeyError, ValueError) as error:
        parser.exit(3, f"{parser.prog}: {path} does not have the format of {SOURCE.name}: {error}\n")


def main() -> None:
    """Read, fit, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.fit_timings", description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="?", type=Path, default=SOURCE, help="usage figures of recorded replies")
    parser.add_argument("--to", type=Path, default=TARGET, help="the file to write")
    told = parser.parse_args()
    try:
        found = fit(records_of(parser, told.records))
    except ValueError as error:
        parser.exit(3, f"{parser.prog}: {told.records}: {error}\n")
    told.to.write_text(HEAD + tomli_w.dumps(msgspec.to_builtins(found)), "utf-8")


if __name__ == "__main__":
    main()
