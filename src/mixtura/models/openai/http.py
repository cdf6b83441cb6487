"""Models behind HTTP: `HttpModel`, over the pool of connections that every model shares."""

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from mixtura.chat import ChatRequest, Completion, JsonObject, Timing, Usage
from mixtura.errors import ModelError, TimedOutError
from mixtura.models.base import Emit
from mixtura.models.openai.body import beginning, read_error, read_list, read_whole, too_large
from mixtura.models.openai.carried import keep_no_secrets
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.failures import Failures, rate_limit_headers
from mixtura.models.openai.late import LateReader
from mixtura.models.openai.learned import LearnedDialect
from mixtura.models.openai.pool import current_pool
from mixtura.models.openai.reply import WireError
from mixtura.models.openai.shortage import of_this_machine
from mixtura.models.openai.sse import EventParser, LineTooLongError, begins_stream
from mixtura.models.openai.stream import StreamedReply, in_one_piece
from mixtura.models.openai.usage import with_charge
from mixtura.models.openai.wire import Dialect, encode_request
from mixtura.tokens import estimate_messages

if TYPE_CHECKING:
    from mixtura.models.openai.exchange import Reply, Route

_LIST_SECONDS = 20.0
# A server that is at work answers such a question at once, but for one whose only thread is at work.
_ALIVE_SECONDS = 5.0
# Bytes of a stream that nobody watches, about 4 kB of text, after which its caller may look at what has come.
_LOOK_EVERY = 256 * 1024
# How long a finished stream may take to end properly before its connection is given up instead of kept.
_LINGER_SECONDS = 0.05
# Events of a stream after which the event loop gets its turn where no wait gave it one.
_TURN_EVENTS = 128


def _nothing() -> None:
    """Refer to nothing, as a weak reference does whose object is gone."""


