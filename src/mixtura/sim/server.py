"""The simulated cloud over real HTTP: routes, delays, and broken connections.

async with simulated_cloud(SimOptions(profile="lpu")) as cloud:
    ...                                     # cloud.url, cloud.ledger, cloud.requests
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from mixtura.chat import JsonObject
from mixtura.sim import bodies, delivery
from mixtura.sim.cloud import AdmittedCall, CloudSimulator
from mixtura.sim.faults import ErrorReply
from mixtura.sim.ledger import Ledger
from mixtura.sim.options import SimOptions

_PREFIXES = ("/openai/v1", "/v1", "")
# Connections that may wait to be accepted. A client whose connection finds no place tries again after a second.
_BACKLOG = 4096
_MOST_BYTES = 64 * 1024 * 1024
_UNCACHED = {"cache-control": "private, max-age=0, no-store, no-cache, must-revalidate"}
_STREAMED = {"cache-control": "no-cache", "content-type": "text/event-stream"}


class SimulatedCloud:
    """A handle on a running simulated cloud, for tests and commands."""

    def __init__(self, cloud: CloudSimulator, url: str) -> None:
        self.cloud = cloud
        self.url = url

    @property
    def base_url(self) -> str:
        """The base URL for an OpenAI client. Groq's own client takes `url`."""
        return f"{self.url}/openai/v1"

    @property
    def ledger(self) -> Ledger:
        """The cloud's counts and its bill."""
        return self.cloud.ledger

    @property
    def requests(self) -> list[JsonObject]:
        """The bodies of the chat calls received, oldest first. Only the latest 10,000 are kept."""
        return self.cloud.requests


