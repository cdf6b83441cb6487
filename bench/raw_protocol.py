"""Four calls by a bare asyncio protocol: the floor under every client that is written in Python, for scale.

Responses are parsed by httptools, JSON by msgspec. Each proposer and the aggregator has a connection that stays open;
nothing is checked, and a reply of any kind but a whole one is an error.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec

from bench.pipelines import AGGREGATOR, KEY, PROPOSERS, QUESTION, Ask, Reply, compose_messages

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode


class Connection(asyncio.Protocol):
    """One connection with one call at a time on it."""

    def __init__(self, host: str) -> None:
        self._head = (
            f"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the reply; httptools calls this."""
        self._body += piece

    def on_message_complete(self) -> None:
        """Hand the whole reply to the call that waits for it; httptools calls this."""
        self._reply.set_result(_decode(self._body).choices[0].message.content or "")

    def call(self, model: str, messages: list[dict[str, str]], temperature: float) -> asyncio.Future[str]:
        """Send one request; the future is its reply's text."""
        body = _encode({"model": model, "messages": messages, "temperature": temperature, "max_tokens": 1024})
        self._reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        return self._reply

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


@contextlib.asynccontextmanager
async def raw(url: str) -> AsyncIterator[Ask]:
    """Make the pipeline; `url` is plain http."""
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    assert address.hostname
    assert address.port
    made = [
        await loop.create_connection(lambda: Connection(address.netloc), address.hostname, address.port)
        for _ in PROPOSERS
    ]
    connections = [connection for _, connection in made]
    question = [{"role": "user", "content": QUESTION}]

    async def mixture() -> str:
        calls = [one.call(model, question, 0.7) for one, model in zip(connections, PROPOSERS, strict=True)]
        drafts = [await call for call in calls]
        return await connections[0].call(AGGREGATOR, compose_messages(drafts), 0.3)

    try:
        yield mixture
    finally:
        for connection in connections:
            connection.close()
