"""The speed of one replica: decode step times by batch and context, prompt times by tokens, and KV cache capacity.

A decode step of `b` requests that together hold `c` tokens of context takes `base[b] + slope[b] * c / b` seconds. Every
step adds one token to every running request, so the mean context `c / b` grows by one per step and the time of many
steps is the sum of an arithmetic series, computed without iterating over them. Step times that are not linear in the
context (sliding windows, tables of measurements) are piecewise linear.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.errors import ConfigError

Array = NDArray[np.float64]
Decode = Callable[[Array, Array], ArrayLike]
Prefill = Callable[[Array], ArrayLike]


class StepTimes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The step times of one replica. Make it with `step_times_from_table` or `sample_step_times`.

    Attributes:
        base: seconds of a decode step without context, shape (pieces, largest batch); column 0 is a batch of one.
        slope: additional seconds per token of mean context, same shape.
        knots: mean context in tokens at which each piece begins, shape (pieces,); the first is 0.
        prefill: seconds of a prompt from its tokens, for arrays. The prompt takes this time in total, in any number of
            chunks, in addition to the decode steps that its chunks share.
        capacity: tokens of KV cache that fit at the same time; infinite if memory is no limit.
    """

    base: Array
    slope: Array
    knots: Array
    prefill: Prefill
    capacity: float = math.inf

    def __post_init__(self) -> None:
        """Raise ConfigError for shapes that differ and for times that no machine can have."""
        if self.base.ndim != 2 or self.base.size == 0 or self.base.shape != self.slope.shape:
            raise ConfigError(
                f"step times need base and slope of one shape (pieces, batches), not {self.base.shape} and "
                f"{self.slope.shape}"
            )
        if self.knots.shape != self.base.shape[:1] or self.knots[0] != 0 or np.any(np.diff(self.knots) <= 0):
            raise ConfigError("the knots of step times must rise from 0, one for each piece")
        if not np.all(np.isfinite(self.base)) or not np.all(np.isfinite(self.slope)) or np.any(self.slope < 0):
            raise ConfigError("the slope of step times must be finite and not negative: more context never saves time")
        if np.any(self.base + self.slope * np.maximum(self.knots, 1.0)[:, None] <= 0):
            raise ConfigError("every decode step must take more than 0 seconds")
        if not self.capacity > 0:
            raise ConfigError(f"the KV capacity must be more than 0 tokens, not {self.capacity:g}")

    @property
    def max_batch(self) -> int:
        """The most requests that one step can serve."""
        return int(self.base.shape[1])

    def decode(self, batch: ArrayLike, context_tokens: ArrayLike) -> Array:
        """Return the seconds of a decode step of `batch` requests that together hold `context_tokens`."""
        width, tokens = np.asarray(batch, dtype=np.int64), np.asarray(context_tokens, dtype=np.float64)
        mean = tokens / width
        piece = np.searchsorted(self.knots, mean, side="right") - 1
        return np.asarray(self.base[piece, width - 1] + self.slope[piece, width - 1] * mean)

    def steps(self, batch: ArrayLike, context_tokens: ArrayLike, count: ArrayLike) -> Array:
        """Return the seconds of `count` decode steps of a constant batch that initially holds `context_tokens`.

        Step j (from 0) has the mean context m + j, so n steps in one piece take
        n * base + slope * (n * m + n * (n - 1) / 2): the sum of an arithmetic series.
        """
        width = np.asarray(batch, dtype=np.int64)
        mean = np.asarray(context_tokens, dtype=np.float64) / width
        left = np.asarray(count, dtype=np.float64)
        total = np.zeros(np.broadcast_shapes(width.shape, mean.shape, left.shape))
        for piece in range(len(self.knots)):
            last = piece + 1 == len(self.knots)
            until = math.inf if last else self.knots[piece + 1]
            n = np.minimum(left, np.maximum(0.0, np.ceil(until - mean)))
            base, slope = self.base[piece, width - 1], self.slope[piece, width - 1]
            total = total + n * base + slope * (n * mean + n * (n - 1) / 2)
            mean, left = mean + n, left - n
        return total

    def prompt(self, tokens: ArrayLike) -> Array:
        """Return the total seconds of prompts of `tokens`, each at least 0.

        Raises:
            ConfigError: `prefill` returns a negative or infinite time.
        """
        asked = np.asarray(tokens, dtype=np.float64)
        seconds = np.array(np.broadcast_to(np.asarray(self.prefill(asked), dtype=np.float64), asked.shape))
        if not np.all(np.isfinite(seconds)) or np.any(seconds < 0):
            raise ConfigError("prefill(tokens) must return finite seconds, 0 or more, for every prompt")
        return seconds


def step_times_from_table(
    base: ArrayLike, slope: ArrayLike = 0.0, *, prefill: Prefill | float = 0.0, capacity: float = math.inf
) -> StepTimes:
    """Return step times from a table over the batch.

    Args:
        base: seconds of a decode step of 1, 2, 3, ... requests without context.
        slope: additional seconds per token of mean context, one per batch or one for all.
        prefill: seconds of a prompt from its tokens (arrays), or seconds per token.
        capacity: tokens of KV cache that fit at the same time.

    Raises:
        ConfigError: sizes or times that no machine can have.
    """
    rows = np.atleast_1d(np.asarray(base, dtype=np.float64))[None, :]
    slopes = np.array(np.broadcast_to(np.asarray(slope, dtype=np.float64), rows.shape))
    return StepTimes(base=rows, slope=slopes, knots=np.zeros(1), prefill=_callable(prefill), capacity=capacity)


def sample_step_times(
    decode: Decode, *, prefill: Prefill | float, max_batch: int, contexts: Sequence[float], capacity: float = math.inf
) -> StepTimes:
    """Return step times sampled from a function of batch and context, linear between the mean contexts `contexts`.

    Args:
        decode: seconds of a step from (batch, sum of context tokens), for arrays; the result is exact where `decode`
            is linear between two of `contexts`.
        prefill: seconds of a prompt from its tokens (arrays), or seconds per token.
        max_batch: the most requests that one step can serve.
        contexts: two or more mean contexts in tokens, ascending; the first and last piece extend beyond them.
        capacity: tokens of KV cache that fit at the same time.

    Raises:
        ConfigError: sizes or times that no machine can have.
    """
    points = np.asarray(contexts, dtype=np.float64)
    if max_batch < 1:
        raise ConfigError(f"the largest batch must be at least 1, not {max_batch}")
    if points.ndim != 1 or len(points) < 2 or np.any(np.diff(points) <= 0) or points[0] < 0:
        raise ConfigError("contexts must be two or more rising numbers of tokens, 0 or more")
    batch = np.arange(1, max_batch + 1, dtype=np.float64)[None, :]
    asked = np.broadcast_arrays(batch, batch * points[:, None])
    seconds = np.broadcast_to(np.asarray(decode(*asked), dtype=np.float64), asked[0].shape)
    slope = np.diff(seconds, axis=0) / np.diff(points)[:, None]
    # Rounding errors of a constant piece are not a slope.
    slope[np.abs(slope) < 1e-12 * np.abs(seconds[1:])] = 0.0
    base = seconds[:-1] - slope * points[:-1, None]
    knots = np.concatenate([[0.0], points[1:-1]])
    return StepTimes(base=base, slope=slope, knots=knots, prefill=_callable(prefill), capacity=capacity)


def _callable(prefill: Prefill | float) -> Prefill:
    if callable(prefill):
        return prefill
    each = float(prefill)
    return lambda tokens: each * tokens
