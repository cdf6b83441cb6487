"""One call of a run, as the live view shows it."""

from dataclasses import dataclass

from mixtura.events import Draft, Role

TAIL = 600
"""Characters of a draft that are kept for its line."""

_ROLES: dict[Role, str] = {
    "aggregator": "answer",
    "escalation": "extra",
    "reviewer": "review",
    "selector": "select",
}


@dataclass(kw_only=True)
class Row:
    """One call as the region shows it.

    `read` is the number of drafts that it is shown, `again` says that it is a second try of one that is slow.
    """

    role: Role
    model: str
    layer: int
    started: float
    state: str = "running"
    seconds: float = 0.0
    tokens: int = 0
    estimated: bool = True
    pieces: int = 0
    characters: int = 0
    tail: str = ""
    thinking: bool = False
    reason: str = ""
    draft: Draft | None = None
    read: int = 0
    again: bool = False

    @property
    def name(self) -> str:
        """The model, with what it is asked for besides a draft."""
        marks = ", ".join(filter(None, (_ROLES.get(self.role, ""), "again" * self.again)))
        return f"{self.model} ({marks})" if marks else self.model

    @property
    def awaited(self) -> str:
        """What a call that has written nothing is waiting for."""
        if not self.read:
            return "waiting for its first token"
        return f"reading {self.read} draft{'s' * (self.read != 1)}, waiting for its first token"

    def write(self, text: str, reasoning: str) -> None:
        """Take the next piece."""
        piece = text or reasoning
        if self.thinking and text:
            self.tail = ""
        self.thinking = not text and (self.thinking or not self.tail)
        self.pieces += 1
        self.characters += len(text) + len(reasoning)
        # One piece is one token on Groq; servers that send more at once are read by their letters.
        self.tokens = max(self.pieces, self.characters // 4)
        self.tail = (self.tail + piece)[-TAIL:]
