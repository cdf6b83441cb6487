"""A model on machines: predictions with the shipped factors, and step times for the simulator."""

import numpy as np
import pytest

from mixtura.errors import ConfigError
from mixtura.hardware.chip import chip, chips
from mixtura.hardware.fitted import FIRST_PARTS, PARTS, engines, factors, first_token, load_factors, token_step
from mixtura.hardware.gpu import GpuSetup, SteadyLoad
from mixtura.hardware.host import host
from mixtura.hardware.serving.arrivals import FixedLength, PoissonArrivals, draw_open_load
from mixtura.hardware.serving.simulator import simulate
from mixtura.hardware.shapes import shape

LOAD = SteadyLoad(np.array([1.0, 8.0, 64.0]), 1024, 1024)


def test_every_work_belongs_to_one_reported_part() -> None:
    assert sorted(name for names in PARTS.values() for name in names) == sorted(load_factors().token.works)
    assert sorted(name for names in FIRST_PARTS.values() for name in names) == sorted(load_factors().first.works)


# Measured times per token at 4, 16 and 64 users with 1,024 tokens in and out, milliseconds (InferenceMAX, 2025-2026).
@pytest.mark.parametrize(
    ("model", "on", "count", "engine", "precision", "measured"),
    [
        ("gpt-oss-120b", "h100", 2, "vllm", None, (5.20, 8.31, 15.06)),
        ("gpt-oss-120b", "b200", 1, "vllm", None, (3.80, 6.06, 10.65)),
        ("llama-3.1-70b", "b200", 1, "vllm", "nvfp4", (12.06, 13.11, 16.92)),
        ("deepseek-r1", "h200", 8, "sglang", "fp8", (12.12, 17.51, 32.48)),
    ],
)
def test_measured_points_lie_within_a_third_of_the_prediction(
    model: str, on: str, count: int, engine: str, precision: str | None, measured: tuple[float, ...]
) -> None:
    found = host(model, on, count, engine=engine, setup=GpuSetup(precision=precision))
    step = found.token(SteadyLoad(np.array([4.0, 16.0, 64.0]), 1024, 1024))
    assert step.seconds * 1000 == pytest.approx(measured, rel=0.34)
    assert (step.low < step.seconds).all()
    assert (step.seconds < step.high).all()


def test_factors_carry_the_level_of_their_fit_and_the_spread_grows_with_its_distance() -> None:
    h100, a100 = chip("h100"), chip("a100")
    oss, fresh = shape("gpt-oss-120b"), shape("qwen3-32b")
    known = factors(h100, oss, GpuSetup(chips=2), engine="vllm")
    other = factors(h100, fresh, GpuSetup(chips=2), engine="vllm")
    nowhere = factors(a100, fresh, GpuSetup(chips=2))
    assert [known.level, other.level, nowhere.level] == ["engine", "new model", "new chip"]
    assert known.token_spread < other.token_spread <= nowhere.token_spread
    q235 = shape("qwen3-235b-a22b")
    exact = factors(h100, q235, GpuSetup(chips=8, precision="fp8"), engine="trtllm", build="1.0.0rc3")
    assert exact.level in ("build", "setup")


def test_the_error_for_an_engine_without_measurements_lists_the_measured_ones() -> None:
    assert engines() == ("sglang", "trtllm", "vllm")
    with pytest.raises(ConfigError, match=r"unknown engine 'vlm': nearest are vllm"):
        host("gpt-oss-120b", "h100", engine="vlm")


def test_by_default_a_host_has_the_fewest_chips_that_hold_the_model() -> None:
    assert host("llama-3.1-8b", "h100").chips == 1
    assert host("llama-3.3-70b", "h100").chips == 4
    assert host("deepseek-r1", "h200").chips == 8
    assert host("gpt-oss-120b", "lpu").chips > 270
    assert host("gpt-oss-120b", "wse3").chips == 2
    with pytest.raises(ConfigError, match="does not fit 4 x lpu_v1: give at least"):
        host("gpt-oss-120b", "lpu", 4)
    with pytest.raises(ConfigError, match="0 chips cannot hold a model"):
        host("gpt-oss-120b", "h100", 0)
    with pytest.raises(ConfigError, match="does not fit 1 x h100_sxm"):
        host("llama-3.3-70b", "h100", 1)


@pytest.mark.parametrize("on", [each.name for each in chips()])
def test_every_chip_of_the_catalogue_serves_a_small_model(on: str) -> None:
    found = host("llama-3.1-8b", on)
    for step in (found.token(LOAD), found.first(LOAD)):
        assert step.seconds.shape == (3,)
        assert (np.diff(step.seconds) >= -0.01 * step.seconds[0]).all()
        assert (step.seconds > 0).all()
        assert np.isfinite(step.high).all()
        assert step.seconds == pytest.approx(np.sum(np.broadcast_arrays(*step.parts.values()), axis=0))
    assert found.room(2048) >= 8


def test_on_an_lpu_the_time_per_token_hardly_depends_on_the_load_and_on_a_gpu_it_does() -> None:
    lpu, gpu = host("gpt-oss-120b", "lpu"), host("gpt-oss-120b", "h100", 2)
    load = SteadyLoad(np.array([1.0, 32.0]), 1000, 500)
    assert np.divide(*lpu.token(load).seconds[::-1]) < 1.15
    assert np.divide(*gpu.token(load).seconds[::-1]) > 1.8
    assert lpu.token(load).bound == "layers"


def test_the_simulation_of_a_nearly_idle_host_agrees_with_its_step_model() -> None:
    for on in ("h100", "lpu", "wse3"):
        found = host("llama-3.1-8b", on)
        traffic = draw_open_load(PoissonArrivals(0.01), FixedLength(512), FixedLength(128), count=50, seed=1)
        served = simulate(traffic, found.step_times(1024))
        alone = float(found.decode(1, 512 + 64).seconds)
        assert np.median(served.tpot) == pytest.approx(alone, rel=0.05), on


def test_a_host_without_room_for_a_sequence_has_no_step_times() -> None:
    with pytest.raises(ConfigError, match="no sequence of"):
        host("llama-3.3-70b", "h100", 2, setup=GpuSetup(precision="fp8")).step_times(10_000_000)


def test_dollars_are_a_range_and_an_unknown_price_raises_an_error() -> None:
    hour = host("gpt-oss-120b", "h100", 2).hour()
    assert 0 < float(hour.low) < float(hour.high)
    with pytest.raises(ConfigError, match="no price is known for"):
        host("llama-3.1-8b", "tpu_v6e").hour()


def test_predictions_are_vectorised_over_batch_and_prompt() -> None:
    found = host("gpt-oss-120b", "b200")
    batch, prompt = np.meshgrid([1.0, 16.0], [100.0, 1000.0, 10_000.0])
    load = SteadyLoad(batch, prompt, 500.0)
    for predicted in (token_step, first_token):
        whole = predicted(found.shape, found.chip, found.setup, load, found.by)  # type: ignore[arg-type]
        one = predicted(found.shape, found.chip, found.setup, SteadyLoad(16.0, 1000.0, 500.0), found.by)  # type: ignore[arg-type]
        assert whole.seconds.shape == (3, 2)
        assert whole.seconds[1, 1] == pytest.approx(float(one.seconds))
