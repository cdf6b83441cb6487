"""Fits the MoE kernel model to measured latencies and reports its errors on data left out of the fit.

    python -m calibration.kernels [../shared/data/hardware/moe_kernel_latency.csv.gz] [--write]

A configuration is one GPU, engine, build, kernel, precision, model and degree of parallelism. Its power-law rows are
predicted from its own balanced rows (`mixtura.hardware.kernel.predict_skewed`). The few global coefficients of the
correction for uneven tiles are fitted on power-law rows of other models, so every error in the report is that of a
model left out of the fit. `--write` fits the coefficients to all rows and writes them into the package.
"""

import argparse
import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from calibration.robust import spread
from mixtura.errors import ConfigError
from mixtura.hardware import kernel, routing
from mixtura.hardware.chip import chip
from mixtura.hardware.kernel import BalancedCurve, KernelRates, LayerLine, MoeLayer, SkewCorrection
from mixtura.hardware.precision import BITS, precision_named
from mixtura.hardware.shapes import shape

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "../shared/data/hardware/moe_kernel_latency.csv.gz"
TARGET = ROOT / "src/mixtura/hardware/data/kernels.json"

Array = NDArray[np.float64]

_PRECISIONS = {"w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4"}
_KNOTS = (1 / 64, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)  # tokens per expert
_RIDGE, _CLOSE = 3.0, 0.01
_BANDS = ((1, 4), (5, 16), (17, 64), (65, 128), (129, 256), (257, 1024), (1025, 4096))
_FEW = 128  # tokens up to which reading bounds a layer and a line in D(B) is a useful model


class KernelConfiguration(NamedTuple):
    """The rows of one kernel for one layer: seconds by tokens, balanced and by alpha."""

    gpu: str
    engine: str
    source: str
    model: str
    precision: str
    layer: MoeLayer
    even: dict[int, float]
    uneven: dict[tuple[float, int], float]


class KernelPoint(NamedTuple):
    """One power-law row: the measured seconds and those of each method of prediction."""

    gpu: str
    engine: str
    source: str
    model: str
    precision: str
    alpha: float
    tokens: int
    per_expert: float
    tiles: float
    measured: float
    first: float
    uniform: float
    line: float
    balanced: float


class KernelErrors(msgspec.Struct, frozen=True):
    """Median absolute relative errors over some rows.

    `predicted`: with coefficients fitted on other models; `first`: without the correction; `uniform`: the balanced
    time scaled by the uniform D(B); `line`: the line a + D b of balanced runs with that D(B) (useful up to 128
    tokens); `balanced`: the balanced time unchanged. `bias` is the median signed error of `predicted`, `worst` the
    error that one in ten exceeds.
    """

    by: str
    group: str
    rows: int
    predicted: float
    first: float
    uniform: float
    line: float
    balanced: float
    bias: float
    worst: float


class FormulaFit(msgspec.Struct, frozen=True):
    """Errors of `layer_time` on balanced rows, without any run of the kernel: in sample, and with a model left out."""

    gpu: str
    precision: str
    rows: int
    fitted: float
    left_out: float


class KernelReport(msgspec.Struct, frozen=True):
    """The result of the fit: numbers of predicted and of omitted power-law rows, errors, coefficients."""

    rows: int
    left: int
    why_left: str
    errors: tuple[KernelErrors, ...]
    formula: tuple[FormulaFit, ...]
    line_fit: float
    memory: float
    coefficients: kernel.KernelCoefficients


def read(path: Path) -> list[KernelConfiguration]:
    """Return the configurations in a table of latencies."""
    found: dict[tuple[str, ...], KernelConfiguration] = {}
    names = ("hw", "fw", "ver", "kernel_source", "model", "moe_dtype", "moe_tp_size", "moe_ep_size")
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            key = tuple(row[name] for name in (*names, "hidden_size", "inter_size", "topk", "num_experts"))
            if key not in found:
                found[key] = _configuration(row)
            seconds, tokens = float(row["latency_ms"]) / 1000, int(row["num_tokens"])
            if row["distribution"] == "balanced":
                found[key].even[tokens] = seconds
            elif row["distribution"].startswith("power_law_"):
                found[key].uneven[float(row["distribution"].removeprefix("power_law_")), tokens] = seconds
    return list(found.values())


