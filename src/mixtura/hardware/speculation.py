"""Speculative decoding: a cheap draft of several tokens, verified by the model in one step.

A step that verifies `drafts` tokens yields one token for sure and each drafted one as long as all before it were
accepted. The price is that the step handles `drafts + 1` tokens for each user: dense models read the same weights
for it, MoE models wake more experts.
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

_GRID = 41  # values of each parameter that a round of the fit tries
_ROUNDS = 12  # each keeps two fifths of the range: finer than curves of three digits ask for


class AcceptanceRate(msgspec.Struct, frozen=True):
    """How often a drafted token is accepted, all before it being accepted: `first * decay**place`, place from 0."""

    first: float
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.first <= 1 or not 0 < self.decay <= 1:
            raise ConfigError(
                f"an acceptance of {self.first:g} decaying by {self.decay:g} is no probability: "
                "the first has to be within 0 and 1, the decay above 0 and at most 1"
            )


class AcceptanceCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured tokens a step (`lengths`, by number of drafted tokens from 1) and the acceptance fitted to them."""

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
    """Return the tokens that a step yields on average, the sure one included.

    One plus the sum over the places of the product of all acceptances so far; for a constant acceptance `a` that is
    `(1 - a**(drafts + 1)) / (1 - a)`.

    Args:
        drafts: drafted tokens a step, whole numbers from 0; any shape, which is the result's.
        acceptance: how often a drafted token is accepted.

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
    """Return the acceptance whose expected tokens come nearest to measured ones.

    Args:
        lengths: measured tokens a step with 1, 2, 3 ... drafted tokens.
        decaying: whether acceptance may fall with the place; else one constant is fitted.

    Raises:
        ConfigError: no lengths, or one that no acceptance can give.

    The sum of squares of relative errors is minimised on a grid that narrows around the best point: two bounded
    parameters need no more.
    """
    measured = array(lengths).ravel()
    drafts = np.arange(1, measured.size + 1)
    if not measured.size or not np.all((measured >= 1) & (measured <= drafts + 1)):
        raise ConfigError("acceptance lengths have to be given, each from 1 to the drafted tokens plus 1")
    decaying = decaying and measured.size > 1  # one length says nothing about decay
    firsts, decays = (0.0, 1.0), ((0.0, 1.0) if decaying else (1.0, 1.0))
    for _ in range(_ROUNDS):
        first = np.linspace(*firsts, _GRID)[:, None, None]
        decay = np.linspace(*decays, _GRID if decaying else 1)[None, :, None]
        predicted = 1 + np.cumsum(np.cumprod(first * decay ** (drafts - 1), axis=-1), axis=-1)
        wrong = np.sum((predicted / measured - 1) ** 2, axis=-1)
        row, column = np.unravel_index(int(np.argmin(wrong)), wrong.shape)
        firsts = _around(float(first[row, 0, 0]), firsts)
        decays = _around(float(decay[0, column, 0]), decays) if decaying else decays
    return AcceptanceRate(float(first[row, 0, 0]), max(float(decay[0, column, 0]), 1e-9))


def _around(best: float, limits: tuple[float, float]) -> tuple[float, float]:
    reach = 8 * (limits[1] - limits[0]) / (_GRID - 1)  # many cells: first and decay make up for each other
    return max(0.0, best - reach), min(1.0, best + reach)


def cost_ratio(seconds: Callable[[Array], Array], batch: ArrayLike, drafts: ArrayLike) -> Array:
    """Return how many times longer a verifying step takes than a plain one: `t(B * (drafts + 1)) / t(B)`.

    Args:
        seconds: the step model: tokens in a step to seconds, vectorised. An MoE model's counts distinct experts.
        batch: users decoding together.
        drafts: drafted tokens a step, whole numbers from 0; broadcasts with `batch`.

    Raises:
        ConfigError: a batch below 1, or drafts that are negative or not whole.

    Source: MoESD, arXiv 2505.19645.
    """
    users, counts = np.broadcast_arrays(array(batch), _whole(drafts))
    if not np.all(users > 0):
        raise ConfigError(f"a batch of {float(np.min(users)):g} decodes nothing: it has to be above 0")
    return array(seconds(users * (counts + 1)) / seconds(users))


def gain(
    seconds: Callable[[Array], Array],
    batch: ArrayLike,
    drafts: ArrayLike,
    acceptance: AcceptanceRate,
    *,
    draft_cost: float = 0.0,
) -> Array:
    """Return how many times faster tokens come with speculation than without; below 1 it is slower.

    Expected tokens over `cost_ratio + drafts * draft_cost`.

    Args:
        seconds: as for `cost_ratio`.
        batch: users decoding together.
        drafts: drafted tokens a step; broadcasts with `batch`.
        acceptance: how often a drafted token is accepted.
        draft_cost: time to draft one token over the time of a plain step, both at `batch`.

    Raises:
        ConfigError: as for `cost_ratio`, or a negative draft cost.

    Source: Leviathan et al., arXiv 2211.17192, theorem 3.8, with the verifying step's own time in place of 1.
    """
    if draft_cost < 0:
        raise ConfigError(f"a draft cost of {draft_cost:g} is negative: give 0 for drafts that cost nothing")
    ratio = cost_ratio(seconds, batch, drafts) + _whole(drafts) * draft_cost
    return array(expected_tokens(drafts, acceptance) / ratio)


def _whole(drafts: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    given = array(drafts)
    if not np.all((given >= 0) & (given == np.floor(given)) & np.isfinite(given)):
        raise ConfigError("drafted tokens a step have to be whole numbers from 0")
    return given.astype(np.int64)
