"""Models with random weights whose caches differ: grouped queries, a sliding window, latent attention, recurrent states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.serving.zoo import copy_keys, finish, shipped

VOCABULARY = 2048  # of the shipped model, whose tokenizer they have
CONTEXT = 131072


def random(*shape: int) -> Any:
    return (np.random.default_rng(1).standard_normal(shape) * 0.02).astype(np.float16)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def start(path: Path, architecture: str, *, layers: int, width: int, heads: int, inner: int) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, architecture)
    copy_keys(shipped(), writer, without="llama.")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tensor("token_embd.weight", random(VOCABULARY, width))
    writer.add_tensor("output_norm.weight", ones(width))
    return writer


def add_attention(writer: gguf.GGUFWriter, layer: int, *, width: int, heads: int, kv_heads: int, size: int) -> None:
    writer.add_tensor(f"blk.{layer}.attn_q.weight", random(heads * size, width))
    writer.add_tensor(f"blk.{layer}.attn_k.weight", random(kv_heads * size, width))
    writer.add_tensor(f"blk.{layer}.attn_v.weight", random(kv_heads * size, width))
    writer.add_tensor(f"blk.{layer}.attn_output.weight", random(width, heads * size))


def add_feed_forward(writer: gguf.GGUFWriter, layer: int, *, width: int, inner: int) -> None:
    writer.add_tensor(f"blk.{layer}.ffn_gate.weight", random(inner, width))
    writer.add_tensor(f"blk.{layer}.ffn_up.weight", random(inner, width))
    writer.add_tensor(f"blk.{layer}.ffn_down.weight", random(width, inner))


def write_grouped(path: Path) -> Path:
    """A Llama of 8 layers with 16 heads, 4 of them of keys and values."""
    layers, width, heads, kv_heads, size, inner = 8, 1024, 16, 4, 64, 2816
    writer = start(path, "llama", layers=layers, width=width, heads=heads, inner=inner)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(size)
    for layer in range(layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones(width))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones(width))
        add_attention(writer, layer, width=width, heads=heads, kv_heads=kv_heads, size=size)
        add_feed_forward(writer, layer, width=width, inner=inner)
    finish(writer)
    return path


def write_windowed(path: Path) -> Path:
    """A Gemma 3 of 12 layers, of which 10 have a window of 1024 tokens."""
    layers, width, heads, kv_heads, size, inner = 12, 256, 8, 4, 64, 1024
    writer = start(path, "gemma3", layers=layers, width=width, heads=heads, inner=inner)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_sliding_window(1024)
    writer.add_rope_freq_base(1e6)
    for layer in range(layers):
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", ones(width))
        for name in ("attn_q_norm", "attn_k_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", ones(size))
        add_attention(writer, layer, width=width, heads=heads, kv_heads=kv_heads, size=size)
        add_feed_forward(writer, layer, width=width, inner=inner)
    finish(writer)
    return path


def write_latent(path: Path) -> Path:
    """A DeepSeek 2 of 6 dense layers with multi-head latent attention of 128 + 32 values."""
    layers, width, heads, inner = 6, 256, 8, 512
    rank, rope, nope, value, queries = 128, 32, 32, 32, 96
    writer = start(path, "deepseek2", layers=layers, width=width, heads=heads, inner=inner)
    writer.add_head_count_kv(1)
    writer.add_kv_lora_rank(rank)
    writer.add_q_lora_rank(queries)
    writer.add_key_length(rank + rope)
    writer.add_value_length(rank)
    writer.add_key_length_mla(nope + rope)
    writer.add_value_length_mla(value)
    writer.add_rope_dimension_count(rope)
    writer.add_leading_dense_block_count(layers)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_expert_shared_count(1)
    writer.add_expert_feed_forward_length(64)
    writer.add_expert_weights_scale(1.0)
    writer.add_tensor("output.weight", random(VOCABULARY, width))
    for layer in range(layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones(width))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones(width))
        writer.add_tensor(f"{block}.attn_q_a.weight", random(queries, width))
        writer.add_tensor(f"{block}.attn_q_a_norm.weight", ones(queries))
        writer.add_tensor(f"{block}.attn_q_b.weight", random(heads * (nope + rope), queries))
        writer.add_tensor(f"{block}.attn_kv_a_mqa.weight", random(rank + rope, width))
        writer.add_tensor(f"{block}.attn_kv_a_norm.weight", ones(rank))
        writer.add_tensor(f"{block}.attn_k_b.weight", random(heads, rank, nope))
        writer.add_tensor(f"{block}.attn_v_b.weight", random(heads, value, rank))
        writer.add_tensor(f"{block}.attn_output.weight", random(width, heads * value))
        add_feed_forward(writer, layer, width=width, inner=inner)
    finish(writer)
    return path


def write_hybrid(path: Path) -> Path:
    """A Granite of 6 layers: 2 with attention, 4 of Mamba 2."""
    layers, width, heads, kv_heads, inner = 6, 256, 8, 2, 512
    ssm, state, groups, kernel, steps = 512, 64, 1, 4, 8
    channels = ssm + 2 * groups * state
    writer = start(path, "granitehybrid", layers=layers, width=width, heads=heads, inner=inner)
    writer.add_head_count_kv([0 if layer % 3 else kv_heads for layer in range(layers)])
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(ssm)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(steps)
    writer.add_ssm_group_count(groups)
    writer.add_rope_dimension_count(width // heads)
    writer.add_attention_scale(0.1)
    add: list[Callable[[float], None]] = [writer.add_residual_scale, writer.add_embedding_scale, writer.add_logit_scale]
    for scale in add:
        scale(1.0)
    for layer in range(layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones(width))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones(width))
        if layer % 3:
            writer.add_tensor(f"{block}.ssm_in.weight", random(2 * ssm + 2 * groups * state + steps, width))
            writer.add_tensor(f"{block}.ssm_conv1d.weight", ones(channels, kernel))
            writer.add_tensor(f"{block}.ssm_conv1d.bias", ones(channels))
            writer.add_tensor(f"{block}.ssm_dt.bias", ones(steps))
            writer.add_tensor(f"{block}.ssm_a", -ones(steps, 1))
            writer.add_tensor(f"{block}.ssm_d", ones(steps, 1))
            writer.add_tensor(f"{block}.ssm_norm.weight", ones(groups, ssm // groups))
            writer.add_tensor(f"{block}.ssm_out.weight", random(width, ssm))
        else:
            add_attention(writer, layer, width=width, heads=heads, kv_heads=kv_heads, size=width // heads)
        add_feed_forward(writer, layer, width=width, inner=inner)
    finish(writer)
    return path
