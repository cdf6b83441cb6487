"""Requests to llama.cpp's server that it answers only over HTTP: through a socket in a private folder, with a key.

The package opens a port for every model. Here the port is a Unix socket in a folder that only this user can enter, so
no TCP port is opened. Systems without Unix sockets (Windows) get a port on the loopback address. The server requires a
random key in either case.
"""

import http.client
import json
import secrets
import socket
from typing import Any

from mixtura.chat import JsonObject
from mixtura.secret import Secret
from mixtura.temporary import TemporaryFolder

_PREFIX = "mixtura-local-"
_TIMEOUT = 30.0
_MAX_PATH = 100  # the length of a socket's path, in bytes, that every system accepts


class EndpointError(OSError):
    """The server rejected a request or did not answer. The text is the server's own."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ServerEndpoint:
    """The address and the key of one server. `close` removes its folder."""

    def __init__(self) -> None:
        self.key = Secret(secrets.token_urlsafe(24))
        self._folder: TemporaryFolder | None = None
        self._address = ""
        self.host = "127.0.0.1"
        if hasattr(socket, "AF_UNIX"):
            # A socket's path must fit into about a hundred bytes, and TMPDIR may be a long path.
            self._folder = TemporaryFolder(_PREFIX, _MAX_PATH - len("/door.sock"))
            self.host = str(self._folder.path / "door.sock")

    def set_address(self, address: str) -> None:
        """Set the address on which the server reports that it listens."""
        self._address = address

    def ask(self, path: str, body: JsonObject | None) -> Any:
        """POST `body` to `path`, or GET `path` if `body` is None, and return the reply's JSON. This blocks briefly.

        Raises:
            EndpointError: the server rejected the request or could not be reached.
        """
        if self._folder is not None:
            connection: http.client.HTTPConnection = _UnixConnection(self.host)
        else:
            connection = http.client.HTTPConnection(self._address.partition("://")[2], timeout=_TIMEOUT)
        headers = {
            "Authorization": f"Bearer {self.key.reveal()}",
            "Content-Type": "application/json",
            "Connection": "close",
        }
        try:
            connection.request("GET" if body is None else "POST", path, json.dumps(body) if body else None, headers)
            reply = connection.getresponse()
            found = json.loads(reply.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EndpointError(f"llama.cpp did not answer: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            said = found.get("error") if isinstance(found, dict) else None
            raise EndpointError(str(said.get("message", said)) if isinstance(said, dict) else f"status {reply.status}")
        return found

    def close(self) -> None:
        """Remove the folder. Call this after the server is closed."""
        if self._folder is not None:
            self._folder.close()
