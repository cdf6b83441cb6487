"""Fits the latency of a layer on LPUs and on wafers, and writes `lpu.json` and `wafer.json`.

    python -m calibration.assembly [../shared/data/hardware]

Rules select the speeds to fit, one per model:

- LPU: seconds of decoding that the server itself reports with a reply (`completion_time`), the median over replies of
  40 tokens or more. If two sources have such a median, the one with more replies counts. Speeds that a client measures
  over a network, or that documentation states, are different quantities, so they are predicted but not fitted. The
  same applies to speculatively decoded replies.
- Wafer: no server's own figures are public. The fit uses speeds measured by a third party, the geometric mean if a
  model has several; a vendor's own claims are predicted but not fitted.

With few points the model has two coefficients: the time of a layer, and the time that experts add to it. Errors are
those of models left out of the fit, and of models left out together with all models of the same shape.
"""

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from scipy.optimize import least_squares

from calibration.speeds import SpeedRecord, read_published, read_recorded
from mixtura.errors import ConfigError
from mixtura.hardware import lpu, wafer
from mixtura.hardware.chip import Chip, chip
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import Array

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "../shared/data/hardware"
TARGET = ROOT / "src/mixtura/hardware/data"
CONTEXT = 1024  # tokens: the recorded replies are of this order, and the context's part in the time is small
_MICRO = 1e-6
_HUBER = 1.345  # standard deviations: 95 % as efficient as least squares for normal errors (Huber, 1981)
_MAD = 1.4826  # standard deviations in a median absolute deviation of normal errors
_TINY = 1e-4

Term = Callable[[ModelShape, float], float]

# The factor of each coefficient, by name, as a function of a shape and its number of chips. The model uses the first
# two.
TERMS: dict[str, Term] = {
    "layers": lambda model, _: model.layers,
    "layers with experts": lambda model, _: model.moe_layers,
    "token": lambda _, __: 1.0,
    "layers x sqrt(chips a layer)": lambda model, chips: model.layers * math.sqrt(chips / model.layers),
    "layers x log2(1 + chips a layer)": lambda model, chips: model.layers * math.log2(1 + chips / model.layers),
    "layers with experts x log2(1 + chips a layer)": lambda model, chips: (
        model.moe_layers * math.log2(1 + chips / model.layers)
    ),
    "chips": lambda _, chips: chips,
    "layers x hidden / 4096": lambda model, _: model.layers * model.hidden / 4096,
    "layers x heads / 32": lambda model, _: model.layers * model.heads / 32,
    "vocabulary / 100,000": lambda model, _: model.vocabulary / 1e5,
    "layers with experts x experts a token": lambda model, _: model.moe_layers * model.used,
}
MODEL = ("layers", "layers with experts")
TRIED: tuple[tuple[str, ...], ...] = (
    ("layers",),
    MODEL,
    *(("layers", name) for name in TERMS if name not in MODEL),
    (*MODEL, "token"),
    (*MODEL, "layers x sqrt(chips a layer)"),
)


class SpeedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A speed and its predictions, in tokens per second; the last two are None for speeds that were not fitted.

    Attributes:
        speed: the published or recorded speed.
        predicted: prediction of the fit to all models.
        left_out: prediction of the fit without this model.
        twins_out: prediction of the fit without all models of this shape.
    """

    speed: SpeedRecord
    predicted: float
    left_out: float | None = None
    twins_out: float | None = None


class CandidateTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The fit of one set of terms: coefficients in microseconds, and mean relative errors of tokens per second."""

    terms: tuple[str, ...]
    microseconds: tuple[float, ...]
    in_sample: float
    left_out: float
    twins_out: float


class LatencyFit(msgspec.Struct, frozen=True, kw_only=True):
    """The fit of one machine: the coefficients, every speed with its predictions, and the candidate sets of terms."""

    coefficients: lpu.LpuCoefficients | wafer.WaferCoefficients
    points: tuple[SpeedPoint, ...]
    candidates: tuple[CandidateTerms, ...]


class LatencyFits(msgspec.Struct, frozen=True, kw_only=True):
    """The fits of both machines."""

    lpu: LatencyFit
    wafer: LatencyFit


class _FitTable(msgspec.Struct, frozen=True):
    """The data of a fit: seconds per token, seconds counted rather than fitted, the terms, and each row's shape."""

    seconds: Array
    counted: Array
    terms: Array
    twins: tuple[str, ...]


def fit(folder: Path = SOURCE, keep: Path | None = TARGET) -> LatencyFits:
    """Fit both machines and write the coefficients to the files that the step models read.

    Args:
        folder: the folder of `published_speeds.csv`; `timings/groq_usage_dev.csv` is in its parent folder.
        keep: the folder for `lpu.json` and `wafer.json`; None: do not write them.

    Raises:
        ConfigError: one of the two files is missing.
    """
    pages, replies = folder / "published_speeds.csv", folder.parent / "timings" / "groq_usage_dev.csv"
    for path in (pages, replies):
        if not path.is_file():
            raise ConfigError(
                f"no file {path}: give the folder hardware/ of the measured data, with timings/ beside it"
            )
    speeds = read_published(pages)
    groq = [speed for name, speed in speeds if name.startswith("Groq LPU")]
    cerebras = [speed for name, speed in speeds if name.startswith("Cerebras")]
    fits = LatencyFits(lpu=_fit_lpu([*groq, *read_recorded(replies)]), wafer=_fit_wafer(cerebras))
    if keep is not None:
        write(fits, keep)
    return fits