def _configuration(row: Mapping[str, str]) -> KernelConfiguration:
    precision = precision_named(_PRECISIONS.get(row["moe_dtype"], row["moe_dtype"]))
    groups, groups_used = _groups(row["model"])
    layer = MoeLayer(
        experts=int(row["num_experts"]),
        used=int(row["topk"]),
        hidden=int(row["hidden_size"]),
        inner=int(row["inter_size"]) // int(row["moe_tp_size"]),
        weight=BITS[precision] / 8,
        groups=groups,
        groups_used=groups_used,
        ranks=int(row["moe_ep_size"]),
    )
    return KernelConfiguration(
        chip(row["hw"]).name, row["fw"], row["kernel_source"], row["model"], precision, layer, {}, {}
    )


def _groups(model: str) -> tuple[int, int]:
    """Return the groups of a model's experts and how many a token uses, which the table does not contain."""
    try:
        found = shape(model)
    except ConfigError:
        return 1, 1
    return found.groups, found.groups_used


def points(configurations: Sequence[KernelConfiguration]) -> list[KernelPoint]:
    """Return the power-law rows of configurations that also have balanced rows."""
    return [point for each in configurations if each.even for point in _points(each)]


def _points(each: KernelConfiguration) -> list[KernelPoint]:
    curve, layer = kernel.balanced_curve(each.even), each.layer
    fit = kernel.fit_line(curve, layer, chip(each.gpu).bandwidth)
    slope = uniform_line(curve, layer)
    found: list[KernelPoint] = []
    for (alpha, tokens), measured in each.uneven.items():
        first, tiles = kernel.predict_uncorrected(curve, fit, layer, tokens, alpha)
        even = float(curve.at(tokens))
        activated = float(routing.distinct(tokens, layer.experts, layer.used))
        share = activated / float(routing.distinct_balanced(tokens, layer.experts, layer.used))
        fixed = min(fit.fixed, even)
        found.append(
            KernelPoint(
                *(each.gpu, each.engine, each.source, each.model, each.precision, alpha, tokens),
                per_expert=tokens * layer.used / layer.experts,
                tiles=tiles,
                measured=measured,
                first=first,
                uniform=fixed + share * (even - fixed),
                line=slope.fixed + activated * slope.expert,
                balanced=even,
            )
        )
    return found


def uniform_line(curve: BalancedCurve, layer: MoeLayer) -> LayerLine:
    """Fit t = a + D b to balanced runs of up to 128 tokens: the baseline, used with the uniform D(B)."""
    few = curve.tokens <= max(_FEW, curve.tokens[0])
    activated = routing.distinct_balanced(curve.tokens[few], layer.experts, layer.used)
    table = np.column_stack([np.ones(len(activated)), activated]) / curve.seconds[few, None]
    (fixed, slope), *_ = np.linalg.lstsq(table, np.ones(len(activated)), rcond=None)
    return LayerLine(float(fixed), float(slope), False)


def fit_correction(rows: Sequence[KernelPoint]) -> SkewCorrection:
    """Return the correction with the least absolute errors of the logarithm, by reweighted ridge regression."""
    table, wanted = _table(rows), np.log(np.array([row.measured / row.first for row in rows]))
    weights, ridge = np.ones(len(rows)), _RIDGE * np.eye(2 * len(_KNOTS))
    found: Array = np.zeros(2 * len(_KNOTS))
    for _ in range(10):
        scaled = table * weights[:, None]
        found = np.asarray(np.linalg.solve(table.T @ scaled + ridge, scaled.T @ wanted), dtype=np.float64)
        weights = 0.03 / np.maximum(np.abs(wanted - table @ found), _CLOSE)
    left = np.exp(table @ found - wanted)
    level, tiles = (tuple(round(float(value), 4) for value in half) for half in np.split(found, 2))
    off = round(spread(left, np.ones(len(rows))), 4)
    return SkewCorrection(knots=_KNOTS, level=level, tiles=tiles, tile=kernel.TILE, spread=off)


def _table(rows: Sequence[KernelPoint]) -> Array:
    place, knots = np.log2([row.per_expert for row in rows]), np.log2(_KNOTS)
    near = np.column_stack([np.interp(place, knots, one) for one in np.eye(len(_KNOTS))])
    return np.hstack([near, near * np.log([row.tiles for row in rows])[:, None]])


