"""Parses machines written as one word: `h100`, `8xb200`, `8xh100/trtllm`."""

import re
from typing import NamedTuple

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip, chip

_WRITTEN = re.compile(
    r"(?:(?P<count>[+-]?\d+)\s*x\s*)?(?P<chip>[^/,]*)(?:[/,]\s*(?P<engine>[^/,]+))?\s*", re.IGNORECASE
)


class MachineSpec(NamedTuple):
    """The chips of one copy of a model: kind, number (None: as many as it needs) and inference engine."""

    chip: Chip
    chips: int | None = None
    engine: str | None = None


class MachineText(NamedTuple):
    """The parts of a machine's text, unchecked: chip name, number of chips, engine."""

    on: str
    chips: int | None = None
    engine: str | None = None


def split_machine(text: str) -> MachineText:
    """Return the parts of `[COUNTx]CHIP[/ENGINE]` without looking up the chip.

    Raises:
        ConfigError: the text has another form, or the number of chips is out of range.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or not found["chip"].strip():
        raise ConfigError(f"machine {text[:80]!r}: expected a chip such as h100, with a count 8xh100, or 8xh100/trtllm")
    count = None if found["count"] is None else int(found["count"][:7])
    if count is not None and not 1 <= count <= 100_000:
        raise ConfigError(f"machine {text[:80]!r}: expected 1 to 100,000 chips")
    engine = found["engine"]
    return MachineText(found["chip"].strip(), count, engine.strip().casefold() if engine else None)


def parse_machine(text: str) -> MachineSpec:
    """Return the machine that `text` describes.

    Args:
        text: `[COUNTx]CHIP[/ENGINE]`, or the form of `ModelHost.name`: "8 x h100_sxm, vllm".

    Raises:
        ConfigError: the text has another form, or there is no such chip (the message lists the closest names).
    """
    on, chips, engine = split_machine(text)
    return MachineSpec(chip(on), chips, engine)
