"""A server on a socket that answers each chat request as a function says, and lists models as it is told."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.dialects.row import Reply, as_json

from mixtura.models.openai.pool import close_pool

Answer = Callable[[dict[str, Any]], Reply]
_NOT_FOUND = as_json({"error": {"message": "Not Found"}}, 404)
Models = list[dict[str, Any]] | Reply | Callable[[], Reply]


class ReplyingServer:
    """Serves `answer` below `path` and the rows `models` beside it; everything else is `other`.

    Attributes:
        url: the base URL.
        bodies: the chat requests that came, in order.
        paths: the request lines' paths.
        keys: the keys that came with the chat requests, "" for none.
    """

    def __init__(self, answer: Answer, models: Models, path: str, other: Reply, *, holds_open: bool) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str] = []
        self._answer, self._models, self._path, self._other = answer, models, path, other
        self._holds_open = holds_open
        self._serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which ends with its reply."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = head.lower().partition("content-length:")[2].partition("\r\n")[0]
            sent = await reader.readexactly(int(length or 0))
            self.paths.append(head.split(" ")[1])
            reply = self._reply(sent, head)
            lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in reply.headers.items())]
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + reply.body)
            await writer.drain()
            if self._holds_open and "event-stream" in reply.headers.get("Content-Type", ""):
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._serving.discard(task)

    async def stop(self) -> None:
        """Wait until every connection has ended."""
        await asyncio.gather(*self._serving)

    def _reply(self, sent: bytes, head: str) -> Reply:
        if self.paths[-1] == f"{self._path}/chat/completions":
            self.keys.append(head.partition("Authorization: Bearer ")[2].partition("\r\n")[0])
            self.bodies.append(json.loads(sent))
            return self._answer(self.bodies[-1])
        if self.paths[-1] == f"{self._path}/models":
            models = self._models() if callable(self._models) else self._models
            return models if isinstance(models, Reply) else as_json({"object": "list", "data": models})
        return self._other


@asynccontextmanager
async def replying_server(
    answer: Answer,
    models: Models | None = None,
    *,
    path: str = "/v1",
    other: Reply = _NOT_FOUND,
    holds_open: bool = False,
) -> AsyncGenerator[ReplyingServer]:
    """Run such a server; without `models` it lists "m", which reads 1000 tokens.

    `holds_open`: a stream does not end before its reader leaves.
    """
    listed: Models = [{"id": "m", "max_model_len": 1000}] if models is None else models
    server = ReplyingServer(answer, listed, path, other, holds_open=holds_open)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**22)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}{path}"
    try:
        yield server
    finally:
        await close_pool()
        await server.stop()
        listening.close()
