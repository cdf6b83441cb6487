"""The LPU step model, and the fit behind its coefficients."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from calibration import assembly
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware import lpu, onchip
from mixtura.hardware.chip import chip
from mixtura.hardware.onchip import OnChipLayout
from mixtura.hardware.shapes import shape

V1, LP30 = chip("lpu_v1"), chip("lp30")
K2 = shape("kimi-k2")
FITTED = lpu.coefficients()


def tokens_a_second(name: str) -> float:
    return 1 / float(lpu.step(shape(name), V1).seconds)


def test_the_shipped_coefficients_meet_the_required_error() -> None:
    assert FITTED.left_out <= 0.15
    assert FITTED.layer > 0
    assert FITTED.experts > 0


@pytest.mark.parametrize(
    ("name", "recorded"), [("kimi-k2", 350), ("llama-4-scout", 442), ("llama-4-maverick", 449), ("qwen3-32b", 415)]
)
def test_predictions_meet_recorded_speeds_within_the_spread(name: str, recorded: float) -> None:
    assert tokens_a_second(name) == pytest.approx(recorded, rel=2 * FITTED.spread)


def test_a_token_is_mostly_the_latency_of_its_layers_and_hardly_the_size_of_the_model() -> None:
    step = lpu.step(K2, V1)
    assert step.bound == "layers"
    assert float(step.parts["layers"] + step.parts["experts"]) > 0.95 * float(step.seconds)
    per_layer = [float(lpu.step(shape(name), V1).seconds) / shape(name).layers for name in ("gemma-2-9b", "kimi-k2")]
    assert per_layer[1] / per_layer[0] < 1.4


def test_reading_sram_is_the_floor_of_full_chips() -> None:
    """230 MB at 80 TB/s are 2.9 us per layer of any dense model, with the output matrix as one more layer."""
    dense = shape("llama-3.3-70b")
    assert float(lpu.step(dense, V1, context=1).parts["sram"]) / (dense.layers + 1) == pytest.approx(2.9e-6, rel=0.02)
    sparse = float(lpu.step(shape("gpt-oss-120b"), V1, context=1).parts["sram"])
    assert sparse / 36 < 0.4e-6


def test_kimi_k2_needs_the_chips_that_follow_from_its_bits() -> None:
    assert int(lpu.chips_needed(K2, V1, 1, 1, OnChipLayout(bits=8))) == 4463
    assert int(lpu.chips_needed(K2, V1, 1, 1, OnChipLayout(bits=4.5))) == 2511
    assert onchip.bits_that_fit(K2, V1, 4000) == pytest.approx(7.17, abs=0.01)


def test_the_error_for_a_model_that_does_not_fit_gives_the_chips_it_needs() -> None:
    with pytest.raises(
        ConfigError, match=r"kimi-k2 with 1 x 1,024 tokens .* needs 4,463 lpu_v1, more than the 4,000 given"
    ):
        lpu.step(K2, V1, layout=OnChipLayout(chips=4000))
    assert lpu.step(K2, V1, layout=OnChipLayout(chips=4000, bits=6.0)).seconds > 0


def test_a_full_pipeline_ends_a_micro_batch_per_time_of_the_slowest_layer() -> None:
    layer = FITTED.layer + FITTED.experts
    rate = float(lpu.throughput(K2, V1, 61))
    assert rate == pytest.approx(1 / layer, rel=0.03)
    assert float(lpu.throughput(K2, V1, 61 * 4)) == pytest.approx(4 * rate, rel=0.05)


def test_more_users_than_layers_share_micro_batches_and_cost_arithmetic() -> None:
    few, many = lpu.step(K2, V1, np.array([61, 6100]), 1024).seconds
    assert many > few
    step = lpu.step(K2, V1, np.array([61, 6100]), 1024)
    assert step.parts["compute"][1] > 5 * step.parts["compute"][0]


def test_there_are_never_more_micro_batches_than_layers() -> None:
    most, all_users, few = (
        float(lpu.step(K2, V1, 122, layout=OnChipLayout(groups=groups)).seconds) for groups in (None, 122, 10)
    )
    assert all_users == most
    assert few > most  # larger micro-batches: more arithmetic in each


def test_sixteen_bits_are_stored_in_eight() -> None:
    model = shape("llama-3.3-70b")
    assert int(lpu.chips_needed(model, V1, 1, 1)) == pytest.approx(model.weights / V1.memory, abs=1)
    assert int(lpu.chips_needed(model, V1, 1, 1, OnChipLayout(fill=0.5))) == pytest.approx(
        2 * model.weights / V1.memory, abs=1
    )


def test_an_unmeasured_lpu_lies_between_its_hops_and_the_measured_chip() -> None:
    old, new = lpu.step(K2, V1), lpu.step(K2, LP30)
    hops = 2 * K2.layers * lpu.hop(LP30, 8e9)
    assert hops < float(new.parts["layers"]) < float(old.parts["layers"])
    assert new.spread > 3 * old.spread
    assert float(new.low) < 3 * hops
    assert float(new.high) > float(old.seconds)


def test_latency_between_chips_is_interpolated_between_published_points() -> None:
    assert lpu.hop(LP30, 8e9) == pytest.approx(0.35e-6)
    assert lpu.hop(LP30, 96e9) == pytest.approx(0.95e-6)
    assert lpu.hop(LP30, 1e15) == pytest.approx(2.95e-6)
    with pytest.raises(ConfigError, match="lpu_v1 has no latency between chips"):
        lpu.hop(V1, 1e9)


def test_a_chip_without_published_latency_has_the_measured_one_with_a_wide_spread() -> None:
    step = lpu.step(K2, msgspec.structs.replace(V1, name="own"))
    assert float(step.seconds) == float(lpu.step(K2, V1).seconds)
    assert step.spread > FITTED.spread


@given(
    batch=st.floats(1, 1e4),
    context=st.floats(1, 1e5),
    name=st.sampled_from(["kimi-k2", "llama-4-maverick", "gpt-oss-20b"]),
)
def test_parts_add_up_and_none_is_negative(batch: float, context: float, name: str) -> None:
    step = lpu.step(shape(name), V1, batch, context)
    assert all(float(part) >= 0 for part in step.parts.values())
    assert float(sum(step.parts.values())) == pytest.approx(float(step.seconds))


@given(batch=st.floats(1, 5e3), factor=st.floats(1, 4))
def test_with_given_chips_more_users_never_take_less_time_nor_give_less(batch: float, factor: float) -> None:
    layout = OnChipLayout(chips=20_000)
    users = np.array([batch, batch * factor])
    seconds, rates = lpu.step(K2, V1, users, layout=layout).seconds, lpu.throughput(K2, V1, users, layout=layout)
    assert seconds[1] >= seconds[0] * (1 - 1e-4)  # KV cache shifts a little memory from the head to the layers
    assert rates[1] >= rates[0] * (1 - 1e-4)


def test_arrays_of_users_and_contexts_give_what_each_pair_gives() -> None:
    users, context = np.array([[1.0], [64.0]]), np.array([100.0, 1000.0, 10_000.0])
    whole = lpu.step(K2, V1, users, context).seconds
    assert whole.shape == (2, 3)
    for row, column in np.ndindex(whole.shape):
        one = float(lpu.step(K2, V1, users[row, 0], context[column]).seconds)
        assert one == pytest.approx(whole[row, column])


@pytest.mark.parametrize("sizes", [(0, 1024), (-1, 1024), (1, 0), (float("nan"), 1), (1, float("inf"))])
def test_sizes_out_of_range_raise_an_error(sizes: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="expected more than 0"):
        lpu.step(K2, V1, *sizes)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"chips": 0}, "chips"), ({"bits": -1}, "bits"), ({"fill": 1.5}, "at most the whole"), ({"kv": "fp7"}, "fp7"),
     ({"groups": 0}, "groups")],
)  # fmt: skip
def test_an_impossible_layout_raises_an_error(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        OnChipLayout(**wrong)  # type: ignore[arg-type]  # what a user may write


def test_another_kind_of_chip_raises_an_error() -> None:
    with pytest.raises(ConfigError, match="h100_sxm is of the kind gpu, not lpu"):
        lpu.step(K2, chip("h100"))


def test_a_kv_cache_larger_than_the_memory_leaves_no_bits() -> None:
    with pytest.raises(ConfigError, match="give more chips"):
        onchip.bits_that_fit(K2, V1, 10, kv=1e12)


def made_of(folder: Path, layer: float, experts: float) -> Path:
    """Write published and recorded speeds that follow the model with these microseconds."""
    known = msgspec.structs.replace(FITTED, layer=layer * 1e-6, experts=experts * 1e-6)
    rates = {
        name: 1 / float(lpu.step(shape(name), V1, fitted=known).seconds)
        for name in ("gemma2-9b-it", "gpt-oss-20b", "qwen3-32b", "llama-3.3-70b", "llama-4-scout", "kimi-k2-0905")
    }
    pages = ["model,provider_hw,kind,tok_s_user,other,date,source,confidence"]
    pages += [f"{name},Groq LPU,API usage,{rate!r},n=9,2026-01..02,made,wire" for name, rate in rates.items()]
    pages += ["gpt-oss-20b,Groq LPU,docs,9999,,2026,made,vendor claim", "gpt-oss-20b,GPU,AA,1,,2026,made,claim"]
    pages += ["llama-3.1-70b specdec,Groq LPU,API usage,9999,n=99,2025,made,wire"]
    pages += [f"{name},Cerebras WSE-3,AA,{rate},,2026-05,made,third" for name, rate in
              (("llama-3.1-8b", "1800-2200"), ("gpt-oss-120b", "1700"), ("kimi-k2.6", "981"))]  # fmt: skip
    pages += ["llama-3.1-70b,Cerebras WSE-3,AA,2100,spec decoding,2024-10,made,third"]
    replies = ["model,created,completion_tokens,completion_time"]
    replies += ["llama3-8b-8192,1749229135,10,1.0", "openai/gpt-oss-20b,1749229135,100,99.0"]
    (folder / "hardware").mkdir()
    (folder / "timings").mkdir()
    (folder / "hardware" / "published_speeds.csv").write_text("\n".join(pages), "utf-8")
    (folder / "timings" / "groq_usage_dev.csv").write_text("\n".join(replies), "utf-8")
    return folder / "hardware"


@pytest.mark.slow
def test_the_fit_recovers_the_latencies_behind_synthetic_speeds(tmp_path: Path) -> None:
    fits = assembly.fit(made_of(tmp_path, 30, 15), tmp_path)
    found = fits.lpu.coefficients
    assert isinstance(found, lpu.LpuCoefficients)
    assert (found.layer, found.experts) == pytest.approx((30e-6, 15e-6), rel=1e-2)
    assert found.left_out < 0.01
    assert (found.models, found.date) == (6, "2026-02")
    assert msgspec.json.decode((tmp_path / "lpu.json").read_bytes(), type=lpu.LpuCoefficients) == found


@pytest.mark.slow
def test_the_fit_gives_a_reason_for_each_speed_it_leaves_out(tmp_path: Path) -> None:
    points = assembly.fit(made_of(tmp_path, 30, 15), None).lpu.points
    reasons = {(point.speed.kind, point.speed.speculative): point.speed.left for point in points if point.speed.left}
    assert reasons[("docs", False)] == "the vendor's page, no measurement"
    assert reasons[("API usage", True)] == "speculative"
    assert "of as many replies or more" in reasons[("API usage", False)]
    assert not any(point.speed.model == "llama3-8b-8192" for point in points)  # its one reply is too short


def test_the_fit_names_the_file_it_misses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"published_speeds\.csv"):
        assembly.fit(tmp_path)
