"""Which texts can be the base URL of a server, what is wrong with the others, and what of one is shown."""

import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.models.urls import looks_like_address, read_base_url, shown, socket_of, suggestion, url_problem

SOUND = [
    "http://localhost",
    "https://api.groq.com/openai/v1",
    "HTTPS://API.GROQ.COM/openai/v1",
    "http://127.0.0.1:8080/v1",
    "http://[::1]:8080/v1",
    "https://example.org.",
    "https://bücher.example/v1",
    "https://x.org:1",
    "https://x.org:65535",
    f"https://{'a' * 63}.org",
]
NOT_BEGUN = "it begins with neither http:// nor https://"
BLANK = "it holds a blank or a character that no address has"
NO_HOST = "it names no host"
NO_NAME = "its host is no name"
NO_PORT = "its port is no number from 1 to 65535"
SECRET = "it must not hold a user or password"
WRONG = [
    ("", NOT_BEGUN),
    ("api.groq.com", NOT_BEGUN),
    ("ftp://x.org", NOT_BEGUN),
    ("http:/x.org", NOT_BEGUN),
    ("https:x.org", NOT_BEGUN),
    ("https://x.org/a b", BLANK),
    ("https://x.org/\n", BLANK),
    ("https://x.org/\x00", BLANK),
    ("https://me@x.org", SECRET),
    ("https://:pw@x.org", SECRET),
    ("https://me:pw@x.org", SECRET),
    ("https://@x.org", SECRET),
    ("https://", NO_HOST),
    ("https:///v1", NO_HOST),
    ("http://:8080/v1", NO_HOST),
    ("https://x..org", NO_NAME),
    ("https://.x.org", NO_NAME),
    ("https://x.org..", NO_NAME),
    ("https://.", NO_NAME),
    (f"https://{'a' * 64}.org", NO_NAME),
    (f"https://{'ü' * 64}.org", NO_NAME),
    ("https://x.org:0", NO_PORT),
    ("https://x.org:65536", NO_PORT),
    ("https://x.org:http", NO_PORT),
    ("https://x.org:-1", NO_PORT),
]


@pytest.mark.parametrize("url", SOUND)
def test_an_address_of_a_server_has_no_problem(url: str) -> None:
    assert url_problem(url) == ""


@pytest.mark.parametrize(("url", "problem"), WRONG)
def test_what_is_wrong_with_an_address_ends_a_sentence_about_it(url: str, problem: str) -> None:
    assert url_problem(url) == problem


def test_an_address_that_python_cannot_read_is_no_address() -> None:
    assert url_problem("http://[::1/v1") == "it cannot be read (Invalid IPv6 URL)"


@pytest.mark.parametrize(
    "text",
    [
        "https://x.org",
        "x.org",
        "x.ORG",
        "x.org/v1",
        "localhost",
        "LocalHost",
        "localhost:80",
        "10.0.0.1",
        "me@host",
        "a/b",
    ],
)
def test_what_is_written_like_an_address_is_meant_as_one(text: str) -> None:
    assert looks_like_address(text)


@pytest.mark.parametrize("text", ["groq", "ollama", "gpt-4.1", "localhosts", "my-localhost", "10.0.0", "x.o", "v1.2"])
def test_a_provider_s_name_is_no_address(text: str) -> None:
    assert not looks_like_address(text)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://x.org/v1", "'https://x.org/v1'"),
        ("https://me:pw@x.org/v1", "'https://...@x.org/v1'"),
        ("https://me:p@w@x.org", "'https://...@x.org'"),
        ("https://me:p://w@x.org", "'https://...@x.org'"),
        ("me:pw@x.org", "'...@x.org'"),
        ("it's", '"it\'s"'),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_password(url: str, said: str) -> None:
    assert shown(url) == said


