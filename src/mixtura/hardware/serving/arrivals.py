"""Arrival times and lengths of requests: arrival processes, length distributions, open and closed loads.

All requests are drawn from a seed before a run: the same seed gives the same requests. Times, prompts and outputs use
separate streams of random numbers, so a change of rate does not change the lengths.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.errors import ConfigError

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Chance = np.random.Generator


class ArrivalProcess(Protocol):
    """The distribution of gaps between requests."""

    def gaps(self, count: int, chance: Chance) -> Array:
        """Return `count` gaps between consecutive requests, in seconds."""
        ...


class LengthDistribution(Protocol):
    """The distribution of the tokens of a prompt or an output."""

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return `count` numbers of tokens, each at least 1."""
        ...


class PoissonArrivals(NamedTuple):
    """Requests of many independent users: exponential gaps. `rate` requests per second."""

    rate: float

    def gaps(self, count: int, chance: Chance) -> Array:
        """Return exponential gaps."""
        return chance.exponential(1 / positive(self.rate, "the rate of requests"), count)


class EvenArrivals(NamedTuple):
    """One request every `1 / rate` seconds."""

    rate: float

    def gaps(self, count: int, chance: Chance) -> Array:
        """Return equal gaps."""
        del chance
        return np.full(count, 1 / positive(self.rate, "the rate of requests"))


class GammaArrivals(NamedTuple):
    """Gamma gaps: `variation` is standard deviation over mean (1: Poisson; above: bursts; below: more regular)."""

    rate: float
    variation: float

    def gaps(self, count: int, chance: Chance) -> Array:
        """Return gamma gaps."""
        shape = positive(self.variation, "the variation of the gaps") ** -2
        return chance.gamma(shape, 1 / (shape * positive(self.rate, "the rate of requests")), count)


class FixedLength(NamedTuple):
    """Always the same number of tokens."""

    tokens: int

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return equal lengths."""
        del chance
        return np.full(count, round(positive(self.tokens, "the number of tokens", least=1)), np.int64)


class GeometricLength(NamedTuple):
    """The memoryless length: every token is the last with the same probability. `mean` tokens."""

    mean: float

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return geometric lengths."""
        return chance.geometric(1 / positive(self.mean, "the mean number of tokens", least=1), count)


class LognormalLength(NamedTuple):
    """Many short lengths and few long ones: `mean` tokens, `variation` is standard deviation over mean."""

    mean: float
    variation: float

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return rounded log-normal lengths."""
        mean = positive(self.mean, "the mean number of tokens", least=1)
        wide = float(np.log1p(positive(self.variation, "the variation of the lengths") ** 2))
        return _whole(chance.lognormal(np.log(mean) - wide / 2, wide**0.5, count))


class UniformLength(NamedTuple):
    """Any number from `low` to `high` with equal probability."""

    low: int
    high: int

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return uniform lengths."""
        low = positive(self.low, "the least number of tokens", least=1)
        if self.high < low:
            raise ConfigError(f"lengths from {self.low} to {self.high}: expected the lower number first")
        return chance.integers(int(low), self.high, count, endpoint=True)


