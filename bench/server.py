"""The loopback server that all pipelines talk to: canned Groq replies as fast as Python can send them.

It is a process of its own, so that a pipeline's CPU is the pipeline's alone, and does next to nothing per request,
so that it is not what is measured. With a delay it notes when each call began and ended, as a server sees them.
A request with `"stream": true` gets a stream of chunks, all of them in one write or paced.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import replies

_MODEL = re.compile(rb'"model":\s*"([^"]+)"')
_STREAM = re.compile(rb'"stream":\s*true')


class Pace(NamedTuple):
    """How fast the server replies.

    Attributes:
        delay: seconds before a whole reply, or before a stream's first chunk.
        between: seconds from one chunk of a stream to the next. 0 sends all of them in one write: were each written
            on its own, how many one read gets would depend on which process is faster, and a client that saves work
            would be woken more often for it.
        chunks: how many pieces the text of a stream has.
    """

    delay: float = 0.0
    between: float = 0.0
    chunks: int = 100


AT_ONCE = Pace()


class Canned(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, just enough for clients that send a whole request with a content-length."""

    def __init__(self, pace: Pace, spans: list[tuple[float, float]], numbers: Iterator[int]) -> None:
        self._pace = pace
        self._spans = spans
        self._numbers = numbers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            if head.startswith(b"GET /spans"):
                self._data = self._data[end + 4 :]
                self._send_spans()
                continue
            low = head.lower()
            at = low.find(b"content-length:")
            length = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            body = self._data[end + 4 : end + 4 + length]
            self._data = self._data[end + 4 + length :]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        found = _MODEL.search(body)
        model = found[1].decode() if found else "unknown"
        number = next(self._numbers)
        if _STREAM.search(body):
            pieces = replies.streamed(model, number, self._pace.chunks)
        else:
            pieces = (replies.whole(model, number),)
        if self._pace.delay:
            loop.call_later(self._pace.delay, self._begin, pieces, loop.time())
        else:
            self._begin(pieces, None)

    def _begin(self, pieces: tuple[bytes, ...], asked: float | None) -> None:
        """Send `pieces`; note the call as one that began at `asked` where the server waited before it replied."""
        loop = asyncio.get_running_loop()
        if asked is not None:
            self._spans.append((asked, loop.time()))
        if self._pace.between:
            self._send_paced(pieces, 0, loop.time())
        else:
            self._send(b"".join(pieces))

    def _send_paced(self, pieces: tuple[bytes, ...], at: int, began: float) -> None:
        """Send piece `at` and plan the next one; times count from the stream's start, so that no delay adds up."""
        self._send(pieces[at])
        if at + 1 < len(pieces):
            when = began + (at + 1) * self._pace.between
            asyncio.get_running_loop().call_at(when, self._send_paced, pieces, at + 1, began)

    def _send_spans(self) -> None:
        body = json.dumps(self._spans).encode()
        self._spans.clear()
        self._send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def serve(pace: Pace, chain: Path | None = None) -> None:
    """Serve until killed, over TLS with the certificate and key in `chain`; the first line printed is the port."""
    spans: list[tuple[float, float]] = []
    # All connections share them, so that no two drafts of a run are the same: those would not be aggregated.
    numbers = itertools.cycle(range(replies.NUMBERS))
    context = None
    if chain is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Canned(pace, spans, numbers), "127.0.0.1", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running(pace: Pace = AT_ONCE, chain: Path | None = None) -> Iterator[str]:
    """Start the server in a process of its own and yield its base URL; it speaks TLS where `chain` is given."""
    command = [sys.executable, "-m", "bench.server", *(f"--{name}={value}" for name, value in pace._asdict().items())]
    if chain is not None:
        command.append(f"--chain={chain}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield f"{'http' if chain is None else 'https'}://127.0.0.1:{port}"
        finally:
            process.kill()


def _take_last_core() -> None:
    """Keep this process on the last core it may use, so that the pipelines have the others to themselves."""
    if not hasattr(os, "sched_setaffinity"):
        return  # macOS and Windows leave it to the scheduler
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > 1:
        os.sched_setaffinity(0, allowed[-1:])


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--between", type=float, default=0.0)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--chain", type=Path, help="PEM file with the certificate and its key: serve over TLS")
    told = parser.parse_args()
    _take_last_core()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Pace(told.delay, told.between, told.chunks), told.chain))


if __name__ == "__main__":
    main()
