"""The address of a Redis server, and what went wrong there, hold no password when they are shown."""

import time

import pytest
import redis.asyncio

from mixtura.errors import ConfigError
from mixtura.limits.budget.stores import RedisBudget
from mixtura.limits.redis.url import failure_text, without_password
from mixtura.secret import Secret


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://somebody:s3cret-word@cache.example:6380/2", "redis://cache.example:6380/2"),
        ("redis://:s3cret-word@cache.example/0", "redis://cache.example/0"),
        ("rediss://cache.example", "rediss://cache.example"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://cache.example:a-port", "the given address"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert without_password(Secret.of_address(url)) == shown


@pytest.mark.parametrize("written", ["s3cret@word", "s3cret%40word"])
def test_a_failure_is_told_without_the_password_as_it_is_written_and_as_it_is_meant(written: str) -> None:
    url = Secret.of_address("redis://somebody:s3cret%40word@cache.example:6380")
    said = failure_text(ConnectionError(f"{written} is wrong, says {written} to cache.example..."), url)
    assert said == "*** is wrong, says *** to cache.example"


def test_a_failure_at_an_address_without_a_password_is_told_as_it_is() -> None:
    assert failure_text(ConnectionError(" no route to host. "), Secret("redis://cache.example")) == "no route to host"
    assert failure_text(TimeoutError("..."), Secret("redis://cache.example")) == "TimeoutError"
    assert failure_text(TimeoutError(), Secret.of_address("redis://:s3cret-word@cache.example")) == "TimeoutError"


@pytest.mark.server
@pytest.mark.parametrize(("password", "opens"), [("p%40ss%2Fword", True), ("wrong", False)])
async def test_a_login_in_the_address_is_used(redis_url: str, password: str, opens: bool) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as server:
        await server.execute_command("ACL", "SETUSER", "somebody", "on", ">p@ss/word", "~*", "+@all")  # type: ignore[no-untyped-call]
    budget = RedisBudget(redis_url.replace("://", f"://somebody:{password}@"), 1.0, time.time)
    try:
        if opens:
            assert (await budget.today()).allowed == 1.0
        else:
            with pytest.raises(ConfigError, match="invalid username-password pair"):
                await budget.today()
    finally:
        await budget.close()


def test_a_failure_is_told_without_a_password_that_nobody_registered() -> None:
    url = Secret("redis://somebody:an%40unseen-word@cache.example:6380")
    assert failure_text(ConnectionError("an@unseen-word and an%40unseen-word"), url) == "*** and ***"
