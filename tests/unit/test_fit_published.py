"""The arithmetic of `fit` against published sizes and the logs of engines on real accelerators."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.catalog.models import find_model_row, read_model_rows
from bedplate.flows.fit import read_fit_model
from bedplate.model.catalogued import EngineRow
from bedplate.model.decoder import DecoderShape
from bedplate.model.units import GIB, MIB
from bedplate.plan.cache import buffer_bytes, kv_cache_bytes
from bedplate.plan.parameters import count_parameters

ENGINES = {row.id: row for row in read_fit_engines().engine}
PRECISIONS = {row.id: row for row in read_fit_engines().precision}


def shape(name: str) -> DecoderShape:
    return find_model_row(name, read_model_rows()).shape


def token_bytes(name: str, engine: EngineRow, devices: int = 1) -> float:
    """Bytes of one token on one device, of a long context."""
    context = 1 << 20
    return kv_cache_bytes(shape(name), engine, context=context, sequences=1, devices=devices) / context


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama-3.1-8b", 8.03e9),
        ("llama-3.1-70b", 70.6e9),
        ("qwen3-32b", 32.8e9),
        ("qwen3-235b-a22b", 235e9),
        ("deepseek-v3", 671e9),
        ("kimi-k2", 1.026e12),
        ("gpt-oss-20b", 20.9e9),
        ("gpt-oss-120b", 116.8e9),
        ("gemma-3-27b", 27.0e9),
        ("mistral-small-24b", 23.6e9),
        ("glm-5", 744e9),
        ("glm-4.5-air", 106.85e9),
    ],
)
def test_parameters_counted_are_those_of_the_model_card(name: str, published: float) -> None:
    count = count_parameters(shape(name))
    assert count is not None and count.total == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("name", "published"),
    [("gpt-oss-20b", 3.6e9), ("gpt-oss-120b", 5.1e9), ("deepseek-v3", 37e9), ("kimi-k2", 32e9), ("glm-5", 40e9)],
)
def test_active_parameters_are_those_of_the_model_card(name: str, published: float) -> None:
    count = count_parameters(shape(name))
    assert count is not None and count.active == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama-3.1-8b", 256 * MIB / 2048),
        ("llama-3.1-70b", 640 * MIB / 2048),
        ("deepseek-v3", 70272),
        ("known-answer", 1536),
    ],
)
def test_kv_of_a_token_is_the_published_one(name: str, published: float) -> None:
    assert shape(name).kv_bytes_per_token == published


def test_kv_of_a_public_vllm_log() -> None:
    """11.12 GiB free and 5691 blocks of 16 tokens, Llama 3 8B."""
    assert 11.12 * GIB / token_bytes("llama-3.1-8b", ENGINES["vllm"]) == pytest.approx(5691 * 16, rel=0.005)


def test_kv_of_a_mixture_of_experts_over_four_devices() -> None:
    """vLLM #21348: Qwen3-235B on 4 H100: vLLM 8.11 GiB and 178880 tokens; SGLang 8.23 GiB each of K and V, 367404 tokens."""
    assert 8.11 * GIB / token_bytes("qwen3-235b-a22b", ENGINES["vllm"], 4) == pytest.approx(178_880, rel=0.02)
    assert 2 * 8.23 * GIB / token_bytes("qwen3-235b-a22b", ENGINES["sglang"], 4) == pytest.approx(367_404, rel=0.005)


def test_what_is_left_for_the_kv_cache_in_a_public_vllm_log() -> None:
    """vLLM PR #10511, Llama 3 8B on an A100: 79.22 GiB, 0.90 of it used, 14.96 of weights, 53.29 left for the KV cache."""
    count = count_parameters(shape("llama-3.1-8b"))
    assert count is not None
    assert count.total * 2 == pytest.approx(14.96 * GIB, rel=0.005)
    engine = ENGINES["vllm"]
    buffers = buffer_bytes(shape("llama-3.1-8b"), engine, context=8192, sequences=1)
    assert buffers == pytest.approx(1.26 * GIB, rel=0.05)
    left = 79.22 * 0.90 * GIB - count.total * 2 - buffers - engine.runtime_bytes
    assert left == pytest.approx(53.29 * GIB, rel=0.01)


def test_kv_of_vllm_on_a_cpu() -> None:
    """vLLM 0.32, known-answer model, 1 GiB of cache: 699008 tokens; on a CPU its blocks have 128 tokens."""
    blocks = GIB // (128 * token_bytes("known-answer", ENGINES["vllm"]))
    assert blocks * 128 == 699_008


CPU = dataclasses.replace(ENGINES["vllm"], block_tokens=128, batch_tokens=4096)
"""As vLLM 0.32.0 is on a CPU: it logs "max_num_batched_tokens=4096", and its blocks have 128 tokens."""
GROUPED = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
UNGROUPED = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_size": 384,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
WINDOWED = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 8192,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("config", "requests", "tokens"),
    [(GROUPED, 85.31, 349_440), (UNGROUPED, 34.12, 139_776), (WINDOWED, 32.90, 269_513)],
    ids=["grouped queries", "a head of its own for each query", "sliding window"],
)
def test_kv_of_three_shapes_of_vllm_on_a_cpu(
    config: dict[str, object], requests: float, tokens: int, tmp_path: Path
) -> None:
    """vLLM 0.32.0 logged it for random weights and 1 GiB of cache: most requests of the longest context, and all tokens."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = read_fit_model(str(tmp_path), read_fit_engines()).shape
    context = model.context
    each = kv_cache_bytes(model, CPU, context=context, sequences=1)
    assert GIB / each == pytest.approx(requests, rel=0.001)
    assert GIB / each * context == pytest.approx(tokens, rel=0.001)


def test_weights_of_a_checkpoint_whose_size_is_published() -> None:
    """gpt-oss: experts in mxfp4, all else in bf16: 12.8 and 60.8 GiB."""
    for name, gib in (("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)):
        count = count_parameters(shape(name))
        assert count is not None
        computed = count.routed * PRECISIONS["mxfp4"].bits / 8 + (count.total - count.routed) * 2
        assert computed == pytest.approx(gib * GIB, rel=0.02)


def test_a_published_gguf_file() -> None:
    """Llama 3.1 8B Q4_K_M has 4.92e9 bytes, Q8_0 has 8.54e9."""
    count = count_parameters(shape("llama-3.1-8b"))
    assert count is not None
    assert count.total * PRECISIONS["q4_k_m"].bits / 8 == pytest.approx(4.92e9, rel=0.01)
    assert count.total * PRECISIONS["q8_0"].bits / 8 == pytest.approx(8.54e9, rel=0.01)
