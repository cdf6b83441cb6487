"""Odd fields: one of another type than documented, and the answer beside it."""

from collections.abc import Iterator
from typing import Any

from bench.dialects.row import USAGE, Expected, Reply, Row, as_json, chunk, closing, pieces, sse, whole
from mixtura.chat import JsonObject

_OK = Expected(text="Paris.", finish="stop", requests=1, warned=False)
_WARNED = Expected(text="Paris.", finish="stop", requests=1, says="in another form")
_UNKNOWN = Expected(text="Paris.", finish="unknown", requests=1)


def _row(name: str, sends: str, reply: Reply, streamed: Reply | None, expect: Expected = _OK, **more: Any) -> Row:
    more.setdefault("servers", ("gateways",))
    more.setdefault("becomes", "the answer" if expect.warned is False else "the answer, read as far as it goes")
    return Row(name=name, sends=sends, whole=reply, stream=streamed, expect=expect, **more)


def _message(name: str, sends: str, field: JsonObject, expect: Expected = _OK, **more: Any) -> Row:
    """Return a row for a field beside the text, in the message and in each delta."""
    streamed = sse(chunk({"content": "Par", **field}), chunk({"content": "is.", **field}), closing())
    return _row(name, sends, whole("Paris.", message=field), streamed, expect, **more)


def _top(name: str, sends: str, field: JsonObject, expect: Expected = _OK, **more: Any) -> Row:
    """Return a row for a field of the reply, and of each chunk."""
    chunks = [{**one, **field} for one in (*pieces("Par", "is."), closing())]
    return _row(name, sends, whole("Paris.", **field), sse(*chunks), expect, **more)


def _choice(name: str, sends: str, choices: Any, chunks: tuple[Any, ...], expect: Expected = _OK, **more: Any) -> Row:
    """Return a row for other choices."""
    body = {"id": "c1", "model": "m", "usage": USAGE}
    streamed = sse(*({**body, "choices": one} for one in chunks))
    return _row(name, sends, as_json({**body, "choices": choices}), streamed, expect, **more)


def _choice_of(field: str, value: Any, finish: Any = "stop", **more: Any) -> JsonObject:
    return {"index": 0, field: value, "finish_reason": finish, **more}


_MLFLOW = "mlflow/mlflow#14410"
_SAID = {"role": "assistant", "content": "Paris."}
_DELTAS = (_choice_of("delta", {"content": "Par"}, None), _choice_of("delta", {"content": "is."}))


def _message_rows() -> Iterator[Row]:
    yield _message("tool-calls-object", "`tool_calls: {}`", {"tool_calls": {}}, source=_MLFLOW)
    yield _message("tool-calls-text", '`tool_calls: ""`', {"tool_calls": ""}, source=_MLFLOW)
    yield _message("tool-calls-false", "`tool_calls: false`", {"tool_calls": False})
    yield _message("tool-calls-word", '`tool_calls: "none"`', {"tool_calls": "none"}, _WARNED)
    yield _message("tool-calls-of-nulls", "`tool_calls: [null]`", {"tool_calls": [None]})
    yield _message("refusal-false", "`refusal: false`", {"refusal": False})
    yield _message("refusal-object", "`refusal: {}`", {"refusal": {}})
    yield _message("annotations-object", "`annotations: {}`", {"annotations": {}})
    yield _message("annotations-number", "`annotations: 0`", {"annotations": 0})
    yield _message("reasoning-number", "`reasoning: 0`", {"reasoning": 0})
    yield _message("role-number", "`role: 1`", {"role": 1, "name": []})
    yield _message(
        "audio-object", "`audio` and `function_call` that are null or empty", {"audio": {}, "function_call": None}
    )


def _error_rows() -> Iterator[Row]:
    bridge = ("spring-ai's servers", "honcho's servers")
    for name, error in (
        ("object", {}),
        ("false", False),
        ("null", None),
        ("text", ""),
        ("list", []),
        ("of-empty-fields", {"code": "", "message": "", "type": "", "param": None}),
        ("of-success", {"code": 0, "message": "success"}),
        ("of-ok", {"code": 200, "message": "OK", "details": []}),
        ("of-nulls", {"message": None, "type": None, "param": None, "code": None}),
    ):
        yield _top(
            f"empty-error-{name}",
            f"an error that reports none beside the answer ({name})",
            {"error": error},
            servers=bridge,
        )
    reply = as_json({"error": {"code": "", "message": ""}, "choices": []})
    yield _row(
        "empty-error-alone",
        "an error that reports none, and no answer",
        reply,
        None,
        Expected(error="BrokenReplyError", requests=2, says="without choices"),
        becomes="an error, after one more try",
    )


def _top_rows() -> Iterator[Row]:
    yield _top("created-text", '`created: "2026-11-27"`', {"created": "2026-11-27"})
    yield _top("id-number", "`id: 7`", {"id": 7})
    yield _top("id-object", "`id: {...}`", {"id": {"$oid": "7"}})
    yield _top("model-list", "`model: [...]`", {"model": ["m"]})
    yield _top("object-null", "`object: null`", {"object": None, "system_fingerprint": 3, "service_tier": {}})
    for name, usage in (("text", "12 tokens"), ("list", [9, 3]), ("number", 12), ("true", True), ("object", {})):
        yield _top(
            f"usage-field-{name}",
            f"`usage` that is no usage ({name})",
            {"usage": usage},
            Expected(text="Paris.", finish="stop", requests=1),
        )
    yield _top("groq-part-text", '`x_groq: "req"`', {"x_groq": "req"})


