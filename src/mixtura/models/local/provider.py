"""From the name or path of a model file to a model ready to be called."""

import difflib
import importlib.metadata
import os
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mixtura.errors import ConfigError
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
    """Return the model of a file, by its path or by the name that it was given. Nothing is loaded yet.

    Raises:
        ConfigError: no such name, no such file, no GGUF file, too large, or the extra is missing or cannot run here.
    """
    entry = _entry(model, env)
    header = checked_header(Path(entry.path), model)
    requested = entry.requested.or_else(RequestedSettings.from_env(env))
    chat = _make_model(header, model, PROVIDER, requested, env, trusted=entry.tried == trial_mark(header))
    return Served(chat, _card(header, model, chat.llama.settings))


def card(model: str, env: Mapping[str, str]) -> ModelCard:
    """Return what the file says of itself; a card with nothing but the name where it cannot be read. Never fails."""
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
    """Return the names that files were given; none where the file of names cannot be read."""
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
    """Return a model file as a `ChatModel`; its `llama` is shared with everybody who uses the file alike.

    Args:
        path: the .gguf file.
        env: where MIXTURA_LOCAL_* are read.
        name: how the model is called; by default the path.
        provider: whose model it is, for errors.
        wish: threads, slots and context; what it leaves open is taken from `env`, then from the defaults.
        trusted: the file is known to load, so that it is not loaded in another process first.

    Raises:
        ConfigError: as `find`.
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
    """Let pass if the extra is installed and can run on `machine`.

    Raises:
        ConfigError: it is not, or cannot.
    """
    # The processor first: installing would not help where the package cannot run.
    if why := machine.unfit_reason():
        raise ConfigError(f"models cannot run inside this process: {why}")
    if not is_installed():
        raise ConfigError(f"models inside this process need an extra that is not installed: {INSTALL}")


def checked_header(path: Path, model: str) -> GgufHeader:
    """Return the head of a file; one that was read is read again only when the file has changed.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        return _HEADER_CACHE.get(path.expanduser())
    except HeaderError as error:
        raise ConfigError(f"{model!r} cannot be used as a model: {error}") from None
    except (RuntimeError, ValueError) as error:
        # A home folder that is not known, or a path with a null byte.
        raise ConfigError(f"{model!r} is no path: {error}") from None


def trial_mark(header: GgufHeader) -> str:
    """Return what stands for this state of the file and this release of the package."""
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
    """Return the entry of a name; what looks like a path is one."""
    if model.lower().endswith(".gguf") or model.startswith(("~", ".")) or "/" in model or os.sep in model:
        return ModelEntry(path=model)
    known = read_names(env)
    if model in known:
        return known[model]
    near = difflib.get_close_matches(model, known, n=3, cutoff=0.4)
    if near:
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
    elif known:
        hint = f"there are {', '.join(sorted(known))}"
    else:
        hint = f"none was added yet: mixtura models add {model or 'NAME'} FILE.gguf"
    raise ConfigError(f"no local model is called {model!r}: {hint}")


class _HeaderCache:
    """Heads of files that were read, by path; the state of the file decides whether one still holds."""

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
