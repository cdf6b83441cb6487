"""A user's own SDK client as a model: `AsyncGroq`, `Groq`, `AsyncOpenAI`, `OpenAI`, or anything alike.

No SDK is imported here. A client is known by its `chat.completions.create`; a synchronous one runs in threads.
Its own retries are switched off, since they would hide waits from the deadline (see `retry.py`).
"""

import asyncio
import functools
import inspect
import json
import sys
import threading
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from mixtura.chat import ChatRequest, Completion, JsonObject, Timing
from mixtura.errors import BlockedError, ConfigError, ModelError, UnreachableError
from mixtura.models.base import Emit
from mixtura.models.openai.bounds import bounds_of
from mixtura.models.openai.carried import keep_no_secrets
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.learned import LearnedDialect
from mixtura.models.openai.reply import WireError, as_json, decode_reply
from mixtura.models.openai.sdk_objects import advice, create_of, server_of
from mixtura.models.openai.shortage import of_this_machine
from mixtura.models.openai.stream import StreamedReply, in_one_piece
from mixtura.models.openai.wire import Dialect, completion_from, request_body
from mixtura.models.threads import DaemonThreads
from mixtura.secret import Secret
from mixtura.variables import text_of

# What every `create` takes by name; anything else travels in `extra_body` unless its signature has it.
_COMMON = frozenset(
    ("messages", "model", "stream", "temperature", "top_p", "max_tokens", "seed", "stop", "user", "tools")
) | {"tool_choice", "response_format", "stream_options", "max_completion_tokens", "parallel_tool_calls"}


class SdkClient:
    """A client made ready: retries off, its signature and its errors known.

    Attributes:
        server_in: returns the provider of a catalogue that the client asks, None where it is not known.
        base_url: where the client sends its calls, as it writes the address; "" when it does not say.
        key: its API key, as far as it tells, or a stand-in that is unique to the client.

    Raises:
        ConfigError: the object has no `chat.completions.create`.
    """

    def __init__(self, client: object) -> None:
        with_options = getattr(client, "with_options", None)
        if callable(with_options):
            client = with_options(max_retries=0)
        create = create_of(client)
        if create is None:
            raise ConfigError(f"a {type(client).__name__} cannot be used as a client: {advice(client)}")
        self.create: Callable[..., Any] = create
        self.name = type(client).__name__
        self.server_in = functools.partial(server_of, client)
        self.base_url = str(getattr(client, "base_url", None) or "")
        # A client without a key has limits of its own, as far as can be known.
        self.key = Secret(text_of(getattr(client, "api_key", None)) or str(id(client)))
        self.synchronous = not _is_async(client, self.create)
        self.errors = _errors_of(client)
        self._names = _parameters(self.create)
        self.takes_timeout = "timeout" in self._names

    def model(self, dialect: Dialect, failures: Failures) -> "SdkModel":
        """Return the model that calls through this client."""
        return SdkModel(self, dialect, failures)

    def arguments(self, request: ChatRequest, dialect: Dialect, *, stream: bool) -> JsonObject:
        """Return the arguments of `create`: fields its signature lacks go into `extra_body`."""
        body = request_body(request, dialect, stream=stream)
        body["messages"] = msgspec.to_builtins(body["messages"])
        extra = {name: body.pop(name) for name in list(body) if name not in self._names}
        if extra:
            body["extra_body"] = extra
        return body


