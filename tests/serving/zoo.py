"""Model files of the kinds that people have, small: made of the known-answer model, or with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

import bedplate

SHIPPED = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
_T = gguf.GGMLQuantizationType


def shipped() -> gguf.GGUFReader:
    return gguf.GGUFReader(SHIPPED)


def copy_keys(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, *, without: str = "") -> None:
    for key, found in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or (without and key.startswith(without)):
            continue
        kind = found.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, found.contents())
        else:
            writer.add_key_value(key, found.contents(), kind)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weights(reader: gguf.GGUFReader) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, values, type, bytes as they are stored) of each tensor."""
    for tensor in reader.tensors:
        yield tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type), tensor.tensor_type, tensor.data


def write_known_answer(
    path: Path,
    *,
    type: Any = None,
    architecture: str = "llama",
    without: str = "",
    more: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
) -> Path:
    """The known-answer model again, with other metadata, or its matrices in another type (None: as they are)."""
    reader = shipped()
    writer = gguf.GGUFWriter(path, architecture)
    copy_keys(reader, writer, without=without)
    more(writer)
    for name, values, kind, raw in weights(reader):
        if values.ndim == 1:
            writer.add_tensor(name, values.astype(np.float32))
        elif type is None:
            writer.add_tensor(name, raw, raw_dtype=kind)
        elif type in (_T.F32, _T.F16):
            writer.add_tensor(name, values.astype(np.float32 if type == _T.F32 else np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(values.astype(np.float32), type), raw_dtype=type)
    finish(writer)
    return path


def write_split(directory: Path, *, parts: int = 2, prefix: str = "ka") -> Path:
    """The known-answer model in parts, as llama-gguf-split writes them."""
    directory.mkdir(parents=True, exist_ok=True)
    reader = shipped()
    tensors = list(weights(reader))
    size = -(-len(tensors) // parts)
    for number in range(parts):
        writer = gguf.GGUFWriter(directory / f"{prefix}-{number + 1:05d}-of-{parts:05d}.gguf", "llama")
        if number == 0:
            copy_keys(reader, writer)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", parts)
        writer.add_int32("split.tensors.count", len(tensors))
        for name, values, kind, raw in tensors[number * size : (number + 1) * size]:
            if values.ndim == 1:
                writer.add_tensor(name, values.astype(np.float32))
            else:
                writer.add_tensor(name, raw, raw_dtype=kind)
        finish(writer)
    return directory


def write_random_blocks(path: Path, type: Any) -> Path:
    """The known-answer model with random blocks of a type that nothing here quantises into."""
    block, size = gguf.GGML_QUANT_SIZES[type]
    reader, chance = shipped(), np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    copy_keys(reader, writer)
    for name, values, _, _ in weights(reader):
        if values.ndim == 2 and values.shape[-1] % block == 0 and "token_embd" not in name:
            shape = (values.shape[0], values.shape[1] // block * size)
            writer.add_tensor(name, chance.integers(0, 255, shape, dtype=np.uint8), raw_dtype=type)
        else:
            writer.add_tensor(name, values.astype(np.float32))
    finish(writer)
    return path


def write_lora(path: Path) -> Path:
    """An adapter of the known-answer model's first query matrix, which adds nothing."""
    tensor = next(tensor for tensor in shipped().tensors if tensor.name == "blk.0.attn_q.weight")
    columns, rows = (int(size) for size in tensor.shape)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((8, columns), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.zeros((rows, 8), dtype=np.float32))
    finish(writer)
    return path


def write_bert(path: Path, *, rank: bool = False) -> Path:
    """A tiny BERT with random weights: embeddings by their mean, or with a head that scores."""
    width, inner, layers, heads = 64, 128, 2, 4
    letters = [chr(97 + index) for index in range(26)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"\u2581{letter}" for letter in letters)]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_type("model")
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if rank else gguf.PoolingType.MEAN)
    writer.add_file_type(0)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 5 + [1] * 52)
    writer.add_token_type_count(2)
    for key, token in (("unknown", 1), ("padding", 0), ("cls", 2), ("mask", 4), ("bos", 2), ("eos", 3)):
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", token)
    writer.add_sep_token_id(3)
    chance = np.random.default_rng(1)

    def random(*shape: int) -> Any:
        return (chance.standard_normal(shape) * 0.05).astype(np.float32)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    writer.add_tensor("token_embd.weight", random(len(tokens), width))
    writer.add_tensor("position_embd.weight", random(512, width))
    writer.add_tensor("token_types.weight", random(2, width))
    norm("token_embd_norm")
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", random(width, width))
            writer.add_tensor(f"blk.{layer}.{name}.bias", random(width))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", random(inner, width))
        writer.add_tensor(f"blk.{layer}.ffn_up.bias", random(inner))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", random(width, inner))
        writer.add_tensor(f"blk.{layer}.ffn_down.bias", random(width))
        norm(f"blk.{layer}.attn_output_norm")
        norm(f"blk.{layer}.layer_output_norm")
    if rank:
        writer.add_tensor("cls.weight", random(width, width))
        writer.add_tensor("cls.bias", random(width))
        writer.add_tensor("cls.output.weight", random(1, width))
        writer.add_tensor("cls.output.bias", random(1))
    finish(writer)
    return path


def write_projector(path: Path, *, named: bool = True) -> Path:
    """A tiny vision projector (LLaVA's kind) for the known-answer model, with random weights."""
    width, inner, image, patch, layers = 64, 128, 56, 14, 2
    embedding = int(next(tensor for tensor in shipped().tensors if tensor.name == "output_norm.weight").shape[0])
    chance = np.random.default_rng(5)

    def random(*shape: int) -> Any:
        return (chance.standard_normal(shape) * 0.05).astype(np.float32)

    writer = gguf.GGUFWriter(path, "clip")
    if named:
        writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for key, number in (
        ("image_size", image),
        ("patch_size", patch),
        ("embedding_length", width),
        ("block_count", layers),
        ("attention.head_count", 4),
        ("feed_forward_length", inner),
        ("projection_dim", embedding),
    ):
        writer.add_uint32(f"clip.vision.{key}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    positions = (image // patch) ** 2 + 1
    writer.add_tensor("v.patch_embd.weight", random(width, 3, patch, patch))
    writer.add_tensor("v.class_embd", random(width))
    writer.add_tensor("v.position_embd.weight", random(positions, width))
    for name in ("v.pre_ln", "v.post_ln"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            writer.add_tensor(f"v.blk.{layer}.{name}.weight", random(width, width))
            writer.add_tensor(f"v.blk.{layer}.{name}.bias", random(width))
        for name in ("ln1", "ln2"):
            writer.add_tensor(f"v.blk.{layer}.{name}.weight", np.ones(width, np.float32))
            writer.add_tensor(f"v.blk.{layer}.{name}.bias", np.zeros(width, np.float32))
        writer.add_tensor(f"v.blk.{layer}.ffn_down.weight", random(inner, width))
        writer.add_tensor(f"v.blk.{layer}.ffn_down.bias", random(inner))
        writer.add_tensor(f"v.blk.{layer}.ffn_up.weight", random(width, inner))
        writer.add_tensor(f"v.blk.{layer}.ffn_up.bias", random(width))
    writer.add_tensor("mm.0.weight", random(embedding, width))
    writer.add_tensor("mm.0.bias", random(embedding))
    writer.add_tensor("mm.2.weight", random(embedding, embedding))
    writer.add_tensor("mm.2.bias", random(embedding))
    finish(writer)
    return path
