"""What a final answer is, one type a kind, and when two of them are the same."""

import re
from fractions import Fraction

import msgspec

from mixtura.engine.answers import units


class Number(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A number, its scale folded in. `unit`: as `units.read` returns it; `written`: the digits, where zeros lead."""

    value: Fraction
    unit: str = ""
    written: str = ""

    def __str__(self) -> str:
        digits = self.written or decimal(self.value)
        if not self.unit:
            return digits
        return f"{digits}{self.unit}" if self.unit == "th" or not self.unit[0].isalpha() else f"{digits} {self.unit}"


class Options(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One or several options of a question. `letters`: capital and sorted; `name`: words that may be a name's."""

    letters: str
    name: str = ""

    def __str__(self) -> str:
        listed = ", ".join(self.letters)
        return f"{listed}. {self.name}" if self.name else listed


class Literal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A string, list, tuple, set or mapping, as JSON or Python write it. `text`: its one spelling."""

    text: str
    content: str | None = None  # of a string

    def __str__(self) -> str:
        return self.text


class Formula(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """LaTeX or an expression, without white space."""

    text: str

    def __str__(self) -> str:
        return self.text


class Text(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Words."""

    text: str

    def __str__(self) -> str:
        return self.text


AnswerValue = Number | Options | Literal | Formula | Text


def same(one: AnswerValue, other: AnswerValue) -> bool:
    """Say whether two final answers are the same.

    Symmetric, and not transitive: "5" is the same as "5 min" and as "5 h", which differ. So count with
    `agree.tally`, which makes one group only of answers that are all the same as each other.
    """
    if one == other:
        return True
    if isinstance(one, Literal) or isinstance(other, Literal):
        return _same_content(one, other)
    if isinstance(one, Number) and isinstance(other, Number):
        zeros = one.written and other.written
        return not zeros and one.value == other.value and units.agree(one.unit, other.unit)
    if isinstance(one, Options) and isinstance(other, Options):
        return one.letters == other.letters and _same_name(one.name, other.name)
    return isinstance(one, Text) and isinstance(other, Text) and _same_words(one.text, other.text)


def _same_content(one: AnswerValue, other: AnswerValue) -> bool:
    """A quoted text is the same as what is written without the quotes, to the character."""
    if isinstance(one, Literal) and isinstance(other, Literal):
        return one.text == other.text
    quoted, bare = (one, other) if isinstance(one, Literal) else (other, one)
    return isinstance(quoted, Literal) and quoted.content is not None and quoted.content == str(bare)


def _same_name(one: str, other: str) -> bool:
    if not one or not other:
        return True
    first, second = (frozenset(re.findall(r"\w+", name.casefold())) for name in (one, other))
    return first <= second or second <= first


_EXACT = re.compile(r"[\d'\"`()\[\]{}_=<>/\\]")
# Short answers whose case says nothing.
_SHORT = frozenset(("yes", "no", "true", "false", "none"))


def _same_words(one: str, other: str) -> bool:
    """Say whether two texts differ only as sentences, titles and headings do: "Paris", "paris", "PARIS"."""
    if one.casefold() != other.casefold():
        return False
    first, second = one.split(" "), other.split(" ")
    return len(first) == len(second) and all(map(_same_word, first, second))


def _same_word(one: str, other: str) -> bool:
    if one == other or one.casefold() in _SHORT:
        return True
    if _EXACT.search(one):
        return False
    plain = [word.islower() or word[1:].islower() or len(word) == 1 for word in (one, other)]
    return all(plain) or (
        len(one) > 3 and all(p or word.isupper() for p, word in zip(plain, (one, other), strict=True))
    )


def decimal(number: Fraction) -> str:
    """Return a number as a plain decimal, as a fraction where no decimal of 60 digits is exact."""
    if number.denominator == 1:
        return str(number.numerator)
    rest, digits = number.denominator, 0
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
            digits += 1
    if rest > 1 or digits > 60:
        return str(number)
    whole, part = divmod(abs(number.numerator) * 10**digits // number.denominator, 10**digits)
    decimals = f"{part:0{digits}d}".rstrip("0")
    return f"{'-' * (number < 0)}{whole}.{decimals}"
