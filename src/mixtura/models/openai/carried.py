"""What an error keeps of the HTTP library's exception behind it: neither the frames nor the keys.

Exceptions of HTTP libraries carry the request, and with it the header that sends the key; their frames hold it as well.
Whoever logs an error of ours with what caused it, or the locals of its traceback, would publish it.
"""

import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any

from mixtura.secret import drop_frames, scrub

_SENT_SECRETS = ("authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key")
_HIDDEN = "***"
# Bodies of errors are a few levels deep.
_DEPTH = 6


def keep_no_secrets(error: BaseException) -> None:
    """Take keys and passwords out of what `error` was raised from, and let go of the frames below."""
    drop_frames(error)
    for problem in _behind(error):
        for name, value in list(vars(problem).items()):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(problem, name, _harmless(value))
        problem.args = tuple(map(_harmless, problem.args))
        if (told := getattr(problem, "filename", None)) and isinstance(told, str):
            problem.filename = scrub(told)  # type: ignore[attr-defined]  # an OSError, which alone has one


def _behind(error: BaseException) -> Iterator[BaseException]:
    """Yield every exception that `error` was raised from or during, each once."""
    seen: set[int] = {id(error)}
    waiting: list[BaseException | None] = [error.__cause__, error.__context__]
    while waiting:
        problem = waiting.pop()
        if problem is None or id(problem) in seen:
            continue
        seen.add(id(problem))
        problem.__traceback__ = None
        yield problem
        waiting += [problem.__cause__, problem.__context__]
        if isinstance(problem, BaseExceptionGroup):
            waiting += problem.exceptions


def _harmless(value: Any, depth: int = _DEPTH) -> Any:
    """Return a part of an exception without secrets. Requests and replies are cleaned in place: they were used."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "surrogateescape")
        return value if (clean := scrub(text)) == text else clean.encode("utf-8", "surrogateescape")
    if depth == 0 or value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, dict):
        return {key: _harmless(one, depth - 1) for key, one in value.items()}
    if hasattr(value, "_replace"):
        # A named tuple: aiohttp's RequestInfo and ConnectionKey, whose proxy may have a login.
        return value._replace(**{name: _field(name, getattr(value, name), depth) for name in value._fields})
    if type(value) in (list, tuple):
        return type(value)(_harmless(one, depth - 1) for one in value)
    return _cleaned(value, depth)


def _field(name: str, value: Any, depth: int) -> Any:
    if name == "proxy_auth":
        return None
    return _without_secret_headers(value) if name == "headers" else _harmless(value, depth - 1)


def _cleaned(value: Any, depth: int) -> Any:
    """Return an address without its login; clean a request, or a reply with the request that it answers."""
    with_user = getattr(value, "with_user", None)
    if callable(with_user):
        return with_user(None) if value.user or value.password else value
    for name in ("request", "_request"):
        asked = vars(value).get(name) if hasattr(value, "__dict__") else None
        if asked is not None:
            _cleaned(asked, depth - 1)
    headers = getattr(value, "headers", None)
    if isinstance(headers, MutableMapping):
        for name, said in list(headers.items()):
            if name.lower() in _SENT_SECRETS:
                headers[name] = _HIDDEN
            elif isinstance(said, str) and (clean := scrub(said)) != said:
                headers[name] = clean
    kept = vars(value) if hasattr(value, "__dict__") else {}
    # httpx keeps the body of a reply in these, and lets nobody set it.
    for name in ("_content", "_text"):
        if isinstance(kept.get(name), (bytes, str)):
            kept[name] = _harmless(kept[name])
    return value


def _without_secret_headers(headers: Any) -> Any:
    """Return a copy of a request's headers without those that send a secret, of the same kind."""
    kept = [(name, value) for name, value in headers.items() if name.lower() not in _SENT_SECRETS]
    try:
        copied = type(headers)(kept)
    except TypeError:
        # A read-only view of another mapping.
        from multidict import CIMultiDict, CIMultiDictProxy

        copied = CIMultiDictProxy(CIMultiDict(kept))
    return copied
