"""What is believed of one key's windows for one model, and what teaches it: headers, refusals, usage.

Belief and provider are kept in step by differences: every call remembers what was believed when it was sent, its reply
says what was true, and the difference is added to what is believed now. So a reply that comes late or among a
hundred others corrects as well as one that comes alone, at the same small cost. One that is overtaken by the reply of
a call sent after it has nothing to add.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.breaker import Breaker
from mixtura.limits.latency import Latency
from mixtura.limits.window import DIMENSIONS, Bucket, Dimension, Limits, Window

# Calls are sent at one moment and counted by the provider at another. What is taken drains here a little before it
# does there, so a call is held back until this many seconds more have drained, and one unit for rounding.
SLACK = 0.1
# Releases smaller than this share of the window prove nothing about whether the provider gives back at all.
TELLING = 0.02
# Prompts of one model differ in how far their estimate is off: so much is added to what was learned. What turns out
# to be too much is given back when the reply tells the real number.
_CAUTION = 1.05
SIGNS = 2
LONGEST_BLOCK = 86_400.0
TOKENS: tuple[Dimension, ...] = ("tpm", "tpd")
_REQUESTS: tuple[Dimension, ...] = ("rpm", "rpd")


class Quote(NamedTuple):
    """When a demand would fit: `wait` seconds from now (0: at once, inf: never), and the window that says so."""

    wait: float
    account: str = ""
    dimension: str = ""
    limit: float = 0.0
    requested: float = 0.0


FITS = Quote(0.0)


class Mark(msgspec.Struct):
    """What was believed of one window when a call was sent; the sums count all that was ever taken or corrected."""

    level: float
    taken: float
    corrected: float


class Sent(msgspec.Struct):
    """One call that was counted: what it took, when, and what was believed then. `marks` is None without windows.

    `number` counts the account's calls. `unused` is what settled calls before it had reserved and not used, since a
    reply last told the truth.
    """

    account: "Account"
    at: float
    tokens: int = 0
    marks: dict[Dimension, Mark] | None = None
    number: int = 0
    unused: float = 0.0
    settled: bool = False


class Believed(Bucket):
    """A bucket that keeps count of all that was taken and corrected, so that a late reply can be placed."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self.taken = 0.0
        self.corrected = 0.0

    def take(self, amount: float, now: float) -> None:
        """Count `amount` units as used from `now`."""
        super().take(amount, now)
        self.taken += amount

    def correct(self, mark: Mark, at: float, level: float, now: float) -> float:
        """Take over that `level` was true at `at`, when `mark` was believed; return what was believed too much.

        What was taken since then, and what drained, are kept: the level now lies between what it is if nothing of the
        old level was left to drain, and what it is if all of it was.
        """
        believed = mark.level + self.corrected - mark.corrected
        surplus = believed - level
        since = self.taken - mark.taken
        drained = max(0.0, now - at) * self.window.rate
        low, high = max(0.0, level + since - drained), max(0.0, level - drained) + since
        before = self.level(now)
        after = min(max(before - surplus, low), high)
        self.corrected += after - before
        self._level, self._at = after, now
        return surplus

    def rescale(self, limit: float, now: float) -> None:
        """Change the limit; what is in use stays in use."""
        level = self.level(now)
        self.window = Window(limit, self.window.seconds)
        self._level, self._at = level, now