class HttpModel:
    """A model behind an OpenAI-compatible endpoint.

    One request, one attempt: nothing is retried here and no time limit is kept but the one for connecting.
    """

    def __init__(self, endpoint: Endpoint, dialect: Dialect, failures: Failures) -> None:
        self._endpoint = endpoint
        self._dialect = LearnedDialect(dialect)
        self._failures = failures
        # The route of its latest call, which belongs to the pool of that event loop.
        self._latest: Callable[[], Route | None] = _nothing

    def _route(self) -> "Route":
        pool, route = current_pool(), self._latest()
        if route is None or route.session is not pool.session:
            route = pool.route(self._endpoint)
            self._latest = weakref.ref(route)
        return route

    @property
    def dialect(self) -> Dialect:
        """How it asks now: without what its server has refused so far."""
        return self._dialect.known

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`, streamed if somebody watches and its format allows it. See `ChatModel.chat`."""
        try:
            return await self._call(self._route(), request, emit)
        except (ModelError, asyncio.CancelledError) as error:
            keep_no_secrets(error)
            raise
        except OSError as problem:
            # The first call imports the client, which takes descriptors as well.
            if (own := of_this_machine(self._endpoint.provider, request.model, problem)) is None:
                raise
            raise own from problem

    def _call(self, route: "Route", request: ChatRequest, emit: Emit | None) -> Awaitable[Completion]:
        begun = asyncio.get_running_loop().time()
        # Nobody watches, yet what has arrived may be wanted before the reply is whole: it is streamed, and parsed late.
        late = emit is None and request.context is not None and request.context.partial

        def attempt(dialect: Dialect, gathered: StreamedReply | None) -> Awaitable[Completion]:
            body = encode_request(request, dialect, stream=gathered is not None)
            posting = route.post(body, request.context, begun, whole=gathered is None)
            return self._attempt(posting, request, gathered, emit, begun)

        return self._dialect.ask(request, attempt, stream=late or emit is not None)

    async def _attempt(
        self,
        posting: "Awaitable[Reply]",
        request: ChatRequest,
        gathered: StreamedReply | None,
        emit: Emit | None,
        begun: float,
    ) -> Completion:
        """Read the reply to one request, streamed into `gathered` or whole."""
        answered = False
        try:
            reply = await posting
            # A call that waited for its turn here had not begun.
            begun += reply.waited
            try:
                if not 200 <= reply.status < 300:
                    raise self._failures.of_reply(request.model, reply.status, reply.headers, await read_error(reply))
                answered = True
                if gathered is not None:
                    completion = await _streamed(reply, gathered, emit, begun)
                else:
                    completion = await read_whole(reply, request, begun, streamed=False)
                    if emit is not None:
                        emit(in_one_piece(completion))
                if completion.charged is None and "x-litellm-response-cost" in reply.headers:
                    completion = with_charge(completion, reply.headers["x-litellm-response-cost"])
                limits = rate_limit_headers(reply.headers)
                return completion if limits is None else msgspec.structs.replace(completion, rate_limits=limits)
            except BaseException:
                # Nothing reads on from here, cancelled callers included: the connection must not stay open.
                reply.close()
                raise
        except WireError as problem:
            error = self._failures.of_wire(request.model, problem)
            # What a broken reply says of its usage need not be what is billed.
            said = problem.usage and msgspec.structs.replace(problem.usage, estimated=True)
            error.usage = said or _billed(request, gathered, answered=answered)
            raise error from None
        except LineTooLongError as problem:
            error = self._failures.of_wire(request.model, WireError(str(problem), alike=True))
            error.usage = _billed(request, gathered, answered=answered)
            raise error from None
        except _broken() as problem:
            error = _unreachable(self._endpoint, request.model, problem)
            error.usage = _billed(request, gathered, answered=answered)
            raise error from problem


@functools.cache
def _broken() -> tuple[type[Exception], ...]:
    """Return the errors of a connection; by now something has imported the client."""
    from aiohttp import ClientError

    return ClientError, OSError


async def answers(endpoint: Endpoint) -> bool:
    """Say whether a server answers a question that costs it nothing, whatever it says."""
    from aiohttp import ClientError

    from mixtura.models.openai.exchange import Destination, by_session

    try:
        async with asyncio.timeout(_ALIVE_SECONDS):
            reply = await by_session(current_pool().session, Destination.of(endpoint, "/models"), "GET")
            reply.close()
            return True
    except (TimeoutError, ClientError, OSError):
        return False


async def list_models(endpoint: Endpoint, failures: Failures) -> list[JsonObject]:
    """Return the rows of the provider's own list of models, as it sends them.

    Raises:
        ModelError: the list could not be had; the classes are those of a call.
    """
    try:
        return await _list_models(endpoint, failures)
    except (ModelError, asyncio.CancelledError) as error:
        keep_no_secrets(error)
        raise


async def _list_models(endpoint: Endpoint, failures: Failures) -> list[JsonObject]:
    from aiohttp import ClientError

    from mixtura.models.openai.exchange import Destination, by_session

    try:
        async with asyncio.timeout(_LIST_SECONDS):
            reply = await by_session(current_pool().session, Destination.of(endpoint, "/models"), "GET")
            try:
                if not 200 <= reply.status < 300:
                    body = await read_error(reply)
                    raise failures.of_reply("its list of models", reply.status, reply.headers, body)
                rows = await read_list(reply)
            finally:
                reply.close()
        return rows
    except ValueError as problem:
        said = problem if isinstance(problem, WireError) else WireError("not a list of models")
        raise failures.of_wire("its list of models", said) from None
    except ClientError as problem:
        raise _unreachable(endpoint, "its list of models", problem) from problem
    except TimeoutError:
        raise TimedOutError(
            endpoint.provider, "its list of models", f"nothing came within {_LIST_SECONDS:.0f} s"
        ) from None
    except OSError as problem:
        raise _unreachable(endpoint, "its list of models", problem) from problem


def _billed(request: ChatRequest, gathered: StreamedReply | None, *, answered: bool) -> Usage | None:
    """Return the estimated usage of a reply that broke off, None for one that had not begun."""
    if not answered or (gathered is not None and not gathered.pieces):
        return None
    written = 0 if gathered is None else gathered.pieces
    return Usage(prompt_tokens=estimate_messages(request.messages), completion_tokens=written, estimated=True)


async def _streamed(reply: "Reply", gathered: StreamedReply, emit: Emit | None, begun: float) -> Completion:
    """Read a streamed reply: `emit` gets each piece as it comes; without it pieces are parsed when they are wanted."""
    request, context = gathered.request, gathered.request.context
    said = reply.headers.get("Content-Type", "").lower().startswith("text/event-stream")
    tell = None if context is None else context.on_answered
    if said and tell is not None:
        await tell(rate_limit_headers(reply.headers))
    # What its head says of a body is often wrong; its first bytes are not.
    begin = await beginning(reply)
    if not begin.startswith(b"data: ") and not (begins_stream(begin, said=said) or (said and not begin)):
        completion = await read_whole(reply, request, begun, streamed=True, begin=begin)
        if emit is not None:
            emit(in_one_piece(completion))
        return completion
    if tell is not None and not said:
        await tell(rate_limit_headers(reply.headers))
    if emit is None:
        return await _read_late(reply, gathered, begin, begun)
    return await _read_watched(reply, gathered, begin, emit, begun)


async def _read_watched(reply: "Reply", gathered: StreamedReply, piece: bytes, emit: Emit, begun: float) -> Completion:
    """Read a streamed reply from its first `piece` on, each handed to `emit` as it comes."""
    from aiohttp import ClientError

    clock, parser = asyncio.get_running_loop().time, EventParser(gathered.bounds.event)
    first: float | None = None
    size = taken = 0
    try:
        while piece:
            size += len(piece)
            if size > gathered.bounds.stream:
                raise too_large(gathered.bounds, gathered.bounds.stream)
            for event in parser.feed(piece):
                taken += 1
                if not taken % _TURN_EVENTS:
                    await asyncio.sleep(0)
                delta = gathered.take(event)
                if delta is not None:
                    if first is None:
                        first = clock() - begun
                    emit(delta)
            if gathered.done:
                break
            piece = await reply.more()
        else:
            for event in parser.finish():
                delta = gathered.take(event)
                if delta is not None:
                    emit(delta)
    except (ClientError, OSError):
        # A connection that breaks behind the last word of an answer takes nothing of it.
        if not gathered.whole:
            raise
    total = clock() - begun
    await _let_end(reply)
    return gathered.completion(Timing(total=total, first_token=first))


async def _read_late(reply: "Reply", gathered: StreamedReply, piece: bytes, begun: float) -> Completion:
    """Read a streamed reply that nobody watches: its pieces are parsed when they are wanted, and at its end."""
    from aiohttp import ClientError

    clock, context = asyncio.get_running_loop().time, gathered.request.context
    late = LateReader(gathered)
    if context is not None:
        context.attach(late)
    size = looked = 0
    try:
        while piece:
            size += len(piece)
            if size > gathered.bounds.stream:
                raise too_large(gathered.bounds, gathered.bounds.stream)
            if late.feed(piece, clock()):
                break
            if size - looked >= _LOOK_EVERY and context is not None:
                looked = size
                context.look()
            piece = await reply.more()
    except BaseException as problem:
        # What had come by then is billed, and has to be counted.
        late.parse()
        if not (gathered.whole and isinstance(problem, (ClientError, OSError))):
            raise
    late.finish()
    total = clock() - begun
    await _let_end(reply)
    first = late.first
    return gathered.completion(Timing(total=total, first_token=None if first is None else first - begun))


async def _let_end(reply: "Reply") -> None:
    """Give a finished stream the moment it needs to end, so that its connection can be used again."""
    from aiohttp import ClientError

    if reply.ended:
        return
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while await reply.more():
                pass
    except (TimeoutError, ClientError, OSError):
        # The answer is whole: how its connection ends costs the connection only.
        reply.close()


def _unreachable(endpoint: Endpoint, model: str, problem: Exception) -> ModelError:
    """Return the error for a connection that failed. See `causes`, which the first failure loads."""
    from mixtura.models.openai.causes import unreachable

    if (own := of_this_machine(endpoint.provider, model, problem)) is not None:
        return own
    return unreachable(endpoint, model, problem)
