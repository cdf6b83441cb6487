"""The council: every author ranks the anonymous drafts, the ranks are added up, a chairman may write."""

import asyncio
import re
from collections.abc import Sequence
from typing import NamedTuple

from mixtura import prompts
from mixtura.decisions import NoticedDetail
from mixtura.engine import agree, results
from mixtura.engine.alone import call_within
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.draft_prompt import Reader, read_drafts
from mixtura.engine.drafts import DraftSet
from mixtura.engine.race import Race
from mixtura.errors import ModelError
from mixtura.events import Draft
from mixtura.planning.schedule import other_options, schedule
from mixtura.recipe import Slot

_LETTER = re.compile(r"\b[A-Z]\d*\b")
_NOUN = re.compile(r"\b(?:answer|draft|response|option)s?\b", re.IGNORECASE)


class Ranking(NamedTuple):
    """Points by draft (0 to 1, 1 is best) and how many reviewers were counted."""

    points: tuple[float, ...]
    reviewers: int


async def rank_drafts(run: Run, drafts: DraftSet, until: float) -> Ranking:
    """Let the author of each draft rank all of them; a reviewer's place for its own draft does not count.

    A reviewer that fails, or gives no readable ranking, is left out and that is said.
    """
    authors = [run.authors[draft.call] for draft in drafts]
    # No more reviews than the run has been planned with, if drafts of an earlier, larger layer have to do.
    most = sum(call.role == "reviewer" for call in schedule(run.recipe, run.options.chat).calls)
    orders: list[tuple[int, list[int]]] = []
    options = other_options(run.options.chat)

    async def review(reviewer: int, slot: Slot) -> None:
        reader = Reader(slot, "reviewer", prompts.RANK, _how_to_end)
        reading = read_drafts(run, reader, drafts.all)
        ask = Ask("reviewer", slot, reading.messages, options=options, reads=reading.calls)
        try:
            number, completion = await call_within(Race(run, ask, until))
        except ModelError:
            return
        results.emit_finished(run, number, ask, completion)
        places = parse_ranking(completion.text, run.marker(()), len(drafts))
        if places:
            orders.append((reviewer, [reading.order[place] for place in places]))
        else:
            said = f"the review of {slot.model} names no ranking and is not counted"
            run.decide(NoticedDetail(call=number), said)

    try:
        async with asyncio.TaskGroup() as group:
            for reviewer, slot in enumerate(authors[:most]):
                group.create_task(review(reviewer, slot))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors  # a mistake, no model's failure: the caller should see it plainly
    return Ranking(tuple(borda(orders, len(drafts))), len(orders))


def _how_to_end(tag: str, _order: Sequence[int]) -> str:
    return f"End with your ranking of all letters above, best first: <{tag} ranking>B > A</{tag} ranking>"


def parse_ranking(text: str, tag: str, count: int) -> list[int]:
    """Return the places of the drafts, best first, that a review names between the run's tags.

    Only the last pair of tags counts: a draft that quotes a ranking cannot know the tag. Letters that name no draft
    and repeats are passed over; fewer than half of the drafts named is no ranking (an empty list).
    """
    found = re.findall(rf"<{re.escape(tag)} ranking>(.*?)(?:</|$)", text, re.DOTALL)
    if not found:
        return []
    by_label = {prompts.label(place): place for place in range(count)}
    places = list(
        dict.fromkeys(by_label[word] for word in _LETTER.findall(_NOUN.sub("", found[-1])) if word in by_label)
    )
    return places if 2 * len(places) >= count else []


def borda(orders: Sequence[tuple[int, Sequence[int]]], count: int) -> list[float]:
    """Return each draft's mean points: 1 for a first place, falling evenly, 0 when not named; own votes left out.

    Args:
        orders: (reviewer, places best first); reviewer i is the author of draft i. Unnamed drafts share the last place.
        count: how many drafts there are.
    """
    points, votes = [0.0] * count, [0] * count
    for reviewer, places in orders:
        ranked = [place for place in places if place != reviewer]
        others = count - 1 - (reviewer < count)
        for position, place in enumerate(ranked):
            points[place] += (others - position) / others if others > 0 else 1.0
        for place in range(count):
            votes[place] += place != reviewer
    return [points[place] / votes[place] if votes[place] else 0.0 for place in range(count)]


def winner(drafts: Sequence[Draft], ranking: Ranking) -> int:
    """Return the place of the draft with most points; among equals the one the drafts themselves support best."""
    top = max(ranking.points)
    places = [place for place, points in enumerate(ranking.points) if points == top]
    return places[agree.best([drafts[place] for place in places])[0]]


def describe_ranking(count: int, ranking: Ranking, order: Sequence[int]) -> str:
    """Return the ranking of `count` drafts as the chairman reads it, by the letters of its own `order`."""
    letters = {place: prompts.label(at) for at, place in enumerate(order)}
    ranked = sorted(range(count), key=lambda place: -ranking.points[place])
    lines = ", ".join(f"{letters[place]} ({ranking.points[place]:.2f})" for place in ranked)
    who = "one of the authors" if ranking.reviewers == 1 else f"the {ranking.reviewers} authors"
    return f"How {who} ranked them, 1.00 is best: {lines}."
