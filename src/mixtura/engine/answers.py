"""The final answer of a text: where it stands, and one form for all ways of writing it.

Drafts can only be counted if "18", "$18.00" and "18 dollars" are the same answer and "5x" is not 5. What is read is
never executed: literals are compared as text.
"""

import json
import re
from fractions import Fraction

import msgspec

_FENCE = re.compile(r"^\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_FIELD = re.compile(
    r"""["'](?:final[_ ])?answer["']\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\n,}\[{]+)""", re.IGNORECASE
)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_HASHES = re.compile(r"^\s{0,9}####\s{0,9}(\S[^\n]*)$", re.MULTILINE)
# White space is counted out, since a draft of nothing else must not take for ever to read.
_HEADED = re.compile(
    r"^[ \t]{0,9}(?:#{1,6}|\*\*|__)[ \t]{0,9}(?:final[ \t]{1,3})?answer[ \t]{0,3}:?[ \t]{0,3}(?:\*\*|__)?:?[ \t]{0,9}\n"
    r"\s{0,9}([^\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_SAID = re.compile(
    r"(?:^|[\n.!?:;,)]|\b(?:so|thus|therefore|hence),?\s|(?<!whether )(?<!if )\b(?=the\s))[*_#\s]{0,9}(?:the\s{1,3})?"
    r"(?:(?:final|correct|right|best)\s{1,3})?answer[*_]{0,3}\s{0,3}(?:is|[:=])[*_:\s]{0,9}([^\n]+)",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(r"[.;!?](?=\s|$)|,?\s+(?:because|since|as|so|which|where|given|hence)\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"^(?:(?:approximately|about|around|roughly|exactly|simply|equal to|option|choice|letter|answer)\s+)+",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^(?:\(([A-Za-z])\)|([A-Za-z])[.):])(?:\s.*)?$|^([A-Za-z])$", re.DOTALL)
_NUMBER = re.compile(r"(?:(?<![\w)])[-+])?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?%?")
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|fast|tall|heavy|deep|wide|often)\b|\b(?:calculate|compute|evaluate|solve)\b"
    r"|\bwhat(?:'s| is| was| are| were| will be) (?:the |her |his |its |their )?(?:\w+ ){0,2}?(?:total|sum|value|number"
    r"|average|mean|difference|product|quotient|remainder|probability|area|perimeter|volume|cost|price|ratio"
    r"|percentage|percent|distance|speed|age|profit|amount)\b",
    re.IGNORECASE,
)
_JSON = json.JSONDecoder(strict=False)
_KEYS = ("answer", "final answer", "solution")
_MOST = 300
_MOST_OF_STRUCTURE = 10_000
_SHORT = 48
# Final answers stand at the end; a draft can be of any length.
_READ = 20_000
_OBJECTS = 10

