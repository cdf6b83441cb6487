"""What has been found in a text: the answer, the reasoning in blocks, the tool calls."""

import hashlib
from collections.abc import Collection

from mixtura.chat import Delta, JsonObject


class Split:
    """What a splitter has found so far.

    Attributes:
        text: pieces of the answer.
        blocks: pieces of each block of reasoning.
        calls: tool calls, in the form of `Completion.tool_calls`.
        trim: reasoning was taken off the front, and the white space round it is not the answer's.
        spoken: some of the answer is no white space.
        stray: the answer that a mark nothing had announced has made reasoning.
    """

    def __init__(self) -> None:
        self.text: list[str] = []
        self.blocks: list[list[str]] = []
        self.calls: list[JsonObject] = []
        self.trim = False
        self.spoken = False
        self.stray: list[str] | None = None

    def say(self, piece: str) -> str:
        """Take a piece of the answer; return what is shown of it."""
        if self.trim and not self.text:
            piece = piece.lstrip()
        if piece:
            self.text.append(piece)
            self.spoken = self.spoken or not piece.isspace()
        return piece

    def begin(self) -> None:
        """Begin a block of reasoning."""
        self.blocks.append([])
        if not self.trim and not self.spoken:
            self.text.clear()
            self.trim = True

    def turn_over(self) -> None:
        """Make reasoning of all that was taken for the answer."""
        if self.text and self.spoken:
            self.stray = self.text
            self.blocks.append(self.text)
        self.text = []
        self.trim = True

    def settle(self) -> None:
        """Give an answer back that a stray mark took away, where nothing came behind it."""
        if self.stray is not None and not self.calls and not "".join(self.text).strip():
            self.blocks = [block for block in self.blocks if block is not self.stray]
            self.text = self.stray


class Shown:
    """What becomes certain while a piece is worked on."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[JsonObject] = []

    def delta(self) -> Delta:
        """Return it as a piece of the stream."""
        return Delta("".join(self.text), "".join(self.thoughts), self.calls or None)


def call_of(name: str, arguments: str, place: int, tools: Collection[str]) -> JsonObject:
    """Return a tool call in the wire's form; `place` is its place among those of the reply."""
    if name not in tools and name.removesuffix("json") in tools:
        # "json" is the type of the arguments, without the space before it.
        name = name.removesuffix("json")
    told = f"{place} {name} {arguments}".encode("utf-8", "replace")
    return {
        "id": f"call_{hashlib.sha256(told).hexdigest()[:16]}",
        "type": "function",
        "function": {"name": name, "arguments": arguments or "{}"},
    }
