"""Proxies: which one is asked, what its refusals mean, and how often a password is sent."""

import asyncio
import base64
import errno
import re
from pathlib import Path
from typing import Any

import pytest
import trustme
from msgspec import structs

from local_servers import Unseen
from mixtura import Aggregator, Layer, Mixture, Policy, Proposer, Recipe
from mixtura.chat import ChatRequest, Completion, Message
from mixtura.errors import BlockedError, ConfigError, ModelError, NoAnswerError, UnreachableError
from mixtura.limits.limiter import Limiter
from mixtura.models.openai import pool
from mixtura.models.openai import proxy as proxies
from mixtura.models.openai.pool import close_pool
from mixtura.models.openai.proxy import proxy_for, read_proxy
from mixtura.models.registry import ModelRegistry
from mixtura.models.wrappers.retry import RetryPolicy
from mixtura.secret import NO_SECRET, Secret
from networks import TestProxy, answer, listening, read_request, server_context

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
COMPANY = trustme.CA()
SECURE, PLAIN = "https://llm.example/v1", "http://llm.example/v1"


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(proxies, "_GATES", {})


@pytest.fixture
def company(tmp_path: Path) -> str:
    """Return the file of the company's authority."""
    COMPANY.cert_pem.write_to_path(tmp_path / "company.pem")
    return str(tmp_path / "company.pem")


async def ask(url: str, times: int = 1, **env: str) -> list[Completion | BaseException]:
    """Make calls at the same time, as a run makes them."""
    registry = ModelRegistry(env=env, policy=RetryPolicy(base=0.001), limiter=Limiter())
    chat = registry.find(url, "m").chat
    try:
        return await asyncio.gather(*(chat.chat(REQUEST) for _ in range(times)), return_exceptions=True)
    finally:
        await close_pool()


async def failure(url: str, **env: str) -> UnreachableError:
    [error] = await ask(url, 1, **env)
    assert isinstance(error, UnreachableError), error
    return error


BASIC = 'Proxy-Authenticate: Basic realm="company"'
BUSY = "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM"
REFUSALS: list[tuple[str, bytes, type[ModelError], str]] = [
    (
        "403 Forbidden",
        answer("403 Forbidden", "<html>"),
        BlockedError,
        r"does not let calls through to llm\.example \(403 Fo",
    ),
    (
        "451",
        answer("451 Unavailable", "x"),
        BlockedError,
        r"does not let calls through to llm\.example \(451 Unavailable\)",
    ),
    (
        "502",
        answer("502 Bad Gateway", "x"),
        UnreachableError,
        r"could not connect to llm\.example \(502 Bad Gateway\); try",
    ),
    ("503", answer("503 ", "x"), UnreachableError, r"could not connect to llm\.example \(503 Service Unavailable\)"),
    (
        "504",
        answer("504 Gateway Timeout", "x"),
        UnreachableError,
        r"could not connect to llm\.example \(504 Gateway Timeout",
    ),
    (
        "405",
        answer("405 Method Not Allowed", "x"),
        BlockedError,
        r"is it an HTTP proxy that allows CONNECT\? Check HTTPS_P",
    ),
    (
        "302",
        answer("302 Found", "", "text/html", "Location: http://login.example/"),
        BlockedError,
        r"redirects to 'http://login\.example/' in place of connecting to llm\.example; log in there first",
    ),
    (
        "a redirect to nowhere",
        answer("302 Found", "", "text/html"),
        BlockedError,
        r"redirects to 'elsewhere' in place of connecting to llm\.example; log in there first",
    ),
    (
        "407",
        answer("407 No", "x", "text/plain", BASIC),
        BlockedError,
        r"does not accept user 'user' with this password \(407 No",
    ),
    (
        "NTLM",
        answer("407 No", "x", "text/plain", BUSY),
        BlockedError,
        r"wants a login by negotiate or ntlm .*\(px, cntlm\)",
    ),
    (
        "Kerberos",
        answer("407 No", "x", "text/plain", "Proxy-Authenticate: Kerberos"),
        BlockedError,
        r"wants a login by kerberos .*\(px, cntlm\)",
    ),
    (
        "SOCKS",
        b"\x05\xff\r\n\r\n",
        BlockedError,
        r"does not answer in HTTP; is it an HTTP proxy, and not a SOCKS one\? Check HTTPS_PROXY",
    ),
    (
        "TLS",
        b"\x15\x03\x01\x00\x02\x02\x46",
        BlockedError,
        r"speaks TLS where plain HTTP was sent; write https:// before its",
    ),
    ("nothing", b"", UnreachableError, r"the connection to llm\.example through the proxy .* broke"),
    (
        "a page in the tunnel",
        b"HTTP/1.1 200 OK\r\n\r\n<html></html>",
        UnreachableError,
        "was broken off while it was made",
    ),
]


