"""Closes resources when their event loop shuts down, so that callers need not close them."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable


def close_with_loop(close: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    """Call `close` when the running loop shuts down, or earlier on `aclose()` of the returned generator.

    A loop that shuts down closes the asynchronous generators that were started on it (`shutdown_asyncgens`, which
    `asyncio.run` and `Runner` call). This function starts a generator that calls `close` when it is closed. Keep a
    reference to it for as long as the resource: a generator without references is closed at once.
    """

    async def park() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await close()

    keeper = park()
    # The generator's first step awaits nothing, so it can be driven by hand.
    with contextlib.suppress(StopIteration):
        keeper.__anext__().send(None)
    return keeper
