"""What the body of a failed reply says, wherever in it a server says it.

    whose                        where it stands
    OpenAI and most              error: {message, type, code, ...}; Gemini wraps it in a list
    Ollama, Hugging Face, xAI    error: "words", and code, type or estimated_time beside it
    vLLM                         object: "error", message, type, code: the body itself
    MiniMax                      base_resp: {status_code, status_msg}, in a success
    Cloudflare                   success: false, errors: [{code, message}]
    FastAPI                      detail: words, or what is wrong with which field
    gateways                     {code, message}, {code, msg}, {statusCode, message}, {error_code, error_msg}
    proxies of others            another body of these, as JSON in the message

The last part of this file says whether a success holds one of them. Nothing but the fields named here is decoded.
"""

import re
from typing import NamedTuple

import msgspec

from mixtura.models.openai.bounds import ERROR_BYTES
from mixtura.models.openai.kept import given, kept
from mixtura.models.openai.mend import mended
from mixtura.models.openai.pages import page_in

READ = 4000
"""As much of a text as is looked at: patterns must not be run over megabytes that a stranger sent."""

_LONGEST_NAME = 500
_ABSENT = msgspec.Raw()
_NOTHING = ("", "null", "false", "0", "{}", "[]")
_STATUS = re.compile(r"[1-5][0-9][0-9]")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SOUND_CODES = ("", "0", "200", "success", "ok")
_FAILED = ("error", "fail", "failed", "failure")
# MiniMax's own numbers, by what each means; other servers use some of them for something else.
_MINIMAX = {
    **dict.fromkeys(("1002", "1039", "1041", "2045", "2056"), 429),
    **dict.fromkeys(("1004", "2049"), 401),
    **dict.fromkeys(("1026", "1027", "1042", "2013"), 400),
    **dict.fromkeys(("1000", "1001", "1013", "1024", "1033"), 500),
    "1008": 402,
}


class Said(NamedTuple):
    """What a failed reply says.

    Attributes:
        text: its words.
        code: the server's own code; "" for none, and for one that is an HTTP status.
        type: the type that the server gives it, or Google's name of a status.
        status: the HTTP status that stands in the body.
        generated: what a model had written.
        page: it is a web page.
        beside: fields that say more about it (Gemini's `details`, OpenRouter's `metadata`, waits), as they came.
    """

    text: str
    code: str = ""
    type: str = ""
    status: int | None = None
    generated: str = ""
    page: bool = False
    beside: "dict[str, msgspec.Raw] | None" = None


class _Words(msgspec.Struct):
    """The fields of a failed reply, or of the error object in it, in which servers say what is wrong."""

    error: msgspec.Raw = _ABSENT
    errors: msgspec.Raw = _ABSENT
    base_resp: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    detail: msgspec.Raw = _ABSENT
    msg: msgspec.Raw = _ABSENT
    error_msg: msgspec.Raw = _ABSENT
    error_message: msgspec.Raw = _ABSENT
    status_msg: msgspec.Raw = _ABSENT
    status_code: msgspec.Raw = _ABSENT
    statusCode: msgspec.Raw = _ABSENT  # noqa: N815  # so Azure's gateway spells it
    http_code: msgspec.Raw = _ABSENT
    status: msgspec.Raw = _ABSENT
    code: msgspec.Raw = _ABSENT
    error_code: msgspec.Raw = _ABSENT
    type: msgspec.Raw = _ABSENT
    failed_generation: msgspec.Raw = _ABSENT
    details: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    estimated_time: msgspec.Raw = _ABSENT
    retry_after: msgspec.Raw = _ABSENT
    retry_after_seconds: msgspec.Raw = _ABSENT
    retry_after_ms: msgspec.Raw = _ABSENT
    retryAfter: msgspec.Raw = _ABSENT  # noqa: N815  # as above
    resets_in_seconds: msgspec.Raw = _ABSENT
    resets_at: msgspec.Raw = _ABSENT


_BESIDE = (
    *("details", "metadata", "estimated_time", "retry_after", "retry_after_seconds", "retry_after_ms", "retryAfter"),
    *("resets_in_seconds", "resets_at"),
)


