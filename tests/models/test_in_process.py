"""Providers in this process are found by entry point: ours, and those of any installed package."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixtura.errors import ConfigError
from mixtura.models.in_process import is_registered, load_provider
from mixtura.models.registry import ModelRegistry

PROVIDER = """
from mixtura import Completion, ModelCard, Price, Served, Usage


class Echo:
    async def chat(self, request, *, emit=None, deadline=None):
        text = f"Echo of {request.messages[-1].text}"
        return Completion(model=request.model, text=text, usage=Usage(prompt_tokens=3, completion_tokens=4))


def find(model, env):
    return Served(Echo(), card(model, env))


def card(model, env):
    return ModelCard(id=model, provider="here", price=Price(input=1.0, output=2.0))


def names(env):
    return ["echo"]
"""
PROGRAM = """
import asyncio
from mixtura import Layer, Mixture, ModelRegistry, Proposer, Recipe
recipe = Recipe(layers=(Layer(proposers=(Proposer(model="echo", provider="here"),)),))
answer = Mixture(recipe, env={}).ask_sync("home")
print(answer.text, answer.cost, asyncio.run(ModelRegistry(env={}).list_models("here")))
"""


def installed(folder: Path, entry: str = "here_provider") -> Path:
    """Lay out a package as an installer leaves it."""
    (folder / "here_provider.py").write_text(PROVIDER)
    info = folder / "here_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: here-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mixtura.providers]\nhere = {entry}\n")
    return folder


def test_a_provider_of_an_installed_package_is_asked_by_its_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(installed(tmp_path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "Echo of home 1.1e-05 [{'id': 'echo'}]\n", done.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [("nowhere_provider", "cannot be loaded from 'nowhere_provider'"), ("json", "(json) lacks find, card, names")],
)
def test_a_provider_that_cannot_be_loaded_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, said: str
) -> None:
    monkeypatch.syspath_prepend(str(installed(tmp_path, entry)))
    is_registered.cache_clear()
    load_provider.cache_clear()
    try:
        with pytest.raises(ConfigError) as error:
            ModelRegistry(env={}).find("here", "echo")
        assert said in error.value.message
    finally:
        is_registered.cache_clear()
        load_provider.cache_clear()


BROKEN = """
def find(model, env):
    return None if model == "none" else 1 / 0

def card(model, env):
    return 1 / 0

def names(env):
    return 1 / 0
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no GPU here')", "the provider 'here' cannot be loaded from 'here_provider': no GPU here"),
        (BROKEN, "the provider 'here' failed with ZeroDivisionError: division by zero"),
    ],
)
def test_a_provider_that_raises_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    monkeypatch.syspath_prepend(str(installed(tmp_path)))
    (tmp_path / "here_provider.py").write_text(source)
    monkeypatch.delitem(sys.modules, "here_provider", raising=False)
    is_registered.cache_clear()
    load_provider.cache_clear()
    registry = ModelRegistry(env={})
    try:
        for use in (lambda: registry.find("here", "m"), lambda: registry.card("here", "m")):
            with pytest.raises(ConfigError) as error:
                use()
            assert error.value.message == said
        if source == BROKEN:
            with pytest.raises(ConfigError, match="returned NoneType, not Served"):
                registry.find("here", "none")
    finally:
        monkeypatch.delitem(sys.modules, "here_provider", raising=False)
        is_registered.cache_clear()
        load_provider.cache_clear()


def test_a_provider_that_nobody_offers_is_unknown() -> None:
    with pytest.raises(ConfigError, match="unknown provider 'nowhere'"):
        ModelRegistry(env={}).find("nowhere", "m")
    with pytest.raises(ConfigError, match="no installed package offers the provider 'nowhere'"):
        load_provider("nowhere")


def test_our_own_are_registered_like_any_other() -> None:
    assert is_registered("local")
    assert "toy-dense" in load_provider("toy").names({})
