"""Drafts become one answer, by the recipe's kind of aggregator: `engine/kinds/<kind>.py`."""

import functools
import importlib
from typing import Protocol, cast

from mixtura.decisions import AgreedDetail
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.kinds import AggregatorKind
from mixtura.recipe import Aggregator


class KindModule(Protocol):
    """What the module of a kind offers."""

    async def answer(self, run: Run, aggregator: Aggregator, drafts: DraftSet) -> Outcome:
        """Return the answer that `drafts` (at least one) lead to; never raises for a model's failure."""


async def aggregate(run: Run, drafts: DraftSet) -> Outcome:
    """Return the answer that `drafts` (at least one) lead to.

    Never raises for a model's failure: the drafts are there, so there is an answer.
    """
    aggregator = run.recipe.aggregator
    if aggregator is None:
        return outcome_of(drafts[0])
    if drafts.identical and not run.options.chat.tools:
        run.decide(AgreedDetail(), f"all {len(drafts)} drafts are the same; nothing to aggregate")
        return outcome_of(drafts.best[0])
    return await _module_of(aggregator.kind).answer(run, aggregator, drafts)


@functools.cache
def _module_of(kind: AggregatorKind) -> KindModule:
    return cast("KindModule", importlib.import_module(f"mixtura.engine.kinds.{kind}"))
