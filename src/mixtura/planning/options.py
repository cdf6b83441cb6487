"""What one run may set for itself."""

import random

import msgspec

from mixtura.chat import ChatOptions
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.queue import Priority


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may set for itself; None takes the recipe's policy.

    `rng` is drawn from when there is no seed; a generator made anew costs more than everything drawn from it.
    `watched` says that somebody looks at the pieces as they come, so that calls are streamed.
    `gone` is a cache that outlives the run: {(provider, model): the id that took its place}. `budget` is what may be
    spent a day. `priority` says who goes first where rate limits make runs wait.
    """

    chat: ChatOptions = ChatOptions()
    deadline: float | None = None
    max_cost: float | None = None
    seed: int | None = None
    rng: random.Random | None = None
    run: str = ""
    started_at: float = 0.0
    watched: bool = False
    gone: dict[tuple[str, str], str] = {}
    budget: DailyBudget | None = None
    priority: Priority = Priority.INTERACTIVE
