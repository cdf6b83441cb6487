"""Do the drafts agree? Finding the final answer in a text, counting, and naming the best draft.

Only texts that end in a checkable answer (a number, a choice, a literal, a field called "answer") can be
counted; open prose has no `choice` and is compared by the words it shares with its siblings.
"""

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import msgspec

from mixtura.events import Draft

_FENCE = re.compile(r"^\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_ANSWER_FIELD = re.compile(
    r"""["'](?:final[_ ])?answer["']\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\n,}]+)""", re.IGNORECASE
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_HASHES = re.compile(r"^\s*####\s*(.+?)\s*$", re.MULTILINE)
_SAID = re.compile(
    r"(?:^|[\n.!?:;,)]\s*|\b(?:so|thus|therefore|hence),?\s+)[*_#\s]*(?:the\s+)?(?:(?:final|correct)\s+)?answer"
    r"\s*(?:is|[:=])[*_:\s]*([^\n]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^(?:\(([A-Za-z])\)|([A-Za-z])[.)])(?:\s.*)?$|^([A-Za-z])$")
_LONE_OPTION = re.compile(r"^\(?([A-Za-z])\)?[.)]?$")
_NUMBER = re.compile(r"[-+]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?%?")
_FRACTION = re.compile(r"^[-+]?\d+\s*/\s*\d+$")
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|fast|tall|heavy|deep|wide|often)\b|\b(?:calculate|compute|evaluate|solve)\b"
    r"|\bwhat(?:'s| is| was| are| were| will be) (?:the |her |his |its |their )?(?:\w+ ){0,2}?(?:total|sum|value|number"
    r"|average|mean|difference|product|quotient|remainder|probability|area|perimeter|volume|cost|price|ratio|percentage|percent"
    r"|distance|speed|age|profit|amount)\b",
    re.IGNORECASE,
)
_MAX_CHOICE = 300
_SHORT = 48


def extract(text: str, *, lenient: bool = False) -> str:
    r"""Return the final answer of `text` in a normal form that can be compared, "" when it states none.

    Looked for, in this order: an `answer` field of a JSON object, `\boxed{}`, `#### x`, "the answer is x",
    the last number (when lenient), and a text so short that it is itself the answer.

    Args:
        text: a draft.
        lenient: take the last number of the text when no answer is stated; right where a number is asked for
            (see `asks_number`), misleading elsewhere.
    """
    found = _stated(text)
    if found:
        return normal(found)
    if lenient and (numbers := _NUMBER.findall(text)):
        return normal(numbers[-1])
    bare = text.strip()
    return normal(bare) if len(bare) <= _SHORT and "\n" not in bare else ""


def asks_number(question: str) -> bool:
    """Say whether a question wants a number, so that a draft's last number can be taken for its answer."""
    return _ASKS_NUMBER.search(question) is not None


def _stated(text: str) -> str:
    # Most texts state nothing: plain searches, a hundred times cheaper than the patterns, say so first.
    speaks_of_it = "answer" in text.lower()
    if speaks_of_it and ("{" in text or "':" in text or '":' in text):
        inner = _FENCE.match(text)
        value = _json_answer((inner[1] if inner else text).strip())
        if value is not None:
            return value
        if fields := _ANSWER_FIELD.findall(text):
            return str(fields[-1]).strip()
    if "\\boxed" in text and (boxed := _BOXED.findall(text)):
        return str(boxed[-1])
    if "####" in text and (marked := _HASHES.findall(text)):
        # Markdown headings use the same sign: only a short value is an answer.
        last = str(marked[-1])
        if len(last) <= _SHORT and not re.match(r"(?i)step\b", last):
            return last
    if speaks_of_it and (said := _SAID.findall(text)):
        return _first_value(str(said[-1]))
    return ""


def _json_answer(text: str) -> str | None:
    if not text.startswith("{"):
        return None
    try:
        found = msgspec.json.decode(text.encode("utf-8", "replace"), strict=False)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    for key, value in found.items():
        if str(key).lower().replace("_", " ") in ("answer", "final answer"):
            return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return None


def _first_value(rest: str) -> str:
    """Cut "42 apples, because ..." down to what is compared: a number or an option when the words begin so."""
    rest = rest.strip().strip("*_`$ ")
    if option := _OPTION.match(rest):
        return option[1] or option[2] or option[3]
    if _FRACTION.match(rest) or rest[:1] in "[({'\"":
        return rest
    if number := _NUMBER.match(rest):
        return number[0]
    return re.split(r"(?<=[^\d])[.;](?:\s|$)", rest)[0]


