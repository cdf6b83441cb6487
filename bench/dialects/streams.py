"""Streams: what stands between their chunks, how they are framed and labelled, how they end and break."""

import json
from collections.abc import Iterator

from bench.dialects.row import USAGE, Expected, Reply, Row, as_json, chunk, closing, pieces, sse, whole
from mixtura.chat import JsonObject

_OK = Expected(text="Paris.", finish="stop", prompt=9, completion=3, estimated=False, requests=1, warned=False)
_PAR, _IS = pieces("Par", "is.")
_END = closing()
_LONG = "The capital of France is Paris, which stands on the Seine, " * 2
_STREAMED = sse(_PAR, _IS, _END)


def _event(data: str, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def _lines(*objects: JsonObject, kind: str = "application/x-ndjson") -> Reply:
    return Reply(b"".join(json.dumps(one).encode() + b"\n" for one in objects), 200, {"Content-Type": kind})


def _named(name: str) -> Reply:
    return sse(*(_event(json.dumps(one), name) for one in (_PAR, _IS, _END)))


def _relabelled(kind: str) -> Reply:
    return sse(_PAR, _IS, _END, kind=kind)


def _between(name: str, servers: tuple[str, ...], sends: str, data: bytes, source: str = "") -> Row:
    """Return a row for what stands between the chunks of a sound stream and says nothing."""
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes="the answer: what says nothing is passed over",
        source=source,
        whole=sse(data, _PAR, data, _IS, data, _END, data),
        stream=sse(data, _PAR, data, _IS, data, _END, data),
        expect=_OK,
    )


def _ended(name: str, sends: str, ending: bytes, servers: tuple[str, ...] = ("gateways",)) -> Row:
    """Return a row for a stream that has no finish reason and says in its own way that it is over."""
    reply = sse(_PAR, _IS, chunk({}, None, usage=USAGE), ending, done=False)
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes="the answer; why it ended is not known",
        whole=reply,
        stream=reply,
        expect=Expected(text="Paris.", finish="unknown", requests=1, prompt=9),
    )


def _framed(name: str, servers: tuple[str, ...], sends: str, reply: Reply, source: str = "") -> Row:
    """Return a row for the same stream in another form."""
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes="the answer",
        source=source,
        whole=reply,
        stream=reply,
        expect=_OK,
    )


def _between_rows() -> Iterator[Row]:
    beats = ("wave-agent's gateway", "sub2api")
    issue = "netease-lcap/wave-agent#1326"
    yield _between("empty-data", beats, "`data:` without data as a heartbeat", b"data:\n\n", issue)
    yield _between("blank-data", beats, "`data: ` with a blank as a heartbeat", b"data: \n\n", issue)
    yield _between("empty-object-event", ("gateways",), "`data: {}` as a heartbeat", _event("{}"))
    yield _between("null-event", ("gateways",), "`data: null` as a heartbeat", _event("null"))
    yield _between("ping-in-data", ("gateways",), "`data: ping`, which is no JSON", _event("ping"))
    yield _between("tag-in-data", ("gateways",), "`data: [HEARTBEAT]`, which is no JSON", _event("[HEARTBEAT]"))
    yield _between(
        "json-ping", ("Anthropic's bridges",), "a JSON event of a type of its own", _event('{"type":"ping"}')
    )
    yield _between("named-ping", ("Anthropic's bridges",), "events called `ping`", _event('{"type":"ping"}', "ping"))
    yield _between("named-heartbeat", ("gateways",), "events called `heartbeat`", _event("2026-11-27", "heartbeat"))
    yield _between("named-keepalive", ("gateways",), "events called `keepalive`", b"event: keepalive\ndata\n\n")
    yield _between("comments", ("OpenRouter",), "comments as a heartbeat", b": OPENROUTER PROCESSING\n\n")
    yield _between("ids-and-retries", ("gateways",), "`id:` and `retry:` lines", b"id: 7\nretry: 3000\n\n")
    yield _between("empty-choices", ("Azure",), "chunks without choices", _event('{"choices":[],"id":""}'))


def _ended_rows() -> Iterator[Row]:
    yield _ended("done-without-blank", "`data:[DONE]`", b"data:[DONE]\n\n")
    yield _ended("done-quoted", '`data: "[DONE]"`', b'data: "[DONE]"\n\n')
    yield _ended("done-with-blanks", "`data:  [DONE] `", b"data:  [DONE] \n\n")
    yield _ended("done-in-small-letters", "`data: [done]`", b"data: [done]\n\n")
    yield _ended("done-without-brackets", "`data: DONE`", b"data: DONE\n\n")
    yield _ended("event-done", "`event: done`", b"event: done\ndata: {}\n\n")
    yield _ended("event-end", "`event: end`", b"event: end\ndata: \n\n")
    yield _ended("done-unfinished", "`data: [DONE]` without a line end", b"data: [DONE]")


