"""Reasoning that a model wrote into its answer, taken apart from it.

Some providers deliver thinking in a field of its own; others leave `<think>...</think>` (or `<thinking>`,
`<thought>`, `<reasoning>`) in the text. An answer may also *speak* of such tags, so where a tag stands decides:

    at the start of the answer       opens reasoning, closed or not
    at the start of a line           opens reasoning, closed or not
    inside a line                    opens reasoning if a closing tag follows; else it is text
    in a code fence, after a `       is text
    a closing tag nothing opened     all before it was reasoning, unless nothing comes behind it
"""

import re
from typing import Literal

import msgspec

from mixtura.chat import CallContext, ChatRequest, Completion, Delta, OnAnswered, PartialReader
from mixtura.models.base import ChatModel, Emit

_NAMES = ("think", "thinking", "thought", "reasoning")
_TAG = re.compile(rf"<(/?)(?:{'|'.join(_NAMES)})>", re.IGNORECASE)
_TAGS = tuple(f"<{slash}{name}>" for slash in ("", "/") for name in _NAMES)
_LONGEST = max(len(tag) for tag in _TAGS)
_FENCE = re.compile(r"[ \t>*+-]*(`{3,})")
_LONG_LINE = 400

_State = Literal["text", "thinking", "maybe"]