def predict_left_out(rows: Sequence[KernelPoint]) -> Array:
    """Return the predicted seconds of each row, with a correction fitted on the rows of all other models."""
    found = np.array([row.first for row in rows])
    for model in {row.model for row in rows}:
        mine = np.array([row.model == model for row in rows])
        here = [row for row in rows if row.model == model]
        fitted = fit_correction([row for row in rows if row.model != model] or rows)
        found[mine] *= fitted.factor([row.per_expert for row in here], [row.tiles for row in here])
    return found


def errors(rows: Sequence[KernelPoint], predicted: Array) -> tuple[KernelErrors, ...]:
    """Return the errors over all rows, and by groups of rows."""
    ways: dict[str, Callable[[KernelPoint], str]] = {
        "all": lambda row: "all power-law rows",
        "rows": lambda row: f"up to {_FEW} tokens" if row.tokens <= _FEW else f"above {_FEW} tokens",
        "tokens": lambda row: next(f"{low} to {high}" for low, high in _BANDS if row.tokens <= high or high == 4096),
        "distribution": lambda row: f"power_law_{row.alpha:g}",
        "model": lambda row: row.model,
        "GPU": lambda row: row.gpu,
        "engine": lambda row: row.engine,
        "precision": lambda row: row.precision,
        "kernel": lambda row: row.source,
    }
    found = []
    for by, name_of in ways.items():
        groups: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            groups[name_of(row)].append(place)
        ordered = groups if by == "tokens" else sorted(groups)
        found += [_errors(by, name, [rows[i] for i in groups[name]], predicted[groups[name]]) for name in ordered]
    return tuple(found)


def _errors(by: str, group: str, rows: Sequence[KernelPoint], predicted: Array) -> KernelErrors:
    measured = np.array([row.measured for row in rows])
    off = predicted / measured - 1

    def median(name: str) -> float:
        return float(np.median(np.abs(np.array([getattr(row, name) for row in rows]) / measured - 1)))

    return KernelErrors(
        by=by,
        group=group,
        rows=len(rows),
        predicted=float(np.median(np.abs(off))),
        first=median("first"),
        uniform=median("uniform"),
        line=median("line"),
        balanced=median("balanced"),
        bias=float(np.median(off)),
        worst=float(np.quantile(np.abs(off), 0.9)),
    )


def fit_rates(configurations: Sequence[KernelConfiguration]) -> KernelRates:
    """Return a robust fit of fixed time and shares of bandwidth and peak to one GPU and precision's balanced rows."""
    table = _works(configurations)

    def off(logs: Array) -> Array:
        return _log_time(table, logs) - np.log(table[:, 2])

    found = least_squares(off, np.log([40e-6, 0.7, 0.5]), loss="soft_l1", f_scale=0.1)
    fixed, memory, compute = (float(value) for value in np.exp(found.x))
    size = spread(np.exp(off(found.x)), np.ones(len(table)))
    return KernelRates(float(f"{fixed:.4g}"), round(memory, 4), round(compute, 4), round(size, 4))


def _log_time(table: Array, logs: Array) -> Array:
    fixed, memory, compute = np.exp(logs)
    return np.asarray(np.log(fixed + np.maximum(table[:, 0] / memory, table[:, 1] / compute)), dtype=np.float64)


def _works(configurations: Sequence[KernelConfiguration]) -> Array:
    """Return the seconds to read the experts, to compute, and measured; one row per balanced run."""
    rows = []
    for each in configurations:
        there, layer = chip(each.gpu), each.layer
        limited = kernel.fit_line(kernel.balanced_curve(each.even), layer, there.bandwidth).limited
        for tokens, seconds in each.even.items():
            activated = np.count_nonzero(kernel.balanced_loads(tokens, layer, limited=limited))
            work = tokens * layer.used / layer.ranks * layer.operations / there.flops(each.precision)
            rows.append((activated / layer.ranks * layer.expert_bytes / there.bandwidth, work, seconds))
    return np.array(rows)


