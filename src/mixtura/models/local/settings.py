"""How a model file is run: threads, slots and context, as requested or by measured defaults.

The defaults come from `python -m bench.local` on 2 cores. A small model is faster on one thread, because handing work
to a second thread takes longer than the work itself. Its drafts gain from one server per slot instead: three at once
write twice the tokens of one alone, against 1.4 times with three slots of one server. A larger model gains from all
cores in one server. Four slots suffice for the drafts of most mixtures, and an unused slot costs only its cache.
"""

import re
from collections.abc import Mapping

import msgspec

from mixtura.errors import ConfigError
from mixtura.models.local.header import GgufHeader
from mixtura.models.local.machine import Machine

SLOTS = 4
CONTEXT = 4096
_SMALLEST_CONTEXT = 512
# Files smaller than this (bytes) are run by one thread.
_SMALL = 32_000_000
# llama.cpp's working memory besides weights and caches, roughly (bytes), for large and for small files.
_WORK = 128_000_000
_WORK_SMALL = 32_000_000
_BOUNDS = {"threads": (1, 512), "slots": (1, 64), "context": (64, 1 << 24)}


class RequestedSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The settings that a user asks for. None leaves a setting to its default.

    `threads` is the number of threads per server, `slots` the number of calls that the file answers at the same time,
    and `context` the number of tokens per slot.
    """

    threads: int | None = None
    slots: int | None = None
    context: int | None = None

    def or_else(self, other: "RequestedSettings") -> "RequestedSettings":
        """Return these settings, with those of `other` where these are None."""
        mine = msgspec.structs.asdict(self)
        return RequestedSettings(
            **{name: getattr(other, name) if value is None else value for name, value in mine.items()}
        )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "RequestedSettings":
        """Read MIXTURA_LOCAL_THREADS, MIXTURA_LOCAL_SLOTS and MIXTURA_LOCAL_CONTEXT.

        Raises:
            ConfigError: a value is not a whole number.
        """
        found: dict[str, int] = {}
        for name in _BOUNDS:
            variable = f"MIXTURA_LOCAL_{name.upper()}"
            said = env.get(variable, "").strip()
            if said and not re.fullmatch(r"\d{1,9}", said):
                raise ConfigError(f"{variable}: expected a whole number, got {said!r}")
            if said:
                found[name] = int(said)
        return cls(**found)


class ResolvedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that a file is run with; see `RequestedSettings`.

    `copies` is the number of servers that share the slots and the weights. `memory` is an estimate in bytes of all
    that the file takes, weights included.
    """

    threads: int
    slots: int
    context: int
    memory: int
    copies: int = 1


def resolve_settings(header: GgufHeader, requested: RequestedSettings, machine: Machine) -> ResolvedSettings:
    """Return the settings of a file on `machine`, with defaults for what is not requested.

    Raises:
        ConfigError: a requested value is out of bounds, or the file does not fit into memory.
    """
    for name, (least, most) in _BOUNDS.items():
        value = getattr(requested, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"local model, {name}: expected {least} to {most}, got {value}")
    slots = requested.slots or SLOTS
    small = header.size < _SMALL
    threads = requested.threads or (1 if small else machine.cores)
    copies = min(slots, 2 * machine.cores) if small and threads == 1 else 1
    work = copies * _WORK_SMALL if small else _WORK
    most = header.context or CONTEXT
    context = min(most, requested.context or CONTEXT)
    if requested.context is None:
        # Leave half of the free memory free, but keep a context that is large enough for a mixture.
        room = max(0, machine.free // 2 - work - header.size)
        fits = room // (slots * header.kv_bytes) if header.kv_bytes else context
        context = max(min(context, _SMALLEST_CONTEXT), min(context, fits // 256 * 256))
    memory = header.size + slots * context * header.kv_bytes + work
    if memory > machine.memory:
        raise ConfigError(
            f"{header.path} would take about {memory / 1e9:.1f} GB ({header.size / 1e9:.1f} GB of it weights) and this "
            f"machine has {machine.memory / 1e9:.1f}: take a smaller model or quantisation, fewer slots or less context"
        )
    return ResolvedSettings(threads=threads, slots=slots, context=context, memory=memory, copies=copies)
