"""The catalogue of chips: what a device remembers, how fast it reads, computes and talks, what it draws and costs.

The rows stand in `data/chips.toml`, in the units people know; `Chip` holds them in SI units.
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

Kind = Literal["gpu", "tpu", "lpu", "wafer", "rdu"]
Format = Literal["bf16", "fp8", "fp4", "int8"]

# What a device may compute in with weights stored in a format, the best first; int4 weights are unpacked to 16 bits.
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
        memory: bytes that weights and KV cache live in: HBM, or SRAM where there is nothing else.
        bandwidth: bytes per second that are read from it.
        peak: FLOP/s of dense matrices by format; 16-bit floats of either kind stand under "bf16".
        link: bytes per second to other chips, one way, all links together.
        node: chips that are linked at that speed.
        power: watts, None where nobody says.
        price: dollars for one, lowest and highest heard of; None where it is not sold or nobody says.
        sram: bytes of on-chip memory, 0 where it plays no part.
        reach: for a chip in a fabric, (bytes of SRAM reached, seconds to reach them), ascending.
        source: where the figures are from.
        date: the day they were last held against it.
        unverified: the fields that no stored source confirms, "peak.fp8" for one entry of `peak`.
        note: what else to know.
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

        A device that cannot compute in that format computes in the next wider one that it has: H100 has no unit for
        4 bits, A100 none for fp8. One that has no wider format either computes in what it has.

        Raises:
            ConfigError: no such precision.
        """
        wanted = _COMPUTED.get(precision_named(precision), ("bf16",))
        return next((self.peak[name] for name in wanted if name in self.peak), min(self.peak.values()))


class _ChipRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the file: GB, TB/s, TFLOP/s, GB/s, W, dollars, MB of SRAM, GB and microseconds of reach."""

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
        own: a user's own chips (`read_chips`); they come first.

    Raises:
        ConfigError: no such chip; the text names those most like it.
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
    """Return the chips that ship with Mixtura, by each of their names, folded."""
    text = (files("mixtura.hardware") / "data" / "chips.toml").read_text("utf-8")
    return MappingProxyType(_parse(text))


def read_chips(path: str | Path) -> dict[str, Chip]:
    """Read a user's own TOML file of chips, in the form of the shipped one, by each of their names, folded.

    Raises:
        ConfigError: the file cannot be read or a row is wrong; the text names the file and the row.
    """
    text = read_small(Path(path))
    try:
        return _parse(text.decode("utf-8"))
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
                raise ConfigError(f"{row.name}: the name {name!r} is taken by {found[name].name}")
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
    """Raise ConfigError, one sentence, for the first figure that cannot be."""
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
