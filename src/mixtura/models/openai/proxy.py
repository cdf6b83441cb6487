"""The HTTP proxy that an environment names, and its user and password, which are sent once until they are accepted.

Companies lock accounts after a few wrong passwords. So the first connection that names a user goes alone; when the
proxy refuses it, no other one sends the same user and password for a while, in this run and in those that follow.
"""

import asyncio
import base64
import fnmatch
import ipaddress
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from mixtura.errors import ConfigError
from mixtura.secret import NO_SECRET, Secret

if TYPE_CHECKING:
    import aiohttp

Made = TypeVar("Made")
ENCODED = "the signs ':@/?#%' as %3A %40 %2F %3F %23 %25"
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0
_PORTS = {"http": 80, "https": 443}
_LONGEST_NAME = 253


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP proxy.

    Attributes:
        url: its address without user and password.
        variable: the environment variable that names it, "" where a caller did.
        user: its user, as people read it; None where none is named.
        authorization: the header by which they are sent; an empty one for none.
    """

    url: str
    variable: str = ""
    user: str | None = None
    authorization: Secret = NO_SECRET

    @property
    def address(self) -> str:
        """Host and port, as they are written in the variable."""
        return self.url.partition("://")[2]

    @property
    def where(self) -> tuple[str, int]:
        """Host and port, by which connections to it are told from others."""
        parts = urllib.parse.urlsplit(self.url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    @property
    def name(self) -> str:
        """The proxy in a sentence."""
        return f"the proxy {self.address}" + (f" ({self.variable})" if self.variable else "")


def proxy_for(url: str, env: Mapping[str, str]) -> tuple[Secret | None, str]:
    """Return the proxy that `env` names for `url`, by the usual variables in either case, and the variable; else None.

    Raises:
        ConfigError: it is no HTTP proxy, or its address cannot be read. No password is shown.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _PORTS:
        return None, ""
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        variable = next((each for each in (name, name.upper()) if env.get(each, "").strip()), "")
        if variable:
            break
    else:
        return None, ""
    listed = env.get("no_proxy", "").strip() or env.get("NO_PROXY", "")
    if _bypassed(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0), listed):
        return None, ""
    given = _written(env[variable].strip())
    read_proxy(given, variable)
    return given, variable


def _written(address: str) -> Secret:
    return Secret.of_address(address if "://" in address else f"http://{address}")


def read_proxy(given: Secret, variable: str = "") -> Proxy:
    """Read the address of a proxy.

    User and password are percent-decoded and sent as the bytes that they are then, UTF-8 where they were characters.

    Raises:
        ConfigError: it is no HTTP proxy, or its address cannot be read. No password is shown.
    """
    # Said here and not where it is read, so that no traceback's locals hold the password.
    found = _read(given.reveal(), variable)
    if isinstance(found, str):
        raise ConfigError(found)
    return found


