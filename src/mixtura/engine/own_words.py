"""Our own words in an answer: the fence round drafts, our instructions, talk of drafts that its reader never saw.

An aggregator that copies them has lost its task, so what it wrote is no answer. What the conversation says itself is
no word of ours: who asks about drafts, about our prompts or for XML may be answered in their words.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from mixtura import prompts

# So many characters of the marker in a row are no chance: one in 16 to the 7th.
_MARKER_PART = 7
_MARKER_START = 4
_WORD = re.compile(r"\w+")
_PHRASE = 8  # words of an instruction in a row

_FENCE = re.compile(
    r"<\s*/?\s*(?:m?[0-9a-f]{3,16}\s+)?(?:draft|answer|response)\s+[A-Z]\d*\s*>"
    r"|<\s*/?\s*m[0-9a-f]{6,14}\s+(?:draft|field|values|choice|ranking)\b"
    r"|(?:drafts,\s+)?each between lines that begin with\s*<"
    r"|\[this draft is incomplete",
    re.IGNORECASE,
)
# Each line of our instructions holds one of these, and few answers do.
_INSTRUCTION_SIGNS = (
    *("draft", "marker", "authority", "padding", "contradict", "anonymous", "conversation itself", "procedure"),
    *("best to worst", "confident", "independent", "merits", "exactly as written", "best single answer"),
)
# What may be slipped in between the characters of a word.
_BETWEEN = {ord(sign): None for sign in map(chr, range(0x3001)) if sign.isspace() or sign in "-_*`\u200b"}

_NOUN = r"(?:drafts?|candidates?|responses?|proposals?)"
_LETTER = r"(?:[B-Z]|A(?!\s+[A-Z][a-z]))\d{0,2}(?![\w+#'’]|\s+(?i:standard|proposal)\b)"
_NAME = rf"\s+[\"'“*(]*(?:{_LETTER}|[b-h](?![\w'’.])|#?[1-9]\b(?!\s*%))"
_LABEL = rf"(?i:drafts?|candidate (?:answer|response)s?){_NAME}"
# A response or a candidate with a letter may be anything's; one that is chosen, judged or begins an answer is a draft.
_OTHER_LABEL = rf"(?i:candidates?|responses?|proposals?){_NAME}"
_ORDINAL = r"(?:first|second|third|fourth|fifth|last|latter|former)"
_CHOICE = r"(?:choose|chose|pick(?:ed)?|select(?:ed)?|prefer|recommend|vote for|go with|favou?r)"
_JUDGED = (
    r"(?:best|better|correct|incorrect|wrong|right|accurate|complete|clear(?:er|est)?|most|more|superior|preferable)"
)
_SAYING = (
    r"(?:agree|disagree|differ|contradict|say|state|claim|give|suggest|mention|show|conclude|propose|answer|indicate"
    r"|all|both|above|below|provided|given|are|have|contain|correctly|incorrectly|point|offer)"
)
_TALK = re.compile(
    rf"\b{_LABEL}"
    rf"|(?i:\b{_CHOICE})\s+{_OTHER_LABEL}"
    rf"|\b{_OTHER_LABEL}[\"'”*)]*\s+(?i:is|was|wins|seems|gives|provides|says|states|answers|has|offers|correctly)\b"
    rf"|\A\W*{_OTHER_LABEL}[\"'”*)]*\s*(?::|\.?\Z)"
    rf"|(?i:\b{_CHOICE}\s+(?:the\s+)?{_ORDINAL}\s+(?:draft|response|candidate|answer)\b)"
    rf"|(?i:\bthe\s+{_ORDINAL}\s+(?:draft|response|candidate)\s+(?:is|was|gives|states|says)\b(?:\s+\w+){{0,2}}?\s*{_JUDGED}?)"
    rf"|(?i:\b(?:the|these|those|all|both|several|most|other|provided|given|previous|above)\s+(?:of\s+)?(?:the\s+|these\s+)?"
    rf"(?:\w+\s+)?(?:drafts|candidate (?:answers|responses))\s+{_SAYING}\b)"
    rf"|(?i:\b(?:based on|according to|as stated in|as noted in|from reading|comparing|combining|reviewing)\s+"
    rf"(?:the|these|all|both)\s+(?:\w+\s+){{0,2}}?(?:drafts|candidate (?:answers|responses)))"
    rf"|(?i:\bbest\s+(?:draft|response|candidate)\b\s*(?:is|:|=))"
)
_TALK_SIGNS = ("draft", "candidate", "response", "proposal")
_VERDICT = re.compile(
    rf"(?i:\b{_CHOICE}\s+|\b(?:is|answer:|choice:|best:)\s*)?[\"'“*(]*(?i:{_NOUN})\s+[\"'“*(]*([A-Z]\d{{0,2}}|[b-h]|\d)\b"
)
_VERDICT_LIMIT = 300


class Slip(NamedTuple):
    """Where our own words begin in an answer, and what they are, in words."""

    start: int
    what: str


def find_slip(text: str, markers: Iterable[str], asked: str) -> Slip | None:
    """Return the first of our own words in `text`, None where there are none.

    Args:
        text: what a model wrote that was shown drafts.
        markers: the words that fenced drafts in this run.
        asked: what the conversation says, less its answers.
    """
    lower = text.lower()
    found = [
        *_copied_markers(text, lower, markers),
        *_copied_fences(text, lower, asked),
        *_copied_instructions(lower, asked),
    ]
    return min(found, default=None)


def _copied_markers(text: str, lower: str, markers: Iterable[str]) -> Iterable[Slip]:
    opens = "<" in text
    bare = lower.translate(_BETWEEN)
    for marker in markers:
        if not opens and marker[4:7] not in bare and marker[6:9] not in bare:
            # Of a marker's 13 characters every 7 in a row hold one of these.
            continue
        parts = [marker[at : at + _MARKER_PART] for at in range(len(marker) - _MARKER_PART + 1)]
        start = marker[:_MARKER_START]
        places = [bare.find(part) for part in (f"<{start}", f"</{start}", *parts)]
        if hits := [place for place in places if place >= 0]:
            at = _place_of(text, min(hits))
            # What opens or closes the marker goes with it.
            yield Slip(at - len(re.search(r"[<\s/]*$", text[:at])[0]), "the marker of the drafts")  # type: ignore[index]


def _bare(text: str) -> str:
    """Return `text` in lower case without what may be slipped in between the characters of a word."""
    return text.lower().translate(_BETWEEN)


def _place_of(text: str, place: int) -> int:
    """Return where the character stands in `text` that is at `place` of `_bare(text)`."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        if len(_bare(text[: middle + 1])) > place:
            high = middle
        else:
            low = middle + 1
    return low