def _framed_rows() -> Iterator[Row]:
    label = "openclaw/openclaw#97454"
    body = _STREAMED.body
    for name, kind in (("plain", "text/plain; charset=utf-8"), ("json", "application/json"), ("html", "text/html")):
        yield _framed(f"labelled-{name}", ("proxies",), f"a stream as `{kind}`", _relabelled(kind), label)
    yield _framed("labelled-nothing", ("proxies",), "a stream without a `Content-Type`", _relabelled(""), label)
    yield _framed(
        "labelled-otherwise", ("proxies",), "a stream as `Text/Event-Stream`", _relabelled("Text/Event-Stream")
    )
    for name in ("message", "completion", "chunk"):
        yield _framed(f"named-{name}", ("gateways",), f"chunks as events called `{name}`", _named(name))
    for name, kind in (("ndjson", "application/x-ndjson"), ("json", "application/json"), ("sse", "text/event-stream")):
        lines = _lines(_PAR, _IS, _END, kind=kind)
        yield _framed(f"json-lines-as-{name}", ("proxies of Ollama",), f"a chunk a line, as `{kind}`", lines)
    listed = as_json([_PAR, _IS, _END])
    yield _framed("list-of-chunks", ("proxies that collect",), "a JSON list of all chunks", listed)
    yield _framed("list-in-an-event", ("gateways",), "several chunks in a list in one event", sse([_PAR, _IS], _END))
    yield _framed("no-blank-lines", ("home-made servers",), "events that no blank line parts", _tight(b"data: "))
    yield _framed(
        "data-twice", ("one-api",), "`data: data: {...}`", Reply(body.replace(b"data: ", b"data: data: "), 200, _SSE)
    )
    yield _framed("quoted-chunks", ("home-made servers",), "chunks as JSON in JSON", _quoted())
    yield _framed(
        "indented-events",
        ("home-made servers",),
        "lines behind blanks",
        Reply(b"  " + body.replace(b"\n\n", b"\n\n  "), 200, _SSE),
    )
    yield _framed(
        "byte-order-mark", ("proxies on Windows",), "a byte order mark", Reply(b"\xef\xbb\xbf" + body, 200, _SSE)
    )
    yield _framed(
        "leading-blank-lines",
        ("proxies",),
        "blank lines first",
        Reply(b"\n\n\r\n" + body, 200, {"Content-Type": "text/plain"}),
    )
    yield _framed("pretty-chunks", ("home-made servers",), "chunks over many lines behind one `data:`", _pretty())


_SSE = {"Content-Type": "text/event-stream"}


def _tight(before: bytes) -> Reply:
    lines = [before + json.dumps(one).encode() for one in (_PAR, _IS, _END)]
    return Reply(b"\n".join([*lines, before + b"[DONE]", b""]), 200, _SSE)


def _quoted() -> Reply:
    return sse(*(_event(json.dumps(json.dumps(one))) for one in (_PAR, _IS, _END)))


def _pretty() -> Reply:
    return sse(*(_event(json.dumps(one, indent=2)) for one in (_PAR, _IS, _END)))


def _broken_rows() -> Iterator[Row]:
    yield Row(
        name="broken-event-between",
        servers=("proxies that cut",),
        sends="an event of broken JSON amid sound ones",
        becomes="the answer, with a warning that text may be missing",
        whole=sse(_PAR, b'data: {"choices":[{"del\n\n', _IS, _END),
        stream=sse(_PAR, b'data: {"choices":[{"del\n\n', _IS, _END),
        expect=Expected(text="Paris.", finish="stop", requests=1, says="could not be read"),
    )
    yield Row(
        name="words-between",
        servers=("home-made servers",),
        sends="a line of a log amid the chunks",
        becomes="the answer, with a warning that text may be missing",
        stream=sse(_PAR, _event("WARNING:root:slow backend, retrying in 3 s"), _IS, _END),
        expect=Expected(text="Paris.", finish="stop", requests=1, says="could not be read"),
    )
    yield Row(
        name="broken-event-behind-the-end",
        servers=("proxies that cut",),
        sends="a last event that was cut off, behind the finish reason",
        becomes="the answer",
        stream=sse(_PAR, _IS, _END, b'data: {"choices":[],"usa', done=False),
        expect=_OK,
    )
    yield Row(
        name="error-behind-the-end",
        servers=("gateways",),
        sends="an error behind the finish reason",
        becomes="the answer, with a warning",
        stream=sse(_PAR, _IS, _END, b'event: error\ndata: {"error":{"message":"usage failed"}}\n\n', done=False),
        expect=Expected(text="Paris.", finish="stop", requests=1, says="behind the end"),
    )
    yield Row(
        name="error-event-after-text",
        servers=("Groq", "vLLM"),
        sends="an error event behind much text",
        becomes="what was written, as a partial answer that says so",
        stream=sse(
            chunk({"content": _LONG}),
            b'event: error\ndata: {"error":{"message":"engine died","status_code":500}}\n\n',
            done=False,
        ),
        expect=Expected(text=_LONG, finish="unknown", warned=True, requests=1),
    )
    yield Row(
        name="bare-error-line-after-text",
        servers=("LiteLLM", "vLLM"),
        sends="an error as JSON without `data:` behind much text",
        becomes="what was written, as a partial answer that says so",
        stream=sse(chunk({"content": _LONG}), b'{"error":{"message":"engine died","code":500}}\n', done=False),
        expect=Expected(text=_LONG, warned=True, requests=1),
    )
    yield Row(
        name="break-after-text",
        servers=("any",),
        sends="a stream that ends amid the answer",
        becomes="what was written, as a partial answer that says so",
        stream=sse(chunk({"content": _LONG}), b'data: {"choices":[{"delta":{"con', done=False),
        expect=Expected(text=_LONG, warned=True, requests=1),
    )
    yield Row(
        name="empty-error-event",
        servers=("gateways",),
        sends="an error event that reports none, amid the chunks",
        becomes="the answer, with a warning",
        stream=sse(_PAR, b"event: error\ndata: {}\n\n", _IS, _END),
        expect=Expected(text="Paris.", finish="stop", requests=1, warned=True),
    )


