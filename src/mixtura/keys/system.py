"""The system's keyring, through the package `keyring`: whether there is a usable one, and its entries.

The package is optional and takes 0.2 s to load, so it is imported when a key is read or written and not before.
"""

import importlib
from typing import Any

SERVICE = "mixtura"
"""The name under which entries stand in the keyring; the user name of an entry is the provider's."""
INSTALL = "pip install 'mixtura[keyring]'"


class KeyringUnusable(Exception):  # noqa: N818  # it is no error: a file keeps the key then
    """There is no keyring that keeps what is written into it; the text says why."""


def write(name: str, key: str) -> None:
    """Write an entry, and read it back: some backends accept everything and keep nothing.

    Raises:
        KeyringUnusable: the keyring did not keep it.
    """
    backend = _backend()
    _call(backend.set_password, SERVICE, name, key)
    if _call(backend.get_password, SERVICE, name) != key:
        raise KeyringUnusable("the system's keyring does not return what is written into it")


def read(name: str) -> str | None:
    """Return an entry, None where there is none.

    Raises:
        KeyringUnusable: the keyring cannot be read.
    """
    found = _call(_backend().get_password, SERVICE, name)
    return found if isinstance(found, str) else None


def remove(name: str) -> None:
    """Delete an entry, if it is there.

    Raises:
        KeyringUnusable: the keyring cannot be written.
    """
    if read(name) is not None:
        _call(_backend().delete_password, SERVICE, name)


def _backend() -> Any:
    """Return the keyring's backend; those that stand for "there is none" are told apart by where they come from."""
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise KeyringUnusable(f"the package for the system's keyring is not installed ({INSTALL})") from None
    backend = _call(keyring.get_keyring)
    if type(backend).__module__ in ("keyring.backends.fail", "keyring.backends.null"):
        raise KeyringUnusable("this system has no keyring that can be used")
    return backend


def _call(function: Any, *args: str) -> Any:
    try:
        return function(*args)
    except Exception as error:
        # Backends are plug-ins over D-Bus and the like, and raise whatever those do. What they say may name the entry,
        # never the key.
        raise KeyringUnusable(f"the system's keyring cannot be used: {type(error).__name__}: {error}") from error
