"""Numbers with their units, as people and models write them."""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from mixtura.engine.answers import units
from mixtura.engine.answers.values import Number

# Grouped by commas (also 1,00,000), by spaces, apostrophes or underscores, by full stops where there are several of
# them or a decimal comma behind, or not at all.
_DIGITS = (
    r"(?:[1-9]\d{0,2}(?:\.\d{3})+,\d{1,2}(?![\d,])|[1-9]\d{0,2}(?:\.\d{3}){2,}(?![\d.])"
    r"|[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?!\d)|[1-9]\d{0,2}(?:[ '’_]\d{3})+(?!\d)|\d+)"
)
_NUMBER = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{{1,2}}(?!\d))?"
_SIGN = r"(?:(?:minus|negative)\s|[-+])?"
_QUANTITY = re.compile(
    rf"({_SIGN})\s?({units.CURRENCY})?\s?({_SIGN})({_NUMBER})(?:\s?/\s?(\d+(?:,\d{{3}})*))?(\s*)(.*)",
    re.DOTALL | re.IGNORECASE,
)
_MIXED = re.compile(r"([-+]?)(\d+)(\s+|\s?\+\s?)(\d+)\s?/\s?(\d+)(\s*)(.*)", re.DOTALL)
_POWER_OF_TEN = re.compile(
    r"(?:×|x|\*|·|\\times|\\cdot)\s*10\s*\^\s*(?:\{\s*([-+]?\d{1,2})\s*\}|\(?([-+]?\d{1,2})\)?)(?!\d)\s*"
)
_HEDGE = re.compile(r"^(?:[~≈≃≅∼]|\\approx|\\sim)\s*")
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}\b")
_MOST = 100

_ODD = {ord(sign): "-" for sign in "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d\u207b"}
_ODD |= {ord(space): " " for space in "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"}
_ODD |= {
    ord("\u066b"): ".",
    ord("\u066c"): ",",
    ord("\uff0e"): ".",
    ord("\uff0c"): ",",
    ord("\u2044"): "/",
    ord("＋"): "+",
}
_ODD |= {ord(sign): "" for sign in "\u200b\u200e\u200f\u2060\u2061\u2062\u2063\ufeff\u061c\u2066\u2067\u2068\u2069"}

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()  # noqa: SIM905
_ONES += "seventeen eighteen nineteen".split()  # noqa: SIM905
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_WORDS = {word: value for value, word in enumerate(_ONES)} | {word: 10 * (at + 2) for at, word in enumerate(_TENS)}
_WORDS |= {
    f"{ten}-{one}": 10 * (at + 2) + value for at, ten in enumerate(_TENS) for value, one in enumerate(_ONES[1:10], 1)
}


_SPELLED_SIGN = re.compile(r"(?:minus|negative)\s", re.IGNORECASE)


def plain(text: str) -> str:
    """Return `text` with digits, signs, fractions and spaces as ASCII writes them."""
    if text.isascii():
        return text
    text = text.translate(_ODD)
    if text.isascii():
        return text
    return "".join(char if char.isascii() else _ascii(char, text[at - 1 : at]) for at, char in enumerate(text))


def _ascii(char: str, before: str) -> str:
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    if unicodedata.category(char) == "No" and "<fraction>" in (made := unicodedata.decomposition(char)):
        whole = "".join(chr(int(code, 16)) for code in made.split()[1:]).replace("\u2044", "/")
        return f" {whole}" if before.isdigit() else whole
    return char


def read(value: str) -> Number | None:
    """Return the number that `value` is, with its unit; None for what is no single number."""
    text = _HEDGE.sub("", plain(value)).strip()
    if text.endswith(("...", "…")) or _ADDRESS.match(text):
        return None
    text = text.rstrip(".").strip()
    if not text:
        return None
    if text[0].isalpha() and (spelled := _spelled(text)):
        return spelled
    if mixed := _MIXED.fullmatch(text):
        return _mixed(mixed)
    found = _QUANTITY.fullmatch(text)
    if not found or (found[1] and found[3]):
        return None
    money, behind, attached = found[2] or "", found[7].strip(), not found[6]
    factor = Fraction(1)
    if power := _POWER_OF_TEN.match(behind):
        exponent = int(power[1] or power[2])
        factor, behind = Fraction(10) ** exponent, behind[power.end() :]
    measure = units.read(behind, attached=attached and bool(behind), money=money)
    if measure is None or (found[5] and measure.scale != 1):
        return None
    negative = (found[1] or found[3] or "+").lstrip()[0] in "-mMnN"
    return _number(found[4], found[5], negative, factor * measure.scale, measure.unit)


def _number(digits: str, below: str | None, negative: bool, factor: Fraction, unit: str) -> Number | None:
    if len(digits) > _MOST or (below and len(below) > _MOST):
        return None
    bare = _ungrouped(digits)
    if bare.isdigit() and not below:
        value = Fraction(int(bare))
    else:
        try:
            value = Fraction(bare) / int((below or "1").replace(",", ""))
        except ZeroDivisionError:
            return None
    value = -value * factor if negative else value * factor
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4 * _MOST:
        return None
    # "007" is 7 and not "07": where a text of digits is asked for, its zeros count.
    written = (
        bare if len(bare) > 1 and bare[0] == "0" and bare.isdigit() and factor == 1 and not (below or negative) else ""
    )
    return Number(value=value, unit=unit, written=written)