# A quantity: sign and currency, a number, a denominator, what stands behind. Exponents have two digits at most: one
# such as in "1e999999999" would fill the memory.
_QUANTITY = re.compile(
    r"([-+]?)\s?[$€£]?\s?([-+]?)((?:\d+|(?=\.\d))(?:\.\d+)?(?:[eE][-+]?\d{1,2})?)(?:\s?/\s?(\d+))?(\s?)(.*)", re.DOTALL
)
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)\s?/\s?(\d+)")
_UNITS = frozenset(
    "% ° km m cm mm mi ft in yd kg g mg lb lbs oz t l ml s h hr hrs min mins sec d mph kmh gb mb kb w kw kwh v j n hz "  # noqa: SIM905
    "m² cm² km² m³ cm³ m^2 cm^2 km/h m/s usd eur".split()
)
_WORDS = re.compile(r"[a-z]+(?:[ -][a-z]+){0,5}")
# Words behind a number that make it another number, time or list.
_NOT_UNITS = frozenset(
    "am pm and or to x times plus minus divided over squared cubed pi th january february march april may june july "  # noqa: SIM905
    "august september october november december jan feb mar apr jun jul aug sep sept oct nov dec bc ad".split()
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ASSIGNED = re.compile(r"^[A-Za-z](?:_\w)?\s*=\s*(?=[^=])")

# Commands that models break by writing LaTeX into JSON with a single backslash: the JSON escapes \f, \t, \b and \r
# then swallow their first letter.
_BROKEN = {"\x0crac": "\\frac", "\text": "\\text", "\times": "\\times", "\x08oxed": "\\boxed", "\right": "\\right"}
_LOOKS = re.compile(r"\\(?:left|right|displaystyle|quad|[,!;:()\[\]])|\^\s*\{?\\circ\}?|\\circ|\\(?=[$%#&_{}])")
_TEXT = re.compile(r"\\(?:text(?:rm|bf|it|sf)?|math(?:rm|bf|it)|boxed)\s*\{([^{}]*)\}")
_LATEX_FRACTION = re.compile(r"(\d)?\\[dt]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|(\d)\s*(\d))")


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


def states(text: str) -> bool:
    """Say whether `text` states a final answer in so many words."""
    return bool(_stated(text[-_READ:]))


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
    if "####" in text:
        for marked in reversed(_HASHES.findall(text)):
            if _is_value(marked):
                return str(marked)
    if not speaks_of_it:
        return ""
    said = _SAID.findall(text) or _HEADED.findall(text)
    return _first_value(str(said[-1])) if said else ""


def _is_value(marked: str) -> bool:
    """Tell a value behind `####` from a Markdown heading, which the same sign makes."""
    bare = marked.strip().strip("*_`$ ")
    if len(bare) > _SHORT:
        return False
    return bool(_OPTION.match(bare) or bare.lower() in ("yes", "no", "true", "false") or _quantity(bare))


def _of_json(text: str) -> str | None:
    """Return the answer in a JSON object as text; a structure (a filled-in grid, say) as JSON with sorted keys."""
    at = len(text)
    for _ in range(_OBJECTS):
        at = text.rfind("{", 0, at)
        if at < 0:
            return None
        try:
            found, _end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
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
    """Cut "42 apples, because ..." down to what is compared: the value, less hedges before and reasons behind it."""
    rest = rest.strip().replace("**", "").replace("__", "").strip("*_`$ ")
    if rest[:1] in "[{":
        return rest
    if option := _OPTION.match(rest):
        return option[1] or option[2] or option[3]
    return _HEDGE.sub("", _EXPLAINED.split(rest)[0].strip())


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
    if number := _quantity(value):
        return number
    if "\\" in value or "^" in value:
        return re.sub(r"\s+", "", value).casefold().rstrip(".")
    return re.sub(r"\s+", " ", value.casefold()).strip(" .!\"'*_`")


def _quantity(value: str) -> str:
    """Return a number with its unit as a plain number; "" for what is no single number."""
    plain = _THOUSANDS.sub("", value.replace("\u2212", "-")).strip().rstrip(".!").strip()
    if mixed := _MIXED.fullmatch(plain):
        return _as_number(f"{mixed[1]}{int(mixed[2]) * int(mixed[4]) + int(mixed[3])}/{mixed[4]}")
    found = _QUANTITY.fullmatch(plain)
    if not found or (found[1] and found[2]):
        return ""
    sign, number, below, space, behind = found[1] or found[2], found[3], found[4], found[5], found[6].strip().casefold()
    scale = _SCALES.get(behind.split(" ")[0])
    if scale:
        behind = behind.partition(" ")[2]
    words = behind.replace("-", " ").split()
    fits = not behind or behind in _UNITS or (bool(space or scale) and _WORDS.fullmatch(behind) is not None)
    if not fits or _NOT_UNITS.intersection(words) or (below and scale):
        return ""
    digits = _as_number(f"{sign}{number}" + (f"/{below}" if below else ""))
    return _as_number(str(Fraction(digits) * scale)) if digits and scale else digits


def _structure(value: str) -> str:
    """Return a literal or JSON without spaces and with one kind of quotes; JSON objects also without case."""
    bare = re.sub(r"\s+", "", value).replace("'", '"')
    if len(bare) > _MOST_OF_STRUCTURE:
        return ""
    return bare.casefold() if value[0] == "{" else bare


def _without_latex(value: str) -> str:
    if "\\" in value:
        value = _TEXT.sub(r" \1 ", _TEXT.sub(r" \1 ", value))
        value = _LOOKS.sub("", _LATEX_FRACTION.sub(_fraction, value)).strip()
    return _ASSIGNED.sub("", value)


def _fraction(found: re.Match[str]) -> str:
    before = f"{found[1]} " if found[1] else ""
    above, below = (
        part if re.fullmatch(r"\\?\w+", part) else f"({part})" for part in (found[2] or found[4], found[3] or found[5])
    )
    return f"{before}{above}/{below}"


def _unwrap(value: str) -> str:
    """Take off one pair of quotes, backticks, bold marks or dollar signs."""
    for mark in ("**", "__", '"', "'", "`", "$"):
        if len(value) > 2 * len(mark) and value.startswith(mark) and value.endswith(mark):
            return value[len(mark) : -len(mark)].strip()
    return value


def _as_number(text: str) -> str:
    if len(text) > 100:
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
