"""A model that answers what a test tells it to, and a request and limits to try it with."""

import asyncio

from mixtura.chat import ChatRequest, Completion, Message, RateLimitHeaders, Usage
from mixtura.errors import ModelError
from mixtura.limits.window import Limits
from mixtura.models.base import Emit

FREE = Limits(rpm=30, rpd=1000, tpm=8000, tpd=200_000)

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Why?"),), max_tokens=1000)


class Scripted:
    """Answers what it was told to: completions, or errors to raise; the last one again and again."""

    def __init__(self, *replies: Completion | ModelError | type[BaseException], takes: float = 0.1) -> None:
        self.replies = list(replies)
        self.takes = takes
        self.calls: list[float] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        self.calls.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Completion):
            return reply
        raise reply


def completion(*, left: float | None = None, cached: int = 0) -> Completion:
    usage = Usage(prompt_tokens=20, completion_tokens=100, cached_tokens=cached)
    said = None if left is None else RateLimitHeaders(None, None, 8000, left)
    return Completion(model="m", text="Because.", usage=usage, rate_limits=said)
