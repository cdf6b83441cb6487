"""Shapes from `config.json` files, by family, compared with the rows of the catalogue; and invalid files."""

import contextlib
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.config import FAMILIES, read_config
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
DEEPSEEK: dict[str, object] = {
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8"},
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
KIMI = {**DEEPSEEK, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "n_routed_experts": 384}
KIMI |= {"model_type": "kimi_k2", "num_attention_heads": 64, "num_key_value_heads": 64, "vocab_size": 163840}
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
    "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*", "lm_head"],
}
QWEN_MOE = {
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "attention_bias": True,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
        "quant_method": "mxfp4",
    },
    "sliding_window": 128,
    "vocab_size": 201088,
}
LLAMA_4 = {
    "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text",
        "attention_chunk_size": 8192,
        "head_dim": 128,
        "hidden_size": 5120,
        "interleave_moe_layer_step": 2,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "no_rope_layers": [],
        "num_attention_heads": 40,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "num_local_experts": 128,
        "vocab_size": 202048,
    },
    "vision_config": {"hidden_size": 1408, "num_hidden_layers": 34},
}
SCOUT = {**LLAMA_4, "text_config": {**LLAMA_4["text_config"], "interleave_moe_layer_step": 1, "num_local_experts": 16}}  # type: ignore[dict-item]
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000}
MIXTRAL |= {"sliding_window": None}
GEMMA = {**LLAMA, "model_type": "gemma2", "head_dim": 256, "hidden_size": 3584, "num_attention_heads": 16}
GEMMA |= {"num_hidden_layers": 42, "sliding_window": 4096, "vocab_size": 256000}
del GEMMA["tie_word_embeddings"]
QWEN = {**LLAMA, "model_type": "qwen3", "head_dim": 128, "hidden_size": 5120, "intermediate_size": 25600}
QWEN |= {"num_attention_heads": 64, "num_hidden_layers": 64, "vocab_size": 151936}
QWEN_2 = {**LLAMA, "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "vocab_size": 152064}
QWEN_2 |= {"num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4}
QWEN_2 |= {"sliding_window": 131072, "use_sliding_window": False, "max_window_layers": 28}
GLM: dict[str, object] = {
    "model_type": "glm4_moe",
    "attention_bias": True,
    "first_k_dense_replace": 3,
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "n_group": 1,
    "n_routed_experts": 160,
    "n_shared_experts": 1,
    "num_attention_heads": 96,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 92,
    "num_key_value_heads": 8,
    "topk_group": 1,
    "use_qk_norm": True,
    "vocab_size": 151552,
}
LITE = {**DEEPSEEK, "model_type": "deepseek_v2", "first_k_dense_replace": 1, "hidden_size": 2048, "vocab_size": 102400}
LITE |= {"intermediate_size": 10944, "moe_intermediate_size": 1408, "n_group": 1, "topk_group": 1, "q_lora_rank": None}
LITE |= {"n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 16, "num_experts_per_tok": 6}
LITE |= {"num_hidden_layers": 27, "num_key_value_heads": 16, "topk_method": "greedy", "quantization_config": None}
MINIMAX = {**LLAMA, "model_type": "minimax_m2", "head_dim": 128, "hidden_size": 3072, "intermediate_size": 1536}
MINIMAX |= {"num_attention_heads": 48, "num_experts_per_tok": 8, "num_hidden_layers": 62, "num_local_experts": 256}
MINIMAX |= {"use_qk_norm": True, "vocab_size": 200064, "quantization_config": {"quant_method": "fp8"}}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LLAMA, "llama-3.1-8b"),
        ({**LLAMA, "model_type": "mistral", "vocab_size": 32768, "sliding_window": None}, "mistral-7b"),
        (MIXTRAL, "mixtral-8x7b"),
        (GEMMA, "gemma-2-9b"),
        (QWEN_2, "qwen2.5-7b"),
        (QWEN, "qwen3-32b"),
        (QWEN_MOE, "qwen3-30b-a3b"),
        (GPT_OSS, "gpt-oss-120b"),
        (DEEPSEEK, "deepseek-v3"),
        (LITE, "deepseek-v2-lite"),
        (KIMI, "kimi-k2"),
        ({"model_type": "kimi_k25", "text_config": {**KIMI, "quantization_config": PACKED}}, "kimi-k2.5"),
        (LLAMA_4, "llama-4-maverick"),
        (SCOUT, "llama-4-scout"),
        (GLM, "glm-4.5"),
        (MINIMAX, "minimax-m2"),
    ],
)
def test_a_config_describes_the_shape_of_the_catalogue(config: dict[str, object], name: str) -> None:
    expected = msgspec.structs.replace(shape(name), published=None)
    assert read_config(config, name) == expected


@pytest.mark.parametrize(
    ("found", "precisions"),
    [
        ({"quant_method": "fp8"}, ("fp8", None)),
        ({"quant_method": "fbgemm_fp8"}, ("fp8", None)),
        ({"quant_method": "gptq", "bits": 4}, ("int4", None)),
        ({"quant_method": "awq", "bits": 4}, ("int4", None)),
        ({"quant_method": "gptq", "bits": 8}, ("int8", None)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("int4", None)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("int8", None)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ("nvfp4", None)),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}, ("fp8", None)),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, ("nvfp4", None)),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["a.self_attn"]}, ("bf16", "mxfp4")),
        (PACKED, ("bf16", "int4")),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            ("fp8", None),
        ),
    ],
)
def test_a_quantised_config_sets_the_precision(found: dict[str, object], precisions: tuple[str, str | None]) -> None:
    read = read_config({**QWEN_MOE, "quantization_config": found})
    assert (read.precision, read.expert_precision) == precisions