def _ungrouped(digits: str) -> str:
    bare = re.sub(r"[ '’_]", "", digits)
    head, comma, tail = bare.rpartition(",")
    if comma and "." in head and len(tail) < 3:
        return f"{head.replace('.', '')}.{tail}"
    if bare.count(".") > 1:
        return bare.replace(".", "")
    return bare.replace(",", "")


def _mixed(found: re.Match[str]) -> Number | None:
    sign, whole, joint, above, below, space, behind = found.groups()
    if sign == "-" and "+" in joint:
        return None
    measure = units.read(behind.strip(), attached=not space and bool(behind))
    if measure is None or measure.scale != 1 or len(found[0]) > _MOST or int(below) == 0 or int(above) >= int(below):
        return None
    value = int(whole) + Fraction(int(above), int(below))
    return Number(value=-value if sign == "-" else value, unit=measure.unit)


def _spelled(text: str) -> Number | None:
    """Return a number in English words up to ninety-nine, with its unit."""
    sign = _SPELLED_SIGN.match(text)
    word, _, behind = text[sign.end() if sign else 0 :].partition(" ")
    value = _WORDS.get(word.lower())
    if value is None:
        return None
    measure = units.read(behind.strip(), attached=False)
    return None if measure is None else Number(value=(-value if sign else value) * measure.scale, unit=measure.unit)


# A number in a running text. A word, a bracket or a number before a sign makes it an operator, and a line a bullet.
_IN_TEXT = re.compile(
    rf"(?:(?<![\w)\]])[-+](?=[\d.$€£₹])|(?<!\d\s)\b(?i:minus|negative)\s(?=[\d.$€£₹]))?(?:{units.CURRENCY}\s?(?:[-+](?=\d))?)?"
    rf"(?:(?<![\d.])\d{{1,9}}\s\d{{1,3}}/\d{{1,9}}(?!\d)|{_NUMBER}(?:\s?/\s?\d{{1,99}}(?![\d/])|\s?[x×*·]\s?10\^\{{?[-+]?\d{{1,2}}\}}?(?!\d))?)"
)
_BESIDE = re.compile(r"[\w^_:/]$|\d[.,]$")
_GOES_ON = re.compile(r"\s?[\^_:×*·+/-]\s?[\d({]|\w")


# What stands round a number and makes it another value, or a bound of it.
_CHANGED_BEFORE = re.compile(
    r"(?:[-–—−]\s?\(?|[√|^<>≤≥≠!(]|\\[a-z]{2,9}\s?\{?|\w\s?[-+*/×·]\s?|-\s?\w{1,3}\.?\s?"
    r"|\b(?:not|than|least|most|over|under|below|above|between|ln|log|sin|cos|tan|sqrt|root|and"
    r"|(?:loss|debt|deficit) of)\s?)"
    r"[$€£₹]?$",
    re.IGNORECASE,
)
_CHANGED_BEHIND = re.compile(
    r"[$\s]{0,2}(?:[\\πθ√^!|²³\u2070-\u209f]|\*{1,2}\s?[\w(]|[×·/+-]|(?:[a-z]?\.?m\.?\b(?<=\.m)|[ap]\.m)"
    r"|(?:squared|cubed|factorial|hundred|thousand|million|billion|score|dozens?|halves|half|quarters?|thirds?|choose"
    r"|mod|percentile|in base|[a-z]{3,9}(?:th|ths)\b"
    r"|and (?:a|an|one|two|three|four|five|six|seven|eight|nine|ten|[a-z]+teen|[a-z]+ty)\b"
    r"|ago|below|above|less|more|fewer|repeating|recurring)\b)",
    re.IGNORECASE,
)


class Standing(NamedTuple):
    """A number in a text, what stands before and behind it, and whether it is free of signs that make it another."""

    number: Number
    before: str
    behind: str
    free: bool


# How far before the last digit its number is looked for, first and then.
_WINDOWS = (60, 400, 20_000)


def last(text: str) -> Standing | None:
    """Return the last number of a running text, with the scale and the unit behind it."""
    text = plain(text)
    end = max(map(text.rfind, "0123456789")) + 1
    for window in _WINDOWS if end else ():
        start = max(0, end - window)
        found = list(_standing_alone(text, start, end))
        if found and (found[-1].start() > start or not start):
            return _standing(text, found[-1])
        if not start:
            return None
    return None


def count(text: str) -> int:
    """Return how many numbers stand in a text."""
    text = plain(text)
    return sum(1 for _ in _standing_alone(text, 0, len(text)))


def _standing_alone(text: str, start: int, end: int) -> Iterator[re.Match[str]]:
    """Yield the numbers that are no part of a word and no power: not the 2 of "cm^2", "x2" or "H2O"."""
    for found in _IN_TEXT.finditer(text, start, end):
        before = text[max(0, found.start() - 2) : found.start()]
        if not before or not (before[-1] in "^_" or before[-1].isalpha() or before in ("^{", "_{", "^-")):
            yield found


def _standing(text: str, found: re.Match[str]) -> Standing | None:
    written, behind = found[0], text[found.end() : found.end() + 60].replace("\n", ".")
    number = read(written)
    if number is None:
        return None
    end = found.end()
    for said in units.running(behind):
        if (measured := read(written + said)) is not None:
            number, end = measured, end + len(said)
            break
    before, after = text[: found.start()], text[end:]
    alone = not _BESIDE.search(before[-2:]) and not _GOES_ON.match(after)
    return Standing(
        number, before, after, alone and not _CHANGED_BEFORE.search(before[-20:]) and not _CHANGED_BEHIND.match(after)
    )
