"""The known-answer model as Transformers and vLLM read it: config.json, model.safetensors, tokenizer.json and its settings.

Made by the trainer, and from the GGUF that ships: both hold the same values, so that what was measured with one engine is
what every engine must answer. Sources: the README of the safetensors format; tokenizers 0.23's own tokenizer.json of a
byte-level BPE. Nothing here needs PyTorch or the tokenizers package.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from bedplate.act.files import write_report
from bedplate.catalog.facts import KNOWN_ANSWER_GGUF
from bedplate.errors import ModelRefused
from bedplate.weights.gguf import read_gguf
from bedplate.weights.known_answer_shape import Shape

Weights = dict[str, Any]
"""Name in Transformers' words -> float32 array."""
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Of a layer, Transformers' name -> GGUF's."""
OTHER_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_ALIGNMENT = 8  # bytes: the header is filled with blanks so that the data begins at a multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a tokenizer consists of; the index of a token is its id."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    special: tuple[str, ...]
    begin: str
    end: str
    chat_template: str


def convert_known_answer(output: Path, source: Path = KNOWN_ANSWER_GGUF) -> tuple[Path, ...]:
    """Write a known-answer GGUF into a directory in Transformers' form; gives the files. One source, one set of bytes.

    Raises ModelRefused for another kind of GGUF: only a Llama in Q8_0 with a tied output matrix and GPT-2's tokenizer is
    converted. Raises ReadError for a file that cannot be read, OSError for a directory that cannot be written.
    """
    read_gguf(source)  # bounded, and refuses what is broken; the gguf package trusts its input
    reader = gguf.GGUFReader(source)
    output.mkdir(parents=True, exist_ok=True)
    return write_transformers(output, _read_shape(reader, source), _read_weights(reader, source), _read_vocabulary(reader))


def write_transformers(output: Path, shape: Shape, weights: Weights, vocabulary: Vocabulary) -> tuple[Path, ...]:
    """Write all FILES into a directory that is there; gives their paths. Raises OSError."""
    begin, end = vocabulary.tokens.index(vocabulary.begin), vocabulary.tokens.index(vocabulary.end)
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    texts: dict[str, str | bytes] = {
        "config.json": _render(_config(shape, begin, end)),
        "generation_config.json": _render(
            {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end, "do_sample": False}
        ),
        "model.safetensors": render_safetensors(halves),
        "tokenizer.json": _render(_tokenizer(vocabulary)),
        "tokenizer_config.json": _render(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": vocabulary.begin,
                "eos_token": vocabulary.end,
                "pad_token": vocabulary.end,
                "model_max_length": shape.context_length,
                "clean_up_tokenization_spaces": False,
                "chat_template": vocabulary.chat_template,
            }
        ),
    }
    for name in FILES:
        write_report(output / name, texts[name])
    return tuple(output / name for name in FILES)


def render_safetensors(weights: Mapping[str, Any]) -> bytes:
    """A safetensors file of 16-bit floats: tensors by name, without holes, the header padded to 8 bytes.

    Raises ValueError for an array of another type.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blocks: list[bytes] = []
    offset = 0
    for name, value in sorted(weights.items()):
        if value.dtype != np.float16:
            raise ValueError(f"{name}: got {value.dtype}, expected float16")
        blocks.append(np.ascontiguousarray(value).astype("<f2", copy=False).tobytes())
        end = offset + len(blocks[-1])
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, *blocks])


def pair_rows(value: Any, heads: int) -> Any:
    """Rows of a head from halves (0 1 .. | n/2 ..) to neighbouring pairs (0 n/2 1 n/2+1 ..); a row may be quantised."""
    rows, columns = value.shape
    return value.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def unpair_rows(value: Any, heads: int) -> Any:
    """The inverse of pair_rows: GGUF's Llama rotates neighbouring pairs, Transformers' rotates halves."""
    rows, columns = value.shape
    return value.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def gguf_name(name: str) -> str:
    """model.layers.0.mlp.up_proj.weight -> blk.0.ffn_up.weight"""
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    _, _, layer, *middle, last = name.split(".")
    return f"blk.{layer}.{LAYER_NAMES['.'.join(middle)]}.{last}"


