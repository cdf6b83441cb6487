"""What really happened on the way to a provider, and the sentence that says so."""

import asyncio
import re
import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openai
import pytest
import trustme

from mixtura.chat import ChatRequest, Completion, Message
from mixtura.errors import BlockedError, BrokenReplyError, ConfigError, ModelError, RejectedError, UnreachableError
from mixtura.limits.limiter import Limiter
from mixtura.models.openai import trust
from mixtura.models.openai.certificates import why_no_tls, why_refused
from mixtura.models.openai.pool import close_pool
from mixtura.models.registry import ModelRegistry
from mixtura.models.wrappers.retry import RetryPolicy
from networks import TestProxy, TlsServer, answer, listening, odd_certificate, read_request, server_context
from resources import lack

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "AWS_CA_BUNDLE")
AUTHORITY = trustme.CA()
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "NODE_EXTRA_CA_CERTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> str:
    """Return the file of the company's authority."""
    path = tmp_path / "company.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return str(path)


async def ask(url: str, **env: str) -> Completion:
    """Make one call as a run makes it, second tries included."""
    registry = ModelRegistry(env=env, policy=RetryPolicy(base=0.001), limiter=Limiter())
    try:
        return await registry.find(url, "m").chat.chat(REQUEST)
    finally:
        await close_pool()


async def failure(url: str, **env: str) -> ModelError:
    """Return the error of a call."""
    with pytest.raises(ModelError) as caught:
        await ask(url, **env)
    return caught.value


@asynccontextmanager
async def tls(context: ssl.SSLContext) -> AsyncGenerator[tuple[str, TlsServer]]:
    """Serve by TLS; the value is the base URL and the server."""
    server = TlsServer(context)
    try:
        yield f"https://localhost:{server.port}/v1", server
    finally:
        server.close()


def issued(name: str = "localhost", begins: timedelta | None = None, ends: timedelta | None = None) -> ssl.SSLContext:
    dates = {} if begins is None or ends is None else {"not_before": NOW + begins, "not_after": NOW + ends}
    return server_context(AUTHORITY.issue_cert(name, **dates))  # type: ignore[arg-type]


def left_out() -> ssl.SSLContext:
    return server_context(AUTHORITY.create_child_ca().issue_cert("localhost"), chain=False)


def client_wanted(version: ssl.TLSVersion) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = issued()
        context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(context)
        return context

    return make


def no_cipher_in_common() -> ssl.SSLContext:
    context = issued()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256:@SECLEVEL=0")
    return context


def too_old() -> ssl.SSLContext:
    context = issued()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


ANOTHER = trustme.CA()
CERTIFICATES: list[tuple[str, Callable[[], ssl.SSLContext], str]] = [
    (
        "unknown issuer",
        lambda: server_context(ANOTHER.issue_cert("localhost")),
        r"signed by an authority that is not trusted here \(.*trusted are those in SSL_CERT_FILE \('.*company.pem'\)",
    ),
    ("another name", lambda: issued("other.example"), r"made out for another name \(.*not valid for 'localhost'\)"),
    (
        "expired",
        lambda: issued(begins=timedelta(days=-9), ends=timedelta(days=-2)),
        r"has expired; whoever runs it has to renew it, unless this machine's clock is wrong \(it says 20\d\d-",
    ),
    (
        "not valid yet",
        lambda: issued(begins=timedelta(days=2), ends=timedelta(days=9)),
        r"is not valid yet; is this machine's clock right \(it says 20\d\d-",
    ),
    ("intermediate left out", left_out, r"or its server leaves out an intermediate certificate"),
    ("client wanted", client_wanted(ssl.TLSVersion.TLSv1_2), "certificate of this machine, and Mixtura sends none"),
    (
        "client wanted, 1.3",
        client_wanted(ssl.TLSVersion.TLSv1_3),
        "certificate of this machine, and Mixtura sends none",
    ),
    ("ciphers", no_cipher_in_common, "knows none of the offered ciphers"),
    ("too old", too_old, r"speaks no version of TLS that is accepted here \(1\.2 or newer\)"),
]


