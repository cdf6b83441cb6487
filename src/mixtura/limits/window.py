"""Rate-limit windows as Groq keeps them, which is as leaky buckets, and durations as Go writes them.

A window of `limit` units per `seconds` is a bucket whose level sinks by `limit / seconds` each second. Recorded
headers agree to the digit: 14,400 requests a day with one used read "14399 left, reset 6s", and 13 tokens of 6,000
a minute read "5987 left, reset 130ms".

Every method takes `now`, in seconds of a clock that the caller chooses. After that clock is set back, a bucket drains
from the new time on.
"""

import math
import re
from typing import Literal

import msgspec

# A clock set back by more than this (seconds) is a new clock; less is two threads reading it at the same time.
_SET_BACK = 1.0
# Less than this much of a unit is a rounding error: a caller that waits exactly as long as `wait` says must fit.
_DUST = 1e-6

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests and tokens per minute and per day; None: no such limit is known."""

    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    tpd: int | None = None


Dimension = Literal["rpm", "rpd", "tpm", "tpd"]

DIMENSIONS: dict[Dimension, tuple[str, float]] = {
    "rpm": ("requests per minute", 60.0),
    "rpd": ("requests per day", 86_400.0),
    "tpm": ("tokens per minute", 60.0),
    "tpd": ("tokens per day", 86_400.0),
}
"""Each window's name in words, and its length in seconds."""


class Window(msgspec.Struct, frozen=True):
    """`limit` units per `seconds`."""

    limit: float
    seconds: float

    @property
    def rate(self) -> float:
        """Units that come back each second."""
        return self.limit / self.seconds

    def level_after(self, level: float, elapsed: float) -> float:
        """Return the level after `elapsed` seconds in which nothing is taken."""
        return max(0.0, level - max(0.0, elapsed) * self.rate)

    def remaining(self, level: float) -> int:
        """Return the whole units still free at `level`."""
        return max(0, math.floor(self.limit - level + _DUST))

    def reset(self, level: float) -> float:
        """Return the seconds until the bucket is empty again."""
        return level / self.rate

    def wait(self, used: float, requested: float) -> float:
        """Return the seconds until `requested` more fit beside `used`: 0 when they do, inf if they never will."""
        if requested > self.limit + _DUST:
            return math.inf
        return max(0.0, used + requested - self.limit) / self.rate


class LeakyBucket:
    """The level of one window over time."""

    def __init__(self, window: Window, level: float = 0.0, now: float = -math.inf) -> None:
        self.window = window
        self._level = level
        self._at = now

    def level(self, now: float) -> float:
        """Return the units in use at `now`."""
        if now < self._at - _SET_BACK:
            # The clock was set back. Without this the level would not drain until the old time came round again.
            self._at = now
        return self.window.level_after(self._level, now - self._at) if self._level else 0.0

    def used(self, now: float) -> int:
        """Return the units in use at `now` as a provider counts them: rounded up."""
        return math.ceil(self.level(now) - _DUST)

    def remaining(self, now: float) -> int:
        """Return the whole units free at `now`."""
        return self.window.remaining(self.level(now))

    def reset(self, now: float) -> float:
        """Return the seconds from `now` until the bucket is empty, if nothing more is taken."""
        return self.window.reset(self.level(now))

    def wait(self, requested: float, now: float) -> float:
        """Return the seconds from `now` until `requested` units fit; inf when they are more than the limit."""
        return self.window.wait(max(0, self.used(now)), requested)

    def take(self, amount: float, now: float) -> None:
        """Count `amount` units as used from `now`; the level may pass the limit: `wait` says whether they fit."""
        self._level = self.level(now) + amount
        self._at = max(now, self._at)

    def give_back(self, amount: float, now: float) -> None:
        """Give back units that were taken and not used; the level never falls below zero."""
        self._level = max(0.0, self.level(now) - amount)
        self._at = max(now, self._at)

    def observe(self, remaining: float, now: float) -> None:
        """Set the level from the `remaining` units that a provider's header states at `now`."""
        self._level = max(0.0, self.window.limit - remaining)
        self._at = now


def go_duration(seconds: float) -> str:
    """Write `seconds` as Go prints a `time.Duration`: 26ms, 6s, 17.4s, 1m26.4s, 1h25m3.847s.

    Nanoseconds are cut off, not rounded, as Go's conversion from a float does; hence the 17.399999999s seen
    in real headers.
    """
    nanos = int(seconds * 1e9)
    sign, nanos = ("-" if nanos < 0 else ""), abs(nanos)
    if nanos < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanos >= size:
                return f"{sign}{_decimal(nanos, size)}{unit}"
        return "0s"
    minutes, rest = divmod(nanos, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if hours:
        text = f"{hours}h{minutes}m{text}"
    elif minutes:
        text = f"{minutes}m{text}"
    return sign + text


def in_words(seconds: float) -> str:
    """Write a wait for people: 39 s, 420 s, 2 h 5 min, 3 days 4 h. From an hour on it is rounded up."""
    if seconds < 3600:
        return f"{seconds:.4g} s"
    # inf and nan have no minutes.
    minutes = math.ceil(seconds / 60) if math.isfinite(seconds) else 0
    hours, minutes = divmod(minutes, 60)
    days, rest = divmod(hours, 24)
    if days > 1:
        return f"{days} days" + (f" {rest} h" if rest else "")
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def parse_duration(text: str) -> float:
    """Read a Go duration ("1m26.4s") or plain seconds ("7.66") into seconds.

    Raises:
        ValueError: it is neither.
    """
    body = text.strip()
    sign = -1.0 if body.startswith("-") else 1.0
    body = body[1:] if body[:1] in ("+", "-") else body
    parts = list(_PART.finditer(body))
    if parts and "".join(part[0] for part in parts) == body:
        return sign * math.fsum(float(part[1]) * _UNITS[part[2]] for part in parts)
    if re.fullmatch(r"\d+\.?\d*|\.\d+", body):
        return sign * float(body)
    raise ValueError(f"not a duration: {text!r}")


def _decimal(amount: int, size: int) -> str:
    whole, rest = divmod(amount, size)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(size)) - 1}d}".rstrip("0")
