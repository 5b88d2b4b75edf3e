"""The numbers of a decoder from a config.json as Transformers writes it: input from strangers, so every number is bounded.

A file need not say what its class would fill in, and a default of the class is another model's value: what is missing is
refused by name, or counts as the larger case, with a note. Keys: the configuration classes of Transformers 5.24.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.catalog.window_patterns import count_window_layers, find_window_pattern
from bedplate.errors import ModelRefused
from bedplate.model.decoder import DecoderShape
from bedplate.weights.safetensors import read_config

_WINDOWED = frozenset(["sliding_attention", "chunked_attention"])
_RECURRENT = frozenset(["linear_attention", "mamba", "mamba2", "recurrent"])
_MOST_LAYERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigShape:
    """What a config.json says: the shape, and which weights it announces."""

    architecture: str
    shape: DecoderShape
    precision: str
    """"bf16", "fp8", "mxfp4", "int4": the id of a precision row; "" for a quantisation that has no row."""
    notes: tuple[str, ...]
    """What the file leaves open, and how it was counted."""


def read_config_shape(path: Path) -> ConfigShape:
    """The shape of a config.json. Raises ReadError, and ModelRefused naming the key that is missing or wrong."""
    return parse_config_shape(read_config(path), str(path))


def parse_config_shape(config: dict[str, Any], where: str) -> ConfigShape:
    """The same of a table that was parsed already; `where` begins the messages."""
    text = config.get("text_config", config)  # models that also see keep the language model's numbers in there
    if not isinstance(text, dict):
        raise ModelRefused(f"{where}: text_config: expected an object")
    keys = _Keys(text, where)
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or not architecture.isprintable() or len(architecture) > 64:
        raise ModelRefused(f"{where}: model_type: got {str(architecture)[:80]!r}, expected a name such as 'llama'")
    notes: list[str] = []
    layers = keys.needed("num_hidden_layers", most=_MOST_LAYERS)
    hidden, heads = keys.needed("hidden_size"), keys.needed("num_attention_heads")
    latent = keys.number("kv_lora_rank")
    kinds = keys.names("layer_types", layers)
    window, window_layers = _window(keys, text, architecture, layers, kinds, notes)
    recurrent = sum(1 for kind in kinds if kind in _RECURRENT)
    state_layers, conv_values, state_values, attending = _states(keys, layers, recurrent, notes)
    experts = keys.first("n_routed_experts", "num_local_experts", "num_experts")
    moe = keys.number("moe_intermediate_size") or (keys.number("intermediate_size") if experts else 0)
    shared = keys.number("n_shared_experts")
    if experts and architecture in ("llama4", "llama4_text"):
        moe, shared = keys.number("intermediate_size"), 1
    shape = DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        vocabulary=keys.needed("vocab_size"),
        kv_heads=0 if latent else keys.number("num_key_value_heads", heads),
        head_size=0 if latent else keys.number("head_dim", hidden // heads),
        value_size=keys.number("v_head_dim") if latent else 0,
        intermediate=0 if experts and moe == keys.number("intermediate_size") else keys.number("intermediate_size"),
        tied=text.get("tie_word_embeddings", config.get("tie_word_embeddings")) is True,
        attention_layers=attending,
        window=window,
        window_layers=window_layers,
        kv_lora_rank=latent,
        q_lora_rank=keys.number("q_lora_rank"),
        rope_size=keys.needed("qk_rope_head_dim") if latent else 0,
        nope_size=keys.needed("qk_nope_head_dim") if latent else 0,
        index_size=keys.number("index_head_dim"),
        index_heads=keys.number("index_n_heads"),
        experts=experts,
        experts_per_token=keys.first("num_experts_per_tok", "moe_topk") if experts else 0,
        shared_experts=shared,
        moe_intermediate=moe if experts else 0,
        dense_layers=min(layers, keys.number("first_k_dense_replace")) if experts else 0,
        state_layers=state_layers,
        conv_values=conv_values,
        state_values=state_values,
        context=keys.number("max_position_embeddings"),
    )
    if not latent and not (shape.kv_heads and shape.head_size):
        raise ModelRefused(f"{where}: num_key_value_heads and head_dim: got 0, expected at least 1")
    return ConfigShape(architecture=architecture, shape=shape, precision=_precision(config, text), notes=tuple(notes))


class _Keys:
    """Whole numbers of a table of strangers, each bounded, refused by name."""

    def __init__(self, table: dict[str, Any], where: str) -> None:
        self._table, self._where = table, where

    def number(self, key: str, default: int = 0, *, most: int = 2**31 - 1) -> int:
        value = self._table.get(key)
        if value is None:
            return default
        if type(value) is not int or not 0 <= value <= most:
            raise ModelRefused(f"{self._where}: {key}: got {str(value)[:80]}, expected a whole number up to {most}")
        return value

    def needed(self, key: str, *, most: int = 2**31 - 1) -> int:
        value = self.number(key, most=most)
        if value == 0:
            raise ModelRefused(
                f"{self._where}: {key}: missing, expected a whole number above 0",
                hint="Take the config.json that was published with the weights; a library's defaults are another model's.",
            )
        return value

    def first(self, *keys: str) -> int:
        """The first of several names of one number; 0 for none of them."""
        return next((number for key in keys if (number := self.number(key))), 0)

    def names(self, key: str, count: int) -> tuple[str, ...]:
        """A list of one name for each layer; () where there is none."""
        value = self._table.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) != count or not all(isinstance(name, str) for name in value):
            raise ModelRefused(f"{self._where}: {key}: expected a list of {count} names, one for each layer")
        return tuple(value)


def _window(
    keys: _Keys, text: dict[str, Any], architecture: str, layers: int, kinds: tuple[str, ...], notes: list[str]
) -> tuple[int, int]:
    """(tokens of the window, layers that keep only it)."""
    row = find_window_pattern(architecture)
    window = keys.first("sliding_window", "attention_chunk_size") or (row.chunk if row is not None else 0)
    if not window or text.get("use_sliding_window") is False:
        return 0, 0
    if kinds:
        kept = sum(1 for kind in kinds if kind in _WINDOWED)
        return (window, kept) if kept else (0, 0)
    period = keys.number("sliding_window_pattern") or (row.period if row is not None else 0)
    if period > 1:
        return window, count_window_layers(layers, period)
    notes.append(f"the file has a window of {window} tokens and does not say for which layers: none is counted")
    return 0, 0


def _states(keys: _Keys, layers: int, recurrent: int, notes: list[str]) -> tuple[int, int, int, int]:
    """(layers with a state, values of their convolution, of their recurrence, layers with attention or 0 for all)."""
    if not recurrent:
        return 0, 0, 0, 0
    key_heads, value_heads = keys.number("linear_num_key_heads"), keys.number("linear_num_value_heads")
    key_size, value_size = keys.number("linear_key_head_dim"), keys.number("linear_value_head_dim")
    kernel = max(1, keys.number("linear_conv_kernel_dim", 4))
    if not (key_heads and value_heads and key_size and value_size):
        notes.append(f"{recurrent} recurrent layers, whose state the file does not describe: it is not counted")
        return 0, 0, 0, layers - recurrent
    channels = 2 * key_heads * key_size + value_heads * value_size
    return recurrent, (kernel - 1) * channels, value_heads * key_size * value_size, layers - recurrent


def _precision(config: dict[str, Any], text: dict[str, Any]) -> str:
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        return {"fp8": "fp8", "mxfp4": "mxfp4", "awq": "int4", "gptq": "int4"}.get(str(quantised.get("quant_method")), "")
    kind = text.get("dtype", text.get("torch_dtype", config.get("dtype", config.get("torch_dtype"))))
    return "bf16" if kind in ("bfloat16", "float16") else ""
