"""Prompt caching as on the real cloud: exact prefixes in blocks of 128 tokens, which expire after two hours.

Recorded counts are multiples of 128 (4608 of 4641 prompt tokens). A request with other tools or images has another
prefix, even when its text is the same.
"""

import hashlib

from mixtura.chat import JsonObject
from mixtura.models.recorded import split_tokens
from mixtura.sim import bodies
from mixtura.sim.replies import text_of

_BLOCK = 128
_LIFETIME = 7_200.0
_MOST_DIGESTS = 50_000


def prefixes(org: str, request: JsonObject) -> tuple[bytes, ...]:
    """Return digests of the prompt's first 128, 256, ... tokens. The organisation is part of each digest."""
    images = [part for turn in request["messages"] for part in _images(turn.get("content"))]
    shared = [org, request["model"], request.get("tools"), request.get("tool_choice"), images]
    digest = hashlib.sha256(bodies.encode(shared))
    tokens = split_tokens("".join(f"{turn['role']}\n{text_of(turn)}\n" for turn in request["messages"]))
    found = []
    for end in range(_BLOCK, len(tokens) + 1, _BLOCK):
        digest.update("".join(tokens[end - _BLOCK : end]).encode(errors="surrogatepass"))
        found.append(digest.digest())
    return tuple(found)


def _images(content: object) -> list[object]:
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") != "text"]


class PrefixCache:
    """The prefixes that the cloud has read in the last two hours."""

    def __init__(self) -> None:
        self._used: dict[bytes, float] = {}

    def cached_tokens(self, prompt: tuple[bytes, ...], now: float) -> int:
        """Return how many leading tokens of a prompt are cached at `now` (seconds)."""
        for place in range(len(prompt), 0, -1):
            if now - self._used.get(prompt[place - 1], -_LIFETIME) < _LIFETIME:
                return place * _BLOCK
        return 0

    def remember(self, prompt: tuple[bytes, ...], now: float) -> None:
        """Add a prompt's prefixes to the cache, and drop expired ones when the cache is large."""
        self._used |= dict.fromkeys(prompt, now)
        if len(self._used) > _MOST_DIGESTS:
            self._used = {digest: at for digest, at in self._used.items() if now - at < _LIFETIME}
