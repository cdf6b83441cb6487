"""Base URLs of servers: read into one form, why a text can be none, and what of one may be shown.

A base URL is everything before `/chat/completions`. People write more than that, and less: `read_base_url` takes what
it means. A server behind a Unix socket has `http+unix://%2Frun%2Fserver.sock/v1` for its address, also written
`unix:/run/server.sock`.
"""

import ipaddress
import re
import urllib.parse
from typing import NamedTuple

from mixtura.errors import ConfigError
from mixtura.secret import Secret, scrub

UNIX = "http+unix"
AZURE_HOSTS = (".azure.com", ".azure.us", ".azure.cn")
AZURE_PATH = "/openai/deployments/"

_ADDRESS = re.compile(r"[/:@]|^localhost$|^\d+(\.\d+){3}$|\.[a-z]{2,}$", re.IGNORECASE)
_UNIX = re.compile(r"(?:http\+)?unix:(?://)?|http://unix:(?=/)", re.IGNORECASE)
_SOCKET_NAME = re.compile(r"[^:]*?\.(?:sock|socket)(?=[:/?#]|$)")
_VERSION = re.compile(r"/v\d[^/]*(?:/|$)")
# What Mixtura, or another client, adds to a base URL.
_ENDPOINT = re.compile(r"(/v\d\w{0,12})/(?:models|chat)$|/(?:chat/)?completions$|/(?:responses|embeddings)$")
# Ollama's own API is beside the one that is meant.
_OLLAMA = re.compile(r"(.*:11434)/api(?:/(?:chat|generate|tags))?$")

_LONGEST, _LONGEST_LABEL = 4096, 63
_LONGEST_SOCKET = 107
_BLANK = "it holds a blank or a character that no address has"

# Parameters of a query that hold a key, by their names or by what they look like.
_SECRET_NAME = re.compile(r"key|token|secret|pass|pwd|sig|auth|cred|code|sas|jwt|session|user|login", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"version|model|deployment|region|location", re.IGNORECASE)
_LIKE_A_KEY = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])\S{20,}")


class BaseUrl(NamedTuple):
    """A base URL in one form.

    Attributes:
        url: scheme, host, port and path, without a slash at the end.
        query: what belongs behind the path of every request, "" for nothing. It may hold a key.
        notes: what was left out of it, in sentences.
        exact: it was written with the path of a request, so that nothing is to be added to its own.
    """

    url: str
    query: str = ""
    notes: tuple[str, ...] = ()
    exact: bool = False

    @property
    def whole(self) -> str:
        """All of it, as it may be written."""
        return f"{self.url}?{self.query}" if self.query else self.url

    @property
    def shown(self) -> str:
        """All of it, without what may be a key."""
        return f"{self.url}?{shown_query(self.query)}" if self.query else self.url

    @property
    def socket(self) -> str:
        """The path of the Unix socket that it names, "" for none."""
        return socket_of(self.url)

    @property
    def host(self) -> str:
        """Its host, in small letters and without brackets; "" for a socket."""
        return "" if self.socket else urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        """The path, "" for none."""
        return "".join(self.url.partition("://")[2].partition("/")[1:])

    def below(self, path: str) -> "BaseUrl":
        """Return the address of `path` below it."""
        return self._replace(url=self.url + path)


def read_base_url(url: str | Secret, *, where: str = "", example: str = "", key: str = "") -> BaseUrl:
    """Return the base URL that a text means.

    Host and scheme become lower-case, doubled slashes one, and what Mixtura adds itself (`/chat/completions`) is left
    out, as is a fragment. Reading `whole` again changes nothing.

    Args:
        url: the address.
        where: what the error begins with: where the address was read.
        example: an address that can be one.
        key: the variable that a key belongs into.

    Raises:
        ConfigError: it is none, or holds a user or password, which are not shown.
    """
    # The locals of a traceback show no password.
    url = Secret.of_address(url)
    found = _read(url.reveal())
    if isinstance(found, BaseUrl):
        return found
    if "password" in found:
        raise ConfigError(f"{where}a base URL must not hold a user or password; put the key into {key}")
    if meant := suggestion(url.reveal(), example):
        raise ConfigError(f"{where}{shown(url.reveal())} is not a base URL: {found}; write {meant}")
    looks = example or "http://127.0.0.1:8000/v1"
    raise ConfigError(f"{where}{shown(url.reveal())} is not a base URL: {found}; one looks like {looks!r}")


