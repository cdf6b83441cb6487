"""A streamed reply put together again: events in, `Delta`s out, and at the end the whole `Completion`."""

import itertools
from collections.abc import Iterable

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, JsonObject, Timing, Usage
from mixtura.models.openai.bounds import bounds_of
from mixtura.models.openai.call_pieces import calls_in
from mixtura.models.openai.finish import ending_of, graver
from mixtura.models.openai.kept import given
from mixtura.models.openai.plain import PLAIN, thoughts_in
from mixtura.models.openai.reply import (
    GroqPart,
    OddReply,
    UnreadableError,
    WireChoice,
    WireChoices,
    WireError,
    WireMessage,
    WireReply,
    choice_of,
    decode_reply,
    reported_in,
    reports_nothing,
    too_much_text,
)
from mixtura.models.openai.sentinels import INFORMING, ends, error_in, no_chunk, says_nothing, unwrapped
from mixtura.models.openai.sse import ServerEvent, plain_data
from mixtura.models.openai.tool_calls import ToolCalls
from mixtura.models.openai.usage import Told
from mixtura.models.openai.wire import completion_from, told_in

# Fewer events than this are parsed one by one. Round the data of each stand "data: " and two line ends.
_FEW = 6
_AROUND = 8
# Ends of which nothing has to be said but what they mean.
_GOOD_ENDS = (b'"finish_reason":"stop"', b'"finish_reason":"length"', b'"finish_reason":"tool_calls"')


def _closes(data: bytes) -> bool:
    """Say whether a chunk may be one of those that close a stream."""
    return b"[DONE]" in data or b'"finish_reason":"' in data or b'"usage":{' in data or b'"x_groq"' in data


