"""How one model object asks: by its dialect, and by what its server has refused since."""

from collections.abc import Awaitable, Callable

import msgspec

from mixtura.chat import ChatRequest, Completion
from mixtura.errors import RejectedError
from mixtura.models.openai.formats import asks_format
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import Dialect

Attempt = Callable[[Dialect, StreamedReply | None], Awaitable[Completion]]
"""Asks once. A reply that is to be streamed is gathered in the second argument; it is None for one that comes whole."""


class LearnedDialect:
    """A dialect that gives up what its server takes in no request, one thing at a time."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def ask(self, request: ChatRequest, attempt: Attempt, *, stream: bool) -> Awaitable[Completion]:
        """Return what `attempt` returns, streamed if `stream` and the format of the answer allow it.

        A server that refuses the format is asked again at once for less, which is remembered. Each such request gives
        up one of four things for good, so there are four at most.

        Raises:
            ModelError: what `attempt` raises otherwise.
        """
        if not asks_format(request.options):
            return attempt(self._dialect, StreamedReply(request) if stream else None)
        return self._ask_for_less(request, attempt, stream=stream)

    async def _ask_for_less(self, request: ChatRequest, attempt: Attempt, *, stream: bool) -> Completion:
        options = request.options
        while True:
            dialect = self._dialect
            gathered = StreamedReply(request) if stream and dialect.formats.may_stream(options) else None
            if gathered is None and request.context is not None:
                request.context.expect_whole()
            try:
                return await attempt(dialect, gathered)
            except RejectedError as error:
                streamed = gathered is not None
                shown = gathered is not None and gathered.pieces > 0
                lesser = None if shown else dialect.formats.lessened(options, error, streamed=streamed)
                if lesser is None:
                    raise
                # Another call may have learned something else in the meantime.
                known = self._dialect
                self._dialect = msgspec.structs.replace(known, formats=known.formats.and_less(lesser))