def write(fits: LatencyFits, folder: Path = TARGET) -> None:
    """Write the coefficients to the files that the step models read."""
    for name, found in (("lpu", fits.lpu), ("wafer", fits.wafer)):
        text = msgspec.json.format(msgspec.json.encode(found.coefficients), indent=2).decode("utf-8")
        (folder / f"{name}.json").write_text(f"{text}\n", "utf-8")


def _fit_lpu(speeds: list[SpeedRecord]) -> LatencyFit:
    device = chip("lpu_v1")
    taken = _most_replies([one for one in speeds if one.kind == "API usage" and not one.speculative])
    nothing = lpu.LpuCoefficients(
        chip=device.name, layer=0, experts=0, spread=0, left_out=0, models=0, date="", sources=()
    )

    def count(model: ModelShape) -> tuple[float, float]:
        step = lpu.step(model, device, 1, CONTEXT, fitted=nothing)
        return float(step.seconds), float(lpu.chips_needed(model, device, 1, CONTEXT))

    candidates = tuple(_candidate(_table(taken, names, count), names) for names in TRIED)
    table = _table(taken, MODEL, count)
    layer, experts = _solve(table)
    left, twins = _predict_without(table, alike=False), _predict_without(table, alike=True)
    found = lpu.LpuCoefficients(
        chip=device.name,
        layer=_four_digits(layer),
        experts=_four_digits(experts),
        spread=_four_digits(_spread(table, left)),
        left_out=_four_digits(_error(table, left)),
        models=len(taken),
        date=max(one.date for one in taken),
        sources=tuple(sorted({one.source for one in taken})),
    )
    rest = [msgspec.structs.replace(one, left=_why_left(one)) for one in speeds if one not in taken]
    points = _points(taken, _predict(table, table), left, twins) + tuple(
        SpeedPoint(speed=one, predicted=1 / float(lpu.step(one.shape, device, 1, CONTEXT, fitted=found).seconds))
        for one in rest
    )
    return LatencyFit(coefficients=found, points=points, candidates=candidates)


def _fit_wafer(speeds: list[SpeedRecord]) -> LatencyFit:
    device = chip("wse3")
    measured = [one for one in speeds if one.kind == "AA"]
    taken = _means([one for one in measured if not one.speculative])
    fast = _means([one for one in measured if one.speculative])
    nothing = wafer.WaferCoefficients(
        chip=device.name, layer=0, speculative=0, spread=0, left_out=0, models=0, date="", sources=()
    )

    def count(model: ModelShape) -> tuple[float, float]:
        step = wafer.step(model, device, 1, CONTEXT, fitted=nothing)
        return float(step.seconds), float(wafer.wafers_needed(model, device, 1, CONTEXT))

    tried = (("layers",), MODEL)
    table = _table(taken, tried[0], count)
    left, twins = _predict_without(table, alike=False), _predict_without(table, alike=True)
    found = wafer.WaferCoefficients(
        chip=device.name,
        layer=_four_digits(_solve(table)[0]),
        speculative=_four_digits(_solve(_table(fast, tried[0], count))[0]),
        spread=_four_digits(_spread(table, left)),
        left_out=_four_digits(_error(table, left)),
        models=len(taken),
        date=max(one.date for one in taken),
        sources=tuple(sorted({one.source for one in (*taken, *fast)})),
    )
    rest = [
        msgspec.structs.replace(one, left="speculative" if one.speculative else "claimed by the vendor only")
        for one in speeds
        if one.speculative or one.kind != "AA"
    ]
    points = _points(taken, _predict(table, table), left, twins) + tuple(
        SpeedPoint(speed=one, predicted=1 / _wafer_seconds(one, device, found)) for one in rest
    )
    candidates = tuple(_candidate(_table(taken, names, count), names) for names in tried)
    return LatencyFit(coefficients=found, points=points, candidates=candidates)


def _wafer_seconds(speed: SpeedRecord, device: Chip, found: wafer.WaferCoefficients) -> float:
    step = wafer.step(speed.shape, device, 1, CONTEXT, speculative=speed.speculative, fitted=found)
    return float(step.seconds)


def _table(
    speeds: Sequence[SpeedRecord], names: Sequence[str], counted: Callable[[ModelShape], tuple[float, float]]
) -> _FitTable:
    known = [counted(one.shape) for one in speeds]
    terms = [[TERMS[name](one.shape, chips) for name in names] for one, (_, chips) in zip(speeds, known, strict=True)]
    return _FitTable(
        np.array([1 / one.rate for one in speeds]),
        np.array([seconds for seconds, _ in known]),
        np.array(terms),
        tuple(_sizes(one.shape) for one in speeds),
    )


