"""How large a GGUF's weights are where llama.cpp lays them out anew for CPUs with AMX.

A matrix whose type and shape the AMX code takes is copied into memory of the engine's own, with sums added to some types.
All else stays mapped from the file. An embedding that is the output matrix too is needed in both forms. Source: ggml's
ggml-cpu/amx (get_row_size, supports_op) of 2026, and what llama-server 0.7.0 logs (tests/serving/test_fit.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from bedplate.model.modelfile import Tensor

_GROWTH = {
    "Q4_0": Fraction(1),
    "Q4_1": Fraction(1),
    "Q8_0": Fraction(38, 34),
    "Q4_K": Fraction(148, 144),
    "Q5_K": Fraction(180, 176),
    "Q6_K": Fraction(1),
    "IQ4_XS": Fraction(138, 136),
    "F16": Fraction(1),
}
"""Bytes of a block in the new layout, against those in the file."""
_ALIGNMENT = {"Q4_0": 32, "Q4_1": 32, "Q8_0": 32, "F16": 16}
_SUPERBLOCK = 256
_TILES = 32
"""The number of rows is a multiple of it."""
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


def amx_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of all weights, mapped ones included. Shapes are GGUF's: the length of a row first."""
    tied = all(tensor.name != _OUTPUT for tensor in tensors)
    total = Fraction(0)
    for tensor in tensors:
        if tensor.name == _EMBEDDING:
            total += tensor.size_bytes + (tensor.size_bytes * _GROWTH[tensor.type] if tied and _is_packed(tensor) else 0)
        else:
            total += tensor.size_bytes * (_GROWTH[tensor.type] if _is_packed(tensor) else 1)
    return int(total)


def _is_packed(tensor: Tensor) -> bool:
    """Whether it is multiplied as one matrix, in a type and of a shape that AMX takes; experts are multiplied otherwise."""
    if len(tensor.shape) != 2 or tensor.type not in _GROWTH or not tensor.name.endswith(".weight"):
        return False
    row, rows = tensor.shape
    return row % _ALIGNMENT.get(tensor.type, _SUPERBLOCK) == 0 and rows % _TILES == 0
