"""Finds a toy model by name. The model files are in the package."""

import difflib
import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from mixtura.errors import ConfigError
from mixtura.models.card import ModelCard, Price
from mixtura.models.local.names import ModelEntry
from mixtura.models.local.provider import local_model
from mixtura.models.local.settings import RequestedSettings
from mixtura.models.served import Served
from mixtura.models.toy.model import DomainGuardedModel

PROVIDER = "toy"
PROPOSERS = ("toy-dense", "toy-moe-a", "toy-moe-b")
AGGREGATOR = "toy-aggregator"
SINGLE = "toy-single"
NAMES = (*PROPOSERS, AGGREGATOR, SINGLE)

_CONTEXT = 1024  # tokens; the longest question with three drafts needs half of them
_FREE = Price(input=0.0, output=0.0)


def find(model: str, env: Mapping[str, str]) -> Served:
    """Return a toy model. Its file is not loaded yet.

    Raises:
        ConfigError: the name is unknown, or the extra `local` is not installed or cannot run on this machine.
    """
    if model not in NAMES:
        near = difflib.get_close_matches(model, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the known ones are {', '.join(NAMES)}"
        raise ConfigError(f"no toy model is called {model!r}: {hint}")
    entry = entries()[model]
    requested = RequestedSettings.from_env(env).or_else(entry.requested)
    running = local_model(Path(entry.path), env, name=model, provider=PROVIDER, requested=requested, trusted=True)
    return Served(DomainGuardedModel(running, words()), card(model, env), begins=True)


def card(model: str, env: Mapping[str, str]) -> ModelCard:
    """Return the card of a toy model. Never raises."""
    return ModelCard(id=model, provider=PROVIDER, window=_CONTEXT, price=_FREE)


def names(env: Mapping[str, str]) -> list[str]:
    """Return the names of the toy models."""
    return list(NAMES)


def entries() -> dict[str, ModelEntry]:
    """Return the file and the settings of each model, by name."""
    return {name: ModelEntry(path=str(folder() / f"{name}.gguf"), threads=1, context=_CONTEXT) for name in NAMES}


def folder() -> Path:
    """Return the folder of the model files."""
    return Path(str(files("mixtura.models.toy"))) / "files"


@functools.cache
def words() -> frozenset[str]:
    """Return the words that the toy models know."""
    return frozenset(json.loads((folder() / "words.json").read_text("utf-8")))