def _read(text: str) -> BaseUrl | str:
    """Return a base URL, or why it is none, as the end of a sentence about it."""
    if len(text) > _LONGEST:
        return f"it has more than {_LONGEST:,} characters"
    socket, rest = _socket_in(text)
    if problem := _socket_problem(socket, text) if socket is not None else _problem(text):
        return problem
    rest, hash_, _ = rest.partition("#")
    rest, _, query = rest.partition("?")
    if socket is None:
        parts = urllib.parse.urlsplit(rest)
        host = (parts.hostname or "").replace("%25", "%")
        host = f"[{host}]" if ":" in host else host
        root = f"{parts.scheme}://{host}" + ("" if parts.port is None else f":{parts.port}")
        path = parts.path
    else:
        root, path = f"{UNIX}://{urllib.parse.quote(socket, safe='')}", rest
    path = _tidy(path)
    url = _without_endpoint(root + path, len(root))
    notes = []
    if url != root + path:
        added = (root + path).removeprefix(url) if (root + path).startswith(url) else path
        notes.append(f"the base URL ends in {added!r}, which is no part of it; Mixtura asks {url}/chat/completions")
    if hash_:
        notes.append("what follows '#' in the base URL is never sent and was left out")
    return BaseUrl(url, query, tuple(notes), exact=url != root + path)


def _tidy(path: str) -> str:
    """Return a path without doubled slashes, a slash at its end, and steps up and down."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "".join(f"/{part}" for part in kept)


def _without_endpoint(url: str, root: int) -> str:
    while (found := _ENDPOINT.search(url, root)) is not None:
        url = url[: found.start()] + (found[1] or "")
    ollama = _OLLAMA.fullmatch(url)
    return f"{ollama[1]}/v1" if ollama is not None and len(ollama[1]) == root else url


def looks_like_address(text: str) -> bool:
    """Return whether whoever wrote `text` meant an address rather than a provider's name."""
    return _ADDRESS.search(text) is not None


def shown(url: str) -> str:
    """Return `url` in quotes, without what may be a password or a key."""
    before, _, query = url.partition("?")
    if query:
        url = f"{before}?{shown_query(query)}"
    head, at, tail = url.rpartition("@")
    if not at:
        return repr(url)
    scheme, separator, _ = head.partition("://")
    return repr(f"{scheme}://...@{tail}" if separator else f"...@{tail}")


def without_keys(url: str) -> str:
    """Return an address with stars in place of what may be a key in its query; another text as it is."""
    before, asks, query = url.partition("?")
    return f"{before}?{shown_query(query)}" if asks and looks_like_address(before) else url


def shown_query(query: str) -> str:
    """Return a query with stars in place of what may be a key."""
    return "&".join(_shown_parameter(part) for part in query.split("&"))


def _shown_parameter(part: str) -> str:
    name, _, value = part.partition("=")
    if not _may_be_key(name, value):
        return part
    return f"{name}=***" if value else "***"


def secrets_in(query: str) -> list[str]:
    """Return what of a query may be a key, as it is written and as it is meant."""
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    found = [value or name for name, value in pairs if _may_be_key(name, value)]
    return [*found, *map(urllib.parse.unquote_plus, found)]


def _may_be_key(name: str, value: str) -> bool:
    if not value:
        return scrub(name) != name or _LIKE_A_KEY.fullmatch(name) is not None
    if value.startswith("***"):
        return False
    if _SECRET_NAME.search(name) or scrub(value) != value:
        return True
    return _PLAIN_NAME.search(name) is None and _LIKE_A_KEY.fullmatch(value) is not None


def url_problem(url: str) -> str:
    """Return why `url` cannot be a base URL, as the end of a sentence about it; "" when it can."""
    found = _read(url)
    return found if isinstance(found, str) else ""


