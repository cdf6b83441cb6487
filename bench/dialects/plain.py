"""Replies as most servers send them, and what has always been read."""

from bench.dialects.row import Expected, Reply, Row, closing, pieces, sse, whole

_OK = Expected(text="Paris.", finish="stop", prompt=9, completion=3, estimated=False, requests=1)
_STREAM = (*pieces("Par", "is."), closing())
_BYTES = sse(*_STREAM).body

ROWS = (
    Row(
        name="as-documented",
        servers=("OpenAI", "Groq", "vLLM", "llama.cpp"),
        sends="a reply as OpenAI documents it",
        becomes="the answer, its usage and its finish reason",
        whole=whole("Paris."),
        stream=sse(*_STREAM),
        expect=_OK,
    ),
    Row(
        name="crlf-events",
        servers=("SGLang behind nginx", "Azure"),
        sends="events whose lines end with CR LF",
        becomes="the same answer",
        stream=Reply(_BYTES.replace(b"\n", b"\r\n"), 200, {"Content-Type": "text/event-stream"}),
        expect=_OK,
    ),
    Row(
        name="no-done",
        servers=("Cloudflare", "Gemini"),
        sends="a stream that ends without `[DONE]`",
        becomes="the answer, since its finish reason came",
        stream=sse(*_STREAM, done=False),
        expect=_OK,
    ),
)
