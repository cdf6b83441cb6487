"""A real MoE layer measured on this machine, and the prediction of its time."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mixtura.errors import ConfigError
from mixtura.hardware import observed, routing

SMALL = observed.LayerSizes(experts=8, used=2, hidden=32, inner=16)


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        now += 0.001
        yield now


def test_grouping_by_expert_changes_nothing() -> None:
    layer = observed.weights(SMALL)
    x = np.random.default_rng(0).standard_normal((5, 32), dtype=np.float32)
    best, shares = observed.route(layer, x, 2)
    for token in range(5):
        slow = np.zeros(32)
        for expert, share in zip(best[token], shares[token], strict=True):
            gate, up = np.split(x[token] @ layer.into[expert], 2)
            slow += share * ((gate / (1 + np.exp(-gate)) * up) @ layer.out[expert])
        assert observed.forward(layer, x, 2)[token] == pytest.approx(slow, abs=1e-5)
    assert shares.sum(axis=1) == pytest.approx(np.ones(5))


@pytest.mark.slow
def test_observed_experts_agree_with_the_routers_expectation() -> None:
    clock = ticking()
    found = observed.observe(SMALL, (1, 4, 64), lambda: next(clock), repeats=20)
    for batch in found.batches:
        assert batch.activated == pytest.approx(batch.expected, rel=0.15)
        assert batch.seconds == pytest.approx(0.001)
        assert batch.expected <= batch.even + 1e-6
        assert 2 <= batch.activated <= 8


@pytest.mark.slow
def test_the_observation_measures_a_skewed_router() -> None:
    clock = ticking()
    sizes = observed.LayerSizes(experts=32, used=2, hidden=32, inner=16, alpha=1.0)
    found = observed.observe(sizes, (16,), lambda: next(clock), repeats=2)
    even = observed.observe(
        observed.LayerSizes(experts=32, used=2, hidden=32, inner=16), (16,), lambda: next(clock), repeats=2
    )
    assert found.alpha > even.alpha + 0.3
    assert found.gini > even.gini
    assert found.entropy < even.entropy
    assert found.batches[0].expected < even.batches[0].expected


def test_times_of_experts_alone_add_up_to_the_prediction() -> None:
    machine = observed.MachineRates(1e9, (1, 2, 4), (1.0, 1.0, 1.0), 0.0)
    law = routing.power_law(8, 2, 0.5)
    assert machine.all(3, law) == pytest.approx(float(routing.distinct_given(3, law)))
    assert observed.MachineRates(1e9, (1, 8), (1.0, 8.0), 0.0).all(8, law) == pytest.approx(16.0)


def test_a_real_clock_gives_real_times() -> None:
    found = observed.observe(SMALL, (1, 8), time.perf_counter, repeats=2)
    assert 1e8 < found.machine.bandwidth < 1e13
    assert all(0 < batch.seconds < 1 and batch.roofline > 0 for batch in found.batches)


def test_the_measurement_runs_in_a_child_process() -> None:
    found = observed.observe_apart(SMALL, (1, 8), os.environ, repeats=1)
    assert [batch.tokens for batch in found.batches] == [1, 8]


def test_an_impossible_measurement_raises_a_one_sentence_error() -> None:
    with pytest.raises(ConfigError, match="1 token or more"):
        observed.observe(SMALL, (), time.perf_counter)
    with pytest.raises(ConfigError, match="cannot use 9"):
        observed.LayerSizes(experts=8, used=9)
    with pytest.raises(ConfigError, match="above 0"):
        observed.LayerSizes(hidden=0)
    with pytest.raises(ConfigError, match="measuring the layer failed"):
        observed.observe_apart(SMALL, (), os.environ)
    assert observed.observe_on_gpu(SMALL, ()) == ()
