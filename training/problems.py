"""Generates arithmetic word problems from seeds: a question, the steps that solve it, and the answer.

Each problem is a pure function of its seed. There are six families: a stock that changes, money, time and length,
comparisons, questions asked backwards, and equal shares. A problem has four to eight steps, numbers up to 999 (results
up to 9,999), irrelevant sentences, dozens, hours, weeks, cents and centimeters.

Two things are held out of training. *Numbers*: a sixteenth of all combinations of numbers, chosen by a checksum.
*Wordings*: an eighth of the wordings of every kind of sentence (`wordings.py`).
"""

import random
import re
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from training import wordings
from training.wordings import Wordings

_HELD_OUT_EVERY = 16
_MAX_RESULT = 9999
_NUMBERS = re.compile(r"\d+")


class WordProblem(NamedTuple):
    """A question, its solution line by line ("12*7=84"), and the answer."""

    question: str
    steps: tuple[str, ...]
    answer: int
    family: str

    @property
    def solution(self) -> str:
        """The text that a model learns to write."""
        return "\n".join([*self.steps, f"Answer: {self.answer}"])


# Names that take "she", then names that take "he".
_SHE = ("Ada", "Bea", "Clara", "Dana", "Emma", "Fay", "Gina", "Hanna", "Iris", "Jane", "Kim", "Lena")
_HE = ("Adam", "Ben", "Carl", "Dan", "Emil", "Finn", "Gus", "Hugo", "Ivan", "Jack", "Karl", "Leo")
_ITEMS = (
    *("apples", "books", "cards", "coins", "eggs", "marbles", "nuts", "pears", "pens", "plums", "shells", "stamps"),
    *("beads", "bolts", "buttons", "cups", "flowers", "lemons", "nails", "oranges", "pins", "stones", "tiles"),
)
_BOXES = ("bags", "baskets", "boxes", "crates", "jars", "packs", "trays", "sacks")
_MACHINES = ("machine", "robot", "press", "printer", "mill", "oven")
_THINGS = ("rope", "wire", "ribbon", "cloth", "pipe", "tape")


class ProblemBuilder:
    """A problem under construction: its names and things, and its sentences and steps so far."""

    def __init__(self, rng: random.Random, *, new_wordings: bool, short: bool) -> None:
        self.rng = rng
        self.new_wordings = new_wordings
        self.short = short
        self.sentences: list[str] = []
        self.steps: list[str] = []
        she = rng.random() < 0.5
        mine = _SHE if she else _HE
        self.names = {"N": rng.choice(mine), "p": "she" if she else "he", "P": "She" if she else "He"}
        self.names["M"] = rng.choice([name for name in _SHE + _HE if name != self.names["N"]])
        self.names["items"], self.names["others"] = rng.sample(_ITEMS, 2)

    def word(self, options: Wordings, **numbers: object) -> str:
        """Return one of the wordings with its placeholders filled in."""
        chosen = self.rng.choice(options.held_out if self.new_wordings else options.trained)
        return chosen.format(**self.names, **numbers)

    def say(self, options: Wordings, **numbers: object) -> None:
        """Add one of the wordings as a sentence."""
        self.sentences.append(self.word(options, boxes=self.rng.choice(_BOXES), **numbers))

    def step(self, left: int, sign: str, right: int) -> int:
        """Add a step and return its result.

        Raises:
            UnfitError: the result is below 1, above 9,999, or not a whole number.
        """
        if sign == "/":
            result, rest = divmod(left, right)
        else:
            result, rest = {"+": left + right, "-": left - right, "*": left * right}[sign], 0
        if rest or not 0 < result <= _MAX_RESULT:
            raise UnfitError
        self.steps.append(f"{left}{sign}{right}={result}")
        return result

    def factors(self) -> tuple[int, int]:
        """Return a small and a larger factor for a multiplication."""
        kind = self.rng.random()
        if kind < 0.35:
            return self.rng.randint(2, 9), self.rng.randint(11, 99)
        if kind < 0.75:
            return self.rng.randint(2, 9), self.rng.randint(101, 499)
        return self.rng.randint(11, 39), self.rng.randint(11, 99)


