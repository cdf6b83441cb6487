"""Finds the model for the name or path of a model file."""

import difflib
import importlib.metadata
import os
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mixtura.errors import ConfigError
from mixtura.input_files import cause_of, expanded
from mixtura.models.card import ModelCard, Price
from mixtura.models.local import llama as running
from mixtura.models.local.header import GgufHeader, HeaderError, read_header
from mixtura.models.local.machine import INSTALL, Machine, is_installed
from mixtura.models.local.model import LocalModel
from mixtura.models.local.names import ModelEntry, read_names
from mixtura.models.local.settings import RequestedSettings, ResolvedSettings, resolve_settings
from mixtura.models.served import Served

PROVIDER = "local"
FREE = Price(input=0.0, output=0.0)


def find(model: str, env: Mapping[str, str]) -> Served:
    """Return the model for a path, or for a name given with `mixtura models add`. The file is not loaded yet.

    Raises:
        ConfigError: the name is unknown, the file is missing, is not a usable GGUF file or does not fit into memory,
            or the extra is not installed or cannot run on this machine.
    """
    entry = _entry(model, env)
    header = checked_header(Path(entry.path), model)
    requested = entry.requested.or_else(RequestedSettings.from_env(env))
    chat = _make_model(header, model, PROVIDER, requested, env, trusted=entry.tried == trial_mark(header))
    return Served(chat, _card(header, model, chat.llama.settings), begins=True)


def card(model: str, env: Mapping[str, str]) -> ModelCard:
    """Return the model's card, with nothing but the name if the file cannot be read. Never raises."""
    try:
        entry = _entry(model, env)
        header = checked_header(Path(entry.path), model)
        return _card(
            header,
            model,
            resolve_settings(header, entry.requested.or_else(RequestedSettings.from_env(env)), Machine.here()),
        )
    except ConfigError:
        return ModelCard(id=model, provider=PROVIDER, price=FREE)


def names(env: Mapping[str, str]) -> list[str]:
    """Return the names of files, none if `models.toml` cannot be read."""
    try:
        return sorted(read_names(env))
    except ConfigError:
        return []


def local_model(
    path: Path,
    env: Mapping[str, str],
    *,
    name: str = "",
    provider: str = PROVIDER,
    requested: RequestedSettings | None = None,
    trusted: bool = False,
) -> LocalModel:
    """Return a model file as a `ChatModel`. Models of the same file with the same settings share one `llama`.

    Args:
        path: the .gguf file.
        env: the environment in which MIXTURA_LOCAL_* are looked up.
        name: the model's name; the path by default.
        provider: the provider's name in errors.
        requested: threads, slots and context. What is None is taken from `env`, then from the defaults.
        trusted: whether the file is known to load, so that no trial in a child process is needed.

    Raises:
        ConfigError: as for `find`.
    """
    header = checked_header(path, name or str(path))
    return _make_model(
        header,
        name or str(path),
        provider,
        (requested or RequestedSettings()).or_else(RequestedSettings.from_env(env)),
        env,
        trusted=trusted,
    )


def check_package(machine: Machine) -> None:
    """Check that the extra is installed and can run on `machine`.

    Raises:
        ConfigError: it is not installed, or cannot run.
    """
    # Check the processor first: installing the package does not help where it cannot run.
    if why := machine.unfit_reason():
        raise ConfigError(f"models cannot run inside this process: {why}")
    if not is_installed():
        raise ConfigError(f"models inside this process need an extra that is not installed: {INSTALL}")


def checked_header(path: Path, model: str) -> GgufHeader:
    """Return the header of a file. It is cached until the file changes.

    Raises:
        ConfigError: the file cannot be used as a model.
    """
    try:
        return _HEADER_CACHE.get(expanded(path))
    except HeaderError as error:
        raise ConfigError(f"{model!r} cannot be used as a model: {error}") from None
    except (OSError, ValueError) as error:
        # The home folder is unknown, or the path contains a null byte.
        raise ConfigError(f"{model!r} is not a valid path: {cause_of(error)}") from None


def trial_mark(header: GgufHeader) -> str:
    """Return a text that identifies this state of the file and this release of the package."""
    try:
        release = importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        release = "none"
    return " ".join([release, *map(str, header.stamp[:2]), str(header.size)])


def _make_model(
    header: GgufHeader, name: str, provider: str, requested: RequestedSettings, env: Mapping[str, str], *, trusted: bool
) -> LocalModel:
    machine = Machine.here()
    check_package(machine)
    settings = resolve_settings(header, requested, machine)
    package = partial(running.load_package, dict(env))
    return LocalModel(running.shared(header, settings, package, trusted=trusted), name, provider)


def _card(header: GgufHeader, model: str, settings: ResolvedSettings) -> ModelCard:
    return ModelCard(id=model, provider=PROVIDER, window=settings.context, price=FREE)


def _entry(model: str, env: Mapping[str, str]) -> ModelEntry:
    """Return the entry of a name. A text that looks like a path is taken as a path."""
    if model.lower().endswith(".gguf") or model.startswith(("~", ".")) or "/" in model or os.sep in model:
        return ModelEntry(path=model)
    known = read_names(env)
    if model in known:
        return known[model]
    near = difflib.get_close_matches(model, known, n=3, cutoff=0.4)
    if near:
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
    elif known:
        hint = f"the known ones are {', '.join(sorted(known))}"
    else:
        hint = f"none has been added yet: mixtura models add {model or 'NAME'} FILE.gguf"
    raise ConfigError(f"no local model is called {model!r}: {hint}")


class _HeaderCache:
    """Caches the headers of files by path. A header is valid as long as the file's stamp stays the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heads: dict[str, GgufHeader] = {}

    def get(self, path: Path) -> GgufHeader:
        real = os.path.realpath(path)
        with self._lock:
            known = self._heads.get(real)
        if known is not None and _stamp(real) == known.stamp and not known.parts:
            return known
        header = read_header(path)
        with self._lock:
            self._heads[real] = header
        return header


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns, state.st_ino


_HEADER_CACHE = _HeaderCache()
