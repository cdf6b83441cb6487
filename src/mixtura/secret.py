"""API keys and passwords: wrapped where they are read, unwrapped where they are sent, taken out of every error text.

A `Secret` does not show its text to `str`, `repr`, formatting, JSON, pickle or a debugger that lists attributes, so a
logged object or the locals of a traceback do not publish it. It is no encryption: who can run code here can reveal it.
"""

import functools
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import NoReturn, Self
from weakref import WeakValueDictionary

# A permutation of all bytes, another one in each process: no search of memory for a key finds a text at rest.
_HIDING = bytes(sorted(range(256), key=lambda _byte: os.urandom(8)))
_SHOWING = bytes.maketrans(_HIDING, bytes(range(256)))

# A shorter text is no secret, and would be found inside of words.
_SHORTEST = 6
# From this length on a text is found inside of others as well.
_UNMISTAKABLE = 12
# What people write where a server wants a key and checks none.
_NO_SECRETS = {
    *("anything", "api-key", "api_key", "apikey", "default", "dummy-key", "dummykey", "example", "fake-key", "nothing"),
    *("llama-cpp", "llama.cpp", "llamacpp", "lm-studio", "lmstudio", "localai", "ollama", "openai", "simulated"),
    *("no-key", "no-key-required", "not-needed", "password", "placeholder", "sk-no-key-required", "unused", "your-key"),
}


def hidden(text: str) -> bytes:
    """Return `text` in a form that shows nothing, for `shown` in the same process."""
    return text.encode("utf-8", "surrogatepass").translate(_HIDING)


def shown(data: bytes) -> str:
    """Return the text that `hidden` was given."""
    return data.translate(_SHOWING).decode("utf-8", "surrogatepass")


class Secret:
    """A key, a password, or an address that may hold one (`of_address`); "" is no secret, and false.

    As long as one exists, `scrub` takes it out of texts.
    """

    __slots__ = ("__weakref__", "_hidden", "_sought")
    _hidden: bytes
    _sought: tuple[bytes, ...]

    def __init__(self, text: "str | Secret" = "", *, sought: Sequence[str] | None = None) -> None:
        if isinstance(text, Secret):
            self._hidden, self._sought = text.hidden_parts()
        else:
            self._hidden = hidden(str(text))
            self._sought = tuple(map(hidden, [text] if sought is None else sought))
        if self._hidden:
            _KNOWN[id(self)] = self

    @classmethod
    def of_address(cls, url: "str | Secret") -> Self:
        """Return an address as a secret; what is taken out of texts is its login alone."""
        if isinstance(url, Secret):
            return cls(url)
        return cls(url, sought=_parts(url.partition("://")[2].rpartition("@")[0]))

    @classmethod
    def of_login(cls, login: str) -> Self:
        """Return a `user:password`, percent-encoded or not, as a secret: its password alone is one as well."""
        return cls(login, sought=_parts(login))

    def hidden_parts(self) -> tuple[bytes, tuple[bytes, ...]]:
        """Return the text and what of it is taken out of texts, all of it hidden."""
        return self._hidden, self._sought

    def reveal(self) -> str:
        """Return the text, to send it; what keeps it any longer should keep the `Secret`."""
        return shown(self._hidden)

    def __bool__(self) -> bool:
        return bool(self._hidden)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return hash(self) == hash(other) and self.reveal() == other.reveal() if isinstance(other, Secret) else False

    def __hash__(self) -> int:
        return hash(self._hidden)

    def __str__(self) -> str:
        return "***" if self._hidden else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: hand the key to the other process by its environment")


def _parts(login: str) -> list[str]:
    """Return what is secret of a login: all of it in both spellings, and its password."""
    user, colon, password = login.partition(":")
    return list(filter(None, (login, urllib.parse.unquote(login), password) if colon else (user,)))


# By identity: equal ones end at different times, and adding one needs no lock.
_KNOWN: "WeakValueDictionary[int, Secret]" = WeakValueDictionary()

NO_SECRET = Secret()


_FORMS = re.compile(
    r"\b(?:gsk_|sk-|csk-|xai-|hf_|r8_|pplx-|nvapi-|tgp_v1_|ghp_|github_pat_|AIza)[A-Za-z0-9_\-*.]{4,}"
    r"|(?<=[Bb]earer )[^\s\"',}]+|\borg_[A-Za-z0-9]{3,}"
)


