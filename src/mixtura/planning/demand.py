"""What a run asks of rate limits: the tokens of each of its calls, added up by account and by when they are sent."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mixtura import prompts
from mixtura.chat import Message
from mixtura.engine import calls
from mixtura.events import Role
from mixtura.limits.account import Account, Quote
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need, Priority
from mixtura.models.served import Models
from mixtura.planning import estimates
from mixtura.recipe import Recipe
from mixtura.tokens import estimate_messages, estimate_tokens


class Demand(NamedTuple):
    """`calls` alike calls of a slot, of `size` tokens each (prompt as estimated, and most output), in one stage."""

    account: Account
    slot: calls.Slot
    size: int
    calls: int
    held: bool
    stage: int


def demands(recipe: Recipe, conversation: Sequence[Message], models: Models) -> list[Demand]:
    """Return what the calls of `recipe` ask of accounts whose limits are known; drafts of expected length.

    `held` are those that a run is promised before it begins: the first layer, and whoever has the last word.
    """
    found: list[Demand] = []
    base = estimate_messages(conversation)
    synthesis = estimate_tokens(prompts.SYNTHESIZE)

    stage = 0

    def add(role: Role, slot: calls.Slot, prompt: int, count: int, *, held: bool) -> int:
        account = estimates.account_of(models, slot.provider, slot.model)
        if account is not None and account.known and not account.unlimited:
            output = calls.max_tokens(slot, models.card(slot.provider, slot.model), role)
            found.append(Demand(account, slot, account.reserve_for(prompt, output), count, held, stage))
        return (estimates.tokens(models, slot, role) + prompts.FENCE_TOKENS) * count

    drafts = 0
    for stage, layer in enumerate(recipe.layers):
        prompt = base + (drafts + synthesis if stage else 0)
        drafts = sum(
            add("proposer", slot, prompt + estimate_tokens(slot.system or ""), slot.samples, held=stage == 0)
            for slot in layer.proposers
        )
    stage += recipe.escalate is not None
    for slot in recipe.escalate.proposers if recipe.escalate is not None else ():
        drafts += add("escalation", slot, base + estimate_tokens(slot.system or ""), slot.samples, held=False)
    aggregator = recipe.aggregator
    if aggregator is not None:
        prompt = base + synthesis + drafts
        if aggregator.kind == "rank":
            stage += 1
            for slot in recipe.layers[-1].proposers:
                add("reviewer", slot, prompt, slot.samples, held=False)
        if aggregator.model:
            stage += 1
            role: Role = "selector" if aggregator.kind == "select" else "aggregator"
            add(role, aggregator, prompt, 1, held=True)
    return found


def needs(found: Sequence[Demand]) -> list[Need]:
    """Return what is held before the run begins, by account.

    Where all of it together is more than a window can ever hold, nothing is: its calls are then sent one after the
    other as the window drains, before those of any run that has not begun.
    """
    held: dict[str, tuple[Account, int, int]] = {}
    for demand in found:
        if demand.held:
            _, tokens, requests = held.get(demand.account.key, (demand.account, 0, 0))
            held[demand.account.key] = (
                demand.account,
                tokens + demand.size * demand.calls,
                requests + demand.calls,
            )
    return [
        Need(key, tokens, requests)
        for key, (account, tokens, requests) in held.items()
        if _fits_at_all(account, tokens, requests)
    ]


def owed(found: Sequence[Demand], held: Sequence[Need]) -> dict[str, int]:
    """Return the tokens that are asked of each account besides what is held."""
    first = {need.account: need.tokens for need in held}
    sums: dict[str, int] = {}
    for demand in found:
        sums[demand.account.key] = sums.get(demand.account.key, 0) + demand.size * demand.calls
    return {key: more for key, tokens in sums.items() if (more := tokens - first.get(key, 0)) > 0}


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
    sums: dict[str, tuple[Account, int, int]] = {}
    for demand in found:
        _, tokens, requests = sums.get(demand.account.key, (demand.account, 0, 0))
        sums[demand.account.key] = (demand.account, tokens + demand.size * demand.calls, requests + demand.calls)
    worst = Quote(0.0)
    for key, (account, tokens, requests) in sums.items():
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
                    demand.calls * (demand.size if name.startswith("t") else 1)
                    for demand in found
                    if demand.account is account and demand.stage == stage
                )
                if not asked:
                    continue
                window = bucket.window
                wait = max(0.0, (level + asked - window.limit) / window.rate - passed)
                waits[stage] = max(waits[stage], wait)
                level, passed = level + asked, passed + wait
    return waits


def _fits_at_all(account: Account, tokens: int, requests: int) -> bool:
    return all(
        (tokens if name.startswith("t") else requests) <= bucket.window.limit
        for name, bucket in account.buckets.items()
    )
