"""The least time in which limits allow a backlog, computed from what the cloud really charged.

The bound of a window is (what was charged for all runs - what fits at once) / rate; the bound of all is the highest of
them, and the time that one run takes by itself. Calls beyond those needed (hedges, retries) are not counted.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mixtura.limits.window import DIMENSIONS, Limits
from mixtura.sim import SimulatedCloud
from mixtura.sim.validate import requested_tokens

Charged = Mapping[str, tuple[int, int]]
"""Calls that were let in, and the tokens charged for them, by model."""


class TimeBound(NamedTuple):
    """The least seconds that the limits allow, and the window that decides it."""

    seconds: float
    window: str


def charges(cloud: SimulatedCloud) -> dict[str, tuple[int, int]]:
    """Return what a cloud that refused nothing has charged.

    It charges a prompt's own tokens and 5, and bills 6 and 4 a message for the template instead; so what was charged
    follows from what was billed, the output asked for, and what was cached.
    """
    tokens: Counter[str] = Counter()
    for request in cloud.requests:
        room = max((value for _, value in requested_tokens(request)), default=0)
        tokens[request["model"]] += room + 5 - 6 - 4 * len(request["messages"])
    ledger = cloud.ledger
    return {
        model: (calls, tokens[model] + ledger.prompt_tokens[model] - ledger.cached_tokens[model])
        for model, calls in ledger.calls.items()
    }


def bound_of(limits: Mapping[str, Limits], found: Charged, needed: Mapping[str, int], alone: float) -> TimeBound:
    """Return what `limits` allow for `needed` calls by model, when the last run takes `alone` seconds by itself."""
    worst = TimeBound(alone, "none")
    for model, (calls, tokens) in found.items():
        counted = min(calls, needed[model])
        for name, (words, seconds) in DIMENSIONS.items():
            limit = getattr(limits[model], name)
            if limit is None:
                continue
            amount = counted if name.startswith("r") else tokens * counted / calls
            least = max(0.0, amount - limit) / (limit / seconds) + alone
            if least > worst.seconds:
                worst = TimeBound(least, f"{limit:,} {words} of {model}")
    return worst