class EmpiricalLength(NamedTuple):
    """Observed lengths, drawn with replacement."""

    seen: ArrayLike

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return lengths drawn from those in `seen`."""
        seen = np.asarray(self.seen)
        if seen.size == 0:
            raise ConfigError("no lengths to draw from: give at least one")
        positive(float(seen.min()), "the number of tokens", least=1)
        return _whole(chance.choice(seen, count))


class OpenLoad(NamedTuple):
    """An open load: requests whose arrivals do not depend on answers. Make it with `open_load` or `draw_open_load`.

    Attributes:
        times: arrival of each request, seconds, ascending.
        prompts: tokens of each prompt.
        outputs: tokens of each answer.
    """

    times: Array
    prompts: Whole
    outputs: Whole


class ClosedLoad(NamedTuple):
    """A closed load: each of `users` waits for an answer, thinks, and asks again. Make it with `draw_closed_load`.

    Attributes:
        users: number of users.
        thinks: seconds of thinking before each request, also before a user's first one.
        prompts: tokens of each prompt, in order of arrival.
        outputs: tokens of each answer.
    """

    users: int
    thinks: Array
    prompts: Whole
    outputs: Whole


def draw_open_load(
    process: ArrivalProcess, prompts: LengthDistribution, outputs: LengthDistribution, *, count: int, seed: int
) -> OpenLoad:
    """Return `count` requests of an arrival process.

    Raises:
        ConfigError: a rate, length or count is not above zero.
    """
    many = int(positive(count, "the number of requests", least=1))
    times = np.cumsum(process.gaps(many, _stream(seed, 0)))
    return open_load(times, prompts.draw(many, _stream(seed, 1)), outputs.draw(many, _stream(seed, 2)))


def draw_closed_load(
    users: int, think: float, lengths: tuple[LengthDistribution, LengthDistribution], *, count: int, seed: int
) -> ClosedLoad:
    """Return `count` requests of `users` users who think `think` seconds on average (exponential; 0: not at all).

    Args:
        users: number of users.
        think: mean seconds between an answer and the next question.
        lengths: distributions of prompts and of outputs.
        count: requests of all users together.
        seed: seed of all random numbers.

    Raises:
        ConfigError: there are no users, the thinking time is negative, or a length or count is not above zero.
    """
    many = int(positive(count, "the number of requests", least=1))
    people = int(positive(users, "the number of users", least=1))
    if not 0 <= think < np.inf:
        raise ConfigError(f"the thinking time must be 0 seconds or more, not {think:g}")
    asked, answered = (kind.draw(many, _stream(seed, place + 1)) for place, kind in enumerate(lengths))
    return ClosedLoad(people, _stream(seed, 0).exponential(think, many), *_lengths(asked, answered, many))


def open_load(times: ArrayLike, prompts: ArrayLike, outputs: ArrayLike) -> OpenLoad:
    """Return the requests of a trace: seconds, prompt tokens, output tokens; a single length applies to all requests.

    Raises:
        ConfigError: there are no requests, times decrease, or a length is not a whole number of at least 1.
    """
    when = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if when.size == 0:
        raise ConfigError("the trace has no requests: give at least one time with its prompt and output tokens")
    if not np.all(np.isfinite(when)):
        raise ConfigError(f"request {int(np.argmin(np.isfinite(when))) + 1} of the trace has no finite time")
    back = np.diff(when) < 0
    if np.any(back):
        place = int(np.argmax(back)) + 1
        raise ConfigError(
            f"request {place + 1} of the trace comes at {when[place]:g} s, before the one above it "
            f"({when[place - 1]:g} s): sort the trace by time"
        )
    return OpenLoad(when, *_lengths(prompts, outputs, len(when)))


def positive(value: float, what: str, *, least: float = 0.0) -> float:
    """Return `value` if it is finite, above 0 and at least `least`; else raise ConfigError, which names `what`."""
    if not (0 < value < np.inf and value >= least):
        bound = f"at least {least:g}" if least else "more than 0"
        raise ConfigError(f"{what} must be {bound} and finite, not {value:g}")
    return float(value)


def _lengths(prompts: ArrayLike, outputs: ArrayLike, count: int) -> tuple[Whole, Whole]:
    found = []
    for what, tokens in (("prompt", prompts), ("output", outputs)):
        given = np.asarray(tokens)
        if given.ndim and given.shape != (count,):
            raise ConfigError(f"{count} requests need {count} {what} lengths, not {given.size}")
        if not np.all(np.isfinite(given)) or np.any(given < 1) or np.any(given != np.rint(given)):
            place = int(np.argmax(~(np.atleast_1d(given) >= 1) | (np.atleast_1d(given) % 1 != 0)))
            raise ConfigError(
                f"request {place + 1} has {np.atleast_1d(given)[place]:g} {what} tokens: "
                "it must be a whole number of at least 1"
            )
        found.append(np.array(np.broadcast_to(given, count), dtype=np.int64))
    return found[0], found[1]


def _whole(values: NDArray[np.float64]) -> Whole:
    return np.maximum(1, np.rint(values)).astype(np.int64)


def _stream(seed: int, place: int) -> Chance:
    return np.random.default_rng((seed, place))