READ = [
    ("HTTPS://API.Example.ORG/V1", "https://api.example.org/V1"),
    ("http://x.org:80/v1/", "http://x.org:80/v1"),
    ("http://x.org:/v1", "http://x.org/v1"),
    ("http://x.org//a///b//", "http://x.org/a/b"),
    ("http://x.org/a/./b/../v1", "http://x.org/a/v1"),
    ("http://x.org/../../v1", "http://x.org/v1"),
    ("http://x.org/v1#part?no", "http://x.org/v1"),
    ("http://x.org/v1?", "http://x.org/v1"),
    ("http://x.org?a=1", "http://x.org?a=1"),
    ("http://x.org/v1?a=%2F&b=c+d&a=2", "http://x.org/v1?a=%2F&b=c+d&a=2"),
    ("http://x.org/v1?a=/v1/chat/completions", "http://x.org/v1?a=/v1/chat/completions"),
    ("http://[FE80::1]:8000/v1", "http://[fe80::1]:8000/v1"),
    ("http://[fe80::1%25eth0]:8000/v1", "http://[fe80::1%eth0]:8000/v1"),
    ("http://[fe80::1%eth0]/v1", "http://[fe80::1%eth0]/v1"),
    ("http://x.org/v1/chat/completions", "http://x.org/v1"),
    ("http://x.org/v1/chat/completions/?a=1", "http://x.org/v1?a=1"),
    ("http://x.org/v1/completions", "http://x.org/v1"),
    ("http://x.org/v1/responses", "http://x.org/v1"),
    ("http://x.org/v1/embeddings", "http://x.org/v1"),
    ("http://x.org/v1/models", "http://x.org/v1"),
    ("http://x.org/v1beta/models", "http://x.org/v1beta"),
    ("http://x.org/v1/chat", "http://x.org/v1"),
    ("http://x.org/v1/chat/completions/chat/completions", "http://x.org/v1"),
    ("http://x.org/models", "http://x.org/models"),
    ("http://x.org/my-completions", "http://x.org/my-completions"),
    ("http://completions/v1", "http://completions/v1"),
    ("http://x.org/chat/completions", "http://x.org"),
    ("http://x.org:11434/api/chat", "http://x.org:11434/v1"),
    ("http://x.org:11434/api", "http://x.org:11434/v1"),
    ("http://x.org:11434/proxy/api", "http://x.org:11434/proxy/api"),
    ("http://x.org/api", "http://x.org/api"),
    ("unix:/run/server.sock", "http+unix://%2Frun%2Fserver.sock"),
    ("unix:///run/server.sock", "http+unix://%2Frun%2Fserver.sock"),
    ("UNIX:///run/Server.sock/v1/", "http+unix://%2Frun%2FServer.sock/v1"),
    ("unix:/run/server.sock:/v1", "http+unix://%2Frun%2Fserver.sock/v1"),
    ("unix:/run/server:/v1/chat/completions?a=1", "http+unix://%2Frun%2Fserver/v1?a=1"),
    ("unix:/run/x.sock.d/y", "http+unix://%2Frun%2Fx.sock.d%2Fy"),
    ("http+unix://%2Frun%2Fserver.sock/v1", "http+unix://%2Frun%2Fserver.sock/v1"),
    ("http+unix://%2frun%2fserver.sock", "http+unix://%2Frun%2Fserver.sock"),
    ("http+unix:///run/server.sock/v1", "http+unix://%2Frun%2Fserver.sock/v1"),
    ("http://unix:/run/server.sock:/v1", "http+unix://%2Frun%2Fserver.sock/v1"),
]


@pytest.mark.parametrize(("written", "meant"), READ)
def test_an_address_is_read_as_it_is_meant(written: str, meant: str) -> None:
    assert read_base_url(written).whole == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "http://x.org/v1/chat/completions",
            "ends in '/chat/completions', which is no part of it; Mixtura asks http://",
        ),
        ("http://x.org/v1/models/", "ends in '/models'"),
        (
            "http://x.org:11434/api/tags",
            "ends in '/api/tags', which is no part of it; Mixtura asks http://x.org:11434/v1",
        ),
        ("http://x.org/v1#top", "what follows '#' in the base URL is never sent"),
    ],
)
def test_what_is_left_out_of_an_address_is_said(written: str, said: str) -> None:
    [note] = read_base_url(written).notes
    assert said in note
    assert not read_base_url("HTTP://x.org//v1/").notes


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("unix:server.sock", "the path of its socket does not begin with a slash, or ends with one"),
        ("unix:", "the path of its socket does not begin with a slash, or ends with one"),
        ("unix:/run/", "the path of its socket does not begin with a slash, or ends with one"),
        ("unix:/run/a b.sock", BLANK),
        ("unix:/run/a\0.sock", BLANK),
        ("http+unix://%2Frun%2Fa%00.sock/v1", BLANK),
        (f"unix:/{'a' * 107}", "the path of its socket has more than 107 bytes"),
        (f"http://x.org/{'a' * 4096}", "it has more than 4,096 characters"),
    ],
)
def test_what_can_be_no_socket_and_no_address_is_said(written: str, problem: str) -> None:
    assert url_problem(written) == problem