class _First(msgspec.Struct, array_like=True):
    """The first of a list; some servers wrap their error in one."""

    first: msgspec.Raw


def said_in(body: bytes | str) -> Said:
    """Return what a body says; never raises."""
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    for broken in (False, True):
        try:
            return _said_in(msgspec.json.decode(mended(data) if broken else data, type=msgspec.Raw))
        except (ValueError, RecursionError):
            # No JSON, or broken in a way that can be mended.
            continue
    if (page := page_in(data)) is not None:
        return Said(f"answered with {page}", page=True)
    return Said(data[:READ].decode("utf-8", "replace"))


def _said_in(body: msgspec.Raw, depth: int = 0) -> Said:
    """Find the words in a body, or in the body that another server's message holds."""
    body = _first_of(body)
    if _starts(body) != b"{":
        return Said(text_of(body))
    outer = msgspec.json.decode(body, type=_Words)
    if _starts(outer.error) == b'"' and (words := text_of(outer.error)):
        return _said_by(outer, words, depth)
    if _starts(outer.error) == b"{":
        inner = msgspec.json.decode(outer.error, type=_Words)
        said = _said_by(inner, _words_of(inner), depth)
        if said.text:
            return said._replace(beside={**_beside(outer), **(said.beside or {})} or None)
        return said._replace(text=text_of(outer.message) or text_of(outer.error))
    if _starts(outer.base_resp) == b"{":
        inner = msgspec.json.decode(outer.base_resp, type=_Words)
        if (number := text_of(inner.status_code)) not in _SOUND_CODES:
            return Said(text_of(inner.status_msg) or text_of(outer.base_resp), number, status=_MINIMAX.get(number))
    words = _words_of(outer)
    if not words and (one := _one_of(outer.errors)) is not None:
        return _said_in(one, depth + 1) if depth < 2 else Said(text_of(one))
    return _said_by(outer, words or text_of(body), depth)


def _said_by(fields: _Words, words: str, depth: int) -> Said:
    """Return what the fields of an error say, and what the JSON in its words does."""
    named = text_of(fields.code) or text_of(fields.error_code)
    status = next(
        (
            found
            for raw in (fields.status_code, fields.statusCode, fields.status, fields.code, fields.http_code)
            if _STATUS.fullmatch(found := text_of(raw))
        ),
        None,
    )
    # A number that is no status is a server's own code.
    own = _NUMBER.fullmatch(named) and not _STATUS.fullmatch(named)
    kind = text_of(fields.type)
    if not kind and _starts(fields.status) == b'"' and not _STATUS.fullmatch(text_of(fields.status)):
        kind = text_of(fields.status)
    said = Said(
        words,
        named if own or _starts(fields.code) == b'"' or _starts(fields.error_code) == b'"' else "",
        kind,
        None if status is None else int(status),
        text_of(fields.failed_generation),
        beside=_beside(fields) or None,
    )
    if depth < 2 and (inner := _inside(words, depth)) is not None:
        return said._replace(
            text=inner.text,
            code=inner.code or said.code,
            type=inner.type or said.type,
            status=said.status or inner.status,
            beside={**(inner.beside or {}), **(said.beside or {})} or None,
        )
    return said


def _words_of(fields: _Words) -> str:
    return (
        text_of(fields.message)
        or text_of(fields.detail)
        or text_of(fields.msg)
        or text_of(fields.error_msg)
        or text_of(fields.error_message)
    )


def _beside(fields: _Words) -> dict[str, msgspec.Raw]:
    return {name: raw for name in _BESIDE if given(raw := getattr(fields, name))}


def _inside(words: str, depth: int) -> Said | None:
    """Return what the body says that a proxy has put into its message; None where there is none."""
    if words[:1] not in ("{", "[") or "rror" not in words:
        return None
    try:
        return _said_in(msgspec.json.decode(words.encode("utf-8", "replace"), type=msgspec.Raw), depth + 1)
    except (ValueError, RecursionError):
        return None


