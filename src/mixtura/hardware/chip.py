"""The catalogue of chips: memory, bandwidth, peak compute, links, power and price of each device.

`data/chips.toml` holds the rows in the units of data sheets; `Chip` holds them in SI units.
"""

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec

from mixtura.errors import ConfigError
from mixtura.hardware.config import read_small
from mixtura.hardware.precision import precision_named, unknown
from mixtura.input_files import utf8_text

Kind = Literal["gpu", "tpu", "lpu", "wafer", "rdu"]
Format = Literal["bf16", "fp8", "fp4", "int8"]

# The formats in which a device can compute with weights of each format, the fastest first; kernels unpack int4 to 16
# bits.
_COMPUTED: Mapping[str, tuple[Format, ...]] = MappingProxyType(
    {
        "nvfp4": ("fp4", "fp8", "bf16"),
        "mxfp4": ("fp4", "fp8", "bf16"),
        "fp8": ("fp8", "bf16"),
        "int8": ("int8", "bf16"),
    }
)


class Chip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device.

    Attributes:
        memory: bytes that hold weights and KV cache: HBM, or SRAM on chips without HBM.
        bandwidth: bytes per second read from `memory`.
        peak: FLOP/s of dense matrix products by format; "bf16" stands for both 16-bit float formats.
        link: bytes per second to other chips, one way, all links together.
        node: number of chips connected at the speed of `link`.
        power: watts; None if no source gives a figure.
        price: dollars per chip, lowest and highest known; None if the chip is not sold or no price is known.
        sram: bytes of on-chip memory; 0 if the step models do not use it.
        reach: for a chip in a fabric, pairs of (bytes of SRAM within reach, seconds to reach them), ascending.
        source: the source of the figures.
        date: the day the figures were last checked against the source.
        unverified: names of fields that no stored source confirms; "peak.fp8" names one entry of `peak`.
        note: anything else a reader should know.
    """

    name: str
    title: str
    kind: Kind
    memory: float
    bandwidth: float
    peak: Mapping[Format, float]
    link: float
    node: int = 1
    power: float | None = None
    price: tuple[float, float] | None = None
    sram: float = 0.0
    reach: tuple[tuple[float, float], ...] = ()
    source: str = ""
    date: str = ""
    unverified: tuple[str, ...] = ()
    note: str = ""

    def flops(self, precision: str) -> float:
        """Return the peak FLOP/s with weights stored in `precision`.

        A device without units for that format computes in the next wider format it supports: H100 has no 4-bit
        units, A100 none for fp8. If it supports no wider format either, its slowest format counts.

        Raises:
            ConfigError: no such precision.
        """
        wanted = _COMPUTED.get(precision_named(precision), ("bf16",))
        return next((self.peak[name] for name in wanted if name in self.peak), min(self.peak.values()))


class _ChipRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the file. Units: GB, TB/s, TFLOP/s, GB/s, W, dollars; MB of SRAM; GB and microseconds of reach."""

    name: str
    title: str = ""
    aliases: tuple[str, ...] = ()
    kind: Kind
    memory: float
    bandwidth: float
    peak: dict[Format, float]
    link: float
    node: int = 1
    power: float | None = None
    price: tuple[float, float] | None = None
    sram: float = 0.0
    reach: tuple[tuple[float, float], ...] = ()
    source: str = ""
    date: str = ""
    unverified: tuple[str, ...] = ()
    note: str = ""


class _ChipFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chips: list[_ChipRow]


def chip(name: str, own: Mapping[str, Chip] | None = None) -> Chip:
    """Return a chip by one of its names, in any case, with or without hyphens: `h100`, `B200-SXM`, `lpu`, `wse3`.

    Args:
        name: as above.
        own: the user's own chips (`read_chips`), searched before the shipped ones.

    Raises:
        ConfigError: no such chip; the message lists the closest names.
    """
    known = shipped_chips() if own is None else {**shipped_chips(), **own}
    found = known.get(_fold(name))
    if found is None:
        raise unknown("chip", name, {each.name for each in known.values()})
    return found


def chips() -> tuple[Chip, ...]:
    """Return the chips that ship with Mixtura, in the file's order."""
    return tuple({each.name: each for each in shipped_chips().values()}.values())


@functools.cache
def shipped_chips() -> Mapping[str, Chip]:
    """Return the chips that ship with Mixtura, keyed by every name and alias, lower-case and without separators."""
    text = (files("mixtura.hardware") / "data" / "chips.toml").read_text("utf-8")
    return MappingProxyType(_parse(text))


def read_chips(path: str | Path) -> dict[str, Chip]:
    """Read the user's own TOML file of chips, in the format of the shipped file; keys as in `shipped_chips`.

    Raises:
        ConfigError: the file cannot be read or a row is invalid; the message names the file and the row.
    """
    text = read_small(Path(path))
    try:
        return _parse(utf8_text(text))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from error


def _parse(text: str) -> dict[str, Chip]:
    found: dict[str, Chip] = {}
    for row in msgspec.convert(tomllib.loads(text), _ChipFile).chips:
        made = _convert(row)
        for name in dict.fromkeys(map(_fold, (row.name, *row.aliases))):
            if name in found:
                raise ConfigError(f"{row.name}: {found[name].name} already has the name {name!r}")
            found[name] = made
    return found


def _fold(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold())


def _convert(row: _ChipRow) -> Chip:
    _check(row)
    return Chip(
        name=row.name,
        title=row.title or row.name,
        kind=row.kind,
        memory=row.memory * 1e9,
        bandwidth=row.bandwidth * 1e12,
        peak={name: peak * 1e12 for name, peak in row.peak.items()},
        link=row.link * 1e9,
        node=row.node,
        power=row.power,
        price=row.price,
        sram=row.sram * 1e6,
        reach=tuple((size * 1e9, late * 1e-6) for size, late in row.reach),
        source=row.source,
        date=row.date,
        unverified=row.unverified,
        note=row.note,
    )


def _check(row: _ChipRow) -> None:
    """Raise ConfigError for the first figure that is out of range."""
    sizes = {"memory": row.memory, "bandwidth": row.bandwidth, "link": row.link, "node": row.node}
    sizes |= {f"peak.{name}": peak for name, peak in row.peak.items()}
    sizes |= {f"price[{place}]": price for place, price in enumerate(row.price or ())}
    if row.power is not None:
        sizes["power"] = row.power
    for name, size in sizes.items():
        if not 0 < size < float("inf"):
            raise ConfigError(f"{row.name}: {name} is {size:g}, expected a number above 0")
    if not 0 <= row.sram < float("inf"):
        raise ConfigError(f"{row.name}: sram is {row.sram:g}, expected 0 or more")
    if not row.peak:
        raise ConfigError(f"{row.name}: peak is empty, expected TFLOP/s of bf16, fp8, fp4 or int8")
    if row.price is not None and row.price[0] > row.price[1]:
        raise ConfigError(f"{row.name}: price is {list(row.price)}, expected the lowest first")
    if list(row.reach) != sorted(row.reach):
        raise ConfigError(f"{row.name}: reach is not ascending")
