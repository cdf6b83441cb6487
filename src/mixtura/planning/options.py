"""What one run may set for itself."""

import random
from typing import Literal

import msgspec

from mixtura.chat import NO_OPTIONS, ChatOptions
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.queue import Priority

Watch = Literal["nothing", "answer", "calls"]
"""What is streamed for a reader: nothing, the pieces of the answer, or the pieces of every draft as well."""


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may set for itself; None takes the recipe's policy.

    Attributes:
        chat: what the caller asks of the answer.
        deadline: seconds for the whole run.
        max_cost: dollars it may cost at most.
        seed: fixes what the run draws at random.
        rng: drawn from when there is no seed; making a generator costs more than everything drawn from it.
        run: the run's id.
        started_at: Unix time in seconds.
        watch: what is streamed because somebody reads it as it is written.
        record: whether the events carry the conversation, or its digest alone.
        gone: a cache that outlives the run: {(provider, model): the id that took its place}.
        told: {(provider, field)}: odd fields of replies that a reader was warned of, which outlives the run as well.
        budget: what may be spent a day.
        priority: which runs go first where rate limits make them wait.
    """

    chat: ChatOptions = NO_OPTIONS
    deadline: float | None = None
    max_cost: float | None = None
    seed: int | None = None
    rng: random.Random | None = None
    run: str = ""
    started_at: float = 0.0
    watch: Watch = "nothing"
    record: Literal["conversation", "digest"] = "conversation"
    gone: dict[tuple[str, str], str] = {}
    told: set[tuple[str, str]] = set()
    budget: DailyBudget | None = None
    priority: Priority = Priority.INTERACTIVE
