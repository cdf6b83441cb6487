"""Options of a multiple-choice question, and the names that look like them."""

import re

from mixtura.engine.answers.values import Options

_ONE = re.compile(
    r"(?:\(([A-Za-z])\)[:.]?|\[([A-Z])\]|([A-Z][:)]|[a-z]\))|([A-Za-z])\.)(?:\s+(.*))?|([A-Za-z])", re.DOTALL
)
_DASHED = re.compile(r"([A-Z])\s[-–—]\s(?=[^\W\d_]{2})(?!.{0,200}\b[A-Z]\s[-–—]\s)", re.DOTALL)
_SEVERAL = re.compile(
    r"(?:(?:both|all of)\s)?\(?[A-Z]\)?(?:\s?(?:,\s?and|,|&|\+|/|;|and)\s?\(?[A-Z]\)?(?![\w'’])){1,25}[.)]?"
)
_SAID = re.compile(r"(?:[Oo]ption|[Cc]hoice)s?\s+(?=\(?[A-Z]\b)")
_LABEL = re.compile(r"(?<!\w)\(?([A-Z])\)")
_JOINED = re.compile(r"\b(?:and|both)\b|&|\+")
_OPEN = re.compile(r"\bor\b|\beither\b|\bbetween\b", re.IGNORECASE)
_INITIAL = re.compile(r"[A-Z]\.")
_NAMES = re.compile(r"(?:[^\W\d_a-z][\w'’-]*[.,]?\s?|(?:de|da|di|van|von|der|den|del|la|le|bin|al|of|the)\s){1,5}")
# What a sentence or an option's text begins with, and no name does.
_OPENERS = frozenset(
    "a an the this that these those it its he she they we i you there here because since as so if when while where "  # noqa: SIM905
    "which what who how why to by for from in on at of with and but or not no yes all both none neither either only "
    "each every some any most many few such therefore thus hence then option choice answer explanation reason "
    "reasoning note is are was were option's correct however although according given based wait actually sorry hmm "
    "let let's hold oops".split()
)
# What says of several labels what each is, or puts them in order: no choice among them.
_VALUES = re.compile(
    r"^(?:and|,|&)?\s?\(?[a-z]{2,4}\)|→|->|(?:^|\s)>\s?\(?[A-Z]\b|\b(?:both|all|are|is) wrong\b"
    r"|\d[^()\n]{0,40}(?:\(\w\)|\b[A-Z]\s?[):])\s?\d"
    r"|^(?:is|are|was) (?:not|in|wrong|incorrect|false)"
)
_LAST_LABEL = "J"
UNDECIDED = Options(letters="")


def read(value: str) -> Options | None:
    """Return the options that `value` names, None for none of them, `UNDECIDED` where it leaves open which."""
    if value[0] in "oOcC" and (said := _SAID.match(value)):
        value = value[said.end() :]
    if len(value) > 2 and (found := _SEVERAL.fullmatch(value)):
        letters = re.findall(r"[A-Z]", found[0])
        # One that stands twice is no choice: "T, F, T".
        return Options(letters=_sorted(letters)) if len(set(letters)) == len(letters) else None
    if dashed := _DASHED.match(value):
        return Options(letters=dashed[1])
    found = _ONE.fullmatch(value)
    if not found:
        return _open(value)
    label = (found[1] or found[2] or found[3] or found[4] or found[6])[0]
    behind = (found[5] or "").strip()
    if _VALUES.search(behind) or (found[3] and label > _LAST_LABEL and behind[:1].isdigit()):
        return None
    more = _LABEL.findall(behind)
    if more:
        if _OPEN.search(behind):
            return UNDECIDED
        if _JOINED.search(behind) or "," in behind:
            return Options(letters=_sorted([label.upper(), *more]))
    if found[4] and behind:
        if _INITIAL.match(behind):
            return None  # "J. K. Rowling"
        return (
            Options(letters=label.upper(), name=_name(behind)) if label.isupper() or not behind[0].isdigit() else None
        )
    if re.match(r"or\s+\(?[A-Z]\b", behind):
        return UNDECIDED
    if re.match(r"and\s+[A-Z]\b", behind):
        return Options(letters=_sorted([label.upper(), behind.split()[1][0]]))
    return Options(letters=label.upper())


def _open(value: str) -> Options | None:
    if len(value) < 24 and re.fullmatch(r"(?:either\s)?\(?[A-Z]\)?(?:,\s?\(?[A-Z]\)?)*,?\sor\s\(?[A-Z]\)?", value):
        return UNDECIDED
    return None


def _sorted(letters: list[str]) -> str:
    return "".join(sorted(set(letters)))


def _name(behind: str) -> str:
    """Return the words behind "C." that can be the rest of a name: "C. Darwin" is not "C. Dickens"."""
    found = _NAMES.match(behind)
    words = found[0].split() if found else []
    whole = behind.split()
    if not words and len(whole) <= 3:
        words = whole  # "E. coli"
    if not words or (words[0].strip(".,").lower() in _OPENERS and len(whole) > 1):
        return ""
    return " ".join(word.strip(".,") for word in words)
