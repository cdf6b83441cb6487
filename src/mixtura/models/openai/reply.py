"""A reply's JSON as structs: a whole one, or one chunk of a stream.

Replies are read leniently: a field that is null, missing or of an odd type never loses an answer that is there. And
they are a stranger's data: what is not needed is skipped without making an object of it, what is kept is weighed first
(`kept`), and both have limits (`bounds`).
"""

from typing import cast

import msgspec

from mixtura.chat import ChatRequest, Usage
from mixtura.errors import BrokenReplyError, ModelError
from mixtura.models.openai.bounds import ERROR_BYTES, INLINE, Bounds, bounds_of, megabytes
from mixtura.models.openai.finish import graver, word_in
from mixtura.models.openai.kept import TooMuchError, given, kept
from mixtura.models.openai.lenient import Content, Label, Text, Word, read_fields
from mixtura.models.openai.mend import mended
from mixtura.models.openai.pages import BETWEEN, page_in
from mixtura.models.openai.parts import said_in, words_in
from mixtura.models.openai.said import reports_error, unwrapped
from mixtura.models.openai.sse import BOM

_ABSENT = msgspec.Raw()
# As much of an error that is too large to be read as is shown.
_GLIMPSE = 2000
# Fields that an answer is made of (of the choices the first is one), and those that a part of a message is known by.
_NEEDED = frozenset(("choices", "message", "delta", "content", "text", "finish_reason"))
_PARTS = frozenset(("type", "text", "content", "parts", "thinking", "reasoning"))
_FINE = frozenset(("", "0", "200", "ok", "success", "succeeded", "none", "null", "false", "no error"))
_ANY = bounds_of(ChatRequest(model="", messages=()))


class WireError(ValueError):
    """A reply that is not a completion.

    `reported` is the provider's own error object and `usage` what it says the reply took, when it sent them; `kind` is
    what the failure is where nothing is reported. `alike`: all of the reply came, and the next one will most likely
    look the same.
    """

    def __init__(
        self,
        problem: str,
        reported: object = None,
        usage: Usage | None = None,
        kind: type[ModelError] = BrokenReplyError,
        *,
        alike: bool = False,
    ) -> None:
        self.reported = reported
        self.usage = usage
        self.kind = kind
        self.alike = alike
        super().__init__(problem)


class UnreadableError(WireError):
    """What came is no JSON object, or is nested too deeply to be one of a model's."""


class GroqPart(msgspec.Struct):
    """Groq's own part of a reply: its request id, the seed it used, and in older streams the usage."""

    id: str | None = None
    seed: int | None = None
    usage: msgspec.Raw = _ABSENT
    usage_breakdown: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


class WireMessage(msgspec.Struct):
    """A reply's message, or a stream's delta of one."""

    content: Content = None
    reasoning: Text = None
    reasoning_content: Text = None
    reasoning_text: Text = None
    thinking: Text = None
    reasoning_details: msgspec.Raw = _ABSENT
    thinking_blocks: msgspec.Raw = _ABSENT
    tool_calls: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT
    executed_tools: msgspec.Raw = _ABSENT
    annotations: msgspec.Raw = _ABSENT
    refusal: Text = None

    def thoughts(self, bounds: Bounds) -> str:
        """Return the reasoning, from the first of the fields that hold it: the others repeat it."""
        told = self.reasoning or self.reasoning_content or self.reasoning_text or self.thinking
        if told or not (self.reasoning_details or self.thinking_blocks):
            return told or ""
        for raw in (self.reasoning_details, self.thinking_blocks):
            if given(raw) and len(memoryview(raw)) <= bounds.text:
                try:
                    return words_in(kept(raw, bounds.objects))
                except ValueError:
                    continue
        return ""


