"""What belongs to an event loop ends with it, so that nobody has to close it by hand."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable


def close_with_loop(close: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    """Call `close` when the running loop shuts down; `aclose()` of what is returned does it earlier.

    An event loop closes the asynchronous generators that were begun on it when it shuts down (`shutdown_asyncgens`,
    called by `asyncio.run` and `Runner`). One is parked there, whose end is `close`. Keep what is returned as long as
    what it closes: a generator that nobody holds ends at once.
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
