"""Small model files with random weights, for tests and benchmarks: they load, speak nonsense, and need no download.

The tokenizer knows single bytes and a few control tokens, so that any text can be read. What is said is random, and
the same for the same `seed` of the file, question and seed of the request.
"""

from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

TEMPLATE = (
    "{%- for message in messages -%}<|{{ message.role }}|>{{ message.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
TOOL_TEMPLATE = (
    "{%- if tools -%}<|system|>You may call <tools>{%- for tool in tools -%}{{ tool | tojson }}{%- endfor -%}</tools>"
    "<|end|>{%- endif -%}"
    "{%- for message in messages -%}<|{{ message.role }}|>"
    "{%- if message.content -%}{{ message.content }}{%- endif -%}"
    "{%- if message.tool_calls -%}{%- for call in message.tool_calls -%}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>{%- endfor -%}{%- endif -%}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
"""A template that knows tools, in the manner of Hermes and Qwen."""
CONTROL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>")


class Shape(NamedTuple):
    """How large a model is; the defaults give 0.15 million parameters."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 128
    context: int = 2048


def write_gguf(
    path: Path,
    shape: Shape = Shape(),  # noqa: B008  # a NamedTuple of numbers cannot change
    *,
    seed: int = 1,
    template: str = TEMPLATE,
    arch: str = "qwen3",
    half: bool = True,
) -> Path:
    """Write a dense model with random weights to `path` and return it; weights are F16 when `half`, else F32."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("random")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.width // shape.heads)
    writer.add_value_length(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    tokens = [*CONTROL, *_letters()]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.NORMAL] * 256
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges(["¼ ½"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(4)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    _add_weights(writer, shape, len(tokens), seed, half)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_weights(writer: gguf.GGUFWriter, shape: Shape, tokens: int, seed: int, half: bool) -> None:
    chance = np.random.default_rng(seed)
    head = shape.width // shape.heads

    def matrix(name: str, rows: int, columns: int, scale: float) -> None:
        values = chance.standard_normal((rows, columns), dtype=np.float32) * scale
        writer.add_tensor(name, values.astype(np.float16) if half else values)

    def norm(name: str, size: int) -> None:
        writer.add_tensor(name, np.ones(size, np.float32))

    inner = shape.width**-0.5
    matrix("token_embd.weight", tokens, shape.width, 0.3)
    norm("output_norm.weight", shape.width)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm.weight", shape.width)
        norm(f"{block}.ffn_norm.weight", shape.width)
        norm(f"{block}.attn_q_norm.weight", head)
        norm(f"{block}.attn_k_norm.weight", head)
        matrix(f"{block}.attn_q.weight", shape.heads * head, shape.width, inner)
        matrix(f"{block}.attn_k.weight", shape.kv_heads * head, shape.width, inner)
        matrix(f"{block}.attn_v.weight", shape.kv_heads * head, shape.width, inner)
        matrix(f"{block}.attn_output.weight", shape.width, shape.heads * head, inner)
        matrix(f"{block}.ffn_gate.weight", shape.hidden, shape.width, inner)
        matrix(f"{block}.ffn_up.weight", shape.hidden, shape.width, inner)
        matrix(f"{block}.ffn_down.weight", shape.width, shape.hidden, shape.hidden**-0.5)


def _letters() -> list[str]:
    """Return the 256 letters that stand for bytes in the vocabulary of GPT-2."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(others))]
