"""The limits of one organisation on one model: four leaky buckets, with their headers and refusals."""

import math

import msgspec

from mixtura.limits.window import DIMENSIONS, LeakyBucket, Limits, Window, go_duration


class LimitRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call was not admitted. `wait` is in seconds, and inf when the call can never fit."""

    dimension: str
    kind: str
    limit: int
    used: int
    requested: int
    wait: float

    @property
    def never(self) -> bool:
        """Whether the call exceeds the limit itself, so that waiting cannot help."""
        return self.wait == math.inf

    @property
    def wait_text(self) -> str:
        """The wait as the refusal's message gives it, such as "2m59.56s"."""
        return go_duration(self.wait)


class ModelQuota:
    """The windows of one organisation and model. A limit of None has no window."""

    def __init__(self, limits: Limits) -> None:
        self._buckets = {
            f"{words} ({short.upper()})": LeakyBucket(Window(limit, seconds))
            for short, (words, seconds) in DIMENSIONS.items()
            if (limit := getattr(limits, short)) is not None
        }
        self._rpd = self._buckets.get("requests per day (RPD)")
        self._tpm = self._buckets.get("tokens per minute (TPM)")

    def admit(self, tokens: int, now: float) -> LimitRefusal | None:
        """Charge one request of `tokens`, or return why it does not fit and charge no tokens.

        A refused request still counts against the requests per day, as observed on the real cloud.
        """
        asked = {name: tokens if name.startswith("tokens") else 1 for name in self._buckets}
        waits = {name: bucket.wait(asked[name], now) for name, bucket in self._buckets.items()}
        never = [name for name, wait in waits.items() if wait == math.inf]
        full = never or [name for name, wait in waits.items() if wait > 0]
        if not full:
            for name, bucket in self._buckets.items():
                bucket.take(asked[name], now)
            return None
        name = full[0]
        bucket = self._buckets[name]
        refused = LimitRefusal(
            dimension=name,
            kind=name.split(" ", 1)[0],
            limit=int(bucket.window.limit),
            used=bucket.used(now),
            requested=asked[name],
            wait=waits[name],
        )
        if self._rpd is not None and not never and self._rpd.wait(1, now) == 0:
            self._rpd.take(1, now)
        return refused

    def credit(self, tokens: int, now: float) -> None:
        """Give back tokens that do not count because they came from the cache."""
        for name, bucket in self._buckets.items():
            if name.startswith("tokens"):
                bucket.give_back(tokens, now)

    def headers(self, now: float, refused: LimitRefusal | None = None) -> dict[str, str]:
        """Return the rate-limit headers, which show requests per day and tokens per minute.

        A refusal for requests per minute omits the token headers, as on the real cloud.
        """
        shown = [("requests", self._rpd), ("tokens", self._tpm)]
        if refused and "RPM" in refused.dimension:
            shown.pop()
        kept = [(name, bucket) for name, bucket in shown if bucket is not None]
        headers = {f"x-ratelimit-limit-{name}": f"{bucket.window.limit:.0f}" for name, bucket in kept}
        headers |= {f"x-ratelimit-remaining-{name}": str(bucket.remaining(now)) for name, bucket in kept}
        headers |= {f"x-ratelimit-reset-{name}": go_duration(bucket.reset(now)) for name, bucket in kept}
        if refused and not refused.never:
            headers["retry-after"] = str(math.ceil(refused.wait))
        return headers
