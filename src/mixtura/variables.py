"""The variables from which keys and settings are read: a copy of an environment that shows none of them."""

import os
from collections.abc import Iterator, Mapping

from mixtura.errors import ConfigError
from mixtura.secret import hidden, shown


class Variables(Mapping[str, str]):
    """A copy of an environment: what is set there later is not in it. Its values are shown by `[...]` alone.

    Texts may also be bytes, or objects with `get_secret_value()` such as pydantic's `SecretStr`; None is not set.
    """

    __slots__ = ("_hidden",)

    def __init__(self, env: Mapping[str, object]) -> None:
        self._hidden = {name: _hidden(value) for name, value in env.items() if value is not None}

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Variables":
        """Return `env` as `Variables`; what is one already is not copied."""
        return env if isinstance(env, Variables) else cls(env)

    def __getitem__(self, name: str) -> str:
        """Return a value.

        Raises:
            KeyError: it is not set.
            ConfigError: it is no text.
        """
        found = self._hidden[name]
        if isinstance(found, str):
            raise ConfigError(f"{name}: expected text, got {found}")
        return shown(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hidden)

    def __len__(self) -> int:
        return len(self._hidden)

    def __contains__(self, name: object) -> bool:
        return name in self._hidden

    def __repr__(self) -> str:
        return f"<{len(self)} variables>"


def text_of(value: object) -> str | None:
    """Return a text, which may be in bytes or wrapped as a secret; None for anything else."""
    wrapped = getattr(value, "get_secret_value", None) or getattr(value, "reveal", None)
    text = wrapped() if callable(wrapped) else value
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return str(text) if isinstance(text, str) else None


def _hidden(value: object) -> bytes | str:
    """Return a value so that it does not show, or the name of its type where it is no text."""
    text = text_of(value)
    return type(value).__name__ if text is None else hidden(text)
