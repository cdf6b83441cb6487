"""Servers on this machine that answer as a test says, and the models that ask them without wrappers."""

import datetime as dt
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from mixtura.chat import PartialReader, SharedCall, Usage
from mixtura.models.catalog import Catalog
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.http import HttpModel
from mixtura.models.openai.pool import close_pool
from mixtura.models.openai.sdk import SdkClient, SdkModel
from mixtura.models.openai.wire import Dialect

FAILURES = Failures("groq", Catalog.load(), lambda: dt.date(2026, 11, 21))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Unseen:
    """The context of a call that nobody watches and whose beginning may be wanted."""

    partial = True
    on_answered = None

    def attach(self, reader: PartialReader) -> None: ...

    def look(self) -> None: ...

    def share(self, call: SharedCall | None) -> None: ...

    def expect_whole(self) -> None:
        """Nobody looks at silence here."""

    def draw(self, account: str, tokens: int) -> str:
        return ""

    def begin(self, now: float) -> None: ...

    def pause(self) -> None: ...

    def waste(self, usage: Usage | None) -> None: ...

    def refuse_repeat(self) -> str:
        return ""


@asynccontextmanager
async def served(handler: Handler) -> AsyncGenerator[str]:
    """Serve every path with `handler`; the value is the root's URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await close_pool()
        await runner.cleanup()


def http_model(url: str, dialect: Dialect | None = None) -> HttpModel:
    """Return a model of the server at `url`."""
    return HttpModel(Endpoint(provider="groq", url=f"{url}/v1"), dialect or Dialect(), FAILURES)


@asynccontextmanager
async def sdk_model(client: Any, dialect: Dialect | None = None) -> AsyncGenerator[SdkModel]:
    """Yield a model that calls through `client`, which is closed at the end."""
    try:
        yield SdkClient(client).model(dialect or Dialect(), FAILURES)
    finally:
        closing = client.close()
        if closing is not None:
            await closing
