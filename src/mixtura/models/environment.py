"""Base URLs and keys, as an environment names them."""

import ipaddress
import re
import urllib.parse
from collections.abc import Mapping

from mixtura.errors import ConfigError, MissingKeyError
from mixtura.models.catalog import CatalogProvider, check_base_url
from mixtura.models.place import ONE_MACHINE, Patience, Place
from mixtura.secret import NO_SECRET, Secret


def base_url(row: CatalogProvider, env: Mapping[str, str]) -> str:
    """Return the base URL of a provider: the one that `env` names, else the catalogue's.

    Raises:
        ConfigError: it is not a base URL, or holds a user or password.
    """
    address, given = _address(row, env)
    where = f"{row.base_url_env}: " if given else ""
    check_base_url(address, where=where, example=row.base_url if given else "", key=row.key_env)
    return address.reveal()


def _address(row: CatalogProvider, env: Mapping[str, str]) -> tuple[Secret, bool]:
    """Return the base URL of a provider, and whether it is the one that `env` names; nobody has checked it."""
    given = env.get(row.base_url_env, "").strip() if row.base_url_env else ""
    url = (given or _listening(row, env) or row.base_url).rstrip("/")
    if row.one_machine and url.count("/") == 2:
        # Servers print where they listen; their API is below that.
        url += "/v1"
    if given and row.base_url_suffix and not url.endswith(row.base_url_suffix):
        url += row.base_url_suffix
    return Secret.of_address(url), bool(given)


def _listening(row: CatalogProvider, env: Mapping[str, str]) -> str:
    """Return the address that a server's own variable says it listens on, "" for none: HOST, HOST:PORT or a URL."""
    said = env.get(row.host_env, "").strip() if row.host_env else ""
    if not said:
        return ""
    try:
        parts = urllib.parse.urlsplit(said if "://" in said else f"http://{said}")
        host, port = parts.hostname or "", parts.port or urllib.parse.urlsplit(row.base_url).port
    except ValueError:
        return said
    # Where it listens on every address, this machine's own is one of them.
    everywhere = ("", "0.0.0.0", "::")  # noqa: S104  # nothing is bound here
    host = "127.0.0.1" if host in everywhere else f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{port}"


_DEFAULT_PORTS = {"http": 80, "https": 443}


def server_address(url: str, row: CatalogProvider) -> str:
    """Return a base URL in the one form that all ways of writing it share; "" when it is none.

    Host in lower case, no default port, no slash at the end, and the provider's suffix, which its SDK leaves out.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not host:
        return ""
    path = parts.path.rstrip("/")
    if row.base_url_suffix and not path.endswith(row.base_url_suffix):
        path += row.base_url_suffix
    host = f"[{host}]" if ":" in host else host
    netloc = host if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"
    return f"{parts.scheme}://{netloc}{path}"


def place_of(row: CatalogProvider, server: str) -> Place:
    """Return where the models of a provider are served, whose address is `server` (see `server_address`)."""
    if row.one_machine or (row.any_address and _is_near(server)):
        patience = row.patience if row.one_machine and row.patience else ONE_MACHINE
        return Place(name=server.replace("//localhost", "//127.0.0.1"), served_by="machine", patience=patience)
    return Place(name=server, patience=row.patience or Patience())


def _is_near(server: str) -> bool:
    """Say whether an address is in this machine or its own network."""
    host = urllib.parse.urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".lan", ".internal", ".localhost"))


def api_key(provider: str, row: CatalogProvider, env: Mapping[str, str]) -> Secret:
    """Return the key of a provider, an empty one where it needs none.

    Raises:
        MissingKeyError: it needs a key and `env` holds none.
        ConfigError: what `env` holds cannot be a key.
    """
    named = next((name for name in key_variables(provider, row) if env.get(name)), "")
    if not named:
        if not row.key_env or row.key_optional:
            return NO_SECRET
        place = f" (a key is made at {row.keys_at})" if row.keys_at else ""
        kept = f", or keep it for the command with `mixtura keys set {provider}`"
        raise MissingKeyError(
            provider,
            row.key_env,
            f"{place}{kept}, or ask a server of your own (`--provider ollama`), or try `mixtura ask --sim`, which "
            "needs none",
        )
    return check_key(Secret(env[named]), named)


def key_variables(provider: str, row: CatalogProvider) -> tuple[str, ...]:
    """Return the variables that may hold the key of a provider, in the order in which they are looked at.

    A server that is named by its address has a variable of its own, so that the key of one is not sent to another.
    """
    if "://" not in provider:
        return (row.key_env,) if row.key_env else ()
    try:
        parts = urllib.parse.urlsplit(provider)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return (row.key_env,)
    address = f"{parts.scheme}_{parts.hostname or ''}_{port}{parts.path.rstrip('/')}"
    return (f"{row.key_env}_{re.sub('[^A-Z0-9]+', '_', address.upper())}", row.key_env)


def check_key(key: Secret, where: str) -> Secret:
    """Return `key` if it can be one; `where` says in the error where it came from.

    Raises:
        ConfigError: it cannot be sent.
    """
    if not _can_be_sent(key.reveal()):
        raise ConfigError(
            f"{where} holds white space or a character that no key has; was it copied with a line end, or with the "
            "byte order mark of a file?"
        )
    return key


def _can_be_sent(key: str) -> bool:
    return key.isascii() and key.isprintable() and not any(letter.isspace() for letter in key)
