"""The shape of the known-answer model: for the trainer, and for whoever writes the trained model in another form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """2.6 million parameters: 2.8 MB in Q8_0. Heads of 64 because engines on GPUs have kernels for that size."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 640
    context_length: int = 2048
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Width of one attention head: 64, for which engines on GPUs have kernels."""
        return self.width // self.heads
