"""Speculative decoding: a cheap draft of several tokens, verified by the model in one step.

A step that verifies `drafts` tokens always yields one token, plus every drafted token up to the first rejected one. In
return the step processes `drafts + 1` tokens per user: a dense model reads the same weights for them, an MoE model
activates more experts.
"""

import functools
import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.step import Array, array

_GRID = 41  # values of each parameter tried in a round of the fit
_LEAST = 1e-9  # in place of an acceptance or a decay of 0, which nothing can be divided by
_ROUNDS = 12  # each keeps two fifths of the range: finer than curves of three digits need


class AcceptanceRate(msgspec.Struct, frozen=True):
    """The probability that a drafted token is accepted if all before it were: `first * decay**place`, place from 0."""

    first: float
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.first <= 1 or not 0 < self.decay <= 1:
            raise ConfigError(
                f"an acceptance of {self.first:g} decaying by {self.decay:g}: "
                "expected a first acceptance from 0 to 1, and a decay above 0 and at most 1"
            )


class AcceptanceCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured tokens per step (`lengths`, by number of drafted tokens from 1) and the acceptance fitted to them."""

    title: str
    lengths: tuple[float, ...]
    first: float
    decay: float
    constant: float
    source: str
    date: str

    @property
    def acceptance(self) -> AcceptanceRate:
        """The decaying acceptance that fits the curve."""
        return AcceptanceRate(self.first, self.decay)


@functools.cache
def curves() -> Mapping[str, AcceptanceCurve]:
    """Return the measured acceptance curves by name; read once."""
    text = (files("mixtura.hardware") / "data" / "acceptance.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, AcceptanceCurve])


def expected_tokens(drafts: ArrayLike, acceptance: AcceptanceRate) -> Array:
    """Return the mean tokens that a step yields, the guaranteed one included.

    One plus the sum over places of the product of all acceptances so far; for a constant acceptance `a` this is
    `(1 - a**(drafts + 1)) / (1 - a)`.

    Args:
        drafts: drafted tokens per step, whole numbers from 0; any shape, which is the result's.
        acceptance: probability that a drafted token is accepted.

    Raises:
        ConfigError: a number of drafts is negative or not whole.

    Source: Leviathan et al., arXiv 2211.17192, equation 1; the decaying form is fitted to InferenceX's golden
    acceptance lengths (`data/acceptance.toml`).
    """
    counts = _whole(drafts)
    places = np.arange(int(counts.max(initial=0)))
    together = np.cumprod(acceptance.first * acceptance.decay**places)
    yields = 1.0 + np.concatenate(([0.0], np.cumsum(together)))
    return array(yields[counts])


def fit(lengths: ArrayLike, *, decaying: bool = True) -> AcceptanceRate:
    """Return the acceptance whose expected tokens best match measured ones.

    Args:
        lengths: measured tokens per step with 1, 2, 3 ... drafted tokens.
        decaying: whether acceptance may fall with the place; else the fit has one constant.

    Raises:
        ConfigError: there are no lengths, or one is below 1 or above the drafted tokens plus 1.

    The fit minimises the sum of squared relative errors on a grid that narrows around the best point. Its axes are the
    acceptance of the first and of the second draft. In a grid of `first` and `decay`, a decay that is too low makes up
    for a first acceptance that is too high, and the grid narrows around a point beside the best one.
    """
    measured = array(lengths).ravel()
    drafts = np.arange(1, measured.size + 1)
    if not measured.size or not np.all((measured >= 1) & (measured <= drafts + 1)):
        raise ConfigError("acceptance lengths: expected at least one, each from 1 to the drafted tokens plus 1")
    decaying = decaying and measured.size > 1  # one length says nothing about decay
    firsts = seconds = (0.0, 1.0)
    for _ in range(_ROUNDS):
        first = np.linspace(*firsts, _GRID)[:, None, None]
        second = np.linspace(*seconds, _GRID)[None, :, None] if decaying else first
        decay = np.minimum(second / np.maximum(first, _LEAST), 1.0)
        predicted = 1 + np.cumsum(np.cumprod(first * decay ** (drafts - 1), axis=-1), axis=-1)
        wrong = np.sum((predicted / measured - 1) ** 2, axis=-1)
        row, column = np.unravel_index(int(np.argmin(wrong)), wrong.shape)
        firsts = _around(float(first[row, 0, 0]), firsts)
        seconds = _around(float(second[0, column, 0]), seconds) if decaying else seconds
    fitted_decay = float(decay[row, column, 0]) if decaying else 1.0
    return AcceptanceRate(float(first[row, 0, 0]), max(fitted_decay, _LEAST))


def _around(best: float, limits: tuple[float, float]) -> tuple[float, float]:
    reach = 8 * (limits[1] - limits[0]) / (_GRID - 1)
    return max(0.0, best - reach), min(1.0, best + reach)


def cost_ratio(seconds: Callable[[Array], Array], batch: ArrayLike, drafts: ArrayLike) -> Array:
    """Return the time of a verifying step over that of a plain step: `t(B * (drafts + 1)) / t(B)`.

    Args:
        seconds: the step model: seconds from tokens in a step, vectorised. For an MoE model it counts distinct experts.
        batch: users decoding together.
        drafts: drafted tokens per step, whole numbers from 0; broadcasts with `batch`.

    Raises:
        ConfigError: a batch that is not above 0, or drafts that are negative or not whole.

    Source: MoESD, arXiv 2505.19645.
    """
    users, counts = np.broadcast_arrays(array(batch), _whole(drafts))
    if not np.all(users > 0):
        raise ConfigError(f"a batch of {float(np.min(users)):g}: expected more than 0")
    return array(seconds(users * (counts + 1)) / seconds(users))


def gain(
    seconds: Callable[[Array], Array],
    batch: ArrayLike,
    drafts: ArrayLike,
    acceptance: AcceptanceRate,
    *,
    draft_cost: float = 0.0,
) -> Array:
    """Return the speedup of decoding by speculation; below 1 it is slower.

    Expected tokens over `cost_ratio + drafts * draft_cost`.

    Args:
        seconds: as for `cost_ratio`.
        batch: users decoding together.
        drafts: drafted tokens per step; broadcasts with `batch`.
        acceptance: probability that a drafted token is accepted.
        draft_cost: time to draft one token over the time of a plain step, both at `batch`.

    Raises:
        ConfigError: as for `cost_ratio`, or the draft cost is negative.

    Source: Leviathan et al., arXiv 2211.17192, theorem 3.8, with the verifying step's own time in place of 1.
    """
    if draft_cost < 0:
        raise ConfigError(f"a draft cost of {draft_cost:g}: expected 0 (free drafts) or more")
    ratio = cost_ratio(seconds, batch, drafts) + _whole(drafts) * draft_cost
    return array(expected_tokens(drafts, acceptance) / ratio)


def _whole(drafts: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    given = array(drafts)
    if not np.all((given >= 0) & (given == np.floor(given)) & np.isfinite(given)):
        raise ConfigError("drafted tokens a step: expected whole numbers from 0")
    return given.astype(np.int64)