def _other_rows() -> Iterator[Row]:
    for name, kind in (("json", "application/json"), ("events", "text/event-stream"), ("text", "text/plain")):
        yield Row(
            name=f"whole-where-a-stream-was-asked-{name}",
            servers=("gateways", "mocks"),
            sends=f"a whole reply as `{kind}` where a stream was asked for",
            becomes="the answer",
            stream=Reply(whole("Paris.").body, 200, {"Content-Type": kind}),
            expect=_OK,
        )
    yield Row(
        name="whole-reply-in-an-event",
        servers=("mocks",),
        sends="the whole reply as the only event of a stream",
        becomes="the answer",
        stream=sse(b"data: " + whole("Paris.").body + b"\n\n"),
        expect=_OK,
    )
    yield Row(
        name="whole-message-behind-deltas",
        servers=("gateways",),
        sends="a last chunk that repeats the whole answer as `message`",
        becomes="the answer, once",
        stream=sse(_PAR, _IS, _closing_message({}), _closing_message(None)),
        expect=_OK,
    )
    yield Row(
        name="ollama-lines",
        servers=("Ollama",),
        sends="lines in Ollama's own form: `message` and `done` without choices",
        becomes="the answer; its usage is a guess",
        source="docs.ollama.com/api/streaming",
        whole=_lines(*_ollama()),
        stream=_lines(*_ollama()),
        expect=Expected(text="Paris.", finish="stop", estimated=True, requests=1, warned=False),
    )
    yield Row(
        name="stream-of-nothing",
        servers=("misconfigured proxies",),
        sends="a stream of events that are no chunks, with status 200",
        becomes="an error that says so, after one more try",
        stream=sse(_event("<html>Service</html>")),
        expect=Expected(error="BrokenReplyError", requests=2, says="not a completion"),
    )
    yield Row(
        name="page-with-status-200",
        servers=("captive portals", "proxies"),
        sends="a web page with status 200",
        becomes="an error that says so, after one more try",
        whole=Reply(b"<html><title>Login</title></html>", 200, {"Content-Type": "text/html"}),
        stream=Reply(b"<html><title>Login</title></html>", 200, {"Content-Type": "text/event-stream"}),
        expect=Expected(error="BrokenReplyError", requests=2, says="a web page"),
    )
    yield Row(
        name="refusal-alone",
        servers=("OpenAI",),
        sends="a `refusal` in place of a content",
        becomes="an error that says that the model refused, with its words",
        whole=whole(None, message={"refusal": "I cannot help with that."}),
        stream=sse(*pieces("I cannot ", "help with that.", field="refusal"), closing()),
        expect=Expected(error="NoAnswerError", requests=1, says="refused to answer: I cannot help with that."),
    )
    yield Row(
        name="informing-event",
        servers=("gateways",),
        sends="an event `status` or `progress` with words of its own between the chunks",
        becomes="nothing",
        stream=sse(
            b'event: status\ndata: {"message":"Loading"}\n\n',
            *pieces("Par"),
            b'event: progress\ndata: {"message":"50%","progress":0.5}\n\n',
            *pieces("is."),
            closing(),
        ),
        expect=Expected(text="Paris.", finish="stop", requests=1),
    )
    yield Row(
        name="no-choices",
        servers=("gateways",),
        sends="a whole reply without choices",
        becomes="an error that says so, after one more try",
        whole=as_json({"id": "c1", "choices": []}),
        expect=Expected(error="BrokenReplyError", requests=2, says="without choices"),
    )


def _closing_message(delta: JsonObject | None) -> JsonObject:
    closed = closing()
    closed["choices"][0].update(delta=delta, message={"role": "assistant", "content": "Paris."})
    return closed


def _ollama() -> list[JsonObject]:
    def line(text: str, **more: object) -> JsonObject:
        return {"model": "m", "message": {"role": "assistant", "content": text}, "done": False, **more}

    return [line("Par"), line("is."), line("", done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)]


ROWS = (*_between_rows(), *_ended_rows(), *_framed_rows(), *_broken_rows(), *_other_rows())
