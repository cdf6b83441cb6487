"""What went wrong on the way to a provider: the one place where a connection's failure becomes a sentence.

    what happened                                      said of it                                          again
    a certificate is not accepted                      whose, why, and what to do (`certificates`)         never
    no TLS: plain HTTP, too old, wants a certificate   which of them, and of the provider or the proxy     never
    TLS or a tunnel is broken off                      between whom                                        yes
    the proxy wants a user, or refuses one (407)       the proxy, its variable, the user                   never
    the proxy forbids it (403, other 4xx), redirects   the proxy, the host, the status                     never
    the proxy cannot reach the host (5xx, 408, 429)    the proxy, the host, the status                     yes
    the proxy is not there                             the proxy, its variable                             yes
    a name is not found, nothing answers, no route     the host                                            yes
    what answers is no HTTP, or TLS where HTTP is meant  the host, or the proxy                            never
    the headers are too large                          the host                                            yes

No password is shown.
"""

import datetime as dt
import errno
import os
import re
from http import HTTPStatus
from typing import NamedTuple

import aiohttp
from multidict import CIMultiDict

from mixtura.errors import BlockedError, UnreachableError
from mixtura.models.openai.certificates import reason_of, why_no_tls, why_refused
from mixtura.models.openai.connector import CONNECT_SECONDS, CertificateError
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.handler import is_head_too_large
from mixtura.models.openai.proxy import ENCODED, Proxy
from mixtura.models.urls import is_near

_PASSING = frozenset({408, 429})
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
_CUT = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


class Cause(NamedTuple):
    """A sentence, whether it stays true until something is set, and whether there was a connection to the provider."""

    text: str
    lasts: bool = False
    connected: bool = False


def unreachable(endpoint: Endpoint, model: str, problem: Exception) -> UnreachableError:
    """Return the error for a connection that failed."""
    cause = _cause(endpoint, endpoint.through, problem)
    error = (BlockedError if cause.lasts else UnreachableError)(endpoint.provider, model, cause.text)
    error.connected = cause.connected
    # What a proxy does before there is a way to the provider says nothing about that: no breaker of it may open.
    error.sent = endpoint.through is None or cause.connected
    return error


def _cause(endpoint: Endpoint, proxy: Proxy | None, problem: Exception) -> Cause:
    host = endpoint.host
    to = host if proxy is None else f"{host} through {proxy.name}"
    match problem:
        case CertificateError() | aiohttp.ClientConnectorCertificateError():
            return _refused_certificate(endpoint, proxy, problem)
        case aiohttp.ClientSSLError():
            return _no_tls(endpoint, proxy, problem)
        case aiohttp.ClientHttpProxyError() if proxy is not None:
            return _proxy_refused(host, proxy, problem)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientConnectorDNSError() if proxy is not None:
            return _no_proxy(host, proxy, problem)
        case aiohttp.ClientConnectorDNSError():
            return Cause(f"the name {host!r} could not be resolved; check the network connection and the base URL")
        case aiohttp.ClientConnectorError():
            return _not_connected(host, proxy, problem)
        case aiohttp.ConnectionTimeoutError():
            # A server without TLS waits for the rest of what it takes for a request.
            plain = endpoint.secure and proxy is None and is_near(host.rpartition(":")[0].strip("[]") or host)
            advice = "; is it https:// where http:// is meant?" if plain else ""
            return Cause(f"no connection to {to} within {CONNECT_SECONDS:.0f} s{advice}")
        case aiohttp.InvalidURL():
            return Cause(f"the base URL {endpoint.url!r} is not one")
        case aiohttp.ClientResponseError():
            return _no_http(host, proxy, problem)
    if reason_of(problem):
        # The newest TLS lets a server refuse when the connection is made already.
        text, lasts = why_no_tls(problem, to)
        return Cause(text, lasts)
    return Cause(f"the connection to {to} broke before the answer was whole", connected=True)


def _refused_certificate(
    endpoint: Endpoint, proxy: Proxy | None, problem: CertificateError | aiohttp.ClientConnectorCertificateError
) -> Cause:
    error = problem.error if isinstance(problem, CertificateError) else problem.certificate_error
    whom = _answering(endpoint, proxy, problem.host, problem.port)
    return Cause(why_refused(error, whom, endpoint.trust, dt.datetime.now(dt.UTC)), lasts=True)


def _answering(endpoint: Endpoint, proxy: Proxy | None, host: str, port: int | None) -> str:
    """Say with whom a TLS connection was to be made, by the host and port of its error."""
    if proxy is None:
        return endpoint.host
    if proxy.url.startswith("https:") and (host, port) == proxy.where:
        return proxy.name
    return f"{endpoint.host} that came through {proxy.name}"


def _no_tls(endpoint: Endpoint, proxy: Proxy | None, problem: aiohttp.ClientSSLError) -> Cause:
    whom = _answering(endpoint, proxy, problem.host, problem.port).replace(" that came through", " through")
    text, lasts = why_no_tls(problem.os_error, whom)
    if text.endswith("speaks no TLS"):
        if proxy is not None and whom == proxy.name:
            variable = proxy.variable or "its address"
            text += f"; write http://{proxy.address} in {variable}, which names how the proxy itself is spoken to"
        else:
            text += "; is it https:// where http:// is meant?"
    return Cause(text, lasts)


