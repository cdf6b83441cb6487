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

from mixtura.chat import Delta
from mixtura.models.reasoning.marks import HARMONY, NEVER_STRAY, WORDS, Mark
from mixtura.models.reasoning.place import Place
from mixtura.models.reasoning.split import Shown, Split, call_of

_State = Literal["text", "thinking", "spoken", "doubt", "call"]
# Between these marks stands no reasoning: they are spoken of.
_NOTHING = ("", "...", "…", "/", ",", "|")
# Marks in marks that are told apart.
_DEEPEST = 32


class Sorter:
    """Takes pieces of a text and the marks between them, and puts each where it belongs.

    Attributes:
        split: what has been found.
        state: where the text has come to: the answer, reasoning, behind an opening mark that is perhaps only spoken of
            ("spoken"), behind a closing mark that perhaps is ("doubt"), the arguments of a tool call.
        first_call: how many calls the reply has besides those in its text.
    """

    def __init__(self, tools: Collection[str]) -> None:
        self.split = Split()
        self.shown = Shown()
        self.state: _State = "text"
        self.place = Place()  # in the answer
        self.first_call = 0
        self._tools = tools
        self._inner = Place()  # in the reasoning
        self._open: list[str] = []  # the families that are open, the outermost first
        self._blank = True  # nothing was thought yet in this block
        self._seen: set[str] = set()
        self._answered = False
        # What is not decided: the mark and what followed.
        self._held: list[str] = []
        self._cut_is_reasoning = False
        self._call: tuple[str, list[str]] = ("", [])

    def shown_now(self) -> Delta:
        """Return what has become certain since the last call."""
        delta, self.shown = self.shown.delta(), Shown()
        return delta

    def take(self, piece: str) -> None:
        """Take a piece without marks."""
        if not piece:
            return
        if self.state == "text":
            self.place.see(piece)
            self.shown.text.append(self.split.say(piece))
        elif self.state == "thinking":
            self._think(piece)
        elif self.state == "call":
            self._call[1].append(piece)
        else:
            self.place.see(piece)
            self._inner.see(piece)
            self._held.append(piece)

    def _think(self, piece: str) -> None:
        self._inner.see(piece)
        self._blank = self._blank and piece.isspace()
        self.split.blocks[-1].append(piece)
        self.shown.thoughts.append(piece)

    def meet(self, mark: Mark, after: str) -> None:
        """Take a mark, wherever the text before it has led."""
        if self.state == "thinking":
            self._meet_in_reasoning(mark, after)
        elif self.state == "doubt":
            self._meet_in_doubt(mark, after)
        elif self.state == "call":
            self._meet_in_call(mark, after)
        elif mark.kind == "open":
            self._meet_open(mark, after)
        else:
            self._meet_end(mark, after)

    def _meet_open(self, mark: Mark, after: str) -> None:
        """Take an opening mark in the answer."""
        place = self.place
        example = place.fenced() or place.in_code() or place.quoted(after)
        if example or (self.split.spoken and place.shows(mark.family)):
            self.take(mark.text)
        elif place.spoken_of(after) or (mark.text[1].isalpha() and place.is_parameter(after)):
            if self.state == "text":
                self.maybe(mark)
            else:
                self.take(mark.text)
        else:
            if self.state == "spoken":
                self._held_was_text()
            self._open_block(mark.family)

    def _meet_end(self, mark: Mark, after: str) -> None:
        """Take a mark in the answer that closes reasoning, announces the answer or ends it, or a call."""
        place, seen = self.place, any(_same_grammar(mark.family, family) for family in self._seen)
        if place.fenced() or place.in_code() or place.quoted(after) or place.showed(mark.family):
            self.take(mark.text)
        elif self.state == "spoken":
            self._close_spoken(mark, after)
        elif mark.kind == "end":
            if not seen:
                self.take(mark.text)
        elif (mark.family in NEVER_STRAY) or (place.spoken_of(after) and not seen):
            self.take(mark.text)
        else:
            self._close_stray(mark)

    def _close_spoken(self, mark: Mark, after: str) -> None:
        """Take such a mark where it is open whether the mark before it was meant."""
        inside = "".join(self._held[1:]).strip()
        if self.place.spoken_of(after) or inside in _NOTHING:
            self.take(mark.text)
            if mark.kind != "answer":
                self._held_was_text()
            return
        self._held_was_reasoning(mark.family)
        self._leave(mark)

    def _close_stray(self, mark: Mark) -> None:
        """Take such a mark where no reasoning was open: all before it was, but for an answer that was announced."""
        if not (self._answered and mark.kind in ("answer", "call")):
            self.split.turn_over()
            self.place = Place()
        self._leave(mark)

    def _leave(self, mark: Mark) -> None:
        """Go to what follows reasoning: the answer, or a tool call."""
        self._seen.add(mark.family)
        self._open.clear()
        self.state = "text"
        if mark.kind == "answer":
            self._answered = True
        elif mark.kind == "call":
            self.state = "call"
            self._call = (mark.to, [])

    def _open_block(self, family: str) -> None:
        self.state = "thinking"
        self._open = [family]
        self._seen.add(family)
        self._inner = Place()
        self._blank = True
        if not self.split.spoken:
            self.shown.text.clear()
        self.split.begin()

    def maybe(self, mark: Mark, *, cut_is_reasoning: bool = False) -> None:
        """Take an opening mark that counts if one of the answer, or a closing one, follows."""
        self.state = "spoken"
        self._open = [mark.family]
        self._cut_is_reasoning = cut_is_reasoning
        self.take(mark.text)

    def _meet_in_reasoning(self, mark: Mark, after: str) -> None:
        outer, inner = self._open[0], self._inner
        own = mark.family == outer
        if (outer in (HARMONY, WORDS) and not _same_grammar(mark.family, outer)) or inner.quoted(after):
            self._think(mark.text)
        elif outer in (HARMONY, WORDS):
            if mark.kind == "open":
                self.split.begin()
            else:
                self._leave(mark)
        elif mark.kind == "open":
            if not (own and self._blank):
                if not inner.speaks_of(after):
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
        self.state = "doubt"
        self.place = Place()
        self._held = []

    def _meet_in_doubt(self, mark: Mark, after: str) -> None:
        outer, place = self._open[0], self.place
        own = mark.family == outer
        if self._inner.speaks_of(after) and (place.in_code() or place.speaks_of(after)):
            self.take(mark.text)
        elif mark.kind == "open":
            self._push(mark.family)
            self.take(mark.text)
        elif mark.family in self._open[1:]:
            self._close_inner(mark.family)
            self.take(mark.text)
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
            self.take(mark.text)

    def release(self) -> None:
        """Take what is held back for text, where it may be and something else has to be shown next."""
        if self.state == "spoken" and not self._cut_is_reasoning:
            self._held_was_text()

    def finish(self, *, cut: bool) -> None:
        """Decide what is open; with `cut`, the model did not get to the end."""
        if self.state == "call":
            self._end_call()
        elif self.state in ("spoken", "doubt"):
            if cut and (self.state == "doubt" or self._cut_is_reasoning):
                self._held_was_reasoning()
            else:
                self._held_was_text()
        self.split.settle()

    def _held_was_text(self) -> None:
        self.state = "text"
        self._open.clear()
        if self._held:
            self.shown.text.append(self.split.say("".join(self._held)))
        self._held = []

    def _held_was_reasoning(self, family: str = "") -> None:
        held = self._held[1:] if self.state == "spoken" else self._held
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
        (to, pieces), self.state = self._call, "text"
        arguments = "".join(pieces).strip()
        if not self._tools:
            self.split.begin()
            self._think(f"{to} {arguments}")
            self.state = "text"
            return
        place = len(self.split.calls)
        call = call_of(to.removeprefix("functions."), arguments, place, self._tools)
        self.split.begin()
        self.split.calls.append(call)
        self.shown.calls.append({"index": self.first_call + place, **call})


def _same_grammar(family: str, other: str) -> bool:
    return family == other or {family, other} <= {HARMONY, WORDS}
