"""What one question may set for itself, checked."""

import random
import time
from collections.abc import Mapping
from typing import Literal, TypedDict

from mixtura.chat import ChatOptions
from mixtura.errors import InputError
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.queue import Priority
from mixtura.mixture.checks import checked_options, is_number
from mixtura.planning.options import RunOptions, Watch

_PRIORITIES: Mapping[str, Priority] = {"interactive": Priority.INTERACTIVE, "batch": Priority.BATCH}


class AskOptions(TypedDict, total=False):
    """What one question may set for itself.

    Attributes:
        system: a system prompt, put before the conversation's own.
        options: what is asked of the answer: max_tokens, tools, response_format and the like.
        deadline: seconds for the whole run, in place of the recipe's.
        max_cost: dollars the run may cost at most, decided before anything is sent.
        seed: fixes what the run draws at random (the order drafts are shown in).
        priority: "interactive" (somebody waits) goes before "batch" where rate limits make runs wait in line.
        watch: what is streamed because it is read as it is written: "nothing", the pieces of the "answer", or those of
            every draft as well ("calls"). `ask` takes "nothing" by default and `stream` "calls".
    """

    system: str | None
    options: ChatOptions | None
    deadline: float | None
    max_cost: float | None
    seed: int | None
    priority: Literal["interactive", "batch"]
    watch: Watch


class RunSettings(TypedDict):
    """What a `Mixture` gives to each of its runs; see `RunOptions`."""

    rng: random.Random
    record: Literal["conversation", "digest"]
    gone: dict[tuple[str, str], str]
    budget: DailyBudget | None


def run_options(asked: AskOptions, watch: Watch, settings: RunSettings) -> RunOptions:
    """Return the options of one run.

    Raises:
        InputError: a value cannot be.
    """
    deadline, cost = asked.get("deadline"), asked.get("max_cost")
    if deadline is not None and not (is_number(deadline) and deadline > 0):
        raise InputError(f"deadline: expected seconds above 0, got {deadline!r}")
    if cost is not None and not (is_number(cost) and cost >= 0):
        raise InputError(f"max_cost: expected dollars, 0 or more, got {cost!r}")
    seed: object = asked.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise InputError(f"seed: expected a whole number, got {seed!r}")
    priority: str = asked.get("priority", "interactive")
    if priority not in _PRIORITIES:
        raise InputError(f"priority: expected {' or '.join(_PRIORITIES)}, got {priority!r}")
    return RunOptions(
        chat=checked_options(asked.get("options")),
        deadline=deadline,
        max_cost=cost,
        seed=asked.get("seed"),
        run=f"{settings['rng'].getrandbits(128):032x}",
        started_at=time.time(),
        watch=watch,
        priority=_PRIORITIES[priority],
        **settings,
    )
