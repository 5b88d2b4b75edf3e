"""The numbers of a decoder from the metadata of a GGUF header: what its KV cache and its states take.

The keys are those of gguf-py's constants.py; what llama.cpp 0.7.0 makes of them was seen in its log
(tests/serving/test_fit.py).
"""

from __future__ import annotations

from collections.abc import Callable

from bedplate.catalog.window_patterns import count_window_layers, find_window_pattern
from bedplate.model.decoder import DecoderShape

Number = Callable[[str, int], int]
"""(end of the key behind "ARCHITECTURE.", default) -> its value, a whole number below 2^31."""
PATTERN_KEY = "attention.sliding_window_pattern"


def make_shape(
    number: Number,
    *,
    architecture: str,
    heads: tuple[int, ...],
    kv_heads: tuple[int, ...],
    pattern: tuple[int, ...],
    vocabulary: int,
    tied: bool,
) -> DecoderShape | None:
    """The shape, or None for a header without layers, width or heads.

    heads, kv_heads: of each layer; pattern: of each layer whether it keeps a window only, () where the file has no such
    list. Heads that differ from layer to layer are taken for as many as the layer with the most.
    """
    layers, hidden = number("block_count", 0), number("embedding_length", 0)
    most = max(heads, default=0)
    if not (layers and hidden and most and vocabulary):
        return None
    head_size = hidden // most
    # Files made before these keys hold keys and values of every head, and llama.cpp caches them so.
    latent = number("attention.kv_lora_rank", 0) if number("attention.key_length_mla", 0) else 0
    rope = number("rope.dimension_count", 0)
    inner, state = number("ssm.inner_size", 0), number("ssm.state_size", 0)
    attending = sum(1 for count in kv_heads or heads if count)
    window, window_layers = _window(number, architecture, layers, pattern)
    key = number("attention.key_length", head_size)
    value = number("attention.value_length", head_size)
    return DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=most,
        vocabulary=vocabulary,
        kv_heads=0 if latent else max(kv_heads or heads),
        head_size=0 if latent else key,
        value_size=number("attention.value_length_mla", value) if latent else value,
        intermediate=number("feed_forward_length", 0),
        tied=tied,
        attention_layers=attending if attending < layers else 0,
        window=window,
        window_layers=min(window_layers, attending),
        kv_lora_rank=latent,
        q_lora_rank=number("attention.q_lora_rank", 0),
        rope_size=rope if latent else 0,
        nope_size=max(0, number("attention.key_length_mla", 0) - rope) if latent else 0,
        experts=number("expert_count", 0),
        experts_per_token=number("expert_used_count", 0),
        shared_experts=number("expert_shared_count", 0),
        moe_intermediate=number("expert_feed_forward_length", 0),
        dense_layers=min(layers, number("leading_dense_block_count", 0)),
        state_layers=layers - attending if inner else 0,
        conv_values=max(0, number("ssm.conv_kernel", 0) - 1) * (inner + 2 * number("ssm.group_count", 0) * state),
        state_values=inner * state,
        context=number("context_length", 0),
    )


def _window(number: Number, architecture: str, layers: int, pattern: tuple[int, ...]) -> tuple[int, int]:
    """(tokens of the window, layers that keep only it); (0, 0) where all layers keep everything, or nothing says which."""
    window = number("attention.sliding_window", 0)
    row = find_window_pattern(architecture)
    if row is not None and row.chunk:
        window = window or row.chunk
    if not window:
        return 0, 0
    if pattern:
        kept = sum(1 for flag in pattern[:layers] if flag)
    else:
        kept = count_window_layers(layers, row.period) if row is not None else 0
    return (window, kept) if kept else (0, 0)
