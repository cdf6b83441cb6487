"""The marks that models write round their reasoning, in one table, and how they are found in a text.

A server that does not know a model's marks leaves them in the answer. Each row of `FAMILIES` is one way to write them.
gpt-oss has a grammar of its own in place of pairs of marks ("harmony"): every message has a header, and the header says
for whom it is. Where a server dropped the special tokens of that, words are left: `analysis...assistantfinal...`.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["open", "close", "answer", "end", "call"]


class Mark(NamedTuple):
    """A mark in a text.

    Attributes:
        kind: "open" and "close" stand round reasoning, "answer" in front of the answer, "end" behind it; "call" in
            front of the arguments of a tool call.
        family: marks of one family belong together.
        text: the mark itself.
        end: where it ends in the text.
        to: the tool of a "call".
    """

    kind: Kind
    family: str
    text: str
    end: int
    to: str = ""


class Family(NamedTuple):
    """The marks of one family; several stand for each other."""

    name: str
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    answers: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


def _tag(name: str) -> Family:
    return Family(name, (f"<{name}>",), (f"</{name}>",))


FAMILIES = (
    # DeepSeek, Qwen, GLM, MiniMax, Nemotron, Phi-4, OLMo; Claude and Reflection; EXAONE and Gemini; prompted models.
    *map(_tag, ("think", "thinking", "thought", "thoughts", "reasoning", "thought_process", "inner_monologue")),
    # Hermes; Claude's artifacts; LongCat; MiniMax.
    *map(_tag, ("reasoning_scratchpad", "scratchpad", "antthinking", "longcat_think", "mm:think")),
    # Seed-OSS; what it has used of its budget stands inside.
    *map(_tag, ("seed:think", "seed:cot_budget_reflect")),
    # What Open WebUI makes of reasoning when it keeps it in the text.
    Family("details", ('<details type="reasoning">',), ("</details>",)),
    # Magistral, Ministral.
    Family("[think]", ("[THINK]",), ("[/THINK]",)),
    # Kimi-VL, Kimi k1.5.
    Family("kimi", ("◁think▷",), ("◁/think▷",)),
    # Command A Reasoning, Command R7B.
    Family(
        "cohere",
        ("<|START_THINKING|>",),
        ("<|END_THINKING|>",),
        ("<|START_RESPONSE|>", "<|START_TEXT|>"),
        ("<|END_RESPONSE|>", "<|END_TEXT|>"),
    ),
    # Sky-T1, OpenThinker.
    Family(
        "begin_of_thought",
        ("<|begin_of_thought|>",),
        ("<|end_of_thought|>",),
        ("<|begin_of_solution|>",),
        ("<|end_of_solution|>",),
    ),
    # Gemma 4; MedGemma.
    Family("gemma", ("<|channel>thought", "<|turn>thinking"), ("<channel|>", "<turn|>")),
    Family("medgemma", ("<unused94>",), ("<unused95>",)),
    # Solar Open, and models tuned alike.
    Family("|think|", ("<|think|>", "<|thinking|>"), ("<|/think|>", "<|/thinking|>", "<|end_think|>")),
    # Apriel begins with a phrase (`STARTS`).
    Family("apriel", (), (), ("[BEGIN FINAL RESPONSE]",), ("[END FINAL RESPONSE]",)),
    Family("harmony", (), (), (), ("<|end|>", "<|return|>", "<|call|>")),
)
NEVER_STRAY = frozenset(("seed:cot_budget_reflect", "details"))
"""Families whose closing mark means nothing where none of theirs was opened."""
HARMONY, WORDS, GRANITE = "harmony", "words", "granite"
PHRASES = {
    "Here is my thought process:": GRANITE,
    "Here's my thought process:": GRANITE,
    "Here are my reasoning steps:": "apriel",
}
"""What some families begin with in place of a mark. Anybody may say that: the answer's mark has to follow."""

_KINDS: tuple[tuple[Kind, int], ...] = (("open", 1), ("close", 2), ("answer", 3), ("end", 4))
_MARKS: dict[str, tuple[Kind, str]] = {
    mark: (kind, family.name) for family in FAMILIES for kind, place in _KINDS for mark in family[place]
}
# Marks that are longer than the token that is looked up.
_LABELLED = {"<|channel>": "thought", "<|turn>": "thinking"}
_HEADERS = ("<|start|>", "<|channel|>")
_LONGER = frozenset((*_LABELLED, *_HEADERS))
_TAGS = frozenset(mark for mark in _MARKS if re.fullmatch(r"</?[a-z_:]+>", mark))
_BEGINNINGS = frozenset(mark[:length] for mark in (*_MARKS, *_HEADERS) for length in range(1, len(mark)))

