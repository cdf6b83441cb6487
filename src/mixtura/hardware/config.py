"""Reads the shape of a user's own model from its Hugging Face `config.json`.

Each model family has a function of its own. The source of its rules is the configuration and modelling classes of the
same name in `transformers`, which define the default of a missing key.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from mixtura.errors import ConfigError
from mixtura.hardware.shape import LatentAttention, ModelShape
from mixtura.input_files import expanded, utf8_text

_MOST_BYTES = 2_000_000  # a config.json has a few kB; the largest known, which lists every layer, a few hundred


def read_config(source: Mapping[str, object] | str | Path, name: str = "") -> ModelShape:
    """Return the shape that a `config.json` describes.

    Args:
        source: the file, its folder, or its parsed content.
        name: the model's name; "" takes the name of the folder, or the name in the file.

    Raises:
        ConfigError: the file is missing, too large or not JSON, the family is unknown (the message lists the known
            ones), a key is missing, or a size is zero, negative or inconsistent with another.
    """
    if isinstance(source, Mapping):
        said = source.get("_name_or_path") or source.get("model_type")
        return _shape(source, name or (said if isinstance(said, str) else "config"), name or "config")
    path = config_file(source) or Path(source)
    try:
        config = msgspec.json.decode(utf8_text(read_small(path)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a JSON object, as a model's config.json is")
    own = path.resolve().parent.name if path.name == "config.json" else path.stem
    return _shape(config, name or own or "config", str(path))


def config_file(name: str | Path) -> Path | None:
    """Return the `config.json` at the path or in the folder `name`; None if there is none."""
    try:
        path = expanded(name)
        if path.is_dir():
            path /= "config.json"
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long for a path, a NUL in it, or `~` of nobody
        return None


def read_small(path: Path, most: int = _MOST_BYTES) -> bytes:
    """Read a hand-written file, refusing one of unreasonable size.

    Raises:
        ConfigError: the path does not exist, is no file or cannot be read, or the file has more than `most` bytes.
    """
    try:
        path = expanded(path)
        if not path.is_file():
            raise ConfigError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            read = file.read(most + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{str(path)[:200]!r} cannot be read: {why}") from error
    if len(read) > most:
        raise ConfigError(f"{path}: larger than {most // 1000:,} kB, which is too large for a configuration file")
    return read


class _ConfigKeys:
    """Typed access to a config's keys; a missing key or a value of the wrong type raises ConfigError."""

    def __init__(self, keys: Mapping[str, object], where: str) -> None:
        self.keys = keys
        self.where = where

    def size(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return the whole number under the first of `names` that is present; null counts as absent."""
        for name in names:
            value = self.keys.get(name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{self.where}: {name} is {str(value)[:40]}, expected a whole number from {least} up")
            return value
        if default is None:
            raise ConfigError(f"{self.where}: {' or '.join(names)} is missing")
        return default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean; `default` if the key is absent or null."""
        value = self.keys.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ConfigError(f"{self.where}: {name} is {str(value)[:40]}, expected true or false")
        return value

    def items(self, name: str) -> list[object]:
        """Return a list; an empty one if the key is absent or null."""
        value = self.keys.get(name)
        if value is not None and not isinstance(value, list):
            raise ConfigError(f"{self.where}: {name} is {str(value)[:40]}, expected a list")
        return value or []


def _shape(config: Mapping[str, object], name: str, where: str) -> ModelShape:
    inner = config.get("text_config")
    nested = inner if isinstance(inner, Mapping) else {}
    keys = _ConfigKeys({**config, **nested} if nested else config, where)
    family = keys.keys.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        # Multimodal models may name a known family only at the top level, not in their text_config.
        family = config.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        said = "model_type is missing" if family is None else f"unknown model_type {str(family)[:80]!r}"
        raise ConfigError(f"{where}: {said}; known are {', '.join(sorted(FAMILIES))}")
    fields = {**_common(keys), **FAMILIES[family](keys)}
    try:
        return msgspec.convert(
            {"name": name, **fields, **_precision_fields(keys, routed="experts" in fields)}, ModelShape
        )
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error


def _common(keys: _ConfigKeys) -> dict[str, object]:
    hidden, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    latent = "kv_lora_rank" in keys.keys
    if not latent and keys.keys.get("head_dim") is None and hidden % heads:
        raise ConfigError(f"{keys.where}: hidden_size {hidden} is no multiple of num_attention_heads {heads}")
    return {
        "layers": keys.size("num_hidden_layers"),
        "hidden": hidden,
        "vocabulary": keys.size("vocab_size"),
        "heads": heads,
        "kv_heads": keys.size("num_key_value_heads", default=heads),
        "head_size": keys.size("head_dim", default=max(1, hidden // heads)),
        "tied": keys.flag("tie_word_embeddings"),
    }


def _dense(keys: _ConfigKeys) -> dict[str, object]:
    """Return the fields of Llama and models of the same architecture."""
    extras = ["qkv_bias", "out_bias"] * keys.flag("attention_bias") + ["dense_bias"] * keys.flag("mlp_bias")
    return {"inner": keys.size("intermediate_size"), "extras": extras}


def _mistral(keys: _ConfigKeys) -> dict[str, object]:
    return {**_dense(keys), **_window(keys, keys.size("num_hidden_layers"))}


def _qwen2(keys: _ConfigKeys) -> dict[str, object]:
    return {**_dense(keys), **_qwen_window(keys), "extras": ["qkv_bias"]}


def _qwen3(keys: _ConfigKeys) -> dict[str, object]:
    extras = ["qk_norm"] + ["qkv_bias", "out_bias"] * keys.flag("attention_bias")
    return {**_dense(keys), **_qwen_window(keys), "extras": extras}


def _gemma2(keys: _ConfigKeys) -> dict[str, object]:
    # Every other layer is windowed, beginning with the first.
    windowed = (keys.size("num_hidden_layers") + 1) // 2
    extras = ["norms"] + ["qkv_bias", "out_bias"] * keys.flag("attention_bias")
    tied = keys.flag("tie_word_embeddings", default=True)
    return {"inner": keys.size("intermediate_size"), "extras": extras, "tied": tied, **_window(keys, windowed)}


def _gpt_oss(keys: _ConfigKeys) -> dict[str, object]:
    windowed = (keys.size("num_hidden_layers") + 1) // 2
    biases = ["qkv_bias", "out_bias"] * keys.flag("attention_bias", default=True)
    return {
        **_expert_fields(keys, "intermediate_size"),
        **_window(keys, windowed),
        "extras": [*biases, "expert_bias", "router_bias", "sinks"],
    }


def _mixtral(keys: _ConfigKeys) -> dict[str, object]:
    return {**_expert_fields(keys, "intermediate_size"), **_window(keys, keys.size("num_hidden_layers"))}


def _minimax(keys: _ConfigKeys) -> dict[str, object]:
    extras = ["router_bias"] + ["qk_norm"] * keys.flag("use_qk_norm")
    return {**_expert_fields(keys, "intermediate_size"), "extras": extras}


def _qwen_moe(keys: _ConfigKeys) -> dict[str, object]:
    step, layers = keys.size("decoder_sparse_step", default=1), keys.size("num_hidden_layers")
    spared = set(map(str, keys.items("mlp_only_layers")))
    dense = sum((layer + 1) % step != 0 or str(layer) in spared for layer in range(min(layers, 10_000)))
    shared = keys.size("shared_expert_intermediate_size", default=0, least=0)
    return {
        **_qwen_window(keys),
        **_expert_fields(keys, "moe_intermediate_size", shared=int(shared > 0), shared_inner=shared),
        "dense_layers": dense,
        "inner": keys.size("intermediate_size") if dense else 0,
        "extras": ["qkv_bias"] if keys.keys.get("model_type") == "qwen2_moe" else _qwen3(keys)["extras"],
    }


def _first_dense(keys: _ConfigKeys) -> dict[str, object]:
    """Return the fields of GLM-4.5 and DeepSeek, whose first layers are dense and later ones have shared experts."""
    dense = keys.size("first_k_dense_replace", default=0, least=0)
    shared = keys.size("n_shared_experts", default=0, least=0)
    step = keys.size("moe_layer_freq", default=1)
    if step != 1:
        raise ConfigError(
            f"{keys.where}: moe_layer_freq is {step}; only 1 (experts in every layer after the first) is supported"
        )
    return {
        **_expert_fields(keys, "moe_intermediate_size", shared=shared),
        "dense_layers": dense,
        "inner": keys.size("intermediate_size") if dense else 0,
        "groups": keys.size("n_group", default=1),
        "groups_used": keys.size("topk_group", default=1),
        "extras": ["router_bias"],
    }


def _glm4_moe(keys: _ConfigKeys) -> dict[str, object]:
    extras = ["router_bias"] + ["qk_norm"] * keys.flag("use_qk_norm") + ["qkv_bias"] * keys.flag("attention_bias")
    return {**_first_dense(keys), "extras": extras}


def _deepseek(keys: _ConfigKeys) -> dict[str, object]:
    mla = LatentAttention(
        q_rank=keys.size("q_lora_rank", default=0, least=0),
        kv_rank=keys.size("kv_lora_rank"),
        nope=keys.size("qk_nope_head_dim"),
        rope=keys.size("qk_rope_head_dim"),
        value=keys.size("v_head_dim"),
    )
    moved = {"mla": msgspec.to_builtins(mla), "head_size": mla.nope + mla.rope}
    corrected = keys.keys.get("topk_method") == "noaux_tc"
    return {**_first_dense(keys), **moved, "extras": ["router_bias"] * corrected}


def _llama4(keys: _ConfigKeys) -> dict[str, object]:
    layers, step = keys.size("num_hidden_layers"), keys.size("interleave_moe_layer_step", default=1)
    listed = keys.items("moe_layers")
    dense = layers - (len(listed) or layers // step)
    inner = keys.size("intermediate_size")
    # One layer in four has no rotary embedding and attends to the whole context; the others attend to their chunk.
    ropes = keys.items("no_rope_layers")
    windowed = sum(bool(rope) for rope in ropes) if ropes else layers - layers // 4
    chunk = keys.size("attention_chunk_size", default=0, least=0)
    return {
        **_expert_fields(keys, "intermediate_size", shared=1, shared_inner=inner),
        "dense_layers": dense,
        "inner": keys.size("intermediate_size_mlp") if dense else 0,
        "window": chunk,
        "windowed_layers": windowed if chunk else 0,
        "extras": ["qkv_bias", "out_bias"] * keys.flag("attention_bias"),
    }


def _expert_fields(
    keys: _ConfigKeys, width: str, shared: int = 0, shared_inner: int | None = None
) -> dict[str, object]:
    inner = keys.size(width)
    return {
        "experts": keys.size("num_experts", "num_local_experts", "n_routed_experts"),
        "used": keys.size("num_experts_per_tok", "experts_per_token", "num_experts_per_token"),
        "expert_inner": inner,
        "shared": shared,
        "shared_inner": shared * inner if shared_inner is None else shared_inner,
    }


def _window(keys: _ConfigKeys, layers: int) -> dict[str, object]:
    """Return the window and the number of windowed layers: counted in `layer_types` if present, else `layers`."""
    window = keys.size("sliding_window", default=0, least=0)
    kinds = keys.items("layer_types")
    count = sum(kind == "sliding_attention" for kind in kinds) if kinds else layers
    return {"window": window, "windowed_layers": count if window else 0}


def _qwen_window(keys: _ConfigKeys) -> dict[str, object]:
    if not keys.flag("use_sliding_window"):
        return {}
    layers = keys.size("num_hidden_layers")
    return _window(keys, max(0, layers - keys.size("max_window_layers", default=layers, least=0)))


FAMILIES: Mapping[str, Callable[[_ConfigKeys], dict[str, object]]] = MappingProxyType(
    {
        "llama": _dense,
        "mistral": _mistral,
        "mistral3": _mistral,
        "ministral": _mistral,
        "phi3": _mistral,
        "qwen2": _qwen2,
        "qwen3": _qwen3,
        "qwen2_moe": _qwen_moe,
        "qwen3_moe": _qwen_moe,
        "mixtral": _mixtral,
        "minimax_m2": _minimax,
        "gemma2": _gemma2,
        "gpt_oss": _gpt_oss,
        "glm4_moe": _glm4_moe,
        "deepseek_v2": _deepseek,
        "deepseek_v3": _deepseek,
        "kimi_k2": _deepseek,
        "kimi_k25": _deepseek,
        "llama4": _llama4,
        "llama4_text": _llama4,
    }
)


_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
# The format each quantiser of `transformers` stores when its config gives no width.
_METHODS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4"}


def _precision_fields(keys: _ConfigKeys, *, routed: bool) -> dict[str, object]:
    """Return the precisions of the weights: from `quantization_config` if present, else the tensors' data type."""
    dtype = keys.keys.get("torch_dtype") or keys.keys.get("dtype") or "bfloat16"
    plain = _DTYPES.get(str(dtype).removeprefix("torch."))
    if plain is None:
        raise ConfigError(f"{keys.where}: torch_dtype is {str(dtype)[:40]!r}, expected one of {', '.join(_DTYPES)}")
    found = keys.keys.get("quantization_config")
    if found is None:
        return {"precision": plain}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{keys.where}: quantization_config is {str(found)[:40]!r}, expected an object")
    packed = _packed_precision(found, keys.where)
    kept = found.get("modules_to_not_convert") or found.get("ignore") or found.get("exclude_modules") or []
    # If the quantiser leaves attention unconverted, only the experts are quantised.
    if routed and any("self_attn" in str(each) for each in kept if isinstance(kept, list)):
        return {"precision": plain, "expert_precision": packed}
    return {"precision": packed}


def _packed_precision(found: Mapping[str, object], where: str) -> str:
    """Return the precision in which a `quantization_config` stores weights."""
    method = str(found.get("quant_method") or found.get("quant_algo"))[:40]
    said = str(found.get("quant_algo") or found.get("format") or "").casefold()
    width, kind = found.get("bits"), "int"
    groups = found.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            width, kind = weights.get("num_bits", width), str(weights.get("type", kind))
    if method == "bitsandbytes":
        width = 4 if found.get("load_in_4bit") else 8
    for name in ("nvfp4", "mxfp4", "fp8"):
        if said.startswith(name) and width in (None, 4, 8):
            return name
    wide = {(8, "float"): "fp8", (4, "float"): "nvfp4", (8, "int"): "int8", (4, "int"): "int4"}
    if isinstance(width, int) and (width, kind) in wide:
        return wide[width, kind]
    if method in _METHODS and width is None:
        return _METHODS[method]
    raise ConfigError(
        f"{where}: a quantization_config of {method} with {str(width)[:20]} bits is not known; remove it and give "
        "the precision by name"
    )
