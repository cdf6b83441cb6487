"""Reasoning that a model wrote into its answer, taken apart from it.

Some providers deliver reasoning in a field of its own; others leave it in the text, between marks (`marks.FAMILIES`).
An answer may also *speak* of such marks, so where one stands decides:

    at the start of the answer or a line     opens reasoning, closed or not
    inside a line                            opens reasoning, closed or not
    inside a sentence that goes on round it  opens reasoning if a closing mark follows that stands on its own; else text
    in code, quoted, in an XML example       is text
    a closing mark nothing opened            all before it was reasoning, unless nothing comes behind it
    a mark of the answer (gpt-oss, Cohere)   the same
    a closing mark that the reasoning may    what follows is held back: it is reasoning if the right mark follows or the
    only speak of, or that closes another    reply was cut off, else the answer
"""

from collections.abc import Collection
from typing import Literal

from mixtura.chat import Delta, JsonObject
from mixtura.models.reasoning.marks import (
    HARMONY,
    NEVER_STRAY,
    PHRASES,
    WORDS,
    Mark,
    has_sign,
    holds_marks,
    is_plain,
    marks_in,
    start_of,
)
from mixtura.models.reasoning.place import AHEAD, Place, undecided
from mixtura.models.reasoning.split import Shown, Split, call_of

_State = Literal["text", "thinking", "spoken", "doubt", "call"]
# Between these marks stands no reasoning: they are spoken of.
_NOTHING = ("", "...", "…", "/", ",", "|")
# Marks in marks that are told apart.
_DEEPEST = 32


