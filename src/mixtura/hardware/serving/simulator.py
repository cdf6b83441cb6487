"""The serving simulator: discrete events, replicas with continuous batching, routing, three prefill policies.

It jumps from event to event (see `replica`) and sums the steps between in closed form. The event loop is our own, over
`heapq`: a general event library runs a generator, an event object and a callback per event, which costs more than the
whole event here.

Not modelled: eviction and recomputation when the KV cache is full (a request is admitted only if all its tokens fit),
prefix caching, priorities, failures, and network time.
"""

import math
from array import array
from collections import deque
from heapq import heappop, heappush
from typing import Literal, get_args

import msgspec
import numpy as np

from mixtura.errors import ConfigError
from mixtura.hardware.serving.arrivals import ClosedLoad, OpenLoad
from mixtura.hardware.serving.replica import NEVER, Prefilling, Replica, RequestTable, StepTable, TimedActor
from mixtura.hardware.serving.results import ServingResult
from mixtura.hardware.serving.step_times import StepTimes

Routing = Literal["shortest", "turns"]


class FleetScheduling(msgspec.Struct, frozen=True, kw_only=True):
    """The size and scheduling policy of a fleet.

    Attributes:
        replicas: number of replicas, each with the given step times.
        routing: to the replica with the fewest requests ("shortest", the first of equals), or round robin ("turns").
        prefill: prompts in chunks within decode steps ("mixed", the default of vLLM and SGLang), whole prompts
            before any decode step ("first"), or on separate workers ("apart", disaggregated).
        chunk: prompt tokens that a mixed step may hold.
        workers: prefill workers per replica, if "apart"; their total is rounded up.
        handover: seconds per prompt token to transfer its KV cache to the replica, if "apart".
    """

    replicas: int = 1
    routing: Routing = "shortest"
    prefill: Prefilling = "mixed"
    chunk: int = 2048
    workers: float = 1.0
    handover: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a value that is out of range or unknown."""
        for what, value in (("replicas", self.replicas), ("prompt tokens in a chunk", self.chunk)):
            if value < 1:
                raise ConfigError(f"the number of {what} must be at least 1, not {value}")
        if not 0 < self.workers < math.inf:
            raise ConfigError(f"the prefill workers per replica must be more than 0, not {self.workers:g}")
        if not 0 <= self.handover < math.inf:
            raise ConfigError(f"the handover must take 0 seconds per token or more, not {self.handover:g}")
        for name, kinds in (("routing", get_args(Routing)), ("prefill", get_args(Prefilling))):
            if getattr(self, name) not in kinds:
                raise ConfigError(f"unknown {name} {getattr(self, name)!r}: expected one of {', '.join(kinds)}")

    @property
    def prefill_workers(self) -> int:
        """Prefill workers of the whole fleet; 0 unless prefill is disaggregated."""
        return math.ceil(self.workers * self.replicas - 1e-9) if self.prefill == "apart" else 0


def simulate(load: OpenLoad | ClosedLoad, step_times: StepTimes, how: FleetScheduling | None = None) -> ServingResult:
    """Serve every request of `load` and return the times of each.

    The system is empty at the beginning and the end. Equal loads, step times and scheduling give equal results, bit for
    bit.

    Raises:
        ConfigError: there are no requests, or one is larger than the KV cache of a replica.
    """
    return _SimulationRun(load, step_times, how or FleetScheduling()).run()


class _OpenSource:
    """A source of requests at given times; `time` is the next arrival."""

    def __init__(self, times: list[float]) -> None:
        self._times = iter(times)
        self.time = next(self._times, NEVER)

    def take(self) -> None:
        self.time = next(self._times, NEVER)

    def on_end(self, time: float) -> None:
        """Do nothing: arrivals of an open load do not depend on answers."""


class _ClosedSource:
    """A source of requests from users who ask again some time after each answer; `time` is the next arrival."""

    def __init__(self, users: int, thinks: list[float]) -> None:
        self._coming = sorted(thinks[:users])
        self._thinks = iter(thinks[users:])
        self.time = self._coming[0]

    def take(self) -> None:
        heappop(self._coming)
        self.time = self._coming[0] if self._coming else NEVER

    def on_end(self, time: float) -> None:
        think = next(self._thinks, None)
        if think is not None:
            heappush(self._coming, time + think)
            self.time = self._coming[0]


class _PrefillWorker:
    """A worker that reads prompts for the replicas, one at a time from a queue that all workers share."""

    def __init__(self, number: int, run: "_SimulationRun", queue: deque[int]) -> None:
        self.number, self.due, self.busy = number, NEVER, 0.0
        self._run, self._queue, self._request, self._begun = run, queue, -1, 0.0

    @property
    def idle(self) -> bool:
        return self._request < 0

    def settle(self, time: float) -> None:
        request, self._request = self._request, -1
        self.busy += time - self._begun
        self._run.work.first[request] = time
        self._run.hand_over(request, time)

    def plan(self, time: float) -> None:
        if not self.idle:
            return  # already started by a request that arrived at this very time
        self.due = NEVER
        if self._queue:
            request = self._request = self._queue.popleft()
            self._run.work.started[request] = self._begun = time
            self.due = time + self._run.work.seconds[request]
            heappush(self._run.agenda, (self.due, self.number))


class _CacheTransfer:
    """Requests whose KV cache is in transfer to a replica."""

    def __init__(self, number: int, run: "_SimulationRun") -> None:
        self.number, self.due = number, NEVER
        self._run, self._moving = run, list[tuple[float, int]]()

    def put(self, request: int, until: float) -> None:
        heappush(self._moving, (until, request))
        self.plan(until)

    def settle(self, time: float) -> None:
        while self._moving and self._moving[0][0] <= time:
            self._run.route(heappop(self._moving)[1], time)

    def plan(self, time: float) -> None:
        del time
        self.due = self._moving[0][0] if self._moving else NEVER
        if self._moving:
            heappush(self._run.agenda, (self.due, self.number))


class _SimulationRun:
    """One run: the agenda of events, the source of requests, and the counters."""

    def __init__(self, load: OpenLoad | ClosedLoad, step_times: StepTimes, how: FleetScheduling) -> None:
        self._load, self._how = load, how
        self._count = count = len(load.prompts)
        _check(load, step_times)
        self._arrived, self._started, self._first, self._finished = (array("d", bytes(8 * count)) for _ in range(4))
        self._replica = array("q", bytes(8 * count))
        self.work = RequestTable(
            load.prompts.tolist(),
            load.outputs.tolist(),
            step_times.prompt(load.prompts).tolist(),
            _read_table(load, step_times) if how.prefill == "mixed" else array("d"),
            StepTable.of(step_times),
            self._started,
            self._first,
            self.finish,
        )
        self.agenda: list[tuple[float, int]] = []
        self._loads = [0] * how.replicas
        shared = (self.agenda, self._loads)
        style = (how.prefill, how.chunk)
        self._replicas = [Replica(number, step_times, style, self.work, shared) for number in range(how.replicas)]
        self._queue: deque[int] = deque()
        self._readers = [
            _PrefillWorker(how.replicas + place, self, self._queue) for place in range(how.prefill_workers)
        ]
        self._belt = _CacheTransfer(how.replicas + len(self._readers), self)
        self._source: _OpenSource | _ClosedSource
        if isinstance(load, OpenLoad):
            self._source = _OpenSource(load.times.tolist())
        else:
            self._source = _ClosedSource(load.users, load.thinks.tolist())
        self._turn = self._present = 0
        self._area = self._changed = 0.0

    def run(self) -> ServingResult:
        """Process all events and return the result."""
        agenda, source = self.agenda, self._source
        actors: list[TimedActor] = [*self._replicas, *self._readers, self._belt]
        coming = 0
        while True:
            # At equal times arrivals precede ends, so that a new request joins the step that begins then.
            if not agenda or source.time <= agenda[0][0]:
                if source.time == NEVER:
                    break
                self._arrive(coming, source.time)
                coming += 1
                continue
            time, number = heappop(agenda)
            actor = actors[number]
            if actor.due != time:
                continue  # the actor has since been rescheduled
            actor.settle(time)
            while source.time <= time:
                self._arrive(coming, source.time)
                coming += 1
            actor.plan(time)
        return self._result()

    def _arrive(self, request: int, time: float) -> None:
        self._source.take()
        self._arrived[request] = time
        self._area += self._present * (time - self._changed)
        self._changed = time
        self._present += 1
        if self._readers:
            self._queue.append(request)
            reader = next((reader for reader in self._readers if reader.idle), None)
            if reader is not None:
                reader.plan(time)
        else:
            self.route(request, time)

    def route(self, request: int, time: float) -> None:
        """Send a request to a replica."""
        if self._how.routing == "shortest":
            number = self._loads.index(min(self._loads))
        else:
            number = self._turn
            self._turn = (number + 1) % len(self._loads)
        self._replica[request] = number
        self._replicas[number].arrive(request, time)

    def hand_over(self, request: int, time: float) -> None:
        """Send a request whose prompt a worker has read to a replica, unless its first token was its last."""
        if self.work.outputs[request] == 1:
            self.finish(request, time)
        elif self._how.handover:
            self._belt.put(request, time + self._how.handover * self.work.prompts[request])
        else:
            self.route(request, time)

    def finish(self, request: int, time: float) -> None:
        """Record the end of a request."""
        self._finished[request] = time
        self._area += self._present * (time - self._changed)
        self._changed = time
        self._present -= 1
        self._source.on_end(time)

    def _result(self) -> ServingResult:
        load = self._load
        return ServingResult(
            arrived=np.array(self._arrived),
            started=np.array(self._started),
            first=np.array(self._first),
            finished=np.array(self._finished),
            prompts=load.prompts,
            outputs=load.outputs,
            replica=np.array(self._replica),
            busy=np.array([replica.busy for replica in self._replicas]),
            prefill_busy=np.array([reader.busy for reader in self._readers]),
            steps=sum(replica.steps for replica in self._replicas),
            decoded=sum(replica.decoded for replica in self._replicas),
            area=self._area,
        )


def _check(load: OpenLoad | ClosedLoad, step_times: StepTimes) -> None:
    """Raise ConfigError if there are no requests or one can never be admitted."""
    if not len(load.prompts):
        raise ConfigError("there are no requests to serve: give at least one")
    tokens = load.prompts + load.outputs
    if tokens.max() > step_times.capacity:
        place = int(np.argmax(tokens))
        raise ConfigError(
            f"request {place + 1} needs {tokens[place]:,} tokens of KV cache ({load.prompts[place]:,} of prompt, "
            f"{load.outputs[place]:,} of output) and a replica holds {step_times.capacity:,.0f}: "
            "use shorter requests, or a replica with more memory"
        )


def _read_table(load: OpenLoad | ClosedLoad, step_times: StepTimes) -> "array[float]":
    """Return the seconds to read the first n tokens of a prompt, by n; 0 tokens take 0 seconds."""
    table = step_times.prompt(np.arange(int(load.prompts.max()) + 1))
    table[0] = 0.0
    if np.any(np.diff(table) < 0):
        raise ConfigError("prefill(tokens) must not decrease: a longer prompt never takes less time")
    return array("d", table.tobytes())
