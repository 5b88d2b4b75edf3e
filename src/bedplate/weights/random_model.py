"""Writes a model of random weights in a real model's shape: as large and as fast as the real one, and it says nothing.

For speed tests where the real weights cannot be had. Blocks of a quantised type are made directly (random numbers under a
constant scale), tensor by tensor, so that memory stays bounded whatever the size of the model. Where the others have 4 bits,
the output matrix is Q6_K (or Q8_0, where its rows do not divide), as llama-quantize makes it: it is the largest matrix of
all and counts in speed and size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedplate.catalog.shapes import ModelShape
from bedplate.errors import PreflightError
from bedplate.model.progress import Progress
from bedplate.model.units import MIB, render_size
from bedplate.weights.gguf_types import TENSOR_TYPES

if TYPE_CHECKING:
    import numpy as np

SLAB_BYTES = 32 * MIB


class Quant(StrEnum):
    """Types that random blocks can be made of."""

    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


_TYPE_BY_NAME = {name: (number, block, block_bytes) for number, (name, block, block_bytes) in TENSOR_TYPES.items()}
_FILE_TYPE = {Quant.F16: 1, Quant.BF16: 32, Quant.Q8_0: 7, Quant.Q4_0: 2}  # llama.h enum llama_ftype


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A tensor to write; rows and columns as numpy has them, GGUF's shape is the reverse."""

    name: str
    type: str
    rows: int | None
    columns: int

    @property
    def elements(self) -> int:
        return self.columns * (1 if self.rows is None else self.rows)

    @property
    def size_bytes(self) -> int:
        _, block, block_bytes = _TYPE_BY_NAME[self.type]
        return self.elements // block * block_bytes


def random_model_bytes(shape: ModelShape, quant: Quant) -> int:
    """About how large the file will be: its tensors and some 60 bytes for each token of the vocabulary."""
    return sum(tensor.size_bytes for tensor in _plan_tensors(shape, quant)) + 60 * shape.vocabulary


def write_random_model(path: Path, shape: ModelShape, quant: Quant, *, seed: int, progress: Progress) -> None:
    """Write the GGUF file at path, which may exist and is overwritten; the caller makes that atomic.

    The same shape, type and seed give the same file. Raises PreflightError when the `models` extra is missing.
    """
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        raise PreflightError(
            f"making a model needs a Python package that is not installed: {error.name}",
            hint="Install the extra: pip install 'bedplate[models]'.",
        ) from error
    tensors = _plan_tensors(shape, quant)
    total = sum(tensor.size_bytes for tensor in tensors)
    rng = np.random.Generator(np.random.SFC64(seed))
    with progress.phase(f"write {len(tensors)} random tensors, {render_size(total)}"):
        writer = gguf.GGUFWriter(None, shape.architecture)
        _add_metadata(writer, shape, quant)
        for tensor in tensors:
            # add_tensor_info takes the shape of the bytes where a block type is named
            number, block, block_bytes = _TYPE_BY_NAME[tensor.type]
            row_bytes = tensor.columns // block * block_bytes
            dtype = np.dtype(np.float32 if tensor.type == "F32" else np.uint8)
            last = tensor.columns if tensor.type == "F32" else row_bytes
            whole = (last,) if tensor.rows is None else (tensor.rows, last)
            kind = None if tensor.type == "F32" else gguf.GGMLQuantizationType(number)
            writer.add_tensor_info(tensor.name, whole, dtype, tensor.size_bytes, raw_dtype=kind)
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        done = 0
        with path.open("ab") as file:
            file.write(bytes(-file.tell() % 32))
            for tensor in tensors:
                for slab in _make_slabs(rng, tensor):
                    file.write(slab)
                    done += len(slab)
                    progress.detail(f"{render_size(done)} of {render_size(total)}")
                file.write(bytes(-file.tell() % 32))