MEANT = [
    (":8000", "http://127.0.0.1:8000/v1"),
    ("127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
    ("0.0.0.0:8000", "http://127.0.0.1:8000/v1"),
    ("localhost:11434/v1", "http://localhost:11434/v1"),
    ("LOCALHOST:11434/api", "http://localhost:11434/api"),
    ("[::1]:8000", "http://[::1]:8000/v1"),
    ("::1", "http://[::1]:8000/v1, with the port that its server listens on"),
    ("localhost", "http://localhost:8000/v1, with the port that its server listens on"),
    ("10.0.0.5", "http://10.0.0.5:8000/v1, with the port that its server listens on"),
    ("10.0.0.5/v1?a=1", "http://10.0.0.5:8000/v1?a=1, with the port that its server listens on"),
    ("box:8000", "http://box:8000/v1"),
    ("box:8000?a=1&token=abcdef", "http://box:8000/v1?a=1&token=***"),
    ("api.example.com", "https://api.example.com/v1"),
    ("api.example.com:443/v2", "https://api.example.com:443/v2"),
    ("http:/x.org/v1", "https://x.org/v1"),
    ("//x.org:8000/v1", "http://x.org:8000/v1"),
    ("https//x.org/v1", "https://x.org/v1"),
    ("wss://x.org/v1", "https://x.org/v1"),
    ("'http://x.org/v1'", "http://x.org/v1"),
    ("http:\\\\box:8000", "http://box:8000/v1"),
    ("", ""),
    ("me:pw@box:8000", ""),
    ("http://x.org:99999", ""),
    ("http://", ""),
]


@pytest.mark.parametrize(("written", "meant"), MEANT)
def test_what_is_meant_is_suggested(written: str, meant: str) -> None:
    assert suggestion(written) == meant


KEYS = [
    ("api-version=2024-10-21", "api-version=2024-10-21"),
    ("api-version=2025-04-01-preview&tenant=a", "api-version=2025-04-01-preview&tenant=a"),
    ("api_key=short1", "api_key=***"),
    ("x=1&KEY=abc&y=2", "x=1&KEY=***&y=2"),
    ("subscription-key=abc", "subscription-key=***"),
    ("code=abc%3D%3D", "code=***"),
    ("sig=aB%2B", "sig=***"),
    ("x=gsk_abcdefghij", "x=***"),
    ("x=0123456789abcdef0123456789abcdef", "x=***"),
    ("0123456789abcdef0123456789abcdef", "***"),
    ("model=meta-llama-3.3-70b-instruct-turbo", "model=meta-llama-3.3-70b-instruct-turbo"),
    ("key=", "key="),
    ("key=***", "key=***"),
]


@pytest.mark.parametrize(("query", "said"), KEYS)
def test_a_key_in_a_query_is_not_shown(query: str, said: str) -> None:
    base = read_base_url(f"http://x.org/v1?{query}")
    assert base.whole == f"http://x.org/v1?{query}"
    assert base.shown == f"http://x.org/v1?{said}"
    assert shown(base.whole) == repr(base.shown)
    assert read_base_url(base.shown).shown == base.shown


PIECES = st.text(st.sampled_from("abv1/.%?#&=:@[]-_~ü \\\0+"), max_size=24)
HOSTS = st.sampled_from(
    ["x.org", "LOCALHOST", "127.0.0.1", "[::1]", "[fe80::1%25eth0]", "bücher.example", "a_b", "x.org."]
)
PORTS = st.sampled_from(["", ":80", ":8000", ":65535"])
PATHS = st.lists(
    st.sampled_from(["v1", "openai", "chat", "completions", "models", "responses", "api", "", ".", "..", "a%2Fb", "ü"]),
    max_size=7,
)
QUERIES = st.sampled_from(["", "?", "?a=1", "?api-version=2024-10-21&a=%2F", "?key=abcdef123456", "?a=/models"])


@given(st.sampled_from(["http://", "HTTPS://"]), HOSTS, PORTS, PATHS, QUERIES)
def test_an_address_keeps_its_host_port_path_and_query(
    scheme: str, host: str, port: str, path: list[str], query: str
) -> None:
    written = f"{scheme}{host}{port}/{'/'.join(path)}{query}"
    base = read_base_url(written)
    assert read_base_url(base.whole).whole == base.whole
    before, after = urllib.parse.urlsplit(written), urllib.parse.urlsplit(base.whole)
    assert after.scheme == scheme.lower().removesuffix("://")
    assert (after.hostname or "") == (before.hostname or "").replace("%25", "%")
    assert after.port == before.port
    assert after.query == before.query
    assert "//" not in after.path
    assert not base.url.endswith("/")
    if not base.exact:
        kept = [part for part in path if part not in ("", ".")]
        assert ".." in kept or after.path == "".join(f"/{part}" for part in kept)


@given(
    st.one_of(PIECES, PIECES.map("http://".__add__), PIECES.map("unix:".__add__), PIECES.map("http+unix://".__add__))
)
@example("http://[")
@example("http://[::1]x")
@example("http+unix://%2F\udcff/v1")
@example("http://x/" + "chat/completions/" * 200)
@example("unix:" + "/a.sock" * 500)
@example("http://x?" + "&" * 4000)
def test_whatever_is_written_it_is_an_address_or_the_one_error(written: str) -> None:
    if url_problem(written):
        with pytest.raises(ConfigError, match="base URL"):
            read_base_url(written)
        return
    base = read_base_url(written)
    again = read_base_url(base.whole)
    assert (again.url, again.query) == (base.url, base.query)
    assert base.shown.isprintable()
    assert socket_of(base.url) == base.socket
