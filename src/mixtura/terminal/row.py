"""One call of a run, as the live view shows it."""

from dataclasses import dataclass

from mixtura.events import Draft, Role

TAIL = 600
"""Characters of a draft that are kept for its line."""

_ROLES: dict[Role, str] = {"escalation": "extra", "reviewer": "review", "selector": "select"}


@dataclass(kw_only=True)
class Row:
    """One call as the region shows it; `again`: a second try of one that is slow."""

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
    again: bool = False

    @property
    def name(self) -> str:
        """The model, with what it is asked for besides a draft."""
        marks = ", ".join(filter(None, (_ROLES.get(self.role, ""), "again" * self.again)))
        return f"{self.model} ({marks})" if marks else self.model

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
