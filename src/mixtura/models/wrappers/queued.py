"""`Queued` wraps a model that one machine serves: its calls wait their turn, and know of each other."""

import asyncio

from mixtura.chat import ChatRequest, Completion, Delta
from mixtura.limits.concurrency import ServerQueue
from mixtura.models.base import ChatModel, Emit
from mixtura.models.served import Accounting


class Queued:
    """A model whose calls are let through to its server only as many at a time as the server works on.

    A call that waits here has not begun: it is neither silent nor late. See `limits/concurrency.py`.

    Args:
        model: the model.
        accounting: finds the limiter that keeps the queue.
        server: names the server; models with the same one share its queue.
        width: how many calls it serves at once, None to learn it.
    """

    def __init__(self, model: ChatModel, accounting: Accounting, server: str, width: int | None) -> None:
        self._model = model
        self._accounting = accounting
        self._name = server
        self._width = width

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request` when it is its turn. See `ChatModel.chat`."""
        queue = self._queue()
        visit = await queue.enter()
        clock = asyncio.get_running_loop().time
        try:
            if request.context is not None:
                request.context.share(visit)
            if emit is None:
                return await self._model.chat(request, deadline=deadline)
            visit.streamed = True

            def watched(delta: Delta) -> None:
                visit.piece(clock())
                emit(delta)

            return await self._model.chat(request, emit=watched, deadline=deadline)
        finally:
            queue.leave(visit, clock())
            if request.context is not None:
                request.context.share(None)

    def _queue(self) -> ServerQueue:
        return self._accounting.limiter().server_queue(self._name, self._width)