class ThinkSplitter:
    """Separates a streamed text from the reasoning in it. However the text is cut, the result is the same.

    `feed` and `finish` return what can be shown at once. `text` and `reasoning` are what counts in the end: they
    differ from what was shown when a closing tag turns up that nothing opened.
    """

    def __init__(self) -> None:
        self._state: _State = "text"
        self._buffer = ""
        self._text: list[str] = []
        self._blocks: list[list[str]] = []
        self._fences = _Fences()
        # Reasoning was taken off the front: the white space around it is not the answer's.
        self._trim = False
        self._spoken = False
        # The answer that a closing tag nothing opened has made reasoning.
        self._stray: list[str] | None = None
        # The tag and what followed, while it is open whether an inline tag gets closed.
        self._held: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning so far, its blocks separated by an empty line."""
        return "\n\n".join(block for pieces in self._blocks if (block := "".join(pieces).strip()))

    def feed(self, piece: str) -> Delta:
        """Take the next piece; return what it makes certain."""
        if self._state == "text" and not self._buffer and "<" not in piece:
            return Delta(self._say(piece))
        self._buffer += piece
        return self._work()

    def finish(self) -> Delta:
        """Return what was held back, now that nothing follows."""
        said = self.release()
        if self._stray is not None and not self.text.strip():
            # Nothing came behind that tag: what stood before it is all there is, so it is the answer after all.
            self._blocks = [block for block in self._blocks if block is not self._stray]
            self._text = self._stray
        return said

    def release(self) -> Delta:
        """Return what was held back, since it has to be shown before what comes next."""
        delta = self._work()
        rest, self._buffer = self._buffer, ""
        if self._state == "thinking":
            return Delta(delta.text, delta.reasoning + self._think(rest))
        held = ""
        if self._state == "maybe":
            held = self._say("".join(self._held), seen=True)
            self._held.clear()
            self._state = "text"
        return Delta(delta.text + held + self._say(rest), delta.reasoning)

    def apart(self, delta: Delta) -> Delta:
        """Return `delta` with the reasoning in its text apart; in front of tool calls nothing is held back."""
        if not delta.text and not delta.tool_calls:
            return delta
        split = self.feed(delta.text) if delta.text else Delta()
        if delta.tool_calls:
            rest = self.release()
            split = Delta(split.text + rest.text, split.reasoning + rest.reasoning)
        elif not delta.reasoning:
            return split
        return Delta(split.text, delta.reasoning + split.reasoning, delta.tool_calls)

    def _work(self) -> Delta:
        texts: list[str] = []
        thoughts: list[str] = []
        at = 0
        buffer = self._buffer
        for tag in _TAG.finditer(buffer):
            self._pass(buffer[at : tag.start()], texts, thoughts)
            at = tag.end()
            self._meet(tag[0], tag[1] == "/", texts, thoughts)
        safe = _safe_end(buffer, at)
        self._pass(buffer[at:safe], texts, thoughts)
        self._buffer = buffer[safe:]
        return Delta("".join(texts), "".join(thoughts))

    def _pass(self, piece: str, texts: list[str], thoughts: list[str]) -> None:
        """Take a piece without tags."""
        if not piece:
            return
        if self._state == "text":
            texts.append(self._say(piece))
        elif self._state == "thinking":
            thoughts.append(self._think(piece))
        else:
            self._fences.see(piece)
            self._held.append(piece)

    def _meet(self, tag: str, closing: bool, texts: list[str], thoughts: list[str]) -> None:
        """Take a tag, wherever the text before it has led."""
        if self._state == "thinking":
            if closing:
                self._state = "text"
            else:
                thoughts.append(self._think(tag))
            return
        if self._fences.quoted():
            self._pass(tag, texts, thoughts)
        elif closing:
            self._close(thoughts)
        elif self._state == "maybe":
            if self._fences.at_line_start():
                texts.append(self._say("".join(self._held), seen=True))
                self._held.clear()
                self._open()
            else:
                self._pass(tag, texts, thoughts)
        elif self._fences.at_line_start():
            self._open()
        else:
            self._state = "maybe"
            self._pass(tag, texts, thoughts)

    def _open(self) -> None:
        self._state = "thinking"
        self._blocks.append([])
        if not self._trim and not self._spoken:
            self._text.clear()
            self._trim = True

    def _close(self, thoughts: list[str]) -> None:
        """Take a closing tag outside of reasoning: the inline tag before it was meant, or all before it was."""
        if self._state == "maybe":
            _, *inside = self._held
            self._held.clear()
            self._open()
            thoughts.extend(self._think(piece) for piece in inside)
        elif self._text:
            self._stray = self._text
            self._blocks.append(self._text)
            self._text = []
            self._trim = True
            self._fences = _Fences()
        self._state = "text"

    def _say(self, piece: str, *, seen: bool = False) -> str:
        if not seen:
            self._fences.see(piece)
        if self._trim and not self._text:
            piece = piece.lstrip()
        if piece:
            self._text.append(piece)
            self._spoken = self._spoken or not piece.isspace()
        return piece

    def _think(self, piece: str) -> str:
        self._blocks[-1].append(piece)
        return piece


class _Fences:
    """Knows whether the end of a text stands inside a code fence, after a backtick, or at a line's start."""

    def __init__(self) -> None:
        self._new: list[str] = []
        self._line = ""
        self._open = ""

    def see(self, piece: str) -> None:
        """Note more text; it is looked at only when a tag asks."""
        self._new.append(piece)

    def _look(self) -> None:
        if not self._new:
            return
        *lines, self._line = (self._line + "".join(self._new)).split("\n")
        self._new.clear()
        if len(self._line) > _LONG_LINE:
            # How it begins and ends decides; all of it would be read again at every tag.
            self._line = self._line[: _LONG_LINE // 2] + self._line[-_LONG_LINE // 2 :]
        for line in lines:
            if not self._open:
                found = _FENCE.match(line)
                self._open = found[1] if found and "`" not in line[found.end() :] else ""
            elif line.strip().startswith(self._open) and not line.strip().strip("`"):
                self._open = ""

    def quoted(self) -> bool:
        """Say whether a tag here is code."""
        self._look()
        line = self._line
        if self._open:
            return not (line.strip().startswith(self._open) and not line.strip().strip("`"))
        return _FENCE.match(line) is not None or (line.endswith("`"))

    def at_line_start(self) -> bool:
        """Say whether only white space stands before on this line."""
        self._look()
        return not self._line.strip()


def _safe_end(buffer: str, start: int) -> int:
    """Return where a tag that is not whole yet may begin, else the buffer's end."""
    at = buffer.rfind("<", max(start, len(buffer) - _LONGEST))
    if at >= 0:
        begun = buffer[at:].lower()
        if any(tag.startswith(begun) for tag in _TAGS):
            return at
    return len(buffer)


def split_thinking(text: str) -> tuple[str, str]:
    """Return the answer and the reasoning in `text`."""
    if "<" not in text:
        return text, ""
    splitter = ThinkSplitter()
    splitter.feed(text)
    splitter.finish()
    return splitter.text, splitter.reasoning


class ThinkingApart:
    """A model whose completions never have reasoning in their `text`; what was there moves to `reasoning`."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        if emit is None:
            if request.context is not None and request.context.partial:
                request = msgspec.structs.replace(request, context=_SplitContext(request.context))
            return thinking_apart(await self._model.chat(request, deadline=deadline))
        splitter = ThinkSplitter()

        def separated(delta: Delta) -> None:
            delta = splitter.apart(delta)
            if delta.text or delta.reasoning or delta.tool_calls:
                emit(delta)

        completion = await self._model.chat(request, emit=separated, deadline=deadline)
        rest = splitter.finish()
        if rest.text or rest.reasoning:
            emit(rest)
        return thinking_apart(completion)


class _SplitContext:
    """A call's context whose reader gives the thinking in a partial reply apart from its text."""

    partial = True
    on_answered: OnAnswered | None = None

    def __init__(self, inner: CallContext) -> None:
        self.draw, self.begin, self.pause, self.waste = inner.draw, inner.begin, inner.pause, inner.waste
        self.expect_whole, self.refuse_repeat, self.share = inner.expect_whole, inner.refuse_repeat, inner.share
        self._inner = inner

    def attach(self, reader: PartialReader) -> None:
        """Attach a reader that splits what `reader` reads. See `chat.CallContext`."""
        self._inner.attach(_SplitReader(reader))

    def look(self) -> None:
        """Pass it on. See `chat.CallContext`."""
        self._inner.look()


class _SplitReader:
    """A partial reply, its thinking apart."""

    def __init__(self, reader: PartialReader) -> None:
        self._reader = reader
        self._splitter: ThinkSplitter | None = None

    def read(self) -> list[tuple[float, Delta]]:
        """Return the pieces since the last call. See `chat.PartialReader`."""
        found = []
        # Made when a piece is wanted: most replies come whole.
        splitter = self._splitter = self._splitter or ThinkSplitter()
        for at, delta in self._reader.read():
            split = splitter.apart(delta)
            if split.text or split.reasoning or split.tool_calls:
                found.append((at, split if delta.pieces == 1 else msgspec.structs.replace(split, pieces=delta.pieces)))
        return found


def thinking_apart(completion: Completion) -> Completion:
    """Return `completion` with the reasoning in its text moved to `reasoning`."""
    if "<" not in completion.text:
        return completion
    text, reasoning = split_thinking(completion.text)
    if not reasoning and text == completion.text:
        return completion
    if completion.reasoning and reasoning:
        reasoning = f"{completion.reasoning}\n\n{reasoning}"
    return msgspec.structs.replace(completion, text=text, reasoning=reasoning or completion.reasoning)
