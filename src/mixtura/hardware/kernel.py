"""The time of one MoE layer on one GPU: from a chip's figures alone, or from balanced runs of the same kernel.

`layer_time` needs no measurement of the kernel: it adds a fixed time, the bytes of the activated experts at a share of
the memory bandwidth, and the operations at a share of the peak. `predict_skewed` predicts times under skewed routing
from measured balanced runs. `calibration/kernels.py` fits the coefficients of both, writes them to data/kernels.json
and reports their errors.
"""

import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.errors import ConfigError
from mixtura.hardware import routing
from mixtura.hardware.chip import Chip
from mixtura.hardware.precision import precision_named, unknown
from mixtura.hardware.step import Array, TimeEstimate, array

Counts = NDArray[np.int64]

DRAWS = 40  # random loads averaged for an expectation; the benchmark itself draws five
_GROUPED_DRAWS = 6  # with a limit on groups: each draw is dearer because it needs every token's choices
_LIMITED = 1.1  # if a fit implies more than this share of the bandwidth, the kernel read fewer experts than counted


class MoeLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One MoE layer as one GPU holds it.

    `inner` is the width of an expert on this GPU, after tensor parallelism, and `weight` the bytes per weight. A token
    uses experts from `groups_used` of `groups` groups. With expert parallelism `ranks` GPUs share the layer's
    `experts`, and the busiest GPU determines the time.
    """

    experts: int
    used: int
    hidden: int
    inner: int
    weight: float
    groups: int = 1
    groups_used: int = 1
    ranks: int = 1

    def __post_init__(self) -> None:
        routing.grouped_popularity(self.experts, self.used, self.groups, self.groups_used)
        if self.ranks < 1 or self.experts % self.ranks:
            raise ConfigError(f"{self.experts} experts do not divide over {self.ranks} ranks: give a divisor")
        if min(self.hidden, self.inner) < 1 or not self.weight > 0:
            raise ConfigError(
                f"an expert of {self.hidden} x {self.inner} weights of {self.weight} bytes: expected sizes above 0"
            )

    @property
    def expert_bytes(self) -> float:
        """Bytes of one expert: gate, up and down matrices."""
        return 3.0 * self.hidden * self.inner * self.weight

    @property
    def operations(self) -> float:
        """FLOP of one token in one expert: multiply and add for each weight."""
        return 6.0 * self.hidden * self.inner


class KernelRates(msgspec.Struct, frozen=True):
    """Fitted rates of a GPU in one precision.

    `fixed` seconds per layer, `memory` share of the bandwidth, `compute` share of the peak, `spread` as in
    `TimeEstimate`.
    """

    fixed: float
    memory: float
    compute: float
    spread: float


class SkewCorrection(msgspec.Struct, frozen=True):
    """The cost of skewed routing beyond the activated experts, fitted over all GPUs and kernels.

    The logarithm of real over uncorrected time is `level` + `tiles` x log(tiles' ratio / experts' ratio), both
    interpolated between `knots`, the tokens per expert; a tile is `tile` tokens of one expert.
    """

    knots: tuple[float, ...]
    level: tuple[float, ...]
    tiles: tuple[float, ...]
    tile: int
    spread: float

    def factor(self, per_expert: ArrayLike, tiles: ArrayLike) -> Array:
        """Return the factor by which to multiply an uncorrected prediction.

        Args:
            per_expert: tokens per expert under balanced routing, k B / E.
            tiles: ratio of tiles, skewed over balanced loads, divided by the same ratio of activated experts.
        """
        place, knots = np.log2(np.maximum(array(per_expert), 1e-9)), np.log2(array(self.knots))
        weight = np.interp(place, knots, array(self.tiles))
        return array(np.exp(np.interp(place, knots, array(self.level)) + weight * np.log(array(tiles))))


class KernelCoefficients(msgspec.Struct, frozen=True):
    """The content of data/kernels.json: `rates` by GPU and precision, the `correction`, and their source."""

    source: str
    fitted: str
    rates: Mapping[str, Mapping[str, KernelRates]]
    correction: SkewCorrection


@functools.cache
def coefficients() -> KernelCoefficients:
    """Return the fitted coefficients of the package."""
    data = files("mixtura.hardware").joinpath("data/kernels.json").read_bytes()
    return msgspec.json.decode(data, type=KernelCoefficients)


def rates(gpu: str, precision: str) -> KernelRates:
    """Return the fitted rates of a GPU in one precision; `gpu` is its name in the measurements, such as h100_sxm.

    Raises:
        ConfigError: the GPU or precision was not measured; the message lists those that were.
    """
    known = coefficients().rates
    if gpu not in known:
        raise unknown("GPU with measured MoE kernels", gpu, known)
    name = precision_named(precision)
    if name not in known[gpu]:
        raise unknown(f"precision of MoE kernels measured on {gpu}", precision, known[gpu])
    return known[gpu][name]


def layer_time(
    layer: MoeLayer,
    tokens: ArrayLike,
    activated: ArrayLike,
    chip: Chip,
    *,
    precision: str = "bf16",
    fitted: KernelRates | None = None,
) -> TimeEstimate:
    """Return the time of a MoE layer: fixed + max(D w_e / (memory BW), k B flop / (compute F)), in seconds.

    Args:
        layer: the layer on this GPU.
        tokens: B, tokens in the step; with ranks, token-expert pairs on the busiest rank over k.
        activated: D, distinct experts that they activate on the GPU; see `routing`.
        chip: the chip, for its bandwidth BW and peak F.
        precision: format of the experts' weights.
        fitted: the rates; None: those measured for the chip.

    Source: roofline (Williams et al., 2009) with D(B) experts read; MoESD, arXiv 2505.19645.

    Raises:
        ConfigError: this chip or precision was not measured.
    """
    fitted = fitted or rates(chip.name, precision)
    batch, count = np.broadcast_arrays(array(tokens), array(activated))
    read = count * layer.expert_bytes / (fitted.memory * chip.bandwidth)
    worked = batch * layer.used * layer.operations / (fitted.compute * chip.flops(precision))
    parts = {"layers": np.full(batch.shape, fitted.fixed), "experts": read, "compute": np.maximum(0.0, worked - read)}
    return TimeEstimate({name: array(part) for name, part in parts.items()}, fitted.spread)


class BalancedCurve(NamedTuple):
    """Measured times of one kernel under balanced routing, by growing number of tokens."""

    tokens: Array
    seconds: Array

    def at(self, tokens: ArrayLike) -> Array:
        """Return the seconds at a number of tokens: log-log interpolation, constant beyond the first and last run."""
        place = np.log(array(tokens))
        return array(np.exp(np.interp(place, np.log(self.tokens), np.log(self.seconds))))


class LayerLine(NamedTuple):
    """The line t = `fixed` + D x `expert`, in seconds, fitted to balanced runs.

    `limited`: the kernel kept each token to `groups_used` groups.
    """

    fixed: float
    expert: float
    limited: bool


def balanced_curve(times: Mapping[int, float]) -> BalancedCurve:
    """Return the curve of measured seconds by tokens.

    Raises:
        ConfigError: there is no run, or a run has no tokens or no time above 0.
    """
    if not times or min(times) < 1 or not all(0 < seconds < np.inf for seconds in times.values()):
        raise ConfigError("balanced runs: expected at least one, each with tokens and finite seconds above 0")
    found = sorted(times)
    return BalancedCurve(np.array(found, dtype=np.float64), np.array([times[count] for count in found]))


def fit_line(curve: BalancedCurve, layer: MoeLayer, bandwidth: float) -> LayerLine:
    """Fit t = fixed + D x expert, both at least 0, to balanced runs of up to about two tokens per expert.

    If the slope implies reading experts faster than `bandwidth` (bytes/s) allows, the kernel read fewer of them: it
    kept tokens to `groups_used` groups, and the balanced runs, whose tokens all rank the groups in the same order,
    activated experts of those groups only.
    """
    few = (curve.tokens * layer.used <= 2 * layer.experts) | (curve.tokens <= 4)
    few[0] = True
    seconds = curve.seconds[few]
    free = _line(_count_activated(curve.tokens[few], layer, limited=False), seconds)
    if layer.groups == layer.groups_used or layer.expert_bytes <= _LIMITED * bandwidth * free[1]:
        return LayerLine(*free, False)
    return LayerLine(*_line(_count_activated(curve.tokens[few], layer, limited=True), seconds), True)


def _count_activated(tokens: Array, layer: MoeLayer, *, limited: bool) -> Array:
    loads = (balanced_loads(int(count), layer, limited=limited) for count in tokens)
    return np.array([max(1, np.count_nonzero(_busiest(each[None], layer))) for each in loads], dtype=np.float64)


def _line(activated: Array, seconds: Array) -> tuple[float, float]:
    """Return intercept and slope of the least squared relative error, both at least 0."""
    scaled, ones = activated / seconds, 1 / seconds
    normal = np.array([[ones @ ones, ones @ scaled], [ones @ scaled, scaled @ scaled]])
    determinant = float(np.linalg.det(normal))
    if determinant > 1e-9 * normal[0, 0] * normal[1, 1]:
        fixed, slope = np.linalg.solve(normal, [ones.sum(), scaled.sum()])
        if fixed >= 0 <= slope:
            return float(fixed), float(slope)
        if slope < 0:
            return float(ones.sum() / normal[0, 0]), 0.0
    return 0.0, float(scaled.sum() / normal[1, 1])


def predict_skewed(curve: BalancedCurve, layer: MoeLayer, tokens: int, alpha: float, bandwidth: float) -> float:
    """Predict the seconds of a layer under power-law loads from balanced runs of the same kernel.

    The uncorrected prediction is fixed + (t_balanced - fixed) x (activated experts, skewed over balanced). The
    correction accounts for unevenly filled tiles, which matter above about 16 tokens per expert.

    Args:
        curve: balanced runs of this kernel, layer and GPU.
        layer: the layer's sizes.
        tokens: B, tokens in the step.
        alpha: as in `draw_loads`; 1.01 and 1.2 were measured.
        bandwidth: the GPU's memory bandwidth, bytes/s.

    Source: ours, fitted to AIConfigurator 0.12's measurements; median error 3.7 % on models left out of the fit.
    """
    first, ratio = predict_uncorrected(curve, fit_line(curve, layer, bandwidth), layer, tokens, alpha)
    factor = coefficients().correction.factor(tokens * layer.used / layer.experts, ratio)
    return first * float(factor)


def predict_uncorrected(
    curve: BalancedCurve, fit: LayerLine, layer: MoeLayer, tokens: int, alpha: float
) -> tuple[float, float]:
    """Return the uncorrected prediction in seconds, and the ratio of tiles that `SkewCorrection.factor` takes."""
    activated, tiles = ratios(tokens, layer, alpha, fit.limited)
    seconds = float(curve.at(tokens))
    fixed = min(fit.fixed, seconds)
    return fixed + activated * (seconds - fixed), tiles / activated


TILE = 64  # tokens of one expert that a kernel computes together, about


@functools.lru_cache(maxsize=4096)
def ratios(tokens: int, layer: MoeLayer, alpha: float, limited: bool) -> tuple[float, float]:
    """Return activated experts and tiles under power-law loads, each over its number under balanced loads."""
    even = _busiest(balanced_loads(tokens, layer, limited=limited)[None], layer)[0]
    loads = _busiest(draw_loads(tokens, layer, alpha, limited=limited), layer)
    activated = np.count_nonzero(loads, axis=1).mean() / np.count_nonzero(even)
    return float(activated), float((-(-loads // TILE)).sum(axis=1).mean() / (-(-even // TILE)).sum())


def _busiest(loads: Counts, layer: MoeLayer) -> Counts:
    """Return the loads on the busiest rank for each row of `loads` [.., experts]."""
    by_rank = loads.reshape(len(loads), layer.ranks, -1)
    most = by_rank.sum(axis=2).argmax(axis=1)
    return np.asarray(by_rank[np.arange(len(loads)), most])


def balanced_loads(tokens: int, layer: MoeLayer, *, limited: bool = False) -> Counts:
    """Return the number of tokens of each expert in a balanced run [experts].

    Token t takes the experts t + j ceil(E / k); fewer than ceil(E / k) tokens are spread out first.

    Source: `balanced_logits` of AIConfigurator 0.12's collector, which made the measured runs.
    """
    stride = -(-layer.experts // layer.used)
    place = np.arange(tokens) if tokens >= stride else np.arange(tokens) * stride / tokens
    chosen = ((place[:, None] + np.arange(layer.used) * stride) % layer.experts).astype(np.int64)
    if limited:
        chosen = _limit_groups(chosen, layer)
    return np.bincount(chosen.ravel(), minlength=layer.experts)


def draw_loads(
    tokens: int, layer: MoeLayer, alpha: float, *, limited: bool = False, draws: int = DRAWS, seed: int = 0
) -> Counts:
    """Draw the number of tokens of each expert under a power law [draws, experts]; each row adds up to k B.

    Alpha is defined as in the measurements: the density of an expert's load x falls as x^-alpha from 1 to 0.8 B if
    every expert could get a token, else from 0.01 to 2. It is not an exponent of rank: 1.01 makes loads uniform on a
    logarithmic scale, and far above 1.2 all loads approach the lower end and become equal again. Loads are scaled to
    add up to k B, rounded and cut at B; missing tokens go to the least loaded experts, surplus ones leave the most
    loaded.

    Source: `power_law_logits_v3` of AIConfigurator 0.12's collector (Apache-2.0), described, not copied.
    """
    if tokens < 1 or not alpha > 0:
        raise ConfigError(
            f"cannot draw loads of {tokens} tokens with alpha {alpha}: give 1 token or more, alpha above 0"
        )
    total = tokens * layer.used
    low, high = (1.0, max(1.0, 0.8 * tokens)) if total > layer.experts else (0.01, 2.0)
    rng = np.random.default_rng(seed)
    chance = rng.random((draws, layer.experts))
    power = 1 - alpha if abs(1 - alpha) > 1e-6 else 1e-6
    sizes = ((high**power - low**power) * chance + low**power) ** (1 / power)
    wanted = np.rint(sizes / sizes.sum(axis=1, keepdims=True) * total).astype(np.int64)
    loads = np.stack([_adjust_total(row, tokens, total) for row in wanted])
    if not limited:
        return loads
    few = loads[:_GROUPED_DRAWS]
    return np.stack(
        [np.bincount(_limit_groups(_choices(row, tokens), layer).ravel(), minlength=len(row)) for row in few]
    )


def _adjust_total(loads: Counts, most: int, total: int) -> Counts:
    """Return loads that add up to `total`: missing tokens go to the least loaded, surplus leaves the most loaded."""
    found = np.minimum(loads, most)
    while (missing := total - int(found.sum())) != 0:
        extreme = found.min() if missing > 0 else found.max()
        places = np.flatnonzero(found == extreme)[: abs(missing)]
        found[places] += np.sign(missing)
    return found


def _choices(loads: Counts, tokens: int) -> Counts:
    """Return the experts of each token [tokens, used] that give every expert its load, none twice in one token."""
    order = np.argsort(-loads, kind="stable")
    return np.repeat(order, loads[order]).reshape(-1, tokens).T


def _limit_groups(chosen: Counts, layer: MoeLayer) -> Counts:
    """Return the choices with each token kept to its best groups; ties go to the first, as in a stable sort.

    A group's score is that of its two best experts. Tokens that lose choices take the first experts of their groups.
    """
    tokens, used = chosen.shape
    wanted = np.zeros((tokens, layer.experts))
    np.put_along_axis(wanted, chosen, 1.0, axis=1)
    by_group = wanted.reshape(tokens, layer.groups, -1)
    worth = np.minimum(by_group.sum(axis=2), 2)
    best = np.argsort(-worth, axis=1, kind="stable")[:, : layer.groups_used]
    allowed = np.zeros((tokens, layer.groups), dtype=bool)
    np.put_along_axis(allowed, best, True, axis=1)
    scores = np.where(allowed[:, :, None], by_group, -1.0).reshape(tokens, -1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :used]