@pytest.mark.parametrize(("context", "said"), [row[1:] for row in CERTIFICATES], ids=[row[0] for row in CERTIFICATES])
async def test_each_fault_of_a_tls_server_has_its_sentence_and_one_try(
    context: Callable[[], ssl.SSLContext], said: str, authority: str
) -> None:
    async with tls(context()) as (url, server):
        error = await failure(url, SSL_CERT_FILE=authority)
    assert type(error) is BlockedError
    assert (error.attempts, error.connected, error.exit_code) == (1, False, 3)
    # One that is too old for the client says hello to nobody.
    assert server.handshakes <= 1
    assert re.search(said, error.reason), error.reason
    assert "base URL" not in error.reason


async def test_a_certificate_that_is_signed_by_itself_or_too_weak_says_so(tmp_path: Path) -> None:
    context, own = odd_certificate(tmp_path, signed_by_itself=True)
    async with tls(context) as (url, _):
        error = await failure(url)
        assert "is signed by itself and not by an authority" in error.reason
        assert "set SSL_CERT_FILE to a PEM file that holds the certificate" in error.reason
        assert (await ask(url, SSL_CERT_FILE=str(own))).text == "hello"
    context, signer = odd_certificate(tmp_path, bits=1024)
    async with tls(context) as (url, _):
        error = await failure(url, SSL_CERT_FILE=str(signer))
    assert type(error) is BlockedError
    assert "too weak for this machine's OpenSSL" in error.reason


async def test_a_name_s_certificate_is_not_good_for_its_address(authority: str) -> None:
    async with tls(issued("localhost")) as (url, _):
        error = await failure(url.replace("localhost", "127.0.0.1"), SSL_CERT_FILE=authority)
    assert "made out for another name (IP address mismatch" in error.reason


