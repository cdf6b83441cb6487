"""Replies of a stranger who means harm: bounded in memory and in time, and told in one sentence."""

import json
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from bench.hostile.bodies import REPLIES
from bench.hostile.measure import Question, measured, modes_of
from hypothesis import given
from hypothesis import strategies as st

from local_servers import FAILURES
from mixtura.chat import ChatOptions, ChatRequest, Completion, JsonObject, Message, Timing
from mixtura.engine.kinds.select import parse_choice
from mixtura.errors import ModelError
from mixtura.models.openai.bounds import bounds_of
from mixtura.models.openai.kept import TooMuchError, kept
from mixtura.models.openai.late import LateReader
from mixtura.models.openai.mend import mended
from mixtura.models.openai.reply import WireError, decode_reply
from mixtura.models.openai.sse import EventParser
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import completion_from

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),), max_tokens=1024)
BOUNDS = bounds_of(REQUEST)
ENDED = [name for name, reply in REPLIES.items() if not reply.endless and not reply.streamed]


def read(body: bytes, request: ChatRequest = REQUEST) -> Completion:
    return completion_from(decode_reply(body, bounds_of(request)), request, Timing())


def body_of(name: str, size: int) -> bytes:
    """Return the body of a hostile reply without its head."""
    return b"".join(REPLIES[name].make(size)).partition(b"\r\n\r\n")[2]


