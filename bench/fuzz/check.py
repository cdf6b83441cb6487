"""One reply read in every way: whole, as it comes with somebody watching, and late; and what may come of it."""

import asyncio
import contextlib
import datetime as dt
import itertools
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence

from bench.dialects.row import Reply
from bench.fuzz.mutate import mutated
from mixtura.chat import CallContext, ChatRequest, Completion, Delta, Message, PartialReader, RateLimitHeaders
from mixtura.errors import ModelError
from mixtura.models.catalog import Catalog
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.http import HttpModel
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import Dialect

_SECONDS = 0.5
_MEMORY, _RATIO = 2 << 20, 40
# Of so many cases one is measured for memory, which takes as long as ten.
_MEASURED = 20
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_QUOTED = 4
Outcome = Completion | ModelError


class _Context:
    """A call whose caller looks at what has come now and then."""

    partial = True
    on_answered: Callable[[RateLimitHeaders | None], object] | None = None

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._reader: PartialReader | None = None
        self.read: list[Delta] = []

    def attach(self, reader: PartialReader) -> None:
        self._reader = reader

    def look(self) -> None:
        if self._reader is not None:
            self.read += [delta for _, delta in self._reader.read()]

    def may_look(self) -> None:
        if self._draw.random() < 0.2:
            self.look()


class _Sent:
    """A reply that comes in pieces. See `exchange.Reply`."""

    waited = 0.0

    def __init__(self, reply: Reply, pieces: Sequence[bytes], before: Callable[[], None]) -> None:
        self.status, self.headers = reply.status, _Headers(reply.headers)
        self._pieces = list(reversed(pieces))
        self._before = before

    @property
    def ended(self) -> bool:
        return not self._pieces

    async def read(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(reversed(pieces))

    async def more(self) -> bytes:
        self._before()
        return self._pieces.pop() if self._pieces else b""

    def close(self) -> None:
        self._pieces.clear()


class _Headers(dict[str, str]):
    pass


_FAILURES = Failures("vllm", Catalog.load(), lambda: dt.date(2026, 11, 27))
_MODEL = HttpModel(Endpoint(provider="vllm", url="http://localhost/v1"), Dialect(), _FAILURES)
_MESSAGES = (Message(role="user", content="Hello?"),)


async def _came(
    reply: Reply,
    pieces: Sequence[bytes],
    emit: Callable[[Delta], None] | None,
    context: _Context | None,
    *,
    streamed: bool,
) -> Outcome:
    given: CallContext | None = context  # type: ignore[assignment]  # the part of it that a model's reading needs
    request = ChatRequest(model="m", messages=_MESSAGES, context=given)
    sent = _Sent(reply, pieces, context.may_look if context is not None else lambda: None)

    async def posting() -> _Sent:
        return sent

    gathered = StreamedReply(request) if streamed else None
    try:
        # Past its connection, as no server of bytes is as fast.
        return await _MODEL._attempt(posting(), request, gathered, emit, 0.0)  # noqa: SLF001
    except ModelError as error:
        return error


def problems_of(case: int) -> list[str]:
    """Return what is wrong with how the reply of a case is read, a line each."""
    draw = random.Random(case)
    reply = mutated(draw)
    body = reply.body
    cuts = sorted(draw.randint(0, len(body)) for _ in range(draw.choice((0, 1, 3, 10))))
    ends = [0, *cuts, len(body)]
    pieces = [body[begin:end] for begin, end in itertools.pairwise(ends) if end > begin]
    seen: list[Delta] = []
    context = _Context(draw)
    found: list[str] = []
    outcomes: list[Outcome] = []
    ways: tuple[tuple[Callable[[Delta], None] | None, _Context | None, bool], ...] = (
        (None, None, False),
        (seen.append, None, True),
        (None, context, True),
    )
    with _measured(found, len(body), memory=case % _MEASURED == 1):
        for emit, way, streamed in ways:
            try:
                outcomes.append(asyncio.run(_came(reply, pieces, emit, way, streamed=streamed)))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is what is looked for
                found.append(f"{type(error).__name__}: {error}")
    return found or [*_of_texts(body, outcomes, seen)]


@contextlib.contextmanager
def _measured(found: list[str], size: int, *, memory: bool) -> Iterator[None]:
    if memory:
        tracemalloc.start()
    begun = time.process_time()
    try:
        yield
        if memory and (peak := tracemalloc.get_traced_memory()[1]) > _MEMORY + _RATIO * size:
            found.append(f"{peak:,} bytes of memory for {size:,} that were sent")
        if not memory and (took := time.process_time() - begun) > _SECONDS:
            found.append(f"{took:.2f} s for {size:,} bytes")
    finally:
        if memory:
            tracemalloc.stop()


def _of_texts(body: bytes, outcomes: Sequence[Outcome], seen: Sequence[Delta]) -> Iterator[str]:
    _, watched, late = outcomes
    text, reasoning = "".join(delta.text for delta in seen), "".join(delta.reasoning for delta in seen)
    if isinstance(watched, Completion) and (watched.text, watched.reasoning) != (text, reasoning):
        yield f"watched {text!r} and {reasoning!r}, and the completion is {watched.text!r} and {watched.reasoning!r}"
    if type(watched) is not type(late):
        yield f"watched {watched!r}, late {late!r}"
    elif isinstance(watched, Completion) and isinstance(late, Completion):
        for name in ("text", "reasoning", "finish_reason", "tool_calls", "usage", "warnings", "odd_fields"):
            if (one := getattr(watched, name)) != (other := getattr(late, name)):
                yield f"{name}: watched {one!r}, late {other!r}"
    sent = _forms(body)
    for outcome in outcomes:
        if isinstance(outcome, Completion) and not all(
            _is_sent(said, sent) for said in (outcome.text, outcome.reasoning)
        ):
            yield f"{outcome.text!r} or {outcome.reasoning!r} was never sent"


def _forms(body: bytes) -> list[str]:
    """Return what was sent as text, and with the escapes of JSON resolved as often as JSON stands in JSON."""
    forms = [body.decode("utf-8", "replace")]
    for _ in range(_QUOTED):
        forms.append(_ESCAPE.sub(_resolved, forms[-1]))
    return forms


def _resolved(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _SHORT.get(match[2], match[2])


def _is_sent(text: str, sent: Sequence[str]) -> bool:
    """Say whether a text is made of pieces that were sent, of which each string in the JSON is one."""
    pieces = 0
    for part in re.split("[\ufffd\U00010000-\U0010ffff]", text):
        rest = part
        while rest:
            longest = max(_fit(rest, form) for form in sent)
            if not longest:
                return False
            rest, pieces = rest[longest:], pieces + 1
    return pieces <= 1 + sent[0].count('"') // 2


def _fit(text: str, form: str) -> int:
    """Return how many characters of the beginning of `text` stand in `form`."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[:middle] in form else (low, middle - 1)
    return low
