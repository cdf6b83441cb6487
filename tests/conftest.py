"""Fixtures of all tests; the functions and classes behind them are in the modules beside this one."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from asking import World
from servers import RedisClock, redis_clock, redis_server

# A machine that is busy is no reason to fail.
settings.register_profile("no deadline", deadline=None)
# For `make mutants`: whether a mutant is noticed must not depend on chance.
settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True, scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep settings, keys and state of whoever runs the tests out of them, and theirs as they are."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        yield


@pytest.fixture
def world() -> World:
    """Run recipes against a simulated cloud in virtual time."""
    return World()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a Redis server that runs for all tests."""
    with redis_server() as server:
        yield server.url


@pytest.fixture
def clock(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisClock]:
    """Redis with a clock that stands still unless it is set."""
    with redis_clock(redis_url, monkeypatch) as clock:
        yield clock
