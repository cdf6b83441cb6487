"""A model names the best draft, which is returned word for word."""

import re
from collections.abc import Sequence

from mixtura import prompts
from mixtura.decisions import SelectedDetail
from mixtura.engine import results
from mixtura.engine.alone import call_within
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.draft_prompt import Reader, read_drafts
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, fall_back, outcome_of
from mixtura.engine.own_words import named_draft
from mixtura.engine.race import Race
from mixtura.errors import ModelError
from mixtura.planning.schedule import instructions_of, other_options
from mixtura.recipe import Aggregator


async def answer(run: Run, aggregator: Aggregator, drafts: DraftSet) -> Outcome:
    """Return the draft that the aggregator's model names. See `engine.aggregate.KindModule`."""
    if len(drafts) == 1:
        run.decide(SelectedDetail(call=drafts[0].call), "only one draft came; nothing to select from")
        return outcome_of(drafts[0])
    options = other_options(run.options.chat)
    reader = Reader(aggregator, "selector", instructions_of(aggregator), _how_to_choose)
    reading = read_drafts(run, reader, drafts.all)
    ask = Ask("selector", aggregator, reading.messages, len(run.recipe.layers), options, reads=reading.calls)
    try:
        number, completion = await call_within(Race(run, ask, run.deadline))
    except ModelError as error:
        return fall_back(run, drafts, f"failed ({error.reason})")
    results.emit_finished(run, number, ask, completion)
    place = parse_choice(completion.text, run.marker(()), len(drafts))
    if place is None:
        # Without the tags that were asked for, in a sentence: "I choose draft B."
        place = named_draft(completion.text, len(drafts))
    if place is None:
        return fall_back(run, drafts, "named no draft")
    chosen = drafts[reading.order[place]]
    run.decide(SelectedDetail(call=chosen.call), f"{aggregator.model} chose the draft of {chosen.model}")
    return outcome_of(chosen)


def _how_to_choose(tag: str, _order: Sequence[int]) -> str:
    return f"End with the letter of the best draft: <{tag} choice>A</{tag} choice>"


def parse_choice(text: str, tag: str, count: int) -> int | None:
    """Return the place of the draft named between the run's tags, or by a reply that is a letter alone."""
    opening = f"<{tag} choice>"
    # What stands between a tag and the next end of one, of the last such pair; in one pass however many tags there are.
    pairs = (piece.partition(opening) for piece in reversed(text.split("</")[:-1]))
    named = next((after for _, mark, after in pairs if mark), text)
    bare = re.fullmatch(r"\W*(?:(?:draft|answer|response|option)\s*)?([A-Z]\d*)\W*", named, re.IGNORECASE)
    by_label = {prompts.label(place): place for place in range(count)}
    return by_label.get(bare[1].upper()) if bare else None