class ThinkSplitter:
    """Separates a streamed text from the reasoning in it. However the text is cut, the result is the same.

    `feed` and `finish` return what can be shown at once. `text` and `reasoning` are what counts in the end: they
    differ from what was shown when a mark turns up that nothing announced. With names of `tools`, a tool call in
    gpt-oss's own grammar becomes one of `calls`; without, it is kept with the reasoning.
    """

    def __init__(self, *, tools: Collection[str] = ()) -> None:
        self._tools = tools
        self._state: _State = "text"
        self._begun = False
        self._words = False
        self._quick = False  # a piece without the sign of a mark holds none
        self._buffer = ""
        self._split = Split()
        self._shown = Shown()
        self._place = Place()  # in the answer
        self._inner = Place()  # in the reasoning
        self._open: list[str] = []  # the families that are open, the outermost first
        self._blank = True  # nothing was thought yet in this block
        self._seen: set[str] = set()
        self._answered = False
        # What is not decided: the mark and what followed.
        self._held: list[str] = []
        self._cut_is_reasoning = False
        self._call: tuple[str, list[str]] = ("", [])
        self._first_call = 0

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._split.text)

    @property
    def reasoning(self) -> str:
        """The reasoning so far, its blocks separated by an empty line."""
        return "\n\n".join(block for pieces in self._split.blocks if (block := "".join(pieces).strip()))

    @property
    def calls(self) -> list[JsonObject]:
        """The tool calls that stood in the text, in the form of `Completion.tool_calls`."""
        return self._split.calls

    def feed(self, piece: str) -> Delta:
        """Take the next piece; return what it makes certain."""
        if self._quick and not self._buffer and not has_sign(piece):
            if self._state == "text":
                self._place.see(piece)
                return Delta(self._split.say(piece))
            self._pass(piece)
            return self._take()
        self._buffer += piece
        self._work(final=False)
        return self._take()

    def finish(self, *, cut: bool = False) -> Delta:
        """Return what was held back, now that nothing follows; with `cut`, the model did not get to the end."""
        self._work(final=True)
        self._pass_rest()
        if self._state == "call":
            self._end_call()
        elif self._state in ("spoken", "doubt"):
            if cut and (self._state == "doubt" or self._cut_is_reasoning):
                self._held_was_reasoning()
            else:
                self._held_was_text()
        self._split.settle()
        return self._take()

    def release(self) -> Delta:
        """Return what was held back, since it has to be shown before what comes next."""
        self._work(final=True)
        self._pass_rest()
        if self._state == "spoken" and not self._cut_is_reasoning:
            self._held_was_text()
        return self._take()

    def apart(self, delta: Delta) -> Delta:
        """Return `delta` with the reasoning in its text apart; in front of tool calls nothing is held back."""
        if not delta.text and not delta.tool_calls:
            return delta
        split = self.feed(delta.text) if delta.text else Delta()
        if delta.tool_calls:
            rest = self.release()
            split = Delta(split.text + rest.text, split.reasoning + rest.reasoning, split.tool_calls)
            self._first_call = max(self._first_call, *(call.get("index", 0) + 1 for call in delta.tool_calls))
        elif not delta.reasoning:
            return split
        calls = [*(split.tool_calls or ()), *(delta.tool_calls or ())] or None
        return Delta(split.text, delta.reasoning + split.reasoning, calls)

    def _take(self) -> Delta:
        delta, self._shown = self._shown.delta(), Shown()
        return delta

    def _work(self, *, final: bool) -> None:
        """Take as much of the buffer as can be decided."""
        at = 0
        if not self._begun:
            begun = self._begin(final)
            if begun is None:
                return
            at = begun
        buffer = self._buffer
        hold = len(buffer)
        for start, mark in marks_in(buffer, at, words=self._words, final=final):
            if mark is None or (not final and undecided(buffer[mark.end : mark.end + AHEAD])):
                hold = start
                break
            self._pass(buffer[at:start])
            at = mark.end
            self._meet(mark, buffer[at : at + AHEAD])
        self._pass(buffer[at:hold])
        self._buffer = buffer[hold:]

    def _pass_rest(self) -> None:
        rest, self._buffer = self._buffer, ""
        self._pass(rest)

    def _begin(self, final: bool) -> int | None:
        """Look whether the text begins with reasoning that has no mark; return how much was taken, None to wait."""
        text = self._buffer.lstrip()
        if not text:
            return 0
        start = start_of(text, final=final)
        if start.wait:
            return None
        self._begun = True
        mark = start.mark
        if mark is None:
            self._quick = True
            return 0
        self._words = True
        white = len(self._buffer) - len(text)
        self._pass(self._buffer[:white])
        if start.certain:
            self._meet(mark, "\n")
        else:
            self._maybe(mark, cut_is_reasoning=mark.text in PHRASES)
        return white + mark.end

    def _pass(self, piece: str) -> None:
        """Take a piece without marks."""
        if not piece:
            return
        if self._state == "text":
            self._place.see(piece)
            self._shown.text.append(self._split.say(piece))
        elif self._state == "thinking":
            self._think(piece)
        elif self._state == "call":
            self._call[1].append(piece)
        else:
            self._place.see(piece)
            self._inner.see(piece)
            self._held.append(piece)

    def _think(self, piece: str) -> None:
        self._inner.see(piece)
        self._blank = self._blank and piece.isspace()
        self._split.blocks[-1].append(piece)
        self._shown.thoughts.append(piece)

    def _meet(self, mark: Mark, after: str) -> None:
        """Take a mark, wherever the text before it has led."""
        if self._state == "thinking":
            self._meet_in_reasoning(mark, after)
        elif self._state == "doubt":
            self._meet_in_doubt(mark, after)
        elif self._state == "call":
            self._meet_in_call(mark, after)
        elif mark.kind == "open":
            self._meet_open(mark, after)
        else:
            self._meet_end(mark, after)

    def _meet_open(self, mark: Mark, after: str) -> None:
        """Take an opening mark in the answer."""
        place = self._place
        example = place.fenced() or place.in_code() or place.quoted(after)
        if example or (self._split.spoken and place.shows(mark.family)):
            self._pass(mark.text)
        elif place.spoken_of(after) or place.is_parameter(after):
            if self._state == "text":
                self._maybe(mark)
            else:
                self._pass(mark.text)
        else:
            if self._state == "spoken":
                self._held_was_text()
            self._open_block(mark.family)

    def _meet_end(self, mark: Mark, after: str) -> None:
        """Take a mark in the answer that closes reasoning, announces the answer or ends it, or a call."""
        place, seen = self._place, mark.family in self._seen
        if place.fenced() or place.in_code() or place.quoted(after) or place.showed(mark.family):
            self._pass(mark.text)
        elif self._state == "spoken":
            self._close_spoken(mark, after)
        elif mark.kind == "end":
            if not seen:
                self._pass(mark.text)
        elif (mark.family in NEVER_STRAY) or (place.spoken_of(after) and not seen):
            self._pass(mark.text)
        else:
            self._close_stray(mark)

    def _close_spoken(self, mark: Mark, after: str) -> None:
        """Take such a mark where it is open whether the mark before it was meant."""
        inside = "".join(self._held[1:]).strip()
        if self._place.spoken_of(after) or inside in _NOTHING:
            self._pass(mark.text)
            if mark.kind != "answer":
                self._held_was_text()
            return
        self._held_was_reasoning(mark.family)
        self._leave(mark)

    def _close_stray(self, mark: Mark) -> None:
        """Take such a mark where no reasoning was open: all before it was, but for an answer that was announced."""
        if not (self._answered and mark.kind in ("answer", "call")):
            self._split.turn_over()
            self._place = Place()
        self._leave(mark)

    def _leave(self, mark: Mark) -> None:
        """Go to what follows reasoning: the answer, or a tool call."""
        self._seen.add(mark.family)
        self._open.clear()
        self._state = "text"
        if mark.kind == "answer":
            self._answered = True
        elif mark.kind == "call":
            self._state = "call"
            self._call = (mark.to, [])

    def _open_block(self, family: str) -> None:
        self._state = "thinking"
        self._open = [family]
        self._seen.add(family)
        self._inner = Place()
        self._blank = True
        self._split.begin()

    def _maybe(self, mark: Mark, *, cut_is_reasoning: bool = False) -> None:
        self._state = "spoken"
        self._open = [mark.family]
        self._cut_is_reasoning = cut_is_reasoning
        self._pass(mark.text)

    def _meet_in_reasoning(self, mark: Mark, after: str) -> None:
        outer, inner = self._open[0], self._inner
        own = mark.family == outer
        if (outer in (HARMONY, WORDS) and not _same_grammar(mark.family, outer)) or inner.quoted(after):
            self._think(mark.text)
        elif outer in (HARMONY, WORDS):
            if mark.kind == "open":
                self._split.begin()
            else:
                self._leave(mark)
        elif mark.kind == "open":
            if not inner.speaks_of(after) and not (own and self._blank):
                self._push(mark.family)
            self._think(mark.text)
        elif mark.kind == "answer" and own:
            self._leave(mark)
        elif mark.family in self._open[1:]:
            self._close_inner(mark.family)
            if own:
                self._doubt()
            else:
                self._think(mark.text)
        elif own and not inner.fenced() and not inner.spoken_of(after):
            self._leave(mark)
        elif own or (mark.kind == "close" and mark.family not in NEVER_STRAY):
            self._doubt()
        else:
            self._think(mark.text)

    def _push(self, family: str) -> None:
        if len(self._open) < _DEEPEST:
            self._open.append(family)

    def _close_inner(self, family: str) -> None:
        """Close the innermost of the open ones that is of `family`, and what was opened in it."""
        while self._open.pop() != family:
            pass

    def _doubt(self) -> None:
        """Hold back what follows a closing mark that may not have ended the reasoning."""
        self._state = "doubt"
        self._place = Place()
        self._held = []

    def _meet_in_doubt(self, mark: Mark, after: str) -> None:
        outer, place = self._open[0], self._place
        own = mark.family == outer
        if self._inner.speaks_of(after) and (place.in_code() or place.speaks_of(after)):
            self._pass(mark.text)
        elif mark.kind == "open":
            self._push(mark.family)
            self._pass(mark.text)
        elif mark.family in self._open[1:]:
            self._close_inner(mark.family)
            self._pass(mark.text)
            if own:
                self._held_was_reasoning(outer)
                self._doubt()
        elif own or (mark.kind == "close" and mark.family not in NEVER_STRAY):
            self._held_was_reasoning(outer)
            if own:
                self._leave(mark)
            else:
                self._doubt()
        else:
            self._pass(mark.text)

    def _held_was_text(self) -> None:
        self._state = "text"
        self._open.clear()
        if self._held:
            self._shown.text.append(self._split.say("".join(self._held)))
        self._held = []

    def _held_was_reasoning(self, family: str = "") -> None:
        held = self._held[1:] if self._state == "spoken" else self._held
        self._held = []
        opened, inner = self._open, self._inner
        self._open_block(family)
        self._open = opened
        for piece in held:
            self._think(piece)
        self._inner = inner

    def _meet_in_call(self, mark: Mark, after: str) -> None:
        if not _same_grammar(mark.family, HARMONY):
            self._call[1].append(mark.text)
            return
        self._end_call()
        if mark.kind == "open":
            self._open_block(mark.family)
        else:
            self._leave(mark)

    def _end_call(self) -> None:
        """Take the call whose arguments are whole."""
        (to, pieces), self._state = self._call, "text"
        arguments = "".join(pieces).strip()
        if not self._tools:
            self._split.begin()
            self._think(f"{to} {arguments}")
            self._state = "text"
            return
        place = len(self._split.calls)
        call = call_of(to.removeprefix("functions."), arguments, place, self._tools)
        self._split.begin()
        self._split.calls.append(call)
        self._shown.calls.append({"index": self._first_call + place, **call})


def _same_grammar(family: str, other: str) -> bool:
    return family == other or {family, other} <= {HARMONY, WORDS}


def split_thinking(text: str, *, tools: Collection[str] = (), cut: bool = False) -> ThinkSplitter | None:
    """Return `text` split into answer, reasoning and tool calls; None where it is nothing but an answer.

    Args:
        text: the whole of a reply.
        tools: the names of the tools that may be called; none where no call is wanted.
        cut: whether the model did not get to its end.
    """
    if is_plain(text) or not holds_marks(text):
        return None
    splitter = ThinkSplitter(tools=tools)
    splitter.feed(text)
    splitter.finish(cut=cut)
    return splitter