def drop_frames(error: BaseException) -> None:
    """Let go of the frames below: libraries keep keys and whole replies there, and errors are kept as long as a run."""
    problem: BaseException | None = error
    while problem is not None:
        problem.__traceback__ = None
        problem = problem.__cause__ or problem.__context__


def scrub(text: str) -> str:
    """Return `text` without API keys, bearer tokens, passwords and organisation ids, whoever wrote them there.

    The secrets of this process are known: a server may have written one as it is, in another spelling, or more than
    half of it. Others are known by their form, and passwords by their place in an address.
    """
    if "@" in text and "://" in text:
        text = _LOGIN.sub(_without_login, text)
    secrets = [secret for reference in _KNOWN.valuerefs() if (secret := reference()) is not None]
    known = {part for secret in secrets for part in secret.hidden_parts()[1]}
    # Texts are searched as they are hidden: byte for byte the same, and nothing has to be revealed.
    searched = hidden(text)
    found = [shown(part) for part in known if any(mark in searched for mark in _marks(part))]
    for word in sorted(found, key=len, reverse=True):
        text = _without(text, word)
    return _FORMS.sub("***", text)


@functools.lru_cache(4096)
def _marks(part: bytes) -> tuple[bytes, ...]:
    """Return what a text holds, hidden, that holds a secret; nothing for what is none."""
    secret = shown(part)
    if len(secret) < _SHORTEST or secret.lower() in _NO_SECRETS:
        return ()
    size = _least(secret) // 2
    blocks = [secret[place : place + size] for place in range(0, len(secret) - size + 1, size)]
    return tuple(map(hidden, dict.fromkeys([*blocks, *_spellings(secret)])))


def _least(secret: str) -> int:
    """Return the length of the pieces of a secret that are taken out; any such piece holds one block of half of it."""
    return max(_UNMISTAKABLE, len(secret) // 2 + 1)


# As advice has it.
_EXAMPLE = "USER:PASSWORD"
_LOGIN = re.compile(r"(?<=://)\S+")


def _without_login(found: re.Match[str]) -> str:
    head, at, host = found[0].rpartition("@")
    return f"***@{host}" if at and ":" in head and head != _EXAMPLE else found[0]


def _without(text: str, secret: str) -> str:
    """Return `text` without `secret`: whole, in other spellings, and in pieces of more than half of it."""
    for spelling in _spellings(secret):
        if spelling in text:
            whole = re.escape(spelling)
            if len(spelling) < _UNMISTAKABLE:
                whole = rf"(?<![A-Za-z0-9]){whole}(?![A-Za-z0-9])"
            text = re.sub(whole, "***", text)
    least = _least(secret)
    block = least // 2
    for place in range(0, len(secret) - block + 1, block):
        at = text.find(secret[place : place + block])
        while at >= 0:
            begin, end = _grown(text, at, secret, place, block)
            if end - begin >= least:
                text, end = f"{text[:begin]}***{text[end:]}", begin + 3
            at = text.find(secret[place : place + block], end)
    return text


def _grown(text: str, at: int, secret: str, place: int, size: int) -> tuple[int, int]:
    """Return where in `text` the piece begins and ends whose block at `at` is the one at `place` of `secret`."""
    begin, first = at, place
    while begin and first and text[begin - 1] == secret[first - 1]:
        begin, first = begin - 1, first - 1
    end, last = at + size, place + size
    while end < len(text) and last < len(secret) and text[end] == secret[last]:
        end, last = end + 1, last + 1
    return begin, end


def _spellings(secret: str) -> Iterator[str]:
    """Yield the ways in which servers write a secret: as it is, in addresses, JSON, Python, HTML and Base64."""
    import base64
    import html
    import json

    found = {secret, urllib.parse.unquote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1], html.escape(secret)}
    written = json.dumps(secret)[1:-1]
    data = secret.encode("utf-8", "surrogatepass")
    found |= {written.replace("/", "\\/"), json.dumps(written)[1:-1], urllib.parse.quote_plus(data)}
    for safe in ("", "/"):
        quoted = urllib.parse.quote(data, safe=safe)
        found |= {quoted, re.sub("%..", lambda byte: byte[0].lower(), quoted)}
    for shift in range(3):
        # Base64 of a longer text holds one of three, by where the secret begins in it.
        coded = base64.b64encode(bytes(shift) + data).rstrip(b"=").decode()
        cut = coded[(0, 2, 3)[shift] : len(coded) - bool((len(data) + shift) % 3)]
        found |= {cut, cut.replace("+", "-").replace("/", "_")}
    return iter(sorted(filter(None, found), key=len, reverse=True))
