"""The final answer of a text: where it stands, and one form for all ways of writing it.

Drafts can only be counted if "18", "$18.00" and "18 dollars" are the same answer and "5x" is not 5. What is read is
never executed: literals are compared as text.
"""

import re
from fractions import Fraction
from typing import Any

import msgspec

_FENCE = re.compile(r"^\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_FIELD = re.compile(
    r"""["'](?:final[_ ])?answer["']\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\n,}]+)""", re.IGNORECASE
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_HASHES = re.compile(r"^\s*####\s*(.+?)\s*$", re.MULTILINE)
# White space is counted out, since a draft of nothing else must not take for ever to read.
_SAID = re.compile(
    r"(?:^|[\n.!?:;,)]|\b(?:so|thus|therefore|hence),?\s)[*_#\s]{0,9}(?:the\s{1,3})?(?:(?:final|correct)\s{1,3})?answer"
    r"\s{0,3}(?:is|[:=])[*_:\s]{0,9}([^\n]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^(?:\(([A-Za-z])\)|([A-Za-z])[.):])(?:\s.*)?$|^([A-Za-z])$", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\$?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?%?")
_FRACTION = re.compile(r"^[-+]?\d+\s*/\s*\d+$")
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|fast|tall|heavy|deep|wide|often)\b|\b(?:calculate|compute|evaluate|solve)\b"
    r"|\bwhat(?:'s| is| was| are| were| will be) (?:the |her |his |its |their )?(?:\w+ ){0,2}?(?:total|sum|value|number"
    r"|average|mean|difference|product|quotient|remainder|probability|area|perimeter|volume|cost|price|ratio"
    r"|percentage|percent|distance|speed|age|profit|amount)\b",
    re.IGNORECASE,
)
_KEYS = ("answer", "final answer", "solution")
_MOST = 300
_MOST_OF_STRUCTURE = 10_000
_SHORT = 48
# Final answers stand at the end; a draft can be of any length.
_READ = 20_000

# Commands of LaTeX that say how a value looks, and those that models break by writing them into JSON with a single
# backslash: the JSON escapes \\f, \\t, \\b, \\r and \\n then swallow their first letter.
_BROKEN = {"\x0crac": "\\frac", "\text": "\\text", "\times": "\\times", "\x08oxed": "\\boxed", "\right": "\\right"}
_LOOKS = re.compile(
    r"\\(?:left|right|displaystyle|,|!|;|:|quad|circ)|\^\s*\{?\\circ\}?|\\(?=[$%#&_{}])|\\text(?:rm|bf|it)?\s*\{[^{}]*\}"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\\[dt]?frac\s*(\d)\s*(\d)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ASSIGNED = re.compile(r"^[A-Za-z](?:_\w)?\s*=\s*(?=[^=])")


def extract(text: str, *, lenient: bool = False) -> str:
    r"""Return the final answer of `text` in a normal form that can be compared, "" when it states none.

    Looked for, in this order: an `answer` field of a JSON object, `\boxed{}`, `#### x`, "the answer is x",
    the last number (when lenient), and a text so short that it is itself the answer.

    Args:
        text: a draft.
        lenient: take the last number of the text when no answer is stated; right where a number is asked for
            (see `asks_number`), misleading elsewhere.
    """
    text = text[-_READ:]
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
    lower = text.lower()
    speaks_of_it = "answer" in lower
    if (speaks_of_it or "solution" in lower) and ("{" in text or "':" in text or '":' in text):
        inner = _FENCE.match(text)
        value = _of_json((inner[1] if inner else text).strip())
        if value is not None:
            return value
        if fields := _FIELD.findall(text):
            return str(fields[-1]).strip().replace('\\"', '"').replace("\\\\", "\\")
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


def _of_json(text: str) -> str | None:
    """Return the answer in a JSON object as text; a structure (a filled-in grid, say) as JSON with sorted keys."""
    if not text.startswith("{"):
        return None
    try:
        found: Any = msgspec.json.decode(text.encode("utf-8", "replace"), strict=False)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    by_key = {str(key).lower().replace("_", " "): value for key, value in found.items()}
    for key in _KEYS:
        if (value := by_key.get(key)) is not None:
            return _mended(value) if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
    return None


def _mended(value: str) -> str:
    for broken, whole in _BROKEN.items():
        value = value.replace(broken, whole)
    return value


def _first_value(rest: str) -> str:
    """Cut "42 apples, because ..." down to what is compared: a number or an option when the words begin so."""
    rest = rest.strip().strip("*_`$ ")
    if option := _OPTION.match(rest):
        return option[1] or option[2] or option[3]
    if _FRACTION.match(rest) or rest[:1] in "[({'\"\\":
        return rest
    if number := _NUMBER.match(rest):
        return number[0]
    return re.split(r"(?<=[^\d])[.;](?:\s|$)", rest)[0]


def normal(value: str) -> str:
    """Return `value` as it is compared.

    Numbers become plain decimals (fractions where no decimal is exact), options a capital letter, literals and JSON
    lose their spaces, other text its case and outer punctuation. Too long a text is "": it is no final answer.
    """
    value = _without_latex(_unwrap(_unwrap(value.strip())))
    if value[:1] in ("[", "{"):
        return _structure(value)
    if not value or len(value) > _MOST:
        return ""
    if option := _OPTION.match(value):
        return str(option[1] or option[2] or option[3]).upper()
    if value[0] == "(":
        return _structure(value)
    plain = _THOUSANDS.sub("", re.sub(r"[$€£\s]", "", value.rstrip(".")))
    if number := _as_number(plain):
        return number
    # "18 dollars", "3.5 km": a unit stands beside the number; "5x" is algebra.
    leading = re.fullmatch(r"([-+]?[\d.]+)(%|[a-zA-Z²³°/]{1,20})", plain)
    if leading and (len(leading[2]) > 1 or leading[2] in "%gmslLhd") and (number := _as_number(leading[1])):
        return number
    return re.sub(r"\s+", " ", value.casefold()).strip(" .!\"'")


def _structure(value: str) -> str:
    """Return a literal or JSON without spaces and with one kind of quotes; JSON objects also without case."""
    bare = re.sub(r"\s+", "", value).replace("'", '"')
    if len(bare) > _MOST_OF_STRUCTURE:
        return ""
    return bare.casefold() if value[0] == "{" else bare


def _without_latex(value: str) -> str:
    if "\\" in value:
        value = _LATEX_FRACTION.sub(lambda found: f"{found[1] or found[3]}/{found[2] or found[4]}", value)
        value = _LOOKS.sub("", value)
    return _ASSIGNED.sub("", value)


def _unwrap(value: str) -> str:
    """Take off one pair of quotes, backticks, bold marks or dollar signs."""
    for mark in ("**", "__", '"', "'", "`", "$"):
        if len(value) > 2 * len(mark) and value.startswith(mark) and value.endswith(mark):
            return value[len(mark) : -len(mark)].strip()
    return value


def _as_number(text: str) -> str:
    # Exponents are bounded before they are computed: "1e999999999" would fill the memory.
    if len(text) > 100 or re.search(r"[eE][-+]?\d{3}", text) or not text[-1:].isdigit():
        return ""
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return ""
    rest, digits = number.denominator, 0
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
            digits += 1
    if rest > 1 or digits > 60:
        return str(number)
    whole, part = divmod(abs(number.numerator) * 10**digits // number.denominator, 10**digits)
    decimals = f"{part:0{digits}d}".rstrip("0") if digits else ""
    return f"{'-' * (number < 0)}{whole}" + (f".{decimals}" if decimals else "")
