"""Fits the factors of the GPU model to measured serving points and evaluates them on points left out.

Factors are fitted in a chain, each link shrunk towards the one before: all points, an engine on a GPU, a build of it, a
setup under that build (precision, GPUs, attention ranks). The trials leave out:

- *calibrated*: a tenth of the configurations, with all their repetitions; ten times.
- *curve*: a tenth of the curves, so that no other batch of the same setup is in the fit.
- *model*: all points of a model; only other models remain, so engines are pooled strongly.
- *GPU*: all points of a GPU.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from calibration.robust import Array, FactorPrior, fit, spread
from calibration.rows import ServingRow
from mixtura.hardware.fitted import FactorFile, FactorTable, Level
from mixtura.hardware.fitted import keys as measured_keys
from mixtura.hardware.gpu import (
    ExpertCount,
    activated_experts,
    all_experts,
    first_works,
    mixed_works,
    one_tokens_experts,
)

FOLDS = 10
FEWEST = 4  # least points for a link of its own

# The prior value and expected deviation of each factor: four fifths of the bandwidth, half the peak, tens of
# microseconds per layer and per exchange between GPUs.
TOKEN: dict[str, tuple[float, float]] = {
    "weights": (1.2, 0.3),
    "experts": (1.3, 0.3),
    "kv": (1.2, 0.3),
    "products": (1.0, 0.5),
    "scores": (2.0, 0.5),
    "layers": (45.0, 15.0),
    "moe layers": (8.0, 8.0),
    "hops": (12.0, 8.0),
    "ring": (6.0, 4.0),
    "sequences": (0.0, 5.0),
    "host": (0.0, 0.4),
    "prefill": (1.8, 0.5),
    "prefill experts": (1.8, 0.5),
    "prefill weights": (0.1, 0.2),
    "prefill links": (0.8, 0.5),
}
FIRST: dict[str, tuple[float, float]] = {
    "own prefill": (2.0, 0.5),
    "own prefill experts": (3.0, 0.5),
    "own prefill weights": (0.5, 0.3),
    "own prefill links": (1.0, 0.5),
    "other prefill": (0.1, 0.1),
    "other prefill experts": (0.1, 0.1),
    "other prefill weights": (0.02, 0.05),
    "other prefill links": (0.05, 0.1),
    "flow": (0.05, 0.5),
    "step": (3.0, 1.0),
    "host": (4.0, 2.0),
    "layers": (0.0, 1.0),
    "arrivals": (0.3, 1.0),
    "tokens": (0.3, 1.0),
    "batch tokens": (0.3, 1.0),
}
# The weight, in points, with which a link is shrunk: all points towards the prior, then engine, build and setup towards
# the link before. For a new model an engine is shrunk towards all points with the weight `FAR`.
PRIOR_STRENGTH, STRENGTHS, FAR = 100.0, (0.01, 0.01, 0.03), 10.0


class ServingPoints(NamedTuple):
    """Measured points as arrays: `works` in seconds [points, works], `measured` in seconds, and their `rows`."""

    rows: Sequence[ServingRow]
    names: tuple[str, ...]
    works: Array
    measured: Array
    prior: FactorPrior

    def where(self, chosen: Array) -> "ServingPoints":
        """Return the points for which `chosen` is true."""
        rows = [row for row, kept in zip(self.rows, chosen, strict=True) if kept]
        return self._replace(rows=rows, works=self.works[chosen], measured=self.measured[chosen])


class FactorChain(NamedTuple):
    """Fitted factors: `pooled` for all points, and by key for engines, builds and setups; if `far`, engines only."""

    pooled: Array
    links: tuple[dict[str, Array], ...]
    far: bool

    def factors(self, row: ServingRow) -> Array:
        """Return the factors nearest to a row."""
        found = [link[key] for key, link in zip(keys(row, far=self.far), self.links, strict=False) if key in link]
        return found[-1] if found else self.pooled


class LeaveOutTrial(NamedTuple):
    """Points, and the prediction of each in seconds when it was left out of the fit."""

    name: str
    points: ServingPoints
    predicted: Array

    @property
    def errors(self) -> Array:
        """Relative errors, positive if the prediction is too long."""
        return self.predicted / self.points.measured - 1

    @property
    def median(self) -> float:
        """The median absolute relative error."""
        return float(np.median(np.abs(self.errors)))

    @property
    def mean(self) -> float:
        """The mean absolute relative error."""
        return float(np.mean(np.abs(self.errors)))

    @property
    def spread(self) -> float:
        """The spread of a `TimeEstimate` predicted this way."""
        return spread(self.predicted, self.points.measured)

    def among(self, chosen: Callable[[ServingRow], bool]) -> float:
        """Return the median absolute relative error of some points; nan if there are none."""
        errors = np.abs(self.errors)[[chosen(row) for row in self.points.rows]]
        return float(np.median(errors)) if len(errors) else float("nan")


class ServingFit(NamedTuple):
    """The result of a fit.

    `token` and `first` hold the trials by what they leave out, `ablations` the calibrated trial with other ways to
    count loaded experts, `all_rows` the same including rows of unknown batch. `chains` are fitted to all points: for
    known and for new models, of times per token and of times to first token.
    """

    token: Mapping[str, LeaveOutTrial]
    first: Mapping[str, LeaveOutTrial]
    ablations: Mapping[str, LeaveOutTrial]
    all_rows: Mapping[str, LeaveOutTrial]
    chains: tuple[FactorChain, FactorChain, FactorChain, FactorChain]
    points: tuple[ServingPoints, ServingPoints]


def keys(row: ServingRow, *, far: bool = False) -> tuple[str, ...]:
    """Return the keys of a row's engine, build and setup, each including those before it.

    For a model that is new to an engine (`far`), engines with and without disaggregated prefill share a key.
    """
    return measured_keys(row.engine, row.chip, row.load.apart and not far, row.build, row.setup)


def token_points(rows: Sequence[ServingRow], expert_count: ExpertCount = activated_experts) -> ServingPoints:
    """Return the times per token and their works."""
    works = [mixed_works(row.shape, row.chip, row.setup, row.load, expert_count) for row in rows]
    return _points(rows, works, TOKEN, [row.token for row in rows])


def first_points(rows: Sequence[ServingRow], steps: Array) -> ServingPoints:
    """Return the times to the first token and their works; `steps` are predicted times per token, seconds."""
    works = [first_works(row.shape, row.chip, row.setup, row.load, step) for row, step in zip(rows, steps, strict=True)]
    return _points(rows, works, FIRST, [row.first for row in rows])


def chain(points: ServingPoints, *, far: bool = False) -> FactorChain:
    """Fit the links, each shrunk towards the one before; `far`: only engines, shrunk strongly towards all points."""
    pooled = fit(points.works, points.measured, points.prior)
    before = [pooled] * len(points.rows)
    links = []
    for depth, strength in enumerate([FAR] if far else STRENGTHS):
        mine = [keys(row, far=far)[depth] for row in points.rows]
        found = _link(points, mine, before, strength)
        before = [found.get(key, last) for key, last in zip(mine, before, strict=True)]
        links.append(found)
    return FactorChain(pooled, tuple(links), far)


def fit_serving(rows: Sequence[ServingRow]) -> ServingFit:
    """Fit times per token and to first token, and evaluate both on left-out points."""
    sure = [row for row in rows if row.sure]
    token = token_points(sure)
    near = leave_out("calibrated", token, _configuration, folds=FOLDS)
    spoken = [(row, step) for row, step in zip(sure, near.predicted, strict=True) if row.first > 0]
    first = first_points([row for row, _ in spoken], np.array([step for _, step in spoken]))

    def try_left_out(points: ServingPoints) -> dict[str, LeaveOutTrial]:
        return {
            "calibrated": leave_out("calibrated", points, _configuration, folds=FOLDS),
            "curve": leave_out("curve", points, lambda row: row.curve, folds=FOLDS),
            "model": leave_out("model", points, lambda row: row.kind, far=True),
            "GPU": leave_out("GPU", points, lambda row: row.chip.name, far=True),
        }

    def try_all_rows(expert_count: ExpertCount) -> LeaveOutTrial:
        return leave_out("all rows", token_points(rows, expert_count), _configuration, folds=FOLDS)

    ablations = {"all experts": all_experts, "active only": one_tokens_experts}
    return ServingFit(
        token=try_left_out(token),
        first=try_left_out(first),
        ablations={
            name: leave_out(name, token_points(sure, activated_experts), _configuration, folds=FOLDS)
            for name, activated_experts in ablations.items()
        },
        all_rows={"distinct experts": try_all_rows(activated_experts)}
        | {name: try_all_rows(by) for name, by in ablations.items()},
        chains=(chain(token_points(rows)), chain(token_points(rows), far=True), chain(first), chain(first, far=True)),
        points=(token, first),
    )


def table(
    near: FactorChain, far: FactorChain, points: ServingPoints, trials: Mapping[str, LeaveOutTrial]
) -> FactorTable:
    """Return the factors of a fit in the form that the package stores."""
    engines, builds, setups = near.links
    spreads: dict[Level, float] = {
        "setup": trials["calibrated"].spread,
        "build": trials["curve"].spread,
        "engine": trials["curve"].spread,
        "new model": trials["model"].spread,
        "new chip": trials["GPU"].spread,
    }
    return FactorTable(
        works=list(points.names),
        pooled=_short(far.pooled),
        far={key: _short(each) for key, each in far.links[0].items()},
        near={key: _short(each) for key, each in (engines | builds | setups).items()},
        spread={level: round(each, 4) for level, each in spreads.items()},
    )


def write(found: ServingFit, path: Path) -> None:
    """Write the factors to the file that the package reads."""
    near, far, first_near, first_far = found.chains
    token, first = found.points
    seen: dict[str, set[str]] = {}
    for row in found.all_rows["distinct experts"].points.rows:
        for key in keys(row):
            seen.setdefault(key, set()).add(row.kind)
    kept = FactorFile(
        source="NVIDIA AIConfigurator 0.12, silicon_sample (Apache-2.0): measured serving points",
        date="2026-11",
        points=len(token.rows),
        token=table(near, far, token, found.token),
        first=table(first_near, first_far, first, found.first),
        seen={key: sorted(each) for key, each in sorted(seen.items())},
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def _configuration(row: ServingRow) -> str:
    return row.configuration


def _short(values: Array) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def leave_out(
    name: str, points: ServingPoints, group: Callable[[ServingRow], str], *, folds: int = 0, far: bool = False
) -> LeaveOutTrial:
    """Predict each point by a fit without its group; with `folds`, leave out groups in that many lots."""
    groups = [group(row) for row in points.rows]
    names = sorted(set(groups))
    order = np.random.default_rng(0).permutation(len(names))
    lot = {
        each: place % folds if folds else number
        for number, (each, place) in enumerate(zip(names, order.tolist(), strict=True))
    }
    lots = np.array([lot[each] for each in groups])
    predicted = np.zeros(len(groups))
    for each in sorted(set(lots.tolist())):
        out = lots == each
        found = chain(points.where(~out), far=far)
        predicted[out] = predict(found, points.where(out))
    return LeaveOutTrial(name, points, predicted)


def predict(found: FactorChain, points: ServingPoints) -> Array:
    """Return the predicted times of points, seconds."""
    return np.array([works @ found.factors(row) for row, works in zip(points.rows, points.works, strict=True)])


def _points(
    rows: Sequence[ServingRow],
    works: Sequence[dict[str, Array]],
    scales: dict[str, tuple[float, float]],
    times: list[float],
) -> ServingPoints:
    names = tuple(scales)
    table = np.array([[float(each[name]) for name in names] for each in works])
    usual, scale = np.array(list(scales.values())).T
    return ServingPoints(rows, names, table, np.array(times), FactorPrior(usual, PRIOR_STRENGTH, scale))


def _link(points: ServingPoints, mine: Sequence[str], before: Sequence[Array], strength: float) -> dict[str, Array]:
    found = {}
    for key in sorted(set(mine)):
        chosen = np.array([each == key for each in mine])
        if chosen.sum() >= FEWEST:
            prior = points.prior._replace(towards=before[int(np.argmax(chosen))], strength=strength)
            found[key] = fit(points.works[chosen], points.measured[chosen], prior)
    return found
