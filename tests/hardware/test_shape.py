"""Shapes of models: counts against published figures, bytes of weights and KV cache, names."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.precision import BITS, bits, bytes_of, precision_named
from mixtura.hardware.shape import LatentAttention, ModelShape
from mixtura.hardware.shapes import read_shapes, shape, shipped_shapes
from mixtura.models.catalog import Catalog

EVERY = sorted({each.name for each in shipped_shapes().values()})

# Counted by another program from the config.json files of aiconfigurator-core 0.12.0: total, active without and with
# the input embedding, routed (billions), parameters of an expert (millions), bytes of KV cache per token in bf16.
COUNTED = {
    "llama-3.1-8b": (8.03, 7.50, None, 0, None, 131_072),
    "llama-3.3-70b": (70.55, 69.50, None, 0, None, 327_680),
    "gemma-2-9b": (9.24, 9.24, None, 0, None, 344_064),
    "gpt-oss-20b": (20.91, 3.61, 4.19, 19.12, 24.89, 49_152),
    "gpt-oss-120b": (116.83, 5.13, 5.71, 114.70, 24.89, 73_728),
    "kimi-k2": (1026.4, 31.69, 32.86, 1014.7, 44.04, 70_272),
    "deepseek-v3": (671.0, 36.63, 37.55, 653.9, 44.04, 70_272),
    "llama-4-scout": (107.8, 16.14, 17.17, 96.6, 125.8, 196_608),
    "llama-4-maverick": (400.7, 16.15, 17.19, 386.6, 125.8, 196_608),
    "qwen3-32b": (32.76, 31.98, None, 0, None, 262_144),
    "qwen3-30b-a3b": (30.53, 3.04, 3.35, 28.99, 4.72, 98_304),
    "qwen3-235b-a22b": (235.1, 21.57, 22.19, 227.1, 18.87, 192_512),
    "mixtral-8x7b": (46.70, 12.75, 12.88, 45.1, 176.2, 131_072),
}
# Chat models of Groq's catalogue without a known config.json.
SHAPELESS = {"qwen/qwen3.8-27b", "qwen/qwen3.6-27b", "groq/compound", "groq/compound-mini", "allam-2-7b"}


def small(**changed: object) -> ModelShape:
    sizes: dict[str, object] = {
        "name": "small",
        "layers": 4,
        "hidden": 8,
        "vocabulary": 10,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 2,
        "inner": 16,
    }
    return msgspec.convert({**sizes, **changed}, ModelShape)


@pytest.mark.parametrize("name", EVERY)
def test_the_count_from_the_shape_meets_the_published_one(name: str) -> None:
    model = shape(name)
    published = model.published
    assert published is not None
    assert published.source
    assert published.date >= "2026"
    assert model.weights == pytest.approx(published.total, rel=0.01)
    if published.active is not None:
        counted = model.active + (model.embedding if published.with_embedding else 0)
        assert counted == pytest.approx(published.active, rel=0.01)


@pytest.mark.parametrize("name", COUNTED)
def test_another_program_counted_the_same(name: str) -> None:
    total, active, with_embedding, routed, expert, kv = COUNTED[name]
    model = shape(name)
    assert model.weights / 1e9 == pytest.approx(total, rel=1e-3)
    assert model.active / 1e9 == pytest.approx(active, rel=2e-3)
    assert model.routed_weights / 1e9 == pytest.approx(routed, rel=1e-3)
    assert model.kv_bytes() == kv
    if with_embedding is not None:
        assert (model.active + model.embedding) / 1e9 == pytest.approx(with_embedding, rel=1e-3)
    if expert is not None:
        assert model.expert_weights / 1e6 == pytest.approx(expert, rel=1e-3)


def test_checkpoints_take_the_bytes_that_are_published() -> None:
    # gpt-oss: 60.8 and 12.8 GiB (model card). Llama in bf16: two bytes a parameter.
    assert shape("gpt-oss-120b").memory() / 2**30 == pytest.approx(60.8, rel=0.01)
    assert shape("gpt-oss-20b").memory() / 2**30 == pytest.approx(12.8, rel=0.01)
    assert shape("llama-3.1-8b").memory() == 2 * 8_030_261_248
    assert shape("kimi-k2.5").memory() == pytest.approx(594e9, rel=0.01)  # int4 experts, bf16 rest


def test_a_precision_given_alone_is_that_of_the_experts_too() -> None:
    model = shape("gpt-oss-120b")
    assert model.memory("bf16") == 2 * model.weights
    assert model.memory("bf16", "mxfp4") == model.memory()
    assert model.memory(expert_precision="fp8") > model.memory()
    assert model.memory("fp8") == model.weights + model.embedding + model.head


def test_each_parameter_is_counted_once() -> None:
    # By hand: embedding 80; attention 8*8 + 2*8*4 + 8*8 = 192; block 3*8*16 = 384; norms 2*8; the last norm 8.
    assert small().weights == 80 + 4 * (192 + 384 + 16) + 8 + 80
    assert small().active == small().unrouted == small().weights - 80
    tied = small(tied=True)
    assert tied.weights == tied.active == small().weights - 80
    routed = small(inner=0, experts=4, used=2, expert_inner=3, shared=1, shared_inner=5)
    assert routed.moe_layers == 4
    assert routed.weights == 80 + 4 * (192 + 16 + 4 * 8 + 4 * 72 + 120) + 8 + 80
    assert routed.active == routed.unrouted + 4 * 2 * 72 == routed.weights - 80 - 4 * 2 * 72


def test_latent_attention_is_counted_with_and_without_compressed_queries() -> None:
    mla = {"q_rank": 3, "kv_rank": 4, "nope": 2, "rope": 1, "value": 2}
    down, up, out = 8 * 5 + 4, 4 * 4 * 4, 4 * 2 * 8
    assert small(mla=mla).attention_weights == 8 * 3 + 3 + 3 * 4 * 3 + down + up + out
    assert small(mla={**mla, "q_rank": 0}).attention_weights == 8 * 4 * 3 + down + up + out
    assert small(mla=mla).kv_bytes() == 4 * 5 * 2
    assert small(mla=mla).mla == LatentAttention(**mla)


@given(context=st.lists(st.integers(1, 300_000), min_size=1, max_size=5))
def test_a_windowed_layer_holds_its_window_at_most(context: list[int]) -> None:
    model = small(window=128, windowed_layers=3)
    held = model.kv_tokens(context)
    assert held.shape == (len(context),)
    np.testing.assert_allclose(held, [(each + 3 * min(each, 128)) / 4 for each in context])
    np.testing.assert_allclose(model.kv_read(context, "fp8"), held * 4 * 2 * 2 * 2)
    np.testing.assert_allclose(small().kv_tokens(context), context)


def test_half_of_gpt_oss_looks_back_128_tokens() -> None:
    model = shape("gpt-oss-120b")
    assert float(model.kv_read(128)) == 128 * 73_728
    assert float(model.kv_read(1128)) == (128 + 500) * 73_728


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("groq/openai/gpt-oss-120b", "gpt-oss-120b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("meta-llama/Llama-3.1-70B", "llama-3.1-70b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b"),
        ("meta-llama/Llama-2-70b-chat-hf", "llama-2-70b"),
        ("groq/llama-3.3-70b-versatile", "llama-3.3-70b"),
        ("moonshotai/Kimi-K2-Instruct-0905", "kimi-k2"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
    ],
)
def test_a_model_is_found_by_each_of_its_names(asked: str, name: str) -> None:
    assert shape(asked).name == name


def test_the_name_of_a_stored_form_sets_the_precision() -> None:
    assert shape("Qwen/Qwen3-235B-A22B").precision == "bf16"
    assert shape("Qwen/Qwen3-235B-A22B-FP8").precision == "fp8"
    assert shape("nvidia/Llama-3.1-8B-Instruct-FP8").precision == "fp8"
    four = shape("nvidia/DeepSeek-R1-FP4")
    assert (four.precision, four.expert_precision) == ("fp8", "nvfp4")
    assert shape("openai/gpt-oss-120b-bf16").memory() == 2 * shape("gpt-oss-120b").weights


@pytest.mark.parametrize("model", sorted(row.id for row in Catalog.load().models("groq") if row.chat))
def test_every_chat_model_of_groq_has_a_shape_or_a_stated_exception(model: str) -> None:
    if model in SHAPELESS:
        with pytest.raises(ConfigError, match=r"unknown model shape .*config\.json works too"):
            shape(model)
    else:
        assert shape(f"groq/{model}") is shape(model)


def test_the_error_for_an_unknown_name_lists_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"^unknown model shape 'gpt-os-120b': nearest are gpt-oss-120b"):
        shape("openai/gpt-os-120b")
    for strange in ("", " ", "-fp8", "x" * 5000, "a\0b"):
        with pytest.raises(ConfigError, match="unknown model shape"):
            shape(strange)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layers": 0}, r"^small: layers is 0, expected 1 to 10,000,000$"),
        ({"hidden": -8}, "small: hidden is -8"),
        ({"vocabulary": 10**12}, "small: vocabulary is 1000000000000"),
        ({"inner": 0}, "small: inner is 0"),
        ({"kv_heads": 3}, "4 heads cannot share 3 kv_heads evenly"),
        ({"kv_heads": 8}, "kv_heads is 8, more than the 4 heads"),
        ({"experts": 4, "used": 5, "expert_inner": 2}, "used is 5, more than the 4 experts"),
        ({"experts": 4, "used": 2}, "expert_inner is 0"),
        ({"experts": 4, "used": 2, "expert_inner": 2, "groups": 3}, "4 experts cannot be split into 3 equal groups"),
        ({"dense_layers": 2}, "2 layers have neither a dense block nor experts"),
        ({"dense_layers": 5}, "dense_layers is 5, more than the 4 layers"),
        ({"windowed_layers": 2}, "window is 0"),
        ({"shared": 1, "experts": 4, "used": 2, "expert_inner": 2}, "shared_inner is 0"),
        ({"mla": {"q_rank": 0, "kv_rank": 0, "nope": 1, "rope": 1, "value": 1}}, "kv_rank is 0"),
        ({"precision": "fp9"}, "unknown precision 'fp9'"),
        ({"expert_precision": "bf61"}, "unknown precision 'bf61'"),
    ],
)
def test_impossible_sizes_raise_a_one_sentence_error(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        small(**changed)
    assert "\n" not in str(caught.value)


def test_formats_have_their_bits_scales_included() -> None:
    assert (bits("bf16"), bits("mxfp4"), bits("nvfp4"), bytes_of("fp8")) == (16, 4.25, 4.5, 1.0)
    assert precision_named("bfloat16") == "bf16"
    assert precision_named("FP8-E4M3") == "fp8"
    assert all(precision_named(name) == name for name in BITS)
    with pytest.raises(ConfigError, match="unknown precision 'mxfp5': nearest are mxfp4"):
        bits("mxfp5")
    with pytest.raises(ConfigError, match="known are bf16, fp16"):
        bits("?")


def test_a_users_shapes_are_searched_before_the_shipped_ones(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[models]]\nname = "ours"\naliases = ["me/Ours"]\nlike = "gpt-oss-20b"\nlayers = 48\n'
        'published = { total = 41, source = "we counted", date = "2026-11-22" }\n'
        '[[models]]\nname = "llama-3.1-8b"\nlike = "ours"\nprecision = "fp8"\n'
    )
    own = read_shapes(file)
    assert shape("me/ours", own).layers == 48
    assert shape("ours", own).published.total == 41e9  # type: ignore[union-attr]
    assert shape("meta-llama/Llama-3.1-8B-Instruct", own).experts == 32 != shape("llama-3.1-8b").experts
    assert shape("qwen3-8b", own) is shape("qwen3-8b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"expected \[\[models\]\] tables"),
        ("models = 3", r"expected \[\[models\]\] tables"),
        ("[[models]", "not a TOML file"),
        ('[[models]]\nname = "a"', "a: Object missing required field `layers`"),
        ("[[models]]\nlayers = 3", "model 1: Object missing required field `name`"),
        ('[[models]]\nname = "a"\nlike = "gpt-oss-20b"\nlayer = 3', "a: .*unknown field `layer`"),
        ('[[models]]\nname = "a"\nlike = "gpt-oss-20b"\nlayers = "x"', r"a: Expected `int`, got `str`"),
        ('[[models]]\nname = "a"\nlike = "gpt-oss-20b"\nlayers = 0', "a: layers is 0"),
        ('[[models]]\nname = "a"\nlike = "gpt-os-20b"', "unknown model shape 'gpt-os-20b': nearest are gpt-oss-20b"),
        (2 * '[[models]]\nname = "a"\naliases = ["A"]\nlike = "phi-4"\n', "a: a already has the name 'a'"),
    ],
)
def test_an_invalid_file_of_shapes_raises_a_one_sentence_error(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_shapes(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("nvidia/Kimi-K2-Thinking-NVFP4", "kimi-k2"),
        ("amd/Llama-3.3-70B-Instruct-MXFP4-Preview", "llama-3.3-70b"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8", "qwen3-30b-a3b"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
    ],
)
def test_suffixes_of_repositories_do_not_hide_a_model(name: str, found: str) -> None:
    assert shape(name).name == found
