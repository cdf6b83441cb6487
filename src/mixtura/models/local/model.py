"""`LocalModel`: a model file in this process as a `ChatModel`."""

import asyncio
import threading
from collections.abc import Callable

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, Timing
from mixtura.errors import (
    BrokenReplyError,
    ModelError,
    RejectedError,
    TimedOutError,
    TooLargeError,
    UnloadableError,
)
from mixtura.models.base import Emit
from mixtura.models.local.llama import THREADS, LlamaFile, LoadError
from mixtura.models.local.request import body_of
from mixtura.models.openai.reply import WireError, decode_reply
from mixtura.models.openai.stream import StreamedReply


class _CallTimings(msgspec.Struct):
    """llama.cpp's timings of one call, in milliseconds."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class _TimedChunk(msgspec.Struct):
    """The chunk of a stream that carries timings."""

    timings: _CallTimings | None = None


class _ErrorBody(msgspec.Struct):
    """llama.cpp's error object. The token counts are set when a prompt is too long."""

    message: str = ""
    type: str = ""
    code: int | str | None = None
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class LocalModel:
    """A model file as a `ChatModel`. It makes one attempt; calls wait in a queue when all slots are in use.

    Args:
        llama: the file, shared by all models made from it.
        name: the model's name in errors.
        provider: the provider's name in errors.
    """

    def __init__(self, llama: LlamaFile, name: str, provider: str = "local") -> None:
        self.llama = llama
        self.name = name
        self.provider = provider

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`.

        Cancelling the caller stops the generation between two tokens, and so does the deadline.

        Raises:
            UnloadableError: the file cannot be loaded.
            TooLargeError: the prompt does not fit the context of a slot.
            RejectedError: llama.cpp or the chat template rejects the request.
            TimedOutError: the deadline passed.
            BrokenReplyError: the generation broke off.
        """
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                await self.llama.slot_queue.acquire()
                if request.context is not None:
                    request.context.begin(asyncio.get_running_loop().time())
                return await self._answer(request, emit, started)
        except TimeoutError:
            raise TimedOutError(
                self.provider, self.name, "the deadline passed before the answer was complete"
            ) from None

    async def _answer(self, request: ChatRequest, emit: Emit | None, started: float) -> Completion:
        """Answer in a thread. The thread releases the slot, also when the caller has been cancelled."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Delta | None] = asyncio.Queue()

        def forward(delta: Delta) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, delta)

        slots = self.llama.slot_queue
        call = _ThreadedCall(self, request, None if emit is None else forward, loop.time, started)

        def run_call() -> Completion:
            try:
                return call.run()
            finally:
                slots.release()
                if self.llama.is_closing:
                    # The process is exiting. Returning here would only log an error in the waiting task.
                    threading.Event().wait()

        try:
            running = loop.run_in_executor(THREADS, run_call)
        except RuntimeError:
            slots.release()
            raise UnloadableError(self.provider, self.name, "no thread could be started for the call") from None
        try:
            if emit is not None:
                # This runs after all pieces: the thread's result reaches the loop by the same queue of callbacks.
                running.add_done_callback(lambda _: pieces.put_nowait(None))
                while (delta := await pieces.get()) is not None:
                    emit(delta)
            return await running
        finally:
            call.stopped.set()


class _ThreadedCall:
    """Runs one call in its thread."""

    def __init__(
        self,
        model: LocalModel,
        request: ChatRequest,
        forward: Callable[[Delta], None] | None,
        clock: Callable[[], float],
        started: float,
    ) -> None:
        self.stopped = threading.Event()
        self._model = model
        self._request = request
        self._forward = forward
        self._clock = clock
        self._started = started
        self._reply = StreamedReply(request)
        self._unread: list[bytes] = []
        self._first: float | None = None
        self._times = _CallTimings()
        self._problem: WireError | None = None

    def run(self) -> Completion:
        """Return the whole reply. This blocks."""
        queued = self._clock() - self._started
        provider, name = self._model.provider, self._model.name
        try:
            self._model.llama.generate(body_of(self._request), self._on_chunk)
            for chunk in self._unread:
                if self._read_chunk(chunk):
                    break
            if self._problem is not None:
                raise self._problem
            if self.stopped.is_set() or self._model.llama.is_closing:
                raise WireError("the call was stopped")
            timing = Timing(
                total=self._clock() - self._started,
                queue=queued,
                first_token=self._first if self._forward is not None else None,
            )
            completion = self._reply.completion(timing)
        except LoadError as error:
            raise UnloadableError(provider, name, str(error)) from None
        except WireError as problem:
            raise self._to_model_error(problem) from None
        except ValueError as error:
            raise RejectedError(provider, name, _one_line(str(error))) from None
        except RuntimeError as error:
            raise BrokenReplyError(provider, name, f"llama.cpp failed: {_one_line(str(error))}") from None
        usage = msgspec.structs.replace(
            completion.usage,
            queue_time=queued,
            prompt_time=self._times.prompt_ms / 1000,
            completion_time=self._times.predicted_ms / 1000,
        )
        return msgspec.structs.replace(completion, usage=usage, timing=timing, seed=self._request.seed)

    def _on_chunk(self, chunk: bytes) -> bool:
        """Handle one chunk. Return True to stop the generation."""
        if self.stopped.is_set() or self._model.llama.is_closing:
            return True
        if self._forward is None:
            # The call has no listener: parse at the end, because this callback holds the GIL once per token.
            self._unread.append(chunk)
            return False
        return self._read_chunk(chunk)

    def _read_chunk(self, chunk: bytes) -> bool:
        try:
            reply = decode_reply(chunk)
            reply.model = reply.system_fingerprint = None
            if reply.usage and b'"timings"' in chunk:
                self._times = msgspec.json.decode(chunk, type=_TimedChunk).timings or self._times
            delta = self._reply.add(reply)
        except (WireError, msgspec.DecodeError) as problem:
            self._problem = problem if isinstance(problem, WireError) else WireError(str(problem))
            return True
        if delta is not None:
            if self._first is None:
                self._first = self._clock() - self._started
            if self._forward is not None:
                try:
                    self._forward(delta)
                except RuntimeError:
                    return True  # the loop is closed, so no task waits for this call any more
        return False

    def _to_model_error(self, problem: WireError) -> ModelError:
        provider, name = self._model.provider, self._model.name
        try:
            said = msgspec.convert(problem.reported, _ErrorBody, strict=False)
        except msgspec.ValidationError:
            return problem.kind(provider, name, str(problem))
        if said.type == "exceed_context_size_error":
            text = (
                f"the prompt has {said.n_prompt_tokens} tokens and a slot holds {said.n_ctx}: shorten it, or give the "
                "file more context (MIXTURA_LOCAL_CONTEXT)"
            )
            return TooLargeError(provider, name, text, status=400, code=said.type)
        if said.code in (400, 422) or said.type == "invalid_request_error":
            return RejectedError(provider, name, _one_line(said.message), status=400, code=said.type)
        return BrokenReplyError(provider, name, f"llama.cpp failed: {_one_line(said.message)}", code=said.type)


def _one_line(text: str) -> str:
    """Return llama.cpp's message on one line, cut to 300 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:299] + "…"
