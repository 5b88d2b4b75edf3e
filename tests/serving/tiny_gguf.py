"""A model with random weights that llama-server loads: it answers nonsense, at a speed that its size decides."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WORDS = 1024
SAID = WORDS - 2
"""Index of the token that a model which says one word says."""


def write_tiny_model(
    path: Path, *, embedding: int = 256, layers: int = 4, context: int = 8192, seed: int = 7, says: str | None = None
) -> None:
    """A Llama of 8-bit-sized shape in 16-bit floats; about 12 * layers * embedding**2 weights.

    With `says` each of its tokens is that word, whatever it is asked and whatever processor computes it: layers that add
    nothing to embeddings of ones, and an output that is 1 for the word and 0 for all others.
    """
    heads, feed_forward = 4, embedding * 4
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(embedding)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(embedding // heads)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    # Byte-level BPE: the 256 byte symbols, then words of two letters; gpt2 needs at least one merge to load.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [first + second for first in letters for second in letters]
    tokens = [*symbols, *pairs, *[f"w{index}" for index in range(WORDS - 256 - len(pairs) - 1)], "<|end|>"]
    if says is not None:
        tokens[SAID] = says
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (WORDS - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges([f"{pair[0]} {pair[1]}" for pair in pairs])
    writer.add_bos_token_id(WORDS - 1)
    writer.add_eos_token_id(WORDS - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}\n{% endfor %}")

    def tensor(name: str, rows: int, columns: int) -> None:
        weights = random.standard_normal((rows, columns)) / np.sqrt(columns)
        if says is not None:
            weights = np.full((rows, columns), 1.0 if name == "token_embd.weight" else 0.0)
            if name == "output.weight":
                weights[SAID] = 1.0
        writer.add_tensor(name, weights.astype(np.float16))

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(embedding, dtype=np.float32))

    tensor("token_embd.weight", WORDS, embedding)
    norm("output_norm.weight")
    tensor("output.weight", WORDS, embedding)
    for layer in range(layers):
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{layer}.{name}.weight", embedding, embedding)
        tensor(f"blk.{layer}.ffn_gate.weight", feed_forward, embedding)
        tensor(f"blk.{layer}.ffn_up.weight", feed_forward, embedding)
        tensor(f"blk.{layer}.ffn_down.weight", embedding, feed_forward)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