async def test_an_authority_of_one_s_own_is_trusted_by_file_by_folder_and_by_its_intermediate_one(
    authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "company.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    async with tls(issued()) as (url, _):
        error = await failure(url)
        assert "set SSL_CERT_FILE to a PEM file that holds the authority, or add it to this system's" in error.reason
        assert (await ask(url, SSL_CERT_FILE=authority)).text == "hello"
        with pytest.raises(ConfigError, match=r"no certificate lies under its hashed name; run `openssl rehash "):
            await ask(url, SSL_CERT_DIR=str(folder))
        monkeypatch.setenv("SSL_CERT_FILE", authority)
        assert (await ask(url)).text == "hello"
    child = AUTHORITY.create_child_ca()
    middle = tmp_path / "middle.pem"
    child.cert_pem.write_to_path(middle)
    async with tls(server_context(child.issue_cert("localhost"))) as (url, _):
        assert (await ask(url, SSL_CERT_FILE=str(middle))).text == "hello"


async def test_a_folder_of_hashed_names_is_used(authority: str, tmp_path: Path) -> None:
    if (openssl := shutil.which("openssl")) is None:
        lack("this test needs the command openssl")
    asked = (openssl, "x509", "-noout", "-hash", "-in", authority)
    done = await asyncio.create_subprocess_exec(*asked, stdout=subprocess.PIPE)
    named = (await done.communicate())[0].decode().strip()
    (tmp_path / f"{named}.0").write_bytes(AUTHORITY.cert_pem.bytes())
    async with tls(issued()) as (url, _):
        assert (await ask(url, SSL_CERT_DIR=f"{tmp_path}/missing:{tmp_path}")).text == "hello"
        other = ANOTHER.cert_pem
        other.write_to_path(tmp_path / "other.pem")
        # A file and a folder are trusted together.
        assert (await ask(url, SSL_CERT_DIR=str(tmp_path), SSL_CERT_FILE=f"{tmp_path}/other.pem")).text == "hello"


async def test_a_variable_of_other_programs_is_named_where_it_is_not_read(authority: str) -> None:
    async with tls(issued()) as (url, _):
        error = await failure(url, REQUESTS_CA_BUNDLE=authority)
    assert 'REQUESTS_CA_BUNDLE is not read, so export SSL_CERT_FILE="$REQUESTS_CA_BUNDLE"' in error.reason


UNUSABLE: list[tuple[str, bytes | None, str]] = [
    ("missing.pem", None, "cannot be read (No such file or directory)"),
    ("text.pem", b"hello", "holds no certificate in PEM form; name a PEM file"),
    ("empty.pem", b"", "holds no certificate in PEM form"),
    ("der.crt", b"\x30\x82\x01", "looks like DER, which `openssl x509 -inform der"),
    ("cut.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n", "holds a certificate that cannot be read"),
    ("", None, "is no file; a folder of certificates is named by SSL_CERT_DIR"),
]


@pytest.mark.parametrize(("name", "data", "said"), UNUSABLE, ids=[row[0] or "folder" for row in UNUSABLE])
def test_a_file_of_authorities_that_cannot_be_used_is_said_before_anything_is_sent(
    name: str, data: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    env = {"SSL_CERT_FILE": str(path), "GROQ_API_KEY": "k"}
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(env=env).endpoint("groq")
    assert str(caught.value).startswith(f"SSL_CERT_FILE names {str(path)!r}, which ")
    assert said in str(caught.value)
    # Who speaks no TLS needs none.
    assert ModelRegistry(env=env).endpoint("http://127.0.0.1:9/v1").url


@pytest.mark.parametrize("folder", ["/nowhere/at/all", __file__])
def test_a_folder_of_authorities_that_is_none_is_said(folder: str) -> None:
    with pytest.raises(ConfigError, match=f"SSL_CERT_DIR names '{folder}', which is "):
        ModelRegistry(env={"SSL_CERT_DIR": folder, "GROQ_API_KEY": "k"}).endpoint("groq")


async def test_where_openssl_finds_no_authorities_the_system_s_are_looked_for(
    authority: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import truststore._openssl

    nowhere = ssl.DefaultVerifyPaths("", "", "SSL_CERT_FILE", "", "SSL_CERT_DIR", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)
    monkeypatch.setattr(truststore._openssl, "_CA_FILE_CANDIDATES", [authority])
    trust._system.cache_clear()
    try:
        async with tls(issued()) as (url, _):
            assert (await ask(url)).text == "hello"
    finally:
        trust._system.cache_clear()


PAGE = "<!DOCTYPE html><html><head><title>Login &amp; terms</title></head></html>"
LONG = "X-Long: " + "x" * 2_000_000
ANSWERS: list[tuple[str, bytes, type[ModelError], str, str]] = [
    (
        "a login page",
        answer("200 OK", PAGE, "text/html"),
        BrokenReplyError,
        "a web page ('Login & terms'), so somethi",
        "base",
    ),
    (
        "a filter",
        answer("403 Forbidden", PAGE, "text/html"),
        BlockedError,
        "('Login & terms') and status 403, so",
        "KEY",
    ),
    ("a page for 401", answer("401 Unauthorized", PAGE, "text/html"), BlockedError, "between this machine", "KEY"),
    ("a login wanted", answer("511 Login", PAGE, "text/html"), BlockedError, "the network wants a login first", "base"),
    ("a silent proxy", answer("407 Proxy", PAGE, "text/html"), BlockedError, "a proxy on the way wants a user", "base"),
    (
        "a redirect to a login",
        answer("302 Found", "", "text/html", "Location: http://login.example/"),
        RejectedError,
        "redirected to 'http://login.example/'; set the base URL to where the API really is, or log in there if that",
        "KEY",
    ),
    (
        "HTTP to a TLS port",
        answer("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n", "text/plain"),
        RejectedError,
        "write https:// in the base URL",
        "KEY",
    ),
    ("TLS alert", b"\x15\x03\x01\x00\x02\x02\x46", BlockedError, "was sent; write https://127.0.0.1:", "not answer"),
    ("no HTTP", b"SSH-2.0-hello\r\n\r\n", BlockedError, "does not answer in HTTP; check the base URL", "header"),
    (
        "a long header",
        answer("200 OK", "{}", "application/json", LONG),
        UnreachableError,
        "answered with headers that are too large",
        "base",
    ),
    ("a broken header", b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", UnreachableError, "breaks the rules of HTTP", "base"),
    ("nothing", b"", UnreachableError, "broke before the answer was whole", "base"),
]


@pytest.mark.parametrize(
    ("line", "kind", "said", "never"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
async def test_what_answers_in_a_provider_s_place_is_said_as_it_is(
    line: bytes, kind: type[ModelError], said: str, never: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(line)

    async with listening(serve) as port:
        error = await failure(f"http://127.0.0.1:{port}/v1")
    assert type(error) is kind
    assert said in error.reason, error.reason
    assert never not in error.reason
    if "HTTP (" in error.reason:
        assert isinstance(error, UnreachableError)
        assert error.connected
    # A page that came whole will be the same page.
    whole = isinstance(error, BrokenReplyError)
    assert error.attempts == (2 if whole else 4 if error.action == "retry" else 1)


async def test_https_to_a_plain_server_says_which_is_meant() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer("400 Bad Request"))

    async with listening(serve) as port:
        error = await failure(f"https://127.0.0.1:{port}/v1")
    assert (type(error), error.attempts) == (BlockedError, 1)
    assert error.reason == (
        f"no TLS connection to 127.0.0.1:{port} could be made, for what answers speaks no TLS; "
        "is it https:// where http:// is meant?"
    )


async def test_a_handshake_that_is_cut_is_no_answer_of_nobody() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.transport.abort()

    async with listening(serve) as port:
        error = await failure(f"https://127.0.0.1:{port}/v1")
    assert type(error) is UnreachableError
    assert "was broken off while it was made; is there a firewall on the way?" in error.reason


async def test_a_list_of_models_that_is_a_page_is_said_to_be_one() -> None:
    async with listening(TestProxy(refusal=answer("200 OK", PAGE, "text/html")).serve) as port:
        with pytest.raises(BrokenReplyError, match=r"not a list of models but a web page \('Login & terms'\), so"):
            await ModelRegistry(env={}).list_models(f"http://127.0.0.1:{port}/v1")
    await close_pool()


async def test_an_sdk_s_connection_error_says_which_certificate_was_refused() -> None:
    async with tls(issued()) as (url, server):
        client = openai.AsyncOpenAI(base_url=url, api_key="k")
        with pytest.raises(
            BlockedError, match=r"AsyncOpenAI: the TLS certificate of localhost:\d+ is signed by an auth"
        ):
            await ModelRegistry(env={}, client=client, limiter=Limiter()).find("openai", "m").chat.chat(REQUEST)
        await client.close()
    assert server.handshakes == 1


def test_a_certificate_is_refused_in_openssl_s_words_without_their_place_in_its_source() -> None:
    bare = ssl.SSLError(1, "certificate verify  failed: by EXAMPLE X. (_ssl.c:1007)")
    said = why_refused(bare, "h", trust.Trust(), NOW)
    assert "was not accepted (certificate verify failed: by EXAMPLE X);" in said
    own = ssl.SSLCertVerificationError(1, "x")
    own.verify_code, own.verify_message = 18, "self-signed certificate of X."
    said = why_refused(own, "h", trust.Trust(), NOW)
    assert "(self-signed certificate of X); if it is that of a server of your own, set SSL_CERT_FILE" in said


@pytest.mark.parametrize(("reason", "said"), [("NO_LUCK", "no luck"), (None, "1 [ssl: no luck] no luck")])
def test_a_handshake_that_fails_is_told_by_openssl_s_name_of_it(reason: str | None, said: str) -> None:
    error = ssl.SSLError(1, "[SSL: NO_LUCK] no luck")
    error.reason = reason  # type: ignore[assignment]  # None where OpenSSL gave no name
    assert why_no_tls(error, "h") == (f"no TLS connection to h could be made ({said})", False)


def test_a_folder_of_authorities_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match="no certificate lies under its hashed name"):
        trust.context_of(trust.Trust(folder=str(tmp_path)))
