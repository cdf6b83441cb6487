"""What a reader has been shown of the answer, so that its pieces always add up to it."""

from typing import Any

from mixtura.chat import JsonObject
from mixtura.engine.outcome import Outcome
from mixtura.events import AnswerDelta, AnswerRestarted, Event, Listener


class ShownAnswer:
    """A listener that passes events on and adds up the pieces of the answer since its latest beginning."""

    def __init__(self, then: Listener) -> None:
        self._then = then
        self._clear()

    def _clear(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, JsonObject] = {}
        # The fields of each call's function, in the pieces that came: adding them up at each would take their square.
        self._functions: dict[int, dict[str, list[str]]] = {}

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, AnswerDelta):
            self._text.append(event.text)
            self._reasoning.append(event.reasoning)
            for piece in event.tool_calls or ():
                self._add(piece)
        elif isinstance(event, AnswerRestarted):
            self._clear()
        self._then(event)

    def _add(self, piece: JsonObject) -> None:
        place = piece.get("index", len(self._calls))
        call, fields = self._calls.setdefault(place, {}), self._functions.setdefault(place, {})
        function = piece.get("function")
        for key, value in piece.items():
            if key not in ("index", "function") and value is not None:
                call.setdefault(key, value)
        for key, value in function.items() if isinstance(function, dict) else ():
            if value is not None:
                fields.setdefault(key, []).append(value)

    def complete(self, outcome: Outcome, at: float) -> None:
        """Emit what is missing of the answer; what was shown of another one is withdrawn first."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        calls = [
            {"function": {key: "".join(pieces) for key, pieces in self._functions[place].items()}, **call}
            for place, call in sorted(self._calls.items())
        ]
        same = text == outcome.text and calls == _plain(outcome.tool_calls)
        if same and (not reasoning or reasoning.strip() == outcome.reasoning.strip()):
            return
        if text or reasoning or calls:
            self(AnswerRestarted(at=at))
        pieces = [{"index": place, **call} for place, call in enumerate(outcome.tool_calls or ())] or None
        if outcome.text or outcome.reasoning or pieces:
            self(AnswerDelta(at=at, text=outcome.text, reasoning=outcome.reasoning, tool_calls=pieces))


def _plain(calls: list[JsonObject] | None) -> list[dict[str, Any]]:
    return [{"function": {}, **call} for call in calls or ()]
