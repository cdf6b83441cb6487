"""What a real MoE layer shows on the machine where it runs: experts awake, skew, and time against batch.

A layer of experts larger than the caches is computed with NumPy, one expert after another, as grouped kernels do. The
machine's own rates are measured first, on one expert's matrices and nothing that routes; then the layer's time is
predicted from D(B) and laid beside what the clock says. On a machine with PyTorch and a GPU the same layer runs there.
"""

import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError
from mixtura.hardware import routing

Floats = NDArray[np.float32]
Choices = NDArray[np.int64]
Clock = Callable[[], float]

_TOGETHER = 4  # experts that are timed together
_FLUSHED = 96 * 1024 * 1024  # bytes read between two runs, so that none finds the weights of the last in a cache


class LayerSizes(msgspec.Struct, frozen=True, kw_only=True):
    """The layer to measure; weights are float32. `alpha` skews its router (0: as even as a random router is)."""

    experts: int = 48
    used: int = 4
    hidden: int = 768
    inner: int = 384
    alpha: float = 0.0

    def __post_init__(self) -> None:
        routing.check(self.experts, self.used)
        if min(self.hidden, self.inner) < 1:
            raise ConfigError(f"a layer of {self.hidden} x {self.inner} is none: give sizes above 0")

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert: gate and up [hidden, 2 inner], down [inner, hidden]."""
        return 12 * self.hidden * self.inner


class MachineRates(msgspec.Struct, frozen=True):
    """What was measured of the machine alone: bytes/s read from memory, and seconds of one expert by its tokens."""

    bandwidth: float
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    overhead: float

    def all(self, tokens: int, popularity: NDArray[np.float64]) -> float:
        """Return the expected seconds of all experts: their loads are binomial, with each one's popularity."""
        table = np.interp(np.arange(tokens + 1), self.tokens, self.seconds)
        table[0] = 0.0
        return float((_binomial(tokens, popularity) @ table).sum())


class BatchObservation(msgspec.Struct, frozen=True):
    """One batch size: experts awake, measured and expected of an even and of this router, and seconds.

    `roofline` is overhead + D(B) w_e / BW with the bandwidth of a plain read, which no product of matrices quite
    reaches; `predicted` is overhead + the expected sum of the experts' seconds, each measured alone.
    """

    tokens: int
    activated: float
    even: float
    expected: float
    seconds: float
    roofline: float
    predicted: float


class LayerObservation(msgspec.Struct, frozen=True):
    """A measured layer: the machine, the sizes, the router's skew over all tokens, and each batch size."""

    sizes: LayerSizes
    machine: MachineRates
    alpha: float
    entropy: float
    gini: float
    batches: tuple[BatchObservation, ...]


class LayerWeights(NamedTuple):
    """Router [hidden, E], its bias [E]; the experts' gates and ups [E, hidden, 2 inner], downs [E, inner, hidden]."""

    router: Floats
    bias: Floats
    into: Floats
    out: Floats


