"""What `limits.lua` answers, and the copy of an account in Redis that this process keeps from those answers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from mixtura.chat import RateLimitHeaders
from mixtura.limits.account import Account, SentCall
from mixtura.limits.queue import Priority
from mixtura.limits.tracked_bucket import BucketSnapshot
from mixtura.limits.window import Dimension, Limits

# The life of an account in a process's memory: no life in Redis has this name.
_IN_MEMORY = "elsewhere"


class WindowState(msgspec.Struct, frozen=True, array_like=True):
    """One window at the time of the answer, as `limits.lua` writes it."""

    name: Dimension
    limit: float
    level: float
    taken: float
    corrected: float


class AccountState(msgspec.Struct, frozen=True, array_like=True):
    """One account at the time of the answer, as `limits.lua` writes it.

    Attributes:
        life: names the record in Redis; a record that Redis lost and began anew has another life.
        known: the limits are known for certain.
        gives_back: the provider gives back what a call reserved and did not use.
        calls: calls counted so far.
        latest_reply: number of the latest call whose reply was learned from.
        unused: see `SentCall.unused`.
        blocked: seconds for which no call may be sent.
        tokens, requests: held for runs of all processes.
    """

    life: str
    known: bool
    gives_back: bool
    calls: int
    latest_reply: int
    unused: float
    blocked: float
    tokens: float
    requests: float
    windows: list[WindowState]


class ScriptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What the script answers, see `limits.lua`.

    Attributes:
        moment: the time in Redis, in seconds.
        unknown: accounts, counted from 1, that have to be introduced first; then nothing was done.
        quote: (wait, account counted from 1, dimension, limit, requested), see `Quote`.
        states: every account afterwards.
    """

    moment: float
    unknown: list[int]
    quote: tuple[float, int, str, float, float]
    states: list[AccountState]

    def sent_call(self, account: Account, at: float, tokens: int) -> "RedisCall":
        """Return the call that this answer says was counted."""
        state = self.states[0]
        windows = {
            window.name: BucketSnapshot(window.level, window.taken, window.corrected) for window in state.windows
        }
        return RedisCall(account, at, tokens, windows, state.calls, state.unused, moment=self.moment, life=state.life)


class RedisCall(SentCall):
    """A call that was counted in Redis: at which moment of its clock, and in which life of the account."""

    moment: float = 0.0
    life: str = ""


def call_fields(call: SentCall) -> dict[str, Any]:
    """Return what the script needs of a call to apply its reply."""
    snapshots = {name: (one.level, one.taken, one.corrected) for name, one in (call.snapshots or {}).items()}
    if isinstance(call, RedisCall):
        return {"life": call.life, "snapshots": snapshots, "at": call.moment, "number": call.number}
    # It was counted in this process, so its snapshots say nothing about the windows in Redis.
    return {"life": _IN_MEMORY if snapshots else "", "snapshots": snapshots, "at": 0.0, "number": 0}


def ticket_fields(ticket: str, priority: Priority, now: float) -> dict[str, Any]:
    """Return what the script needs of a ticket; its id holds the time of arrival after its `@`."""
    return {"ticket": ticket, "priority": int(priority), "age": max(0.0, now - float(ticket.rpartition("@")[2]))}


class HeaderLimit(NamedTuple):
    """One window as a reply's headers state it; `left` is None where they contradict themselves or leave it out."""

    name: Dimension
    limit: int
    left: float | None


class HeldNeed(NamedTuple):
    """What is left of the hold of one run on one account, and for how many seconds it stays."""

    hold: str
    tokens: int
    requests: int
    seconds: float