class WireChoice(msgspec.Struct):
    """One choice: `message` in a whole reply, `delta` in a stream; `text` where a server knows no chats.

    `native_finish_reason` is the word of the provider behind a router; `stop_reason` and `done_reason` stand in place
    of a finish reason where there is none (else the first may be the caller's stop word). Some servers have `usage`
    here.
    """

    message: WireMessage | None = None
    delta: WireMessage | None = None
    finish_reason: Word = None
    native_finish_reason: Word = None
    stop_reason: msgspec.Raw = _ABSENT
    done_reason: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    usage: msgspec.Raw = _ABSENT
    text: Content = None

    @property
    def word(self) -> str | None:
        """The server's word for why the reply ended, None where it does not say that it has."""
        word = self.finish_reason
        if word is None and (self.stop_reason or self.done_reason):
            word = next(filter(None, map(word_in, filter(None, (self.stop_reason, self.done_reason)))), None)
        native = self.native_finish_reason
        return word if native is None else graver(word, native)


class WireChoices(msgspec.Struct, array_like=True):
    """The first of the choices; a caller asks for one, and others are skipped."""

    first: WireChoice | None = None


class WireReply(msgspec.Struct):
    """A whole reply, or one chunk of a stream. What `msgspec.Raw` holds is decoded when it is wanted.

    `message`, `done` and `done_reason` are for servers that write Ollama's own form, without choices.
    """

    id: Label = None
    model: Label = None
    choices: WireChoices | None = None
    usage: msgspec.Raw = _ABSENT
    usage_metadata: msgspec.Raw = msgspec.field(default=_ABSENT, name="usageMetadata")
    hidden_params: msgspec.Raw = msgspec.field(default=_ABSENT, name="_hidden_params")
    x_groq: GroqPart | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage_breakdown: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    done: msgspec.Raw = _ABSENT
    done_reason: msgspec.Raw = _ABSENT


class OddReply(WireReply):
    """A reply some of whose fields, `odd`, have another form than is documented."""

    odd: tuple[str, ...] = ()


def choice_of(reply: WireReply) -> WireChoice | None:
    """Return the choice of a reply or chunk, None where it has none."""
    choice = None if reply.choices is None else reply.choices.first
    # Without `done` a message is what a gateway says of its own, such as that a quota is used up.
    if choice is not None or (done := bytes(reply.done)) not in (b"true", b"false"):
        return choice
    try:
        message = _MESSAGE.decode(reply.message) if reply.message else None
        reason = _WORD.decode(reply.done_reason) if reply.done_reason else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return WireChoice(message=message, finish_reason=reason or ("stop" if done == b"true" else None))


_MESSAGE = msgspec.json.Decoder(WireMessage)
_WORD = msgspec.json.Decoder(str | None)


_DECODER = msgspec.json.Decoder(WireReply)


def decode_reply(data: bytes | bytearray, bounds: Bounds | None = None) -> WireReply:
    """Read a reply or a chunk.

    Args:
        data: its JSON.
        bounds: what it may hold; None for what any request allows.

    Raises:
        WireError: it is not JSON, no completion's shape, or larger than `bounds` allow.
    """
    if len(data) <= INLINE:
        try:
            reply = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (inner := unwrapped(data)) is not None:
                return decode_reply(inner, bounds)
            # Some field is odd, or the JSON is broken. What counts may be sound nevertheless.
            reply = _read_carefully(data, bounds or _ANY)
        choices = reply.choices
        if (choices is None or choices.first is None) and reports_error(data):
            reply.error = msgspec.Raw(bytes(data))
        return reply
    return _read_carefully(data, bounds or _ANY)


class _CarefulReader:
    """Reads the texts of a reply, weighed before they are made, and notes its odd fields. See `lenient.Reader`."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.odd: dict[str, None] = {}
        self.thoughts: list[str] = []

    def text(self, raw: msgspec.Raw, *, content: bool) -> str | None:
        begin = bytes(memoryview(raw)[:4])
        if begin[:1] == b'"':
            if len(memoryview(raw)) > self._bounds.text:
                raise TooMuchError(too_much_text(self._bounds))
            return msgspec.json.decode(raw, type=str)
        value = kept(raw, self._bounds.objects)
        said = said_in(value)
        if said.reasoning:
            self.thoughts.append(said.reasoning)
        if said.text or said.reasoning or not content:
            return said.text or None
        # A server that parses what its model wrote: JSON in place of the text that it stood in.
        if value is True or (isinstance(value, int | float) and value is not False) or _is_data(value):
            self.odd["content"] = None
            if len(memoryview(raw)) > self._bounds.text:
                raise TooMuchError(too_much_text(self._bounds))
            return bytes(raw).decode("utf-8", "replace")
        return None

    def note(self, field: str, raw: msgspec.Raw) -> None:
        field = "choices" if field == "first" else field
        if field in _NEEDED and given(raw):
            self.odd[field] = None


def _is_data(value: object) -> bool:
    """Say whether a content is an object of the model's own, and no part of a message."""
    return isinstance(value, dict) and bool(value) and value.keys().isdisjoint(_PARTS)