def _problem(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")):
        return "it begins with neither http:// nor https://"
    if not url.isprintable() or " " in url:
        return _BLANK
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        return f"it cannot be read ({error})"
    if parts.username is not None or parts.password is not None:
        return "it must not hold a user or password"
    if not host:
        return "it names no host"
    return _host_problem(host) or _port_problem(parts)


def _host_problem(host: str) -> str:
    try:
        # The codec is a file of its own, which most hosts need not have loaded.
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return "its host is no name"
    labels = () if ":" in host else name.removesuffix(".").split(".")  # IPv6 was checked by `urlsplit`
    return "" if all(0 < len(label) <= _LONGEST_LABEL for label in labels) else "its host is no name"


def _port_problem(parts: urllib.parse.SplitResult) -> str:
    try:
        sound = parts.port is None or parts.port > 0
    except ValueError:
        sound = False
    return "" if sound else "its port is no number from 1 to 65535"


def socket_of(url: str) -> str:
    """Return the path of the socket that a base URL in its one form names, "" for none."""
    if not url.startswith(UNIX):
        return ""
    return urllib.parse.unquote(url.partition("://")[2].partition("/")[0])


def _socket_in(text: str) -> tuple[str | None, str]:
    """Return the path of the Unix socket that an address names, and what stands behind it; None and all for none."""
    begun = _UNIX.match(text)
    if begun is None:
        return None, text
    rest = text[begun.end() :]
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if "%2f" in host.lower():
        return urllib.parse.unquote(host), rest[len(host) :]
    # Behind a name without an ending only a colon says where the path of the API begins.
    named = _SOCKET_NAME.match(rest)
    socket = named[0] if named is not None else re.split("[:?#]", rest, maxsplit=1)[0]
    return urllib.parse.unquote(socket), rest[len(socket) :].removeprefix(":")


def _socket_problem(socket: str, text: str) -> str:
    if not text.isprintable() or " " in text or not socket.isprintable():
        return _BLANK
    if not socket.startswith("/") or socket.endswith("/"):
        return "the path of its socket does not begin with a slash, or ends with one"
    if len(socket.encode("utf-8", "surrogatepass")) > _LONGEST_SOCKET:
        return f"the path of its socket has more than {_LONGEST_SOCKET} bytes"
    return ""


def suggestion(text: str, example: str = "") -> str:
    """Return the base URL that whoever wrote `text` means, in words that follow "write"; "" where nobody can tell.

    `example` is that of the provider whose address it is meant to be.
    """
    text = text.strip().strip("\"'`<>")
    if "@" in text or len(text) > _LONGEST:
        return ""
    text, _, query = text.partition("?")
    meant, advice = (text, "") if not url_problem(text) else _meant(text, example)
    return f"{meant}?{shown_query(query)}{advice}" if query and meant else meant + advice


def _meant(text: str, example: str) -> tuple[str, str]:
    """Return the address that a text without a query means, and what is to be said of it; "" for none."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", re.sub(r"^(?:https?)?:?[/\\]+", "", text, flags=re.IGNORECASE)
    host, port, path = _place(rest)
    if not host:
        return "", ""
    near = is_near(host) or (port not in ("", "443") and scheme.lower() not in ("https", "wss"))
    known = urllib.parse.urlsplit(example)
    if known.hostname == host and not port:
        return example, ""
    host = f"[{host}]" if ":" in host else host
    lone = near and not port
    port = port or ("8000" if near else "")
    meant = f"{'http' if near else 'https'}://{host}{':' if port else ''}{port}{path or '/v1'}"
    if url_problem(meant):
        return "", ""
    return meant, ", with the port that its server listens on" if lone else ""


def _place(rest: str) -> tuple[str, str, str]:
    """Return host, port and path of an address without a scheme; a host of "" where it cannot be read."""
    authority, slash, path = rest.partition("/")
    try:
        return str(ipaddress.ip_address(authority)), "", _tidy(slash + path)
    except ValueError:
        pass
    try:
        parts = urllib.parse.urlsplit(f"//{authority}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", "", ""
    if host in ("", "0.0.0.0") and port:  # noqa: S104  # nothing is bound here
        # Where it listens on every address, this machine's own is one of them.
        host = "127.0.0.1"
    return host, "" if port is None else str(port), _tidy(slash + path)


def is_near(host: str) -> bool:
    """Say whether a host is this machine, or in its own network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".lan", ".internal", ".localhost"))


def advice_for(base: BaseUrl) -> str:
    """Return what an error says of a base URL where its server knows no such path, as the end of a sentence."""
    if AZURE_PATH in base.url and "api-version=" not in base.query:
        return "; Azure wants the version of its API at the end of the base URL, such as ?api-version=2024-10-21"
    if _VERSION.search(base.path) or "/openai" in base.path:
        return "; is the base URL right?"
    return f"; is the base URL right? Most servers answer below /v1: {base.below('/v1').shown}"


def is_azure(base: BaseUrl) -> bool:
    """Say whether a base URL is that of a deployment at Azure, or of a server that stands in for it."""
    return base.host.endswith(AZURE_HOSTS) or AZURE_PATH in f"{base.path}/"