def _proxy_refused(host: str, proxy: Proxy, problem: aiohttp.ClientHttpProxyError) -> Cause:
    status = problem.status
    headers = CIMultiDict(problem.headers or {})
    answer = f"{status} {_phrase(status, problem.message)}".rstrip()
    if status == 407:
        return Cause(_not_admitted(proxy, answer, headers.getall("Proxy-Authenticate", [])), True)
    elsewhere = f"list {host} in NO_PROXY if it can be reached without"
    if status >= 500 or status in _PASSING:
        return Cause(f"{proxy.name} could not connect to {host} ({answer}); try again, or {elsewhere}")
    if 300 <= status < 400:
        where = headers.get("Location", "elsewhere")[:200]
        return Cause(f"{proxy.name} redirects to {where!r} in place of connecting to {host}; log in there first", True)
    if status in (400, 404, 405, 501):
        return Cause(
            f"{proxy.name} does not connect to {host} ({answer}); is it an HTTP proxy that allows CONNECT? Check "
            f"{proxy.variable or 'its address'}, or {elsewhere}",
            True,
        )
    return Cause(
        f"{proxy.name} does not let calls through to {host} ({answer}); ask whoever runs it to allow {host}, "
        f"or {elsewhere}",
        True,
    )


def _not_admitted(proxy: Proxy, answer: str, challenges: list[str]) -> str:
    """Return the sentence for a proxy that wants to know who calls."""
    variable = proxy.variable or "the proxy's address"
    schemes = {word.lower() for word in re.findall(r"(?:^|,)\s*([A-Za-z][\w-]*)(?=\s|,|$)", ",".join(challenges))}
    known = schemes & {"ntlm", "negotiate", "digest", "kerberos", "bearer"}
    if known and "basic" not in schemes:
        return (
            f"{proxy.name} wants a login by {' or '.join(sorted(known))} ({answer}), and Mixtura knows Basic "
            f"only; run a proxy in between that knows it (px, cntlm) and name that one in {variable}"
        )
    scheme = proxy.url.partition("://")[0]
    if not proxy.authorization:
        return (
            f"{proxy.name} wants a user and a password ({answer}); write {variable} as "
            f"{scheme}://USER:PASSWORD@{proxy.address}, {ENCODED}"
        )
    return (
        f"{proxy.name} does not accept user {proxy.user!r} with this password ({answer}); correct them in {variable}, "
        f"{ENCODED}; they were sent once and are not sent again for a minute or longer, for accounts get locked"
    )


def _no_proxy(host: str, proxy: Proxy, problem: aiohttp.ClientConnectorError) -> Cause:
    resolved = not isinstance(problem, aiohttp.ClientConnectorDNSError)
    why = _system_words(problem.os_error) if resolved else "its name could not be resolved"
    named = f"correct {proxy.variable}" if proxy.variable else "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
    return Cause(
        f"the proxy {proxy.address} cannot be reached ({why}); {named}, or list {host} in NO_PROXY if it can be "
        "reached without"
    )


def _not_connected(host: str, proxy: Proxy | None, problem: aiohttp.ClientConnectorError) -> Cause:
    error = problem.os_error
    if proxy is not None:
        return Cause(
            f"the connection to {host} through {proxy.name} was broken off while it was made; does the proxy, or a "
            "firewall behind it, let calls through to that host?"
        )
    if isinstance(error, _CUT):
        return Cause(f"the connection to {host} was broken off while it was made; is there a firewall on the way?")
    why = _system_words(error)
    if error.errno in _NO_ROUTE:
        return Cause(f"there is no way to {host} ({why}); check the network connection, or a VPN that it needs")
    return Cause(f"nothing answers at {host} ({why}); is it running?")


def _no_http(host: str, proxy: Proxy | None, problem: aiohttp.ClientResponseError) -> Cause:
    """Return the cause where what came could not be read as HTTP."""
    asked = str(getattr(getattr(problem, "request_info", None), "method", ""))
    tunnel = proxy is not None and asked == "CONNECT"
    who = proxy.name if proxy is not None and tunnel else host if proxy is None else f"{host} through {proxy.name}"
    if is_head_too_large(problem):
        return Cause(
            f"{who} answered with headers that are too large to be read; whoever runs it, or a proxy on the way that "
            "adds them, has to shorten them",
            connected=not tunnel,
        )
    if r"\x15\x03" in problem.message:
        advice = f"write https://{host} in the base URL" if not tunnel else "write https:// before its address"
        return Cause(f"{who} speaks TLS where plain HTTP was sent; {advice}", lasts=True)
    if "status line" in problem.message:
        if tunnel and proxy is not None:
            check = f"is it an HTTP proxy, and not a SOCKS one? Check {proxy.variable or 'its address'}"
            return Cause(f"{who} does not answer in HTTP; {check}", lasts=True)
        return Cause(f"{who} does not answer in HTTP; check the base URL", lasts=True)
    said = " ".join(problem.message.split())[:120]
    return Cause(f"{who} sent a reply that breaks the rules of HTTP ({said})", connected=not tunnel)


def _phrase(status: int, said: str) -> str:
    """Return the words of a status: the proxy's own where it has any."""
    own = " ".join(word for word in said.split() if word.isprintable())[:60]
    if own:
        return own
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _system_words(problem: OSError) -> str:
    """Return why a connection was refused in the system's own words: asyncio puts the address in their place."""
    if problem.errno and problem.errno < 0:
        return problem.strerror or "its address could not be read"
    return os.strerror(problem.errno) if problem.errno else "no connection"
