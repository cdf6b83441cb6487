"""The catalogue of shapes, `data/shapes.toml`, searched by any of a model's names.

The user's own models come from one `config.json` each (`mixtura.hardware.config`), or from a TOML file of several in
the format of the shipped one (`read_shapes`).
"""

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import msgspec

from mixtura.errors import ConfigError
from mixtura.hardware.config import config_file, read_config, read_small
from mixtura.hardware.precision import BITS, precision_named, unknown
from mixtura.hardware.shape import ModelShape, PublishedSize
from mixtura.input_files import utf8_text

_BILLION = 1e9
# Suffixes that describe a model's tuning or storage, not its shape.
_TUNED = re.compile(
    r"[-_](instruct|chat|it|base|hf|original|dynamic|quantized|preview|thinking|v\d+(?:\.\d+)?|\d{4,8})$"
)
_MAKER = re.compile(r"(?:^|(?<=/))meta-(?=llama-)")  # Meta's repositories repeat its name in the model's
_STORED = re.compile(r"[-_](fp32|bf16|fp16|fp8|fp8-dynamic|int8|int4|w4a16|w8a8|awq|gptq|fp4|nvfp4|mxfp4)$")


def shape(name: str, own: Mapping[str, ModelShape] | None = None) -> ModelShape:
    """Return the shape of a model.

    The name may be one of the catalogue, or an id of Hugging Face or of a provider, with or without the provider's
    name in front (`groq/openai/gpt-oss-120b`), in any case. It may have suffixes of tuning or storage, `-Instruct` or
    `-FP8`; the latter set the precision. It may also be the path of a `config.json` or of its folder.

    Args:
        name: as above.
        own: the user's own shapes by lower-case name (`read_shapes`), searched before the shipped ones.

    Raises:
        ConfigError: there is no such model (the message lists the closest names), or its `config.json` is invalid.
    """
    if name.endswith(".json") or name.startswith((".", "~", "/")):
        return read_config(name)
    found = _find(name, own or {}) or _find(name, shipped_shapes())
    if found is not None:
        return found
    path = config_file(name) if name.strip() else None
    if path is not None:
        return read_config(path)
    # Only the last part is compared: a provider's name in front says nothing about the shape.
    tail = name.rstrip("/").rsplit("/", 1)[-1]
    names = {each.name for each in (*shipped_shapes().values(), *(own or {}).values())}
    raise unknown("model shape", tail, names, hint="; the path of a model's config.json works too")


@functools.cache
def shipped_shapes() -> Mapping[str, ModelShape]:
    """Return the shapes that ship with Mixtura, keyed by every name and alias in lower case."""
    text = (files("mixtura.hardware") / "data" / "shapes.toml").read_text("utf-8")
    return MappingProxyType(_parse(tomllib.loads(text), {}))


class _StandIns(msgspec.Struct, forbid_unknown_fields=True):
    usual: str
    families: dict[str, str]


def stand_in(family: str, *, usual: bool = False) -> ModelShape | None:
    """Return the shape assumed for models of a family whose own shapes are not published.

    Callers must mark results that rest on it as an assumption.

    Args:
        family: the family's name in the catalogue of models.
        usual: for a family without a stand-in, return a small dense model instead of None.
    """
    kept = _stand_ins()
    name = kept.families.get(family, kept.usual if usual else None)
    return None if name is None else shape(name)


@functools.cache
def _stand_ins() -> _StandIns:
    text = (files("mixtura.hardware") / "data" / "stand_ins.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _StandIns)


def read_shapes(path: str | Path) -> dict[str, ModelShape]:
    """Read the user's own TOML file of shapes, keyed by every name and alias in lower case.

    Raises:
        ConfigError: the file cannot be read or a row is invalid; the message names the file and the row.
    """
    try:
        return _parse(tomllib.loads(utf8_text(read_small(Path(path)))), shipped_shapes())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    except ConfigError as error:
        said = error.message
        raise ConfigError(said if said.startswith(str(path)) else f"{path}: {said}") from error


class _ShapeRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the file without the sizes, which `ModelShape` checks."""

    name: str
    aliases: tuple[str, ...] = ()
    like: str | None = None
    published: PublishedSize | None = None


def _parse(file: Mapping[str, object], known: Mapping[str, ModelShape]) -> dict[str, ModelShape]:
    found: dict[str, ModelShape] = {}
    rows = file.get("models")
    if not isinstance(rows, list) or set(file) != {"models"}:
        raise ConfigError("expected [[models]] tables and nothing else")
    for number, fields in enumerate(rows, 1):
        if not isinstance(fields, dict):
            raise ConfigError(f"model {number}: expected a [[models]] table")
        where = fields.get("name") or f"model {number}"
        own = {key: value for key, value in fields.items() if key in _ShapeRow.__struct_fields__}
        sizes = {key: value for key, value in fields.items() if key not in own}
        try:
            row = msgspec.convert(own, _ShapeRow)
            made = _build(row, sizes, {**known, **found})
        except (msgspec.ValidationError, TypeError) as error:
            raise ConfigError(f"{where}: {error}") from error
        for name in dict.fromkeys(map(str.casefold, (row.name, *row.aliases))):
            if name in found:
                raise ConfigError(f"{where}: {found[name].name} already has the name {name!r}")
            found[name] = made
    return found


def _build(row: _ShapeRow, sizes: Mapping[str, object], known: Mapping[str, ModelShape]) -> ModelShape:
    base: dict[str, object] = {}
    if row.like is not None:
        like = _find(row.like, known)
        if like is None:
            raise unknown("model shape", row.like, {each.name for each in known.values()})
        base = msgspec.to_builtins(like)
        del base["published"]
    published = row.published
    if published is not None:
        active = None if published.active is None else published.active * _BILLION
        published = msgspec.structs.replace(published, total=published.total * _BILLION, active=active)
    made = msgspec.convert({**base, **sizes, "name": row.name}, ModelShape)
    return msgspec.structs.replace(made, published=published)


def _find(name: str, known: Mapping[str, ModelShape]) -> ModelShape | None:
    """Return the shape of `name`, removing as few prefixes and suffixes as needed; None if none matches."""
    for tail in _tails(_MAKER.sub("", name.strip().casefold())):
        precision, rest = None, tail
        while rest not in known:
            stored, tuned = _STORED.search(rest), _TUNED.search(rest)
            if stored is not None:
                precision = precision or stored[1].removesuffix("-dynamic")
            elif tuned is None:
                break
            rest = _STORED.sub("", rest) if stored is not None else _TUNED.sub("", rest)
        if rest in known:
            return known[rest] if precision is None else _stored_in(known[rest], precision)
    return None


def _tails(name: str) -> Iterable[str]:
    parts = name.split("/")
    return ("/".join(parts[first:]) for first in range(len(parts)))


def _stored_in(found: ModelShape, precision: str) -> ModelShape:
    """Return a shape in the precision of its name's suffix; four-bit formats apply to an MoE model's experts only."""
    stored = precision_named(precision)
    if found.experts and BITS[stored] < BITS["fp8"]:
        return msgspec.structs.replace(found, expert_precision=stored)
    return msgspec.structs.replace(found, precision=stored, expert_precision=None)