def _copied_fences(text: str, lower: str, asked: str) -> Iterable[Slip]:
    if "<" in text or "[this draft" in lower:
        found = _FENCE.search(text)
        if found is not None and not _FENCE.search(asked):
            yield Slip(found.start(), "the fence of the drafts")


def _copied_instructions(lower: str, asked: str) -> Iterable[Slip]:
    for sign in _INSTRUCTION_SIGNS:
        if sign in lower:
            break
    else:
        return
    words = list(_WORD.finditer(lower))
    spaced = " ".join(word[0] for word in words)
    copied = [phrase for phrase in _phrases() if phrase in spaced]
    known = " ".join(_WORD.findall(asked.lower())) if copied else ""
    places = [spaced.find(phrase) for phrase in copied if phrase not in known]
    if not places:
        return
    before = lower[: words[spaced[: min(places)].count(" ")].start()]
    # The sentence that is copied may begin before the phrase that gives it away.
    began = max(before.rfind(sign) + len(sign) if sign in before else 0 for sign in ("\n", ". "))
    yield Slip(began, "the instructions of the aggregator")


@cache
def _phrases() -> tuple[str, ...]:
    """Return every so many words in a row of our instructions."""
    texts = (prompts.SYNTHESIZE, prompts.SELECT, prompts.RANK, prompts.RANKED_SYNTHESIS, prompts.MERGE)
    found: dict[str, None] = {}
    for text in texts:
        words = _WORD.findall(text.lower())
        for at in range(len(words) - _PHRASE + 1):
            found[" ".join(words[at : at + _PHRASE])] = None
    return tuple(found)


