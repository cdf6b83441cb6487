"""`mixtura models add` and `remove`, and the list of model files that were given names."""

import os
from pathlib import Path

import click
import msgspec

from mixtura.cli.common import UserPath, notice, table, write_json, write_lines
from mixtura.errors import ConfigError
from mixtura.models.local.header import GgufHeader
from mixtura.models.local.llama import try_file
from mixtura.models.local.machine import Machine
from mixtura.models.local.names import ModelEntry, add_name, check_name, names_file, read_names, remove_name
from mixtura.models.local.provider import check_package, checked_header, find, trial_mark
from mixtura.models.local.settings import RequestedSettings, resolve_settings
from mixtura.models.toy import provider as toy


@click.command("add", short_help="Give a model file a name.")
@click.argument("name")
@click.argument("file", type=UserPath(path_type=Path))
@click.option("--threads", type=int, help="Threads that work at it.  [default: by its size]")
@click.option("--slots", type=int, help="Calls it answers at the same time.  [default: 4]")
@click.option("--context", type=int, help="Tokens a slot holds.  [default: up to 4096]")
@click.option("--force", is_flag=True, help="Take the place of a model that has the name.")
def add(name: str, file: Path, threads: int | None, slots: int | None, context: int | None, force: bool) -> None:
    """Give a model file (.gguf) a name, by which it is asked with --provider local.

    The file is checked, and loaded once in a process of its own. It stays where it is.
    """
    entries = read_names(os.environ)
    if check_name(name) in entries and not force:
        raise ConfigError(f"{name!r} is {entries[name].path}; another name, or --force to replace it")
    path = Path(os.path.abspath(file))  # noqa: PTH100  # links stay links: their targets may be replaced
    header = checked_header(path, str(file))
    machine, requested = Machine.here(), RequestedSettings(threads=threads, slots=slots, context=context)
    settings = resolve_settings(header, requested.or_else(RequestedSettings.from_env(os.environ)), machine)
    tried = ""
    try:
        check_package(machine)
    except ConfigError as error:
        notice(f"mixtura: the file was not loaded, only its header checked: {error.message}")
    else:
        if problem := try_file(header, settings):
            raise ConfigError(f"{str(file)!r} cannot be used as a model: {problem}")
        tried = trial_mark(header)
    entry = ModelEntry(path=str(path), threads=threads, slots=slots, context=context, tried=tried)
    if not add_name(os.environ, name, entry, replace=force):
        said = "was written anew, without the comments it may have held"
        notice(f"mixtura: {names_file(os.environ)} {said}")
    write_lines(f"{name}: {_about(header)}; ask it with: mixtura ask --provider local -m {name} 'Hello'")


@click.command("remove", short_help="Forget the name of a model file.")
@click.argument("name")
def remove(name: str) -> None:
    """Forget the name of a model file; the file stays where it is."""
    gone = remove_name(os.environ, name)
    if gone is None:
        find(name, os.environ)  # says which names there are
        raise ConfigError(f"{name!r} is a path and has no name to be removed")
    write_lines(f"{name} is forgotten; its file stays: {gone.path}")


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """One named file as it is listed; `said` is why it cannot be used, "" when it can."""

    name: str
    path: str
    architecture: str = ""
    parameters: int | None = None
    size: int | None = None
    kind: str = ""
    context: int | None = None
    slots: int | None = None
    threads: int | None = None
    said: str = ""


def list_files(provider: str, *, as_json: bool) -> None:
    """Write the named files, or the toys in the package, with what their headers say.

    Raises:
        ConfigError: the file of names cannot be read.
    """
    named = toy.entries() if provider == toy.PROVIDER else read_names(os.environ)
    rows = [_row(name, entry) for name, entry in named.items()]
    if as_json:
        write_json(msgspec.json.encode({"provider": provider, "models": rows}))
        return
    if not rows:
        notice("mixtura: no model file has a name yet: mixtura models add NAME FILE.gguf")
        return
    heading = ["model", "architecture", "weights", "kind", "MB", "context", "slots", "threads", "file"]
    lines = [
        [
            row.name,
            row.architecture,
            _weights(row.parameters),
            row.kind,
            "" if row.size is None else f"{row.size / 1e6:,.1f}",
            str(row.context or ""),
            str(row.slots or ""),
            str(row.threads or ""),
            row.said or row.path,
        ]
        for row in rows
    ]
    write_lines(table([heading, *lines], right=(2, 4, 5, 6, 7)))
    if provider == toy.PROVIDER:
        notice("mixtura: they solve arithmetic word problems and nothing else; try mixtura demo")
    else:
        notice(f"mixtura: the names are kept in {names_file(os.environ)}")


def _row(name: str, entry: ModelEntry) -> _Row:
    try:
        header = checked_header(Path(entry.path), entry.path)
        settings = resolve_settings(
            header, entry.requested.or_else(RequestedSettings.from_env(os.environ)), Machine.here()
        )
    except ConfigError as error:
        return _Row(name=name, path=entry.path, said=error.message)
    return _Row(
        name=name,
        path=entry.path,
        architecture=header.architecture,
        parameters=header.parameters,
        size=header.size,
        kind=header.kind,
        context=settings.context,
        slots=settings.slots,
        threads=settings.threads,
    )


def _weights(count: int | None) -> str:
    """Return a number of weights as 0.2M, 135M or 7.1B."""
    if count is None:
        return ""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.3g}M"


def _about(header: GgufHeader) -> str:
    return f"{header.architecture}, {_weights(header.parameters)} weights, {header.kind}, {header.size / 1e6:,.1f} MB"
