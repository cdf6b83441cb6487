"""Providers whose models run in this process, registered by entry point.

A package that offers one names it in its metadata:

    [project.entry-points."mixtura.providers"]
    here = "my_package.provider"

The value is a module or object with the three functions of `InProcessProvider`. A recipe then asks it as
`provider = "here"`; Mixtura's own `local` and `toy` are registered the same way.
"""

import contextlib
import functools
import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from mixtura.errors import ConfigError, MixturaError
from mixtura.models.card import ModelCard
from mixtura.models.served import Served

GROUP = "mixtura.providers"


class InProcessProvider(Protocol):
    """What a provider in this process offers; `env` is where it may read settings."""

    def find(self, model: str, env: Mapping[str, str]) -> Served:
        """Return the model and its card; prices and thinking are the registry's part.

        Raises:
            ConfigError: it cannot be used here; the text says what to do.
        """
        ...

    def card(self, model: str, env: Mapping[str, str]) -> ModelCard:
        """Return what is known about the model; never fails."""
        ...

    def names(self, env: Mapping[str, str]) -> list[str]:
        """Return the models there are, by name."""
        ...


@functools.cache
def is_registered(name: str) -> bool:
    """Say whether an installed package offers the provider `name`."""
    return bool(importlib.metadata.entry_points(group=GROUP, name=name))


@functools.cache
def load_provider(name: str) -> InProcessProvider:
    """Return the provider `name`.

    Raises:
        ConfigError: no installed package offers it, or the one that does cannot be imported.
    """
    found = tuple(importlib.metadata.entry_points(group=GROUP, name=name))
    if not found:
        raise ConfigError(f"no installed package offers the provider {name!r} (entry points {GROUP!r}); reinstall it")
    try:
        loaded = found[0].load()
    except Exception as error:  # a package runs code of its own when it is imported
        said = str(error) or type(error).__name__
        raise ConfigError(f"the provider {name!r} cannot be loaded from {found[0].value!r}: {said}") from error
    missing = [part for part in ("find", "card", "names") if not callable(getattr(loaded, part, None))]
    if missing:
        raise ConfigError(f"the provider {name!r} ({found[0].value}) lacks {', '.join(missing)}")
    return cast("InProcessProvider", loaded)


@contextlib.contextmanager
def asking(name: str) -> Iterator[None]:
    """Turn whatever the provider `name` raises in the block into a ConfigError that names it."""
    try:
        yield
    except MixturaError:
        raise
    except Exception as error:  # a provider is a package's own code
        raise ConfigError(f"the provider {name!r} failed with {type(error).__name__}: {error}") from error
