"""Measures a real MoE layer on this machine: activated experts, skew, and time against batch.

NumPy computes a layer of experts larger than the caches, one expert after another, as grouped kernels do. The machine's
own rates are measured first, on one expert's matrices without routing; then the layer's time is predicted from D(B) and
compared with the measured time. With PyTorch and a GPU the same layer also runs on the GPU.
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

_TOGETHER = 4  # experts timed together
_FLUSHED = 96 * 1024 * 1024  # bytes read between two runs, to evict the weights of the last run from the caches


class LayerSizes(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the layer to measure; weights are float32. `alpha` skews its router (0: as even as a random router)."""

    experts: int = 48
    used: int = 4
    hidden: int = 768
    inner: int = 384
    alpha: float = 0.0

    def __post_init__(self) -> None:
        routing.check(self.experts, self.used)
        if min(self.hidden, self.inner) < 1:
            raise ConfigError(f"a layer of {self.hidden} x {self.inner}: expected sizes above 0")

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert: gate and up [hidden, 2 inner], down [inner, hidden]."""
        return 12 * self.hidden * self.inner


class MachineRates(msgspec.Struct, frozen=True):
    """Measurements of the machine without routing: bytes/s read from memory, seconds of one expert by its tokens."""

    bandwidth: float
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    overhead: float

    def all(self, tokens: int, popularity: NDArray[np.float64]) -> float:
        """Return the expected seconds of all experts, whose loads are binomial with each expert's popularity."""
        table = np.interp(np.arange(tokens + 1), self.tokens, self.seconds)
        table[0] = 0.0
        return float((_binomial(tokens, popularity) @ table).sum())


class BatchObservation(msgspec.Struct, frozen=True):
    """One batch size: activated experts, as measured and as expected of an even router and of this one, and seconds.

    `roofline` is overhead + D(B) w_e / BW with the bandwidth of a plain read, which matrix products do not quite
    reach; `predicted` is overhead + the expected sum of the experts' seconds, each measured alone.
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
    """Return random weights; the router's bias makes its choices follow about a power law with `sizes.alpha`."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Floats:
        return np.asarray(rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-2])))

    law = routing.power_law(sizes.experts, 1, sizes.alpha)
    # Scores have deviation 1; half the log-popularity gives about the wanted odds under top-k selection.
    bias = np.asarray(rng.permutation(0.5 * np.log(law * sizes.experts)), dtype=np.float32)
    into = draw(sizes.experts, sizes.hidden, 2 * sizes.inner)
    return LayerWeights(draw(sizes.hidden, sizes.experts), bias, into, draw(sizes.experts, sizes.inner, sizes.hidden))


def route(layer: LayerWeights, x: Floats, used: int) -> tuple[Choices, Floats]:
    """Return the experts of each token [tokens, used] and their weights, which add up to 1."""
    scores = x @ layer.router + layer.bias
    best = np.argpartition(-scores, used - 1, axis=1)[:, :used]
    kept = np.take_along_axis(scores, best, axis=1)
    shares = np.exp(kept - kept.max(axis=1, keepdims=True))
    return best, np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def forward(layer: LayerWeights, x: Floats, used: int) -> Floats:
    """Return the layer's output for `x` [tokens, hidden]: SwiGLU experts, each run once for all its tokens."""
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
    """Add an expert's weighted output for rows of `x` to `found`; `work` is (x, rows, shares)."""
    x, rows, shares = work
    gate, up = np.split(x[rows] @ layer.into[expert], 2, axis=1)
    found[rows] += (gate / (1 + np.exp(-gate)) * up) @ layer.out[expert] * shares[:, None]


def _binomial(tokens: int, popularity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each load from 0 to `tokens` [experts, tokens + 1]."""
    loads = np.arange(tokens + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, tokens + 1)))))
    chance = np.clip(popularity, 1e-12, 1 - 1e-12)[:, None]
    ways = logs[-1] - logs[loads] - logs[tokens - loads]
    return np.asarray(np.exp(ways + loads * np.log(chance) + (tokens - loads) * np.log1p(-chance)))


def observe(
    sizes: LayerSizes, batches: Sequence[int], clock: Clock, *, repeats: int = 9, seed: int = 0
) -> LayerObservation:
    """Measure the machine, then the layer at each batch size, and predict the layer's times from the machine's.

    Each repeat draws new random tokens, which activate other experts; the caches are flushed in between. Seconds are
    the least of `repeats`, because other work on the machine can only add time. Takes some seconds with the default
    sizes.

    Args:
        sizes: sizes of the layer; its experts together should be several times as large as the last-level cache.
        batches: tokens in a step.
        clock: seconds, monotonic.
        repeats: runs of each batch size.
        seed: seed of weights and tokens.

    Raises:
        ConfigError: there is no batch or no repeat, or a batch has no token.
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
    """Measure as `observe` does, in a child process that runs matrix products on one thread.

    Threads that wait for each other lose tens of milliseconds whenever another program needs a core, and a linear
    algebra library that this process has already loaded no longer accepts another number of threads.

    Args:
        sizes: sizes of the layer.
        batches: tokens in a step.
        env: the environment of the child process.
        repeats: runs of each batch size.
        limit: seconds after which the child process is stopped.

    Raises:
        ConfigError: there is nothing to measure, or the child process failed or exceeded `limit`.
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
        raise ConfigError(f"measuring the layer failed ({' '.join(last)}): try smaller sizes or batches") from None
    return msgspec.json.decode(done.stdout, type=LayerObservation)


def answer() -> None:
    """Run the measurement that `observe_apart` sent on standard input and write its result to standard output."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_ObservationOrder)
    found = observe(order.sizes, order.batches, time.perf_counter, repeats=order.repeats)
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _popularity(
    sizes: LayerSizes, layer: LayerWeights, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Choices]:
    """Return the probability that a token chooses each expert, and each expert's count of choices, over many tokens."""
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
    """Measure memory bandwidth by reading an array, the overhead of routing, and one expert's time by its tokens."""
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
    # Fewer tokens never take longer than more: a measurement that says so was disturbed.
    least = np.minimum.accumulate(seconds[::-1])[::-1]
    return MachineRates(flush.nbytes / min(reads), tokens, tuple(least.tolist()), overhead)


def _time_call(clock: Clock, work: Callable[[], object]) -> float:
    start = clock()
    work()
    return max(1e-9, clock() - start)


def observe_on_gpu(
    sizes: LayerSizes, batches: Sequence[int], *, repeats: int = 20
) -> tuple[tuple[int, float, float], ...]:
    """Return (tokens, activated experts, seconds) of the same layer on a GPU, in float16; empty without a GPU.

    Needs PyTorch, which Mixtura does not install. Experts run one after another, so at small sizes kernel launches
    cost more than memory reads: give the sizes of a real model (hidden 4096, inner 1536).
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
