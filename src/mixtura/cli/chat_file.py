"""Conversations in files: what `/save` writes, and what `--resume` keeps up to date and continues."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mixtura.chat import Message
from mixtura.errors import ConfigError
from mixtura.input_files import expanded, utf8_text
from mixtura.places import write_atomically


def as_json(messages: Sequence[Message]) -> bytes:
    """Return a conversation as indented JSON, a list of its messages; `KeptTalk` reads it again."""
    return msgspec.json.format(msgspec.json.encode(messages), indent=2) + b"\n"


def save_new(name: str, messages: Sequence[Message]) -> None:
    """Write a conversation to a new file: JSON if its name ends in .json, else Markdown.

    Raises:
        ConfigError: there is such a file, or it cannot be written.
    """
    if name.endswith(".json"):
        text = as_json(messages).decode()
    else:
        text = "\n\n".join(f"## {message.role}\n\n{message.text}" for message in messages) + "\n"
    try:
        with expanded(name).open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be written: {error.strerror or error}") from error


class KeptTalk:
    """A file that follows a conversation: it is read once, and written whole after every answer.

    Raises:
        ConfigError: the file holds no conversation, or cannot be read or written; it stays as it is.
    """

    def __init__(self, name: str) -> None:
        try:
            self.path = expanded(name)
        except OSError as error:
            raise ConfigError(f"{name}: {error.strerror}") from None
        self._seen = self._content()
        self.messages = _messages(self.path, self._seen) if self._seen else []
        folder = self.path.resolve().parent
        if not folder.is_dir():
            raise ConfigError(f"{name}: there is no folder {folder}; make it, or name another file")
        if not os.access(folder, os.W_OK):
            raise ConfigError(f"{name}: {folder} cannot be written, so nothing would be kept; name another file")

    def save(self, messages: Sequence[Message]) -> str:
        """Write the conversation in one step; return what there is to say of it, "" for nothing.

        Where another program has changed the file since, that stays, and a new file beside it is taken.

        Raises:
            ConfigError: it cannot be written; the file holds what it held.
        """
        data = as_json(messages)
        said = ""
        if self._content() not in (self._seen, None):
            taken = self.path
            numbered = (taken.with_name(f"{taken.stem}-{number}{taken.suffix}") for number in itertools.count(2))
            self.path = next(path for path in numbered if not path.exists())
            said = f"{taken} was changed by another program; this conversation is kept in {self.path} from now on"
        try:
            write_atomically(self.path, data)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self._seen = data
        return said

    def _content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror or error}") from error


def _messages(path: Path, data: bytes) -> list[Message]:
    try:
        found = msgspec.json.decode(utf8_text(data), type=list[Message])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    for place, message in enumerate(found):
        if message.role not in ("user", "assistant") and (message.role, place) != ("system", 0):
            raise _broken(path, f"message {place + 1} is of role {message.role!r}")
        if not isinstance(message.content, str):
            raise _broken(path, f"message {place + 1} is no text")
    return found


def _broken(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} holds no conversation ({why}); it was left as it is: mend it, or name another file")