def fit_formula(
    configurations: Sequence[KernelConfiguration],
) -> tuple[dict[str, dict[str, KernelRates]], tuple[FormulaFit, ...]]:
    """Return the rates of every GPU and precision, and their errors."""
    groups: dict[tuple[str, str], list[KernelConfiguration]] = defaultdict(list)
    for each in configurations:
        if each.even:
            groups[each.gpu, each.precision].append(each)
    rates: dict[str, dict[str, KernelRates]] = defaultdict(dict)
    formulas = []
    for (gpu, precision), here in sorted(groups.items()):
        rates[gpu][precision] = fit_rates(here)
        own = _off(here, rates[gpu][precision])
        models = {each.model for each in here}
        left_out = float("nan")
        if len(models) > 1:
            split = [([e for e in here if e.model == m], [e for e in here if e.model != m]) for m in models]
            left_out = float(np.median(np.concatenate([_off(one, fit_rates(rest)) for one, rest in split])))
        formulas.append(FormulaFit(gpu, precision, len(own), float(np.median(own)), left_out))
    return dict(rates), tuple(formulas)


def _off(configurations: Sequence[KernelConfiguration], rates: KernelRates) -> Array:
    table, logs = _works(configurations), np.log([rates.fixed, rates.memory, rates.compute])
    return np.asarray(np.abs(np.exp(_log_time(table, logs)) / table[:, 2] - 1), dtype=np.float64)


def run(path: Path = SOURCE) -> KernelReport:
    """Fit everything and return the report. Takes about half a minute."""
    configurations = read(path)
    rows = points(configurations)
    rates, formula = fit_formula(configurations)
    shares, lines = _lines(configurations)
    coefficients = kernel.KernelCoefficients(
        source="NVIDIA AIConfigurator 0.12, MoE kernel latencies, Apache-2.0",
        fitted="python -m calibration.kernels --write",
        rates=rates,
        correction=fit_correction(rows),
    )
    return KernelReport(
        rows=len(rows),
        left=sum(len(each.uneven) for each in configurations) - len(rows),
        why_left="their configuration has no balanced row to predict from",
        errors=errors(rows, predict_left_out(rows)),
        formula=formula,
        line_fit=lines,
        memory=shares,
        coefficients=coefficients,
    )


def _lines(configurations: Sequence[KernelConfiguration]) -> tuple[float, float]:
    """Return the median share of the bandwidth and the median error of lines t = a + D b fitted to balanced runs."""
    shares, off = [], []
    for each in configurations:
        if len(each.even) < 4:
            continue
        curve, layer, there = kernel.balanced_curve(each.even), each.layer, chip(each.gpu)
        fit = kernel.fit_line(curve, layer, there.bandwidth)
        if fit.expert > 0:
            shares.append(layer.expert_bytes / there.bandwidth / fit.expert)
        few = curve.tokens * layer.used <= 2 * layer.experts
        loads = [kernel.balanced_loads(int(n), layer, limited=fit.limited) for n in curve.tokens[few]]
        found = fit.fixed + fit.expert * np.array([np.count_nonzero(load) for load in loads])
        off += list(np.abs(found / curve.seconds[few] - 1))
    return float(np.median(shares)), float(np.median(off))


def write(report: KernelReport, path: Path = TARGET) -> None:
    """Write the coefficients into the package."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report.coefficients), indent=1) + b"\n")


def main() -> None:
    """Fit and print; with `--write`, also write the coefficients."""
    parser = argparse.ArgumentParser(prog="python -m calibration.kernels", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=SOURCE)
    parser.add_argument("--write", action="store_true", help="write the coefficients into the package")
    given = parser.parse_args()
    report = run(given.path)
    if given.write:
        write(report)
    print(f"{report.rows:,} rows predicted, {report.left:,} left out: {report.why_left}")
    print("median absolute errors: predicted, first, uniform, line, balanced; bias; 90th percentile")
    print(f"lines of balanced runs: error {report.line_fit:.1%}, share of the bandwidth {report.memory:.2f}")
    for row in report.errors:
        values = (row.predicted, row.first, row.uniform, row.line, row.balanced, row.bias, row.worst)
        print(f"{row.by:13}{row.group[:60]:60}{row.rows:7,}" + "".join(f"{value:8.1%}" for value in values))
    for each in report.formula:
        print(f"{each.gpu:10}{each.precision:7}{each.rows:6,}{each.fitted:8.1%}{each.left_out:8.1%}")


if __name__ == "__main__":
    main()
