"""What a run asks of rate limits: the tokens of each of its calls, added up by account and by when they are sent."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mixtura.chat import NO_OPTIONS, ChatOptions, Message
from mixtura.limits.account import Account, Quote
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need, Priority
from mixtura.models.served import Models
from mixtura.planning import estimates
from mixtura.planning.schedule import PlannedCall, output_limit, prompt_tokens, schedule
from mixtura.recipe import Recipe
from mixtura.tokens import estimate_messages


class Demand(NamedTuple):
    """One call that may be made, and what it counts for: `size` tokens (prompt as estimated, and most output)."""

    account: Account
    call: PlannedCall
    size: int


class _Sum(NamedTuple):
    """Tokens and requests asked of one account."""

    account: Account
    tokens: int = 0
    requests: int = 0

    def plus(self, demand: Demand) -> "_Sum":
        return _Sum(self.account, self.tokens + demand.size, self.requests + 1)


def demands(
    recipe: Recipe, conversation: Sequence[Message], models: Models, options: ChatOptions = NO_OPTIONS
) -> list[Demand]:
    """Return what the calls of `recipe` ask of accounts whose limits are known; drafts are of the expected length."""
    planned = schedule(recipe, options)
    accounts = {
        name: estimates.account_of(models, *name)
        for name in dict.fromkeys((call.slot.provider, call.slot.model) for call in planned.calls)
    }
    limited = {
        name: account
        for name, account in accounts.items()
        if account is not None and account.known and not account.unlimited
    }
    if not limited:
        return []
    sizes = prompt_tokens(planned, estimate_messages(conversation), lambda call: estimates.reply_tokens(models, call))
    found: list[Demand] = []
    for call, size in zip(planned.calls, sizes, strict=True):
        name = (call.slot.provider, call.slot.model)
        if name in limited:
            output = output_limit(call.slot, models.card(*name), call.role, call.options)
            found.append(Demand(limited[name], call, limited[name].reserve_for(size, output)))
    return found


def needs(found: Sequence[Demand]) -> list[Need]:
    """Return what is held before the run begins, by account.

    Where all of it together is more than a window can ever hold, nothing is: its calls are then sent one after the
    other as the window drains, before those of any run that has not begun.
    """
    held = _sums([demand for demand in found if demand.call.held])
    return [Need(key, one.tokens, one.requests) for key, one in held.items() if _fits_at_all(one)]


def owed(found: Sequence[Demand], held: Sequence[Need]) -> dict[str, int]:
    """Return the tokens that are asked of each account besides what is held."""
    first = {need.account: need.tokens for need in held}
    return {key: more for key, one in _sums(found).items() if (more := one.tokens - first.get(key, 0)) > 0}


def never(found: Sequence[Demand]) -> Quote | None:
    """Return what refuses a call that no waiting makes fit, None when there is none."""
    for demand in found:
        for name, bucket in demand.account.buckets.items():
            limit = bucket.window.limit
            asked = demand.size if name.startswith("t") else 1
            if asked > limit:
                return Quote(math.inf, demand.account.key, name, limit, asked)
    return None


def drained_in(found: Sequence[Demand], now: float, limiter: Limiter, priority: Priority) -> Quote:
    """Return how long the windows need to take in all calls of the run, however they are spread over it.

    What runs before it hold, will ask for, or wait for goes first.
    """
    worst = Quote(0.0)
    for key, (account, tokens, requests) in _sums(found).items():
        waiting = limiter.queue.ahead(key, priority)
        for name, bucket in account.buckets.items():
            counts_tokens = name.startswith("t")
            asked = tokens if counts_tokens else requests
            before = account.held_tokens + account.owed_tokens if counts_tokens else account.held_requests
            before += waiting[0] if counts_tokens else waiting[1]
            window = bucket.window
            wait = (bucket.level(now) + before + asked - window.limit) / window.rate
            if wait > worst.wait:
                worst = Quote(wait, key, name, window.limit, asked)
    return worst


def stage_waits(found: Sequence[Demand], now: float, count: int) -> list[float]:
    """Return how many seconds each of `count` stages has to wait for its windows, when the run has them to itself."""
    waits = [0.0] * count
    for account in {demand.account.key: demand.account for demand in found}.values():
        for name, bucket in account.buckets.items():
            level, passed = bucket.level(now), 0.0
            for stage in range(count):
                asked = sum(
                    demand.size if name.startswith("t") else 1
                    for demand in found
                    if demand.account is account and demand.call.stage == stage
                )
                if not asked:
                    continue
                window = bucket.window
                wait = max(0.0, (level + asked - window.limit) / window.rate - passed)
                waits[stage] = max(waits[stage], wait)
                level, passed = level + asked, passed + wait
    return waits


def _sums(found: Sequence[Demand]) -> dict[str, _Sum]:
    sums: dict[str, _Sum] = {}
    for demand in found:
        key = demand.account.key
        sums[key] = (sums.get(key) or _Sum(demand.account)).plus(demand)
    return sums


def _fits_at_all(one: _Sum) -> bool:
    return all(
        (one.tokens if name.startswith("t") else one.requests) <= bucket.window.limit
        for name, bucket in one.account.buckets.items()
    )
