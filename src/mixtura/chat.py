"""What is said to and by a model: messages, a request, its completion. Plain frozen data, no behaviour.

Field names follow the OpenAI wire where one exists, so that a reader needs one vocabulary.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]
JsonObject = dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn. `content` is text, or the wire's list of parts (text, image_url, ...), passed through."""

    role: Role
    content: str | list[JsonObject] | None = None
    name: str | None = None
    tool_calls: list[JsonObject] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the turn: its string, or its text parts joined by newlines."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part.get("text", "")) for part in self.content or () if part.get("type") == "text")


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may set for the answer. Which calls of a run a field reaches: `caller_options.REACH`.

    A field that is set replaces the recipe's own value in the calls that it reaches.

    Attributes:
        temperature: 0 to 2, of the call that writes the answer.
        top_p: above 0 and up to 1, of the same call.
        max_tokens: the most the answer may have, reasoning included. An answer that it cuts off is no failure.
        seed: sent with every call, counted up from draft to draft.
        reasoning_effort: for the models that take that value.
        stop: where the answer ends. An answer that it ends is no failure.
        tools: what the answering model may call; see `recipe.Tools` for who decides.
        tool_choice: "auto", "none", "required", or the function to call.
        parallel_tool_calls: whether one reply may call several tools.
        response_format: the form of the answer, which is checked: `{"type": "json_object"}` or a JSON schema.
        images: http(s) or data URLs of images that belong to the question.
        service_tier, user: sent with every call.
        metadata: kept with the run's events, and sent to nobody.
        extra: fields that Mixtura does not know, merged into the request body last.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    stop: str | list[str] | None = None
    tools: list[JsonObject] | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    response_format: JsonObject | None = None
    images: list[str] | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    extra: JsonObject = {}