class SdkModel:
    """One model called through a user's client. One attempt; a synchronous client gets a thread per call."""

    def __init__(self, client: SdkClient, dialect: Dialect, failures: Failures) -> None:
        self._client = client
        self._dialect = LearnedDialect(dialect)
        self._failures = failures

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`, streamed if somebody watches and its format allows it. See `ChatModel.chat`."""
        begun = asyncio.get_running_loop().time()

        def attempt(dialect: Dialect, gathered: StreamedReply | None) -> Awaitable[Completion]:
            arguments = self._client.arguments(request, dialect, stream=gathered is not None)
            return self._attempt(arguments, request, gathered, emit, deadline, begun)

        try:
            return await self._dialect.ask(request, attempt, stream=emit is not None)
        except ModelError as error:
            keep_no_secrets(error)
            raise

    async def _attempt(
        self,
        arguments: JsonObject,
        request: ChatRequest,
        gathered: StreamedReply | None,
        emit: Emit | None,
        deadline: float | None,
        begun: float,
    ) -> Completion:
        """Make one call, its reply streamed into `gathered` or whole."""
        clock = asyncio.get_running_loop().time
        if self._client.synchronous and deadline is not None and self._client.takes_timeout:
            # Nothing can be called off in a thread: the client has to let go of the connection by itself.
            arguments["timeout"] = max(0.05, deadline - clock())
        try:
            if gathered is not None and emit is not None:
                return await self._streamed(gathered, arguments, emit, begun)
            if self._client.synchronous:
                create = functools.partial(self._client.create, **arguments)
                reply = await asyncio.get_running_loop().run_in_executor(_THREADS, create)
            else:
                reply = self._client.create(**arguments)
            if inspect.isawaitable(reply):
                # Whether a client is asynchronous is told by what it returns; a wrapper round it may hide it till then.
                reply = await reply
            bounds = bounds_of(request)
            data = _json_of(reply, bounds.whole)
            completion = completion_from(decode_reply(data, bounds), request, Timing(total=clock() - begun))
            if emit is not None:
                emit(in_one_piece(completion))
            return completion
        except WireError as problem:
            raise self._failures.of_wire(request.model, problem) from None
        except self._client.errors as problem:
            raise self._meaning(request.model, problem) from problem

    async def _streamed(self, gathered: StreamedReply, arguments: JsonObject, emit: Emit, begun: float) -> Completion:
        clock = asyncio.get_running_loop().time
        first: float | None = None
        left = gathered.bounds.stream

        def take(chunk: object) -> None:
            nonlocal first, left
            data = _json_of(chunk, left)
            left -= len(data)
            delta = gathered.add(decode_reply(data, gathered.bounds))
            if delta is not None:
                if first is None:
                    first = clock() - begun
                emit(delta)

        if self._client.synchronous:
            await _stream_in_thread(functools.partial(self._client.create, **arguments), take)
        else:
            await _stream_on_loop(self._client.create(**arguments), take)
        return gathered.completion(Timing(total=clock() - begun, first_token=first))

    def _meaning(self, model: str, problem: BaseException) -> ModelError:
        """Return the error that an SDK's exception means, by the status and body it carries."""
        status = getattr(problem, "status_code", None)
        body = getattr(problem, "body", None)
        response = getattr(problem, "response", None)
        headers = getattr(response, "headers", None)
        if isinstance(status, int):
            return self._failures.of_body(model, status, headers if headers is not None else {}, body or str(problem))
        if body:
            return self._failures.of_body(model, None, {}, body)
        if isinstance(problem, ValueError):
            return self._failures.of_wire(model, WireError(f"{self._client.name} could not read the reply: {problem}"))
        from mixtura.models.openai.certificates import refused_below

        provider = self._failures.provider
        if (own := of_this_machine(provider, model, problem)) is not None:
            return own
        words = refused_below(problem, urllib.parse.urlsplit(self._client.base_url).netloc or provider)
        if words:
            # An SDK says "Connection error." for all that happens on the way.
            return BlockedError(provider, model, f"{self._client.name}: {words}")
        return UnreachableError(provider, model, f"{self._client.name}: {problem}")


async def _stream_on_loop(made: object, take: Callable[[object], None]) -> None:
    """Read what an asynchronous client returned for a stream: the stream, or what gives it."""
    stream: Any = await made if inspect.isawaitable(made) else made
    try:
        if hasattr(stream, "__aiter__"):
            await _each(stream, take)
        else:
            for chunk in stream:
                take(chunk)
    finally:
        await _close(stream)


async def _each(stream: AsyncIterator[object], take: Callable[[object], None]) -> None:
    async for chunk in stream:
        take(chunk)


async def _close(stream: object) -> None:
    """Close a stream whichever way its SDK spells it, so that no request stays open."""
    for name in ("close", "aclose"):
        close = getattr(stream, name, None)
        if callable(close):
            closing = close()
            if inspect.isawaitable(closing):
                await closing
            return


_THREADS = DaemonThreads("mixtura-sdk")


async def _stream_in_thread(create: Callable[[], Any], take: Callable[[object], None]) -> None:
    """Read a synchronous stream in a thread, each chunk taken on the loop; a reader that goes away stops it."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[object] = asyncio.Queue()
    end = object()
    stopped = threading.Event()

    def read() -> object:
        stream = create()
        if inspect.isawaitable(stream):
            return stream
        try:
            for chunk in stream:
                if stopped.is_set():
                    break
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
        finally:
            close = getattr(stream, "close", None)
            if callable(close):
                close()
        return None

    reading = loop.run_in_executor(_THREADS, read)
    # Runs after every chunk: the thread's result comes to the loop by the same queue of callbacks.
    reading.add_done_callback(lambda _: chunks.put_nowait(end))
    try:
        while (chunk := await chunks.get()) is not end:
            take(chunk)
        if (made := await reading) is not None:
            await _stream_on_loop(made, take)
    finally:
        stopped.set()
        reading.cancel()


def _is_async(client: object, create: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(create)) or type(client).__name__.startswith("Async")


def _parameters(create: Callable[..., Any]) -> frozenset[str]:
    try:
        parameters = inspect.signature(create).parameters
    except (TypeError, ValueError):
        return _COMMON
    if "messages" not in parameters:
        return _COMMON
    # What takes any keyword is a wrapper, most often around an SDK's own `create`.
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return frozenset(parameters) | (_COMMON if takes_any else frozenset())


def _errors_of(client: object) -> tuple[type[BaseException], ...]:
    """Return the exceptions by which a client reports that a call failed.

    They are found through the modules that define the client, which are loaded already: the SDK's own root, that
    of its HTTP library (raised bare while a stream is read), and those of broken sockets and broken JSON.
    """
    found: list[type[BaseException]] = [OSError, json.JSONDecodeError]
    packages = [kind.__module__.partition(".")[0] for kind in type(client).__mro__]
    for package in dict.fromkeys([*packages, "httpx", "httpx2"]):
        module = sys.modules.get(package)
        for name in ("APIError", "HTTPError"):
            error = getattr(module, name, None)
            if isinstance(error, type) and issubclass(error, Exception):
                found.append(error)
    return tuple(found)


def _json_of(reply: object, most: int) -> bytes:
    """Return the JSON of an SDK's reply or chunk: a dictionary, or an object that can be dumped into one.

    How large an object an SDK builds is its own; what is made of it here has the limits of all replies.

    Raises:
        WireError: it cannot be written as JSON, or is longer than `most` bytes.
    """
    dump = getattr(reply, "model_dump", None) or getattr(reply, "to_dict", None)
    try:
        data = as_json(dump() if callable(dump) else reply)
    except (TypeError, ValueError, RecursionError):
        raise WireError(f"not a completion: {type(reply).__name__}") from None
    if len(data) > most:
        raise WireError("a reply that is larger than what was asked for")
    return data
