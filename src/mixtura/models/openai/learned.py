"""How one model object asks: by its dialect, and by what its server has refused since."""

import re
from collections.abc import Awaitable, Callable

import msgspec

from mixtura.chat import ChatRequest, Completion
from mixtura.errors import RejectedError
from mixtura.models.openai.formats import asks_format
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import Dialect

Attempt = Callable[[Dialect, StreamedReply | None], Awaitable[Completion]]
"""Asks once. A reply that is to be streamed is gathered in the second argument; it is None for one that comes whole."""

_LIMITS = ("max_tokens", "max_completion_tokens")
_REFUSES = re.compile(
    r"(?:un|not )supported|unrecogni[sz]ed|unknown|unexpected|not (?:permitted|allowed)|does not support"
    r"|extra (?:inputs|fields)|additional propert|invalid (?:argument|parameter|field)",
    re.IGNORECASE,
)
_FIELDS = re.compile(
    r"\b(?:stream_options|include_reasoning|reasoning_format|reasoning_effort|max_tokens|max_completion_tokens)\b"
)


class LearnedDialect:
    """A dialect that gives up what its server takes in no request, one thing at a time."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    @property
    def known(self) -> Dialect:
        """The dialect, without what the server has refused so far."""
        return self._dialect

    async def ask(self, request: ChatRequest, attempt: Attempt, *, stream: bool) -> Completion:
        """Return what `attempt` returns, streamed if `stream` and the format of the answer allow it.

        A server that refuses the format, or a field that nobody asked for, is asked again at once for less, which is
        remembered. Each such request gives up at least one of nine things for good.

        Raises:
            ModelError: what `attempt` raises otherwise.
        """
        options = request.options
        formed = asks_format(options)
        while True:
            dialect = self._dialect
            streamed = stream and (not formed or dialect.formats.may_stream(options))
            gathered = StreamedReply(request) if streamed else None
            if formed and gathered is None and request.context is not None:
                request.context.expect_whole()
            try:
                return await attempt(dialect, gathered)
            except RejectedError as error:
                if gathered is not None and gathered.pieces > 0:
                    raise
                # Another call may have learned something else in the meantime.
                known = self._dialect
                if without_refused(dialect, error) is not None:
                    self._dialect = without_refused(known, error) or known
                    continue
                lesser = dialect.formats.lessened(options, error, streamed=streamed) if formed else None
                if lesser is None:
                    raise
                self._dialect = msgspec.structs.replace(known, formats=known.formats.and_less(lesser))


def without_refused(dialect: Dialect, error: RejectedError) -> Dialect | None:
    """Return `dialect` without the fields that a refusal names, None where it sends none of them.

    Only fields count that are sent on nobody's request, or that the same wish can be said without.
    """
    named = _FIELDS.findall(error.reason)
    if not named or not _REFUSES.search(error.reason):
        return None
    lesser = dialect
    if "stream_options" in named:
        lesser = msgspec.structs.replace(lesser, usage_option=False)
    if dialect.reasoning in named:
        lesser = msgspec.structs.replace(lesser, reasoning="")
    if "reasoning_effort" in named:
        lesser = msgspec.structs.replace(lesser, left_out=lesser.left_out | {"reasoning_effort"})
    # A refusal of one field for the limit often names the other, to be used instead.
    limit = next((name for name in named if name in _LIMITS), "")
    other = _LIMITS[limit == _LIMITS[0]]
    if limit == dialect.max_tokens and other not in dialect.left_out:
        lesser = msgspec.structs.replace(lesser, max_tokens=other, left_out=lesser.left_out | {limit})
    return None if lesser == dialect else lesser