_BRACKETED = (
    r'<[^<>\s\[\]◁▷]{5,26}(?:\s{1,4}[\w:-]{1,30}="[^"<>]{0,80}"){0,6}\s?>|\[/?[A-Z]{3,5}[A-Z ]{0,16}\]|◁/?think▷'
)
_WORD_HEADER = (
    r"assistant(?: to=[\w.-]{1,80})?(?:analysis|final|commentary)"
    r"(?: to=[\w.-]{1,80})?(?:(?<=[\w.-]) ?(?:json|code)(?=\s*[{\[(]))?"
)
_RESPONSE = r"Here(?:'s| is) my response:"
_SCAN = re.compile(_BRACKETED)
_SCAN_WORDS = re.compile(f"{_BRACKETED}|{_WORD_HEADER}|{_RESPONSE}")
_WORDS_BEGUN = re.compile(
    r"assistant(?: to=?[\w.-]{0,90}| t?)?(?:[a-z]{0,10})(?: to=?[\w.-]{0,80}| t?)? ?[a-z]{0,4}\s{0,2}"
)
_HEADER = re.compile(r"<\|(?:start|channel)\|>(?:[^<]{0,160}<\|(?:channel|constrain)\|>){0,3}[^<]{0,160}<\|message\|>")
_HEADER_BEGUN = re.compile(
    r"<\|(?:start|channel)\|>(?:[^<]{0,160}<\|(?:channel|constrain)\|>){0,3}[^<]{0,160}(?:<(?:\|[a-z]{0,9}\|?)?)?"
)
_ASSISTANT = re.compile("assistant")
# A header whose end is missing, in the text and where that was cut off.
_BARE = re.compile(
    r"(?:<\|start\|>assistant\s{0,2})?<\|channel\|>\s{0,2}(?:analysis|commentary|final)\b|<\|start\|>assistant\b"
)
_CUT = re.compile(r"(?:<\|start\|>[a-z]{0,9})?(?:<\|channel\|>[a-z]{0,10})?(?:<\|?[a-z]{0,9}\|?)?\Z")
_ROLE = re.compile(r"(?:<\|start\|>)?\s{0,4}(\w*)")
_CHANNEL = re.compile(r"<\|channel\|>\s{0,4}(\w+)")
_TO = re.compile(r"\bto=([\w.:-]{1,120})")
_SIGN = re.compile(r"<(?:[A-Za-z/|]|\Z)|\[(?:[/A-Z]|\Z)|◁")

_STARTS = ("analysis", "commentary", "assistantanalysis", "assistantcommentary", "assistantfinal", "assistant to=")
# What is left of a header whose first token was dropped.
_HALVES = ("final<|message|>", "assistant<|channel|>", "assistant<|message|>")
STARTS = (*_STARTS, *_HALVES, *PHRASES)
"""With which a text may begin that holds reasoning and no mark."""


def is_plain(text: str) -> bool:
    """Say, in a fraction of a microsecond, that no text here can be reasoning."""
    if "<" in text or "[" in text or "◁" in text:
        return False
    return not (text.lstrip() if text[:1].isspace() else text).startswith(STARTS)


def has_sign(piece: str) -> bool:
    """Say whether a mark can begin in a piece of a text."""
    return ("<" in piece or "[" in piece or "◁" in piece) and _SIGN.search(piece) is not None


def holds_marks(text: str) -> bool:
    """Say whether `text`, whole, holds a mark or begins with one."""
    if text.lstrip().startswith(STARTS):
        return True
    return any(_known(found[0]) is not None or found[0] in _LONGER for found in _SCAN.finditer(text))


def marks_in(text: str, at: int, *, words: bool, final: bool) -> Iterator[tuple[int, Mark | None]]:
    """Yield where each mark begins, and the mark; None for one that may be there once more of the text has come.

    Args:
        text: what to search.
        at: from where on.
        words: whether words may be marks as well.
        final: no more of it will come.
    """
    scan = _SCAN_WORDS if words else _SCAN
    while (found := scan.search(text, at)) is not None:
        start = found.start()
        at = start + 1
        mark, begun = _read(text, start, found[0])
        if begun and not final:
            yield start, None
            return
        if mark is not None:
            yield start, mark
            at = mark.end
    if not final and (begun_at := _begun(text, at, words)) is not None:
        yield begun_at, None


def _read(text: str, start: int, token: str) -> tuple[Mark | None, bool]:
    """Return the mark at `start`, if it is one, and whether it is not whole yet."""
    end = start + len(token)
    if token.startswith("assistant"):
        return _of_words(token, end), len(text) - end < 6
    if token.startswith("Here"):
        return Mark("answer", GRANITE, token, end), False
    if token in _HEADERS:
        return _of_header(text, start)
    label = _LABELLED.get(token)
    if label is not None:
        token += label
        if not text.startswith(label, end):
            return None, label.startswith(text[end:])
        end += len(label)
    known = _known(token)
    return (None if known is None else Mark(*known, token, end)), False


