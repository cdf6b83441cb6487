"""When requests come and how long they are: processes, lengths, and users who wait for their answer.

Everything is drawn before a run from a seed: the same seed gives the same requests. Times, prompts and outputs have a
stream of random numbers each, so that a change of rate does not change the lengths.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixtura.errors import ConfigError

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Chance = np.random.Generator


class ArrivalProcess(Protocol):
    """How far apart requests come."""

    def gaps(self, count: int, chance: Chance) -> Array:
        """Return `count` seconds between one request and the next."""
        ...


class LengthDistribution(Protocol):
    """How many tokens a prompt or an output has."""

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return `count` numbers of tokens, each at least 1."""
        ...


class PoissonArrivals(NamedTuple):
    """Requests of many people who know nothing of each other: exponential gaps. `rate` requests a second."""

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
    """Gamma gaps: `variation` is their standard deviation over their mean (1: Poisson; above: bursts; below: calm)."""

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
    """Every token may be the last with the same chance: the memoryless length, `mean` tokens."""

    mean: float

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return geometric lengths."""
        return chance.geometric(1 / positive(self.mean, "the mean number of tokens", least=1), count)


class LognormalLength(NamedTuple):
    """Few long ones among many short: `mean` tokens, `variation` the standard deviation over the mean."""

    mean: float
    variation: float

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return rounded log-normal lengths."""
        mean = positive(self.mean, "the mean number of tokens", least=1)
        wide = float(np.log1p(positive(self.variation, "the variation of the lengths") ** 2))
        return _whole(chance.lognormal(np.log(mean) - wide / 2, wide**0.5, count))


class UniformLength(NamedTuple):
    """Any number from `low` to `high` with the same chance."""

    low: int
    high: int

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return uniform lengths."""
        low = positive(self.low, "the least number of tokens", least=1)
        if self.high < low:
            raise ConfigError(f"lengths from {self.low} to {self.high}: the second must not be below the first")
        return chance.integers(int(low), self.high, count, endpoint=True)


class EmpiricalLength(NamedTuple):
    """Lengths seen before, drawn again with replacement."""

    seen: ArrayLike

    def draw(self, count: int, chance: Chance) -> Whole:
        """Return lengths out of those seen."""
        seen = np.asarray(self.seen)
        if seen.size == 0:
            raise ConfigError("no lengths to draw from: give at least one")
        positive(float(seen.min()), "the number of tokens", least=1)
        return _whole(chance.choice(seen, count))


class OpenLoad(NamedTuple):
    """Requests that come whatever happens to them: an open load. Make it with `traffic` or `draw`.

    Attributes:
        times: when each comes, seconds, rising.
        prompts: tokens of each prompt.
        outputs: tokens of each answer.
    """

    times: Array
    prompts: Whole
    outputs: Whole


class ClosedLoad(NamedTuple):
    """A closed load: `users` who each wait for an answer, think, and ask again. Make it with `crowd`.

    Attributes:
        users: how many there are.
        thinks: seconds of thought before each request, also before the first of each user.
        prompts: tokens of each prompt, in the order in which requests come.
        outputs: tokens of each answer.
    """

    users: int
    thinks: Array
    prompts: Whole
    outputs: Whole


def draw_open_load(
    process: ArrivalProcess, prompts: LengthDistribution, outputs: LengthDistribution, *, count: int, seed: int
) -> OpenLoad:
    """Return `count` requests of a process.

    Raises:
        ConfigError: a rate, length or count that is not more than zero.
    """
    many = int(positive(count, "the number of requests", least=1))
    times = np.cumsum(process.gaps(many, _stream(seed, 0)))
    return open_load(times, prompts.draw(many, _stream(seed, 1)), outputs.draw(many, _stream(seed, 2)))


def draw_closed_load(
    users: int, think: float, lengths: tuple[LengthDistribution, LengthDistribution], *, count: int, seed: int
) -> ClosedLoad:
    """Return `count` requests of `users` users who think `think` seconds on average (exponential; 0: not at all).

    Args:
        users: how many there are.
        think: mean seconds between an answer and the next question.
        lengths: of prompts and of outputs.
        count: requests of all users together.
        seed: of everything that is drawn.

    Raises:
        ConfigError: no users, a negative thinking time, a length or count that is not more than zero.
    """
    many = int(positive(count, "the number of requests", least=1))
    people = int(positive(users, "the number of users", least=1))
    if not 0 <= think < np.inf:
        raise ConfigError(f"the thinking time must be 0 seconds or more, not {think:g}")
    asked, answered = (kind.draw(many, _stream(seed, place + 1)) for place, kind in enumerate(lengths))
    return ClosedLoad(people, _stream(seed, 0).exponential(think, many), *_lengths(asked, answered, many))


def open_load(times: ArrayLike, prompts: ArrayLike, outputs: ArrayLike) -> OpenLoad:
    """Return requests as they stand in a trace: seconds, prompt tokens, output tokens; lengths also one for all.

    Raises:
        ConfigError: no requests, times that go back, lengths that are not whole numbers of at least 1.
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
    """Return `value` when it is finite and more than 0, and at least `least`; else raise ConfigError about `what`."""
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
