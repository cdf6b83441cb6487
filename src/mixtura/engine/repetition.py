"""Finds replies that go round in a loop: a word, sentence, paragraph or list line again and again, to no end.

A reply is looked at every 4 kB while it comes. Three things make it a loop, each above a threshold that depends on what
is repeated, since tables, arrays and drawings repeat themselves rightly:

- its end is one unit again and again, word for word;
- or so but for a number that counts up;
- or nearly all of its n-grams of words have been there before.

Who asks for repetition ("500 times", "a list of 200") gets it: a loop has to go round more than twice as often.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mixtura.chat import Delta

LOOK_EVERY = 4096
"""Characters of a reply between two looks at it."""

_WINDOW = 4 * LOOK_EVERY
_PROBE = 48
_SHARE_WINDOW = 2 * LOOK_EVERY
_NGRAM = 6
_FEW = 40
# Of the n-grams of the window, those that stood in it before. Real answers: see docs/design/guard.md.
_REPEATED_SHARE = 0.9
_LEAST_WORDS = 200
# Above this share of distinct words in the latest look, neither n-grams nor numbers need a count.
_DISTINCT_WORDS = 0.4

# A reply that goes on and on is stopped when it has been a loop for so many looks in a row: 12 kB are longer than the
# timetables, prayers and lists of moves that repeat themselves rightly, and a loop has no end.
_LOOKS = 3
# A reply that ended by itself is a loop when so large a share of it is one short unit, so often.
_ENDED_SHARE, _ENDED_UNIT, _ENDED_TIMES = 0.8, 64, 40

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]")
_SENTENCE_END = re.compile(r"[.!?。！？](?=\s)|\n")
_STRUCTURE = re.compile(r"[{}\[\]<>|=;\\\"\t$^~+&@/`()]")
_STRUCTURE_SHARE = 0.05


class Loop(NamedTuple):
    """What a reply repeats.

    Attributes:
        end: the characters that stand before the first repetition; what is repeated stands among them once.
        unit: what is repeated; "" where it is not word for word the same.
        times: how often it stands there.
    """

    end: int
    unit: str
    times: int

    def __str__(self) -> str:
        unit = " ".join(self.unit.split())
        shown = unit if len(unit) <= 40 else unit[:39] + "…"
        return f"{shown!r} {self.times} times" if shown else "what it had written"


class LoopDetector:
    """Watches one reply, or its reasoning, for a loop; its cost is linear in what it is given.

    Args:
        allowed: how often something may be repeated because it was asked for; see `asked_repeats`.
        looks: how many looks in a row have to find it.

    Attributes:
        loop: what was found; None while there is none.
    """

    def __init__(self, allowed: float = 0, looks: int = _LOOKS) -> None:
        self.loop: Loop | None = None
        self._allowed = allowed
        self._looks = looks
        self._tail = ""
        self._pending: list[str] = []
        self._length = 0  # of what is pending
        self._dropped = 0  # characters before the tail
        self._latest: list[Loop] = []  # what the latest looks in a row have found

    def add(self, text: str) -> Loop | None:
        """Take the next piece, and return the loop once there is one."""
        if self._length + len(text) < LOOK_EVERY:
            self._pending.append(text)
            self._length += len(text)
            return self.loop
        at = 0
        while self.loop is None and self._length + len(text) - at >= LOOK_EVERY:
            end = at + LOOK_EVERY - self._length
            self._pending.append(text[at:end])
            at = end
            self._look()
        self._pending.append(text[at:])
        self._length += len(text) - at
        return self.loop

    def finish(self) -> Loop | None:
        """Look at what has come since the latest look, and return the loop if there is one."""
        if self.loop is None and self._length:
            self._look()
        return self.loop

    def _look(self) -> None:
        whole = self._tail + "".join(self._pending)
        self._pending.clear()
        self._length = 0
        self._dropped += max(0, len(whole) - _WINDOW)
        self._tail = whole[-_WINDOW:]
        if self._allowed == math.inf:
            return
        found = _exact(self._tail, self._allowed)
        if found is None and _few_words(self._tail[-LOOK_EVERY:]):
            found = _counting(self._tail, self._allowed) or _shared(self._tail, self._allowed)
        if found is None:
            self._latest.clear()
            return
        self._latest.append(found._replace(end=found.end + self._dropped))
        if len(self._latest) >= self._looks:
            self.loop = found._replace(end=self._latest[0].end)


class LoopWatch:
    """Watches what one call writes, its text and its reasoning.

    Args:
        allowed: see `LoopDetector`.
    """

    def __init__(self, allowed: float = 0) -> None:
        self._allowed = allowed
        self.begin()

    def begin(self) -> None:
        """Forget what an attempt before has written."""
        self._text = LoopDetector(self._allowed)
        self._reasoning = LoopDetector(self._allowed)

    def take(self, delta: Delta) -> Loop | None:
        """Take the next piece, and return the loop that the call is in once there is one."""
        if delta.reasoning:
            self._reasoning.add(delta.reasoning)
        if delta.text:
            self._text.add(delta.text)
        return self.loop

    @property
    def loop(self) -> Loop | None:
        """The loop that the call is in, None while it is in none."""
        return self._text.loop or self._reasoning.loop

    def before(self, text: str) -> str:
        """Return what of the call's `text` stands before the loop."""
        return text if self._text.loop is None else text[: self._text.loop.end]


