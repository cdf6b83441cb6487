"""A raw HTTP server that speaks the chat completions API over its own sockets, and breaks it in 25 ways.

It knows nothing of the simulated cloud: every byte of a reply is written here. `python -m bench.soak.raw_server SEED
SHARE` prints its port; SHARE of the calls go wrong.
"""

import asyncio
import contextlib
import gzip
import json
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Body = dict[str, Any]
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"
_PAUSE = 0.002


class Call:
    """One request, and the connection that its reply goes to."""

    def __init__(self, writer: asyncio.StreamWriter, body: Body, text: str) -> None:
        self.writer = writer
        self.body = body
        self.text = text
        self.streams = body.get("stream") is True

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    def whole(self, **changes: Any) -> bytes:
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": self.usage, **changes}).encode()

    @property
    def usage(self) -> Body:
        words = len(self.text.split())
        return {"prompt_tokens": 9, "completion_tokens": words, "total_tokens": words + 9}

    def events(self) -> list[bytes]:
        """Return the events of a sound stream, each a chunk of its own."""
        words = self.text.split(" ")
        found = [
            self.event({"role": "assistant", "content": word + " " * (place < len(words) - 1)})
            for place, word in enumerate(words)
        ]
        return [*found, self.event({}, "stop", usage=self.usage), b"data: [DONE]\n\n"]

    def event(self, delta: Body, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode() + b"\n\n"

    async def reply(self, body: bytes | None = None, status: str = "200 OK", headers: str = "") -> None:
        """Send a whole reply with its length."""
        body = self.whole() if body is None else body
        await self.send(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}")
        await self.send(b"\r\n\r\n" + body)

    async def begin(self, headers: str = "", kind: str = "text/event-stream") -> None:
        """Begin a stream in chunks."""
        await self.send(HEAD.format(kind=kind) + headers + "Transfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def stream(self, events: list[bytes], *, end: bool = True) -> None:
        await self.begin()
        for event in events:
            await self.chunk(event)
            await asyncio.sleep(0)
        if end:
            await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection with RST in place of FIN."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Reply = Callable[[Call], Awaitable[bool]]
"""Replies to a call, and says whether the connection lives on."""


async def sound(call: Call) -> bool:
    if call.streams:
        await call.stream(call.events())
    else:
        await call.reply()
    return True


async def half_stream_reset(call: Call) -> bool:
    await call.stream(call.events()[:4], end=False)
    call.reset()
    return False


async def half_stream_closed(call: Call) -> bool:
    await call.stream(call.events()[:4], end=False)
    return False


async def no_done(call: Call) -> bool:
    await call.stream(call.events()[:-1])
    return True


async def no_finish(call: Call) -> bool:
    await call.stream(call.events()[:-2])
    return True


async def reset_at_once(call: Call) -> bool:
    call.reset()
    return False


async def closed_at_once(_call: Call) -> bool:
    return False


async def half_a_head(call: Call) -> bool:
    await call.send("HTTP/1.1 200 OK\r\nContent-Type: appl")
    return False


async def no_http(call: Call) -> bool:
    await call.send("SSH-2.0-OpenSSH_9.2\r\n")
    return False


async def too_short(call: Call) -> bool:
    await call.send(HEAD.format(kind="application/json") + "Content-Length: 9999\r\n\r\n")
    await call.send(call.whole())
    return False


async def broken_chunk(call: Call) -> bool:
    await call.begin()
    await call.send(b"zz\r\nnonsense\r\n")
    return False


async def not_json(call: Call) -> bool:
    await call.reply(b"<html><body>Bad gateway, but with 200</body></html>")
    return True


async def cut_json(call: Call) -> bool:
    await call.reply(call.whole()[:-20])
    return True


async def no_choices(call: Call) -> bool:
    await call.reply(call.whole(choices=[]))
    return True


async def null_choices(call: Call) -> bool:
    await call.reply(call.whole(choices=None))
    return True


async def empty_body(call: Call) -> bool:
    await call.reply(b"")
    return True


async def no_content(call: Call) -> bool:
    await call.send("HTTP/1.1 204 No Content\r\n\r\n")
    return True


async def a_redirect(call: Call) -> bool:
    await call.reply(b"", "302 Found", "Location: http://127.0.0.1:9/elsewhere\r\n")
    return True


async def a_bomb(call: Call) -> bool:
    await call.reply(gzip.compress(b"[" * 5_000_000), headers="Content-Encoding: gzip\r\n")
    return True


async def busy(call: Call) -> bool:
    await call.reply(b'{"error":{"message":"busy"}}', "503 Service Unavailable", "Retry-After: 0.01\r\n")
    return True


async def too_many(call: Call) -> bool:
    await call.reply(b'{"error":{"message":"slow down"}}', "429 Too Many Requests", "Retry-After: 0.01\r\n")
    return True


async def error_with_html(call: Call) -> bool:
    await call.reply(b"<h1>500</h1>", "500 Internal Server Error", "Connection: close\r\n")
    return False


async def error_in_a_stream(call: Call) -> bool:
    await call.stream([*call.events()[:3], b'data: {"error": {"message": "it broke", "code": 500}}\n\n'])
    return True


async def comments_only(call: Call) -> bool:
    await call.begin()
    for _ in range(50):
        await call.chunk(b": keep-alive\n\n")
        await asyncio.sleep(_PAUSE)
    return False


async def byte_by_byte(call: Call) -> bool:
    await call.begin()
    for event in call.events():
        for place in range(0, len(event), 7):
            await call.chunk(event[place : place + 7])
    await call.send(b"0\r\n\r\n")
    return True


async def silent(_call: Call) -> bool:
    await asyncio.sleep(3600)
    return False


FAULTS: dict[str, Reply] = {
    reply.__name__: reply
    for reply in (
        *(half_stream_reset, half_stream_closed, no_done, no_finish, reset_at_once, closed_at_once, half_a_head),
        *(no_http, too_short, broken_chunk, not_json, cut_json, no_choices, null_choices, empty_body, no_content),
        *(a_redirect, a_bomb, busy, too_many, error_with_html, error_in_a_stream, comments_only, byte_by_byte, silent),
    )
}


class RawServer:
    """Answers each call soundly, or with a fault of its own choice; `open` connections, `answered` sound replies."""

    def __init__(self, seed: int, share: float) -> None:
        self.open = 0
        self.made: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._share = share
        self._names = sorted(FAULTS)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.open += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open -= 1
            with contextlib.suppress(Exception):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if head.startswith("GET /counts"):
            data = json.dumps({"open": self.open, "made": self.made}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            await writer.drain()
            return False
        size = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.lower().startswith("content-le"))
        body = json.loads(await reader.readexactly(size))
        number = self.made.total()
        name = self._random.choice(self._names) if self._random.random() < self._share else "sound"
        self.made[name] += 1
        call = Call(writer, body, f"Reply {number}: air scatters blue light more than red light, so the sky is blue.")
        gone = asyncio.create_task(reader.read(1)) if name == "silent" else None
        if gone is not None:
            await gone
            return False
        return await FAULTS.get(name, sound)(call)


async def _main(seed: int, share: float) -> None:
    server = RawServer(seed, share)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, backlog=1024, limit=1 << 22)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