class UnfitError(Exception):
    """The drawn numbers do not make a valid problem, so `make` draws again."""


def _add_event(story: ProblemBuilder, total: int) -> int:
    """Add an event that changes the stock, and return the new total."""
    rng = story.rng
    kind = rng.random()
    if kind < 0.17:
        x = rng.randint(12, 999)
        story.say(wordings.ADD, x=x)
        return story.step(total, "+", x)
    if kind < 0.36:
        x = rng.randint(5, max(6, min(999, total - 1)))
        story.say(wordings.SUB, x=x)
        return story.step(total, "-", x)
    if kind < 0.58:
        k, m = story.factors()
        story.say(wordings.ADD_BOXES, k=k, m=m)
        return story.step(total, "+", story.step(k, "*", m))
    if kind < 0.76:
        k, m = story.factors()
        story.say(wordings.SUB_BOXES, k=k, m=m)
        return story.step(total, "-", story.step(k, "*", m))
    if kind < 0.84:
        k = rng.randint(2, 40)
        story.say(wordings.DOZENS, k=k)
        return story.step(total, "+", story.step(k, "*", 12))
    if kind < 0.90:
        story.say(wordings.DOUBLE)
        return story.step(total, "*", 2)
    if kind < 0.94:
        story.say(wordings.TRIPLE, k=3)
        return story.step(total, "*", 3)
    story.say(wordings.HALF)
    return story.step(total, "/", 2)


def _add_start(story: ProblemBuilder) -> int:
    if story.rng.random() < 0.5:
        total = story.rng.randint(50, 999)
        story.say(wordings.START, a=total)
        return total
    k, m = story.factors()
    story.say(wordings.START_BOXES, k=k, m=m)
    return story.step(k, "*", m)


def _stock(story: ProblemBuilder) -> tuple[int, str]:
    total = _add_start(story)
    wanted = story.rng.randint(1, 3) if story.short else story.rng.randint(4, 7)
    while len(story.steps) < wanted:
        total = _add_event(story, total)
    return total, story.word(wordings.NOW)


def _money(story: ProblemBuilder) -> tuple[int, str]:
    rng = story.rng
    cents = rng.random() < 0.5
    unit = "cents" if cents else "dollars"
    names = {"small": unit}
    first, price = story.factors()
    second, other = story.factors()
    purse = rng.randint(11, 99) if cents else rng.randint(200, 9000)
    lines = [
        story.word(wordings.BUYS, k=first, q=price, unit=unit),
        story.word(wordings.BUYS_OTHERS, k=second, q=other, unit=unit),
    ]
    held = story.word(wordings.PURSE, b=purse, unit="dollars")
    story.sentences += [*lines, held] if rng.random() < 0.5 or "{N}" in held else [*lines[:1], held, *lines[1:]]
    spent = story.step(story.step(first, "*", price), "+", story.step(second, "*", other))
    has = story.step(purse, "*", 100) if cents else purse
    if rng.random() < 0.6:
        x = rng.randint(11, 999)
        story.sentences.append(story.word(wordings.GIFT, x=x, **names))
        has = story.step(has, "+", x)
    left = story.step(has, "-", spent)
    return left, story.word(wordings.CHANGE, **names)


def _units(story: ProblemBuilder) -> tuple[int, str]:
    return story.rng.choice((_machine, _length, _working_hours))(story)


