"""Replies as nearly all whole ones are: a plain head with a `Content-Length`, and that many bytes behind it.

aiohttp's parser reads any reply, and makes a stream, a message and a queue for it; for a whole reply of a kilobyte that
takes as long as the rest of the call. `plain_head` takes only heads that can be read in one way. What it refuses
(chunks, compression, HTTP/1.0, two lengths, folded lines, a head in two parts) goes to aiohttp's parser as it is.
"""

import re
from typing import NamedTuple

import aiohttp
from multidict import CIMultiDict

MOST_BYTES = 256 * 1024
"""Bytes of a body that are collected without a stream."""
_MOST_HEAD = 16 * 1024
_LINE = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n", re.MULTILINE)
_BEFORE = len("HTTP/1.1 ")
_LONGEST_LENGTH = 9
# Replies of class 1xx only announce another one, and these have no body whatever their length is.
_FIRST_CODE = 200
_OTHER_CODES = ("204", "304")


class PlainHead(NamedTuple):
    """The head of a reply; `length` is that of its body in bytes."""

    status: int
    headers: CIMultiDict[str]
    length: int


def plain_head(data: bytes) -> PlainHead | None:
    """Return the head that `data` is, its last line end included; None where aiohttp's parser has to read it."""
    if len(data) > _MOST_HEAD or not data.startswith(b"HTTP/1.1 ") or b" \r\n" in data or b"\t\r\n" in data:
        return None
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return None
    lines = _LINE.findall(text)
    code = text[_BEFORE : _BEFORE + 3]
    # Every line but the first is a field, and nothing stands between them.
    if len(lines) != text.count("\n") - 1 or not code.isdecimal() or text[_BEFORE + 3] not in " \r":
        return None
    headers = CIMultiDict(lines)
    lengths = headers.getall("Content-Length", ())
    if len(lengths) != 1 or not lengths[0].isdecimal() or len(lengths[0]) > _LONGEST_LENGTH or code in _OTHER_CODES:
        return None
    # What says more of the body than its length, or of the connection than that it stays.
    if "Transfer-Encoding" in headers or "Content-Encoding" in headers or "Upgrade" in headers or "Trailer" in headers:
        return None
    status, length = int(code), int(lengths[0])
    return None if status < _FIRST_CODE or length > MOST_BYTES else PlainHead(status, headers, length)


class PlainReply:
    """A reply whose connection was given back when it had come; `body` is its body, `problem` why that is not whole."""

    __slots__ = ("body", "headers", "problem", "status", "waited")

    ended = True

    def __init__(self, head: PlainHead) -> None:
        self.status, self.headers = head.status, head.headers
        self.body = b""
        self.waited = 0.0
        self.problem: aiohttp.ClientError | None = None

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            aiohttp.ClientPayloadError: the connection ended before it did.
        """
        if self.problem is not None:
            raise self.problem
        return self.body

    async def more(self) -> bytes:
        """Return what came of the body, and then b"". Raises as `read`, once all that came was returned."""
        if not self.body:
            return await self.read()
        body, self.body = self.body, b""
        return body

    def close(self) -> None:
        """Do nothing: the reply has ended."""
