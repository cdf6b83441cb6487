"""Renders the report of all fits as Markdown."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from calibration import assembly as assembling
from calibration import kernels as kernel_fit
from calibration.robust import Array
from calibration.rows import ServingRow
from calibration.serving import LeaveOutTrial, ServingFit, chain, predict, token_points
from calibration.tables import paragraphs, percent, table
from mixtura.hardware.fitted import FittedFactors, factors, first_token, token_step
from mixtura.hardware.gpu import all_experts, one_tokens_experts
from mixtura.hardware.step import NINETIETH

BANDS: tuple[tuple[float, float], ...] = ((0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, float("inf")))
HEAD = """\
# How well the step models fit

`make fit` (`python -m calibration fit`) generates this whole page.
Errors are |predicted / measured - 1| of points left out of the fit: the median unless a mean is stated.
The data are measured serving points and kernel times (NVIDIA AIConfigurator 0.12, Apache-2.0), and speeds of
providers, published or recorded in replies.
"""
CHAIN = """\
The factor of each work is fitted in a chain: all points, an engine on a GPU, a build of it, a setup under that build.
Each link is shrunk towards the link before it.
The prior of the first link was set once, after inspecting fits of all points: four fifths of the bandwidth, half the
peak, tens of microseconds per layer.
"""
INTERVAL = """\
Four of five left-out points lie within the *80 % interval*, which predictions report as their range.
If one configuration was measured more than once, its times differ by more than {apart} in one case of four: builds
differ, and the data do not record whether multi-token prediction was on.
"""
AWAKE = """\
The same fit with other assumptions on the experts that a step reads, for points of MoE models only, by sequences in
flight:
"""
UNKNOWN = """\
For a model that was never measured with an engine, four of five times to first token lie within a factor of
{reach:.1f}: in some campaigns the first token took seconds at any load, which no work explains.
"""
FACTORS = """\
Pooled over all engines and GPUs; 1 is the data sheet's figure, or one microsecond for works counted in microseconds.
"""
NOT_FITTED = """\
A speed without a left-out prediction was not fitted: it was measured by a client, claimed, or speculative.
"""
_LEFT_OUT = {
    "calibrated": "a tenth of the configurations (engine, build and GPU remain in the fit)",
    "curve": "a tenth of the curves (no other batch of the setup remains in the fit)",
    "model": "a model, all of its points",
    "GPU": "a GPU, all of its points",
}
_ERRORS = ("left out", "median", "mean", "80 % interval")


def whole(parts: Sequence[str]) -> str:
    """Return the whole page."""
    return paragraphs(HEAD, *parts)


def serving(found: ServingFit) -> str:
    """Return the section on GPUs: times per token and to the first token."""
    points, every = found.points[0], found.all_rows["distinct experts"]
    apart = sum(row.load.apart for row in points.rows)
    known = f"{len(points.rows):,} points have a known batch, {apart} of them disaggregated prefill."
    unsure = len(every.points.rows) - len(points.rows)
    bands = ("experts read", *(_band(*band) for band in BANDS), "all")
    assumptions = {"those that a batch activates, D(B)": found.token["calibrated"], **found.ablations}
    names = ("left out", "points", "time per token", "time to first token")
    pooled = zip(points.names, found.chains[1].pooled.tolist(), strict=True)
    return paragraphs(
        "## GPUs: time per output token",
        f"{known}\nAnother {unsure:,} points do not record how many decode workers shared the load.\n{CHAIN}",
        table(
            _ERRORS,
            [(label, *_row(found.token[name])) for name, label in _LEFT_OUT.items()]
            + [("configurations, including points of unknown batch", *_row(every))],
        ),
        INTERVAL.format(apart=percent(_repeat_spread(points.rows))),
        "### Loaded experts",
        AWAKE,
        table(bands, [(name, *_bands(trial)) for name, trial in assumptions.items()]),
        "Including points of unknown batch:",
        table(bands, [(name, *_bands(trial)) for name, trial in found.all_rows.items()]),
        "### Models and GPUs left out",
        table(names, _each(found, "model", lambda row: row.model) + _each(found, "GPU", lambda row: row.chip.name)),
        "### Factors",
        FACTORS,
        table(("work", "factor"), [(name, f"{value:.2f}") for name, value in pooled]),
        "## GPUs: time to first token",
        table(_ERRORS, [(label, *_row(found.first[name])) for name, label in _LEFT_OUT.items()]),
        UNKNOWN.format(reach=_reach(found.first["model"])),
    )


def kernels(found: kernel_fit.KernelReport) -> str:
    """Return the section on single MoE layers."""
    head = ("points", "number", "predicted", "uniform D(B)", "balanced time unchanged", "bias", "90th percentile")

    def row(each: kernel_fit.KernelErrors) -> tuple[str, ...]:
        shares = (each.predicted, each.uniform, each.balanced)
        label = each.group if each.by == "all" else f"{each.by}: {each.group}"
        return (label, f"{each.rows:,}", *map(percent, shares), f"{100 * each.bias:+.1f}%", percent(each.worst))

    formula = [
        (f"{each.gpu}, {each.precision}", f"{each.rows:,}", percent(each.fitted), percent(each.left_out))
        for each in found.formula
    ]
    return paragraphs(
        "## One MoE layer on a GPU, routing by a power law",
        f"{found.rows:,} measured points, predicted from balanced runs of the same configuration; the correction is "
        f"fitted on power-law points of other models.\n{found.left:,} points are omitted: {found.why_left}.",
        table(head, [row(each) for each in found.errors]),
        "Balanced runs predicted by the formula alone, without any run of the kernel:",
        table(("GPU and precision", "points", "fitted", "model left out"), formula),
    )


def assembly(found: assembling.LatencyFits) -> str:
    """Return the sections on LPUs and wafers."""
    return paragraphs(*(_line(title, fit) for title, fit in (("LPUs", found.lpu), ("Wafers", found.wafer))))


def serving_check(path: Path, rows: Sequence[ServingRow], fitted_on: Sequence[ServingRow]) -> str:
    """Return the errors of the shipped factors on `rows`, and of fits with other ways to count experts."""
    by = [
        factors(row.chip, row.shape, row.setup, engine=row.engine, build=row.build, apart=row.load.apart)
        for row in rows
    ]
    measured = np.array([row.token for row in rows])
    near = np.abs(_predict_token(rows, by) / measured - 1)
    errors = {"those that a batch activates, D(B)": near}
    for name, way in {"all experts": all_experts, "active only": one_tokens_experts}.items():
        found = chain(token_points(fitted_on, way))
        errors[name] = np.abs(predict(found, token_points(rows, way)) / measured - 1)
    moe, batch = np.array([row.shape.experts > 0 for row in rows]), np.array([row.batch for row in rows])
    bands = [
        (name, *(_median(off[moe & (low < batch) & (batch <= high)]) for low, high in BANDS), _median(off[moe]))
        for name, off in errors.items()
    ]
    groups = {"all": np.ones(len(rows), dtype=bool), "batch known": np.array([row.sure for row in rows])}
    for level in sorted({each.level for each in by}):
        groups[f"factors of: {level}"] = np.array([each.level == level for each in by])
    for model in sorted({row.model for row in rows}):
        groups[model] = np.array([row.model == model for row in rows])
    first, spoken = _first(rows, by), np.array([row.first > 0 for row in rows])
    table_of = [
        (name, f"{chosen.sum():,}", _median(near[chosen]), _median(first[chosen & spoken]))
        for name, chosen in groups.items()
    ]
    return paragraphs(
        f"{path.name}: {len(rows):,} points, predicted with the factors in the package.",
        table(("points", "number", "time per token", "time to first token"), table_of),
        table(("experts read", *(_band(*band) for band in BANDS), "all"), bands),
    )


def _predict_token(rows: Sequence[ServingRow], by: Sequence[FittedFactors]) -> Array:
    steps = [token_step(row.shape, row.chip, row.setup, row.load, one) for row, one in zip(rows, by, strict=True)]
    return np.array([float(step.seconds) for step in steps])


def _first(rows: Sequence[ServingRow], by: Sequence[FittedFactors]) -> Array:
    steps = [first_token(row.shape, row.chip, row.setup, row.load, one) for row, one in zip(rows, by, strict=True)]
    return np.array(
        [abs(float(step.seconds) / max(row.first, 1e-9) - 1) for step, row in zip(steps, rows, strict=True)]
    )


def _line(title: str, fit: assembling.LatencyFit) -> str:
    rows = [
        (
            f"{point.speed.model}, {point.speed.source}",
            f"{point.speed.rate:,.0f}",
            f"{point.predicted:,.0f}",
            *(
                ("", "")
                if (out := point.left_out) is None
                else (f"{out:,.0f}", f"{100 * (out / point.speed.rate - 1):+.0f}%")
            ),
        )
        for point in fit.points
    ]
    tried = [(" + ".join(each.terms), percent(each.in_sample), percent(each.left_out)) for each in fit.candidates]
    found = fit.coefficients
    return paragraphs(
        f"## {title}: tokens per second of one user",
        f"Mean error with one of {found.models} models left out: {percent(found.left_out)}.\n{NOT_FITTED}",
        table(("model and source", "measured", "fitted", "left out", "error"), rows),
        "Candidate sets of terms, mean errors:",
        table(("terms", "in sample", "one model left out"), tried),
    )


def _each(found: ServingFit, by: str, name: Callable[[ServingRow], str]) -> list[tuple[str, ...]]:
    token, first = found.token[by], found.first[by]

    def errors(trial: LeaveOutTrial, group: str) -> str:
        return percent(trial.among(lambda row: name(row) == group))

    names = [name(row) for row in token.points.rows]
    return [(each, f"{names.count(each):,}", errors(token, each), errors(first, each)) for each in sorted(set(names))]


def _repeat_spread(rows: Sequence[ServingRow]) -> float:
    """Return the relative difference that repeated times of a configuration exceed in one case of four."""
    times: dict[str, list[float]] = {}
    for row in rows:
        times.setdefault(row.configuration, []).append(row.token)
    apart = [max(found) / min(found) - 1 for found in times.values() if len(found) > 1]
    return float(np.quantile(apart, 0.75))


def _reach(trial: LeaveOutTrial) -> float:
    """Return the factor within which four of five points lie."""
    return float(np.exp(NINETIETH * trial.spread))


def _row(trial: LeaveOutTrial) -> tuple[str, str, str]:
    reach = _reach(trial)
    return percent(trial.median), percent(trial.mean), f"/ {reach:.2f} to x {reach:.2f}"


def _bands(trial: LeaveOutTrial) -> list[str]:
    def within(low: float, high: float) -> str:
        return percent(trial.among(lambda row: row.shape.experts > 0 and low < row.batch <= high))

    return [*(within(*band) for band in BANDS), percent(trial.among(lambda row: row.shape.experts > 0))]


def _band(low: float, high: float) -> str:
    return f"over {low:.0f}" if high == float("inf") else f"{low + 1:.0f} to {high:.0f}"


def _median(errors: Array) -> str:
    return percent(float(np.median(errors))) if len(errors) else ""
