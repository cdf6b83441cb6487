"""Where a provider is reached."""

from typing import TYPE_CHECKING

import msgspec

from mixtura._version import __version__
from mixtura.secret import NO_SECRET, Secret

if TYPE_CHECKING:
    import yarl
    from multidict import CIMultiDict


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a provider is reached: `url` is everything before /chat/completions, `key` may be empty.

    `proxy` is the address of an HTTP proxy, without the user and password in `proxy_login`.
    """

    provider: str
    url: str
    key: Secret = NO_SECRET
    proxy: str | None = None
    proxy_login: Secret = NO_SECRET

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "key", Secret(self.key))

    def proxy_address(self) -> str | None:
        """Return the address of the proxy with its user and password, to connect to it."""
        if self.proxy is None or not self.proxy_login:
            return self.proxy
        scheme, _, host = self.proxy.partition("://")
        return f"{scheme}://{self.proxy_login.reveal()}@{host}"

    def authorization(self) -> dict[str, str]:
        """Return the header that sends the key; none without a key."""
        return {"Authorization": f"Bearer {self.key.reveal()}"} if self.key else {}

    def address(self, path: str) -> "tuple[yarl.URL, CIMultiDict[str]]":
        """Return the URL of `path`, and the headers that every call has in common."""
        import yarl
        from multidict import CIMultiDict

        headers = CIMultiDict(
            {
                "User-Agent": f"mixtura/{__version__}",
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                # A proxy that compresses a stream also holds its pieces back.
                "Accept-Encoding": "identity",
            }
        )
        headers.extend(self.authorization())
        return yarl.URL(self.url.rstrip("/") + path), headers
