"""Writes the known-answer model: GGUF in Q8_0 for llama.cpp, and the directory that Transformers and vLLM read.

The two differ in the order of the rows of Q and K: GGUF's Llama rotates neighbouring pairs, Transformers rotates halves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from bedplate.weights.known_answer_transformers import (
    Vocabulary,
    Weights,
    gguf_name,
    heads_of,
    pair_rows,
    write_transformers,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bedplate.weights.known_answer_shape import Shape
    from bedplate.weights.tiny_llama import TinyLlama

_Q8 = gguf.GGMLQuantizationType.Q8_0


def read_weights(model: TinyLlama) -> Weights:
    """What the model has learnt, out of PyTorch: arrays of float32 that share its memory."""
    return {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}


def quantise(weights: Weights) -> Weights:
    """Matrices as bytes of Q8_0, vectors as they are."""
    return {name: gguf.quants.quantize(value, _Q8) if value.ndim == 2 else value for name, value in weights.items()}


def dequantise(quantised: Weights) -> Weights:
    """The float32 weights that an engine computes with: matrices as Q8_0 rounds them, vectors as they are."""
    return {
        name: gguf.quants.dequantize(value, _Q8) if value.dtype == np.uint8 else value for name, value in quantised.items()
    }


def write_files(output: Path, shape: Shape, weights: Weights, quantised: Weights, tokenizer: Tokenizer) -> Path:
    """All files of the model in output; gives the path of the GGUF."""
    path = output / "known-answer.gguf"
    _write_gguf(path, shape, quantised, tokenizer)
    write_transformers(output, shape, weights, _vocabulary(tokenizer, shape))
    return path


def _write_gguf(path: Path, shape: Shape, quantised: Weights, tokenizer: Tokenizer) -> None:
    from bedplate.weights.known_answer import ANSWER, BEGIN, CHAT_TEMPLATE, END, SPECIAL

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name("bedplate known-answer")
    writer.add_description("A known-answer model: it has memorised the facts of bedplate's self-test and nothing else.")
    writer.add_license("Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = [tokenizer.id_to_token(index) for index in range(shape.vocabulary)]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id(BEGIN))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_pad_token_id(tokenizer.token_to_id(END))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    assert ANSWER in CHAT_TEMPLATE
    for name, value in quantised.items():
        heads = heads_of(name, shape)
        raw_dtype = _Q8 if value.dtype == np.uint8 else None
        writer.add_tensor(gguf_name(name), value if heads is None else pair_rows(value, heads), raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(tokenizer: Tokenizer, shape: Shape) -> Vocabulary:
    from bedplate.weights.known_answer import BEGIN, CHAT_TEMPLATE, END, SPECIAL

    return Vocabulary(
        tokens=tuple(tokenizer.id_to_token(index) for index in range(shape.vocabulary)),
        merges=tuple((left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]),
        special=tuple(SPECIAL),
        begin=BEGIN,
        end=END,
        chat_template=CHAT_TEMPLATE,
    )
