"""Where a provider is reached."""

import re
import urllib.parse
from typing import TYPE_CHECKING, TypedDict

import msgspec

from mixtura._version import __version__
from mixtura.models.openai.proxy import Proxy, read_proxy
from mixtura.models.openai.trust import Trust, context_of
from mixtura.models.urls import UNIX, socket_of
from mixtura.secret import NO_SECRET, Secret

if TYPE_CHECKING:
    import ssl

    import yarl
    from multidict import CIMultiDict


_ZONE = re.compile(r"%.*\]")


class Way(TypedDict):
    """How a connection to an endpoint is made, as aiohttp wants it."""

    proxy: str | None
    proxy_headers: dict[str, str] | None
    ssl: "ssl.SSLContext | bool"
    server_hostname: str | None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, weakref=True):
    """Where a provider is reached: `url` is everything before /chat/completions, `key` may be empty.

    `query` is what belongs behind the path of every request, `key_header` the header that sends the key, "" for
    `Authorization`. `notes` say what was left out of the address that was given.
    `proxy` is the address of an HTTP proxy, `proxy_from` the variable that names it. `trust` are the authorities whose
    certificates are accepted.
    """

    provider: str
    url: str
    key: Secret = NO_SECRET
    query: Secret = NO_SECRET
    key_header: str = ""
    notes: tuple[str, ...] = ()
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
        if self.socket:
            headers["Host"] = "localhost"
        elif "%" in self.host:
            # The zone of an address means something on this machine alone.
            headers["Host"] = _ZONE.sub("]", self.host)
        proxy = self.through
        if proxy is not None and proxy.authorization and not self.secure:
            # Without a tunnel the request itself is the proxy's to read.
            headers["Proxy-Authorization"] = proxy.authorization.reveal()
        base = f"http://{headers['Host']}{self.url[len(self._root) :]}" if self.socket else self.url
        url = yarl.URL(base.rstrip("/") + path)
        if self.query:
            # As it was given: a signature in it would not bear another spelling.
            query = urllib.parse.quote(self.query.reveal(), safe="!$&'()*+,/:;=?@~%[]")
            url = yarl.URL(f"{url}?{query}", encoded=True)
        return url, headers

    def authorization(self) -> dict[str, str]:
        """Return the header that sends the key; none without a key."""
        if not self.key:
            return {}
        key = self.key.reveal()
        if self.key_header and not (key.startswith("eyJ") and key.count(".") == 2):
            return {self.key_header: key}
        # A token of Azure's directory is sent as others are.
        return {"Authorization": f"Bearer {key}"}

    @property
    def socket(self) -> str:
        """The path of the Unix socket, "" for none."""
        return socket_of(self.url)

    @property
    def _root(self) -> str:
        scheme, separator, rest = self.url.partition("://")
        return scheme + separator + rest.partition("/")[0]

    @property
    def host(self) -> str:
        """The host as the URL has it, with its port where that is said; or the path of a socket."""
        return self.socket or self.url.partition("://")[2].partition("/")[0]

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
            # Without TLS nothing else reads it, and connections are told apart by it.
            server_hostname=f"{UNIX}:{self.socket}" if self.socket else None,
        )