class StreamedReply:
    """Gathers one stream. `done` is set by the stream's `[DONE]`.

    `bounds` say how large it may be. `pieces` counts those with text, reasoning or tool calls in them: of text Groq
    sends one for each token.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.done = False
        self.pieces = 0
        self.request = request
        self.bounds = bounds_of(request)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: ToolCalls | None = None
        # The lists of few chunks, as they came: they become objects once, at the end.
        self._lists: dict[str, list[bytes]] = {}
        self._refusal: list[str] = []
        self._whole = WireReply()
        self._told_usage: Told | None = None
        self._chosen = False
        self._finish: str | None = None
        self._by_message = False
        self._odd: dict[str, None] = {}
        self._unread: WireError | None = None
        self._lost = self._late_errors = 0

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
        if self.done:
            # What follows would count or not by how the bytes were cut.
            return None
        if data[:1] != b"{" or name:
            return self._take_other(name, data)
        try:
            chunk = decode_reply(data, self.bounds)
        except UnreadableError as problem:
            self._leave_out(problem)
            return None
        return self.add(chunk)

    def _take_other(self, name: str, data: bytes) -> Delta | None:
        """Take an event that has a name, or that is no JSON object."""
        if name.lower() == "error":
            reported = error_in(data)
            if self._chosen and reports_nothing(reported):
                self._leave_out()
            else:
                self._fail(reported)
            return None
        deltas = [delta for chunk in unwrapped(data) if (delta := self._take_bare(name, chunk)) is not None]
        if ends(name, data):
            self.done = True
            if (rest := self._rest_of_calls()) is not None:
                deltas.append(rest)
        return deltas[0] if len(deltas) == 1 else _merged(deltas) if deltas else None

    def take_list(self, data: bytes) -> bool:
        """Take a list of chunks that is all of the reply; return whether there is any in it."""
        for chunk in unwrapped(data):
            if chunk[:1] == b"{":
                self.take(ServerEvent("", chunk))
        self.done = self._chosen
        return self._chosen

    def _take_bare(self, name: str, data: bytes) -> Delta | None:
        if data[:1] == b"{" and name.lower() not in INFORMING:
            return self.take(ServerEvent("", data))
        if not ends(name, data) and not says_nothing(name, data) and name.lower() not in INFORMING:
            self._leave_out(no_chunk(data))
        return None

    def _leave_out(self, problem: WireError | None = None) -> None:
        """Go on without an event that cannot be read: what stands round it may be an answer all the same."""
        if not self.whole:
            self._lost += 1
            self._unread = self._unread or problem

    def _fail(self, reported: object) -> None:
        """Raise the error that the stream reports; an answer that has ended before stands all the same."""
        if self._finish is None or ending_of(self._finish).failed is not None:
            raise WireError("the stream broke off with an error", reported, self._told())
        self._late_errors += 1

    def take_body(self, body: bytes, taken: list[Delta] | None = None) -> int | None:
        """Take a whole stream, or a part of it, at once; None when it has to be parsed event by event.

        Returns how many bytes of `body` were taken: all of it, but for what its last events say of more than text.
        Nothing else is taken then. A stream of 30 chunks takes a third of the time so. For whoever still wants to know
        what it said, that is added to `taken`; without it, a stream that fails at its end is not taken, since its
        pieces may be all that there is of it.
        """
        pieces = plain_data(body)
        if len(pieces) < _FEW:
            return None
        # The first chunk of a stream names it and the last ones close it; what lies between is text.
        begin = 1 if self._whole.id is None else 0
        end = len(pieces)
        while end > 1 and _closes(pieces[end - 1]):
            end -= 1
        if taken is None and end < len(pieces) and _GOOD_ENDS[0] not in pieces[end] and not _ends_well(pieces[end:]):
            return None
        try:
            plain = PLAIN.decode(b"[%b]" % b",".join(pieces[begin:end]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        deltas = [chunk.choices[0].delta for chunk in plain]
        thoughts = thoughts_in(deltas) if b'"reason' in body or b'"thinking' in body else []
        if thoughts is None:
            return None
        if begin and (first := self.add(decode_reply(pieces[0]))) and taken is not None:
            taken.append(first)
        before = self.pieces
        texts = [delta.content for delta in deltas if delta.content]
        self._text += texts
        self.pieces += len(texts)
        self._reasoning += thoughts
        self.pieces += sum(bool(told and not delta.content) for delta, told in zip(deltas, thoughts, strict=False))
        if taken is not None and self.pieces > before:
            taken.append(Delta("".join(texts), "".join(thoughts), None, self.pieces - before))
        self._chosen = True
        return len(body) - sum(len(piece) + _AROUND for piece in pieces[end:])

    def add(self, chunk: WireReply) -> Delta | None:
        """Return what one decoded chunk adds to the answer.

        Raises:
            WireError: the chunk reports an error.
        """
        groq = chunk.x_groq
        if chunk.error or (groq is not None and groq.error):
            self._heed_error(chunk, groq)
        if groq is not None or self._whole.id is None or (chunk.usage and given(chunk.usage)) or chunk.usage_metadata:
            self._note(chunk, groq)
        if chunk.__class__ is OddReply:
            self._odd.update(dict.fromkeys(chunk.odd))
        choice = None if chunk.choices is None else chunk.choices.first
        if choice is None and (choice := choice_of(chunk)) is None:
            return None
        self._chosen = True
        if choice.error and (reported := reported_in(choice.error)):
            self._fail(reported)
        if choice.usage:
            self._told_usage = told_in(chunk).after(self._told_usage)
        word = choice.word
        if word is not None:
            self._end(word)
        delta = choice.delta
        if (delta is None or choice.message is not None) and (delta := self._delta_of(choice)) is None:
            return None if word is None else self._rest_of_calls()
        calls = None
        if delta.tool_calls or delta.executed_tools or delta.annotations or delta.refusal or delta.function_call:
            calls = self._note_rare(delta)
        if word is not None and self._tool_calls is not None:
            calls = [*(calls or ()), *self._held_of_calls()] or None
        text = delta.content or ""
        reasoning = delta.thoughts(self.bounds)
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if not (text or reasoning or calls):
            return None
        self.pieces += 1
        return Delta(text, reasoning, calls)

    def _heed_error(self, chunk: WireReply, groq: GroqPart | None) -> None:
        if reported := reported_in(chunk.error) or (groq and reported_in(groq.error)):
            self._fail(reported)

    def _delta_of(self, choice: WireChoice) -> WireMessage | None:
        """Return the delta of a choice that has more than one, or one under another name."""
        delta, message = choice.delta, choice.message
        if message is None and choice.text is not None:
            message = WireMessage(content=choice.text)
        if message is None or (delta is not None and (delta.content or delta.reasoning or delta.reasoning_content)):
            return delta
        # Some servers close a stream of deltas with the whole message.
        self._by_message |= not self.pieces
        return message if self._by_message else delta

    def completion(self, timing: Timing) -> Completion:
        """Return the whole reply.

        Raises:
            WireError: the stream ended before the reply did.
        """
        if not self.whole or not self._chosen:
            raise self._not_whole()
        if sum(map(len, self._text)) + sum(map(len, self._reasoning)) > self.bounds.text:
            raise WireError(f"a stream with {too_much_text(self.bounds)}", usage=self._told(), alike=True)
        whole = self._whole
        message = WireMessage(
            content="".join(self._text), reasoning="".join(self._reasoning), refusal="".join(self._refusal)
        )
        for name, parts in self._lists.items():
            setattr(message, name, msgspec.Raw(b"[%b]" % b",".join(parts)))
        whole.choices = WireChoices(WireChoice(message=message, finish_reason=self._finish))
        completion = completion_from(whole, self.request, timing, told=self._told_usage, gathered=self._tool_calls)
        if self._odd or self._lost or self._late_errors:
            completion = msgspec.structs.replace(completion, warnings=self._warnings(), odd_fields=tuple(self._odd))
        return completion

    def _not_whole(self) -> WireError:
        """Return the error of a stream that holds no answer, or not all of one."""
        if not self.pieces and self._unread is not None:
            return WireError(str(self._unread), usage=self._told(), alike=self._unread.alike)
        if self.whole:
            return WireError("a stream without choices", usage=self._told(), alike=True)
        return WireError("the stream stopped before the answer was whole", usage=self._told())

    def _warnings(self) -> tuple[str, ...]:
        found = []
        if self._lost:
            what = "an event of its stream" if self._lost == 1 else f"{self._lost:,} events of its stream"
            was = "was" if self._lost == 1 else "were"
            found.append(f"{what} could not be read and {was} left out: text may be missing")
        if self._late_errors:
            found.append("an error that its server sent behind the end of the answer was left out")
        return tuple(found)

    def _end(self, word: str) -> None:
        """Note the server's word for why the reply ended; of several the one that says most counts."""
        if ending_of(word).grade >= 0:
            self._finish = word if self._finish is None else graver(word, self._finish)

    def _rest_of_calls(self) -> Delta | None:
        """Return what was not shown of the tool calls, once nothing more of them comes."""
        rest = self._held_of_calls()
        if not rest:
            return None
        self.pieces += 1
        return Delta("", "", rest)

    def _held_of_calls(self) -> list[JsonObject]:
        if self._tool_calls is None:
            return []
        return self._tool_calls.held(cut=ending_of(self._finish).reason == "length")

    def _told(self) -> Usage | None:
        """Return the usage the stream has told so far."""
        return None if self._told_usage is None else self._told_usage.usage

    def _note(self, chunk: WireReply, groq: GroqPart | None) -> None:
        whole = self._whole
        whole.id = whole.id or chunk.id or ""
        whole.model = whole.model or chunk.model
        whole.service_tier = chunk.service_tier or whole.service_tier
        whole.system_fingerprint = chunk.system_fingerprint or whole.system_fingerprint
        whole.usage_breakdown = chunk.usage_breakdown or whole.usage_breakdown
        self._told_usage = told_in(chunk).after(self._told_usage)
        if groq is not None:
            kept = whole.x_groq or GroqPart()
            kept.id = kept.id or groq.id
            kept.seed = groq.seed if kept.seed is None else kept.seed
            kept.usage_breakdown = groq.usage_breakdown or kept.usage_breakdown
            whole.x_groq = kept

    def _note_rare(self, delta: WireMessage) -> list[JsonObject] | None:
        """Note what few chunks hold, and return the pieces of tool calls among it."""
        for name in ("executed_tools", "annotations"):
            raw: msgspec.Raw = getattr(delta, name)
            inner = bytes(memoryview(raw)).strip() if given(raw) else b""
            if inner.startswith(b"[") and (items := inner[1:-1].strip()):
                self._lists.setdefault(name, []).append(items)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        pieces: list[JsonObject] = []
        if given(delta.tool_calls):
            pieces = calls_in(delta.tool_calls, self.bounds)
            if bytes(memoryview(delta.tool_calls)[:1]) != b"[":
                self._odd["tool_calls"] = None
        legacy = not pieces and given(delta.function_call)
        if not pieces and not legacy:
            return None
        calls = self._tool_calls = self._tool_calls or ToolCalls(self.request)
        reply = self._whole.id or ""
        return (calls.add_legacy(delta.function_call, reply) if legacy else calls.add_pieces(pieces, reply)) or None