def may_be_loop(text: str, *, ended: bool) -> bool:
    """Say whether it is worth looking for a loop in a whole text: of one that `ended` by itself the end has to repeat.

    Most replies are decided here, in a microsecond.
    """
    if not ended:
        return True
    return text[-_ENDED_UNIT:] in text[-2 * _ENDED_UNIT : -1]


def find_loop(text: str, allowed: float = 0, *, ended: bool = False) -> Loop | None:
    """Return the loop that a whole text runs into, None for none.

    Args:
        text: the text.
        allowed: see `LoopDetector`.
        ended: its model ended it by itself. It went round to some end then, as lists, prayers and timetables do: a
            loop is only what says next to nothing else.
    """
    if not ended:
        detector = LoopDetector(allowed, looks=1)
        detector.add(text)
        return detector.finish()
    tail = text[-_WINDOW:]
    found = _exact(tail, allowed) if tail and allowed < math.inf else None
    if found is None or found.times < _ENDED_TIMES or len(found.unit) > _ENDED_UNIT:
        return None
    is_all = found.times * len(found.unit) >= _ENDED_SHARE * len(tail)
    return found._replace(end=found.end + len(text) - len(tail)) if is_all else None


class _Run(NamedTuple):
    """The end of a text that is one unit of `period` characters again and again, over `length` characters."""

    period: int
    length: int

    @property
    def times(self) -> int:
        return self.length // self.period


def _run_at_end(text: str) -> _Run | None:
    """Return the longest run at the end of `text` that its last characters' former places lead to."""
    probe = text[-_PROBE:]
    best: _Run | None = None
    at = len(text) - len(probe)
    for _ in range(4):
        at = text.rfind(probe, 0, at + len(probe) - 1)
        if at < 0:
            break
        period = len(text) - len(probe) - at
        length = period + _common_end(text, len(text) - period)
        if best is None or length > best.length:
            best = _Run(period, length)
        if length > len(text) // 2 or length > 4 * period:
            break
    return best


def _common_end(text: str, end: int) -> int:
    """Return how many characters before `end` are the same as the last ones of `text`."""
    low, high = 0, end
    while low < high:
        middle = (low + high + 1) // 2
        if text.endswith(text[end - middle : end]):
            low = middle
        else:
            high = middle - 1
    return low


def _exact(text: str, allowed: float) -> Loop | None:
    run = _run_at_end(text)
    if run is None or run.times < 4:
        return None
    unit = text[-run.period :]
    if run.times <= 2 * allowed or not _is_long(unit, run):
        return None
    start = len(text) - run.length
    return Loop(_end_of_sentence(text, start + run.period, run.period), text[start : start + run.period], run.times)


def _end_of_sentence(text: str, place: int, within: int) -> int:
    """Return where the sentence or line at `place` ends, `place` where none does `within` so many characters.

    Where one has just ended, with a space behind it, that is `place`.
    """
    found = _SENTENCE_END.search(text, max(0, place - 2), place + within)
    return place if found is None else max(place, found.end())


def _is_long(unit: str, run: _Run) -> bool:
    """Say whether what `run` repeats is repeated too often, as seldom as such a unit is repeated rightly."""
    length, times = run.length, run.times
    words = _WORD.findall(unit)
    if _is_data(unit, words) or len(_STRUCTURE.findall(unit)) > _STRUCTURE_SHARE * len(unit):
        # Drawings, rulers, zeros and blanks; arrays, tables and code.
        return length >= LOOK_EVERY and times >= 8
    if len(words) == 1 and len(words[0]) < 20:
        return length >= (1024 if "\n" in unit else 256) and times >= 40
    return (length >= 256 and times >= 16) or (length >= 1024 and times >= (4 if len(unit) >= 256 else 8))


def _is_data(text: str, words: Sequence[str]) -> bool:
    """Say whether `text`, of these words, is drawn, or looks like equal values, a message in capitals or a code."""
    equal = len(set(words)) == 1 and "," in text
    if equal or len(set(_LETTERS.findall(text))) < 2:
        return True
    return (text == text.upper() != text.lower()) or (text.isascii() and not any(map(str.isspace, text)))