def test_the_type_of_tensors_is_the_precision_of_what_is_not_quantised() -> None:
    assert read_config({**LLAMA, "torch_dtype": "float16"}).precision == "fp16"
    without = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    assert read_config({**without, "dtype": "torch.float32"}).precision == "fp32"
    assert read_config(without).precision == "bf16"
    with pytest.raises(ConfigError, match="torch_dtype is 'float128', expected one of bfloat16"):
        read_config({**LLAMA, "torch_dtype": "float128"})


def test_windows_and_dense_layers_are_read_where_a_family_has_them() -> None:
    windowed = read_config({**QWEN_2, "use_sliding_window": True, "sliding_window": 1000, "max_window_layers": 20})
    assert (windowed.window, windowed.windowed_layers) == (1000, 8)
    old = read_config({**LLAMA, "model_type": "mistral", "sliding_window": 4096})
    assert (old.window, old.windowed_layers) == (4096, 32)
    mixed = read_config({**QWEN_MOE, "decoder_sparse_step": 2, "mlp_only_layers": [1, 3]})
    assert (mixed.dense_layers, mixed.inner) == (26, 6144)
    shared = read_config({**QWEN_MOE, "model_type": "qwen2_moe", "shared_expert_intermediate_size": 5632})
    assert (shared.shared, shared.shared_inner) == (1, 5632)
    assert shared.extras == frozenset({"qkv_bias"})


def test_a_config_is_given_by_its_file_its_folder_or_its_path_as_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    file = folder / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    for found in (read_config(file), read_config(str(folder)), shape(str(file)), shape(str(folder))):
        assert found.name == "My-Model"
        assert found.weights == 8_030_261_248
    other = file.rename(folder / "other.json")
    assert shape(str(other)).name == "other"
    assert read_config(other, "named").name == "named"
    assert read_config(LLAMA).name == "llama"


def test_the_catalogue_is_searched_before_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gpt-oss-20b", "ours"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    assert shape("gpt-oss-20b").experts == 32
    assert shape("./gpt-oss-20b").experts == 0
    assert shape("ours").name == "ours"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "mamba2"}, r"unknown model_type 'mamba2'; known are deepseek_v2, .*llama4_text"),
        ({"model_type": None}, "model_type is missing; known are deepseek_v2"),
        ({"model_type": ["llama"]}, "unknown model_type"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": 0}, "hidden_size is 0, expected a whole number from 1 up"),
        ({"num_hidden_layers": -3}, "num_hidden_layers is -3"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"vocab_size": 1.5}, "vocab_size is 1.5"),
        ({"vocab_size": "many" * 1000}, "vocab_size is many"),
        ({"vocab_size": 10**30}, "vocabulary is 1000000"),
        ({"num_attention_heads": 33}, "hidden_size 4096 is no multiple of num_attention_heads 33"),
        ({"num_key_value_heads": 5}, "32 heads cannot share 5 kv_heads"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is yes, expected true or false"),
        ({"quantization_config": "fp8"}, "quantization_config is 'fp8', expected an object"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "a quantization_config of aqlm .* is not known"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "gptq with 3 bits is not known"),
        ({"model_type": "mixtral"}, "num_experts or num_local_experts or n_routed_experts is missing"),
        ({"model_type": "deepseek_v3"}, "is missing"),
        ({"model_type": "gemma2", "sliding_window": 9, "layer_types": 3}, "layer_types is 3, expected a list"),
    ],
)
def test_a_config_that_cannot_be_used_raises_a_one_sentence_error(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**LLAMA, **changed}))
    with pytest.raises(ConfigError, match=said) as caught:
        read_config(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "expected a JSON object"),
        (b" " * 2_000_001, "larger than 2,000 kB"),
    ],
)
def test_a_file_that_is_no_config_raises_a_one_sentence_error(tmp_path: Path, written: bytes, said: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(written)
    with pytest.raises(ConfigError, match=said):
        shape(str(file))


def test_a_file_that_is_not_there_raises_a_one_sentence_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        shape(str(tmp_path / "nothing.json"))
    with pytest.raises(ConfigError, match="not a file"):
        read_config("/dev/zero")
    with pytest.raises(ConfigError, match=r"no such file|cannot be read"):
        read_config("a\0b.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config("x" * 10_000 + ".json")
    with pytest.raises(ConfigError, match="not a file"):
        shape(str(tmp_path))
    with pytest.raises(ConfigError, match="no such file"):
        shape("~nobody-of-this-name/config.json")


JUNK = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**9), st.floats(), st.text(max_size=5), st.just([1]))


@given(family=st.sampled_from(sorted(FAMILIES)), key=st.sampled_from(sorted({**DEEPSEEK, **GPT_OSS})), value=JUNK)
def test_any_value_of_any_key_gives_a_shape_or_one_sentence(family: str, key: str, value: object) -> None:
    whole = {**DEEPSEEK, **QWEN_MOE, **LLAMA, **GPT_OSS, "intermediate_size_mlp": 7, "model_type": family}
    found: ModelShape | None = None
    with contextlib.suppress(ConfigError):
        found = read_config({**whole, key: value}, "any")
    assert found is None or found.weights > found.active > 0
