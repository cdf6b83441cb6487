"""A draft that goes round in a loop, or is made of our own words, counts only as far as it is one."""

from collections.abc import Sequence

import msgspec

from mixtura.engine.context import Run
from mixtura.engine.own_words import find_slip, talk_of_drafts
from mixtura.engine.repetition import find_loop, may_be_loop
from mixtura.engine.results import LEAST_PARTIAL
from mixtura.events import Draft


def check_draft(run: Run, draft: Draft, *, reads: Sequence[Draft] = ()) -> Draft:
    """Return `draft`, or what of it is usable as an incomplete draft; its text is "" where that is too little.

    Args:
        run: the run.
        draft: as its model wrote it.
        reads: the drafts that its author was shown, and may have copied the words round.
    """
    if draft.tool_calls or draft.incomplete:
        return draft
    ended = draft.finish_reason == "stop"
    suspect = may_be_loop(draft.text, ended=ended)
    if suspect and (loop := find_loop(draft.text, run.allowed_repeats, ended=ended)) is not None:
        cut = _cut(draft, loop.end, f"it repeats itself: {loop}")
        # A draft that is whole and nothing but a loop is the last to be chosen, and better than none.
        return cut if cut.text else _cut(draft, len(draft.text), cut.incomplete)
    if not reads:
        return draft
    if (slip := find_slip(draft.text, run.markers, run.asked)) is not None:
        return _cut(draft, slip.start, f"it copied {slip.what}")
    if talk := talk_of_drafts(draft.text, run.asked, [read.text for read in reads]):
        return _cut(draft, len(draft.text), f"it speaks of other drafts: {talk!r}")
    return draft


def _cut(draft: Draft, end: int, why: str) -> Draft:
    text = draft.text[:end].rstrip()
    usable = end == len(draft.text) or len(text) >= LEAST_PARTIAL
    return msgspec.structs.replace(draft, text=text if usable else "", choice="", incomplete=why)
