"""What the KV cache, recurrent states and work buffers of an engine take, of one accelerator. Pure; all in bytes.

The one arithmetic of serving (plan/limits.py) and of `bedplate fit` (plan/fit.py). Rules of llama.cpp: read from
llama-server 0.7.0's own log, which tests/serving/test_fit.py compares. Rules of vLLM: vllm/v1/kv_cache_interface.py.
"""

from __future__ import annotations

from bedplate.model.catalogued import EngineRow, Split
from bedplate.model.decoder import DecoderShape
from bedplate.model.instance import PROBE_TOKENS
from bedplate.model.launch import LLAMACPP_FOOTPRINT

CELL_BLOCK = 256
"""llama.cpp makes its caches of so many cells, or of a multiple."""
PROCESS_BYTES = LLAMACPP_FOOTPRINT.process_bytes
_MASK_BYTES = 2  # of one cell and one token of a batch: the attention mask is of 16-bit floats
_SAMPLER_COPIES = 10  # of a step's logits in 32 bits: 1.26 GiB with 256 sequences and 128256 tokens (vLLM PR #10511)


def pool_cells(context: int, sequences: int) -> int:
    """Cells of llama.cpp's one pool for all sequences, with room for the probe."""
    return pad(context * sequences + PROBE_TOKENS, CELL_BLOCK)


def window_cells(window: int, cells: int, *, sequences: int, batch_tokens: int) -> int:
    """Cells of llama.cpp's pool for layers that keep only a window of each sequence; never more than the `cells` of the
    others. A whole batch of a prompt is written before what left the windows is given up."""
    return min(cells, pad(window * sequences + batch_tokens, CELL_BLOCK))


def mask_bytes(cells: int, batch_tokens: int) -> int:
    """llama.cpp's attention mask for a batch over a cache of so many cells."""
    return _MASK_BYTES * cells * batch_tokens


def pad(number: int, block: int) -> int:
    """The next multiple of block."""
    return -(-number // block) * block


def kv_cache_bytes(
    shape: DecoderShape, engine: EngineRow, *, context: int, sequences: int, devices: int = 1, value_bits: int = 16
) -> int:
    """Keys and values of all sequences on one of the devices that share a model.

    Tensor parallelism divides the KV heads, and gives each device one at least; it divides no latent cache (MLA). Where the
    layers are divided, the device with the most of them counts.
    """
    heads = shape.kv_heads
    values = shape.kv_values
    share = 1.0
    if engine.split is Split.LAYERS:
        share = layer_share(shape, devices)
        full = pool_cells(context, sequences)
        kept = window_cells(shape.window, full, sequences=sequences, batch_tokens=engine.batch_tokens)
    else:
        if not shape.latent:
            values = -(-heads // devices) * (values // heads)
        block = engine.block_tokens
        full = sequences * pad(context, block)
        # A window keeps what a whole batch of a prompt may look at, and one block more because it slides.
        kept = sequences * min(pad(context, block), pad(shape.window - 1 + engine.batch_tokens, block) + block)
    full_layers = shape.attending_layers - shape.window_layers
    layer_bytes = values * value_bits / 8 + shape.index_bytes
    return int((full_layers * full + shape.window_layers * kept) * layer_bytes * share)


def read_bytes(shape: DecoderShape, *, context: int, value_bits: int = 16) -> int:
    """Keys and values that one token of a full context looks at, on all devices together."""
    full_layers = shape.attending_layers - shape.window_layers
    tokens = full_layers * context + shape.window_layers * min(context, shape.window)
    return int(tokens * (shape.kv_values * value_bits / 8 + shape.index_bytes))


def state_bytes(shape: DecoderShape, engine: EngineRow, *, sequences: int, devices: int = 1) -> int:
    """Recurrent states of all sequences, in the engine's precision, on one device."""
    values = shape.state_layers * (shape.conv_values + shape.state_values)
    share = layer_share(shape, devices) if engine.split is Split.LAYERS else 1 / devices
    return int(values * engine.state_bytes * sequences * share)


def buffer_bytes(shape: DecoderShape, engine: EngineRow, *, context: int, sequences: int, devices: int = 1) -> int:
    """Work buffers of the largest step on one device; 0 for an engine that takes them from what its fraction leaves over."""
    if engine.batch_tokens == 0:
        return 0
    width = _feed_forward_width(shape)
    if engine.split is Split.TENSOR:
        forward = 2 * engine.batch_tokens * (4 * shape.hidden + 3 * width // devices)
        return max(forward, _SAMPLER_COPIES * 4 * engine.sequences * shape.vocabulary)
    cells = pool_cells(context, sequences)
    masks = mask_bytes(cells, engine.batch_tokens)
    if shape.window_layers:
        kept = window_cells(shape.window, cells, sequences=sequences, batch_tokens=engine.batch_tokens)
        masks += mask_bytes(kept, engine.batch_tokens)
    widest = max(3 * width, _latent_width(shape), 11 * shape.conv_values // 6)
    outputs = 4 * sequences * shape.vocabulary
    return masks + outputs + 4 * engine.batch_tokens * (5 * shape.hidden + widest)


def layer_share(shape: DecoderShape, devices: int) -> float:
    """The largest share of the layers that one of the devices has."""
    return -(-shape.layers // devices) / shape.layers


def _feed_forward_width(shape: DecoderShape) -> int:
    chosen = (shape.experts_per_token + shape.shared_experts) * shape.moe_intermediate
    return max(shape.intermediate, chosen)


def _latent_width(shape: DecoderShape) -> int:
    """Of one token in llama.cpp's MLA: queries as they are and in the compressed space, and what attention gives."""
    if not shape.latent:
        return 0
    per_head = 2 * shape.kv_lora_rank + shape.rope_size + shape.nope_size + shape.rope_size
    return shape.heads * per_head
