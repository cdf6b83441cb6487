"""A streamed reply put together again: events in, `Delta`s out, and at the end the whole `Completion`."""

import json

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, JsonObject, Timing, Usage
from mixtura.models.openai.sse import ServerEvent, plain_data
from mixtura.models.openai.wire import (
    GroqPart,
    WireChoice,
    WireError,
    WireMessage,
    WireReply,
    WireUsage,
    completion_from,
    decode_reply,
    text_of,
)


class _PlainDelta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: None = None
    executed_tools: None = None
    annotations: None = None
    refusal: None = None


class _PlainChoice(msgspec.Struct):
    delta: _PlainDelta
    finish_reason: None = None
    message: None = None


class _PlainChunk(msgspec.Struct):
    """A chunk of text and nothing else, as nearly every chunk of a stream is; one that holds more does not decode."""

    choices: list[_PlainChoice]
    usage: None = None
    usage_breakdown: None = None
    x_groq: None = None
    error: None = None


_PLAIN = msgspec.json.Decoder(list[_PlainChunk])
# Fewer events than this are parsed one by one. Round the data of each stand "data: " and two line ends.
_FEW = 6
_AROUND = 8


def _closes(data: bytes) -> bool:
    """Say whether a chunk may be one of those that close a stream."""
    return b"[DONE]" in data or b'"finish_reason":"' in data or b'"usage":{' in data or b'"x_groq"' in data


