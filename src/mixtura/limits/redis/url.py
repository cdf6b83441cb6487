"""The address of a Redis server, and what went wrong there, written without the password in it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mixtura.secret import Secret, scrub

P = TypeVar("P")


def without_password(address: Secret) -> str:
    """Return an address without the user and password it may hold."""
    url = address.reveal()
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "the given address"
    if "@" in url and "@" not in parts.netloc:
        return "the given address"  # which part of it is the password is not known
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


class Login:
    """A user and password as redis-py asks for them when it connects: its own objects then keep none."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, Secret(password)

    def get_credentials(self) -> tuple[str, ...]:
        """Return the user, if any, and the password."""
        password = self._password.reveal()
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str, ...]:
        """See `get_credentials`."""
        return self.get_credentials()


def pool_at(from_url: Callable[..., P], address: Secret, options: Mapping[str, Any]) -> P:
    """Return what redis-py's `from_url` makes of an address, whose login it is given apart.

    Raises:
        ValueError: it is no address.
    """
    url = address.reveal()
    parts = urlsplit(url)
    if not parts.password:
        return from_url(url, **options)
    bare = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
    login = Login(unquote(parts.username or ""), unquote(parts.password))
    return from_url(bare, credential_provider=login, **options)


def failure_text(error: BaseException, address: Secret) -> str:
    """Return what a failure says, without the password of `address`."""
    text = scrub(str(error)).strip().rstrip(".") or type(error).__name__
    password = urlsplit(address.reveal()).password
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return text