def _first_of(body: msgspec.Raw) -> msgspec.Raw:
    if _starts(body) != b"[":
        return body
    return msgspec.json.decode(body, type=_First).first


def unwrapped(data: bytes | bytearray) -> bytes | None:
    """Return the object that a reply wraps in a list, None where it wraps none."""
    if data[:_LONGEST_NAME].lstrip()[:1] != b"[":
        return None
    try:
        first = msgspec.json.decode(data, type=_First).first
    except (ValueError, RecursionError):
        return None
    return bytes(first) if _starts(first) == b"{" else None


def _one_of(errors: msgspec.Raw) -> msgspec.Raw | None:
    """Return the first of `errors`, None where they are none."""
    if not given(errors):
        return None
    return _first_of(errors)


def _starts(raw: msgspec.Raw) -> bytes:
    """Return the sign that says what a JSON value is."""
    return bytes(memoryview(raw)[:_LONGEST_NAME]).lstrip()[:1]


def text_of(raw: msgspec.Raw) -> str:
    """Return a text, or another value as the JSON it is written in; "" for a value that says nothing."""
    if _starts(raw) == b'"':
        return msgspec.json.decode(raw, type=str)
    text = bytes(memoryview(raw)[:READ]).decode("utf-8", "replace").strip()
    return "" if text in _NOTHING else text


def value_of(raw: msgspec.Raw) -> object:
    """Return a value beside an error as Python objects, None for one that is too large or cannot be read."""
    try:
        return kept(raw, ERROR_BYTES)
    except (ValueError, RecursionError):
        return None


class _Elsewhere(msgspec.Struct):
    """Fields by which a body without choices says that it is an error."""

    object: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    errors: msgspec.Raw = _ABSENT
    base_resp: msgspec.Raw = _ABSENT
    success: msgspec.Raw = _ABSENT
    detail: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    msg: msgspec.Raw = _ABSENT
    error_msg: msgspec.Raw = _ABSENT
    error_message: msgspec.Raw = _ABSENT
    code: msgspec.Raw = _ABSENT
    error_code: msgspec.Raw = _ABSENT
    status: msgspec.Raw = _ABSENT
    status_code: msgspec.Raw = _ABSENT
    statusCode: msgspec.Raw = _ABSENT  # noqa: N815  # as above


_LOOK = msgspec.json.Decoder(_Elsewhere)


def reports_error(data: bytes | bytearray) -> bool:
    """Say whether a reply or a chunk that holds no choice reports an error, in whichever field."""
    # The last chunk of most streams has no choice: it must cost little to see that it is no error.
    if not (b"rror" in data or b'sg"' in data or b'"message' in data or b'"detail' in data or b'"success' in data):
        return False
    try:
        return _reports(_LOOK.decode(data), data)
    except (ValueError, RecursionError):
        return False


def _reports(found: _Elsewhere, data: bytes | bytearray) -> bool:
    if _starts(found.error) == b'"' and text_of(found.error):
        return True
    if _starts(found.base_resp) == b"{":
        return text_of(msgspec.json.decode(found.base_resp, type=_Words).status_code) not in _SOUND_CODES
    if text_of(found.object) == "error" or _written(found.success) == b"false":
        return True
    if given(found.errors) or given(found.detail):
        return True
    told = (found.message, found.msg, found.error_msg, found.error_message)
    if not any(_starts(raw) == b'"' and text_of(raw) for raw in told):
        return False
    codes = (found.code, found.error_code, found.status_code, found.statusCode)
    coded = [text_of(raw).lower() for raw in codes if raw and _written(raw) != b"null"]
    state = text_of(found.status).lower()
    if _STATUS.fullmatch(state) or state in _FAILED:
        coded.append(state)
    # With a code it is an error, and so it is where it says nothing but the words.
    return any(code not in _SOUND_CODES for code in coded) or not (
        coded or state or b'"type"' in data or b'"event"' in data
    )


def _written(raw: msgspec.Raw) -> bytes:
    """Return how a short value is written."""
    return bytes(memoryview(raw)[:_LONGEST_NAME]).strip()
