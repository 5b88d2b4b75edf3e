"""How many parameters a decoder has, counted from its shape: matrices and norms, without biases. Pure.

Counted so, the totals of ten published models are met within 0.5 % (tests/unit/test_fit_published.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.decoder import DecoderShape


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Parameters by what happens to them when a token passes, and when weights are quantised."""

    total: int
    active: int
    """Those that one token is multiplied with: without the embedding, of the experts only the chosen ones."""
    embedding: int
    """Of the embedding and output matrices, which most quantisations leave at 16 bits."""
    routed: int
    """Of all routed experts; 0 for a dense model."""


def count_parameters(shape: DecoderShape) -> ParameterCount | None:
    """The count; None for a shape that does not say enough: with recurrent layers, or without a feed-forward width."""
    mixtures = max(0, shape.layers - shape.dense_layers) if shape.experts else 0
    dense = shape.layers - mixtures
    if shape.state_layers or shape.attention_layers or (dense and not shape.intermediate):
        return None
    if mixtures and not (shape.moe_intermediate and shape.experts_per_token):
        return None
    attention = shape.layers * _attention(shape)
    expert = 3 * shape.hidden * shape.moe_intermediate
    blocks = dense * 3 * shape.hidden * shape.intermediate
    blocks += mixtures * (shape.shared_experts * expert + shape.hidden * shape.experts)
    norms = (2 * shape.layers + 1) * shape.hidden
    embedding = shape.vocabulary * shape.hidden
    output = 0 if shape.tied else embedding
    routed = mixtures * shape.experts * expert
    fixed = attention + blocks + norms
    return ParameterCount(
        total=fixed + routed + embedding + output,
        active=fixed + mixtures * shape.experts_per_token * expert + embedding,
        embedding=embedding + output,
        routed=routed,
    )


def _attention(shape: DecoderShape) -> int:
    """Parameters of one layer's attention, its indexer included."""
    value = shape.value_size or shape.head_size
    if not shape.latent:
        keys = shape.kv_heads * (shape.head_size + value)
        return shape.hidden * (shape.heads * shape.head_size + keys) + shape.heads * value * shape.hidden
    head = shape.nope_size + shape.rope_size
    queries = (
        shape.q_lora_rank * (shape.hidden + 1 + shape.heads * head)
        if shape.q_lora_rank
        else shape.hidden * shape.heads * head
    )
    compressed = shape.hidden * (shape.kv_lora_rank + shape.rope_size) + shape.kv_lora_rank
    restored = shape.kv_lora_rank * shape.heads * (shape.nope_size + value)
    output = shape.heads * value * shape.hidden
    index = (shape.q_lora_rank * shape.index_heads + shape.hidden) * shape.index_size + shape.hidden * shape.index_heads
    return queries + compressed + restored + output + (index if shape.index_size else 0)