def weights(sizes: LayerSizes, seed: int = 0) -> LayerWeights:
    """Return random weights; the router's bias makes it choose about by a power law with `sizes.alpha`."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Floats:
        return np.asarray(rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-2])))

    law = routing.power_law(sizes.experts, 1, sizes.alpha)
    # Scores have deviation 1; half the log-popularity gives about the wanted odds once the best k are taken.
    bias = np.asarray(rng.permutation(0.5 * np.log(law * sizes.experts)), dtype=np.float32)
    into = draw(sizes.experts, sizes.hidden, 2 * sizes.inner)
    return LayerWeights(draw(sizes.hidden, sizes.experts), bias, into, draw(sizes.experts, sizes.inner, sizes.hidden))


def route(layer: LayerWeights, x: Floats, used: int) -> tuple[Choices, Floats]:
    """Return the experts of each token [tokens, used] and their shares, which add up to 1."""
    scores = x @ layer.router + layer.bias
    best = np.argpartition(-scores, used - 1, axis=1)[:, :used]
    kept = np.take_along_axis(scores, best, axis=1)
    shares = np.exp(kept - kept.max(axis=1, keepdims=True))
    return best, np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def forward(layer: LayerWeights, x: Floats, used: int) -> Floats:
    """Return the layer's output for `x` [tokens, hidden]: SwiGLU experts, each woken once for all its tokens."""
    best, shares = route(layer, x, used)
    found = np.zeros_like(x)
    flat = best.ravel()
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=len(layer.into)))
    start = 0
    for expert, end in enumerate(ends):
        if end > start:
            places = order[start:end]
            _add(found, layer, expert, (x, places // used, shares.ravel()[places]))
        start = end
    return found


def _add(found: Floats, layer: LayerWeights, expert: int, work: tuple[Floats, Choices, Floats]) -> None:
    """Add to `found` what an expert makes of rows of `x`, each with its share; `work` is (x, rows, shares)."""
    x, rows, shares = work
    gate, up = np.split(x[rows] @ layer.into[expert], 2, axis=1)
    found[rows] += (gate / (1 + np.exp(-gate)) * up) @ layer.out[expert] * shares[:, None]


def _binomial(tokens: int, popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance of each load from 0 to `tokens` [experts, tokens + 1]."""
    loads = np.arange(tokens + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, tokens + 1)))))
    chance = np.clip(popularity, 1e-12, 1 - 1e-12)[:, None]
    ways = logs[-1] - logs[loads] - logs[tokens - loads]
    return np.asarray(np.exp(ways + loads * np.log(chance) + (tokens - loads) * np.log1p(-chance)))


def observe(
    sizes: LayerSizes, batches: Sequence[int], clock: Clock, *, repeats: int = 9, seed: int = 0
) -> LayerObservation:
    """Measure the machine, then the layer at each batch size, and predict the one from the other.

    Tokens are random and new in each repeat, so that other experts are awake; caches are emptied in between. Seconds
    are the least of `repeats`: other work on the machine only ever adds. Takes some seconds with the default sizes.

    Args:
        sizes: of the layer; its experts together should be several times the last cache.
        batches: tokens in a step.
        clock: seconds, monotonic.
        repeats: runs of each batch size.
        seed: of weights and tokens.

    Raises:
        ConfigError: no batch, or no repeat.
    """
    if not batches or min(batches) < 1 or repeats < 1:
        raise ConfigError("nothing to measure: give batches of 1 token or more, and 1 repeat or more")
    layer, rng = weights(sizes, seed), np.random.default_rng(seed + 1)
    flush = np.ones(_FLUSHED // 4, dtype=np.float32)
    machine = measure_machine(sizes, layer, flush, clock, repeats)
    popularity, counts = _popularity(sizes, layer, rng)
    found = []
    for tokens in batches:
        seconds, activated = [], []
        for _ in range(repeats):
            x = rng.standard_normal((tokens, sizes.hidden), dtype=np.float32)
            activated.append(len(np.unique(route(layer, x, sizes.used)[0])))
            flush.sum()
            start = clock()
            forward(layer, x, sizes.used)
            seconds.append(clock() - start)
        found.append(_batch(sizes, machine, popularity, tokens, float(np.mean(activated)), min(seconds)))
    skew = routing.fitted_alpha(counts), routing.entropy(counts), routing.gini(counts)
    return LayerObservation(sizes, machine, *skew, tuple(found))


class _ObservationOrder(msgspec.Struct):
    sizes: LayerSizes
    batches: tuple[int, ...]
    repeats: int


def observe_apart(
    sizes: LayerSizes, batches: Sequence[int], env: Mapping[str, str], *, repeats: int = 9, limit: float = 120.0
) -> LayerObservation:
    """Measure as `observe` does, in a process of its own where products of matrices run on one thread.

    Threads that wait for each other lose tens of milliseconds wherever something else wants a core; this process'
    library cannot be told so any more once it is loaded.

    Args:
        sizes: of the layer.
        batches: tokens in a step.
        env: the environment to pass on.
        repeats: runs of each batch size.
        limit: seconds after which it is given up.

    Raises:
        ConfigError: nothing to measure, or it did not come to an end.
    """
    order = msgspec.json.encode(_ObservationOrder(sizes, tuple(batches), repeats))
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    code = "from mixtura.hardware.observed import answer; answer()"
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter, and code of ours
            [sys.executable, "-c", code],
            input=order,
            capture_output=True,
            env={**env, **single},
            timeout=limit,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        last = (error.stderr or b"it took too long").decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigError(f"the layer could not be measured ({' '.join(last)}): try smaller sizes or batches") from None
    return msgspec.json.decode(done.stdout, type=LayerObservation)


def answer() -> None:
    """Do what `observe_apart` asked for on standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_ObservationOrder)
    found = observe(order.sizes, order.batches, time.perf_counter, repeats=order.repeats)
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _popularity(
    sizes: LayerSizes, layer: LayerWeights, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Choices]:
    """Return the chance of each expert to be chosen by a token, and how often each was, over many tokens."""
    x = rng.standard_normal((4096, sizes.hidden), dtype=np.float32)
    counts = np.bincount(route(layer, x, sizes.used)[0].ravel(), minlength=sizes.experts)
    return counts / len(x), counts


def _batch(
    sizes: LayerSizes,
    machine: MachineRates,
    popularity: NDArray[np.float64],
    tokens: int,
    activated: float,
    seconds: float,
) -> BatchObservation:
    expected = float(routing.distinct_given(tokens, popularity))
    return BatchObservation(
        tokens=tokens,
        activated=activated,
        even=float(routing.distinct(tokens, sizes.experts, sizes.used)),
        expected=expected,
        seconds=seconds,
        roofline=machine.overhead + expected * sizes.expert_bytes / machine.bandwidth,
        predicted=machine.overhead + machine.all(tokens, popularity),
    )


def measure_machine(sizes: LayerSizes, layer: LayerWeights, flush: Floats, clock: Clock, repeats: int) -> MachineRates:
    """Measure the memory's bandwidth by reading an array, the overhead of routing, and one expert by its tokens."""
    flush.sum()
    reads = [_time_call(clock, lambda: float(np.dot(flush, flush))) for _ in range(max(3, repeats))]
    x = np.ones((1, sizes.hidden), dtype=np.float32)
    overhead = min(_time_call(clock, lambda: route(layer, x, sizes.used)) for _ in range(max(3, repeats)))
    tokens = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
    seconds = []
    for count in tokens:
        rows = np.ones((count, sizes.hidden), dtype=np.float32)
        work, found = (rows, np.arange(count), np.ones(count, dtype=np.float32)), np.zeros_like(rows)
        runs = []
        for place in range(max(3, repeats)):
            flush.sum()
            start = clock()
            for step in range(_TOGETHER):
                _add(found, layer, (place * _TOGETHER + step) % sizes.experts, work)
            runs.append(max(1e-9, clock() - start) / _TOGETHER)
        seconds.append(min(runs))
    # No number of tokens takes longer than a larger one: what did was disturbed.
    least = np.minimum.accumulate(seconds[::-1])[::-1]
    return MachineRates(flush.nbytes / min(reads), tokens, tuple(least.tolist()), overhead)


def _time_call(clock: Clock, work: Callable[[], object]) -> float:
    start = clock()
    work()
    return max(1e-9, clock() - start)


def observe_on_gpu(
    sizes: LayerSizes, batches: Sequence[int], *, repeats: int = 20
) -> tuple[tuple[int, float, float], ...]:
    """Return (tokens, experts awake, seconds) of the same layer on a GPU, in float16; nothing where there is none.

    Needs PyTorch, which Mixtura does not bring. Experts run one after another, so at small sizes the start of each
    product costs more than the memory: give sizes of a real model (hidden 4096, inner 1536).
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return ()
    if not torch.cuda.is_available():
        return ()
    made = weights(sizes)
    router, bias, into, out = (torch.from_numpy(part).cuda().half() for part in made)
    found = []
    for tokens in batches:
        x = torch.randn(tokens, sizes.hidden, device="cuda", dtype=torch.half)
        best = (x @ router + bias).topk(sizes.used, dim=1).indices
        activated = best.unique().tolist()
        rows = [(best == expert).any(1).nonzero().ravel() for expert in activated]
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for run in range(repeats + 3):
            if run == 3:
                begin.record()
            for expert, places in zip(activated, rows, strict=True):
                gate, up = (x[places] @ into[expert]).chunk(2, 1)
                torch.nn.functional.silu(gate).mul(up) @ out[expert]
        end.record()
        torch.cuda.synchronize()
        found.append((tokens, float(len(activated)), begin.elapsed_time(end) / 1000 / repeats))
    return tuple(found)