def normal(value: str) -> str:
    """Return `value` as it is compared: numbers as plain decimals, literals without spaces, text in lower case."""
    value = _unwrap(_unwrap(value.strip()))
    if not value or len(value) > _MAX_CHOICE:
        return ""
    if option := _LONE_OPTION.match(value):
        return option[1].upper()
    if value[0] in "[({":
        return re.sub(r"\s+", "", value).replace("'", '"')
    plain = re.sub(r"\\text\s*\{[^{}]*\}|\\[!,;$%]|[$€£\s]", "", value.rstrip(".")).replace(",", "")
    if number := _as_number(plain):
        return number
    # "18 dollars", "3.5 km": a unit stands beside the number; "5x" is algebra.
    leading = re.fullmatch(r"([-+]?[\d.]+)(%|[a-zA-Z²³°/]{1,20})", plain)
    if leading and (len(leading[2]) > 1 or leading[2] in "%gmslLhd") and (number := _as_number(leading[1])):
        return number
    return re.sub(r"\s+", " ", value.casefold()).strip(" .!\"'")


def _unwrap(value: str) -> str:
    """Take off one pair of quotes, backticks or bold marks."""
    for mark in ("**", "__", '"', "'", "`", "$"):
        if len(value) > 2 * len(mark) and value.startswith(mark) and value.endswith(mark):
            return value[len(mark) : -len(mark)].strip()
    return value


def _as_number(text: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return ""
    if not number.is_finite() or abs(number.adjusted()) > 100:
        return ""
    if number == number.to_integral_value():
        return str(int(number))
    return format(number, "f").rstrip("0")


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
    """Count the drafts' choices by weight; among equals the one that the heaviest single draft gives wins."""
    votes: dict[str, float] = {}
    heaviest: dict[str, float] = {}
    for draft in drafts:
        if draft.choice:
            votes[draft.choice] = votes.get(draft.choice, 0.0) + draft.weight
            heaviest[draft.choice] = max(heaviest.get(draft.choice, 0.0), draft.weight)
    total = sum(draft.weight for draft in drafts)
    if not votes:
        return Tally("", 0.0, total, 0, False)
    best = max(votes, key=lambda choice: (votes[choice], heaviest[choice]))
    tied = sum(count == votes[best] for count in votes.values()) > 1
    return Tally(best, votes[best], total, sum(bool(draft.choice) for draft in drafts), tied)


def identical(drafts: Sequence[Draft]) -> bool:
    """Say whether at least two drafts are there and all say the same."""
    if len(drafts) < 2:
        return False
    first = drafts[0].text.strip()
    return all(draft.text.strip() == first for draft in drafts[1:])


_REFUSAL = re.compile(
    r"^\W*(?:i['’]?m (?:very |really )?sorry|sorry|apologies|unfortunately|as an ai\b[^.]{0,60})?[\s,.;:!-]*(?:but )?"
    r"(?:i|we)(?: am|'m|’m)? ?"
    r"(?:can(?:no|['’])?t|cannot|can not|won['’]?t|will not|(?:am |'m |’m )?unable to|not able to)\s+(?:\w+\s+){0,2}"
    r"(?:help|assist|answer|comply|provide|fulfill?|do|discuss|write|create|generate|continue|engage|respond)\b",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Say whether `text` is a refusal rather than an answer: it opens with one and says little else."""
    bare = text.strip()
    return len(bare) < 600 and _REFUSAL.match(bare) is not None


def best(drafts: Sequence[Draft]) -> tuple[int, str]:
    """Return the place of the draft that the others support best, and the reason in words.

    Whole drafts go before cut-off ones, answers before refusals; then the majority's choice; without one,
    the heaviest draft; among equals the one that shares most words with the rest.
    """
    places = list(range(len(drafts)))
    for keep in (lambda draft: draft.finish_reason != "length", lambda draft: not refuses(draft.text)):
        kept = [place for place in places if keep(drafts[place])]
        places = kept or places
    if len(places) == 1:
        return places[0], "the only one left" if len(drafts) == 1 else "the only whole one"
    usable = [drafts[place] for place in places]
    counted = tally(usable)
    reason = "closest to the others"
    if counted.winner and (counted.votes > max(draft.weight for draft in usable) or not counted.tied):
        places = [place for place in places if drafts[place].choice == counted.winner]
        reason = f"its answer has {counted.votes:g} of {counted.total:g} votes"
    heaviest = max(drafts[place].weight for place in places)
    if any(drafts[place].weight < heaviest for place in places):
        places = [place for place in places if drafts[place].weight == heaviest]
        reason = reason if reason != "closest to the others" else "from the model that counts most"
    return (places[0] if len(places) == 1 else _central(drafts, places)), reason


def _central(drafts: Sequence[Draft], places: Sequence[int]) -> int:
    words = [frozenset(re.findall(r"\w+", draft.text[:20_000].casefold())) for draft in drafts]

    def closeness(place: int) -> float:
        mine = words[place]
        return sum(
            len(mine & other) / len(mine | other) for at, other in enumerate(words) if at != place and mine | other
        )

    return max(places, key=closeness)
