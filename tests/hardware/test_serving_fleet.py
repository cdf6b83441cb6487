"""The smallest fleet that meets an SLO."""

import numpy as np
import pytest
from bench.serving import chat

from mixtura.errors import ConfigError
from mixtura.hardware.serving.arrivals import (
    FixedLength,
    LognormalLength,
    OpenLoad,
    PoissonArrivals,
    draw_open_load,
    open_load,
)
from mixtura.hardware.serving.fleet import LatencySlo, alone, least_replicas, smallest_fleet
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.serving.step_times import step_times_from_table


def load(rate: float, count: int = 3000) -> OpenLoad:
    return draw_open_load(
        PoissonArrivals(rate), LognormalLength(800, 0.8), LognormalLength(150, 0.8), count=count, seed=2
    )


def test_one_replica_fewer_does_not_meet_the_slo() -> None:
    slo = LatencySlo(percentile=95, ttft=0.25, tpot=0.03)
    fleet = smallest_fleet(load(60), chat(), slo)
    assert fleet.tried[fleet.replicas]
    assert not fleet.tried[fleet.replicas - 1]
    assert fleet.found["ttft"] <= 0.25
    assert fleet.found["tpot"] <= 0.03
    assert fleet.found["ttft"] == fleet.served.percentiles("ttft", [95], skip=0.1)[0]
    fewer = simulate(load(60), chat(), FleetScheduling(replicas=fleet.replicas - 1))
    assert any(fewer.percentiles(name, [95], skip=0.1)[0] > bound for name, bound in slo.bounds.items())


def test_more_traffic_and_a_stricter_slo_never_need_fewer() -> None:
    sizes = [smallest_fleet(load(rate), chat(), LatencySlo(ttft=0.5)).replicas for rate in (5, 20, 60)]
    assert sizes == sorted(sizes)
    strict = [smallest_fleet(load(60), chat(), LatencySlo(tpot=bound)).replicas for bound in (0.05, 0.03, 0.02)]
    assert strict == sorted(strict)
    assert strict[0] < strict[-1]


def test_a_loose_slo_still_gets_a_fleet_that_keeps_up() -> None:
    busy = load(60)
    fleet = smallest_fleet(busy, chat(), LatencySlo(end_to_end=1e6))
    assert fleet.replicas == least_replicas(busy, chat()) > 1


def test_prefill_workers_are_counted() -> None:
    how = FleetScheduling(prefill="apart", workers=0.5)
    fleet = smallest_fleet(load(40), chat(), LatencySlo(ttft=0.5), how)
    assert fleet.prefill_workers == -(-fleet.replicas // 2)


@pytest.mark.parametrize(
    ("slo", "says"),
    [
        (
            LatencySlo(ttft=0.001),
            "the floor is 20 ms because a request alone on an empty machine takes 20 ms to read a prompt",
        ),
        (LatencySlo(tpot=0.001), r"the floor is 10\.3 ms because a decode step of one request alone takes 10\.3 ms"),
        (LatencySlo(end_to_end=0.1), r"the floor is 1\.04 s because .* then 99 steps of 10\.3 ms or more"),
    ],
)
def test_the_error_for_an_unreachable_slo_gives_the_floor(slo: LatencySlo, says: str) -> None:
    quiet = draw_open_load(PoissonArrivals(5), FixedLength(1000), FixedLength(100), count=500, seed=1)
    with pytest.raises(ConfigError, match=says):
        smallest_fleet(quiet, chat(), slo)


def test_an_slo_at_the_floor_is_met() -> None:
    spaced = open_load(np.arange(1, 50) * 100.0, 1000, 100)
    floor = float(alone(spaced, chat())["end_to_end"][0])
    assert smallest_fleet(spaced, chat(), LatencySlo(end_to_end=floor * (1 + 1e-9))).replicas == 1


def test_alone_equals_the_simulation_of_single_requests() -> None:
    chance = np.random.default_rng(1)
    for prefill in ("mixed", "first", "apart"):
        how = FleetScheduling(prefill=prefill, handover=1e-6)
        spaced = open_load(np.arange(200) * 1000.0, chance.integers(1, 9000, 200), chance.integers(1, 900, 200))
        served, single = simulate(spaced, chat(), how), alone(spaced, chat(), how)
        np.testing.assert_allclose(served.ttft, single["ttft"], atol=1e-9)
        np.testing.assert_allclose(served.end_to_end, single["end_to_end"], atol=1e-9)
        np.testing.assert_allclose(served.tpot, single["tpot"], atol=1e-9)


def test_the_error_for_too_few_replicas_names_the_missed_bounds() -> None:
    with pytest.raises(ConfigError, match=r"2 replicas do not meet the SLO: the time to first token is .* instead of"):
        smallest_fleet(load(60), chat(), LatencySlo(ttft=0.25), most=2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: LatencySlo(), "has no bound"),
        (lambda: LatencySlo(ttft=0), "time to first token of an SLO must be more than 0 seconds, not 0"),
        (lambda: LatencySlo(percentile=0, ttft=1), "percentile of an SLO must be above 0"),
        (
            lambda: smallest_fleet(load(5, 50), chat(), LatencySlo(ttft=1), most=0),
            "number of replicas to try must be at least 1",
        ),
        (
            lambda: smallest_fleet(open_load([0, 1], 9, 1), step_times_from_table([1.0]), LatencySlo(tpot=1)),
            "no request has a second token",
        ),
    ],
)
def test_an_invalid_slo_raises_a_one_sentence_error(call: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()  # type: ignore[operator]