def _known(token: str) -> tuple[Kind, str] | None:
    known = _MARKS.get(token)
    if known is None:
        lowered = token.lower()
        name, space, more = lowered.partition(" ")
        tag = f"{name}>" if space else lowered
        if tag in _TAGS and (tag[1] != "/" or not more.strip(" >")):
            known = _MARKS[tag]
        elif name == "<details" and 'type="reasoning"' in more:
            known = ("open", "details")
    return known


def _of_header(text: str, start: int) -> tuple[Mark | None, bool]:
    found = _HEADER.match(text, start)
    if found is None:
        begun = _HEADER_BEGUN.fullmatch(text, start) is not None
        found = _BARE.match(text, start)
        if found is None and (cut := _CUT.match(text, start)) is not None:
            return Mark("open", HARMONY, cut[0], cut.end()), begun
        return (None if found is None else _mark_of(found[0], found.end())), begun
    return _mark_of(found[0], found.end()), False


def _mark_of(header: str, end: int) -> Mark:
    role = "" if header.startswith("<|channel|>") else _ROLE.match(header)[1]  # type: ignore[index]  # it always matches
    channels, to = _CHANNEL.findall(header), _TO.search(header)
    if role not in ("", "assistant"):
        # A tool's result, or a turn that the model made up.
        return Mark("open", HARMONY, header, end)
    if to is not None and to[1] not in ("assistant", "user", "all"):
        return Mark("call", HARMONY, header, end, to[1])
    return Mark("answer" if not channels or channels[-1] == "final" else "open", HARMONY, header, end)


def _of_words(header: str, end: int) -> Mark:
    to = re.search(r"^assistant to=([\w.-]+)(?:analysis|commentary|final)|to=([\w.-]+)", header)
    if to is not None:
        return Mark("call", WORDS, header, end, to[1] or to[2])
    return Mark("answer" if header.endswith("final") else "open", WORDS, header, end)


def _begun(text: str, at: int, words: bool) -> int | None:
    """Return where a mark begins at the end of the text that is not whole yet."""
    for found in _SIGN.finditer(text, max(at, len(text) - 300)):
        rest = text[found.start() :]
        name, space, more = rest.partition(" ")
        if space:
            if f"{name.lower()}>" in _TAGS or name.lower() == "<details":
                if re.fullmatch(r'(?:[\w:-]+="[^"<>]*"\s*)*[\w:-]*(?:="?[^"<>]*)?', more):
                    return found.start()
            elif rest in _BEGINNINGS:
                return found.start()
        elif rest in _BEGINNINGS or rest.lower() in _BEGINNINGS:
            return found.start()
    if words:
        for word in _ASSISTANT.finditer(text, max(at, len(text) - 300)):
            if _WORDS_BEGUN.fullmatch(text, word.start()):
                return word.start()
        for phrase in ("assistant", "Here is my response:", "Here's my response:"):
            for length in range(min(len(phrase) - 1, len(text) - at), 0, -1):
                if text.endswith(phrase[:length]):
                    return len(text) - length
    return None


class Start(NamedTuple):
    """How a text begins that holds reasoning without a mark.

    Attributes:
        mark: the mark that its beginning stands for, None where it is none.
        certain: whether that is so; else the mark of an answer has to follow.
        wait: it can't be said before more of the text has come.
    """

    mark: Mark | None = None
    certain: bool = True
    wait: bool = False


def start_of(text: str, *, final: bool) -> Start:
    """Return what the beginning of a text stands for; the text has no white space in front."""
    word = next((one for one in STARTS if text.startswith(one)), None)
    if word is None:
        return Start(wait=not final and any(one.startswith(text) for one in STARTS))
    if word in _HALVES:
        word = word if word.endswith("<|message|>") else "assistant"
        return Start(Mark("answer", WORDS, word, len(word)))
    if word in PHRASES:
        return Start(Mark("open", PHRASES[word], word, len(word)), certain=False)
    if word.startswith("assistant") or text.startswith("commentary to="):
        whole = text if word.startswith("assistant") else f"assistant{text}"
        found = re.match(_WORD_HEADER, whole)
        if not final and _WORDS_BEGUN.fullmatch(whole):
            return Start(wait=True)
        if found is None:
            return Start()
        end = found.end() - (len(whole) - len(text))
        return Start(_of_words(found[0], end)._replace(text=text[:end], end=end))
    follows = text[len(word) : len(word) + 2]
    if not final and (len(follows) < 2 or (word == "commentary" and "commentary to=".startswith(text))):
        return Start(wait=True)
    opened = Mark("open", WORDS, word, len(word))
    if follows[:1].isalnum() or follows[:1] in ('"', "“") or follows == "<|":
        return Start(opened if follows else None)
    return Start(opened if follows[:1].isspace() else None, certain=False)
