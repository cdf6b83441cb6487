"""Where a provider is reached."""

from typing import TYPE_CHECKING, TypedDict

import msgspec

from mixtura._version import __version__
from mixtura.models.openai.proxy import Proxy, read_proxy
from mixtura.models.openai.trust import Trust, context_of
from mixtura.secret import NO_SECRET, Secret

if TYPE_CHECKING:
    import ssl

    import yarl
    from multidict import CIMultiDict


class Way(TypedDict):
    """How a connection to an endpoint is made, as aiohttp wants it."""

    proxy: str | None
    proxy_headers: dict[str, str] | None
    ssl: "ssl.SSLContext | bool"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, weakref=True):
    """Where a provider is reached: `url` is everything before /chat/completions, `key` may be empty.

    `proxy` is the address of an HTTP proxy, `proxy_from` the variable that names it. `trust` are the authorities whose
    certificates are accepted.
    """

    provider: str
    url: str
    key: Secret = NO_SECRET
    proxy: Secret | None = None
    proxy_from: str = ""
    trust: Trust = Trust()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "key", Secret(self.key))
        if self.proxy is not None:
            msgspec.structs.force_setattr(self, "proxy", Secret.of_address(self.proxy))

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
        proxy = self.through
        if proxy is not None and proxy.authorization and not self.secure:
            # Without a tunnel the request itself is the proxy's to read.
            headers["Proxy-Authorization"] = proxy.authorization.reveal()
        return yarl.URL(self.url.rstrip("/") + path), headers

    def authorization(self) -> dict[str, str]:
        """Return the header that sends the key; none without a key."""
        return {"Authorization": f"Bearer {self.key.reveal()}"} if self.key else {}

    @property
    def host(self) -> str:
        """The host as the URL has it, with its port where that is said."""
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.url.lower().startswith("https://")

    @property
    def through(self) -> Proxy | None:
        """The proxy in its parts."""
        return None if self.proxy is None else read_proxy(self.proxy, self.proxy_from)

    def way(self) -> Way:
        """Return how a connection is made.

        Raises:
            ConfigError: the authorities that the environment names cannot be read.
        """
        proxy = self.through
        headers = None
        if proxy is not None and proxy.authorization and self.secure:
            # Written whole: aiohttp would add the host, and take the connection for another one from then on.
            host = self.address("")[0].host_port_subcomponent or ""
            headers = {"Proxy-Authorization": proxy.authorization.reveal(), "Host": host}
        encrypted = self.secure or (proxy is not None and proxy.url.startswith("https:"))
        return Way(
            proxy=None if proxy is None else proxy.url,
            proxy_headers=headers,
            ssl=context_of(self.trust) if encrypted else True,
        )