@pytest.mark.parametrize(("reply", "kind", "said"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
async def test_what_a_proxy_answers_to_a_tunnel_is_said_to_be_the_proxy_s(
    reply: bytes, kind: type[ModelError], said: str
) -> None:
    proxy = TestProxy(refusal=reply)
    async with listening(proxy.serve) as port:
        error = await failure(SECURE, HTTPS_PROXY=f"http://user:hunter2@127.0.0.1:{port}")
    assert type(error) is kind, error
    assert re.search(said, error.reason), error.reason
    assert f"the proxy 127.0.0.1:{port} (HTTPS_PROXY)" in error.reason
    assert "hunter2" not in error.reason
    assert "base URL" not in error.reason
    assert error.connected is (not reply)
    # It says nothing about the provider, whose breaker stays closed.
    assert error.sent is (not reply)
    assert {line for line, _ in proxy.seen} == {"CONNECT llm.example:443 HTTP/1.1"}
    assert len(proxy.seen) == error.attempts == (4 if error.action == "retry" else 1)


async def test_a_proxy_that_fails_is_no_failure_of_the_provider() -> None:
    proxy, limiter = TestProxy(refusal=answer("502 Bad Gateway", "x")), Limiter()
    async with listening(proxy.serve) as port:
        for _ in range(12):
            registry = ModelRegistry(
                env={"HTTPS_PROXY": f"http://127.0.0.1:{port}"}, policy=RetryPolicy(base=0.001), limiter=limiter
            )
            with pytest.raises(UnreachableError, match="could not connect to"):
                await registry.find(SECURE, "m").chat.chat(REQUEST)
    assert len(proxy.seen) == 48
    await close_pool()


async def test_the_head_of_a_proxy_s_answer_may_be_as_long_as_any(company: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer())

    async with listening(serve) as there:
        proxy = TestProxy(authority=COMPANY, route=lambda _: there, greeting="X-Long: " + "x" * 100_000 + "\r\n")
        async with listening(proxy.serve) as port:
            [done] = await ask(SECURE, 1, HTTPS_PROXY=f"http://127.0.0.1:{port}", SSL_CERT_FILE=company)
    assert isinstance(done, Completion), done


@pytest.mark.parametrize("url", [SECURE, PLAIN])
async def test_a_proxy_that_wants_a_user_says_how_to_name_one(url: str) -> None:
    proxy = TestProxy(user=b"user:word")
    async with listening(proxy.serve) as port:
        error = await failure(url, ALL_PROXY=f"http://127.0.0.1:{port}")
    assert (type(error), len(proxy.seen)) == (BlockedError, 1)
    assert error.reason.startswith(
        f"the proxy 127.0.0.1:{port} (ALL_PROXY) wants a user and a password (407 Proxy Authentication Required); "
        f"write ALL_PROXY as http://USER:PASSWORD@127.0.0.1:{port}, the signs"
    )


@pytest.mark.parametrize("url", [SECURE, PLAIN])
async def test_a_wrong_password_is_sent_once_by_all_calls_of_a_run_and_by_those_that_follow(url: str) -> None:
    proxy = TestProxy(user=b"user:word")
    async with listening(proxy.serve) as port:
        named = f"http://user:hunter2@127.0.0.1:{port}"
        env = {"HTTPS_PROXY": named, "HTTP_PROXY": named}
        errors = await ask(url, 4, **env) + await ask(url, 4, **env)
        assert len(proxy.seen) == 1
        for error in errors:
            assert isinstance(error, BlockedError)
            assert "does not accept user 'user' with this password" in error.reason
            assert "hunter2" not in str(error)
        # Another password is another matter.
        await ask(url, 1, **{name: value.replace("hunter2", "other") for name, value in env.items()})
        assert len(proxy.seen) == 2


def test_a_wrong_password_is_sent_once_by_runs_of_several_loops() -> None:
    async def main() -> None:
        proxy = TestProxy(user=b"user:word")
        async with listening(proxy.serve) as port:
            env = {"HTTPS_PROXY": f"http://user:hunter2@127.0.0.1:{port}"}
            recipe = Recipe(
                layers=(Layer(proposers=tuple(Proposer(model=f"m{n}", provider=SECURE) for n in range(4))),),
                aggregator=Aggregator(kind="vote"),
                policy=Policy(deadline=20.0),
            )

            def run() -> str:
                with pytest.raises(NoAnswerError) as caught:
                    asyncio.run(Mixture(recipe, env=env).ask("Hello?"))
                assert caught.value.exit_code == 3
                return str(caught.value)

            for _ in range(2):
                said = await asyncio.to_thread(run)
                assert said.startswith(f"the proxy 127.0.0.1:{port} (HTTPS_PROXY) does not accept user 'user'")
        assert len(proxy.seen) == 1

    asyncio.run(main())


async def test_a_password_is_sent_again_when_its_pause_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "_FIRST_PAUSE", 0.0)
    proxy = TestProxy(user=b"user:word")
    async with listening(proxy.serve) as port:
        for _ in range(2):
            await failure(SECURE, HTTPS_PROXY=f"http://user:hunter2@127.0.0.1:{port}")
    assert len(proxy.seen) == 2


CREDENTIALS: list[tuple[str, bytes]] = [
    ("user:word", b"user:word"),
    ("user", b"user:"),
    ("user:", b"user:"),
    (":word", b":word"),
    ("domain%5Cuser:p%40ss%3Aw%2Frd", rb"domain\user:p@ss:w/rd"),
    ("user:p@ss", b"user:p@ss"),
    ("user:50%", b"user:50%"),
    ("user:a+b", b"user:a+b"),
    ("jürgen:straße", "jürgen:straße".encode()),
    ("j%C3%BCrgen:%E2%82%AC", "jürgen:€".encode()),
    ("j%FCrgen:stra%DFe", "jürgen:straße".encode("latin-1")),
    ("jürgen:\udcfc", "jürgen:".encode() + b"\xfc"),
    ("пользователь:пароль", "пользователь:пароль".encode()),
]


@pytest.mark.parametrize(("written", "sent"), CREDENTIALS, ids=range(len(CREDENTIALS)))
async def test_user_and_password_are_sent_as_the_bytes_that_are_given(written: str, sent: bytes, company: str) -> None:
    async with listening(TestProxy(refusal=answer()).serve) as there:
        proxy = TestProxy(user=sent, authority=COMPANY, route=lambda _: there)
        async with listening(proxy.serve) as port:
            named = f"{written}@127.0.0.1:{port}"
            for url in (PLAIN, SECURE):
                [done] = await ask(url, http_proxy=f"http://{named}", https_proxy=named, SSL_CERT_FILE=company)
                assert isinstance(done, Completion), done
    expected = f"Basic {base64.b64encode(sent).decode()}"
    assert [headers["proxy-authorization"] for _, headers in proxy.seen] == [expected, expected]


async def test_a_tunnel_is_used_again_and_only_the_first_of_several_goes_alone(company: str) -> None:
    """Ten calls at the same time through a proxy that reads what passes, as a company's does."""
    upstream: list[dict[str, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            upstream.append((await read_request(reader))[1])
            writer.write(answer().replace(b"Connection: close\r\n", b""))

    async with listening(serve) as there:
        proxy = TestProxy(user=b"user:word", authority=COMPANY, route=lambda _: there)
        async with listening(proxy.serve) as port:
            env = {"SSL_CERT_FILE": company, "HTTPS_PROXY": f"http://user:word@127.0.0.1:{port}"}
            registry = ModelRegistry(env={**env, "MIXTURA_API_KEY": "secret-key"})
            chat = registry.find(SECURE, "m").chat
            done = await asyncio.gather(*(chat.chat(REQUEST) for _ in range(10)))
            assert {each.text for each in done} == {"hello"}
            tunnels = len(proxy.seen)
            assert tunnels <= 10
            for _ in range(5):
                await chat.chat(REQUEST)
            assert len(proxy.seen) == tunnels
            await close_pool()
    assert len(upstream) == 15
    assert all("proxy-authorization" not in headers for headers in upstream)
    assert all("authorization" not in headers for _, headers in proxy.seen)


async def test_a_company_s_certificate_names_the_proxy_that_it_came_through() -> None:
    proxy = TestProxy(authority=COMPANY)
    async with listening(proxy.serve) as port:
        error = await failure(SECURE, https_proxy=f"http://127.0.0.1:{port}")
    assert (type(error), len(proxy.seen)) == (BlockedError, 1)
    assert error.reason.startswith(
        f"the TLS certificate of llm.example that came through the proxy 127.0.0.1:{port} (https_proxy) is signed by "
        "an authority that is not trusted here"
    )


async def test_a_proxy_that_is_spoken_to_by_tls_has_a_certificate_of_its_own(company: str) -> None:
    context = server_context(COMPANY.issue_cert("localhost"))
    async with listening(TestProxy(refusal=answer()).serve) as there:
        proxy = TestProxy(user=b"user:word", authority=COMPANY, route=lambda _: there)
        async with listening(proxy.serve, context) as port:
            named = f"https://user:word@localhost:{port}"
            error = await failure(SECURE, HTTPS_PROXY=named)
            assert error.reason.startswith(
                f"the TLS certificate of the proxy localhost:{port} (HTTPS_PROXY) is signed by"
            )
            assert proxy.seen == []
            [done] = await ask(PLAIN, HTTP_PROXY=named, SSL_CERT_FILE=company)
            assert isinstance(done, Completion), done


async def test_a_plain_proxy_that_is_named_by_https_says_how_it_is_written() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer("400 Bad Request"))

    async with listening(serve) as port:
        error = await failure(SECURE, HTTPS_PROXY=f"https://127.0.0.1:{port}")
    assert type(error) is BlockedError
    assert error.reason == (
        f"no TLS connection to the proxy 127.0.0.1:{port} (HTTPS_PROXY) could be made, for what answers speaks no TLS; "
        f"write http://127.0.0.1:{port} in HTTPS_PROXY, which names how the proxy itself is spoken to"
    )


@pytest.mark.parametrize(
    ("variable", "url"), [("HTTPS_PROXY", SECURE), ("http_proxy", PLAIN), ("ALL_PROXY", SECURE), ("all_proxy", PLAIN)]
)
async def test_a_proxy_that_is_not_there_names_its_variable(variable: str, url: str) -> None:
    error = await failure(url, **{variable: "http://me:hunter2@127.0.0.1:1"})
    assert error.reason == (
        f"the proxy 127.0.0.1:1 cannot be reached (Connection refused); correct {variable}, or list llm.example in "
        "NO_PROXY if it can be reached without"
    )


NO_PROXY = [
    ("llm.example", True),
    ("LLM.Example", True),
    (".example", True),
    ("*.example", True),
    ("example", True),
    ("ample", False),
    ("llm.example:443", True),
    ("llm.example:8443", False),
    ("other.example, llm.example", True),
    ("other.example llm.example", True),
    (",, ,", False),
    ("*", True),
    ("llm.example.", True),
    ("llm.example.:443", True),
    ("*:443", True),
    ("*:8443", False),
    (".LLM.example", True),
    ("*.llm.example", True),
    ("other.llm.example", False),
    ("  ,\tllm.example;", True),
    ("llm.*", True),
    ("*lm.ex*", True),
    ("llm.*.example", False),
    ("https://llm.example/v1", True),
    ("http://llm.example:8080", False),
    ("10.0.0.0/8", False),
    ("localhost", False),
    ("llm.example:*", True),
    ("*" * 300, False),
    ("llm.example:99999999", False),
]
ADDRESSES = [
    ("10.1.2.3", "10.1.2.3", True),
    ("10.1.2.3", "10.0.0.0/8", True),
    ("10.1.2.3", "10.1.2.3:443", True),
    ("10.1.2.3", "10.1.2.3:80", False),
    ("10.1.2.3", "192.168.0.0/16", False),
    ("10.1.2.3", "2.3", False),
    ("[fd00::1]", "fd00::/8", True),
    ("[fd00::1]", "[fd00::1]", True),
    ("[fd00::1]", "[fd00::1]:443", True),
    ("[fd00::1]", "[fd00::1]:80", False),
    ("[fd00::1]", "fd00::1", True),
    ("[fd00::1]", "10.0.0.0/8", False),
    ("[fd00::1]", "[fd00::]/8", True),
    ("[fd00::1]", "[fd00::]/8:443", True),
    ("[fd00::1]", "[fd00::]/8:80", False),
    ("[FD00:0::1]", "fd00::1", True),
    ("[fe80::1%25eth0]", "fe80::/10", True),
    ("[fe80::1%eth0]", "fe80::1%eth1", True),
    ("[::ffff:10.1.2.3]", "10.0.0.0/8", True),
    ("10.1.2.3", "10.*", True),
    ("10.1.2.3", "10.1.2.*:443", True),
    ("10.1.2.3", "11.*", False),
    ("10.1.2.3", "10.1.2.3/33", False),
    ("10.1.2.3", "::/0", False),
    ("localhost", "localhost", True),
    ("LocalHost", "127.0.0.1", True),
    ("localhost", "127.0.0.0/8", True),
    ("localhost", "::1", True),
    ("localhost", "10.0.0.0/8", False),
    ("localhost", "local", False),
    ("127.0.0.1", "localhost", True),
    ("127.8.8.8", "localhost:443", True),
    ("127.0.0.1", "localhost:80", False),
    ("[::1]", "localhost", True),
    ("box.localhost", "localhost", True),
    ("xn--bcher-kva.example", "bücher.example", True),
    ("bücher.example", "xn--bcher-kva.example", True),
]


@pytest.mark.parametrize(("host", "listed", "exempt"), [*(("llm.example", *row) for row in NO_PROXY), *ADDRESSES])
def test_no_proxy_is_read_in_all_its_forms(host: str, listed: str, exempt: bool) -> None:
    named = proxy_for(f"https://{host}/v1", {"HTTPS_PROXY": "proxy:3128", "no_proxy": listed})
    assert named == ((None, "") if exempt else (Secret("http://proxy:3128"), "HTTPS_PROXY"))


UNREADABLE = [
    (
        "socks5://me:hunter2@proxy:1080",
        "names a SOCKS proxy, and Mixtura speaks to HTTP proxies only; name one, run one in front of it (privoxy",
    ),
    ("socks5h://proxy", "names a SOCKS proxy"),
    ("quic://me:hunter2@proxy", "names no HTTP proxy; expected http://HOST:PORT"),
    ("http://me:hunt/er2@proxy:3128", "holds a '/', '?' or '#' as it is"),
    ("http://me:hunt#er2@proxy:3128", "holds a '/', '?' or '#' as it is"),
    ("http://me:hunter2@proxy:port", "cannot be read"),
    ("http://me:hunter2@", "cannot be read"),
    ("http://me hunter2 proxy", "cannot be read"),
    ("http://m%3Ae:hunter2@proxy", "holds a colon"),
]


@pytest.mark.parametrize(("given", "said"), UNREADABLE)
def test_an_address_that_cannot_be_read_names_its_variable_and_no_password(given: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(env={"GROQ_API_KEY": "k", "HTTPS_PROXY": given}).endpoint("groq")
    assert "HTTPS_PROXY" in str(caught.value)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "er2" not in str(caught.value)


@pytest.mark.parametrize("given", ["http://proxy", "http://@proxy:80", "HTTP://proxy/", "https://:@proxy?x"])
def test_a_proxy_without_a_user_sends_none(given: str) -> None:
    proxy = read_proxy(Secret(given))
    assert (proxy.authorization, proxy.user) == (NO_SECRET, None)


@pytest.mark.parametrize(
    ("given", "url"),
    [("http://proxy", "http://proxy"), ("http://proxy:", "http://proxy"), ("http://proxy:80/", "http://proxy:80")],
)
def test_a_proxy_s_address_has_a_port_or_no_colon(given: str, url: str) -> None:
    assert read_proxy(Secret(given)).url == url


def test_a_tunnel_that_names_a_user_names_its_host() -> None:
    way = ModelRegistry(env={"GROQ_API_KEY": "k", "HTTPS_PROXY": "http://me:pw@proxy"}).endpoint("groq").way()
    assert way["proxy_headers"] == {"Proxy-Authorization": "Basic bWU6cHc=", "Host": "api.groq.com"}


class Noting(Unseen):
    def __init__(self) -> None:
        self.noted: list[str] = []

    def begin(self, now: float) -> None:
        self.noted.append("begun")

    def pause(self) -> None:
        self.noted.append("waiting")


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("way", ["direct", "tunnel"])
async def test_a_call_that_waits_for_a_connection_has_not_begun(
    way: str, size: int, company: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = type(pool._POOLS).open_socket
    refusals = [OSError(errno.EMFILE, "Too many open files")]

    def open_socket(*given: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return opened(*given)

    monkeypatch.setattr(type(pool._POOLS), "open_socket", open_socket)
    noting = Noting()
    request = structs.replace(
        REQUEST, messages=(Message(role="user", content="x" * size),), context=noting, max_tokens=9
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer())

    async with listening(serve) as there:
        proxy = TestProxy(user=b"user:word", authority=COMPANY, route=lambda _: there)
        async with listening(proxy.serve) as port:
            env = {"SSL_CERT_FILE": company, "HTTPS_PROXY": f"http://user:word@127.0.0.1:{port}"}
            url = SECURE if way == "tunnel" else f"http://127.0.0.1:{there}/v1"
            model = ModelRegistry(env=env if way == "tunnel" else {}).unwrapped(url, "m")
            assert (await model.chat(request)).text == "hello"
            await close_pool()
    assert noting.noted == ["waiting", "begun"]
