"""LaTeX and expressions: what is only for the eye taken off, and one spelling for the rest."""

import re

from mixtura.engine.answers.values import Formula

# Commands that models break by writing LaTeX into JSON with a single backslash: the JSON escapes \f, \t, \b and \r
# then swallow their first letter.
_BROKEN = re.compile(
    r"\x0c(?=rac|orall)|\x08(?=oxed|eta|ar\b|inom|ot\b)|\t(?=ext|imes|heta|au\b|an\b|o\b|riangle)|\r(?=ight|ho\b|angle)"
    r"|\n(?=eq\b|u\b|abla\b|otin\b|e\b)"
)
_LETTER = {"\x0c": "f", "\x08": "b", "\t": "t", "\r": "r", "\n": "n"}
_LOOKS = re.compile(
    r"\\(?:left|right|displaystyle|quad|qquad|limits|[,!;:()\[\]> ])(?![a-zA-Z])"
    r"|\^\s*\{?\\circ\}?|\\circ\b|\\(?=[$%#&_{}])|~"
)
_TEXT = re.compile(
    r"\\(?:text(?:rm|bf|it|sf|tt)?|math(?:rm|bf|it|sf|tt|bb)?|mbox|hbox|boxed|fbox|operatorname|bm)\s*\{([^{}]*)\}"
)
_ORDINAL = re.compile(r"\^\s*\{?\s*(st|nd|rd|th)\b\s*\}?")
_FRACTION = re.compile(r"(\d)?\s*\\[dtc]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|(\d)\s*(\d)|\{([^{}]*)\}\s*(\d))")
_ONE_TERM = re.compile(r"\d+(?:[.,]\d+)?|\\?[a-zA-Z]|\\[a-zA-Z]+")
_ROOT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|\\circ\b")
_ASSIGNED = re.compile(r"^(?:\\?[A-Za-z]+|[A-Za-z])(?:_\{?\w{1,3}\}?)?(?:\([a-z]\))?\s*(?:=\s*(?=[^=])|\\in\b\s*|∈\s*)")
# Names of which a text has several, and equations between two of them.
_BOUND = re.compile(
    r"\\?(?:min|max|left|right|lower|upper|first|second|mean|median|mode)\b|[A-Z]\s?=\s?[A-Z]\s*$", re.IGNORECASE
)
_SPELLINGS = {
    "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∪": "\\cup ", "∩": "\\cap ",
    "∅": "\\emptyset ", "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "±": "\\pm ", "→": "\\to ", "∈": "\\in ",
    "²": "^2", "³": "^3", "\u2212": "-",
}  # fmt: skip
_LONGER = re.compile(r"\\(leq|geq|neq|rightarrow|dfrac|tfrac|cfrac|lbrace|rbrace|left|right|varnothing)\b")
_SHORTER = {"leq": "le", "geq": "ge", "neq": "ne", "rightarrow": "to", "varnothing": "emptyset"}
_ROOT_SIGN = re.compile(r"√\s?(?:\(([^()]*)\)|(\w+))")
_EXPRESSION = re.compile(r"[\w\s.,+\-*/^=<>()\[\]{}|!'√π∞≤≥≠²³×·÷±]+")
_LONG_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = frozenset("sin cos tan cot sec csc log exp sqrt lim max min mod gcd lcm det arcsin arccos arctan".split())  # noqa: SIM905


def mended(value: str) -> str:
    """Return the text of a JSON field with the LaTeX commands whole that its escapes broke."""
    return _BROKEN.sub(lambda found: "\\" + _LETTER[found[0]], value)


def plain(value: str) -> str:
    """Return `value` without what LaTeX adds for the eye, and without the variable that it is assigned to."""
    if "\\" in value or "{" in value:
        value = value.replace("{,}", ",")
        value = _DEGREES.sub("°", value)
        for _ in range(3):
            value, before = _TEXT.sub(r" \1 ", value), value
            if value == before:
                break
        value = _LOOKS.sub("", _FRACTION.sub(_fraction, _LONGER.sub(_shorter, value))).strip()
        value = re.sub(r"\s+(?=\^)", "", value)
        value = _ORDINAL.sub(r"\1", value)
    if ("=" in value or "\\in" in value or "∈" in value) and not _BOUND.match(value):
        value = _ASSIGNED.sub("", value, count=1)
    return value


def read(value: str) -> Formula | None:
    """Return the formula that `value` is, None for words."""
    if "\\" not in value and "^" not in value and not _is_expression(value):
        return None
    for sign, spelled in _SPELLINGS.items():
        if sign in value:
            value = value.replace(sign, spelled)
    value = _ROOT_SIGN.sub(lambda found: f"\\sqrt{{{found[1] or found[2]}}}", value)
    value = re.sub(r"\^\{(\w)\}", r"^\1", _ROOT.sub(r"\\sqrt{\1}", value))
    # A command ends where white space does, so that stays behind its letters.
    value = re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", "\\1\0", value)
    return Formula(text=re.sub(r"\s+", "", value).replace("\0", " ").rstrip(".")) if value.strip() else None


def _is_expression(value: str) -> bool:
    """Say whether signs and short names are all there is: "2x + 3", "n!", "x > 5"."""
    if not _EXPRESSION.fullmatch(value) or not re.search(
        r"\d[a-zA-Z]|[a-zA-Z0-9)]\s?[+*/=<>^√≤≥≠×·÷±|]|\w\s-\s?\w|√|π|\d!", value
    ):
        return False
    return all(word.lower() in _FUNCTION for word in _LONG_WORD.findall(value))


def _shorter(found: re.Match[str]) -> str:
    name = found[1]
    if name in ("left", "right"):
        return ""
    if name in ("lbrace", "rbrace"):
        return "\\{" if name[0] == "l" else "\\}"
    return "\\" + _SHORTER.get(name, "frac")


def _fraction(found: re.Match[str]) -> str:
    before = f"{found[1]} " if found[1] else ""
    above, below = (found[2] or found[4] or found[6] or "").strip(), (found[3] or found[5] or found[7] or "").strip()
    sign = ""
    for part in (above, below):
        if re.fullmatch(r"-\s?\w+", part):
            sign = "" if sign else "-"
    above, below = (re.sub(r"^-\s?(?=\w+$)", "", part) for part in (above, below))
    above, below = (
        part if re.fullmatch(r"\d+(?:[.,]\d+)?|\\?[a-zA-Z]|\\[a-zA-Z]+", part) else f"({part})"
        for part in (above, below)
    )
    text, start, end = found.string, found.start(), found.end()
    beside = (not before and text[:start].rstrip()[-1:].isalnum()) or text[end : end + 1].isdigit()
    return f"({before}{sign}{above}/{below})" if beside else f"{before}{sign}{above}/{below}"
