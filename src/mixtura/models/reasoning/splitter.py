"""A text that comes in pieces, separated into answer and reasoning. What is which: `sorter`."""

from collections.abc import Collection

from mixtura.chat import Delta, JsonObject
from mixtura.models.reasoning.marks import PHRASES, has_sign, holds_marks, is_plain, marks_in, start_of
from mixtura.models.reasoning.place import AHEAD, undecided
from mixtura.models.reasoning.sorter import Sorter


class ThinkSplitter:
    """Separates a streamed text from the reasoning in it. However the text is cut, the result is the same.

    `feed` and `finish` return what can be shown at once. `text` and `reasoning` are what counts in the end: they
    differ from what was shown when a mark turns up that nothing announced. With names of `tools`, a tool call in
    gpt-oss's own grammar becomes one of `calls`; without, it is kept with the reasoning.
    """

    def __init__(self, *, tools: Collection[str] = ()) -> None:
        self._sorter = Sorter(tools)
        self._buffer = ""
        self._begun = False
        self._words = False
        self._quick = False  # a piece without the sign of a mark holds none

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._sorter.split.text)

    @property
    def reasoning(self) -> str:
        """The reasoning so far, its blocks separated by an empty line."""
        return "\n\n".join(block for pieces in self._sorter.split.blocks if (block := "".join(pieces).strip()))

    @property
    def calls(self) -> list[JsonObject]:
        """The tool calls that stood in the text, in the form of `Completion.tool_calls`."""
        return self._sorter.split.calls

    def feed(self, piece: str) -> Delta:
        """Take the next piece; return what it makes certain."""
        sorter = self._sorter
        if self._quick and not self._buffer and not has_sign(piece):
            if sorter.state == "text":
                sorter.place.see(piece)
                return Delta(sorter.split.say(piece))
            sorter.take(piece)
        else:
            self._buffer += piece
            self._work(final=False)
        return sorter.shown_now()

    def finish(self, *, cut: bool = False) -> Delta:
        """Return what was held back, now that nothing follows; with `cut`, the model did not get to the end."""
        self._work(final=True)
        self._sorter.finish(cut=cut)
        return self._sorter.shown_now()

    def release(self) -> Delta:
        """Return what was held back, since it has to be shown before what comes next."""
        self._work(final=True)
        self._sorter.release()
        return self._sorter.shown_now()

    def apart(self, delta: Delta) -> Delta:
        """Return `delta` with the reasoning in its text apart; in front of tool calls nothing is held back."""
        if not delta.text and not delta.tool_calls:
            return delta
        split = self.feed(delta.text) if delta.text else Delta()
        if delta.tool_calls:
            rest = self.release()
            split = Delta(split.text + rest.text, split.reasoning + rest.reasoning, split.tool_calls)
            sorter = self._sorter
            sorter.first_call = max(sorter.first_call, *(call.get("index", 0) + 1 for call in delta.tool_calls))
        elif not delta.reasoning:
            return split
        calls = [*(split.tool_calls or ()), *(delta.tool_calls or ())] or None
        return Delta(split.text, delta.reasoning + split.reasoning, calls)

    def _work(self, *, final: bool) -> None:
        """Take as much of the buffer as can be decided."""
        at = 0
        if not self._begun:
            begun = self._begin(final)
            if begun is None:
                return
            at = begun
        buffer, sorter = self._buffer, self._sorter
        hold = len(buffer)
        for start, mark in marks_in(buffer, at, words=self._words, final=final):
            if mark is None or (not final and undecided(buffer[mark.end : mark.end + AHEAD])):
                hold = start
                break
            sorter.take(buffer[at:start])
            at = mark.end
            sorter.meet(mark, buffer[at : at + AHEAD])
        if hold < len(buffer) and not sorter.split.spoken and buffer[at:hold].isspace():
            # The white space in front of reasoning is not the answer's.
            hold = at
        sorter.take(buffer[at:hold])
        self._buffer = buffer[hold:]

    def _begin(self, final: bool) -> int | None:
        """Look whether the text begins with reasoning that has no mark; return how much was taken, None to wait."""
        text = self._buffer.lstrip()
        if not text:
            return 0 if final else None
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
        self._sorter.take(self._buffer[:white])
        if start.certain:
            self._sorter.meet(mark, "\n")
        else:
            self._sorter.maybe(mark, cut_is_reasoning=mark.text in PHRASES)
        return white + mark.end


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
