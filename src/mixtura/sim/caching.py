"""Prompt caching as on the real cloud: exact prefixes, in steps of 128 tokens, forgotten after two hours.

Recorded counts are multiples of 128 (4608 of 4641 prompt tokens). Other tools or images mean another prefix.
"""

import hashlib

from mixtura.chat import JsonObject
from mixtura.models.recorded import split_tokens
from mixtura.sim import bodies
from mixtura.sim.replies import text_of

_STEP = 128
_LIFE = 7_200.0
_MANY = 50_000


def prefixes(org: str, request: JsonObject) -> tuple[bytes, ...]:
    """Return a digest of the prompt's first 128, 256, ... tokens; whose they are is part of each."""
    images = [part for turn in request["messages"] for part in _images(turn.get("content"))]
    shared = [org, request["model"], request.get("tools"), request.get("tool_choice"), images]
    digest = hashlib.sha256(bodies.encode(shared))
    tokens = split_tokens("".join(f"{turn['role']}\n{text_of(turn)}\n" for turn in request["messages"]))
    found = []
    for end in range(_STEP, len(tokens) + 1, _STEP):
        digest.update("".join(tokens[end - _STEP : end]).encode(errors="surrogatepass"))
        found.append(digest.digest())
    return tuple(found)


def _images(content: object) -> list[object]:
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") != "text"]


class PrefixCache:
    """Which prefixes were read lately."""

    def __init__(self) -> None:
        self._used: dict[bytes, float] = {}

    def known(self, prompt: tuple[bytes, ...], now: float) -> int:
        """Return how many tokens of a prompt need no reading."""
        for place in range(len(prompt), 0, -1):
            if now - self._used.get(prompt[place - 1], -_LIFE) < _LIFE:
                return place * _STEP
        return 0

    def remember(self, prompt: tuple[bytes, ...], now: float) -> None:
        """Keep a prompt that was read."""
        self._used |= dict.fromkeys(prompt, now)
        if len(self._used) > _MANY:
            self._used = {digest: at for digest, at in self._used.items() if now - at < _LIFE}