def _read(given: str, variable: str) -> Proxy | str:
    """Return a proxy, or what is wrong with its address."""
    named = variable or "the proxy"
    scheme, _, rest = given.partition("://")
    scheme = scheme.lower()
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, place = authority.rpartition("@")
    if "@" in rest[len(authority) :]:
        return f"the user or password in {named} holds a '/', '?' or '#' as it is; write {ENCODED}"
    try:
        parts = urllib.parse.urlsplit(f"//{place}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    expected = f"expected http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, {ENCODED}"
    if scheme.startswith("socks"):
        return (
            f"{named} names a SOCKS proxy, and Mixtura speaks to HTTP proxies only; name one, run one in front of it "
            "(privoxy, gost), or list the host in NO_PROXY"
        )
    if scheme not in _PORTS:
        return f"{named} names no HTTP proxy; {expected}, or list the host in NO_PROXY"
    if not host or any(letter.isspace() for letter in place):
        return f"the address of a proxy in {named} cannot be read; {expected}"
    plain = f"{scheme}://{place}" if port is not None else f"{scheme}://{place.rstrip(':')}"
    if not at or userinfo in ("", ":"):
        return Proxy(url=plain, variable=variable)
    user, _, password = (urllib.parse.unquote_to_bytes(part) for part in _bytes(userinfo).partition(b":"))
    if b":" in user:
        return f"the user in {named} holds a colon, which no proxy can tell from the one before a password"
    sent = base64.b64encode(user + b":" + password).decode("ascii")
    shown = "".join(letter if letter.isprintable() else "?" for letter in user.decode("utf-8", "replace"))
    return Proxy(url=plain, variable=variable, user=shown, authorization=Secret(f"Basic {sent}", sought=[sent]))


def _bytes(text: str) -> bytes:
    """Return a variable's value as the bytes that it was set to."""
    return text.encode("utf-8", "surrogateescape")


def _bypassed(host: str, port: int, listed: str) -> bool:
    """Say whether NO_PROXY's list names a host: itself, with its port, a domain above it, a network, or "*"."""
    host = _plain_name(host)
    number = _number(host)
    own = host == "localhost" or host.endswith(".localhost") or (number is not None and number.is_loopback)
    for entry in re.split(r"[,;\s]+", listed.lower()):
        name, ends_at = _host_and_port(entry)
        if not name or ends_at not in (None, port):
            continue
        if name == "*" or name == host:
            return True
        if name == "localhost" and own:
            return True
        network = _network(name)
        if network is not None:
            # All ways to name this machine are one.
            if (number is not None and _is_in(number, network)) or (host == "localhost" and network.is_loopback):
                return True
        elif "*" in name:
            if fnmatch.fnmatchcase(host, name):
                return True
        elif number is None and host.endswith(f".{name}"):
            return True
    return False


def _plain_name(host: str) -> str:
    """Return a host in small letters and ASCII, without a dot at its end."""
    host = host.lower().rstrip(".")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


_Number = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _number(host: str) -> _Number | None:
    try:
        number = ipaddress.ip_address(host.replace("%25", "%").partition("%")[0])
    except ValueError:
        return None
    mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
    return number if mapped is None else mapped


def _network(name: str) -> _Network | None:
    try:
        return ipaddress.ip_network(name.partition("%")[0], strict=False)
    except ValueError:
        return None


def _is_in(number: _Number, network: _Network) -> bool:
    return number.version == network.version and number in network


def _host_and_port(entry: str) -> tuple[str, int | None]:
    """Return the two parts of an entry: `host`, `.host`, `*.host`, `host:port`, a network, `[v6]:port`.

    A scheme before it and a path behind it are left out: some paste a whole address.
    """
    entry = entry.partition("://")[2].partition("/")[0] if "://" in entry else entry
    bracketed = re.fullmatch(r"\[([^\]]*)\](/\d{1,3})?(?::(\d{1,5}))?", entry)
    if bracketed:
        return bracketed[1] + (bracketed[2] or ""), int(bracketed[3]) if bracketed[3] else None
    name, colon, port = entry.rpartition(":")
    if not colon or ":" in name or not (port.isdecimal() or port == "*"):
        name, port = entry, ""
    name = name.removeprefix("*.") if name != "*" else name
    if len(name) > _LONGEST_NAME:
        return "", None
    # `10.*` and `192.168.*.*` are networks to many programs.
    return _plain_name(name.strip(".") if ":" not in name else name), int(port) if port.isdecimal() else None


class _Refusal(msgspec.Struct):
    """That a proxy refused a user and password: the error, when, and for how many seconds they are not sent again."""

    error: BaseException
    at: float
    pause: float

    def holds(self, now: float) -> bool:
        """Say whether it still does; a clock that was set back, or is another loop's own, ends it."""
        return 0 <= now - self.at < self.pause


class Gate:
    """Lets the connections pass that name one user and password to one proxy: the first alone, until it is accepted."""

    def __init__(self) -> None:
        self._accepted = False
        self._refused: _Refusal | None = None
        self._first: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[None]] = WeakKeyDictionary()

    async def through(self, connect: Callable[[], Awaitable[Made]]) -> Made:
        """Return what `connect` makes.

        Raises:
            aiohttp.ClientHttpProxyError: the proxy refused, now or a short while ago.
            aiohttp.ClientError, OSError: `connect` failed, or the first connection did, which this one waited for.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._refused is not None and self._refused.holds(loop.time()):
                raise self._refused.error
            if self._accepted:
                return await self._judged(connect)
            first = self._first.get(loop)
            if first is None:
                return await self._alone(loop, connect)
            # One that was called off leaves no verdict, and the next one goes first.
            await asyncio.wait([first])
            if not first.cancelled() and (problem := first.exception()) is not None:
                raise problem

    async def _alone(self, loop: asyncio.AbstractEventLoop, connect: Callable[[], Awaitable[Made]]) -> Made:
        first = self._first[loop] = loop.create_future()
        try:
            made = await self._judged(connect)
        except Exception as problem:
            first.set_exception(problem)
            first.exception()
            raise
        else:
            self._accepted, self._refused = True, None
            first.set_result(None)
            return made
        finally:
            first.cancel()
            del self._first[loop]

    async def _judged(self, connect: Callable[[], Awaitable[Made]]) -> Made:
        import aiohttp

        try:
            return await connect()
        except aiohttp.ClientHttpProxyError as problem:
            if problem.status == 407:
                pause = _FIRST_PAUSE if self._refused is None else min(2 * self._refused.pause, _LONGEST_PAUSE)
                now = asyncio.get_running_loop().time()
                self._accepted, self._refused = False, _Refusal(problem, now, pause)
            raise


# Of the process: what a proxy refused in one run, it will in the next.
_GATES: dict[Proxy, Gate] = {}


def gate_of(proxy: Proxy | None) -> Gate | None:
    """Return what lets connections to a proxy pass; None where no user and password are sent."""
    if proxy is None or not proxy.authorization:
        return None
    return _GATES.setdefault(proxy, Gate())


def refusal_of(reply: "aiohttp.ClientResponse") -> "aiohttp.ClientHttpProxyError":
    """Return what a proxy's refusal of a plain request is: the same as that of a tunnel."""
    import aiohttp

    return aiohttp.ClientHttpProxyError(
        reply.request_info, (), status=reply.status, message=reply.reason or "", headers=reply.headers
    )