def _counting(text: str, allowed: float) -> Loop | None:
    """Return a loop of units that are the same but for one number, which counts up."""
    masked = _NUMBER.sub("0", text)
    if masked == text:
        return None
    run = _run_at_end(masked)
    if run is None or run.times < 20 or run.length < 1024 or run.times <= 2 * allowed:
        return None
    unit = masked[-run.period :]
    if len(_LETTERS.findall(unit)) < 12 or len(unit.split()) < 4:
        return None
    if len(_STRUCTURE.findall(unit)) > _STRUCTURE_SHARE * len(unit):
        return None
    each = len(_NUMBER.findall(unit))
    found = list(_NUMBER.finditer(text))[-each * (run.times - 1) :]
    if not each or not _counts(found, each):
        return None
    first, second = found[0].start(), found[each].start()
    return Loop(_end_of_sentence(text, second, second - first), text[first:second], run.times - 1)


def _counts(found: Sequence[re.Match[str]], each: int) -> bool:
    """Say whether the numbers of each unit are those of the unit before, or one more."""
    values = [int(number[0]) if len(number[0]) < 10 else -1 for number in found]
    steps = {after - before for before, after in zip(values, values[each:], strict=False)}
    return 1 in steps and steps <= {0, 1} and -1 not in values


def _few_words(text: str) -> bool:
    words = text.split()
    return len(set(words)) <= max(_DISTINCT_WORDS * len(words), _FEW)


def _shared(text: str, allowed: float) -> Loop | None:
    """Return a loop of which only most is repeated: the share of its n-grams that stood in the window before."""
    window = text[-_SHARE_WINDOW:]
    words = _WORD.findall(window)
    if len(words) < _LEAST_WORDS or _is_data(window, words):
        return None
    if len(_STRUCTURE.findall(window)) > _STRUCTURE_SHARE * len(window):
        return None
    grams = list(zip(*(words[at:] for at in range(_NGRAM)), strict=False))
    distinct = len(set(grams))
    times = len(grams) // distinct
    if distinct > (1 - _REPEATED_SHARE) * len(grams) or times <= 2 * allowed:
        return None
    seen: set[tuple[str, ...]] = set()
    first = 0
    for first, gram in enumerate(grams):  # noqa: B007  # where the first repeated one stands
        if gram in seen:
            break
        seen.add(gram)
    place = next(word.start() for at, word in enumerate(_WORD.finditer(window)) if at == first)
    return Loop(len(text) - len(window) + place, "", times)


_ASKS = (
    r"\b(?:write|repeat|print|say|list|give|generate|produce|output|type|create|make|count|enumerate|show|name|draw"
    r"|fill|compose|provide|need|want|return|display|recite|sing|chant|emit|echo)\b"
)
_SMALL = {word: n for n, word in enumerate("two three four five six seven eight nine ten".split(), start=2)}  # noqa: SIM905
_LARGE = {"dozen": 12, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000}
_AMOUNT = rf"(?<![\w.])(?:{'|'.join(_SMALL)})\s+(?:{'|'.join(_LARGE)})\b|(?<!\d)\d[\d,]*|\b(?:{'|'.join(_LARGE)})\b"
_ASKED = re.compile(rf"{_ASKS}[^.?!\n]{{0,200}}", re.IGNORECASE)
_AMOUNTS = re.compile(_AMOUNT, re.IGNORECASE)
_TIMES = re.compile(
    rf"({_AMOUNT})\s*(?:x\b|×|times|mal\b|fois|veces|vezes|volte|keer|раз|次|回|遍|번)"
    r"(?!\s+(?:as|more|a|an|per|each|every|older|larger)\b)",
    re.IGNORECASE,
)
_ENDLESSLY = re.compile(
    r"\b(?:forever|endless(?:ly)?|infinite(?:ly)?|over and over|again and again|many times|repeatedly|non-?stop"
    r"|as (?:often|many times|long) as (?:you can|possible))\b",
    re.IGNORECASE,
)
_REPEATING = re.compile(rf"{_ASKS}|\bloop\b", re.IGNORECASE)


def asked_repeats(question: str) -> float:
    """Return how often `question` asks for something to be written: 0 where it does not, inf for no end.

    It is the largest number that is asked for by a verb such as "write" or "list", or that "times" stands behind.
    """
    if _ENDLESSLY.search(question) and _REPEATING.search(question):
        return math.inf
    found = [amount[0] for asked in _ASKED.finditer(question) for amount in _AMOUNTS.finditer(asked[0])]
    found += [match[1] for match in _TIMES.finditer(question)]
    return max(map(_value, found), default=0)


def _value(amount: str) -> int:
    words = amount.lower().split()
    if words[0] in _SMALL:
        return _SMALL[words[0]] * _LARGE[words[1]]
    return _LARGE.get(words[0]) or int(words[0].replace(",", "")[:9])