def _solve(table: _FitTable, rows: Sequence[int] | None = None) -> Array:
    """Return the coefficients in seconds, none negative: Huber's estimate for the logarithms of the times.

    The threshold is 1.345 standard deviations, estimated from the median absolute residual; threshold and coefficients
    are updated in turn.
    """
    chosen = list(range(len(table.seconds)) if rows is None else rows)
    seconds, counted, terms = table.seconds[chosen], table.counted[chosen], table.terms[chosen]

    def wrong(given: Array) -> Array:
        return np.asarray(np.log((counted + terms @ given * _MICRO + 1e-12) / seconds))

    guess = float(np.median((seconds - counted) / terms[:, 0])) / _MICRO
    start = np.array([0.9 * guess, *([0.05 * guess] * (terms.shape[1] - 1))])
    found = least_squares(wrong, start, bounds=(0, np.inf)).x
    for _ in range(20):
        bend = max(_HUBER * _MAD * float(np.median(np.abs(wrong(found)))), _TINY)
        before = found
        found = least_squares(wrong, np.maximum(found, 1e-6), bounds=(0, np.inf), loss="huber", f_scale=bend).x
        if np.allclose(found, before, rtol=_TINY):
            break
    return np.asarray(found) * _MICRO


def _predict(fitted: _FitTable, asked: _FitTable, rows: Sequence[int] | None = None) -> Array:
    """Return the seconds per token of the rows of `asked`, predicted by a fit to some rows of `fitted`."""
    return np.asarray(asked.counted + asked.terms @ _solve(fitted, rows))


def _predict_without(table: _FitTable, *, alike: bool) -> Array:
    """Return the seconds per token of each row, predicted by a fit to the other rows, or to rows of other shapes."""
    found = []
    for row, twin in enumerate(table.twins):
        others = [i for i, other in enumerate(table.twins) if (other != twin if alike else i != row)]
        found.append(_predict(table, table, others)[row])
    return np.array(found)


def _error(table: _FitTable, predicted: Array) -> float:
    """Return the mean relative error of tokens per second."""
    return float(np.mean(np.abs(table.seconds / predicted - 1)))


def _spread(table: _FitTable, predicted: Array) -> float:
    return float(np.sqrt(np.mean(np.log(table.seconds / predicted) ** 2)))


def _candidate(table: _FitTable, names: tuple[str, ...]) -> CandidateTerms:
    return CandidateTerms(
        terms=names,
        microseconds=tuple(float(value / _MICRO) for value in _solve(table)),
        in_sample=_error(table, _predict(table, table)),
        left_out=_error(table, _predict_without(table, alike=False)),
        twins_out=_error(table, _predict_without(table, alike=True)),
    )


def _points(speeds: Sequence[SpeedRecord], every: Array, left: Array, twins: Array) -> tuple[SpeedPoint, ...]:
    return tuple(
        SpeedPoint(
            speed=one,
            predicted=float(1 / a),
            left_out=float(1 / b),
            twins_out=float(1 / c),
        )
        for one, a, b, c in zip(speeds, every, left, twins, strict=True)
    )


def _why_left(speed: SpeedRecord) -> str:
    if speed.speculative:
        return "speculative"
    if speed.kind == "API usage":
        return "another median of this model is of as many replies or more"
    return "the vendor's page, no measurement" if speed.kind == "docs" else "measured by a client, over a network"


def _most_replies(speeds: Sequence[SpeedRecord]) -> list[SpeedRecord]:
    """Return for each model the speed with the most replies."""
    best: dict[str, SpeedRecord] = {}
    for one in speeds:
        if one.shape.name not in best or one.replies > best[one.shape.name].replies:
            best[one.shape.name] = one
    return [best[name] for name in sorted(best)]


def _means(speeds: Sequence[SpeedRecord]) -> list[SpeedRecord]:
    """Return for each model one speed, the geometric mean of its speeds."""
    groups: dict[str, list[SpeedRecord]] = defaultdict(list)
    for one in speeds:
        groups[one.shape.name].append(one)
    return [
        msgspec.structs.replace(
            group[-1],
            rate=statistics.geometric_mean([one.rate for one in group]),
            date=max(one.date for one in group),
        )
        for _, group in sorted(groups.items())
    ]


def _sizes(model: ModelShape) -> str:
    """Return the sizes that a step model uses of a shape; two models with equal sizes are twins."""
    speeds = msgspec.structs.asdict(model)
    return repr([value for name, value in speeds.items() if name not in ("name", "published", "vocabulary")])


def _four_digits(value: float) -> float:
    """Round to four significant digits, as the data does not support more."""
    return float(f"{value:.4g}")


def main() -> None:
    """Fit and write both machines, and print a line on the errors of each."""
    fits = fit(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE)
    for name, kept in (("LPU", fits.lpu.coefficients), ("wafer", fits.wafer.coefficients)):
        print(f"{name}: {kept.models} models, mean error of tokens/s of models left out {kept.left_out:.1%}")


if __name__ == "__main__":
    main()
