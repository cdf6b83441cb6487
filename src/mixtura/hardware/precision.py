"""Number formats by name, and the bits per weight in each, including the scales of blocks."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from mixtura.errors import ConfigError

# Formats with block scales store one scale per block of weights: mxfp4 8 bits per 32, nvfp4 8 bits per 16 (OCP MX
# specification 1.0; NVIDIA's NVFP4), int4 16 bits per 32, as in Kimi K2.5. Scales of 128x128 blocks (fp8) or of rows
# (int8) add less than 0.1 %.
BITS: Mapping[str, float] = MappingProxyType(
    {"fp32": 32.0, "bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.5, "nvfp4": 4.5, "mxfp4": 4.25}
)
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "float32": "fp32",
        "float": "fp32",
        "bfloat16": "bf16",
        "float16": "fp16",
        "half": "fp16",
        "fp8_block": "fp8",
        "fp8_e4m3": "fp8",
        "float8_e4m3fn": "fp8",
        "e4m3": "fp8",
        "w8a8": "int8",
        "w4a16": "int4",
        "int4_wo": "int4",
        "awq": "int4",
        "gptq": "int4",
        "fp4": "nvfp4",
    }
)


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> ConfigError:
    """Return the error for an unknown name; its message lists the closest known names, the closest first."""
    names = sorted(known)
    folded = {each.casefold(): each for each in names}
    near = [folded[each] for each in difflib.get_close_matches(name[:200].casefold(), folded, n=3, cutoff=0.5)]
    shown = f"{name[:77]}..." if len(name) > 80 else name
    said = f"nearest are {', '.join(near)}" if near else f"known are {', '.join(names[:40])}"
    return ConfigError(f"unknown {what} {shown!r}: {said}{hint}")


def precision_named(name: str) -> str:
    """Return a format's name in `BITS` from any of its usual names: "bfloat16" is bf16, "fp4" is nvfp4.

    Raises:
        ConfigError: no such format; the message lists the closest names.
    """
    folded = name.strip().casefold().replace("-", "_")
    found = _ALIASES.get(folded, folded)
    if found not in BITS:
        raise unknown("precision", name, BITS)
    return found


def bits(name: str) -> float:
    """Return the bits per weight, scales included.

    Raises:
        ConfigError: no such format.
    """
    return BITS[precision_named(name)]


def bytes_of(name: str) -> float:
    """Return the bytes per weight, scales included.

    Raises:
        ConfigError: no such format.
    """
    return bits(name) / 8