class AccountReplica(Account):
    """This process's copy of an account that is kept in Redis, as of the latest answer.

    Attributes:
        life: of which life of the account this is a copy; "" before the first answer.
        ended_holds: holds that ended while Redis could not be reached.
    """

    def __init__(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> None:
        super().__init__(key, limits, known=known, plans=plans)
        self.life = ""
        self.synced = False
        self.ended_holds: frozenset[str] = frozenset()
        self._moment = -math.inf
        # The sum of all units taken as of the latest answer: what was taken beyond it, Redis does not know.
        self._taken_in_redis: dict[Dimension, float] = {}

    def forget(self) -> None:
        """See `Account.forget`. What all processes hold is known from Redis and stays."""
        tokens, requests = self.held_tokens, self.held_requests
        super().forget()
        self.held_tokens, self.held_requests = tokens, requests
        # What Redis has not been told of is told by the parent.
        self._taken_in_redis = {name: bucket.taken for name, bucket in self.buckets.items()}
        self.ended_holds = frozenset()

    def override_guess(self, limits: Limits | None, plans: Sequence[Limits], now: float) -> None:
        """Replace guessed limits by those that the user knows, and have Redis informed."""
        self.set_limits(limits or Limits(), now)
        self.plans, self.synced = tuple(plans), False

    def apply(self, state: AccountState, moment: float, now: float) -> None:
        """Take over an answer of the script; one that is older than the copy is ignored."""
        if state.life == self.life and moment < self._moment:
            return
        self.life, self._moment = state.life, moment
        limits = {window.name: int(window.limit) for window in state.windows}
        if limits != {name: int(bucket.window.limit) for name, bucket in self.buckets.items()}:
            self._set_windows(Limits(**limits), now)
        for window in state.windows:
            bucket = self.buckets[window.name]
            bucket.observe(window.limit - window.level, now)
            bucket.taken, bucket.corrected = window.taken, window.corrected
            self._taken_in_redis[window.name] = window.taken
        self.known, self.gives_back, self._unused = state.known, state.gives_back, state.unused
        self._calls, self._latest_reply = state.calls, state.latest_reply
        self.held_tokens, self.held_requests = int(state.tokens), int(state.requests)
        self._blocked_until = now + state.blocked if state.blocked > 0 else -math.inf

    def introduction(self, new_life: str, held: Iterable[HeldNeed], now: float) -> dict[str, Any]:
        """Return all that this process knows of the account; `new_life` is its life if Redis has to begin a record."""
        levels: dict[str, tuple[float, float]] = {}
        for name, bucket in self.buckets.items():
            level = bucket.level(now)
            own = min(level, max(0.0, bucket.taken - self._taken_in_redis.get(name, 0.0)))
            levels[name] = (level - own, own)
        holds = list(held)
        ended = self.ended_holds.difference(need.hold for need in holds)
        return {
            "new_life": new_life,
            "known": self.known,
            "gives_back": self.gives_back,
            "limits": msgspec.to_builtins(self.limits),
            "levels": levels,
            "blocked": max(0.0, self._blocked_until - now),
            "holds": [*holds, *(HeldNeed(hold, 0, 0, 0.0) for hold in ended)],
        }

    def limits_after(self, headers: Sequence[HeaderLimit]) -> Limits | None:
        """Return the limits that `headers` lead to, None where this copy has them: a plan's, where one fits."""
        if all(
            stated.name in self.buckets and self.buckets[stated.name].window.limit == stated.limit for stated in headers
        ):
            return None
        for plan in self.plans:
            if all(getattr(plan, stated.name) in (None, stated.limit) for stated in headers):
                base = plan
                break
        else:
            base = self.limits if self.known else Limits()
        return msgspec.structs.replace(base, **{stated.name: stated.limit for stated in headers})


def header_limits(headers: RateLimitHeaders | None) -> list[HeaderLimit]:
    """Return the windows that a reply's headers state, without limits that cannot be."""
    if headers is None:
        return []
    stated: tuple[tuple[Dimension, float | None, float | None], ...] = (
        ("rpd", headers.request_limit, headers.requests_left),
        ("tpm", headers.token_limit, headers.tokens_left),
    )
    return [
        HeaderLimit(name, int(limit), left if left is not None and 0 <= left <= limit else None)
        for name, limit, left in stated
        if limit is not None and limit >= 1
    ]
