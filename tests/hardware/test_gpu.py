"""The works of the GPU model: bytes and operations at the data sheet's figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.chip import chip
from mixtura.hardware.gpu import (
    GpuSetup,
    SteadyLoad,
    activated_experts,
    all_experts,
    decode_works,
    first_works,
    memory,
    mixed_works,
    one_tokens_experts,
    prefill_works,
)
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape

H100, B200 = chip("h100_sxm"), chip("b200_sxm")
DENSE, MOE, LATENT = shape("llama-3.1-70b"), shape("gpt-oss-120b"), shape("deepseek-r1")
SHAPES = st.sampled_from([DENSE, MOE, LATENT, shape("qwen3-30b-a3b"), shape("llama-4-scout")])


def test_a_dense_step_reads_all_weights_once_whatever_the_batch() -> None:
    works = decode_works(DENSE, H100, GpuSetup(chips=4, precision="fp8"), [1, 8, 64], 1000)
    assert works["weights"] == pytest.approx(DENSE.unrouted / 4 / 3.35e12)
    assert works["experts"].tolist() == [0, 0, 0]
    assert works["layers"][0] == pytest.approx(80e-6 * 2**0.25)


def test_a_moe_step_reads_the_experts_that_its_batch_activates() -> None:
    setup = GpuSetup(chips=2)
    works = decode_works(MOE, H100, setup, [1, 16, 4096], 1000)["experts"]
    whole = MOE.routed_weights * 4.25 / 8 / 2 / 3.35e12
    assert works == pytest.approx(whole * np.array([4, 128 * (1 - (124 / 128) ** 16), 128]) / 128)
    assert decode_works(MOE, H100, setup, 16, 1000, all_experts)["experts"] == pytest.approx(whole)
    assert decode_works(MOE, H100, setup, 16, 1000, one_tokens_experts)["experts"] == pytest.approx(whole * 4 / 128)


def test_every_gpu_holds_the_whole_latent_cache_while_kv_heads_are_split() -> None:
    def kv(of: str, chips: int) -> float:
        return float(decode_works(shape(of), H100, GpuSetup(chips=chips), 1, 1000)["kv"])

    assert kv("deepseek-r1", 8) == pytest.approx(kv("deepseek-r1", 1))
    assert kv("llama-3.1-70b", 8) == pytest.approx(kv("llama-3.1-70b", 1) / 8)
    assert kv("llama-3.1-70b", 16) == pytest.approx(kv("llama-3.1-70b", 8)), "a KV head cannot be split in two"


def test_attention_ranks_hold_all_attention_weights_and_their_part_of_the_cache() -> None:
    apart = decode_works(LATENT, B200, GpuSetup(chips=8, attention_ranks=8), 64, 1000)
    split = decode_works(LATENT, B200, GpuSetup(chips=8), 64, 1000)
    assert apart["weights"] == pytest.approx(8 * split["weights"])
    assert apart["kv"] == pytest.approx(split["kv"] / 8)
    assert apart["experts"] == pytest.approx(split["experts"])


def test_a_windowed_layer_reads_at_most_its_window() -> None:
    near, far = (float(decode_works(MOE, H100, GpuSetup(), 1, context)["kv"]) for context in (128, 12800))
    assert far / near == pytest.approx((1 + 100) / 2)


def test_one_gpu_has_no_hops() -> None:
    one, two = (decode_works(DENSE, H100, GpuSetup(chips=chips), 1, 100) for chips in (1, 2))
    assert float(one["hops"]) == float(one["ring"]) == 0
    assert float(two["hops"]) == float(two["ring"]) == pytest.approx(80e-6)
    assert float(prefill_works(DENSE, H100, GpuSetup(), 100)["prefill links"]) == 0


def test_a_prompt_costs_two_operations_a_weight_and_its_causal_scores() -> None:
    setup = GpuSetup(chips=1, precision="bf16")
    tokens = 4096
    works = prefill_works(DENSE, H100, setup, tokens)
    scores = 2 * 80 * 64 * 128 * tokens**2
    assert works["prefill"] * 989e12 == pytest.approx(2 * DENSE.active * tokens + scores, rel=1e-3)


def test_prompts_are_mixed_into_steps_unless_they_have_machines_of_their_own() -> None:
    mixed = mixed_works(DENSE, H100, GpuSetup(chips=4), SteadyLoad(64, 1000, 500))
    alone = prefill_works(DENSE, H100, GpuSetup(chips=4), 1000)["prefill"]
    assert mixed["prefill"] == pytest.approx(64 / 500 * alone)
    assert float(mixed_works(DENSE, H100, GpuSetup(chips=4), SteadyLoad(64, 1000, 500, apart=True))["prefill"]) == 0


def test_a_first_token_waits_for_its_own_prompt_and_for_those_of_others() -> None:
    works = first_works(
        DENSE, H100, GpuSetup(chips=4), SteadyLoad(np.array([1.0, 10.0]), 1000, 500), np.array([0.01, 0.02])
    )
    alone = float(prefill_works(DENSE, H100, GpuSetup(chips=4), 1000)["prefill"])
    assert works["own prefill"] == pytest.approx(alone)
    assert works["other prefill"] == pytest.approx(works["own prefill"] * np.array([1, 10]))
    assert works["step"].tolist() == [0.01, 0.02]


@given(SHAPES, st.integers(1, 512), st.integers(1, 512), st.integers(1, 100_000))
def test_more_sequences_and_more_context_never_take_less(of: ModelShape, small: int, more: int, context: int) -> None:
    batches = np.array([small, small + more])
    works = decode_works(of, B200, GpuSetup(chips=8), batches, np.array([context, context * 2]))
    for name, work in works.items():
        if name != "products":  # what remains of calculating beyond the weights' time may shrink as more experts wake
            assert work[1] >= work[0] * (1 - 1e-12), name
        assert (work >= 0).all()


@given(SHAPES, st.integers(1, 4096))
def test_the_activated_experts_lie_between_one_tokens_and_all(of: ModelShape, batch: int) -> None:
    some = activated_experts(of, np.array([float(batch)]))[0]
    if of.experts:
        assert of.used * (1 - 1e-9) <= some <= of.experts
    else:
        assert some == 0


def test_the_error_for_a_model_that_does_not_fit_gives_the_number_of_gpus() -> None:
    with pytest.raises(ConfigError, match=r"llama-3.1-70b does not fit 1 x h100_sxm: .* give at least 2"):
        memory(DENSE, H100, GpuSetup(precision="bf16"), 1000)
    held = memory(DENSE, H100, GpuSetup(chips=4, precision="bf16"), 8192)
    assert held.weights == pytest.approx(DENSE.memory("bf16") / 4)
    assert held.sequences == int((held.room - held.weights) / (8192 * DENSE.kv_bytes("fp8") / 4))


@pytest.mark.parametrize("given", [{"chips": 0}, {"chips": -1}, {"chips": 2, "attention_ranks": 3}])
def test_impossible_setups_raise_an_error(given: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        GpuSetup(**given)  # type: ignore[arg-type]
