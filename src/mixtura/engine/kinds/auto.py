"""A vote where a clear majority of the drafts ends in the same checkable answer; else a model writes the answer."""

from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.kinds import synthesize, vote
from mixtura.engine.outcome import Outcome
from mixtura.recipe import Aggregator


async def answer(run: Run, aggregator: Aggregator, drafts: DraftSet) -> Outcome:
    """Return the answer of the kind that suits the drafts. See `engine.aggregate.KindModule`."""
    if drafts.tally.majority:
        return vote.count(run, drafts)
    return await synthesize.answer(run, aggregator, drafts)
