"""The numbers of a decoder that memory and speed follow from, as a row, config.json or a GGUF header states them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """One decoder-only model. 0 means that the model has no such part; a number that must be known has no default.

    Every layer has attention and a feed-forward block unless `attention_layers` says that only some have attention.
    """

    layers: int
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Query heads of a layer."""
    vocabulary: int
    kv_heads: int = 0
    """Heads of keys and values in a layer; 0 with multi-head latent attention (MLA)."""
    head_size: int = 0
    """Values in one key head; often not `hidden / heads`."""
    value_size: int = 0
    """Values in one value head where it differs from `head_size`."""
    intermediate: int = 0
    """Width of a dense feed-forward block; 0 where all blocks are mixtures of experts."""
    tied: bool = False
    """Whether the output matrix is the embedding matrix."""
    attention_layers: int = 0
    """Layers that have attention, in a hybrid model; 0: all of them."""
    window: int = 0
    """Tokens that a layer with a sliding window, or with chunks, keeps."""
    window_layers: int = 0
    """Layers with that window."""
    kv_lora_rank: int = 0
    """MLA: values of the compressed key and value of a token; the cache holds these and `rope_size`, once for all heads."""
    q_lora_rank: int = 0
    rope_size: int = 0
    """MLA: values of the key that carry the position."""
    nope_size: int = 0
    """MLA: values of a head's key that carry no position."""
    index_size: int = 0
    """Values of the key that a sparse indexer keeps for each token and layer."""
    index_heads: int = 0
    experts: int = 0
    """Routed experts of a layer."""
    experts_per_token: int = 0
    shared_experts: int = 0
    moe_intermediate: int = 0
    """Width of one expert."""
    dense_layers: int = 0
    """Layers before the first mixture of experts."""
    state_layers: int = 0
    """Layers whose memory is one state for each sequence, whatever its length (Mamba, linear attention)."""
    conv_values: int = 0
    """Values of the convolution's part of that state, in one layer."""
    state_values: int = 0
    """Values of the recurrent part of that state, in one layer."""
    context: int = 0
    """Tokens that the model was made for; 0 when nothing says."""

    @property
    def attending_layers(self) -> int:
        """Layers that keep keys and values."""
        return self.attention_layers or self.layers

    @property
    def latent(self) -> bool:
        """Whether the cache holds one compressed vector for all heads (MLA)."""
        return self.kv_lora_rank > 0

    @property
    def kv_values(self) -> int:
        """Values of keys and values that one layer caches for one token, all heads together."""
        if self.latent:
            return self.kv_lora_rank + self.rope_size
        return self.kv_heads * (self.head_size + (self.value_size or self.head_size))

    @property
    def index_bytes(self) -> int:
        """Bytes that a sparse indexer caches for one token in one layer: 8 bits a value, 32 for each 128."""
        return self.index_size + 4 * (self.index_size // 128)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one more token takes at 16 bits while no window is full; all layers, and no sharing between devices."""
        return self.attending_layers * (2 * self.kv_values + self.index_bytes)

    @property
    def kv_bytes_beyond_window(self) -> int:
        """Bytes that one more token takes at 16 bits once every window is full."""
        return (self.attending_layers - self.window_layers) * (2 * self.kv_values + self.index_bytes)
