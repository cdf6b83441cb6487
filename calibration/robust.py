"""Factors from works and measured times: never negative, robust against rows that are off, drawn to what is known."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from mixtura.hardware.step import NINETIETH

Array = NDArray[np.float64]

_ROUNDS = 12
_CLOSE = 0.03  # relative errors below this all weigh the same: measured points repeat no better


class FactorPrior(NamedTuple):
    """Where factors are drawn to, how hard, and what counts as far for each: `strength` points at `scale` away."""

    towards: Array
    strength: float
    scale: Array


def fit(works: Array, measured: Array, pull: FactorPrior | None = None) -> Array:
    """Return the factors f >= 0 for which `works @ f` is nearest `measured` by the sum of absolute relative errors.

    Iteratively reweighted non-negative least squares; a pull adds a quadratic penalty, as a normal prior would.

    Args:
        works: seconds, one row a point and one column a work.
        measured: seconds, positive.
        pull: None: the points alone decide.
    """
    relative = works / measured[:, None]
    weights = np.ones(len(measured))
    factors = np.zeros(works.shape[1])
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        left, right = relative * root[:, None], root
        if pull is not None:
            held = np.diag(np.sqrt(pull.strength) / (0.25 * pull.towards + pull.scale))
            left, right = np.vstack([left, held]), np.concatenate([right, held @ pull.towards])
        factors, _ = nnls(left, right, maxiter=10_000)
        weights = 1 / np.maximum(np.abs(relative @ factors - 1), _CLOSE)
        weights /= weights.mean()
    return np.asarray(factors, dtype=np.float64)


def spread(predicted: Array, measured: Array) -> float:
    """Return the standard deviation of a normal whose middle 80 % are as wide as those of the log errors."""
    errors = np.abs(np.log(predicted / measured))
    return float(np.quantile(errors, 0.8) / NINETIETH)
