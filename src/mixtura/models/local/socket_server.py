"""The way to what llama.cpp's server does only over HTTP: a socket in a private folder, with a key.

The package opens a port with every model. Here it is a Unix socket in a folder that only this user can enter, so that
no TCP port is opened at all; where there are no such sockets (Windows), it is a port of this machine alone. Either
way a random key is asked for.
"""

import http.client
import json
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from mixtura.chat import JsonObject

_PREFIX = "mixtura-local-"
_TIMEOUT = 30.0
_MAX_PATH = 100  # bytes of a socket's path that every system takes


class EndpointError(OSError):
    """The server refused a question, or did not answer; the text is its own."""


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
    """The address and the key of one server; `close` removes what belongs to it."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(24)
        self._folder: Path | None = None
        self._address = ""
        self.host = "127.0.0.1"
        if hasattr(socket, "AF_UNIX"):
            _remove_stale()
            self._folder = _private_folder()
            self.host = str(self._folder / "door.sock")

    def set_address(self, address: str) -> None:
        """Note where the server listens, as it says itself."""
        self._address = address

    def ask(self, path: str, body: JsonObject | None) -> Any:
        """Post `body`, or get `path` when it is None, and return the JSON of the reply; it blocks for a moment.

        Raises:
            DoorError: the server refused, or could not be reached.
        """
        if self._folder is not None:
            connection: http.client.HTTPConnection = _UnixConnection(self.host)
        else:
            connection = http.client.HTTPConnection(self._address.partition("://")[2], timeout=_TIMEOUT)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "Connection": "close"}
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
        """Remove the folder; nothing listens there any more."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if len(str(folder)) > _MAX_PATH - 10:
        # The path of a socket has to fit into about a hundred bytes, and TMPDIR may be deep.
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))  # mkdtemp makes it private
    return folder


def _remove_stale() -> None:
    """Remove folders whose process was killed: their sockets are there and nobody answers."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/door.sock"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0.1)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                shutil.rmtree(path.parent, ignore_errors=True)
            except OSError:
                continue  # somebody else's, or busy: not ours to judge
