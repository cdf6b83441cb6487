"""The loopback server all pipelines talk to: canned Groq replies as fast as Python can send them.

It is a process of its own, so that a pipeline's CPU is the pipeline's alone, and does next to nothing per request,
so that it is not what is measured. With a delay it notes when each call began and ended, as a server sees them.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

_TEXT = "A B-tree keeps its keys sorted in pages, so a lookup touches few of them. " * 8


def reply_body(model: str, number: int) -> bytes:
    """Return one completion of about 1.2 kB in Groq's shape; each draft differs, as real ones do."""
    usage = {
        "queue_time": 0.019,
        "prompt_tokens": 60,
        "prompt_time": 0.003,
        "completion_tokens": 150,
        "completion_time": 0.15,
        "total_tokens": 210,
        "total_time": 0.153,
    }
    message = {"role": "assistant", "content": f"{_TEXT}Point {number}."}
    return json.dumps(
        {
            "id": "chatcmpl-6a0f3262-12b3-44b8-8253-8c1cad4415d5",
            "object": "chat.completion",
            "created": 1773345612,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage,
            "usage_breakdown": None,
            "system_fingerprint": "fp_00c37775b7",
            "x_groq": {"id": "req_01kkht589efqdsj9kpsy67f2sk", "seed": 1322261444},
            "service_tier": "on_demand",
        }
    ).encode()


class Canned(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, just enough for clients that send a whole request with a content-length."""

    def __init__(self, delay: float, spans: list[tuple[float, float]]) -> None:
        self._delay = delay
        self._spans = spans
        self._data = b""
        self._number = 0
        self._bodies: list[bytes] = []

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
                self._send(json.dumps(self._spans).encode())
                self._spans.clear()
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
        self._number += 1
        reply = reply_body("llama-3.1-8b-instant", hash(body) % 97 + self._number)
        if not self._delay:
            self._send(reply)
            return
        began = loop.time()

        def later() -> None:
            self._spans.append((began, loop.time()))
            self._send(reply)

        loop.call_later(self._delay, later)

    def _send(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )


async def serve(delay: float) -> None:
    """Serve until killed; the first line printed is the port."""
    spans: list[tuple[float, float]] = []
    server = await asyncio.get_running_loop().create_server(lambda: Canned(delay, spans), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running(delay: float = 0.0) -> Iterator[str]:
    """Start the server in a process of its own and give its base URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.server", str(delay)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(float(sys.argv[1])))