def _choice_rows() -> Iterator[Row]:
    said = _choice_of("message", _SAID)
    yield _choice("choices-object", "`choices` as an object", said, _DELTAS, _WARNED)
    yield _choice(
        "choices-by-place",
        '`choices: {"0": ...}`',
        {"0": said},
        tuple({"0": one} for one in _DELTAS),
        _WARNED,
        servers=("servers in PHP",),
    )
    indexed = tuple([{**one, "index": "0"}] for one in _DELTAS)
    yield _choice("index-text", '`index: "0"`', [{**said, "index": "0"}], indexed)
    typed = [_choice_of("message", _SAID, {"type": "stop"})]
    yield _choice(
        "finish-object",
        '`finish_reason: {"type": "stop"}`',
        typed,
        ([_DELTAS[0]], [_choice_of("delta", {"content": "is."}, {"type": "stop"})]),
        _OK,
        source="BerriAI/litellm#20732",
    )
    yield _choice(
        "finish-number",
        "`finish_reason: 1`",
        [_choice_of("message", _SAID, 1)],
        ([_DELTAS[0]], [_choice_of("delta", {"content": "is."}, 1)]),
        _UNKNOWN,
    )
    null = ([_choice_of("delta", None, None)], [_DELTAS[0]], [_DELTAS[1]], [_choice_of("delta", None, None)])
    yield _choice("delta-null", "`delta: null`", [{**said, "delta": None}], null)
    yield _choice(
        "message-null-beside-delta",
        "`message: null` beside `delta`",
        [{**said, "delta": {}}],
        tuple([{**one, "message": None}] for one in _DELTAS),
    )
    both = tuple([{**one, "message": one["delta"]}] for one in _DELTAS)
    yield _choice("message-beside-delta", "`message` and `delta` that say the same", [{**said, "delta": _SAID}], both)
    yield _choice(
        "delta-in-whole",
        "`delta` in a whole reply, `message` in chunks",
        [_choice_of("delta", _SAID)],
        tuple([{**one, "delta": None, "message": one["delta"]}] for one in _DELTAS),
    )
    yield _choice(
        "message-text",
        '`message: "..."` in place of an object',
        [_choice_of("message", "Paris.")],
        tuple([{**one, "delta": one["delta"]["content"]}] for one in _DELTAS),
        _WARNED,
    )
    yield _choice(
        "text-in-choice",
        "`text` in the choice, as for completions",
        [{"index": 0, "text": "Paris.", "finish_reason": "stop"}],
        ([{"text": "Par"}], [{"text": "is.", "finish_reason": "stop"}]),
        servers=("old servers",),
    )
    yield _choice("second-choice-null", "`choices: [{...}, null]`", [said, None], tuple([one, None] for one in _DELTAS))


def _content_rows() -> Iterator[Row]:
    for name, content, text in (
        ("list", [{"type": "text", "text": "Paris."}], "Paris."),
        ("texts", ["Par", "is."], "Paris."),
        ("object", {"type": "text", "text": "Paris."}, "Paris."),
        ("number", 42, "42"),
        ("zero", 0, "0"),
        ("float", 0.5, "0.5"),
        ("data", {"city": "Paris"}, '{"city": "Paris"}'),
    ):
        expect = Expected(text=text, finish="stop", requests=1)
        yield _row(
            f"content-{name}",
            f"`content` that is no text ({name})",
            whole(message={"content": content}),
            sse(chunk({"content": content}), closing()),
            expect,
        )


def _byte_rows() -> Iterator[Row]:
    body = whole("Paris.").body
    kind = {"Content-Type": "application/json"}
    marked = sse(*(b"data: \xef\xbb\xbf" + as_json(one).body + b"\n\n" for one in (*pieces("Par", "is."), closing())))
    yield _row(
        "byte-order-mark-before-json",
        "a byte order mark before JSON",
        Reply(b"\xef\xbb\xbf" + body, 200, kind),
        marked,
        servers=("servers on Windows",),
    )
    yield _row(
        "blank-lines-before-json",
        "blank lines before JSON",
        Reply(b"\r\n\n  " + body + b"\n\n", 200, kind),
        Reply(b"\n\n" + body, 200, kind),
        servers=("Cloudflare", "OpenRouter"),
    )
    yield _row("list-round-a-reply", "a whole reply in a list", as_json([whole_body()]), as_json([whole_body()]))
    yield _row(
        "json-lines-of-one",
        "a whole reply with a line end, as JSON lines",
        Reply(body + b"\n", 200, {"Content-Type": "application/x-ndjson"}),
        Reply(body + b"\n", 200, {"Content-Type": "application/x-ndjson"}),
    )


def whole_body() -> JsonObject:
    """Return the JSON of a usual whole reply."""
    choice = {"index": 0, "message": _SAID, "finish_reason": "stop"}
    return {"id": "c1", "model": "m", "choices": [choice], "usage": USAGE}


ROWS = (*_message_rows(), *_error_rows(), *_top_rows(), *_choice_rows(), *_content_rows(), *_byte_rows())