def _read_carefully(data: bytes | bytearray, bounds: Bounds) -> WireReply:
    """Read what the decoder refuses, and what is large: field by field, its text weighed before it is made."""
    reader = _CarefulReader(bounds)
    if data[: len(BOM)] == BOM:
        data = data[len(BOM) :]
    for broken in (False, True):
        reader.thoughts.clear()
        try:
            found = read_fields(mended(data) if broken else data, WireReply, reader)
        except TooMuchError as problem:
            raise WireError(f"a reply with {problem}", alike=True) from None
        except msgspec.ValidationError as problem:
            raise UnreadableError(f"not a completion: {problem}", alike=True) from None
        except RecursionError:
            raise UnreadableError("not a completion: it is nested too deeply", alike=True) from None
        except ValueError:
            # No JSON, or no UTF-8: servers break both in ways that can be mended.
            continue
        found = _with_thoughts(found, "".join(reader.thoughts))
        return found if not reader.odd else OddReply(**msgspec.structs.asdict(found), odd=tuple(reader.odd))
    # An object without its end broke off on the way here.
    cut = data[:1] == b"{" and not data[-_GLIMPSE:].rstrip().endswith(b"}")
    raise UnreadableError(f"not a completion: {_glimpse(data)}", alike=not cut)


def _with_thoughts(reply: WireReply, thoughts: str) -> WireReply:
    """Return `reply` with the reasoning that stood between the parts of its content."""
    choice = reply.choices.first if thoughts and reply.choices is not None else None
    message = None if choice is None else choice.message or choice.delta
    if message is not None:
        told = message.reasoning or message.reasoning_content or ""
        message.reasoning = told if thoughts in told else told + thoughts
    return reply


def too_much_text(bounds: Bounds) -> str:
    """Return the words for a text that is longer than can be of what was asked for."""
    return f"a text of more than {megabytes(bounds.text)} where {bounds.tokens:,} tokens were allowed"


def as_json(data: object) -> bytes:
    """Return the JSON of what a client's library hands out; objects that JSON has no form for become their text.

    Raises:
        TypeError, ValueError, RecursionError: it cannot be written.
    """
    try:
        return msgspec.json.encode(data, enc_hook=str)
    except UnicodeEncodeError:
        return msgspec.json.encode(without_surrogates(msgspec.to_builtins(data, enc_hook=str)))


def reported_in(raw: msgspec.Raw) -> object:
    """Return the error that a reply holds, None for none or one that reports none; of a large one its first words."""
    if not given(raw):
        return None
    try:
        error = kept(raw, ERROR_BYTES)
    except ValueError:
        return bytes(memoryview(raw)[:_GLIMPSE]).decode("utf-8", "replace")
    return None if reports_nothing(error) else error


def reports_nothing(error: object, depth: int = 3) -> bool:
    """Say whether an error object is the empty one that some servers send with every answer."""
    if isinstance(error, dict | list) and depth:
        members = error.values() if isinstance(error, dict) else error
        return all(reports_nothing(member, depth - 1) for member in members)
    return not error or (error is not True and str(error)[:_GLIMPSE].strip().lower() in _FINE)


def without_surrogates(value: object) -> object:
    """Return parsed JSON with U+FFFD in place of lone surrogates, which no UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, (list, tuple)):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {cast("str", without_surrogates(key)): without_surrogates(item) for key, item in value.items()}
    return value


def _glimpse(data: bytes | bytearray) -> str:
    if (page := page_in(data)) is not None:
        return f"{page}, {BETWEEN}"
    text = " ".join(data[:400].decode("utf-8", "replace").split())
    return repr(text[:100]) if text else "an empty body"
