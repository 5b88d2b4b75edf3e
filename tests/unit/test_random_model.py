"""Models of random weights have the real ones' shapes; the header that is read back is the proof."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.unit.store_cases import Heard

from bedplate.catalog.shapes import ModelShape, find_shape, read_shapes
from bedplate.errors import UsageError
from bedplate.weights.gguf import read_gguf
from bedplate.weights.random_model import Quant, _plan_tensors, random_model_bytes, write_random_model

# From the models' cards and the headers of the published files.
REAL_PARAMETERS = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-4b": 4_022_468_096,
}


def test_shapes_have_the_parameters_of_the_real_models() -> None:
    planned = {shape.id: sum(tensor.elements for tensor in _plan_tensors(shape, Quant.F16)) for shape in read_shapes()}
    assert planned == REAL_PARAMETERS


def small(id: str) -> ModelShape:
    """The same architecture, small enough for a unit test."""
    return replace(find_shape(id), layers=2, width=256, heads=4, kv_heads=2, head_size=64, feed_forward=512, vocabulary=600)


@pytest.mark.parametrize("id", ["llama-3.2-1b", "llama-3.1-8b", "qwen2.5-0.5b", "qwen3-0.6b"])
@pytest.mark.parametrize("quant", list(Quant))
def test_the_header_says_what_was_asked_for(tmp_path: Path, id: str, quant: Quant) -> None:
    path, shape = tmp_path / "random.gguf", small(id)
    write_random_model(path, shape, quant, seed=1, progress=Heard())
    header = read_gguf(path)
    assert (header.architecture, header.context_length) == (shape.architecture, shape.context_length)
    assert header.quantisation == quant.name
    assert header.kv_bytes_per_token == 2 * 2 * 64 * 2 * 2
    assert (header.vocabulary, header.chat_template) == (600, True)
    assert {tensor.name for tensor in header.tensors} == {tensor.name for tensor in _plan_tensors(shape, quant)}
    assert abs(random_model_bytes(shape, quant) - path.stat().st_size) < 64 * 1024


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    digests = []
    for seed in (1, 1, 2):
        write_random_model(tmp_path / "x.gguf", small("llama-3.2-1b"), Quant.Q4_0, seed=seed, progress=Heard())
        digests.append(hashlib.sha256((tmp_path / "x.gguf").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("quant", list(Quant))
def test_weights_are_as_wide_as_trained_ones(tmp_path: Path, quant: Quant) -> None:
    """Read by the gguf package: finite, about zero on average, deviation 1/sqrt(columns)."""
    path = tmp_path / "random.gguf"
    write_random_model(path, small("llama-3.2-1b"), quant, seed=1, progress=Heard())
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all()
        if values.ndim == 2:
            expected = 1 / math.sqrt(values.shape[1])
            assert abs(float(values.std()) / expected - 1) < 0.05, tensor.name
            assert abs(float(values.mean())) < 0.2 * expected


def test_unknown_shapes_are_told() -> None:
    with pytest.raises(UsageError, match=r"gpt-9: no shape has this name; the shapes are: llama-3\.2-1b"):
        find_shape("gpt-9")
