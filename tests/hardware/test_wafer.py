"""The wafer step model."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware import wafer
from mixtura.hardware.chip import chip
from mixtura.hardware.onchip import OnChipLayout
from mixtura.hardware.shapes import shape

WSE = chip("wse3")
FITTED = wafer.coefficients()


@pytest.mark.parametrize(
    ("name", "wafers"),
    [("gpt-oss-20b", 1), ("llama-3.1-70b", 4), ("gpt-oss-120b", 2), ("kimi-k2", 24), ("llama-3.1-405b", 19)],
)
def test_models_need_the_published_number_of_wafers(name: str, wafers: int) -> None:
    assert int(wafer.wafers_needed(shape(name), WSE)) == wafers


@pytest.mark.parametrize(("name", "low", "high"), [("gpt-oss-120b", 1700, 3000), ("kimi-k2.6", 700, 1300)])
def test_published_speeds_lie_near_the_prediction(name: str, low: float, high: float) -> None:
    assert low < 1 / float(wafer.step(shape(name), WSE).seconds) < high


def test_the_time_of_a_layer_is_common_to_published_speeds() -> None:
    assert 8e-6 < FITTED.layer < 17e-6
    assert 3e-6 < FITTED.speculative < 7e-6


def test_speculative_decoding_has_a_time_of_its_own() -> None:
    model = shape("llama-3.1-70b")
    plain, fast = (float(wafer.step(model, WSE, speculative=on).seconds) for on in (False, True))
    assert 1 / fast == pytest.approx(2100, rel=0.02)
    assert fast < plain / 2


def test_only_traffic_between_wafers_crosses_links() -> None:
    assert float(wafer.step(shape("gpt-oss-20b"), WSE).parts["links"]) == 0
    one = shape("kimi-k2")
    assert float(wafer.step(one, WSE).parts["links"]) == pytest.approx(24 * one.hidden * 2 / WSE.link)


def test_the_spread_is_as_wide_as_the_models_left_out_show() -> None:
    step = wafer.step(shape("gpt-oss-120b"), WSE)
    assert step.spread == FITTED.spread > 0.3
    assert float(step.low) < float(step.seconds) < float(step.high)
    assert wafer.step(shape("gpt-oss-120b"), msgspec.structs.replace(WSE, name="own")).spread > FITTED.spread


@given(batch=st.floats(1, 1e4), context=st.floats(1, 1e5))
def test_parts_add_up_and_none_is_negative(batch: float, context: float) -> None:
    step = wafer.step(shape("kimi-k2"), WSE, batch, context)
    assert all(float(part) >= 0 for part in step.parts.values())
    assert float(sum(step.parts.values())) == pytest.approx(float(step.seconds))


def test_throughput_grows_with_users_until_the_wafer_is_busy() -> None:
    rates = wafer.throughput(shape("gpt-oss-120b"), WSE, np.array([1, 8, 36, 360]), layout=OnChipLayout(chips=4))
    assert np.all(np.diff(rates) > 0)
    assert rates[1] == pytest.approx(8 * rates[0], rel=0.01)


def test_the_error_for_a_model_that_does_not_fit_gives_the_wafers_it_needs() -> None:
    with pytest.raises(ConfigError, match="needs 24 wse3, more than the 4 given"):
        wafer.step(shape("kimi-k2"), WSE, layout=OnChipLayout(chips=4))


def test_another_kind_of_chip_and_impossible_sizes_raise_an_error() -> None:
    with pytest.raises(ConfigError, match="lpu_v1 is of the kind lpu, not wafer"):
        wafer.step(shape("kimi-k2"), chip("lpu_v1"))
    with pytest.raises(ConfigError, match="batch of 0: expected more than 0"):
        wafer.step(shape("kimi-k2"), WSE, 0)
    with pytest.raises(ConfigError, match="context of -5"):
        wafer.step(shape("kimi-k2"), WSE, 1, -5)
