"""Looks up names as aiohttp does, and also as the interpreter ends."""

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from aiohttp.resolver import DefaultResolver, ThreadedResolver

from mixtura.ending import interpreter_ends

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver


class _Lookups:
    """The two methods of an event loop that a resolver calls."""

    async def getaddrinfo(self, host: str, port: int, **asked: Any) -> list[Any]:
        if not interpreter_ends():
            return await asyncio.get_running_loop().getaddrinfo(host, port, **asked)
        # The executor, whose thread does this otherwise, takes no more work.
        return socket.getaddrinfo(host, port, **asked)

    async def getnameinfo(self, address: Any, flags: int) -> tuple[str, str]:
        if not interpreter_ends():
            return await asyncio.get_running_loop().getnameinfo(address, flags)
        return socket.getnameinfo(address, flags)


def new_resolver() -> "AbstractResolver | None":
    """Return a resolver for a connector, None for aiohttp's own, which needs no threads where aiodns is installed."""
    if DefaultResolver is not ThreadedResolver:
        return None
    return ThreadedResolver(cast("asyncio.AbstractEventLoop", _Lookups()))
