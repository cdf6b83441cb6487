"""Simulates mixtures on machines: latency under load, time per stage, and which models the mixtures wait for.

The serving simulator serves all calls of a model together, of every stage; the calls of a stage arrive when the stage
before has ended. This is exact for a model with calls in one stage only. A model with calls in several stages (as an
aggregator of its own drafts) has a circular dependency: the arrivals of its later calls depend on its earlier calls,
which share a batch with later calls of other mixtures. The simulation therefore repeats in rounds until the 50th and
95th percentiles of the mixtures converge. Single calls may still change then, because each step of a batch depends on
all steps before it, so the result is an approximation; `SimulatedMixtures.drift` is the change of the 95th percentile
in the last round.

Not modelled: hedged calls, retries, deadlines, prefix caching of the proposers' shared prompt, and the batch slot that
a draft frees when it is cut off after the grace.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mixtura.errors import ConfigError
from mixtura.room.plan.machines import ModelServer, ServedCalls
from mixtura.room.plan.work import Array, MixtureWork, Name, SampledMixtures, Whole, sample_mixtures

PERCENTS = (50.0, 95.0, 99.0)
MIXTURES = 1500
"""Mixtures per simulation, of which 15 are beyond the 99th percentile."""
_SKIPPED = 0.1  # share of mixtures to skip at the start, while the machines fill; more if they fill slowly
_FILLED = 8  # simulated mixtures over the mixtures in flight on empty machines, at least
_CALLS = 6_000  # calls per simulation: recipes of many calls get fewer mixtures
_CIRCLED = 2_000  # likewise, with a circular dependency
_ROUNDS = 4
_STILL = 0.01  # relative change of percentiles at which the rounds stop


class ModelCopies(NamedTuple):
    """A model's server and its number of copies."""

    machine: ModelServer
    copies: int = 1


class SimulatedStage(NamedTuple):
    """A stage: its mean seconds, and for each model the share of mixtures in which it ended last."""

    name: str
    seconds: float
    last: dict[Name, float]


class SimulatedMixtures(NamedTuple):
    """The result of a simulation of mixtures.

    Attributes:
        seconds: time of each mixture, from question to answer, without the first ones.
        stages: mean time of each stage.
        waits: share of a mixture's time spent waiting for each model.
        served: the served calls of each model.
        prompts: mean prompt tokens of a mixture.
        outputs: mean output tokens of a mixture; drafts that are cut off count in full.
        spent: mean prompt and output tokens of a mixture, by model.
        cut: share of the mixtures that went on without a late draft.
        drift: seconds by which the 95th percentile moved in the last round; 0 without a circular dependency.
    """

    seconds: Array
    stages: tuple[SimulatedStage, ...]
    waits: dict[Name, float]
    served: dict[Name, ServedCalls]
    prompts: float
    outputs: float
    spent: dict[Name, tuple[float, float]]
    cut: float
    drift: float

    def at(self, percent: float) -> float:
        """Return a percentile of the seconds."""
        return float(np.percentile(self.seconds, percent))

    @property
    def straggler(self) -> tuple[str, Name, float] | None:
        """The longest stage with several models, the model that ends it most often, and its share; None without one."""
        several = [stage for stage in self.stages if len(stage.last) > 1]
        if not several:
            return None
        stage = max(several, key=lambda stage: stage.seconds)
        model = max(stage.last, key=lambda name: stage.last[name])
        return stage.name, model, stage.last[model]


