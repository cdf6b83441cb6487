"""Do the drafts agree? Counting their final answers, naming the best draft, and knowing a refusal.

Only drafts that end in a checkable answer (see `answers.py`) can be counted; open prose has no `choice` and is
compared by the words it shares with its siblings.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mixtura.engine import answers
from mixtura.events import Draft


class Tally(NamedTuple):
    """A count of final answers: `winner` has `votes` of `total` weight; `tied` when another has as many."""

    winner: str
    votes: float
    total: float
    counted: int
    tied: bool

    @property
    def unanimous(self) -> bool:
        """Every draft stated an answer and all are the same."""
        return bool(self.winner) and self.votes == self.total and self.counted > 1

    @property
    def majority(self) -> bool:
        """More than half of the weight of all drafts stands behind the winner."""
        return bool(self.winner) and self.votes * 2 > self.total and self.counted > 1


def tally(drafts: Sequence[Draft]) -> Tally:
    """Count the drafts' choices by weight; among equals the one that the heaviest single draft gives wins.

    A draft that was stopped while it wrote has not said what it comes to: it is not counted at all.
    """
    drafts = [draft for draft in drafts if not draft.incomplete]
    weights: dict[str, list[float]] = {}
    heaviest: dict[str, float] = {}
    same = answers.groups([draft.choice for draft in drafts])
    for draft in drafts:
        if draft.choice:
            choice = same[draft.choice]
            weights.setdefault(choice, []).append(draft.weight)
            heaviest[choice] = max(heaviest.get(choice, 0.0), draft.weight)
    # Added up the same way, so that all of them are the whole.
    total = math.fsum(draft.weight for draft in drafts)
    votes = {choice: math.fsum(given) for choice, given in weights.items()}
    if not votes:
        return Tally("", 0.0, total, 0, False)
    best = max(votes, key=lambda choice: (votes[choice], heaviest[choice]))
    tied = sum(count == votes[best] for count in votes.values()) > 1
    return Tally(best, votes[best], total, sum(bool(draft.choice) for draft in drafts), tied)


def identical(drafts: Sequence[Draft]) -> bool:
    """Say whether at least two drafts are there, all whole, and all say the same."""
    if len(drafts) < 2 or any(draft.incomplete for draft in drafts):
        return False
    first = drafts[0].text.strip()
    return all(draft.text.strip() == first for draft in drafts[1:])


_MOST = 600
# What is in every refusal; it spares nearly every draft the long pattern.
_NEGATION = re.compile(r"n['’]t|cannot|can not|cant |will not|unable|not able", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:i['’]?m (?:very |really )?sorry|sorry|apologies|unfortunately|as an ai\b[^.]{0,60})?[\s,.;:!-]*(?:but )?"
    r"i(?: am|'m|’m)? ?"
    r"(?:can(?:no|['’])?t|cannot|can not|won['’]?t|will not|(?:am |'m |’m )?unable to|not able to)\s+(?:\w+\s+){0,2}"
    r"(?:help|assist|answer|comply|provide|fulfill?|discuss|continue|engage|respond"
    r"|(?:do|write|create|generate|say)\s+(?:that|this|such|so|it)\b)",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Say whether `text` is a refusal rather than an answer: it opens with one and says little else."""
    bare = text.strip()
    if len(bare) >= _MOST:
        return False
    # Plain searches, ten times cheaper than the pattern, say of nearly every draft that it is none.
    opening = bare[:200].lower()
    negative = "not" in opening or "n't" in opening or "n’t" in opening or "cant " in opening or "unable" in opening
    if not negative or not _NEGATION.search(opening):
        return False
    return _REFUSAL.match(bare) is not None and not answers.states(bare)


# The words with which a refusal can begin, before its "I", and those that stand between that and what is not done.
_APOLOGIES = re.compile(
    r"^\W*(?:i['’]?m (?:very |really )?sorry|sorry|apologies|unfortunately|as an ai\b)", re.IGNORECASE
)
_OPENERS = ("i'm very sorry", "i'm really sorry", "im sorry", "sorry", "apologies", "unfortunately", "as an ai")
_BEFORE_NEGATION = frozenset(
    "i i'm im am can can't cant cannot not no won't wont will unable to able but and however".split()  # noqa: SIM905
)
_OPENING_WORDS = 14


def may_refuse(text: str) -> bool:
    """Say whether `text`, the beginning of a reply, may become a refusal (see `refuses`) as it goes on."""
    if len(text) >= _MOST:
        return False
    if _REFUSAL.match(text.strip()):
        return True
    opening = re.sub(r"^\W+", "", text).casefold().replace("’", "'")
    if not opening:
        return True
    if apology := _APOLOGIES.match(opening):
        # Anything can stand in an apology's sentence; a refusal begins soon behind it.
        return len(opening[apology.end() :].split()) < _OPENING_WORDS
    if any(known.startswith(opening) for known in _OPENERS):
        return True
    words = opening.split()
    whole = words if opening[-1].isspace() else words[:-1]
    if not words[0].startswith("i") or (whole and whole[0] not in ("i", "i'm", "im")):
        return False
    # "I" and what may stand before the verb of a refusal; the first other words are that verb or its adverbs.
    others = [word for word in whole if word.strip(".,;:!-") not in _BEFORE_NEGATION]
    negated = any(word.strip(".,;:!-") in _NEGATING for word in whole)
    return len(others) <= (3 if negated else 0)


_NEGATING = frozenset("can't cant cannot not won't wont unable".split())  # noqa: SIM905


def best(drafts: Sequence[Draft], whole: Tally | None = None) -> tuple[int, str]:
    """Return the place of the draft that the others support best, and the reason in words.

    `whole` is the tally of all of them, where it is known already.

    Whole drafts go before cut-off ones, those before filtered ones and those before incomplete ones; refusals come
    last. Then the majority's choice; without one, the heaviest draft; among equals the one that shares most words
    with the rest.
    """
    soundness = [_soundness(draft) for draft in drafts]
    places = [place for place, sound in enumerate(soundness) if sound == max(soundness)]
    if len(places) == 1:
        return places[0], "the only one left" if len(drafts) == 1 else "the only sound one"
    usable = [drafts[place] for place in places]
    counted = whole if whole is not None and len(usable) == len(drafts) else tally(usable)
    reason = "closest to the others"
    if counted.winner and (counted.votes > max(draft.weight for draft in usable) or not counted.tied):
        same = answers.groups([draft.choice for draft in usable])
        places = [place for place in places if same[drafts[place].choice] == same[counted.winner]]
        reason = f"its answer has {counted.votes:g} of {counted.total:g} votes"
    heaviest = max(drafts[place].weight for place in places)
    if any(drafts[place].weight < heaviest for place in places):
        places = [place for place in places if drafts[place].weight == heaviest]
        reason = reason if reason != "closest to the others" else "from the model that counts most"
    return (places[0] if len(places) == 1 else _central(drafts, places)), reason


def _soundness(draft: Draft) -> int:
    if refuses(draft.text):
        return 0
    if draft.incomplete:
        return 1
    return {"content_filter": 2, "length": 3}.get(draft.finish_reason, 4)


def _central(drafts: Sequence[Draft], places: Sequence[int]) -> int:
    words = [frozenset(re.findall(r"\w+", draft.text[:20_000].casefold())) for draft in drafts]

    def closeness(place: int) -> float:
        mine = words[place]
        return sum(
            len(mine & other) / len(mine | other) for at, other in enumerate(words) if at != place and mine | other
        )

    return max(places, key=closeness)