@asynccontextmanager
async def simulated_cloud(
    options: SimOptions | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[SimulatedCloud]:
    """Serve a simulated cloud while the block runs. Port 0 takes a free port.

    Raises:
        ConfigError: a file named in `options` cannot be read, or a profile or fault in it cannot be parsed.
        OSError: the port is in use.
    """
    options = options or SimOptions()
    loop = asyncio.get_running_loop()
    start = loop.time()
    cloud = CloudSimulator(options, now=lambda: (loop.time() - start) * options.speed)
    runner = web.AppRunner(
        _RouteHandlers(cloud).app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.05
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        await site.start()
        real_host, real_port, *_ = runner.addresses[0]
        shown = f"[{real_host}]" if ":" in real_host else real_host
        yield SimulatedCloud(cloud, f"http://{shown}:{real_port}")
    finally:
        await runner.cleanup()


async def serve(
    options: SimOptions,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    ready: Callable[[SimulatedCloud], None] = lambda running: None,
) -> None:
    """Serve until cancelled. `ready` is called once the port is open."""
    async with simulated_cloud(options, host=host, port=port) as running:
        ready(running)
        await asyncio.Event().wait()


class _RouteHandlers:
    def __init__(self, cloud: CloudSimulator) -> None:
        self._cloud = cloud
        slots = cloud.options.slots
        self._slots = None if slots is None else asyncio.Semaphore(slots)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MOST_BYTES)
        for prefix in _PREFIXES:
            app.router.add_post(f"{prefix}/chat/completions", self._chat)
            app.router.add_post(f"{prefix}/embeddings", self._embeddings)
            app.router.add_get(f"{prefix}/models", self._models)
            app.router.add_get(f"{prefix}/models/{{name:.+}}", self._model)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._error(413, bodies.error("Request Entity Too Large", code="request_too_large"))
        call = self._cloud.receive(request.headers.get("authorization", ""), raw)
        if isinstance(call, ErrorReply):
            return _send(call)
        with self._cloud.ledger.track_call(call.head.model):
            if self._slots is None:
                return await _CallDelivery(self._cloud, call, request).run()
            try:
                await self._slots.acquire()
            except asyncio.CancelledError:
                self._cloud.ledger.aborted += 1
                raise
            try:
                return await _CallDelivery(self._cloud, call, request).run()
            finally:
                self._slots.release()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refuse_key(request):
            return refused
        return self._json(200, {"object": "list", "data": self._cloud.models()})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refuse_key(request):
            return refused
        name = request.match_info["name"]
        row = next((row for row in self._cloud.models() if row["id"] == name), None)
        return self._error(404, bodies.unknown_model(name)) if row is None else self._json(200, row)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refuse_key(request):
            return refused
        try:
            body = await request.json()
        except ValueError:
            body = None
        name = body.get("model") if isinstance(body, dict) else None
        return self._error(404, bodies.unknown_model(str(name)))

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        return self._error(404, bodies.unknown_url(request.method, request.path))

    def _refuse_key(self, request: web.Request) -> web.Response | None:
        if self._cloud.organisation(request.headers.get("authorization", "")) is None:
            return self._error(401, bodies.error("Invalid API Key", code="invalid_api_key"))
        return None

    def _error(self, status: int, body: JsonObject) -> web.Response:
        self._cloud.ledger.refused[status] += 1
        return self._json(status, body)

    def _json(self, status: int, body: JsonObject) -> web.Response:
        return _send(ErrorReply(status, bodies.json_document(body), self._cloud.base_headers()))


def _send(reply: ErrorReply) -> web.Response:
    headers = _UNCACHED | reply.headers | {"content-type": reply.content_type}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


class _CallDelivery:
    """Delivers one call, in the cloud's time."""

    def __init__(self, cloud: CloudSimulator, call: AdmittedCall, request: web.Request) -> None:
        self._cloud = cloud
        self._call = call
        self._request = request
        self._start = cloud.now()
        self._kind = call.fault.kind if call.fault else ""
        self._sent_tokens = 0
        self._was_reset = False

    async def run(self) -> web.StreamResponse:
        """Deliver the call, then bill the tokens that were generated by its end, even when it broke off."""
        call = self._call
        done = False
        try:
            response = await (self._send_stream() if call.stream else self._send_whole())
            done = True
            return response
        except (asyncio.CancelledError, ConnectionResetError) as gone:
            # The client disconnected: aiohttp cancels the handler, or a write finds the connection closed.
            if not self._was_reset:
                self._cloud.ledger.aborted += 1
            if isinstance(gone, ConnectionResetError):
                # The client will not read this response. Raising on would log a server error.
                return web.Response()
            raise
        finally:
            whole = done and self._kind not in ("truncated", "error_event") and self._call.generation_error is None
            self._cloud.settle(call, call.rendered.tokens if whole else self._generated_tokens(), whole=whole)

    def _generated_tokens(self) -> int:
        """Return the tokens generated so far: those sent of a stream, those due by the clock of a whole reply."""
        if self._call.stream:
            return self._sent_tokens
        times, total = self._call.usage.times, self._call.rendered.tokens
        elapsed = (self._cloud.now() - self._start) * 1e9 - times.queue - times.prompt
        return (
            total
            if not times.completion or elapsed >= times.completion
            else max(0, int(total * elapsed / times.completion))
        )

    def _moment_of(self, tokens: int) -> float:
        """Return the moment, in the cloud's time, at which `tokens` have been generated."""
        times, total = self._call.usage.times, self._call.rendered.tokens
        share = tokens / total if total else 1.0
        return self._start + (times.queue + times.prompt + times.completion * share) / 1e9

    async def _sleep_until(self, moment: float) -> None:
        if (wait := moment - self._cloud.now()) > 0:
            await asyncio.sleep(wait / self._cloud.options.speed)

    async def _send_whole(self) -> web.StreamResponse:
        if self._kind == "silent":
            await asyncio.Event().wait()
        if self._kind == "reset":
            return await self._reset()
        await self._sleep_until(self._moment_of(self._call.rendered.tokens))
        headers = self._call.headers | _UNCACHED | {"content-type": "application/json"}
        if self._kind == "error_event":
            return web.Response(status=400, body=delivery.failed_body(), headers=headers)
        body = delivery.whole_body(self._call)
        if self._kind not in ("stall", "cut", "truncated", "drip", "reset_headers"):
            return web.Response(body=body, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(self._request)
        if self._kind == "drip":
            await self._drip(response, body)
        elif self._kind != "reset_headers":
            await response.write(body[: len(body) // 2])
        return await self._finish(response)

    async def _send_stream(self) -> web.StreamResponse:
        if self._kind == "silent":
            await asyncio.Event().wait()
        if self._kind == "reset":
            return await self._reset()
        await self._sleep_until(self._moment_of(0))
        response = web.StreamResponse(headers=self._call.headers | _STREAMED)
        await response.prepare(self._request)
        if self._kind == "drip":
            await self._drip(response, b"".join(event.data for event in delivery.stream_events(self._call)))
            return await self._finish(response)
        breaks = self._kind in ("stall", "cut", "truncated", "reset_headers")
        # The role chunk comes before the first piece, so `number` pieces are `number + 1` events.
        left = int(self._call.fault.number) + (self._kind != "reset_headers") if self._call.fault else 0
        pending: list[bytes] = []
        for event in delivery.stream_events(self._call):
            if breaks and (left <= 0 or event.tokens >= self._call.rendered.tokens):
                break
            left -= 1
            if pending and self._moment_of(event.tokens) > self._cloud.now():
                await response.write(b"".join(pending))
                pending.clear()
            await self._sleep_until(self._moment_of(event.tokens))
            pending.append(event.data)
            self._sent_tokens = event.tokens
        if pending:
            await response.write(b"".join(pending))
        return await self._finish(response)

    async def _finish(self, response: web.StreamResponse) -> web.StreamResponse:
        """Close the reply, or leave it open or broken as its fault demands."""
        if self._kind == "stall":
            await asyncio.Event().wait()
        if self._kind in ("cut", "reset_headers"):
            return await self._reset()
        await response.write_eof()
        return response

    async def _drip(self, response: web.StreamResponse, data: bytes) -> None:
        pause = self._call.fault.number if self._call.fault else 1.0
        for place in range(len(data)):
            await response.write(data[place : place + 1])
            self._sent_tokens = self._call.rendered.tokens * place // len(data)
            await asyncio.sleep(pause / self._cloud.options.speed)

    async def _reset(self) -> web.StreamResponse:
        """Reset the connection. aiohttp cancels this handler when the connection is lost."""
        self._was_reset = True
        transport = self._request.transport
        if transport is not None:
            connection: socket.socket | None = transport.get_extra_info("socket")
            if connection is not None and self._kind in ("reset", "reset_headers"):
                # With a linger time of 0 the kernel sends RST instead of FIN.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        await asyncio.Event().wait()
        raise AssertionError("an aborted connection cancels its handler")
