"""What is known about a model before it is called: sizes, prices, speeds."""

import math

import msgspec

from mixtura.chat import Usage


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Dollars per million tokens; `cached` is the price of a cached prompt token, None for no discount."""

    input: float
    output: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """Dollars for `usage`."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.input + usage.cached_tokens * cached + usage.completion_tokens * self.output) / 1e6


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What a call is predicted to take on the machine that serves the model, for as long as too few were measured.

    `first` are seconds to the first token, `token` seconds for each from then on. `spread` is the standard deviation of
    the logarithm of real time over predicted time (0.1: two of three real values lie within about 10 %).

    Raises:
        ValueError: a figure that is no time.
    """

    first: float
    token: float
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("first", "token", "spread"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a number of 0 or more, got {value}")

    def seconds(self, tokens: int) -> float:
        """Return the seconds that a reply of `tokens` tokens takes."""
        return self.first + max(0, tokens - 1) * self.token


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known about a model before it is called; everything but the id may be unknown.

    `window` and `max_output` are tokens. `efforts` are the reasoning_effort values it takes (empty: it takes
    none); a model with `reasons` spends completion tokens on thinking. `speed` is tokens a second, as published;
    `predicted` is what the machines that serve it are said to take, and goes before it.
    """

    id: str
    provider: str
    window: int | None = None
    max_output: int | None = None
    price: Price | None = None
    efforts: tuple[str, ...] = ()
    default_effort: str | None = None
    reasons: bool = False
    speed: float | None = None
    predicted: Predicted | None = None