def _plan_tensors(shape: ModelShape, quant: Quant) -> list[_Planned]:
    matrix = quant.name
    output = matrix if quant is not Quant.Q4_0 else "Q6_K" if shape.width % 256 == 0 else "Q8_0"
    attention, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    tensors = [
        _Planned(name="token_embd.weight", type=output if shape.tied else matrix, rows=shape.vocabulary, columns=shape.width)
    ]
    for layer in range(shape.layers):
        rows: list[tuple[str, str, int | None, int]] = [
            ("attn_norm.weight", "F32", None, shape.width),
            ("attn_q.weight", matrix, attention, shape.width),
            ("attn_k.weight", matrix, kv, shape.width),
            ("attn_v.weight", matrix, kv, shape.width),
            ("attn_output.weight", matrix, shape.width, attention),
            ("ffn_norm.weight", "F32", None, shape.width),
            ("ffn_gate.weight", matrix, shape.feed_forward, shape.width),
            ("ffn_up.weight", matrix, shape.feed_forward, shape.width),
            ("ffn_down.weight", matrix, shape.width, shape.feed_forward),
        ]
        if shape.qkv_bias:
            rows += [
                ("attn_q.bias", "F32", None, attention),
                ("attn_k.bias", "F32", None, kv),
                ("attn_v.bias", "F32", None, kv),
            ]
        if shape.qk_norm:
            rows += [
                ("attn_q_norm.weight", "F32", None, shape.head_size),
                ("attn_k_norm.weight", "F32", None, shape.head_size),
            ]
        tensors += [
            _Planned(name=f"blk.{layer}.{name}", type=kind, rows=high, columns=wide) for name, kind, high, wide in rows
        ]
    tensors.append(_Planned(name="output_norm.weight", type="F32", rows=None, columns=shape.width))
    if not shape.tied:
        tensors.append(_Planned(name="output.weight", type=output, rows=shape.vocabulary, columns=shape.width))
    return tensors


def _make_slabs(rng: np.random.Generator, tensor: _Planned) -> Iterator[bytes]:
    """The bytes of a tensor, at most SLAB_BYTES at a time. Standard deviation 1/sqrt(columns), as trained weights have."""
    import numpy as np

    if tensor.rows is None:
        value = 0.0 if tensor.name.endswith(".bias") else 1.0
        yield np.full(tensor.columns, value, dtype=np.float32).tobytes()
        return
    _, block, block_bytes = _TYPE_BY_NAME[tensor.type]
    deviation = 1 / math.sqrt(tensor.columns)
    blocks = tensor.elements // block
    step = SLAB_BYTES // (block_bytes + 16 * (block == 1))  # floats go through float32 on their way
    for start in range(0, blocks, step):
        yield _make_blocks(rng, tensor.type, min(step, blocks - start), deviation)


def _make_blocks(rng: np.random.Generator, kind: str, count: int, deviation: float) -> bytes:
    """Random blocks as ggml-common.h lays them out. A uniform number of n values has deviation sqrt((n^2 - 1) / 12)."""
    import numpy as np

    def scale(values: int) -> Any:
        return np.float16(deviation / math.sqrt((values**2 - 1) / 12))

    if kind in ("F16", "BF16"):
        numbers = rng.standard_normal(count, dtype=np.float32) * np.float32(deviation)
        return (
            numbers.astype(np.float16).tobytes()
            if kind == "F16"
            else (numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        )
    if kind == "Q6_K":  # 128 low and 64 high bytes, 16 scales, one scale of those
        blocks = np.empty(count, dtype=[("low_high", "u1", 192), ("scales", "i1", 16), ("scale", "<f2")])
        blocks["low_high"] = rng.integers(0, 256, (count, 192), dtype=np.uint8)
        blocks["scales"], blocks["scale"] = 32, np.float16(scale(64) / np.float16(32))
        return blocks.tobytes()
    quants = {"Q4_0": 16, "Q8_0": 32}[kind]
    blocks = np.empty(count, dtype=[("scale", "<f2"), ("quants", "u1", quants)])
    blocks["scale"] = scale(16 if kind == "Q4_0" else 256)
    blocks["quants"] = rng.integers(0, 256, (count, quants), dtype=np.uint8)
    return blocks.tobytes()


def _add_metadata(writer: Any, shape: ModelShape, quant: Quant) -> None:
    writer.add_type("model")
    writer.add_name(f"random {shape.id}")
    writer.add_description("Random weights in a real model's shape, for speed tests. Its answers mean nothing.")
    writer.add_file_type(_FILE_TYPE[quant])
    writer.add_quantization_version(2)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    tokens = _make_vocabulary(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    # Fillers are normal tokens: unused or control ones print as nothing, and a client would see an empty stream.
    writer.add_token_types([3 if token in ("<|begin|>", "<|end|>") else 1 for token in tokens])
    writer.add_token_merges(["Ġ w"])  # llama.cpp refuses a BPE vocabulary without merges
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template(
        "{{- bos_token -}}"
        "{%- for message in messages -%}{{- message['role'] + ': ' + message['content'] + '\\n' -}}{%- endfor -%}"
    )


def _make_vocabulary(size: int) -> list[str]:
    """Begin, end, the 256 bytes in GPT-2's alphabet, the result of the one merge, then words "Ġw0", "Ġw1"."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    tokens = ["<|begin|>", "<|end|>", *alphabet, "Ġw"]
    return tokens + [f"Ġw{index}" for index in range(size - len(tokens))]
