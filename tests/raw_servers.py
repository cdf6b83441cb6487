"""A server that a test scripts byte by byte: what it does with each request, by connection and turn."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from mixtura.models.openai.pool import close_pool


def completion(text: str = "hello") -> bytes:
    """Return the body of a whole reply."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return json.dumps({"id": "c", "model": "m", "choices": choices, "usage": usage}).encode()


def http(body: bytes, headers: str = "", status: str = "200 OK") -> bytes:
    """Return a whole reply over HTTP; each line of `headers` ends with CR LF."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, as a machine does that does not know it."""
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Turn:
    """One request: the `connection` it came on and its `turn` there, both from 0."""

    def __init__(self, connection: int, turn: int, head: str, writer: asyncio.StreamWriter) -> None:
        self.connection, self.turn, self.head, self.writer = connection, turn, head, writer


Script = Callable[[Turn], Awaitable[bytes | None]]


class RawServer:
    """Answers what `script` returns; None ends the connection, unless the script has.

    Attributes:
        seen: the connection and turn of each request, in order.
        writers: of the connections, in the order in which they came.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self.seen: list[tuple[int, int]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> str:
        """Begin to listen; returns the base URL."""
        self._server = await asyncio.start_server(self.serve, host, port, ssl=tls, backlog=1024)
        found = self._server.sockets[0].getsockname()[1]
        return f"{'https' if tls else 'http'}://{host}:{found}"

    async def stop(self) -> None:
        """Stop listening, and end every connection."""
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        connection, turn = len(self.writers), 0
        self.writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = head.lower().partition("content-length:")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                self.seen.append((connection, turn))
                reply = await self._script(Turn(connection, turn, head, writer))
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
                turn += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(
    script: Script, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[RawServer, str]]:
    """Run a server; yields it and its base URL."""
    raw = RawServer(script)
    url = await raw.start(host, port, tls)
    try:
        yield raw, url
    finally:
        await close_pool()
        await raw.stop()


async def sound(_turn: Turn) -> bytes | None:
    """Answer every request."""
    return http(completion())
