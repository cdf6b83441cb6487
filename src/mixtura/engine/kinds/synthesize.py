"""A model writes the answer from the drafts."""

import math

from mixtura.decisions import NoticedDetail, SynthesizedDetail
from mixtura.engine import guard
from mixtura.engine.context import Run
from mixtura.engine.draft_prompt import After, Reader, read_drafts
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, fall_back
from mixtura.engine.writer import AnswerWriter
from mixtura.errors import BrokenReplyError, TimedOutError, TooLargeError, UnreachableError
from mixtura.events import AnswerRestarted
from mixtura.planning.schedule import instructions_of, writer_options
from mixtura.recipe import Aggregator

# Of the drafts' tokens, what is shown to an aggregator that finds the whole too large (its window is not known, the
# estimate was wrong, or a per-minute limit is smaller than the window).
_SECOND_SHARE = 0.4
# An answer that was begun and not ended: nothing is wrong with the question, so it is worth another try.
_BROKE_OFF = (BrokenReplyError, TimedOutError, UnreachableError)


async def answer(run: Run, aggregator: Aggregator, drafts: DraftSet) -> Outcome:
    """Return what the aggregator's model writes. See `engine.aggregate.KindModule`."""
    return await write(run, aggregator, drafts)


async def write(run: Run, aggregator: Aggregator, drafts: DraftSet, after: After | None = None) -> Outcome:
    """Return what the aggregator's model writes from the drafts, or the best draft in its place.

    Args:
        run: the run.
        aggregator: who writes.
        drafts: at least one.
        after: gives the text that stands below the drafts.
    """
    instructions, options = instructions_of(aggregator), writer_options(run.options.chat)
    share, began = 1.0, run.loop.time()
    while True:
        reading = read_drafts(run, Reader(aggregator, "aggregator", instructions, after, share, options), drafts.all)
        writer = AnswerWriter(run)
        result = await writer.write(aggregator, reading, drafts)
        if isinstance(writer.error, TooLargeError) and share == 1.0:
            share = _SECOND_SHARE
        elif writer.said and isinstance(writer.error, _BROKE_OFF) and _time_for_another(run, began):
            # What a reader has seen of it is withdrawn, once.
            began = -math.inf
            said = f"the answer of {aggregator.model} broke off and is begun anew"
            run.decide(NoticedDetail(), said, warning=True)
            run.emit(AnswerRestarted(at=run.now))
        else:
            break
    if isinstance(result, str):
        named = None if writer.named is None else drafts[reading.order[writer.named]]
        return fall_back(run, drafts, result, named)
    order = list(reading.order)
    run.decide(
        SynthesizedDetail(order=[drafts[place].call for place in order]),
        f"{aggregator.model} wrote the answer from {len(drafts)} draft{'s' * (len(drafts) > 1)}",
    )
    _notice(run, result, drafts)
    return result


def _notice(run: Run, result: Outcome, drafts: DraftSet) -> None:
    """Emit what a reader should know of a written answer."""
    said = result.text.strip()
    copied = next((draft for draft in drafts if draft.text.strip() == said), None)
    if copied is not None and said:
        run.decide(NoticedDetail(call=copied.call), f"the answer is the draft of {copied.model}, word for word")
    if guard.mentions_drafts(result.text, run.asked):
        run.decide(NoticedDetail(), "the answer speaks of drafts", warning=True)


def _time_for_another(run: Run, began: float) -> bool:
    """Say whether as much time is left as an answer that broke off has taken."""
    now = run.loop.time()
    return run.deadline - now > now - began
