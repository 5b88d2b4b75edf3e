"""What a config.json says of memory: real keys of several families, and files of strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.catalog.models import find_model_row, read_model_rows
from bedplate.errors import BedplateError, ModelRefused
from bedplate.weights.config_shape import parse_config_shape, read_config_shape

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
DEEPSEEK = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_hidden_layers": 24,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "sliding_window": 128,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "quantization_config": {"quant_method": "mxfp4"},
}
GEMMA = {
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "num_hidden_layers": 62,
        "sliding_window": 1024,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    },
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("config", "row", "precision"),
    [
        (LLAMA, "llama-3.1-8b", "bf16"),
        (DEEPSEEK, "deepseek-v3", "fp8"),
        (GPT_OSS, "gpt-oss-20b", "mxfp4"),
        (GEMMA, "gemma-3-27b", "bf16"),
    ],
    ids=["gqa", "mla", "window", "nested"],
)
def test_a_published_file_gives_the_shape_of_the_catalog(config: dict[str, Any], row: str, precision: str) -> None:
    found = parse_config_shape(config, "config.json")
    assert found.shape == find_model_row(row, read_model_rows()).shape
    assert (found.precision, found.notes) == (precision, ())


def test_a_hybrid_keeps_states_of_its_linear_layers() -> None:
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 2
    config = LLAMA | {"num_hidden_layers": 8, "layer_types": kinds}
    linear = {
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    }
    shape = parse_config_shape(config | linear, "config.json").shape
    assert (shape.attention_layers, shape.state_layers) == (2, 6)
    assert (shape.conv_values, shape.state_values) == (3 * 8192, 32 * 128 * 128)
    unsaid = parse_config_shape(config, "config.json")
    assert unsaid.shape.state_layers == 0 and "not counted" in unsaid.notes[0]


def test_a_window_that_no_layer_is_named_for_counts_as_none() -> None:
    found = parse_config_shape(LLAMA | {"model_type": "unheard-of", "sliding_window": 4096}, "config.json")
    assert found.shape.window_layers == 0 and "does not say for which layers" in found.notes[0]
    assert parse_config_shape(LLAMA | {"sliding_window": 4096, "use_sliding_window": False}, "x").notes == ()


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
def test_what_is_missing_is_refused_by_name(key: str) -> None:
    config = {name: value for name, value in LLAMA.items() if name != key}
    with pytest.raises(ModelRefused, match=rf"config.json: {key}: missing") as refused:
        parse_config_shape(config, "config.json")
    assert refused.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: got"),
        ({"hidden_size": "wide"}, "hidden_size: got wide"),
        ({"vocab_size": -1}, "vocab_size: got -1"),
        ({"num_key_value_heads": True}, "num_key_value_heads: got True"),
        ({"layer_types": ["full_attention"]}, "expected a list of 32 names"),
        ({"model_type": 3}, "model_type: got '3'"),
        ({"text_config": []}, "text_config: expected an object"),
        ({"kv_lora_rank": 512}, "qk_rope_head_dim: missing"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelRefused, match=says):
        parse_config_shape(LLAMA | change, "config.json")


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert read_config_shape(tmp_path / "config.json").shape.layers == 32
    (tmp_path / "deep.json").write_text('{"a":' * 100 + "1" + "}" * 100)
    with pytest.raises(ModelRefused, match="deeper"):
        read_config_shape(tmp_path / "deep.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*LLAMA, *DEEPSEEK, *GPT_OSS, "text_config"]), JSON, max_size=6))
def test_any_file_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        parse_config_shape(DEEPSEEK | changes, "config.json")
    except BedplateError:
        return