def talk_of_drafts(text: str, asked: str, drafts: Iterable[str] = ()) -> str:
    """Return the words with which `text` speaks of drafts by name, "" where it does not.

    What the conversation speaks of, be it drafts or responses, an answer may speak of, and what its `drafts` say in the
    same words.
    """
    lower = text.lower()
    if "draft" not in lower and "candidate" not in lower and "response" not in lower and "proposal" not in lower:
        return ""
    known, written = asked.lower(), [" ".join(draft.lower().split()) for draft in drafts]
    for found in _TALK.finditer(text):
        said = found[0].lower()
        if any(" ".join(said.split()) in draft for draft in written):
            continue
        if not any(sign in known for sign in _TALK_SIGNS if sign in said):
            return " ".join(found[0].split())
    return ""


def named_draft(text: str, count: int) -> int | None:
    """Return the place of the only draft that a short verdict names ("I choose draft B."), None where it is none."""
    if len(text) > _VERDICT_LIMIT:
        return None
    by_label = {prompts.label(place): place for place in range(count)}
    by_label |= {str(place + 1): place for place in range(count)}
    places = {by_label.get(found[1].upper()) for found in _VERDICT.finditer(text)}
    return places.pop() if len(places) == 1 else None


_BEGINNINGS = re.compile(
    rf"^\W*(?:{_NOUN}\b|(?:i|i['’]d|i would|we)\s+(?:would\s+)?{_CHOICE}\b"
    rf"|the\s+(?:best|better|correct|{_ORDINAL})\s+(?:draft|response|candidate|answer)\b"
    r"|(?:the|these|all|both|several|most)\s+(?:of\s+)?(?:the\s+|these\s+)?(?:drafts|candidate))",
    re.IGNORECASE,
)
_FIRST_WORDS = (
    *(
        "draft ",
        "drafts ",
        "candidate ",
        "response ",
        "proposal ",
        "i choose",
        "i would ",
        "i pick",
        "i select",
        "i prefer",
    ),
    *("the best draft", "the best response", "the best candidate", "the best answer", "the better", "the drafts"),
    *("the first draft", "the second draft", "the first response", "the second response", "both drafts", "all drafts"),
    *("all the drafts", "all of the drafts", "these drafts", "most drafts", "several drafts"),
)
_SENTENCE_END = re.compile(r"[.!?:]\s|\n")


def may_talk_of_drafts(text: str, asked: str) -> bool:
    """Say whether `text`, the beginning of an answer, speaks of drafts in its first sentence or may yet do so."""
    start = re.sub(r"^\W+", "", text).lower()
    if not start:
        return False
    if not any(words.startswith(start) or start.startswith(words) for words in _FIRST_WORDS):
        return False
    first = _SENTENCE_END.search(text)
    if first is None and len(text) < _VERDICT_LIMIT:
        return True
    return bool(talk_of_drafts(text if first is None else text[: first.end()], asked))


_FENCE_BEGINS = re.compile(r"<\s*/?\s*(?:m[0-9a-f\s]{0,16}(?:d(?:r(?:a(?:ft?)?)?)?)?)?$", re.IGNORECASE)
_LONGEST_BEGINNING = 40


def fence_begins(text: str) -> int:
    """Return where a fence may begin that `text` ends in the midst of; its length where none does."""
    tail = text[-_LONGEST_BEGINNING:]
    if "<" not in tail:
        return len(text)
    found = _FENCE_BEGINS.search(tail)
    return len(text) if found is None else len(text) - len(tail) + found.start()


_FENCE_STANDS = re.compile(r"<\s*/?\s*(?:m\s*(?:[0-9a-f]\s*){6}|m?[0-9a-f]{3,16}\s+draft\b)", re.IGNORECASE)


def fence_stands(text: str) -> bool:
    """Say whether a fence stands in `text`, or what looks so much like one that the whole answer has to decide."""
    return "<" in text and _FENCE_STANDS.search(text) is not None


_ENDINGS = tuple(".!?…。！？”\"')]}`>|*")
_LEAST = 80


def stands_alone(text: str, draft: str) -> bool:
    """Say whether `text`, an answer up to where it went wrong, is whole by itself.

    It ends where a sentence, a list or a block of code ends, and is no shorter than half of `draft`, the best one.
    """
    bare = text.strip()
    whole = bare.endswith(_ENDINGS) and bare.count("```") % 2 == 0
    return whole and len(bare) >= _LEAST and 2 * len(bare) >= len(draft.strip())
