"""What one question may set for itself, checked."""

import difflib
import random
import time
from collections.abc import Mapping
from typing import Literal, TypedDict

from mixtura.chat import ChatOptions
from mixtura.errors import ConfigError, InputError
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
    told: set[tuple[str, str]]
    budget: DailyBudget | None


def run_options(asked: AskOptions, watch: Watch, settings: RunSettings) -> RunOptions:
    """Return the options of one run.

    Raises:
        ConfigError: there is no such option.
        InputError: a value cannot be.
    """
    if asked and not asked.keys() <= AskOptions.__annotations__.keys():
        raise ConfigError(_unknown(next(name for name in asked if name not in AskOptions.__annotations__)))
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


def _unknown(name: str) -> str:
    """Return what to do about an option that does not exist: overlooked, it could cost what it was to prevent."""
    if name in ChatOptions.__struct_fields__:
        return f"{name}: not an option by itself; it is a field of options=ChatOptions({name}=...)"
    known = list(AskOptions.__annotations__)
    close = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
    return f"{name}: no such option; {meant}"