class Account:
    """One key's windows for one model, with how fast it answers and whether it works at all.

    Not safe to use from two threads at once: `Limiter` sees to that.

    Args:
        key: what it is known by: provider, key and model in one word, the key not readable from it.
        limits: the windows; None when nothing is known of any.
        known: they were told (by the user or the provider); else they are a guess from the catalogue, which paces calls
            but never refuses one.
        plans: the limits of every plan that the catalogue knows; the provider's headers say which one it is.

    Attributes:
        open: nothing limits calls: no limits are known, or the provider has answered without telling any.
        in_flight: calls sent and not settled.
        held_requests, held_tokens: promised to runs that were admitted, not sent yet.
        owed_tokens: what runs that have begun will ask for later without holding it. It delays nobody's call, but
            whoever plans a whole run has to reckon with it.
        ratio: tokens of real prompts over their estimate, as learned from usage.
        version: counts changes of the limits.
    """

    def __init__(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> None:
        self.key = key
        self.known = known
        self.plans = tuple(plans)
        self.latency = Latency()
        self.breaker = Breaker()
        self.in_flight = 0
        self.held_requests = 0
        self.held_tokens = 0
        self.owed_tokens = 0
        self.ratio = 1.0
        self.gives_back = False
        self.version = 0
        self.buckets: dict[Dimension, Believed] = {}
        self.unlimited = True
        self._calls = 0
        self._heard = 0
        self._unused = 0.0
        self._signs = 0
        self._blocked_until = -math.inf
        self._set(limits or Limits())

    @property
    def limits(self) -> Limits:
        """The windows' limits, as far as they are known."""
        return Limits(**{name: int(bucket.window.limit) for name, bucket in self.buckets.items()})

    @property
    def guessing(self) -> bool:
        """The windows are a guess that no reply has confirmed yet."""
        return not self.known and not self.unlimited

    def know(self, limits: Limits, now: float) -> None:
        """Take over limits that somebody who knows has told."""
        self._set(limits, now)
        self.known = True

    def _set(self, limits: Limits, now: float = -math.inf) -> None:
        """Keep windows for `limits`; those that are there already keep their level."""
        for name, (_, seconds) in DIMENSIONS.items():
            limit = getattr(limits, name)
            if limit is None:
                self.buckets.pop(name, None)
            elif name in self.buckets:
                self.buckets[name].rescale(limit, now)
            else:
                self.buckets[name] = Believed(Window(limit, seconds))
        self.unlimited = not self.buckets
        self.version += 1

    def reserve_for(self, estimate: int, max_tokens: int | None) -> int:
        """Return the tokens a call counts for: its prompt, as estimated and learned, and its most output."""
        return math.ceil(estimate * self.ratio * _CAUTION) + (max_tokens or 0)

    def quote(
        self, tokens: float, now: float, requests: int = 1, ahead_tokens: float = 0, ahead_requests: int = 0
    ) -> Quote:
        """Return when `requests` calls of `tokens` together fit, behind what is held and what is `ahead` in line."""
        worst = FITS
        if now < self._blocked_until:
            worst = Quote(min(self._blocked_until - now, LONGEST_BLOCK), self.key, "blocked")
        for name, bucket in self.buckets.items():
            if name in TOKENS:
                amount, before = tokens, self.held_tokens + ahead_tokens
            else:
                amount, before = float(requests), float(self.held_requests + ahead_requests)
            window = bucket.window
            if amount > window.limit:
                return Quote(math.inf, self.key, name, window.limit, amount)
            level = bucket.level(now) + before
            margin = window.rate * SLACK + (name in TOKENS)
            over = level + amount + margin - window.limit
            # An empty window takes a demand of its whole size, for which no margin can ever be left.
            if over > 0 and level > 0:
                wait = min(over, level + margin) / window.rate
                if wait > worst.wait:
                    worst = Quote(wait, self.key, name, window.limit, amount)
        return worst

    def take(self, tokens: int, now: float) -> Sent:
        """Count one call of `tokens` as sent."""
        self.in_flight += 1
        self._calls += 1
        if self.unlimited:
            return Sent(self, now, number=self._calls)
        marks: dict[Dimension, Mark] = {}
        for name, bucket in self.buckets.items():
            bucket.take(tokens if name in TOKENS else 1, now)
            marks[name] = Mark(bucket.level(now), bucket.taken, bucket.corrected)
        return Sent(self, now, tokens, marks, self._calls, self._unused)

    def settle(
        self,
        sent: Sent,
        now: float,
        *,
        headers: RateLimitHeaders | None = None,
        actual: int | None = None,
        excess: int = 0,
    ) -> None:
        """Close the books of a call that was answered.

        Args:
            sent: the call.
            now: the time.
            headers: what the reply's headers say; None when they say nothing of limits.
            actual: tokens it really took, cached ones not counted; None when that is not known.
            excess: by how many tokens its prompt was estimated too long; less than nothing: too short.
        """
        if sent.settled:
            return
        sent.settled = True
        self.in_flight -= 1
        if headers is not None:
            self._learn(sent, headers, now)
        elif not self.known and not self.unlimited:
            # A provider that counts says so on every reply; this one does not.
            self._set(Limits(), now)
        if sent.marks and excess:
            # Headers tell how full the minute is, better than this does; nothing tells of the day.
            heard = headers is not None and headers.tokens_left is not None
            self._uncount(("tpd",) if heard else TOKENS, excess, now)
        if sent.marks and actual is not None:
            unused = max(0, sent.tokens - actual)
            self._unused += unused
            if self.gives_back:
                self._give_back(TOKENS, unused, now)

    def credit(self, tokens: int, now: float) -> None:
        """Return tokens that do not count after all, because they were cached."""
        self._give_back(TOKENS, tokens, now)

    def learn_estimate(self, estimate: int, actual: int) -> None:
        """Learn from one reply how far prompt estimates are off, quickly upwards and slowly downwards."""
        if estimate > 0 and actual > 0:
            seen = min(max(actual / estimate, 0.25), 8.0)
            self.ratio += (seen - self.ratio) * (0.5 if seen > self.ratio else 0.1)

    def refused(self, sent: Sent, now: float) -> None:
        """Close the books of a call that the provider did not count (refused, or never reached it)."""
        if sent.settled:
            return
        sent.settled = True
        self.in_flight -= 1
        if sent.marks:
            # A refused attempt was seen to count against the requests per day.
            self._uncount(TOKENS, sent.tokens, now)
            self._uncount(("rpm",), 1, now)

    def lost(self, sent: Sent) -> None:
        """Close the books of a call that broke off: it was counted, and nobody knows what it came to."""
        if not sent.settled:
            sent.settled = True
            self.in_flight -= 1

    def exceeded(self, window: Exceeded, wait: float, now: float) -> None:
        """Learn from a refusal that names a window and how full it is, or that only says how long to wait."""
        dimension, limit, used = window
        if dimension in DIMENSIONS and limit > 0:
            name: Dimension = dimension
            bucket = self.buckets.get(name)
            if bucket is None:
                bucket = self.buckets[name] = Believed(Window(limit, DIMENSIONS[name][1]))
            elif bucket.window.limit != limit:
                bucket.rescale(limit, now)
            if used is not None:
                level = max(bucket.level(now), min(used, limit))
                bucket.corrected += level - bucket.level(now)
                bucket.observe(limit - level, now)
            self.known, self.unlimited = True, False
            self.version += 1
        elif wait:
            self._blocked_until = max(self._blocked_until, now + min(wait, LONGEST_BLOCK))

    def _uncount(self, names: Sequence[Dimension], amount: float, now: float) -> None:
        """Take back units that never counted, also not when the calls after it were sent."""
        for name in names:
            bucket = self.buckets.get(name)
            if bucket is not None:
                before = bucket.level(now)
                bucket.give_back(amount, now)
                bucket.corrected += bucket.level(now) - before

    def _give_back(self, names: Sequence[Dimension], amount: float, now: float) -> None:
        """Return units from now on: for the reply of a call sent earlier that is something taken since, negatively."""
        for name in names:
            bucket = self.buckets.get(name)
            if bucket is not None and amount:
                before = bucket.level(now)
                bucket.give_back(amount, now)
                bucket.taken += bucket.level(now) - before

    def _learn(self, sent: Sent, headers: RateLimitHeaders, now: float) -> None:
        heard: tuple[tuple[Dimension, float | None, float | None], ...] = (
            ("rpd", headers.request_limit, headers.requests_left),
            ("tpm", headers.token_limit, headers.tokens_left),
        )
        sound = [(name, limit, left) for name, limit, left in heard if limit is not None and limit >= 1]
        if not sound:
            if not self.known:
                self._set(Limits(), now)
            return
        if any(name not in self.buckets or self.buckets[name].window.limit != limit for name, limit, _ in sound):
            self._adopt({name: int(limit) for name, limit, _ in sound}, now)
        self.known = True
        if sent.marks and sent.number < self._heard:
            return
        self._heard = sent.number
        for name, limit, left in sound:
            mark = None if sent.marks is None else sent.marks.get(name)
            # What is left cannot be more than all of it: a header that says so is not to be trusted.
            if left is None or not 0 <= left <= limit:
                continue
            bucket = self.buckets[name]
            # A mark that counts more than was taken is of a window that is no more.
            if mark is None or mark.taken > bucket.taken:
                bucket.observe(left, now)
                continue
            surplus = bucket.correct(mark, sent.at, limit - left, now)
            if name == "tpm":
                self._judge(surplus, sent, bucket.window.limit)

    def _judge(self, surplus: float, sent: Sent, limit: float) -> None:
        """Learn whether the provider gives back what a call reserved and did not use.

        Only nearly all of what could have been given back speaks for it, twice: a prompt that was estimated too long
        looks like a little of it.
        """
        unused, sent.unused = sent.unused, 0.0
        if unused >= TELLING * limit:
            if self.gives_back:
                self.gives_back = surplus > -unused / 2
            else:
                self._signs = self._signs + 1 if surplus >= 0.8 * unused else 0
                self.gives_back = self._signs >= SIGNS
        # The belief is anchored anew: what was released before this call was sent is in it, or is not.
        self._unused = max(0.0, self._unused - unused)

    def _adopt(self, told: dict[Dimension, int], now: float) -> None:
        """Take over limits that differ from the guess: those of the plan they belong to, where one fits."""
        fitting = [
            plan for plan in self.plans if all(getattr(plan, name) in (None, limit) for name, limit in told.items())
        ]
        base = fitting[0] if fitting else Limits() if not self.known else self.limits
        self._set(msgspec.structs.replace(base, **told), now)
