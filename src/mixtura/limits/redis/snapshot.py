"""What Redis says of an account, and the picture of it that is kept in this process. See `limiter.py`."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from mixtura.chat import RateLimitHeaders
from mixtura.limits.account import Account, Mark, Sent
from mixtura.limits.queue import Priority
from mixtura.limits.window import Dimension, Limits

_ELSEWHERE = "elsewhere"


class Level(msgspec.Struct, frozen=True, array_like=True):
    """One window at the time of the reply, as `limits.lua` writes it."""

    name: Dimension
    limit: float
    level: float
    taken: float
    corrected: float


class State(msgspec.Struct, frozen=True, array_like=True):
    """One account at the time of the reply, as `limits.lua` writes it.

    `life` is another one whenever Redis has forgotten the account; it is `blocked` for that many seconds more; `tokens`
    and `requests` are held for runs of all processes.
    """

    life: str
    known: bool
    gives_back: bool
    calls: int
    heard: int
    unused: float
    blocked: float
    tokens: float
    requests: float
    windows: list[Level]


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What the script answers; see `limits.lua`. `moment` is Redis' own time in seconds; accounts count from 1."""

    moment: float
    strangers: list[int]
    quote: tuple[float, int, str, float, float]
    states: list[State]

    def sent(self, account: Account, at: float, tokens: int) -> "SharedSent":
        """Return the call that this reply says was counted, with what is believed at that moment."""
        state = self.states[0]
        marks = {window.name: Mark(window.level, window.taken, window.corrected) for window in state.windows}
        return SharedSent(account, at, tokens, marks, state.calls, state.unused, moment=self.moment, life=state.life)


class SharedSent(Sent):
    """A call that was counted in Redis: at which of its times, and in which life of the account."""

    moment: float = 0.0
    life: str = ""


def believed(sent: Sent) -> dict[str, Any]:
    """Return what Redis has to know of a call to place its reply."""
    marks = {name: (mark.level, mark.taken, mark.corrected) for name, mark in (sent.marks or {}).items()}
    if isinstance(sent, SharedSent):
        return {"life": sent.life, "marks": marks, "at": sent.moment, "number": sent.number}
    # Counted in this process: its marks say nothing of Redis' windows.
    return {"life": _ELSEWHERE if marks else "", "marks": marks, "at": 0.0, "number": 0}


def place(ticket: str, priority: Priority, now: float) -> dict[str, Any]:
    """Return what Redis has to know of a place in line; the ticket says after its `@` when it was taken."""
    return {"ticket": ticket, "priority": int(priority), "age": max(0.0, now - float(ticket.rpartition("@")[2]))}


class Heard(NamedTuple):
    """What headers say of one window; `left` is None when they say nothing that can be."""

    name: Dimension
    limit: int
    left: float | None


class Kept(NamedTuple):
    """What is left of the hold of one run on one account, and for how many seconds more."""

    hold: str
    tokens: int
    requests: int
    seconds: float


class MirroredAccount(Account):
    """An account whose windows are kept in Redis; what is here is the latest picture of them.

    Attributes:
        life: which life of the account the picture is of; empty before the first.
        met: Redis has heard everything that this process knows.
        stale: holds that Redis may still keep though they have ended.
    """

    def __init__(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> None:
        super().__init__(key, limits, known=known, plans=plans)
        self.life = ""
        self.met = False
        self.stale: frozenset[str] = frozenset()
        self._moment = -math.inf
        # What was taken in all when the picture was made: what is taken beyond that, Redis does not know.
        self._told: dict[Dimension, float] = {}

    def tell(self, limits: Limits | None, plans: Sequence[Limits], now: float) -> None:
        """Take over limits that the user knows, in place of a guess."""
        self._set(limits or Limits(), now)
        self.known, self.plans, self.met = True, tuple(plans), False

    def mirror(self, state: State, moment: float, now: float) -> None:
        """Take over what Redis said; an answer that comes after a later one is left out."""
        if state.life == self.life and moment < self._moment:
            return
        self.life, self._moment = state.life, moment
        limits = {window.name: int(window.limit) for window in state.windows}
        if limits != {name: int(bucket.window.limit) for name, bucket in self.buckets.items()}:
            self._set(Limits(**limits), now)
        for window in state.windows:
            bucket = self.buckets[window.name]
            bucket.observe(window.limit - window.level, now)
            bucket.taken, bucket.corrected = window.taken, window.corrected
            self._told[window.name] = window.taken
        self.known, self.gives_back, self._unused = state.known, state.gives_back, state.unused
        self._calls, self._heard = state.calls, state.heard
        self.held_tokens, self.held_requests = int(state.tokens), int(state.requests)
        self._blocked_until = now + state.blocked if state.blocked > 0 else -math.inf

    def introduction(self, fresh: str, kept: Iterable[Kept], now: float) -> dict[str, Any]:
        """Return what Redis has to hear of this account; `fresh` is its life if it begins a new one."""
        levels: dict[str, tuple[float, float]] = {}
        for name, bucket in self.buckets.items():
            level = bucket.level(now)
            own = min(level, max(0.0, bucket.taken - self._told.get(name, 0.0)))
            levels[name] = (level - own, own)
        holds = list(kept)
        ended = self.stale.difference(hold.hold for hold in holds)
        return {
            "fresh": fresh,
            "known": self.known,
            "gives_back": self.gives_back,
            "limits": msgspec.to_builtins(self.limits),
            "levels": levels,
            "blocked": max(0.0, self._blocked_until - now),
            "holds": [*holds, *(Kept(hold, 0, 0, 0.0) for hold in ended)],
        }

    def heard(self, headers: RateLimitHeaders | None) -> list[Heard]:
        """Return what headers say, without what cannot be."""
        if headers is None:
            return []
        said: tuple[tuple[Dimension, float | None, float | None], ...] = (
            ("rpd", headers.request_limit, headers.requests_left),
            ("tpm", headers.token_limit, headers.tokens_left),
        )
        return [
            Heard(name, int(limit), left if left is not None and 0 <= left <= limit else None)
            for name, limit, left in said
            if limit is not None and limit >= 1
        ]

    def chosen(self, heard: Sequence[Heard]) -> Limits | None:
        """Return the limits to take over, None where the picture has them already: a plan's, where one fits."""
        if all(said.name in self.buckets and self.buckets[said.name].window.limit == said.limit for said in heard):
            return None
        for plan in self.plans:
            if all(getattr(plan, said.name) in (None, said.limit) for said in heard):
                base = plan
                break
        else:
            base = self.limits if self.known else Limits()
        return msgspec.structs.replace(base, **{said.name: said.limit for said in heard})