def peak_of(work: Callable[[], object]) -> int:
    """Return the bytes that `work` takes at its most, above what there was before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused_or_read(body: bytes) -> None:
    try:
        read(body)
    except WireError as error:
        if len(str(error)) > 300:
            raise AssertionError(f"{error}"[:400]) from None


@pytest.mark.parametrize("name", sorted(set(ENDED) - {"gzip", "deflate"}))
def test_decoding_takes_no_more_than_twice_the_body_beside_it(name: str) -> None:
    body = body_of(name, 2_000_000)
    assert peak_of(lambda: refused_or_read(body)) <= 2 * len(body) + 500_000


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(
    "name",
    ["unknown field", "choices", "tool calls", "error", "gzip", "endless line", "event of calls", "argument events"],
)
def test_a_run_keeps_its_memory_its_deadline_and_its_other_drafts(name: str) -> None:
    for mode in modes_of(name):
        found = measured(Question(name=name, mode=mode, size=8_000_000, deadline=6))
        assert found.memory <= 3 * found.size + (4 << 20)
        assert found.over <= 0.5
        assert found.lag <= 0.2
        assert found.drafts >= 2


def test_what_is_needed_is_read_from_among_what_is_not() -> None:
    inside = b'{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"},%b],"x":[%b]}'
    assert read(inside % (b"{}," * 500_000 + b"{}", b"[]," * 500_000 + b"1")).text == "yes"


@pytest.mark.parametrize("field", ["executed_tools", "annotations"])
def test_what_is_beside_the_answer_is_left_out_where_it_is_too_much_and_that_is_said(field: str) -> None:
    body = b'{"choices":[{"message":{"content":"yes","%b":[%b{}]},"finish_reason":"stop"}]}'
    completion = read(body % (field.encode(), b"{}," * 100_000))
    assert (completion.text, completion.extra) == ("yes", {"left_out": [field]})


def largest() -> ChatRequest:
    options = ChatOptions(extra={"logprobs": True, "top_logprobs": 20})
    return ChatRequest(model="m", messages=REQUEST.messages, max_tokens=131_072, options=options)


def test_the_largest_honest_replies_are_read() -> None:
    top = [{"token": "word", "logprob": -0.123456789, "bytes": [32, 119, 111, 114]}] * 20
    logprobs = msgspec.json.encode({"token": "word", "logprob": -0.1, "top_logprobs": top})
    # As many tokens as fit a test: the size a token is what counts.
    request = msgspec.structs.replace(largest(), max_tokens=4096)
    body = b'{"choices":[{"message":{"content":"%b","reasoning":"%b"},"logprobs":{"content":[%b]}}]}' % (
        b"\\u00e9" * 4096,
        b" word" * 4096,
        b",".join([logprobs] * 4096),
    )
    assert len(body) <= bounds_of(request).whole
    assert len(read(body, request).text) == 4096
    image = ChatRequest(model="m", messages=(), max_tokens=64, options=ChatOptions(extra={"modalities": ["image"]}))
    assert bounds_of(image).event > 20 << 20
    assert bounds_of(image).whole > 60 << 20


def test_a_limit_follows_from_what_was_asked_for() -> None:
    assert BOUNDS.whole < 10 << 20
    assert BOUNDS.stream < 12 << 20
    sizes = [bounds_of(msgspec.structs.replace(REQUEST, max_tokens=tokens)) for tokens in (1, 1024, 131_072)]
    assert sizes == sorted(sizes)
    assert bounds_of(msgspec.structs.replace(REQUEST, max_tokens=None)) == sizes[-1]
    sampled = msgspec.structs.replace(REQUEST, options=ChatOptions(extra={"top_k": 5, "logprobs": False}))
    assert bounds_of(sampled) == BOUNDS


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
@pytest.mark.parametrize("where", [b'{"x":%b}', b'{"choices":[{"message":{"content":"a","tool_calls":%b}}]}', b"%b"])
def test_deep_nesting_is_refused_or_skipped(depth: int, where: bytes) -> None:
    with pytest.raises(WireError):
        read(where % (b"[" * depth + b"]" * depth))


json_values = st.recursive(
    st.none() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_a_value_that_is_kept_is_what_any_reader_makes_of_it(value: Any) -> None:
    for data in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")):
        try:
            plain = msgspec.json.decode(data)
        except msgspec.DecodeError:
            continue
        assert kept(data, 1 << 20) == plain


@given(st.integers(1, 200), st.sampled_from(["[", '{"a":']), st.text('"\\[]{}ab', max_size=5000))
def test_depth_and_weight_do_not_count_what_stands_in_strings(depth: int, bracket: str, text: str) -> None:
    inner = json.dumps(text + "[{,:" * 2000)
    data = (bracket * depth + inner + ("]" if bracket == "[" else "}") * depth).encode()
    if depth > 64:
        with pytest.raises(TooMuchError, match="deep"):
            kept(data, 200 * 300)
    else:
        assert kept(data, 200 * 300) is not None


@given(st.lists(st.sampled_from([r"\ud800", r"\udc00", r"\ud83d\ude00", r"\\", r"\n", "a", "NaN", "-Infinity", "é"])))
def test_broken_text_is_mended_and_nothing_else_is_touched(parts: list[str]) -> None:
    text = "".join(parts)
    data = f'{{"a":"{text}","b":NaN,"c":[-Infinity,1,-2]}}'.encode()
    plain = json.loads(data)["a"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert msgspec.json.decode(mended(data)) == {"a": plain, "b": 0, "c": [0, 1, -2]}


@given(st.binary())
def test_bytes_that_are_no_utf8_are_mended_as_python_does(data: bytes) -> None:
    broken = b"\\u" in data or b"NaN" in data or b"Infinity" in data
    assert broken or mended(data).decode() == data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("usage", '{"prompt_tokens":1e999999,"completion_tokens":-0}'),
        ("usage", '{"prompt_tokens":' + "9" * 4000 + "}"),
        ("usage", '{"prompt_tokens":1' + "0" * 4000 + ',"completion_tokens":-7.5}'),
        ("usage", '{"prompt_tokens":1e14,"completion_tokens":99999999999}'),
        ("created", '"yesterday"'),
        ("id", "[[[]]]"),
        ("model", '{"a":"' + "b" * 5000 + '"}'),
        ("system_fingerprint", '"' + "b" * 2_000_000 + '"'),
        ("x_groq", '{"seed":"?","usage":[],"id":7}'),
    ],
)
def test_one_hostile_field_loses_no_answer(field: str, value: str) -> None:
    completion = read(f'{{"choices":[{{"message":{{"content":"yes\\u0000"}}}}],"{field}":{value}}}'.encode())
    assert completion.text == "yes\0"
    assert 0 <= completion.usage.total_tokens < 1e9
    msgspec.json.encode(completion)


def events(deltas: Iterable[JsonObject]) -> bytes:
    return b"".join(b'data: {"choices":[{"delta":%b}]}\n\n' % msgspec.json.encode(delta) for delta in deltas)


END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def gathered(body: bytes, step: int = 65536, request: ChatRequest = REQUEST) -> Completion:
    stream, parser = StreamedReply(request), EventParser()
    for at in range(0, len(body), step):
        for event in parser.feed(body[at : at + step]):
            stream.take(event)
    return stream.completion(Timing())


RARE: list[Callable[[int], JsonObject]] = [
    lambda _: {"refusal": "x" * 20},
    lambda _: {"annotations": [{"a": "x" * 20}]},
    lambda _: {"executed_tools": [{"a": "x" * 20}]},
    lambda _: {"reasoning": "x" * 20},
    lambda _: {"tool_calls": [{"index": 0, "function": {"arguments": "x" * 20}}]},
    lambda place: {"tool_calls": [{"index": place, "id": f"{place}"}]},
]


@pytest.mark.parametrize("make", RARE)
def test_what_comes_in_many_pieces_is_gathered_without_copying_what_is_there(make: Callable[[int], JsonObject]) -> None:
    """No piece may cost more memory for a moment the more came before it."""

    def moments(count: int) -> int:
        stream, parser = StreamedReply(REQUEST), EventParser()
        told = parser.feed(events(make(place) for place in range(count)))
        most = 0
        tracemalloc.start()
        try:
            for event in told:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                stream.take(event)
                most = max(most, tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
        return most

    # A list grows by an eighth now and then, and the table of calls by its double; what they point to is not copied.
    table = 100_000 if "id" in msgspec.json.encode(make(0)).decode() else 0
    assert moments(2000) < moments(20) + 6 * 2000 + table


@pytest.mark.parametrize("make", RARE)
def test_a_stream_in_many_pieces_is_read_in_full(make: Callable[[int], JsonObject]) -> None:
    body = events(make(place) for place in range(2000)) + END
    few = gathered(body)
    assert few == gathered(body, step=7)
    said = msgspec.json.encode([few.reasoning, few.tool_calls, few.extra]).decode()
    assert said.count("x" * 20) == 2000 or said.count('"id"') == 2000 or ("x" * 20 * 2000) in said


def test_a_stream_of_ever_new_tool_calls_is_given_up() -> None:
    with pytest.raises(WireError, match="more than 3,380 tool calls"):
        gathered(events({"tool_calls": [{"id": f"{place}"}]} for place in range(10_000)) + END)


@pytest.mark.parametrize("unit", [b"data:ab\n", b"x", b"data:\n"])
def test_lines_and_events_take_no_more_than_their_bytes(unit: bytes) -> None:
    body = unit * (400_000 // len(unit))

    def read_in_small_pieces() -> None:
        parser = EventParser()
        for at in range(0, len(body), 8):
            parser.feed(body[at : at + 8])

    assert peak_of(read_in_small_pieces) < 2 * len(body)


@pytest.mark.slow
@given(
    st.lists(
        st.builds(lambda text: {"content": text}, st.text(max_size=3))
        | st.builds(lambda text: {"reasoning": text}, st.text(max_size=3))
        | st.builds(lambda text: {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}, st.text(max_size=3)),
        min_size=1,
        max_size=8,
    )
)
def test_a_long_stream_that_nobody_reads_is_the_same_reply(some: list[JsonObject]) -> None:
    padding = {"content": "p" * 300}
    deltas = (some + [padding] * 20) * 120
    body = b'data: {"id":"c","choices":[{"delta":{}}]}\n\n' + events(deltas) + END
    request = msgspec.structs.replace(REQUEST, max_tokens=10_000)
    stream = StreamedReply(request)
    late = LateReader(stream)
    for at in range(0, len(body), 5000):
        late.feed(body[at : at + 5000], float(at))
    unread = late.read()
    late.finish()
    everything = [*unread, *late.read()]
    whole = gathered(body, request=request)
    assert stream.completion(Timing()) == whole
    # What a reader is told who asks once, before the end: all but the last part, which nobody needs any more.
    told = "".join(delta.text for _, delta in everything)
    assert whole.text.startswith(told)
    assert sum(delta.pieces for _, delta in everything) <= stream.pieces
    assert len(everything) < len(deltas) or len(deltas) < 2000


def test_a_choice_is_found_among_many_tags_in_one_pass() -> None:
    opening = "<t choice>"
    assert parse_choice(opening * 100_000 + "B</t choice>", "t", 3) is None
    assert parse_choice((opening + "A</t choice> ") * 1000 + opening + "B</t choice> " + opening + "C", "t", 3) == 1
    assert parse_choice("x" + opening + " **C** </t choice></b></b>", "t", 3) == 2
    assert parse_choice("draft B", "t", 3) == 1


def test_errors_of_any_size_are_one_short_sentence_without_a_secret() -> None:
    key = "gsk_" + "a" * 40
    bodies: list[bytes] = [
        b'{"error":[' + b"[]," * 80_000 + b"1]}",
        b'{"error":{"message":"' + b"x" * 200_000 + b'"}}',
        b'{"error":{"message":"' + f"the key {key} ".encode() * 4000 + b'"}}',
        b'{"error":{"message":{"a":' + b"[" * 50_000,
        b"[" * 200_000,
        b'{"detail":"\\ud800","code":' + b"9" * 100_000 + b"}",
        f"bare {key}".encode() * 1000,
    ]
    for body in bodies:
        error: ModelError | None = None

        def fail(body: bytes = body) -> None:
            nonlocal error
            error = FAILURES.of_reply("m", 500, {}, body)

        assert peak_of(fail) <= 3 * len(body) + 200_000
        assert error is not None
        assert len(str(error)) < 700
        assert key[:12] not in str(error)


def test_a_body_that_is_parsed_already_is_bounded_as_well() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for body in ({"error": deep}, deep, {"error": {"message": "busy", "x": deep}}, object()):
        assert len(str(FAILURES.of_body("m", 500, {}, body))) < 700
