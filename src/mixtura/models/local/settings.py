"""How a model file is run: threads, slots and context, asked for or chosen by what was measured.

The defaults come from `python -m bench.local` on 2 cores. A small model is faster on one thread, since handing its
work to a second takes longer than the work; its drafts gain from a server a slot instead (twice the tokens of one
alone, against 1.4 times for slots of one server). A larger one gains from all cores at one server. Four slots hold the
drafts of most mixtures, and a slot that is not used costs its caches only.
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
# Files smaller than this are run by one thread (bytes).
_SMALL = 32_000_000
# What llama.cpp takes besides weights and caches, roughly (bytes).
_WORK = 128_000_000
_WORK_SMALL = 32_000_000
_BOUNDS = {"threads": (1, 512), "slots": (1, 64), "context": (64, 1 << 24)}


class RequestedSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody asks for; None leaves it to the default.

    `threads` work at one file, `slots` are the calls it answers at the same time, `context` is tokens a slot.
    """

    threads: int | None = None
    slots: int | None = None
    context: int | None = None

    def or_else(self, other: "RequestedSettings") -> "RequestedSettings":
        """Return this, and what `other` asks for where this asks for nothing."""
        mine = msgspec.structs.asdict(self)
        return RequestedSettings(
            **{name: getattr(other, name) if value is None else value for name, value in mine.items()}
        )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "RequestedSettings":
        """Read MIXTURA_LOCAL_THREADS, MIXTURA_LOCAL_SLOTS and MIXTURA_LOCAL_CONTEXT.

        Raises:
            ConfigError: one is no whole number.
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
    """How one file is run; see `RequestedSettings`.

    `copies` are the servers that share the slots, on the same weights. `memory` is an estimate of the bytes that it all
    takes, weights included.
    """

    threads: int
    slots: int
    context: int
    memory: int
    copies: int = 1


def resolve_settings(header: GgufHeader, requested: RequestedSettings, machine: Machine) -> ResolvedSettings:
    """Return how a file is run on `machine`.

    Raises:
        ConfigError: the wish is out of bounds, or the file does not fit into memory.
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
        # Half of what is free stays free; a context below the smallest is of no use to a mixture.
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
