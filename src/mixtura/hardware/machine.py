"""How machines are written in one word: `h100`, `8xb200`, `8xh100/trtllm`."""

import re
from typing import NamedTuple

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip, chip

_WRITTEN = re.compile(
    r"(?:(?P<count>[+-]?\d+)\s*x\s*)?(?P<chip>[^/,]*)(?:[/,]\s*(?P<engine>[^/,]+))?\s*", re.IGNORECASE
)


class MachineSpec(NamedTuple):
    """Chips that hold one copy of a model: which, how many (None: as many as it needs), under which engine."""

    chip: Chip
    chips: int | None = None
    engine: str | None = None


class MachineText(NamedTuple):
    """A machine as written: what may be a chip, how many, under which engine."""

    on: str
    chips: int | None = None
    engine: str | None = None


def split_machine(text: str) -> MachineText:
    """Return the parts of `[COUNTx]CHIP[/ENGINE]`; whether there is such a chip is not asked.

    Raises:
        ConfigError: it is not of that form, or the number of chips is none.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or not found["chip"].strip():
        raise ConfigError(f"machine {text[:80]!r}: expected a chip such as h100, or so many: 8xh100, 8xh100/trtllm")
    count = None if found["count"] is None else int(found["count"][:7])
    if count is not None and not 1 <= count <= 100_000:
        raise ConfigError(f"machine {text[:80]!r}: expected 1 to 100,000 chips")
    engine = found["engine"]
    return MachineText(found["chip"].strip(), count, engine.strip().casefold() if engine else None)


def parse_machine(text: str) -> MachineSpec:
    """Return the machine that `text` names.

    Args:
        text: `[COUNTx]CHIP[/ENGINE]`, or as `Host.name` writes it: "8 x h100_sxm, vllm".

    Raises:
        ConfigError: it is not of that form, or there is no such chip (the text names those most like it).
    """
    on, chips, engine = split_machine(text)
    return MachineSpec(chip(on), chips, engine)
