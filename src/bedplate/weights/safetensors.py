"""Reads safetensors headers, and directories that hold a model in that format (config.json beside its weights).

Written after the format's README: eight bytes of length, a JSON object, then data that the tensors cover without holes.
All of it is input from strangers. Pickle files beside the weights are never opened: loading one can run any code.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from bedplate.errors import ModelRefused, ReadError
from bedplate.host.root.jsontext import count_values
from bedplate.host.root.regular import open_regular
from bedplate.model.launch import Format
from bedplate.model.modelfile import Header, Tensor

MAX_HEADER_BYTES = 16 * 1024**2  # the reference reader allows 100 MB; real ones stay below 1 MiB
MAX_TENSORS = 32768  # of one file; the largest models have some hundred a file
MAX_VALUES = 400_000  # a tensor has some ten; the index of a model with 90 000 tensors has 180 000
MAX_DEPTH = 4  # an object of objects of lists is what the format has
MAX_DIMENSIONS = 8
MAX_CONFIG_BYTES = 16 * 1024**2  # index files and tokenizer_config.json are the longest
_INDEX = "model.safetensors.index.json"
DTYPES = {  # bits of one element
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
}


def read_safetensors(path: Path) -> Header:
    """The header of one file. Raises ReadError when it cannot be opened, ModelRefused when it is not whole and sane."""
    try:
        with open_regular(path) as file:
            return parse_safetensors(file, path.name)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error


def parse_safetensors(file: BinaryIO, name: str) -> Header:
    """The header of a seekable binary file; name stands for it in messages. Raises ModelRefused."""
    size = file.seek(0, 2)
    file.seek(0)
    if size < 8:
        raise ModelRefused(f"{name}: {size} bytes long, a safetensors file begins with 8 bytes of length")
    (length,) = struct.unpack("<Q", _read_to(file, 8).ljust(8, b"\xff"))
    if length > MAX_HEADER_BYTES:
        raise ModelRefused(f"{name}: header of {length} bytes, at most {MAX_HEADER_BYTES} are allowed")
    if 8 + length > size:
        raise ModelRefused(f"{name}: truncated: header of {length} bytes in a file of {size}", hint="Fetch it again.")
    table = parse_json(_read_to(file, length), f"{name}: header", depth=MAX_DEPTH)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelRefused(f"{name}: __metadata__: expected an object of strings")
    if not 0 < len(table) <= MAX_TENSORS:
        raise ModelRefused(f"{name}: {len(table)} tensors, expected 1 to {MAX_TENSORS}")
    tensors = sorted((_tensor(name, key, row, 8 + length) for key, row in table.items()), key=lambda tensor: tensor.offset)
    end = 8 + length
    for tensor in tensors:
        if tensor.offset != end:
            what = "overlaps the one before it" if tensor.offset < end else "leaves a hole before it"
            raise ModelRefused(f"{name}: tensor {tensor.name}: begins at byte {tensor.offset}, expected {end}: it {what}")
        end = tensor.offset + tensor.size_bytes
    if end != size:
        hint = "The file is incomplete; download it again." if end > size else None
        raise ModelRefused(f"{name}: its tensors end at byte {end}, the file at byte {size}", hint=hint)
    return _header(tuple(tensors), size_bytes=size)


def read_safetensors_directory(path: Path) -> Header:
    """A model as Transformers keeps it: config.json and one or more .safetensors files, their tensors taken together.

    Which files count says `counted_shards`. Raises ModelRefused when config.json or weights are missing, when
    model.safetensors.index.json names a file that is not there, or when a tensor is in two files.
    """
    config = read_config(path / "config.json")
    counted = counted_shards(path)
    parts = [(name, read_safetensors(path / name)) for name in sorted(counted)]
    if not parts:
        raise ModelRefused(f"{path}: no .safetensors file in it", hint="Pickle weights (.bin, .pt) are not accepted.")
    owner: dict[str, str] = {}
    for name, part in parts:
        for tensor in part.tensors:
            if tensor.name in owner:
                raise ModelRefused(f"{path}: tensor {tensor.name} is in {owner[tensor.name]} and in {name}")
            owner[tensor.name] = name
    tensors = tuple(tensor for _, part in parts for tensor in part.tensors)
    header = _header(tensors, size_bytes=sum(part.size_bytes for _, part in parts))
    return _with_config(header, config, path)


def counted_shards(path: Path) -> frozenset[str]:
    """Names of the .safetensors files that are the model: those of model.safetensors.index.json where there is one.

    Without an index all of them, but for consolidated*.safetensors beside others: Mistral publishes the same weights in two
    layouts, of which engines read one. Raises ModelRefused for an index that names a file that is not there.
    """
    there = {part.name for part in path.glob("*.safetensors")}
    index = path / _INDEX
    if not index.exists():
        others = {name for name in there if not name.startswith("consolidated")}
        return frozenset(others or there)
    wanted = read_config(index).get("weight_map")
    if not isinstance(wanted, dict) or not all(isinstance(value, str) for value in wanted.values()):
        raise ModelRefused(f"{index}: weight_map: expected an object of file names")
    missing = sorted(set(wanted.values()) - there)
    if missing:
        raise ModelRefused(f"{path}: {', '.join(missing)}: named by {index.name} but missing", hint="Fetch it again.")
    return frozenset(wanted.values())


def parse_json(data: bytes, what: str, *, depth: int) -> dict[str, Any]:
    """A JSON object from strangers: UTF-8, no key twice, no NaN, nested at most so deep. Raises ModelRefused."""
    if not data.startswith(b"{"):
        raise ModelRefused(f"{what}: begins with {data[:8]!r}, expected a JSON object")
    if count_values(data) > MAX_VALUES:
        raise ModelRefused(f"{what}: more than {MAX_VALUES} values")
    try:
        text = data.decode("utf-8")
        _check_depth(text, depth)
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors, and so is a number too long
        raise ModelRefused(f"{what}: not JSON as expected: {error}") from error
    assert isinstance(value, dict)
    return value


def _check_depth(text: str, depth: int) -> None:
    """Before json.loads, which recurses."""
    level = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', text, re.DOTALL):
        if match[0] in "[{":
            level += 1
            if level > depth:
                raise ValueError(f"nested deeper than {depth}")
        elif match[0] in "]}":
            level -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {twice[:80]!r} appears twice")
    return table


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _tensor(file: str, name: str, row: object, start: int) -> Tensor:
    where = f"{file}: tensor {name[:80]!r}"
    if not name or not name.isprintable() or len(name) > 512:
        raise ModelRefused(f"{where}: not a printable name of at most 512 characters")
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise ModelRefused(f"{where}: expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelRefused(f"{where}: unknown dtype {dtype!r}"[:200], hint="A newer bedplate may support it.")
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise ModelRefused(f"{where}: shape is not a list of at most {MAX_DIMENSIONS} sizes")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelRefused(f"{where}: data_offsets is not a begin and an end")
    bits = math.prod(shape) * DTYPES[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise ModelRefused(f"{where}: {offsets[1] - offsets[0]} bytes, expected {bits / 8:g} for {dtype} of shape {shape}")
    return Tensor(name=name, type=dtype, shape=tuple(shape), offset=start + offsets[0], size_bytes=bits // 8)


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**53 for number in value)


def _header(tensors: tuple[Tensor, ...], *, size_bytes: int) -> Header:
    parameters: Counter[str] = Counter()
    for tensor in tensors:
        parameters[tensor.type] += math.prod(tensor.shape)
    return Header(
        format=Format.SAFETENSORS,
        architecture="unknown",
        title="",
        parameters=parameters.total(),
        quantisation=parameters.most_common(1)[0][0],
        context_length=0,
        kv_bytes_per_token=0,
        vocabulary=0,
        chat_template=False,
        size_bytes=size_bytes,
        tensors=tensors,
    )


def read_config(path: Path) -> dict[str, Any]:
    """A JSON file beside the weights, bounded, at most 32 deep. Raises ReadError; ModelRefused for a missing or bad one."""
    try:
        with open_regular(path) as file:
            data = _read_to(file, MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelRefused(
            f"{path.parent}: no {path.name} in it", hint="Add a GGUF file, or the whole directory."
        ) from error
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelRefused(f"{path}: longer than {MAX_CONFIG_BYTES} bytes")
    return parse_json(data, str(path), depth=32)


def _read_to(file: BinaryIO, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := file.read(limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _with_config(header: Header, config: dict[str, Any], path: Path) -> Header:
    text = config.get("text_config", config)  # models that also see keep the language model's numbers in there
    if not isinstance(text, dict):
        raise ModelRefused(f"{path / 'config.json'}: text_config: expected an object")

    def number(key: str, default: int = 0) -> int:
        value = text.get(key)
        if value is None:
            return default
        if type(value) is not int or not 0 <= value < 2**31:
            raise ModelRefused(f"{path / 'config.json'}: {key}: got {value!r}, expected a whole number below 2^31"[:300])
        return value

    architecture = config.get("model_type")
    if not isinstance(architecture, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", architecture):
        raise ModelRefused(
            f"{path / 'config.json'}: model_type: got {architecture!r}, expected a name such as 'llama'"[:300]
        )
    heads = number("num_attention_heads")
    head_size = number("head_dim", number("hidden_size") // heads if heads else 0)
    quantised = config.get("quantization_config")
    method = quantised.get("quant_method") if isinstance(quantised, dict) else None
    return Header(
        format=Format.SAFETENSORS,
        architecture=architecture,
        title="",
        parameters=header.parameters,
        quantisation=method.upper()
        if isinstance(method, str) and re.fullmatch(r"[\w.-]{1,32}", method)
        else header.quantisation,
        context_length=number("max_position_embeddings"),
        kv_bytes_per_token=number("num_hidden_layers") * number("num_key_value_heads", heads) * head_size * 2 * 2,
        vocabulary=number("vocab_size"),
        chat_template=(path / "chat_template.jinja").exists() or _tokenizer_has_template(path),
        size_bytes=header.size_bytes,
        tensors=header.tensors,
    )


def _tokenizer_has_template(path: Path) -> bool:
    tokenizer = path / "tokenizer_config.json"
    return tokenizer.exists() and bool(read_config(tokenizer).get("chat_template"))