def _ends_well(closing: list[bytes]) -> bool:
    return any(end in one for end in _GOOD_ENDS for one in closing)


def _merged(deltas: list[Delta]) -> Delta:
    """Return one delta that says what several do."""
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    text, reasoning = "".join([one.text for one in deltas]), "".join([one.reasoning for one in deltas])
    return Delta(text, reasoning, calls or None, sum(one.pieces for one in deltas))


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    """Return few deltas that say what many do, in the same order; pieces of one tool call become one."""
    found: list[Delta] = []
    for ended, group in itertools.groupby(deltas, key=lambda delta: bool(delta.tool_calls)):
        part = list(group)
        calls = _joined_calls(part) if ended else None
        text, reasoning = "".join([one.text for one in part]), "".join([one.reasoning for one in part])
        if ended and (text or reasoning):
            found += part
        else:
            found.append(Delta(text, reasoning, calls, sum(one.pieces for one in part)))
    return found


def _joined_calls(deltas: list[Delta]) -> list[JsonObject]:
    calls: dict[int, JsonObject] = {}
    parts: dict[tuple[int, str], list[str]] = {}
    for piece in itertools.chain.from_iterable(delta.tool_calls or () for delta in deltas):
        index = piece["index"]
        call = calls.setdefault(index, {"index": index, "function": {}})
        call.update({name: value for name, value in piece.items() if name != "function"})
        for name, part in piece.get("function", {}).items():
            parts.setdefault((index, name), []).append(part)
    for (index, name), texts in parts.items():
        calls[index]["function"][name] = "".join(texts)
    return list(calls.values())


def in_one_piece(completion: Completion) -> Delta:
    """Return a whole reply as the only piece of it that is shown."""
    calls = completion.tool_calls
    pieces = [{**call, "index": place} for place, call in enumerate(calls)] if calls else None
    return Delta(completion.text, completion.reasoning, pieces)
