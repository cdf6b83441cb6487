"""What one question may set for itself, checked."""

import math
import random
import time
from collections.abc import Mapping
from typing import Literal, TypedDict

from mixtura.chat import ChatOptions
from mixtura.errors import InputError
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.queue import Priority
from mixtura.planning.options import RunOptions, Watch

# Fields of a request that decide what it costs, or how its reply is read: limits, money and drafts are counted by them.
_SET_ELSEWHERE = {
    "messages": "they are the question and the recipe's prompts",
    "model": "the recipe names its models",
    "stream": "say what is watched (watch)",
    "tools": "set ChatOptions.tools",
}
_PRIORITIES: Mapping[str, Priority] = {"interactive": Priority.INTERACTIVE, "batch": Priority.BATCH}


class AskOptions(TypedDict, total=False):
    """What one question may set for itself.

    Attributes:
        system: a system prompt, put before the conversation's own.
        options: tools, response_format, stop and the like, for the model that answers.
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
    if deadline is not None and not (_is_number(deadline) and deadline > 0):
        raise InputError(f"deadline: expected seconds above 0, got {deadline!r}")
    if cost is not None and not (_is_number(cost) and cost >= 0):
        raise InputError(f"max_cost: expected dollars, 0 or more, got {cost!r}")
    seed: object = asked.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise InputError(f"seed: expected a whole number, got {seed!r}")
    given: object = asked.get("options")
    if given is not None and not isinstance(given, ChatOptions):
        raise InputError(f"options: expected ChatOptions, got {type(given).__name__}")
    if given is not None and (taken := _SET_ELSEWHERE.keys() & given.extra.keys()):
        name = min(taken)
        raise InputError(f"options.extra: {name!r} cannot be set there; {_SET_ELSEWHERE[name]}")
    priority: str = asked.get("priority", "interactive")
    if priority not in _PRIORITIES:
        raise InputError(f"priority: expected {' or '.join(_PRIORITIES)}, got {priority!r}")
    return RunOptions(
        chat=asked.get("options") or NO_OPTIONS,
        deadline=deadline,
        max_cost=cost,
        seed=asked.get("seed"),
        run=f"{settings['rng'].getrandbits(128):032x}",
        started_at=time.time(),
        watch=watch,
        priority=_PRIORITIES[priority],
        **settings,
    )


NO_OPTIONS = ChatOptions()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