def _machine(story: ProblemBuilder) -> tuple[int, str]:
    rng = story.rng
    r, h, w, d = rng.randint(3, 29), rng.randint(2, 12), rng.randint(2, 6), rng.randint(2, 6)
    story.say(wordings.RATE, r=r, machine=rng.choice(_MACHINES))
    story.say(wordings.RUNS, h=h, w=w, d=d)
    a_day = story.step(r, "*", h)
    days = story.step(story.step(w, "*", 7), "+", d)
    x = rng.randint(5, 999)
    story.say(wordings.BROKEN, x=x)
    return story.step(story.step(a_day, "*", days), "-", x), story.word(wordings.MADE)


def _length(story: ProblemBuilder) -> tuple[int, str]:
    rng = story.rng
    thing = rng.choice(_THINGS)
    a, b = rng.randint(11, 89), rng.randint(2, 99)
    story.say(wordings.LENGTH, a=a, b=b, thing=thing)
    total = story.step(story.step(a, "*", 100), "+", b)
    for _ in range(rng.randint(1, 2)):
        k, m = story.factors()
        story.say(wordings.PIECES, k=k, m=m)
        total = story.step(total, "-", story.step(k, "*", m))
    if rng.random() < 0.5:
        more = rng.randint(2, 30)
        story.say(wordings.MORE_LENGTH, a=more)
        total = story.step(total, "+", story.step(more, "*", 100))
    return total, story.word(wordings.LEFT_LENGTH, thing=thing)


def _working_hours(story: ProblemBuilder) -> tuple[int, str]:
    rng = story.rng
    h, m, w, d = rng.randint(2, 9), rng.randint(5, 59), rng.randint(2, 5), rng.randint(2, 6)
    story.say(wordings.WORK, h=h, m=m)
    story.say(wordings.DAYS, w=w, d=d)
    a_day = story.step(story.step(h, "*", 60), "+", m)
    days = story.step(story.step(w, "*", 7), "+", d)
    x = rng.randint(5, 999)
    story.say(wordings.REST, x=x)
    return story.step(story.step(a_day, "*", days), "-", x), story.word(wordings.MINUTES)


def _compare(story: ProblemBuilder) -> tuple[int, str]:
    mine = _side(story, wordings.START, wordings.START_BOXES, wordings.OWN_ADD, wordings.OWN_SUB)
    theirs = _side(story, wordings.OTHER_START, wordings.OTHER_BOXES, wordings.OTHER_ADD, wordings.OTHER_SUB)
    a, b = story.names["N"], story.names["M"]
    if story.rng.random() < 0.3:
        return story.step(mine, "+", theirs), story.word(wordings.TOGETHER, A=a, B=b)
    if mine < theirs:
        a, b, mine, theirs = b, a, theirs, mine
    return story.step(mine, "-", theirs), story.word(wordings.DIFFERENCE, A=a, B=b)


def _side(story: ProblemBuilder, start: Wordings, boxes: Wordings, add: Wordings, sub: Wordings) -> int:
    rng = story.rng
    if rng.random() < 0.7:
        k, m = story.factors()
        story.say(boxes, k=k, m=m)
        total = story.step(k, "*", m)
    else:
        total = rng.randint(50, 999)
        story.say(start, a=total)
    for _ in range(rng.randint(1, 2)):
        x = rng.randint(5, 999)
        if rng.random() < 0.5 and x < total:
            story.say(sub, x=x)
            total = story.step(total, "-", x)
        else:
            story.say(add, x=x)
            total = story.step(total, "+", x)
    return total