class StreamedReply:
    """Gathers one stream. `done` is set by the stream's `[DONE]`.

    `pieces` counts those with text, reasoning or tool calls in them: of text Groq sends one for each token.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.done = False
        self.pieces = 0
        self.request = request
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[JsonObject] = []
        self._call_at: dict[int | None, int] = {}
        self._message = WireMessage()
        self._whole = WireReply()
        self._usage: WireUsage | None = None
        self._chosen = False
        self._finish: str | None = None

    @property
    def whole(self) -> bool:
        """The stream has said why the answer ended: all of its text is here."""
        return self.done or self._finish is not None

    def take(self, event: ServerEvent) -> Delta | None:
        """Return what `event` adds to the answer, None when it adds nothing that a `Delta` holds.

        Raises:
            WireError: the stream reports an error, or the event is no chunk.
        """
        name, data = event
        if data.startswith(b"[DONE]"):
            self.done = True
            return None
        if name == "error":
            raise WireError("the stream broke off with an error", _error_in(data))
        return self.add(decode_reply(data))

    def take_body(self, body: bytes) -> int | None:
        """Take a whole stream, or its beginning, at once; None when it has to be parsed event by event.

        Returns how many bytes of `body` were taken: all of it, but for what its last events say of more than text.
        Nothing else is taken then. A stream of 30 chunks takes a third of the time so.
        """
        pieces = plain_data(body)
        if self._whole.id is not None or len(pieces) < _FEW:
            return None
        # The first chunk of a stream names it and the last ones close it; what lies between is text.
        end = len(pieces)
        while end > 1 and _closes(pieces[end - 1]):
            end -= 1
        try:
            plain = _PLAIN.decode(b"[%b]" % b",".join(pieces[1:end]))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if any(len(chunk.choices) != 1 for chunk in plain):
            return None
        deltas = [chunk.choices[0].delta for chunk in plain]
        self.add(decode_reply(pieces[0]))
        texts = [delta.content for delta in deltas if delta.content]
        self._text += texts
        self.pieces += len(texts)
        if reasoned := [delta for delta in deltas if delta.reasoning or delta.reasoning_content]:
            self._reasoning += [delta.reasoning or delta.reasoning_content or "" for delta in reasoned]
            self.pieces += sum(not delta.content for delta in reasoned)
        self._chosen = True
        return len(body) - sum(len(piece) + _AROUND for piece in pieces[end:])

    def add(self, chunk: WireReply) -> Delta | None:
        """Return what one decoded chunk adds to the answer.

        Raises:
            WireError: the chunk reports an error.
        """
        groq = chunk.x_groq
        if chunk.error or (groq is not None and groq.error):
            raise WireError("the stream broke off with an error", chunk.error or (groq and groq.error))
        if groq is not None or chunk.usage is not None or self._whole.id is None:
            self._note(chunk, groq)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self._chosen = True
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
        delta = choice.delta or choice.message
        if delta is None:
            return None
        calls = None
        if delta.tool_calls or delta.executed_tools or delta.annotations or delta.refusal:
            calls = self._note_rare(delta)
        content = delta.content
        text = content if type(content) is str else text_of(content)
        reasoning = text_of(delta.reasoning or delta.reasoning_content)
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if not (text or reasoning or calls):
            return None
        self.pieces += 1
        return Delta(text, reasoning, calls)

    def completion(self, timing: Timing) -> Completion:
        """Return the whole reply.

        Raises:
            WireError: the stream ended before the reply did.
        """
        if not self.whole:
            raise WireError("the stream stopped before the answer was whole", usage=self._told())
        if not self._chosen:
            raise WireError("a stream without choices", usage=self._told())
        message, whole = self._message, self._whole
        message.content = "".join(self._text)
        message.reasoning = "".join(self._reasoning)
        message.tool_calls = self._tool_calls
        whole.usage = self._usage
        whole.choices = [WireChoice(message=message, finish_reason=self._finish)]
        return completion_from(whole, self.request, timing)

    def _told(self) -> Usage | None:
        """Return the usage the stream has told so far."""
        return None if self._usage is None else self._usage.usage()

    def _note(self, chunk: WireReply, groq: GroqPart | None) -> None:
        whole = self._whole
        whole.id = whole.id or chunk.id or ""
        whole.model = whole.model or chunk.model
        whole.service_tier = chunk.service_tier or whole.service_tier
        whole.system_fingerprint = chunk.system_fingerprint or whole.system_fingerprint
        whole.usage_breakdown = chunk.usage_breakdown or whole.usage_breakdown
        self._usage = chunk.usage or (groq.usage if groq is not None else None) or self._usage
        if groq is not None:
            kept = whole.x_groq or GroqPart()
            kept.id = kept.id or groq.id
            kept.seed = groq.seed if kept.seed is None else kept.seed
            kept.usage_breakdown = groq.usage_breakdown or kept.usage_breakdown
            whole.x_groq = kept

    def _note_rare(self, delta: WireMessage) -> list[JsonObject] | None:
        """Note what few chunks hold, and return the pieces of tool calls among it."""
        message = self._message
        pieces = [self._merge_call(piece) for piece in delta.tool_calls or ()]
        if delta.executed_tools:
            message.executed_tools = [*(message.executed_tools or ()), *delta.executed_tools]
        if delta.annotations:
            message.annotations = [*(message.annotations or ()), *delta.annotations]
        if delta.refusal:
            message.refusal = (message.refusal or "") + delta.refusal
        return pieces or None

    def _merge_call(self, piece: JsonObject) -> JsonObject:
        """Add a piece of a tool call to its call; return what it adds, with the place of the call as its index.

        Groq sends a whole call at once, OpenAI the name first and the arguments in pieces with the same index.
        Some servers leave the index out, or give every call index 0: a new id then begins a new call.
        """
        index = piece.get("index")
        index = index if isinstance(index, int) else None
        known = self._call_at.get(index, len(self._tool_calls) - 1 if index is None else None)
        call = self._tool_calls[known] if known is not None and known >= 0 else None
        if call is None or (piece.get("id") and call.get("id") and piece["id"] != call["id"]):
            call = {"id": None, "type": None, "function": {"name": "", "arguments": ""}}
            known = self._call_at[index] = len(self._tool_calls)
            self._tool_calls.append(call)
        added: JsonObject = {"index": known}
        if piece.get("id") and not call["id"]:
            added["id"] = call["id"] = piece["id"]
        if not call["type"]:
            added["type"] = call["type"] = piece.get("type") or "function"
        function, more = call["function"], piece.get("function")
        added["function"] = {}
        if isinstance(more, dict):
            if more.get("name") and not function["name"]:
                added["function"]["name"] = function["name"] = more["name"]
            arguments = more.get("arguments")
            if arguments is not None:
                text = arguments if isinstance(arguments, str) else json.dumps(arguments)
                function["arguments"] += text
                added["function"]["arguments"] = text
        return added


def in_one_piece(completion: Completion) -> Delta:
    """Return a whole reply as the only piece of it that is shown."""
    calls = completion.tool_calls
    pieces = [{**call, "index": place} for place, call in enumerate(calls)] if calls else None
    return Delta(completion.text, completion.reasoning, pieces)


def _error_in(data: bytes) -> object:
    try:
        parsed = json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace") or "no text"
    return (parsed.get("error") or parsed) if isinstance(parsed, dict) else parsed
