"""Which texts can be the base URL of a server, what is wrong with the others, and what of one is shown."""

import pytest

from mixtura.models.urls import looks_like_address, shown, url_problem

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
