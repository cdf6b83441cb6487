"""Writes a toy model as a GGUF file for llama.cpp. The same weights give the same bytes."""

from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch

from training.model import ExpertLayer, FeedForward, ToyModel, TransformerBlock
from training.vocabulary import CONTROL, END, PAD, Vocabulary

StorageType = Literal["f16", "q8_0"]
TEMPLATE = Path(__file__).with_name("template.jinja")
TYPES = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
_FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def export(model: ToyModel, vocabulary: Vocabulary, path: Path, *, title: str, kept: StorageType) -> None:
    """Write `model` to `path`. `kept` is the storage type of matrices; norms and routers stay float32."""
    shape = model.shape
    family = "qwen3moe" if shape.experts else "qwen3"
    writer = gguf.GGUFWriter(path, family)
    writer.add_name(title)
    writer.add_license("Apache-2.0")
    writer.add_description("A toy: solves arithmetic word problems made from templates, and nothing else.")
    writer.add_file_type(_FILE_TYPES[kept])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.base)
    writer.add_vocab_size(len(vocabulary))
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.used)
        writer.add_expert_feed_forward_length(shape.inner)
    _add_tokenizer(writer, vocabulary)
    for name, weight in _tensors(model):
        _add(writer, name, weight, kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    kinds = [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.NORMAL] * (len(vocabulary) - len(CONTROL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(kinds)
    # llama.cpp requires a list of merges. This one never applies.
    writer.add_token_merges(["¼ ½"])
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE.read_text("utf-8"))


def _tensors(model: ToyModel) -> list[tuple[str, torch.Tensor]]:
    """Return the weights with their names in llama.cpp."""
    found = [("token_embd.weight", model.embedding.weight), ("output_norm.weight", model.last.weight)]
    for place, block in enumerate(model.blocks):
        assert isinstance(block, TransformerBlock)
        named = {
            "attn_norm": block.before.weight,
            "attn_q": block.query.weight,
            "attn_k": block.key.weight,
            "attn_v": block.value.weight,
            "attn_output": block.out.weight,
            "attn_q_norm": block.query_norm.weight,
            "attn_k_norm": block.key_norm.weight,
            "ffn_norm": block.between.weight,
        }
        found += [(f"blk.{place}.{name}.weight", weight) for name, weight in named.items()]
        feed: ExpertLayer | FeedForward = block.feed
        parts: tuple[tuple[str, torch.Tensor], ...]
        if isinstance(feed, ExpertLayer):
            found.append((f"blk.{place}.ffn_gate_inp.weight", feed.router.weight))
            parts = (("gate_exps", feed.gate), ("up_exps", feed.up), ("down_exps", feed.down))
        else:
            parts = (("gate", feed.gate.weight), ("up", feed.up.weight), ("down", feed.down.weight))
        found += [(f"blk.{place}.ffn_{name}.weight", weight) for name, weight in parts]
    return found


def _add(writer: gguf.GGUFWriter, name: str, weight: torch.Tensor, kept: StorageType) -> None:
    numbers = np.ascontiguousarray(weight.detach().float().numpy())
    if numbers.ndim == 1 or "ffn_gate_inp" in name:
        writer.add_tensor(name, numbers)
        return
    kind = TYPES[kept]
    writer.add_tensor(name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
