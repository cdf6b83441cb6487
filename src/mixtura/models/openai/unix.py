"""Connections to servers behind Unix sockets, beside all others of an event loop."""

import socket
from typing import Any

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_proto import ResponseHandler

from mixtura.models.openai.connector import Connector
from mixtura.models.urls import UNIX

_PREFIX = f"{UNIX}:"


class UnixConnector(Connector):
    """The connections of one event loop, those to Unix sockets included.

    `Endpoint.way` says which socket is meant, where the name stands by which a server of TLS would be checked.
    """

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        named = req.server_hostname or ""
        if not named.startswith(_PREFIX):
            return await super()._create_connection(req, traces, timeout)
        path = named.removeprefix(_PREFIX)
        try:
            opened = self._sockets.open_socket((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", (path, 0)))
            try:
                opened.setblocking(False)
                await self._loop.sock_connect(opened, path)
                _, protocol = await self._loop.create_unix_connection(self._factory, sock=opened)
            except BaseException:
                opened.close()
                raise
        except OSError as problem:
            raise UnixClientConnectorError(path, req.connection_key, problem) from problem
        return protocol