def _reverse(story: ProblemBuilder) -> tuple[int, str]:
    """Draw the events forwards and solve the problem backwards."""
    rng = story.rng
    story.say(wordings.SOME)
    start = total = rng.randint(50, 999)
    undo: list[tuple[str, int, tuple[int, int] | None]] = []
    for _ in range(rng.randint(2, 4)):
        kind = rng.random()
        if kind < 0.2:
            x = rng.randint(12, 999)
            story.say(wordings.ADD, x=x)
            total += x
            undo.append(("-", x, None))
        elif kind < 0.4 and total > 10:
            x = rng.randint(5, total - 1) if total < 1000 else rng.randint(5, 999)
            story.say(wordings.SUB, x=x)
            total -= x
            undo.append(("+", x, None))
        elif kind < 0.9:
            k, m = story.factors()
            more = rng.random() < 0.5 or k * m >= total
            story.say(wordings.ADD_BOXES if more else wordings.SUB_BOXES, k=k, m=m)
            total += k * m if more else -k * m
            undo.append(("-" if more else "+", k * m, (k, m)))
        else:
            story.say(wordings.DOUBLE)
            total *= 2
            undo.append(("/", 2, None))
        if not 0 < total <= _MAX_RESULT:
            raise UnfitError
    story.say(wordings.ENDS, r=total)
    for sign, x, boxed in reversed(undo):
        if boxed:
            story.step(boxed[0], "*", boxed[1])
        total = story.step(total, sign, x)
    assert total == start
    return total, story.word(wordings.AT_FIRST)


def _share(story: ProblemBuilder) -> tuple[int, str]:
    rng = story.rng
    total = _add_start(story)
    for _ in range(rng.randint(1, 2)):
        total = _add_event(story, total)
    k = rng.randint(3, 12)
    # The last event adds or removes what makes the total divisible.
    target = k * rng.randint(11, max(12, min(499, 2 * total // k)))
    if target == total or abs(target - total) > 999 or target > _MAX_RESULT:
        raise UnfitError
    story.say(wordings.ADD if target > total else wordings.SUB, x=abs(target - total))
    total = story.step(total, "+" if target > total else "-", abs(target - total))
    story.say(wordings.SHARED, k=k)
    return story.step(total, "/", k), story.word(wordings.EACH)


FAMILIES: dict[str, Callable[[ProblemBuilder], tuple[int, str]]] = {
    "stock": _stock,
    "money": _money,
    "units": _units,
    "compare": _compare,
    "reverse": _reverse,
    "share": _share,
}


def is_held_out(question: str) -> bool:
    """Return whether the question's numbers, in their order, are one of the held-out combinations."""
    return zlib.crc32(" ".join(_NUMBERS.findall(question)).encode()) % _HELD_OUT_EVERY == 0


def make(
    seed: int,
    *,
    held_out: bool = False,
    new_wordings: bool = False,
    short: bool = False,
    mix: Mapping[str, float] | None = None,
) -> WordProblem:
    """Return the problem of `seed`.

    Args:
        seed: any whole number; problems of different seeds are independent.
        held_out: use only held-out numbers; otherwise only the others.
        new_wordings: use only held-out wordings; otherwise only the others.
        short: a stock that changes one to three times, instead of four to eight steps of any family.
        mix: the weight of each family in the draw; None for equal weights.
    """
    rng = random.Random(f"{seed} {held_out} {new_wordings} {short}")
    names = list(FAMILIES)
    weights = [1.0 if mix is None else mix.get(name, 0.0) for name in names]
    while True:
        family = "stock" if short else rng.choices(names, weights)[0]
        story = ProblemBuilder(rng, new_wordings=new_wordings, short=short)
        try:
            answer, question = FAMILIES[family](story)
        except UnfitError:
            continue
        if not (1 <= len(story.steps) <= 4 if short else 4 <= len(story.steps) <= 8):
            continue
        if rng.random() < 0.4:
            aside = story.word(wordings.ASIDE, n=rng.randint(2, 99))
            story.sentences.insert(rng.randint(1, len(story.sentences)), aside)
        asked = " ".join([*story.sentences, question])
        if is_held_out(asked) == held_out:
            return WordProblem(asked, tuple(story.steps), answer, family)


def lesson(seed: int, mix: Mapping[str, float] | None = None) -> WordProblem:
    """Return the training problem of `seed`. Every tenth problem is a short one."""
    return make(seed, short=seed % 10 == 0, mix=mix)
