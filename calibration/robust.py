"""Fits factors from works and measured times: non-negative, robust against outliers, shrunk towards a prior."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from mixtura.hardware.step import NINETIETH

Array = NDArray[np.float64]

_ROUNDS = 12
_CLOSE = 0.03  # relative errors below this have equal weight, because repeated measurements differ by as much


class FactorPrior(NamedTuple):
    """A prior of the factors.

    The fit shrinks factors `towards` these values with the weight of `strength` points; `scale` is the expected
    deviation of each factor.
    """

    towards: Array
    strength: float
    scale: Array


def fit(works: Array, measured: Array, prior: FactorPrior | None = None) -> Array:
    """Return the factors f >= 0 for which `works @ f` is nearest `measured` by the sum of absolute relative errors.

    Iteratively reweighted non-negative least squares; a prior adds a quadratic penalty, like a normal prior.

    Args:
        works: seconds [points, works].
        measured: seconds [points], positive.
        prior: None: no prior.
    """
    relative = works / measured[:, None]
    weights = np.ones(len(measured))
    factors = np.zeros(works.shape[1])
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        left, right = relative * root[:, None], root
        if prior is not None:
            penalty = np.diag(np.sqrt(prior.strength) / (0.25 * prior.towards + prior.scale))
            left, right = np.vstack([left, penalty]), np.concatenate([right, penalty @ prior.towards])
        factors, _ = nnls(left, right, maxiter=10_000)
        weights = 1 / np.maximum(np.abs(relative @ factors - 1), _CLOSE)
        weights /= weights.mean()
    return np.asarray(factors, dtype=np.float64)


def spread(predicted: Array, measured: Array) -> float:
    """Return the standard deviation of a normal distribution with the same central 80 % range as the log errors."""
    errors = np.abs(np.log(predicted / measured))
    return float(np.quantile(errors, 0.8) / NINETIETH)
