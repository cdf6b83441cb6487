"""The simulator jumps between events; a plain step-by-step simulation must give equal results."""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura.hardware.serving.arrivals import (
    ClosedLoad,
    FixedLength,
    OpenLoad,
    UniformLength,
    draw_closed_load,
    open_load,
)
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.serving.step_times import StepTimes, step_times_from_table


class Seen(NamedTuple):
    arrived: list[float]
    started: list[float]
    first: list[float]
    finished: list[float]
    steps: int


class Machine:
    """A replica or a prefill worker: its requests, and the end of its current step."""

    def __init__(self) -> None:
        self.queue: deque[int] = deque()
        self.admitted: list[int] = []
        self.running: list[int] = []
        self.end = math.inf
        self.step: dict[int, int] = {}
        self.decoding: list[int] = []


class Naive:
    """The same rules as `simulate`, one step and one token at a time, without closed forms."""

    def __init__(self, load: OpenLoad | ClosedLoad, step_times: StepTimes, how: FleetScheduling) -> None:
        self.load, self.step_times, self.how = load, step_times, how
        count = len(load.prompts)
        self.arrived, self.started, self.first, self.finished = ([math.nan] * count for _ in range(4))
        self.read, self.made = [0] * count, [0] * count
        self.fleet = [Machine() for _ in range(how.replicas)]
        self.readers = [Machine() for _ in range(how.prefill_workers)]
        self.shared: deque[int] = deque()
        self.moving: list[tuple[float, int]] = []
        self.steps = self.turn = 0
        if isinstance(load, OpenLoad):
            self.coming, self.thinks = sorted(load.times.tolist()), deque[float]()
        else:
            self.coming, self.thinks = (
                sorted(load.thinks[: load.users].tolist()),
                deque(load.thinks[load.users :].tolist()),
            )
        self.next = 0

    def run(self) -> Seen:
        while True:
            ends = [machine.end for machine in (*self.fleet, *self.readers)]
            move = min(self.moving)[0] if self.moving else math.inf
            soonest = min(*ends, move)
            if self.coming and self.coming[0] <= soonest:
                self.arrive()
            elif soonest == math.inf:
                return Seen(self.arrived, self.started, self.first, self.finished, self.steps)
            elif soonest in ends:
                self.edge((*self.fleet, *self.readers)[ends.index(soonest)], soonest)
            else:
                self.moving.sort()
                self.route(self.moving.pop(0)[1], soonest)

    def arrive(self) -> None:
        time, request = self.coming.pop(0), self.next
        self.next += 1
        self.arrived[request] = time
        if not self.readers:
            self.route(request, time)
            return
        self.shared.append(request)
        for reader in self.readers:
            if reader.end == math.inf:
                self.begin_reading(reader, time)
                return

    def route(self, request: int, time: float) -> None:
        loads = [len(machine.queue) + len(machine.admitted) + len(machine.running) for machine in self.fleet]
        place = loads.index(min(loads)) if self.how.routing == "shortest" else self.turn % len(loads)
        self.turn += 1
        self.fleet[place].queue.append(request)
        if self.fleet[place].end == math.inf:
            self.fleet[place].end = time

    def edge(self, machine: Machine, time: float) -> None:
        if machine in self.readers:
            (request,) = machine.step
            machine.end, machine.step = math.inf, {}
            self.first[request] = time
            self.made[request] = 1
            if self.load.outputs[request] == 1:
                self.finish(request, time)
            elif self.how.handover:
                self.moving.append((time + self.how.handover * float(self.load.prompts[request]), request))
            else:
                self.route(request, time)
        else:
            self.settle(machine, time)
        while self.coming and self.coming[0] <= time:
            self.arrive()
        if machine in self.readers:
            if machine.end == math.inf:
                self.begin_reading(machine, time)
        else:
            self.begin(machine, time)

    def begin_reading(self, reader: Machine, time: float) -> None:
        if self.shared:
            request = self.shared.popleft()
            self.started[request] = time
            reader.step = {request: int(self.load.prompts[request])}
            reader.end = time + float(self.step_times.prompt(self.load.prompts[request]))

    def settle(self, machine: Machine, time: float) -> None:
        for request in machine.decoding:
            self.made[request] += 1
        machine.running += [one for one in machine.step if self.read[one] == self.load.prompts[one]]
        for request, tokens in machine.step.items():
            if self.read[request] == self.load.prompts[request]:
                assert tokens
                self.first[request] = time
                self.made[request] = 1
                machine.admitted.remove(request)
        for request in [one for one in machine.running if self.made[one] == self.load.outputs[one]]:
            machine.running.remove(request)
            self.finish(request, time)
        machine.step, machine.decoding = {}, []

    def finish(self, request: int, time: float) -> None:
        self.finished[request] = time
        if self.thinks:
            self.coming = sorted([*self.coming, time + self.thinks.popleft()])

    def begin(self, machine: Machine, time: float) -> None:
        load = self.load
        while machine.queue:
            held = [*machine.admitted, *machine.running]
            tokens = sum(int(load.prompts[one] + load.outputs[one]) for one in [*held, machine.queue[0]])
            if len(held) == self.step_times.max_batch or tokens > self.step_times.capacity:
                break
            request = machine.queue.popleft()
            (machine.running if self.how.prefill == "apart" else machine.admitted).append(request)
        machine.decoding = list(machine.running)
        left = self.how.chunk
        if self.how.prefill == "first" and machine.admitted:
            machine.step, machine.decoding = {machine.admitted[0]: int(load.prompts[machine.admitted[0]])}, []
        elif self.how.prefill == "mixed":
            for request in machine.admitted:
                take = min(left, int(load.prompts[request]) - self.read[request])
                if take:
                    machine.step[request] = take
                left -= take
        seconds = 0.0
        for request, tokens in machine.step.items():
            if not self.read[request]:
                self.started[request] = time
            before, self.read[request] = self.read[request], self.read[request] + tokens
            seconds += float(self.step_times.prompt(before + tokens)) - (
                float(self.step_times.prompt(before)) if before else 0.0
            )
        if machine.decoding:
            context = sum(int(load.prompts[one]) + self.made[one] for one in machine.decoding)
            seconds += float(self.step_times.decode(len(machine.decoding), context))
            self.steps += 1
        machine.end = time + seconds if machine.step or machine.decoding else math.inf


