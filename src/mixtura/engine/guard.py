"""Never worse: what may not pass as an answer, and the words about drafts that do not belong in one."""

import re
from collections.abc import Callable, Sequence

from mixtura.answer_format import AnswerFormat
from mixtura.chat import Completion
from mixtura.engine import agree
from mixtura.engine.agree import refuses
from mixtura.engine.own_words import may_talk_of_drafts, talk_of_drafts
from mixtura.events import Draft

_DRAFTS = (
    r"(?:drafts?|candidate (?:answers?|responses?)|"
    r"(?:proposed|provided|given|other|model|various) (?:answers?|responses?|models?))"
)
_LEAD_IN = re.compile(
    r"^\W*(?:(?:based on|according to|having (?:reviewed|considered|compared|examined|read)"
    r"|after (?:\w+ly )?(?:reviewing|considering|comparing|examining|analy[sz]ing|reading)"
    r"|(?:by )?(?:\w+ly )?(?:combining|synthesi[sz]ing|merging|reviewing|comparing)"
    r"|given|from|considering|looking at|across)"
    rf"\s+(?:\w+\s+){{0,4}}?{_DRAFTS}\b[^.,:\n]{{0,60}}[,:.]"
    r"|here(?:'s| is) (?:the|a|my) (?:\w+ ){0,3}?(?:synthesi[sz]ed|combined|merged|consolidated|final|best)"
    r" (?:\w+ ){0,2}?(?:answer|response)[^.,:\n]{0,60}[,:.])",
    re.IGNORECASE,
)
_MENTION = re.compile(r"\b(?:the|these|all|both|several|most) drafts\b", re.IGNORECASE)
_LEAD_IN_LIMIT = 200


def problem(completion: Completion, drafts: Sequence[Draft]) -> str:
    """Return why `completion` cannot stand as the answer, "" when it can.

    A refusal stands when most of the drafts refuse as well: then it is what the models have to say.
    """
    if completion.tool_calls:
        return ""
    if not completion.text.strip():
        return "wrote no answer" + (", only reasoning" if completion.reasoning else "")
    if completion.finish_reason == "length":
        return "was cut off at its output limit"
    if completion.finish_reason == "content_filter":
        return "was stopped by a content filter"
    if refuses(completion.text) and drafts and 2 * sum(refuses(draft.text) for draft in drafts) <= len(drafts):
        return "refused, while the drafts answer"
    return ""


def without_lead_in(text: str) -> str:
    """Return `text` without an opening like "Based on the drafts, "; unchanged when it has none."""
    found = _LEAD_IN.match(text)
    if found is None or not text[found.end() :].strip():
        return text
    rest = text[found.end() :]
    if "\n" in rest[: len(rest) - len(rest.lstrip())]:
        # What begins on a line of its own keeps its indentation: it may be code.
        return re.sub(r"^[ \t]*\n(?:[ \t]*\n)*", "", rest)
    rest = rest.lstrip()
    # "use" becomes "Use"; "iPhone" and code stay as they are.
    plain = re.match(r"[a-z]+(?![\w(.=])", rest)
    return rest[:1].upper() + rest[1:] if plain else rest


def mentions_drafts(text: str, asked: str) -> bool:
    """Say whether an answer mentions drafts, of whatever, although the conversation does not.

    That may be a word of its subject; what surely is about our drafts is no answer (`own_words.talk_of_drafts`).
    """
    # The plain search is there to spare nearly every answer the pattern.
    mentioned = "drafts" in text.lower() and _MENTION.search(text) is not None and "draft" not in asked.lower()
    return mentioned or bool(talk_of_drafts(text, asked))


class Opening:
    """Passes a streamed answer on, less an opening about drafts.

    What the answer begins with is held back until it is decided: an opening about drafts is left out, a refusal is held
    to its end (drafts may stand in its place), and so is what is no JSON where JSON was asked for. No more is held
    than that takes, and what was passed on is rarely withdrawn.

    Args:
        emit: takes each piece that is passed on.
        conversation: the question; who asks about drafts may get an answer that begins with them.
        form: the form that the answer has to have; None for any text.
    """

    def __init__(self, emit: Callable[[str], None], conversation: str, form: AnswerFormat | None = None) -> None:
        self._emit = emit
        self._form = form
        self._held: list[str] = []
        self._length = 0
        self._asked = conversation
        self._about_drafts = "draft" in conversation.casefold()
        self._open = False
        self._starts: bool | None = None

    def add(self, text: str) -> None:
        """Take the next piece of the answer."""
        if self._open:
            if text:
                self._emit(text)
            return
        self._held.append(text)
        self._length += len(text)
        if self._form is not None:
            if self._starts is None:
                self._starts = self._form.starts("".join(self._held))
            if self._starts:
                self._pass_on("".join(self._held))
            return
        held = "".join(self._held)
        if agree.may_refuse(held):
            return
        if not self._about_drafts and self._length < _LEAD_IN_LIMIT and _may_be_lead_in(held):
            return
        if may_talk_of_drafts(held, self._asked):
            # A verdict on drafts is no answer: nobody should read it while it is being written.
            return
        self.close()

    def close(self) -> None:
        """Let go of what is held; the answer is over, or can no longer begin with such an opening."""
        held = "".join(self._held)
        if self._form is not None:
            # What does not begin as JSON is shown once it is known whether it can be used.
            return
        self._pass_on(held if self._open or self._about_drafts else without_lead_in(held))

    def _pass_on(self, text: str) -> None:
        self._held.clear()
        self._open = True
        if text:
            self._emit(text)


_LEADING = re.compile(r"^\W+")
_OPENERS = (
    *("based", "according", "after", "having", "by", "combining", "synthesizing", "synthesising", "merging"),
    *("reviewing", "comparing", "given", "from", "considering", "looking", "across", "here"),
)


def _may_be_lead_in(held: str) -> bool:
    start = _LEADING.sub("", held).casefold()
    if not any(opener.startswith(start) or start.startswith(opener) for opener in _OPENERS):
        return False
    found = _LEAD_IN.match(held)
    # A lead-in that is whole needs the text behind it; one that is not can still become one up to a full stop.
    if found:
        # Whether the next word takes a capital shows where it ends.
        return re.search(r"\S\s", held[found.end() :]) is None
    return not re.search(r"[.:\n]", held.strip())
