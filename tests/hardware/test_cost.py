"""Dollars, joules, and requests in flight."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.chip import chip
from mixtura.hardware.cost import SiteAssumptions, concurrency, dollars, dollars_an_hour, joules

LPU = chip("lpu_v1")
# The assumptions behind the checked claim: three years, full utilisation, no cooling, 8 cents per kWh.
PLAIN = SiteAssumptions(life=(3, 3), utilisation=(1, 1), pue=(1, 1), electricity=(0.08, 0.08))


def test_four_thousand_lpus_cost_about_three_thousand_dollars_an_hour() -> None:
    found = dollars_an_hour(LPU, 4000, PLAIN)
    assert float(found.low) == float(found.high) == pytest.approx(3000 + 65, rel=0.02)


def test_a_micro_batch_of_thirteen_breaks_even_at_three_dollars_a_million() -> None:
    rates = np.array([12, 15]) / 46.8e-6
    assert list(dollars(LPU, 4000, rates, PLAIN).high > 3) == [True, False]


def test_joules_are_watts_times_seconds() -> None:
    found = joules(LPU, 100, 1000, SiteAssumptions(pue=(1, 1.5)))
    assert float(found.low) == pytest.approx(100 * 215 * 1000)
    assert float(found.high) == pytest.approx(1.5 * float(found.low))


@given(chips=st.floats(1, 1e4), rate=st.floats(1, 1e7))
def test_ranges_run_from_low_to_high_and_scale_with_chips_over_rate(chips: float, rate: float) -> None:
    for price in (dollars, joules):
        one = price(chip("wse3"), chips, rate)
        assert 0 < float(one.low) <= float(one.middle) <= float(one.high)
        assert float(price(chip("wse3"), 2 * chips, rate).high) == pytest.approx(2 * float(one.high))
        assert float(price(chip("wse3"), chips, 2 * rate).low) == pytest.approx(float(one.low) / 2)


def test_arrays_of_chips_and_rates_are_priced_at_once() -> None:
    assert dollars(LPU, np.array([[8], [16]]), np.array([1.0, 2.0, 3.0])).low.shape == (2, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"life": (0, 3)}, {"life": (5, 3)}, {"utilisation": (0.5, 1.2)}, {"pue": (0.9, 1.1)}, {"electricity": (-1, 1)}],
)
def test_assumptions_out_of_range_raise_an_error(wrong: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SiteAssumptions(**wrong)  # type: ignore[arg-type]  # one assumption at a time


def test_the_error_for_a_missing_price_or_power_names_the_field() -> None:
    with pytest.raises(ConfigError, match="no price is known for lpu_v1: add price"):
        dollars(msgspec.structs.replace(LPU, price=None), 1, 1)
    with pytest.raises(ConfigError, match="the power of lpu_v1 is not known: add power"):
        joules(msgspec.structs.replace(LPU, power=None), 1, 1)


@pytest.mark.parametrize(("chips", "rate"), [(0, 1), (-1, 1), (1, 0), (1, float("nan")), (float("inf"), 1)])
def test_no_chips_and_no_tokens_are_refused(chips: float, rate: float) -> None:
    for price in (dollars, joules):
        with pytest.raises(ConfigError, match="expected more than 0"):
            price(LPU, chips, rate)


def test_with_time_independent_of_load_concurrency_is_littles_law() -> None:
    found = concurrency([0, 0.5, 3], lambda n: np.full_like(n, 4.0), most=100)
    assert list(found) == pytest.approx([0, 2, 12])


@given(rate=st.floats(0.01, 0.9), service=st.floats(0.01, 10))
def test_with_time_growing_with_load_concurrency_is_the_fixed_point(rate: float, service: float) -> None:
    """W = s (1 + N) is the processor-sharing queue seen by an arrival: N = rho / (1 - rho)."""
    found = float(concurrency(rate / service, lambda n: service * (1 + n), most=1e4))
    assert found == pytest.approx(rate / (1 - rate), rel=1e-6)


def test_concurrency_is_the_least_of_several_fixed_points() -> None:
    def residence(n: np.ndarray) -> np.ndarray:
        return np.where(n < 10, 1.0, 5.0)

    assert float(concurrency(5, residence, most=100)) == pytest.approx(5)


def test_the_error_for_too_many_arrivals_gives_the_greatest_rate_served() -> None:
    with pytest.raises(ConfigError, match=r"serve at most 9\.901 with 100 in flight"):
        concurrency(20, lambda n: 0.1 * (1 + n), most=100)
    with pytest.raises(ConfigError, match="expected 0 or more"):
        concurrency(-1, lambda n: n + 1, most=1)
    with pytest.raises(ConfigError, match="holds none"):
        concurrency(1, lambda n: n + 1, most=0)