def run(
    work: MixtureWork,
    stations: Mapping[Name, ModelCopies],
    rate: float,
    *,
    count: int = MIXTURES,
    seed: int = 0,
    sigmas: float = 0.0,
) -> SimulatedMixtures:
    """Simulate `count` mixtures with Poisson arrivals, `rate` per second.

    Args:
        work: the calls of a mixture.
        stations: the server of each model.
        rate: mixtures per second.
        count: number of mixtures, reduced for recipes of many calls; the first tenth is not counted.
        seed: seed of times and lengths; equal seeds give equal traffic on different machines.
        sigmas: standard deviations by which each machine is slower than predicted (below 0: faster).

    Raises:
        ConfigError: a model has no server, the rate or count is not above 0, or no machine can hold a call.
    """
    missing = [model for model in work.models if model not in stations]
    if missing:
        raise ConfigError(f"no machine is given for {', '.join(name for _, name in missing)}")
    empty = all(isinstance(station.machine, _UnsharedServer) for station in stations.values())
    most = _CIRCLED if _circles(work) and not empty else _CALLS
    alone = _alone(work, stations)
    # A fleet that serves many mixtures at once needs time to fill before its latency is representative.
    wanted = max(count, min(3 * count, int(_FILLED * rate * alone)))
    most *= 2 if wanted > count else 1
    fewer = max(1, min(wanted, most // len(work.calls)))
    # The ends of a range, and fleets tried in a search, need fewer rounds.
    rounds = 2 if sigmas or count < MIXTURES else _ROUNDS
    return _MixtureRun(work, stations, sample_mixtures(work, rate, fewer, seed), (sigmas, rounds)).simulate(alone)


def floor(
    work: MixtureWork, machines: Mapping[Name, ModelServer], *, count: int = MIXTURES, seed: int = 0
) -> SimulatedMixtures:
    """Return the times of mixtures if every call has a machine of its own: a lower bound for any number of copies.

    (No machine here decodes a larger batch faster than a batch of one.)
    """
    stations = {model: ModelCopies(_UnsharedServer(machine)) for model, machine in machines.items()}
    return run(work, stations, 1.0, count=count, seed=seed)


class _UnsharedServer:
    """A server whose calls never share a machine."""

    def __init__(self, machine: ModelServer) -> None:
        self.machine = machine
        self.name, self.spread, self.basis, self.alone = machine.name, machine.spread, machine.basis, machine.alone

    def reason(self, prompt: float, output: float) -> str:
        return self.machine.reason(prompt, output)

    def serve(self, times: Array, prompts: Whole, outputs: Whole, copies: int, slower: float) -> ServedCalls:
        return ServedCalls(times + slower * self.alone(prompts, outputs), None, 0.0)


class _MixtureRun:
    """The simulation of mixtures through their stages; arrays are indexed by mixture."""

    def __init__(
        self, work: MixtureWork, stations: Mapping[Name, ModelCopies], given: SampledMixtures, how: tuple[float, int]
    ) -> None:
        sigmas, rounds = how
        self._work, self._stations, self._given = work, stations, given
        self._slower = {model: float(np.exp(sigmas * stations[model].machine.spread)) for model in work.models}
        self._slots = [
            [at for at, call in enumerate(work.calls) if call.stage == stage] for stage in range(len(work.stages))
        ]
        self._mine = {model: [at for at, call in enumerate(work.calls) if call.model == model] for model in work.models}
        self._begins: list[Array] = self._guess()
        self._ends: list[Array] = [given.times] * len(work.calls)
        self._known: dict[Name, tuple[list[Array], ServedCalls]] = {}
        self._late = np.zeros(len(given.times), np.bool_)
        self._more = rounds - 1 if _circles(work) else 0

    def simulate(self, alone: float) -> SimulatedMixtures:
        drift = 0.0
        self._round()
        for _ in range(self._more):
            before = self._percentiles()
            self._round()
            moved = abs(self._percentiles() - before)
            drift = float(moved[1])
            if np.all(moved <= _STILL * before):
                break
        return self._summary(drift, 2 * alone)

    def _percentiles(self) -> Array:
        found: Array = np.percentile(self._begins[-1] - self._given.times, PERCENTS[:2])
        return found

    def _guess(self) -> list[Array]:
        """Return the begin of each stage (and the end of the last) on empty machines, the start of the first round."""
        begins, given = [self._given.times], self._given
        for slots in self._slots:
            ends = [begins[-1]]
            for at in slots:
                machine = self._stations[self._work.calls[at].model].machine
                ends.append(
                    begins[-1] + np.where(given.made[at], machine.alone(given.prompts[at], given.outputs[at]), 0)
                )
            begins.append(np.max(ends, axis=0))
        return begins

    def _round(self) -> None:
        """Serve every stage in turn, with the later calls of a model at their times of the previous round."""
        self._late[:] = False
        for stage, slots in enumerate(self._slots):
            for model in dict.fromkeys(self._work.calls[at].model for at in slots):
                self._serve(model)
            self._begins[stage + 1] = self._over(stage)

    def _serve(self, model: Name) -> None:
        given, mine = self._given, self._mine[model]
        made = [given.made[at] for at in mine]
        begins = [self._begins[self._work.calls[at].stage] for at in mine]
        known = self._known.get(model)
        if known is not None and all(np.array_equal(new, old) for new, old in zip(begins, known[0], strict=True)):
            return
        station = self._stations[model]
        times, prompts, outputs = (
            np.concatenate([values[asked] for values, asked in zip(kind, made, strict=True)])
            for kind in (begins, [given.prompts[at] for at in mine], [given.outputs[at] for at in mine])
        )
        if len(times):
            served = station.machine.serve(times, prompts, outputs, station.copies, self._slower[model])
        else:
            served = ServedCalls(times, None, 0.0)
        place = 0
        for at, asked, begun in zip(mine, made, begins, strict=True):
            ends = begun.copy()
            many = int(asked.sum())
            ends[asked] = served.ends[place : place + many]
            self._ends[at] = ends
            place += many
        self._known[model] = begins, served

    def _over(self, stage: int) -> Array:
        """Return the end of a stage: its last reply, or the grace after the quorum if that is earlier."""
        ends = np.stack([self._ends[at] for at in self._slots[stage]])
        enough = self._work.replies_needed(stage)
        whole: Array = ends.max(axis=0)
        if enough < len(ends):
            whole = np.minimum(whole, np.sort(ends, axis=0)[enough - 1] + self._work.grace)
            self._late |= ends.max(axis=0) > whole
        return whole

    def _summary(self, drift: float, filling: float) -> SimulatedMixtures:
        work, given = self._work, self._given
        many = len(given.times)
        after = min(many // 2, max(int(_SKIPPED * many), int(np.searchsorted(given.times, filling))))
        seconds = (self._begins[-1] - given.times)[after:]
        stages, waits = [], dict.fromkeys(work.models, 0.0)
        for stage, slots in enumerate(self._slots):
            made = np.any([given.made[at] for at in slots], axis=0)
            took = self._begins[stage + 1] - self._begins[stage]
            ends = np.stack([np.where(given.made[at], self._ends[at], -np.inf) for at in slots])
            slowest = ends.argmax(axis=0)
            last: dict[Name, float] = {}
            for place, at in enumerate(slots):
                model, hit = work.calls[at].model, (slowest == place) & made
                last[model] = last.get(model, 0.0) + float(hit[after:].sum()) / max(1, int(made[after:].sum()))
                waits[model] += float(took[after:][hit[after:]].sum() / max(seconds.sum(), 1e-12))
            stages.append(SimulatedStage(work.stages[stage], float(took[after:].mean()), last))
        spent = {model: self._mean_tokens(model) for model in work.models}
        prompts, outputs = (float(sum(each)) for each in zip(*spent.values(), strict=True))
        served = {model: known[1] for model, known in self._known.items()}
        cut = float(self._late[after:].mean())
        return SimulatedMixtures(seconds, tuple(stages), waits, served, prompts, outputs, spent, cut, drift)

    def _mean_tokens(self, model: Name) -> tuple[float, float]:
        given, mine = self._given, self._mine[model]
        return (
            float(sum((given.prompts[at] * given.made[at]).mean() for at in mine)),
            float(sum((given.outputs[at] * given.made[at]).mean() for at in mine)),
        )


def _alone(work: MixtureWork, stations: Mapping[Name, ModelCopies]) -> float:
    """Return the seconds of a mixture of mean lengths on empty machines."""
    stages = [0.0] * len(work.stages)
    for call in work.calls:
        prompt, output = work.tokens(call)
        taken = float(stations[call.model].machine.alone(prompt, output))
        stages[call.stage] = max(stages[call.stage], (1 - work.skip_share(call)) * taken)
    return sum(stages)


def _circles(work: MixtureWork) -> bool:
    """Return whether a model has calls in more than one stage."""
    return any(len({call.stage for call in work.calls if call.model == model}) > 1 for model in work.models)
