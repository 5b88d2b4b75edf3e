"""Writes the known-answer model: GGUF in Q8_0 for llama.cpp, and the directory that Transformers and vLLM read.

The two differ in the order of the rows of Q and K: GGUF's Llama rotates neighbouring pairs, Transformers rotates halves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from bedplate.act.files import write_report

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bedplate.weights.tiny_llama import Shape, TinyLlama

Weights = dict[str, Any]
"""Name in Transformers' words -> float32 array."""
_Q8 = gguf.GGMLQuantizationType.Q8_0
_LAYER_NAMES = {
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
    _write_transformers(output, shape, weights, tokenizer)
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
        heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(name.split(".")[-2])
        raw_dtype = _Q8 if value.dtype == np.uint8 else None
        writer.add_tensor(_gguf_name(name), value if heads is None else _pair_rows(value, heads), raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    """model.layers.0.mlp.up_proj.weight -> blk.0.ffn_up.weight"""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, *middle, last = name.split(".")
    return f"blk.{layer}.{_LAYER_NAMES['.'.join(middle)]}.{last}"


def _pair_rows(value: Any, heads: int) -> Any:
    """Rows of a head from halves (0 1 .. | n/2 ..) to neighbouring pairs (0 n/2 1 n/2+1 ..); a row may be quantised."""
    rows, columns = value.shape
    return value.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_transformers(output: Path, shape: Shape, weights: Weights, tokenizer: Tokenizer) -> None:
    from safetensors.numpy import save_file

    from bedplate.weights.known_answer import BEGIN, CHAT_TEMPLATE, END

    path = output / "model.safetensors"
    save_file({name: value.astype(np.float16) for name, value in weights.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it 0600
    tokenizer.save(str(output / "tokenizer.json"))
    begin, end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(END)
    texts = {
        "config.json": {
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
        },
        "generation_config.json": {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end, "do_sample": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": END,
            "model_max_length": shape.context_length,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for name, value in texts.items():
        write_report(output / name, json.dumps(value, indent=2) + "\n")
