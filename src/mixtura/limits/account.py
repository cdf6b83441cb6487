"""Rate-limit state of one key for one model: how full its windows are, and what replies teach about them.

The provider keeps the real windows; an `Account` estimates their levels. Every call remembers the estimate at the
moment it was sent. Its reply's headers say what the level really was then, and the difference is added to the present
estimate. A reply therefore corrects equally well whether it arrives late, among a hundred others, or alone. Headers
of a call that was sent before one whose reply is already known are ignored: they are out of date.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.breaker import CircuitBreaker
from mixtura.limits.latency import LatencyHistory
from mixtura.limits.tracked_bucket import BucketSnapshot, TrackedBucket
from mixtura.limits.window import DIMENSIONS, Dimension, Limits, Window

# The provider counts a call a moment after it was sent, so a bucket here drains a little ahead of the provider's.
# A call is therefore held back until this many more seconds have drained, and one unit for rounding.
SLACK = 0.1
# Unused reservations below this share of a window are too small to show whether the provider gives them back.
EVIDENCE_SHARE = 0.02
# So many replies in a row have to show it.
EVIDENCE_NEEDED = 2
# Prompts of one model differ in how far their estimate is off, so this much is added to the learned ratio. The reply
# tells the real number, and the excess is taken back.
_SAFETY_FACTOR = 1.05
LONGEST_BLOCK = 86_400.0
# While calls that may prove a guess wrong are under way, one that exceeds the guess looks again after so many seconds.
PROBE_DELAY = 1.0
TOKENS: tuple[Dimension, ...] = ("tpm", "tpd")


class Quote(NamedTuple):
    """When a demand would fit: `wait` seconds from now (0: at once, inf: never), and the window that decides it."""

    wait: float
    account: str = ""
    dimension: str = ""
    limit: float = 0.0
    requested: float = 0.0


FITS = Quote(0.0)


class SentCall(msgspec.Struct):
    """One call that was counted.

    Attributes:
        account: where it was counted.
        at: event-loop time at which it was sent.
        tokens: what it reserved.
        snapshots: the windows at that moment; None when the account had none.
        number: its place among the account's calls.
        unused: tokens that calls settled earlier had reserved and not used, since headers last stated the level.
        settled: its outcome has been counted.
        told: what its reply states of limits has been learned.
    """

    account: "Account"
    at: float
    tokens: int = 0
    snapshots: dict[Dimension, BucketSnapshot] | None = None
    number: int = 0
    unused: float = 0.0
    settled: bool = False
    told: bool = False


class Account:
    """One key's windows for one model, how fast the model answers, and whether it works at all.

    Not safe to use from two threads at once: callers hold the lock of the account's store.

    Args:
        key: its name, made of the server, a hash of the key, and the model.
        limits: the windows; None when none are known.
        known: the user or the provider stated the limits. Otherwise they are a guess from the catalogue, which may
            delay a call and never refuses one.
        plans: the limits of every plan in the catalogue; the provider's headers show which plan applies.

    Attributes:
        unlimited: no window limits calls: none is known, or the provider answered without stating any.
        in_flight: calls sent and not settled.
        held_requests, held_tokens: promised to admitted runs and not sent yet.
        owed_tokens: what runs under way will ask for later without holding it. It delays no call; planning a whole
            run counts it.
        ratio: tokens of real prompts over their estimate, learned from usage.
        synced: the account's store and this process know the same about it.
        version: counts changes of the limits.
    """

    synced = True

    def __init__(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> None:
        self.key = key
        self.known = known
        self.plans = tuple(plans)
        self.latency = LatencyHistory()
        self.breaker = CircuitBreaker()
        self.in_flight = 0
        self.held_requests = 0
        self.held_tokens = 0
        self.owed_tokens = 0
        self.ratio = 1.0
        self.gives_back = False
        self.version = 0
        self.buckets: dict[Dimension, TrackedBucket] = {}
        self.unlimited = True
        self._calls = 0
        self._latest_reply = 0
        self._unused = 0.0
        self._evidence = 0
        self._blocked_until = -math.inf
        self._set_windows(limits or Limits())

    @property
    def limits(self) -> Limits:
        """The windows' limits, as far as they are known."""
        return Limits(**{name: int(bucket.window.limit) for name, bucket in self.buckets.items()})

    @property
    def guessing(self) -> bool:
        """Whether the windows are a guess that no reply has confirmed yet."""
        return not self.known and not self.unlimited

    def is_resting(self, now: float) -> bool:
        """Say whether one that is opened anew would do as well, but for what replies taught this one."""
        busy = self.in_flight or self.held_requests or self.held_tokens or self.owed_tokens
        # A failure on record, or a block, is something that the next call has to know.
        sound = self.breaker.healthy and now >= self._blocked_until
        return sound and not busy and not any(bucket.level(now) for bucket in self.buckets.values())

    def is_blocked(self, now: float) -> bool:
        """Say whether the provider asked, with a refusal that named no window, to be left alone until later."""
        return now < self._blocked_until

    def forget(self) -> None:
        """Drop, in a forked process, the calls and promises of the parent; limits and levels stay as they are."""
        self.in_flight = 0
        self.held_requests = self.held_tokens = self.owed_tokens = 0
        self.breaker.release_probe()

    def set_limits(self, limits: Limits, now: float) -> None:
        """Replace the limits by ones that are known for certain."""
        self._set_windows(limits, now)
        self.known = True

    def _set_windows(self, limits: Limits, now: float = -math.inf) -> None:
        """Keep a window for each limit of `limits` and no others; a window that stays keeps its level."""
        for name, (_, seconds) in DIMENSIONS.items():
            limit = getattr(limits, name)
            if limit is None:
                self.buckets.pop(name, None)
            elif name in self.buckets:
                self.buckets[name].rescale(limit, now)
            else:
                self.buckets[name] = TrackedBucket(Window(limit, seconds))
        self.unlimited = not self.buckets
        self.version += 1

    def reserve_for(self, estimate: int, max_tokens: int | None) -> int:
        """Return the tokens a call counts for: its estimated prompt, corrected by the ratio, and its most output."""
        return math.ceil(estimate * self.ratio * _SAFETY_FACTOR) + (max_tokens or 0)

    def quote(
        self, tokens: float, now: float, requests: int = 1, ahead_tokens: float = 0, ahead_requests: int = 0
    ) -> Quote:
        """Return when `requests` calls of `tokens` together fit, after all holds and what is `ahead` in the queue."""
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

    def quote_call(self, tokens: int, now: float) -> Quote:
        """Return when one call of `tokens` may be sent.

        A guess paces calls as if it were known, but for two things. While others are under way, a call that does not
        fit looks again soon, because their replies tell whether the guess is right. A call that is larger than the
        guess itself is sent as a test while no other is under way.
        """
        quote = self.quote(tokens, now)
        if quote.wait <= 0 or not self.guessing:
            return quote
        if self.in_flight:
            return Quote(min(quote.wait, PROBE_DELAY), *quote[1:])
        if quote.wait < math.inf:
            return quote
        blocked = min(self._blocked_until - now, LONGEST_BLOCK)
        return Quote(blocked, self.key, "blocked") if blocked > 0 else FITS

    def take(self, tokens: int, now: float) -> SentCall:
        """Count one call of `tokens` as sent."""
        self.in_flight += 1
        self._calls += 1
        if self.unlimited:
            return SentCall(self, now, 0, None, self._calls)
        snapshots = {name: bucket.count(tokens if name in TOKENS else 1, now) for name, bucket in self.buckets.items()}
        return SentCall(self, now, tokens, snapshots, self._calls, self._unused)

    def settle(
        self,
        call: SentCall,
        now: float,
        *,
        headers: RateLimitHeaders | None = None,
        actual: int | None = None,
        excess: int = 0,
    ) -> None:
        """Count the outcome of a call that was answered; a second time changes nothing.

        Args:
            call: the call.
            now: the time.
            headers: the rate limits in the reply's headers; None when they state none.
            actual: tokens the call really took, without cached ones; None when that is not known.
            excess: by how many tokens its prompt was estimated too long; negative: too short.
        """
        if call.settled:
            return
        call.settled = True
        self.in_flight -= 1
        if not call.told:
            self.learn(call, headers, now)
        if call.snapshots and excess:
            # Headers tell the level of the minute, more exactly than the excess does; no header tells that of the day.
            minute_told = headers is not None and headers.tokens_left is not None
            self._uncount(("tpd",) if minute_told else TOKENS, excess, now)
        if call.snapshots and actual is not None:
            unused = max(0, call.tokens - actual)
            self._unused += unused
            if self.gives_back:
                self.credit(unused, now)

    def learn(self, call: SentCall, headers: RateLimitHeaders | None, now: float) -> None:
        """Take over what a reply's headers state; the head of a reply tells them long before the reply is whole."""
        call.told = True
        if headers is not None:
            self._learn(call, headers, now)
        elif not self.known and not self.unlimited:
            # A provider that limits calls says so on every reply; this one does not.
            self._set_windows(Limits(), now)

    def credit(self, tokens: int, now: float) -> None:
        """Give `tokens` back from now on: they were cached, or reserved and not used."""
        for name in TOKENS if tokens else ():
            bucket = self.buckets.get(name)
            if bucket is not None:
                bucket.release(tokens, now)

    def learn_estimate(self, estimate: int, actual: int) -> None:
        """Learn from one reply how far prompt estimates are off, quickly upwards and slowly downwards."""
        if estimate > 0 and actual > 0:
            seen = min(max(actual / estimate, 0.25), 8.0)
            self.ratio += (seen - self.ratio) * (0.5 if seen > self.ratio else 0.1)

    def refund(self, call: SentCall, now: float) -> None:
        """Take back what a call took that the provider refused, or that never reached it."""
        if call.settled:
            return
        call.settled = True
        self.in_flight -= 1
        if call.snapshots:
            # Refused attempts were observed to count against the requests per day.
            self._uncount(TOKENS, call.tokens, now)
            self._uncount(("rpm",), 1, now)

    def abandon(self, call: SentCall) -> None:
        """End a call that broke off: the provider counted it, and its real size stays unknown."""
        if not call.settled:
            call.settled = True
            self.in_flight -= 1

    def learn_refusal(self, exceeded: Exceeded, wait: float, now: float) -> None:
        """Learn from a refusal that names a window and its level, or that only says how long to wait."""
        dimension, limit, used = exceeded
        if dimension in DIMENSIONS and limit > 0:
            name: Dimension = dimension
            bucket = self.buckets.get(name)
            if bucket is None:
                bucket = self.buckets[name] = TrackedBucket(Window(limit, DIMENSIONS[name][1]))
            elif bucket.window.limit != limit:
                bucket.rescale(limit, now)
            if used is not None:
                bucket.raise_to(min(used, limit), now)
            self.known, self.unlimited = True, False
            self.version += 1
        elif wait:
            self._blocked_until = max(self._blocked_until, now + min(wait, LONGEST_BLOCK))

    def _uncount(self, names: Sequence[Dimension], amount: float, now: float) -> None:
        for name in names:
            bucket = self.buckets.get(name)
            if bucket is not None:
                bucket.uncount(amount, now)

    def _learn(self, call: SentCall, headers: RateLimitHeaders, now: float) -> None:
        """Take over the limits and levels that a reply's headers state."""
        stated: tuple[tuple[Dimension, float | None, float | None], ...] = (
            ("rpd", headers.request_limit, headers.requests_left),
            ("tpm", headers.token_limit, headers.tokens_left),
        )
        sound = [(name, limit, left) for name, limit, left in stated if limit is not None and limit >= 1]
        if not sound:
            if not self.known:
                self._set_windows(Limits(), now)
            return
        if any(name not in self.buckets or self.buckets[name].window.limit != limit for name, limit, _ in sound):
            self._adopt_limits({name: int(limit) for name, limit, _ in sound}, now)
        self.known = True
        if call.snapshots and call.number < self._latest_reply:
            return
        self._latest_reply = call.number
        for name, limit, left in sound:
            snapshot = None if call.snapshots is None else call.snapshots.get(name)
            # More left than the limit is a contradiction: such a header is ignored.
            if left is None or not 0 <= left <= limit:
                continue
            bucket = self.buckets[name]
            # A snapshot that counts more than the bucket ever took belongs to a window that was replaced since.
            if snapshot is None or snapshot.taken > bucket.taken:
                bucket.observe(left, now)
                continue
            surplus = bucket.correct(snapshot, call.at, limit - left, now)
            if name == "tpm":
                self._learn_give_back(surplus, call, bucket.window.limit)

    def _learn_give_back(self, surplus: float, call: SentCall, limit: float) -> None:
        """Learn whether the provider gives back tokens that a call reserved and did not use.

        Evidence for it is a surplus of nearly all tokens that could have been given back, seen twice in a row: a prompt
        that was estimated too long looks like a small part of them.
        """
        unused, call.unused = call.unused, 0.0
        if unused >= EVIDENCE_SHARE * limit:
            if self.gives_back:
                self.gives_back = surplus > -unused / 2
            else:
                self._evidence = self._evidence + 1 if surplus >= 0.8 * unused else 0
                self.gives_back = self._evidence >= EVIDENCE_NEEDED
        # The level is exact again as of this call: what was unused before it is either in that level or was not given
        # back.
        self._unused = max(0.0, self._unused - unused)

    def _adopt_limits(self, stated: dict[Dimension, int], now: float) -> None:
        """Take over limits that differ from the present ones: all limits of the plan they belong to, where one fits."""
        fitting = [
            plan for plan in self.plans if all(getattr(plan, name) in (None, limit) for name, limit in stated.items())
        ]
        base = fitting[0] if fitting else Limits() if not self.known else self.limits
        self._set_windows(msgspec.structs.replace(base, **stated), now)