def agree(load: OpenLoad | ClosedLoad, step_times: StepTimes, how: FleetScheduling) -> None:
    plain, served = Naive(load, step_times, how).run(), simulate(load, step_times, how)
    for values, expected in zip(served[:4], plain[:4], strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    assert served.steps == plain.steps
    assert served.decoded == int((load.outputs - 1).sum())


def fleets(draw: st.DrawFn) -> FleetScheduling:
    return FleetScheduling(
        replicas=draw(st.integers(1, 3)),
        routing=draw(st.sampled_from(["shortest", "turns"])),
        prefill=draw(st.sampled_from(["mixed", "first", "apart"])),
        chunk=draw(st.integers(1, 40)),
        workers=draw(st.sampled_from([0.5, 1.0, 2.0])),
        handover=draw(st.sampled_from([0.0, 0.013])),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[OpenLoad | ClosedLoad, StepTimes, FleetScheduling]:
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, width = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    pieces = draw(st.integers(1, 3))
    step_times = StepTimes(
        base=chance.uniform(0.1, 1, (pieces, width)),
        slope=chance.uniform(0, draw(st.sampled_from([0.0, 0.02])), (pieces, width)),
        knots=np.concatenate([[0.0], np.sort(chance.uniform(5, 60, pieces - 1))]),
        prefill=lambda tokens: 0.05 + 0.01 * tokens + 1e-4 * tokens**2,
        capacity=draw(st.sampled_from([90, 150, math.inf])),
    )
    lengths = (UniformLength(1, draw(st.sampled_from([1, 60]))), UniformLength(1, draw(st.sampled_from([1, 30]))))
    load: OpenLoad | ClosedLoad
    if draw(st.booleans()):
        times = np.cumsum(chance.exponential(draw(st.sampled_from([0.2, 2.0, 20.0])), count))
        load = open_load(times, lengths[0].draw(count, chance), lengths[1].draw(count, chance))
    else:
        load = draw_closed_load(draw(st.integers(1, 6)), 1.3, lengths, count=count, seed=draw(st.integers(0, 1000)))
    return load, step_times, fleets(draw)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_jumping_equals_stepping(case: tuple[OpenLoad | ClosedLoad, StepTimes, FleetScheduling]) -> None:
    agree(*case)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["mixed", "first"]), st.integers(1, 2), st.booleans())
def test_jumping_equals_stepping_if_all_events_coincide(seed: int, prefill: str, replicas: int, closed: bool) -> None:
    # Quarters of a second are exact in binary, so that ties are ties.
    chance = np.random.default_rng(seed)
    step_times = step_times_from_table(
        [0.25, 0.25, 0.5, 0.5], prefill=lambda tokens: 0.25 * np.ceil(tokens / 4), capacity=60
    )
    how = FleetScheduling(replicas=replicas, prefill=prefill, chunk=8)  # type: ignore[arg-type]
    load: OpenLoad | ClosedLoad
    if closed:
        load = draw_closed_load(5, 0.0, (UniformLength(1, 20), UniformLength(1, 10)), count=20, seed=seed)
    else:
        times = np.sort(chance.integers(0, 60, 20)) / 4
        load = open_load(times, chance.integers(1, 20, 20), chance.integers(1, 10, 20))
    agree(load, step_times, how)


@pytest.mark.parametrize("prefill", ["mixed", "first", "apart"])
def test_a_request_alone_takes_its_prompt_and_its_steps(prefill: str) -> None:
    step_times = step_times_from_table([0.5], [0.01], prefill=0.002)
    served = simulate(open_load([3.0], 100, 4), step_times, FleetScheduling(prefill=prefill, chunk=30))  # type: ignore[arg-type]
    assert served.started[0] == 3.0
    assert served.ttft[0] == pytest.approx(0.2)
    assert served.tpot[0] == pytest.approx(0.5 + 0.01 * 102)
    assert served.end_to_end[0] == pytest.approx(0.2 + 3 * 0.5 + 0.01 * (101 + 102 + 103))


def test_users_with_simultaneous_requests_share_the_batch() -> None:
    load = draw_closed_load(4, 0.0, (FixedLength(1), FixedLength(11)), count=40, seed=0)
    served = simulate(load, step_times_from_table([0.1] * 4))
    assert served.mean_batch == 4
    assert served.utilisation == 1
    assert served.mean_number == pytest.approx(4)
    np.testing.assert_allclose(served.tpot, 0.1)
