"""The simulator compared with queues of known solution. bench/serving.py has the large runs."""

import numpy as np
import pytest

from bench import serving as bench
from mixtura.errors import ConfigError
from mixtura.hardware.serving import closed
from mixtura.hardware.serving.arrivals import (
    FixedLength,
    GammaArrivals,
    GeometricLength,
    LognormalLength,
    PoissonArrivals,
    draw_open_load,
)
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.serving.step_times import step_times_from_table

pytestmark = pytest.mark.slow

MANY = 300_000


def test_one_server_is_lindleys_recursion_request_by_request() -> None:
    gaps, units = bench.exponential(20_000, 5) / 0.8, bench.two_kinds(20_000, 6)
    served = bench.one_server(gaps, units)
    np.testing.assert_allclose(served.queueing, bench.in_order(gaps, units), atol=1e-6 * 20_000)


@pytest.mark.parametrize(("name", "variation"), [("M/M/1", 1.0), ("M/D/1", 0.0), ("M/G/1", 1.5)])
def test_one_server_is_pollaczek_and_khinchine(name: str, variation: float) -> None:
    units = {"M/M/1": bench.exponential(MANY, 2), "M/D/1": np.ones(MANY), "M/G/1": bench.two_kinds(MANY, 2)}[name]
    served = bench.one_server(bench.exponential(MANY, 1) / 0.5, units)
    known = closed.mg1(0.5, 1.0, variation)
    assert served.end_to_end.mean() == pytest.approx(known.time, rel=0.01)
    assert served.queueing.mean() == pytest.approx(known.waiting, rel=0.01)
    assert served.mean_number == pytest.approx(known.number, rel=0.01)
    assert served.utilisation == pytest.approx(known.utilisation, rel=0.01)
    if name == "M/M/1":
        p90 = closed.mm1_percentile(0.5, 1.0, 90)
        assert served.percentiles("end_to_end", [90])[0] == pytest.approx(p90, rel=0.01)


def test_steps_proportional_to_the_batch_share_the_processor_whatever_the_lengths() -> None:
    for check in bench.shared(100_000, loads=(0.6,)):
        assert check.found == pytest.approx(check.known, rel=0.01), check.what
        assert check.little < 1e-12


def test_shared_time_is_proportional_to_ones_own_length() -> None:
    units = bench.two_kinds(100_000, 3)
    served = bench.sharing(bench.exponential(100_000, 1) / 0.6, units)
    short, long = (served.end_to_end[units == alone].mean() / alone for alone in (0.5, 5.5))
    assert long == pytest.approx(short, rel=0.02)
    assert short == pytest.approx(1 / (1 - 0.6), rel=0.02)


def test_workers_with_one_queue_are_erlang_c() -> None:
    for check in bench.several(200_000):
        assert check.found == pytest.approx(check.known, rel=0.01), check.what


def test_waiting_users_are_the_machine_repairman() -> None:
    for check in bench.users(200_000):
        assert check.found == pytest.approx(check.known, rel=0.01), check.what


@pytest.mark.parametrize(("variation", "noise"), [(0.5, 0.02), (2.0, 0.04)])
def test_regular_and_bursty_arrivals_wait_as_known(variation: float, noise: float) -> None:
    load = draw_open_load(GammaArrivals(0.5, variation), FixedLength(1), GeometricLength(1000), count=MANY, seed=4)
    # A geometric answer of mean 1000 decodes 999 steps after its first token, which is nearly exponential.
    served = simulate(load, step_times_from_table([1 / 999]), FleetScheduling(prefill="first"))
    assert served.queueing.mean() == pytest.approx(closed.gm1(0.5, variation, 1.0).waiting, rel=noise)


@pytest.mark.parametrize("prefill", ["mixed", "first", "apart"])
def test_littles_law_holds_to_rounding(prefill: str) -> None:
    load = draw_open_load(PoissonArrivals(12), LognormalLength(800, 1), LognormalLength(200, 1), count=20_000, seed=1)
    served = simulate(load, bench.chat(), FleetScheduling(replicas=3, prefill=prefill))  # type: ignore[arg-type]
    number = closed.little(served.throughput, float(served.end_to_end.mean()))
    assert served.mean_number == pytest.approx(number, rel=1e-12)


def test_closed_forms_agree_with_each_other() -> None:
    assert closed.mm1(0.7, 1).time == pytest.approx(1 / 0.3)
    assert closed.md1(0.7, 1).waiting == pytest.approx(closed.mm1(0.7, 1).waiting / 2)
    assert closed.mmc(0.7, 1, 1) == pytest.approx(closed.mm1(0.7, 1))
    assert closed.gm1(0.7, 1, 1) == pytest.approx(closed.mm1(0.7, 1))
    assert closed.mg1_ps(0.7, 1).number == pytest.approx(closed.mm1(0.7, 1).number)
    assert closed.mmc(1.4, 1, 2).waiting == pytest.approx(0.49 / 0.51)
    assert closed.users(1, 3, 1).time == 1
    assert closed.users(500, 3, 1).utilisation == pytest.approx(1)
    assert closed.mm1_percentile(0.5, 1, 50) == pytest.approx(2 * np.log(2))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: closed.mm1(0, 1), "rate of requests must be more than 0, not 0"),
        (lambda: closed.mm1(1, -1), "service time must be more than 0, not -1"),
        (lambda: closed.mm1(2, 1), "200 % of what 1 server can do"),
        (lambda: closed.mg1(0.5, 1, -1), "variation of the service time must be 0 or more"),
        (lambda: closed.mmc(1, 1, 0), "number of servers must be at least 1"),
        (lambda: closed.gm1(0.5, -1, 1), "variation of the gaps must be 0 or more"),
        (lambda: closed.users(0, 1, 1), "number of users must be at least 1"),
        (lambda: closed.users(1, -1, 1), "thinking time must be 0 seconds or more"),
        (lambda: closed.users(1, 1, 0), "service time must be more than 0 seconds"),
        (lambda: closed.mm1_percentile(0.5, 1, 100), "percentile must be from 0 to below 100"),
    ],
)
def test_an_impossible_queue_raises_a_one_sentence_error(call: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()  # type: ignore[operator]