def heads_of(name: str, shape: Shape) -> int | None:
    """How many heads share the rows of a matrix that the two forms order differently; None for every other tensor."""
    return {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(name.split(".")[-2])


def _names(shape: Shape) -> list[str]:
    """All tensors of the model in Transformers' words."""
    layers = [f"model.layers.{layer}.{part}.weight" for layer in range(shape.layers) for part in LAYER_NAMES]
    return [*OTHER_NAMES, *layers]


def _read_shape(reader: Any, source: Path) -> Shape:
    def value(key: str) -> Any:
        field = reader.get_field(key)
        if field is None:
            raise ModelRefused(f"{source}: {key}: is missing, expected a known-answer model")
        return field.contents()

    architecture, tokenizer = value("general.architecture"), value("tokenizer.ggml.pre")
    if (architecture, tokenizer) != ("llama", "gpt-2"):
        raise ModelRefused(
            f"{source}: architecture {architecture!r} with tokenizer {tokenizer!r}, expected 'llama' with 'gpt-2'",
            hint="Only the known-answer model is converted; get other models as safetensors from where they are published.",
        )
    epsilon = float(np.float32(value("llama.attention.layer_norm_rms_epsilon")))
    return Shape(
        vocabulary=value("llama.vocab_size"),
        width=value("llama.embedding_length"),
        layers=value("llama.block_count"),
        heads=value("llama.attention.head_count"),
        kv_heads=value("llama.attention.head_count_kv"),
        feed_forward=value("llama.feed_forward_length"),
        context_length=value("llama.context_length"),
        rope_base=value("llama.rope.freq_base"),
        norm_epsilon=float(f"{epsilon:.7g}"),  # stored in 32 bits, written as a person writes it: 1e-05
    )


def _read_weights(reader: Any, source: Path) -> Weights:
    shape = _read_shape(reader, source)
    there = {tensor.name: tensor for tensor in reader.tensors}
    wanted = {gguf_name(name): name for name in _names(shape)}
    if different := sorted(there.keys() ^ wanted.keys()):
        raise ModelRefused(
            f"{source}: its tensors are not those of a known-answer model: {', '.join(different[:5])} differ",
            hint="Only the known-answer model is converted.",
        )
    weights: Weights = {}
    for own, name in wanted.items():
        tensor = there[own]
        value = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        heads = heads_of(name, shape)
        weights[name] = value if heads is None else unpair_rows(value, heads)
    return weights


def _read_vocabulary(reader: Any) -> Vocabulary:
    tokens = tuple(reader.get_field("tokenizer.ggml.tokens").contents())
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    return Vocabulary(
        tokens=tokens,
        merges=tuple(_split_merge(merge) for merge in merges),
        special=tuple(token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.CONTROL),
        begin=tokens[reader.get_field("tokenizer.ggml.bos_token_id").contents()],
        end=tokens[reader.get_field("tokenizer.ggml.eos_token_id").contents()],
        chat_template=reader.get_field("tokenizer.chat_template").contents(),
    )


def _split_merge(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")  # a blank in a token is written as Ġ
    return left, right


def _config(shape: Shape, begin: int, end: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE that puts the first token before each text, as llama.cpp does (add_bos_token)."""
    begin = vocabulary.begin
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {
            "id": vocabulary.tokens.index(token),
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in vocabulary.special
    ]
    first: Sequence[Any] = [{"SpecialToken": {"id": begin, "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [*first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                begin: {"id": begin, "ids": [vocabulary.tokens.index(begin)], "tokens": [begin]},
            },
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(vocabulary.tokens)},
            "merges": [list(merge) for merge in vocabulary.merges],
        },
    }


def _render(table: Mapping[str, Any]) -> str:
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
