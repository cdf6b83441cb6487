"""A stated value as a typed answer."""

import re
from fractions import Fraction

from mixtura.engine.answers import latex, literals, numbers, options
from mixtura.engine.answers.values import AnswerValue, Formula, Literal, Number, Text

_MOST = 300
_NOTHING = re.compile(
    r"(?:i(?: am|'m| do| don't| cannot| can't)?(?: not)? (?:really |honestly )?"
    r"(?:know|sure|tell|certain|say)\b.{0,60}"
    r"|i (?:cannot|can't|could not|couldn't|am unable to|'m unable to) (?:"
    r"answer|determine|find|solve|compute|work)\b.{0,60}"
    r"|idk|dunno|no idea|not sure|not known|unsure|unknown|unclear|undetermined|n/?a|tbd|\?+|\.{2,}|…|_+|-+"
    r"|[\[<{(](?:your |the |final |insert )?(?:final )?(?:answer|value|number|result|letter|option)(?: here)?[\]>})]"
    r"|no (?:lo )?sé.{0,20}|je ne sais pas.{0,20}|(?:eu )?não sei.{0,20}|(?:ich )?weiß (?:ich |es )?nicht.{0,20}"
    r"|(?:я )?не знаю.{0,20}|(?:我)?不(?:知道|清楚|确定).{0,10}"
    r"|わかりません|分かりません|(?:मुझे )?(?:नहीं पता|पता नहीं).{0,10}"
    r"|لا أعرف.{0,10}|(?:আমি )?জানি না.{0,10}|(?:saya )?tidak tahu.{0,20})",
    re.IGNORECASE | re.DOTALL,
)
_QUICK_NOTHING = re.compile(
    r"[\W_]*$|.{0,40}(?:know|sure|tell|certain|say|answer|determine|find|solve|compute|work|sais|sei|tahu|idk|dunno|idea|unknown|unclear|undeter|n/?a|tbd)|[\[<{(]|[^\x00-\x7f]",
    re.IGNORECASE | re.DOTALL,
)
_MARKS = ("**", "__", "`", "$$", "$", "\\(", "\\[")
_CLOSING = {"\\(": "\\)", "\\[": "\\]"}
_OPENING = "[{(\"'"
_CLOCK = re.compile(r"(\d{1,2})(?::00|:(\d\d))?\s?([ap])\.?\s?m\.?", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"-?[1-9][0-9]{0,17}|0")
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def parse(value: str, *, literal: bool = False) -> AnswerValue | None:
    """Return what `value`, which is nothing but an answer, is; None for none.

    Args:
        value: a final answer as a model or a person writes it.
        literal: a value in code is asked for, where a text without quotes is a string.
    """
    if _WHOLE_NUMBER.fullmatch(value):
        return Number(value=Fraction(int(value)))
    if literal:
        return _in_code(value)
    bare = unwrapped(value.strip())
    if not bare or is_nothing(bare):
        return None
    if bare[0] in _OPENING and (found := literals.read(bare)):
        if found.text[0] in '[{("' or found.content is not None:
            return Literal(text=found.text, content=found.content) if not _is_option(bare) else options.read(bare)
        if found.text != bare:
            return options.read(bare) or parse(found.text)
    if len(bare) > _MOST:
        return None
    return _bare(bare)


def _is_option(bare: str) -> bool:
    return bare[0] == "[" and len(bare) == 3 and bare[1].isupper()


def _bare(bare: str) -> AnswerValue | None:
    bare = unwrapped(latex.plain(bare)).strip()
    if not bare or is_nothing(bare):
        return None
    chosen = options.read(bare)
    if chosen is not None:
        return None if chosen == options.UNDECIDED else chosen
    number = numbers.read(bare)
    if number is not None:
        return number
    if bare[0] in "[{":
        found = literals.read(bare) if "\\" not in bare else None
        return found or Literal(text=literals.squeezed(bare))
    if bare[0] == "(" and "\\" not in bare and (found := literals.read(bare)) and found.text[0] == "(":
        return found
    formula = latex.read(bare.rstrip("."))
    if formula is not None:
        return formula
    if bare[0] == "(" and not re.search(r"[^\W\d_]{3}", bare):
        return Formula(text=literals.squeezed(bare))
    return _text(bare)


def _text(bare: str) -> Text | None:
    if clock := _CLOCK.fullmatch(bare.rstrip(" .")):
        minutes = f":{clock[2]}" if clock[2] and clock[2] != "00" else ""
        return Text(text=f"{int(clock[1])}{minutes} {clock[3].lower()}m")
    text = " ".join(bare.split()).rstrip(" .!。।").strip()
    return Text(text=text) if text else None


def _in_code(value: str) -> AnswerValue | None:
    bare = value.strip()
    for mark in ("```", "`", "**"):
        if len(bare) > 2 * len(mark) and bare.startswith(mark) and bare.endswith(mark):
            bare = bare[len(mark) : -len(mark)].strip()
    if not bare and not value:
        return literals.string("")
    found = literals.read(bare)
    if found and (found.text[0] in '[{("b' or found.content is not None):
        return found
    if re.fullmatch(r"_{2,}|\.{3}|…", bare):
        return None
    if len(value) - len(value.strip()) < 2:  # White space on both sides belongs to a string.
        if bare in ("True", "False", "None", "true", "false", "null"):
            return Text(text=bare)
        if _PLAIN_NUMBER.fullmatch(bare) and (number := numbers.read(bare)):
            return number
    return literals.string(value) if len(value) <= 10_000 else None


def unwrapped(value: str) -> str:
    """Take off pairs of bold marks, backticks and dollar signs, three at most."""
    for _ in range(3):
        for mark in _MARKS:
            end = _CLOSING.get(mark, mark)
            if len(value) > len(mark) + len(end) and value.startswith(mark) and value.endswith(end):
                inner = value[len(mark) : -len(end)]
                if mark not in inner:
                    value = inner.strip()
                    break
        else:
            break
    return value


def is_nothing(value: str) -> bool:
    """Say whether `value` says that there is no answer, or is a place left open for one."""
    if len(value) > 100 or not _QUICK_NOTHING.match(value):
        return False
    return _NOTHING.fullmatch(value.replace("’", "'").strip(" .!")) is not None or not value.strip(" .!*_")
