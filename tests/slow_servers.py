"""A server that is slow in the way a machine of one's own is: a few slots, seconds to the first token, then tokens.

As a program, for runs in real time: `python slow_servers.py FIRST GAP TOKENS SLOTS` prints the port it took.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

# A server that needs so many seconds to its first token hangs altogether.
_HANGS = 1000.0


class SlowServer:
    """What reached the server, and what it did.

    Args:
        first: seconds to the first token of a call, once it has a slot.
        gap: seconds between tokens.
        tokens: how many a reply has; called with the number of the call, from 1 on.
        slots: how many calls are served at once.

    Attributes:
        url: its base URL.
        requests: the bodies that came.
        left: calls whose caller went away before they were whole.
        most: calls that were there at once, at the most.
        busy: seconds that slots were in use.
    """

    def __init__(self, first: float, gap: float, tokens: Callable[[int], int], slots: int) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.left = self.most = self._now = 0
        self.busy = 0.0
        self._first, self._gap, self._tokens = first, gap, tokens
        self._slots = asyncio.Semaphore(slots)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """List one model; a server that hangs does not."""
        if self._first > _HANGS:
            await asyncio.sleep(self._first)
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer when a slot is free."""
        body = await request.json()
        self.requests.append(body)
        number = len(self.requests)
        self._now += 1
        self.most = max(self.most, self._now)
        clock = asyncio.get_running_loop().time
        try:
            async with self._slots:
                begun = clock()
                words = [f"call{number}word{word} " for word in range(self._tokens(number))]
                reply = await (self._stream(request, words) if body.get("stream") else self._whole(words))
                self.busy += clock() - begun
                return reply
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise
        finally:
            self._now -= 1

    async def _stream(self, request: web.Request, words: list[str]) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        await asyncio.sleep(self._first)
        for word in words:
            await reply.write(_event({"content": word}, None))
            await asyncio.sleep(self._gap)
        await reply.write(_event({}, "stop", usage=_usage(len(words))) + b"data: [DONE]\n\n")
        await reply.write_eof()
        return reply

    async def _whole(self, words: list[str]) -> web.StreamResponse:
        await asyncio.sleep(self._first + self._gap * len(words))
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(words)}, "finish_reason": "stop"}
        return web.json_response({"id": "x", "model": "m", "choices": [choice], "usage": _usage(len(words))})


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}


def _event(delta: dict[str, str], finish: str | None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + msgspec.json.encode({"id": "x", "model": "m", "choices": [choice], **more}) + b"\n\n"


@asynccontextmanager
async def slow_server(
    first: float, slots: int, *, gap: float = 0.05, tokens: int | Callable[[int], int] = 40
) -> AsyncIterator[SlowServer]:
    """Serve in the running loop."""
    server = SlowServer(first, gap, tokens if callable(tokens) else lambda _: tokens, slots)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


async def _serve(first: float, gap: float, tokens: int, slots: int) -> None:
    async with slow_server(first, slots, gap=gap, tokens=tokens) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(server.busy, len(server.requests), server.left, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