NO_OPTIONS = ChatOptions()
"""What a caller asks who asks for nothing."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and provider-side seconds of one call, or of several added up.

    `reasoning_tokens` are part of `completion_tokens`, `cached_tokens` part of `prompt_tokens`.
    Times are seconds as Groq reports them: `queue_time` before work began, then prompt and completion.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    queue_time: float = 0.0
    prompt_time: float = 0.0
    completion_time: float = 0.0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            queue_time=self.queue_time + other.queue_time,
            prompt_time=self.prompt_time + other.prompt_time,
            completion_time=self.completion_time + other.completion_time,
            estimated=self.estimated or other.estimated,
        )


def tool_name(tool: JsonObject) -> str | None:
    """Return the name of the tool that a call, a tool or a choice of one is about; None where it names none.

    A tool that the provider runs itself has its type for a name.
    """
    kind = tool.get("type") or "function"
    about = tool.get("function") or (tool.get(kind) if isinstance(kind, str) else None)
    name = about.get("name") if isinstance(about, dict) else kind if about is None and kind != "function" else None
    return name if isinstance(name, str) else None


class Delta(msgspec.Struct, frozen=True):
    """A piece of a streamed reply: answer text, reasoning text, pieces of tool calls; each may be empty.

    A piece of a tool call has the wire's form, `{"index": 0, "id": ..., "type": ..., "function": {"name": ...,
    "arguments": ...}}`. `index` is the place of the call in `Completion.tool_calls`, whatever the server wrote there;
    the first piece of a call has its `type`; of the rest each field is there when the piece brings it. The pieces of a
    call, their `arguments` joined, are the call.

    `pieces` counts the pieces of the stream that this one holds: above 1 where many that nobody had read were joined. A
    piece that is held back until it is known what it is comes as an empty one.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[JsonObject] | None = None
    pieces: int = 1


class PartialReader(Protocol):
    """A streamed reply that is parsed only when its caller asks how far it has come."""

    def read(self) -> Sequence[tuple[float, Delta]]:
        """Return the pieces that have arrived since the last call, each with its event-loop time. Never raises."""
        ...


class SharedCall(Protocol):
    """A call to a server that few calls are served by at once, seen among the others there. Times: event-loop times.

    Attributes:
        streamed: its own reply comes in pieces.
    """

    streamed: bool

    @property
    def begun(self) -> float:
        """The latest moment at which the server can have begun it."""
        ...

    @property
    def stirred(self) -> float:
        """When the server last did something for any call."""
        ...

    @property
    def waiting(self) -> int:
        """How many calls there have not written yet, this one included."""
        ...

    @property
    def busy(self) -> bool:
        """Whether the server may be at work on a reply that nobody sees before it is whole."""
        ...


OnAnswered = Callable[["RateLimitHeaders | None"], Awaitable[None]]
"""Awaited with the rate limits in the head of a reply. See `CallContext`."""


class CallContext(Protocol):
    """One call while it is under way: what the wrappers of its model draw on, and report to the caller.

    The engine makes one for each call; a model of one's own may ignore it. Times are event-loop times.

    Attributes:
        partial: nobody watches the reply, but what has arrived may be wanted before it is whole. A model that can
            streams the reply then, and attaches a reader.
        on_answered: awaited with the rate limits in the head of a streamed reply, None when it states none, before the
            rest of the reply is read; None where nobody asks for them so early.
    """

    partial: bool
    on_answered: OnAnswered | None

    def attach(self, reader: PartialReader) -> None:
        """Take the reader of the attempt that has begun to arrive; it replaces the one before."""
        ...

    def look(self) -> None:
        """Note that a good deal has arrived since the latest look: who wants to know what it says can read it."""
        ...

    def expect_whole(self) -> None:
        """Note that the reply of this attempt comes in one piece: until then silence means nothing."""
        ...

    def draw(self, account: str, tokens: int) -> str:
        """Return the id of the hold (`limits.limiter.Hold`) that this attempt is sent out of, "" for none."""
        ...

    def begin(self, now: float) -> None:
        """Note that an attempt is sent."""
        ...

    def pause(self) -> None:
        """Note that the attempt failed: until the next one no request is out."""
        ...

    def share(self, call: SharedCall | None) -> None:
        """Take what is known of this attempt among the other calls at its server; None when it has left there."""
        ...

    def waste(self, usage: Usage | None) -> None:
        """Note what a failed attempt will be billed; None: it may be, and nobody knows what."""
        ...

    def refuse_repeat(self) -> str:
        """Return why no further attempt may be made (its cost), "" if one may."""
        ...


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call to one model. `max_tokens` counts reasoning too; None leaves it to the provider.

    What these fields say is not repeated in `options`, whose fields of the same names are None here.
    `context` is the call while it is under way; None for a call that nobody accounts for. It is never sent.
    """

    model: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    options: ChatOptions = NO_OPTIONS
    context: CallContext | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one call as its caller saw them.

    `queue` is the provider's own figure (0 when it gives none), `first_token` is None unless the reply was
    streamed, `waited` is time spent between attempts, `total` runs from the first attempt to the last byte.
    """

    total: float = 0.0
    queue: float = 0.0
    first_token: float | None = None
    waited: float = 0.0


class RateLimitHeaders(NamedTuple):
    """What headers say of limits: requests per day and tokens per minute, each limit and rest; None: not said."""

    request_limit: float | None = None
    requests_left: float | None = None
    token_limit: float | None = None
    tokens_left: float | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply. `text` may be empty; `cost` is dollars, None when no price is known.

    `charged` is what the provider says that it charged for it, None where it says nothing; `cost` is that, then, and
    `estimate` what its tokens cost by the catalogue's price, None where that is not known.
    `wasted` is what attempts before this one took, for a provider bills those as well; `cost` holds it too.
    `declined` says why `text` is no answer to the question, where the model itself knows.
    `warnings` say what may be missing from it, in sentences that go on behind the model's name; `odd_fields` names the
    fields of the reply whose form had to be guessed.
    """

    model: str
    text: str
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    tool_calls: list[JsonObject] | None = None
    usage: Usage = Usage()
    cost: float | None = None
    timing: Timing = Timing()
    attempts: int = 1
    id: str = ""
    seed: int | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    extra: JsonObject = {}
    wasted: Usage | None = None
    rate_limits: RateLimitHeaders | None = None
    declined: str = ""
    charged: float | None = None
    estimate: float | None = None
    warnings: tuple[str, ...] = ()
    odd_fields: tuple[str, ...] = ()
