"""The one seam between the engine and whatever can answer: `ChatModel`, one method."""

from collections.abc import Callable
from typing import Protocol

from mixtura.chat import ChatRequest, Completion, Delta

Emit = Callable[[Delta], None]


class ChatModel(Protocol):
    """Anything that answers a request.

    Behaviour (retries, limits, prices, tracing) is added by wrapping one `ChatModel` in another.
    """

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request` whole.

        Args:
            request: what to ask.
            emit: called with every piece as it arrives; None means nobody watches, so that the reply need
                not be streamed.
            deadline: event-loop time (`loop.time()`) after which the caller has no use for the answer. An
                implementation must not start waits that end later; cancelling at the deadline is the
                caller's part.

        Raises:
            ModelError: the call failed; its class says what may be done.
        """
        ...
