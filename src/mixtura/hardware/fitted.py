"""The fitted factors of the GPU model, which relate real engines to the data sheet, and predictions with them.

`python -m calibration fit` writes `data/gpu.json` and reports how well the factors predict data left out of the fit
(docs/fit.md). A prediction uses the nearest factors: those of the setup or build of an engine on a GPU for a model
measured with it, those of the engine on the GPU, or pooled ones for a model or GPU that was never measured. The spread
grows with that distance.
"""

import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import Literal, NamedTuple

import msgspec

from mixtura.hardware.chip import Chip
from mixtura.hardware.gpu import ExpertCount, GpuSetup, SteadyLoad, Works, activated_experts, first_works, mixed_works
from mixtura.hardware.precision import unknown
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import Array, TimeEstimate

Level = Literal["setup", "build", "engine", "new model", "new chip"]
"""The measurements that factors were fitted on: this setup under this build, the build, the engine on the GPU (all with
this model), the engine on the GPU with other models, other GPUs only."""

_USUAL = ("vllm", "trtllm", "sglang")  # the most widely used engine first

# The works that are reported together as one part.
PARTS: Mapping[str, tuple[str, ...]] = {
    "weights": ("weights",),
    "experts": ("experts",),
    "kv": ("kv",),
    "compute": ("products", "scores"),
    "layers": ("layers", "moe layers"),
    "host": ("host", "sequences"),
    "links": ("hops", "ring"),
    "prefill": ("prefill", "prefill experts", "prefill weights", "prefill links"),
}
FIRST_PARTS: Mapping[str, tuple[str, ...]] = {
    "own prompt": ("own prefill", "own prefill experts", "own prefill weights", "own prefill links", "tokens"),
    "others' prompts": (
        *("other prefill", "other prefill experts", "other prefill weights", "other prefill links", "flow"),
        *("arrivals", "batch tokens"),
    ),
    "running step": ("step",),
    "host": ("host", "layers"),
}


class FittedFactors(NamedTuple):
    """Factors by work for time per token and time to first token, their spreads (see `TimeEstimate`) and origin."""

    token: Mapping[str, float]
    first: Mapping[str, float]
    token_spread: float
    first_spread: float
    level: Level
    engine: str


class FactorTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted factors of one kind of time, in the order of `works`; `near` by key of engine, build and setup.

    `far` holds factors by engine for models that were not measured with it, shrunk strongly towards `pooled`.
    """

    works: list[str]
    pooled: list[float]
    far: dict[str, list[float]]
    near: dict[str, list[float]]
    spread: dict[Level, float]


class FactorFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `data/gpu.json`: both tables, and the models that each key was measured with."""

    source: str
    date: str
    points: int
    token: FactorTable
    first: FactorTable
    seen: dict[str, list[str]]


def keys(engine: str, chip: Chip, apart: bool, build: str, setup: GpuSetup) -> tuple[str, str, str]:
    """Return the keys of stored factors, the widest first: engine on a chip, its build, a setup under that build.

    An engine with disaggregated prefill (`apart`) has keys of its own.
    """
    first = f"{engine}{' apart' if apart else ''} {chip.name}"
    layout = (setup.precision, setup.expert_precision, setup.kv_precision, setup.chips, setup.attention_ranks)
    second = f"{first} {build or '-'}"
    return first, second, f"{second} {' '.join(str(each or '-') for each in layout)}"


def kind(shape: ModelShape) -> str:
    """Return a key of a model's sizes: models of equal sizes take equal time, whatever their names."""
    inner = f"{shape.experts}x{shape.expert_inner} {shape.used}" if shape.experts else str(shape.inner)
    return f"{shape.layers}x{shape.hidden} {shape.heads}/{shape.kv_heads} {inner}"


def engines() -> tuple[str, ...]:
    """Return the engines that were measured."""
    return tuple(sorted({key.split()[0] for key in load_factors().token.far}))


def factors(
    chip: Chip,
    shape: ModelShape,
    setup: GpuSetup,
    *,
    engine: str | None = None,
    build: str | None = None,
    apart: bool = False,
) -> FittedFactors:
    """Return the nearest fitted factors.

    Args:
        chip: a GPU.
        shape: the model; its sizes count, its name does not.
        setup: its layout over the GPUs.
        engine: "trtllm", "vllm" or "sglang"; None takes the first of vllm, trtllm and sglang that was
            measured with this model on this chip, or else on this chip with any model.
        build: a version of the engine; a version that was not measured has the same effect as None.
        apart: whether prefill runs on machines of its own.

    Raises:
        ConfigError: the engine was never measured.
    """
    found = load_factors()
    if engine is not None and engine not in engines():
        raise unknown("engine", engine, engines())
    mine = kind(shape)
    name = engine or _usual(chip, mine)
    levels: tuple[Level, ...] = ("engine", "build", "setup")
    near = [
        (level, key)
        for level, key in zip(levels, keys(name, chip, apart, build or "", setup), strict=True)
        if mine in found.seen.get(key, ()) and (level == "engine" or build is not None)
    ]
    far = keys(name, chip, False, "", setup)[0]

    def of(table: FactorTable) -> dict[str, float]:
        usable = [table.near[key] for _, key in near if key in table.near]
        kept = usable[-1] if usable else table.far.get(far, table.pooled)
        return dict(zip(table.works, kept, strict=True))

    level: Level = near[-1][0] if near else "new model" if far in found.token.far else "new chip"
    spreads = found.token.spread[level], found.first.spread[level]
    return FittedFactors(of(found.token), of(found.first), *spreads, level, name)


def token_step(
    shape: ModelShape,
    chip: Chip,
    setup: GpuSetup,
    load: SteadyLoad,
    by: FittedFactors,
    expert_count: ExpertCount = activated_experts,
) -> TimeEstimate:
    """Return the time per output token (TPOT) under steady load, and its parts, seconds."""
    return _step(mixed_works(shape, chip, setup, load, expert_count), by.token, PARTS, by.token_spread)


def first_token(shape: ModelShape, chip: Chip, setup: GpuSetup, load: SteadyLoad, by: FittedFactors) -> TimeEstimate:
    """Return the time to the first token (TTFT) under steady load, and its parts, seconds."""
    step = token_step(shape, chip, setup, load, by).seconds
    return _step(first_works(shape, chip, setup, load, step), by.first, FIRST_PARTS, by.first_spread)


@functools.cache
def load_factors() -> FactorFile:
    """Return the shipped factors."""
    return msgspec.json.decode((files("mixtura.hardware") / "data" / "gpu.json").read_bytes(), type=FactorFile)


def _usual(chip: Chip, mine: str) -> str:
    """Return the engine measured with this model on this chip, else on this chip, else the first of `_USUAL`."""
    seen = {name: load_factors().seen.get(f"{name} {chip.name}") for name in _USUAL}
    measured = [name for name in _USUAL if mine in (seen[name] or ())] or [name for name in _USUAL if seen[name]]
    return measured[0] if measured else _USUAL[0]


def _step(works: Works, by: Mapping[str, float], parts: Mapping[str, tuple[str, ...]], spread: float) -> TimeEstimate:
    def whole(names: tuple[str, ...]) -> Array:
        total = by[names[0]] * works[names[0]]
        for name in names[1:]:
            total = total + by[name] * works[name]
        return total

    return TimeEstimate({part: whole(names) for part, names in parts.items()}, spread)
