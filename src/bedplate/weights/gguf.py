"""Reads the header of a GGUF file (llama.cpp's model format), which is input from strangers: no length in it is trusted.

Written after docs/gguf.md of ggml and checked against what llama.cpp itself refuses: versions 2 and 3, little-endian, at
most four dimensions, tensors packed one after the other in the order of their descriptions. A file that passes here and
fails in the engine is a bug here. Weights are not read; values in them cannot be checked.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from bedplate.errors import ModelRefused, ReadError
from bedplate.host.root.regular import open_regular
from bedplate.model.decoder import DecoderShape
from bedplate.model.launch import Format, ModelTask
from bedplate.model.modelfile import FileRole, GgufFile, Header, Tensor
from bedplate.weights.gguf_shape import PATTERN_KEY, make_shape
from bedplate.weights.gguf_types import FILE_TYPES, TENSOR_TYPES

MAGIC = b"GGUF"
# Bounds far above any real model, so that a header costs bounded time and memory whatever it claims.
MAX_HEADER_BYTES = 64 * 1024**2  # the largest vocabularies (262 144 tokens, 514 906 merges) need 20 MiB
MAX_KEYS = 4096
MAX_TENSORS = 65536
MAX_PARTS = 4096  # of a split model
MAX_ITEMS = 4 * 1024**2  # of one array
MAX_KEY_BYTES = 256
MAX_STRING_BYTES = 4 * 1024**2  # chat templates are the longest
MAX_NAME_BYTES = 63  # GGML_MAX_NAME less its NUL
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
KEPT_ITEMS = 4096  # of arrays of numbers: one per layer is what we need
KEPT_KEYS = ("attention.head_count", "attention.head_count_kv", PATTERN_KEY)  # ends of the keys whose arrays are needed
MAX_KEPT = 262_144  # items of all such arrays

_U8, _I8, _U16, _I16, _U32, _I32, _F32, _BOOL, _STRING, _ARRAY, _U64, _I64, _F64 = range(13)
_SCALARS = {
    _U8: "<B",
    _I8: "<b",
    _U16: "<H",
    _I16: "<h",
    _U32: "<I",
    _I32: "<i",
    _F32: "<f",
    _BOOL: "<B",
    _U64: "<Q",
    _I64: "<q",
    _F64: "<d",
}

# Kinds that make no text, where the header names no pooling; the others of them say how they pool.
_ENCODERS = frozenset(
    [
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "eurobert",
        "gemma-embedding",
        "llama-embed",
        "t5encoder",
    ]
)
_POOLING_NONE, _POOLING_RANK = 0, 4  # llama.h, enum llama_pooling_type

Value = int | float | bool | str | tuple[int, ...] | None
"""What is kept of a metadata value: scalars, strings, and arrays of few integers; None for other arrays."""


def read_gguf(path: Path) -> Header:
    """The header of a whole model. Raises ReadError when it cannot be opened, ModelRefused when it is not a sane GGUF, or is
    a part of a model, or what belongs beside one."""
    return whole_model(read_gguf_file(path), path.name)


def read_gguf_file(path: Path, *, within: tuple[Path, ...] = ()) -> GgufFile:
    """The header of a file of any role; within: as of open_regular. Raises ReadError, ModelRefused."""
    try:
        with open_regular(path, within=within) as raw, BufferedReader(raw) as file:
            return parse_gguf_file(file, path.name)
    except OSError as error:
        raise ReadError(f"{path}: cannot read: {error.strerror}") from error


def parse_gguf(file: BinaryIO, name: str) -> Header:
    """As `read_gguf`, of a seekable binary file; name stands for it in messages. Raises ModelRefused."""
    return whole_model(parse_gguf_file(file, name), name)


def whole_model(file: GgufFile, name: str) -> Header:
    """The header of a file that is a model by itself. Raises ModelRefused for other files."""
    if file.role is FileRole.PROJECTOR:
        raise ModelRefused(
            f"{name}: is a projector (mmproj) for images, not a model",
            hint="Add it with its model: bedplate model add MODEL --mmproj FILE.",
        )
    if file.role is FileRole.ADAPTER:
        raise ModelRefused(
            f"{name}: is a LoRA adapter, not a model",
            hint="Add it with the model that it was made for: bedplate model add MODEL --lora FILE.",
        )
    if file.parts > 1:
        raise ModelRefused(
            f"{name}: part {file.part} of {file.parts} of a split model",
            hint="Put all parts, with their original names, into one directory, and add the directory.",
        )
    check_tokenizer(file, name)
    return file.header


def check_tokenizer(file: GgufFile, name: str) -> None:
    """Raise ModelRefused for a model without a tokenizer, which no engine loads."""
    if not file.tokenizer:
        raise ModelRefused(
            f"{name}: has no tokenizer (tokenizer.ggml.model)", hint="Convert the model again, with its tokenizer."
        )


def parse_gguf_file(file: BinaryIO, name: str) -> GgufFile:
    """The header of a seekable binary file of any role; name stands for it in messages. Raises ModelRefused."""
    cursor = _Cursor(file, name)
    tensor_count, key_count = _read_preamble(cursor)
    metadata, lengths = _read_metadata(cursor, key_count)
    part, parts = _part(cursor, metadata)
    architecture = _architecture(cursor, metadata, part)
    role = _role(cursor, metadata, architecture)
    if tensor_count == 0 and parts == 1:
        raise cursor.refuse("has no tensors: only a vocabulary, or a header", hint="Add the file that contains the weights.")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1) or alignment > 1024**2:
        raise cursor.refuse(f"general.alignment: got {alignment!r}, expected a power of two")
    tensors = _read_tensors(cursor, tensor_count, alignment)
    shape = _shape(cursor, metadata, architecture, lengths.get("tokenizer.ggml.tokens", 0), tensors)
    header = Header(
        format=Format.GGUF,
        architecture=architecture,
        title=printable(str(metadata.get("general.name", ""))),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        quantisation=quantisation_of(tensors, metadata.get("general.file_type")),
        context_length=_number(cursor, metadata, f"{architecture}.context_length"),
        kv_bytes_per_token=shape.kv_bytes_per_token
        if shape is not None and shape.latent
        else _kv_bytes_per_token(cursor, metadata, architecture),
        vocabulary=lengths.get("tokenizer.ggml.tokens", 0),
        chat_template=bool(metadata.get("tokenizer.chat_template")),
        size_bytes=cursor.size,
        tensors=tensors,
        task=_task(metadata, architecture),
        shape=shape,
    )
    return GgufFile(
        role=role,
        part=part,
        parts=parts,
        tensors_in_all=_number(cursor, metadata, "split.tensors.count"),
        tokenizer=metadata.get("tokenizer.ggml.model") not in (None, "", "none", "no_vocab"),
        embedding_length=_number(cursor, metadata, _WIDTH_KEY.get(role, f"{architecture}.embedding_length")),
        header=header,
    )


_WIDTH_KEY = {FileRole.PROJECTOR: "clip.vision.projection_dim"}


def printable(text: str, limit: int = 80) -> str:
    """Text of a stranger made safe for a terminal: control and other unprintable characters are left out."""
    return "".join(character for character in text if character.isprintable()).strip()[:limit]


class _Cursor:
    """Reads forward through the header and refuses to go past the end of the file or the bound of a header."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.size = file.seek(0, 2)
        file.seek(0)
        self.position = 0
        self.kept = 0
        self._file = file
        self._name = name

    def refuse(self, text: str, hint: str | None = None) -> ModelRefused:
        return ModelRefused(f"{self._name}: {text}", hint=hint)

    def take(self, count: int, what: str) -> bytes:
        left = self.size - self.position
        if count > left:
            raise self.refuse(
                f"{what}: needs {count} bytes at offset {self.position}, the file has {left} more",
                hint="The file is truncated or damaged; download it again.",
            )
        if self.position + count > MAX_HEADER_BYTES:
            raise self.refuse(f"{what}: the header is longer than {MAX_HEADER_BYTES} bytes")
        data = self._file.read(count)
        if len(data) != count:
            raise self.refuse(f"{what}: the file became shorter while it was read")
        self.position += count
        return data

    def u32(self, what: str) -> int:
        return int(struct.unpack("<I", self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(struct.unpack("<Q", self.take(8, what))[0])

    def string(self, what: str, limit: int) -> bytes:
        length = self.u64(f"length of {what}")
        if length > limit:
            raise self.refuse(f"{what}: {length} bytes long, at most {limit} are allowed")
        return self.take(length, what)

    def skip_strings(self, key: str, count: int) -> None:
        """Step over strings: vocabularies have half a million of them, and nothing in them matters here."""
        for index in range(count):
            raw = self._file.read(8)
            if len(raw) < 8:
                raise self.refuse(
                    f"the file ends inside {key}[{index}], at {self.size} bytes",
                    hint="The file is truncated or damaged; download it again.",
                )
            (length,) = struct.unpack("<Q", raw)
            self.position += 8
            if self.size < self.position + length <= self.size + MAX_STRING_BYTES:
                raise self.refuse(
                    f"the file ends inside {key}[{index}]: {length} bytes long at offset {self.position} of {self.size}",
                    hint="The file is truncated or damaged; download it again.",
                )
            if length > MAX_STRING_BYTES or self.position + length > min(self.size, MAX_HEADER_BYTES):
                raise self.refuse(
                    f"{key}[{index}]: {length} bytes long at offset {self.position} of {self.size}",
                    hint="The file is truncated or damaged; download it again.",
                )
            self._file.read(length)
            self.position += length

    def scalar(self, kind: int, what: str) -> int | float:
        code = _SCALARS[kind]
        (value,) = struct.unpack(code, self.take(struct.calcsize(code), what))
        assert isinstance(value, int | float)
        if kind == _BOOL and value > 1:
            raise self.refuse(f"{what}: got {value}, expected 0 or 1 for a boolean")
        return bool(value) if kind == _BOOL else value


def _read_preamble(cursor: _Cursor) -> tuple[int, int]:
    """Number of tensors and of metadata keys."""
    magic = cursor.take(4, "magic") if cursor.size >= 4 else b""
    if magic != MAGIC:
        raise cursor.refuse(f"not a GGUF file: begins with {magic!r}, expected {MAGIC!r}")
    version = cursor.u32("version")
    if version in (2 << 24, 3 << 24):
        raise cursor.refuse(
            "a big-endian GGUF file; only little-endian files are supported", hint="Convert the model again."
        )
    if version not in (2, 3):
        raise cursor.refuse(f"GGUF version {version}, expected 2 or 3", hint="Convert the model again with a current tool.")
    tensor_count, key_count = cursor.u64("tensor count"), cursor.u64("metadata count")
    if tensor_count > MAX_TENSORS:
        raise cursor.refuse(f"tensor count {tensor_count}, expected at most {MAX_TENSORS}")
    if not 0 < key_count <= MAX_KEYS:
        raise cursor.refuse(f"metadata count {key_count}, expected 1 to {MAX_KEYS}")
    return tensor_count, key_count


def _read_metadata(cursor: _Cursor, count: int) -> tuple[dict[str, Value], dict[str, int]]:
    """Values by key, and the lengths of arrays by key."""
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for index in range(count):
        raw = cursor.string(f"metadata key {index}", MAX_KEY_BYTES)
        if not raw or not raw.isascii() or not raw.decode("ascii").isprintable():
            raise cursor.refuse(f"metadata key {index}: {raw[:40]!r} is not printable ASCII")
        key = raw.decode("ascii")
        if key in values:
            raise cursor.refuse(f"metadata key {key!r} appears twice")
        kind = cursor.u32(f"type of {key}")
        if kind == _ARRAY:
            values[key], lengths[key] = _read_array(cursor, key)
        elif kind == _STRING:
            values[key] = _text(cursor, key, cursor.string(key, MAX_STRING_BYTES))
        elif kind in _SCALARS:
            values[key] = cursor.scalar(kind, key)
        else:
            raise cursor.refuse(f"{key}: unknown value type {kind}")
    return values, lengths


def _read_array(cursor: _Cursor, key: str) -> tuple[Value, int]:
    kind, count = cursor.u32(f"item type of {key}"), cursor.u64(f"length of {key}")
    if count > MAX_ITEMS:
        raise cursor.refuse(f"{key}: {count} items, at most {MAX_ITEMS} are allowed")
    if kind == _STRING:
        cursor.skip_strings(key, count)
        return None, count
    if kind not in _SCALARS:  # llama.cpp does not load arrays of arrays either
        raise cursor.refuse(f"{key}: array of {'arrays' if kind == _ARRAY else f'unknown type {kind}'}")
    width = struct.calcsize(_SCALARS[kind])
    data = cursor.take(width * count, key)
    if count > KEPT_ITEMS or kind in (_F32, _F64) or not key.endswith(KEPT_KEYS):
        return None, count
    cursor.kept += count
    if cursor.kept > MAX_KEPT:
        raise cursor.refuse(f"{key}: arrays of head counts with more than {MAX_KEPT} items in all")
    return struct.unpack(f"<{count}{_SCALARS[kind][1]}", data), count


def _text(cursor: _Cursor, key: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise cursor.refuse(f"{key}: not UTF-8 at byte {error.start}") from error


def _part(cursor: _Cursor, metadata: dict[str, Value]) -> tuple[int, int]:
    """(part, from 1; parts): split.no counts from 0, and a file without these keys is whole."""
    number, parts = _number(cursor, metadata, "split.no"), _number(cursor, metadata, "split.count")
    if number >= max(1, parts) or parts > MAX_PARTS:
        raise cursor.refuse(f"split.no {number} of split.count {parts}, expected a part of at most {MAX_PARTS}")
    return number + 1, max(1, parts)


def _architecture(cursor: _Cursor, metadata: dict[str, Value], part: int) -> str:
    """As the file names it; "" for a later part of a split model, which need not."""
    architecture = metadata.get("general.architecture", "" if part > 1 else None)
    if architecture == "" and part > 1:
        return ""
    if metadata.get("general.type") == "imatrix":
        raise cursor.refuse(
            "an importance matrix for quantising models, not a model", hint="Add the model that was quantised with it."
        )
    if not isinstance(architecture, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", architecture):
        raise cursor.refuse(f"general.architecture: got {architecture!r}, expected a name such as 'llama'")
    return architecture


def _role(cursor: _Cursor, metadata: dict[str, Value], architecture: str) -> FileRole:
    """Older projectors and adapters name no general.type."""
    kind = metadata.get("general.type", "model")
    if kind in ("mmproj", "projector") or architecture == "clip":
        return FileRole.PROJECTOR
    if kind == "adapter" or "adapter.type" in metadata:
        return FileRole.ADAPTER
    if kind != "model":
        raise cursor.refuse(f"general.type: got {kind!r}, expected 'model'", hint="Add the model that this file belongs to.")
    return FileRole.MODEL


def _task(metadata: dict[str, Value], architecture: str) -> ModelTask:
    pooling = metadata.get(f"{architecture}.pooling_type")
    if pooling == _POOLING_RANK:
        return ModelTask.RERANK
    if pooling not in (None, _POOLING_NONE) or architecture in _ENCODERS:
        return ModelTask.EMBED
    return ModelTask.GENERATE


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[Tensor, ...]:
    described: list[tuple[str, str, tuple[int, ...], int, int]] = []
    names: set[str] = set()
    expected = 0
    for index in range(count):
        raw = cursor.string(f"name of tensor {index}", MAX_NAME_BYTES)
        if not raw or not raw.isascii() or not raw.decode("ascii").isprintable():
            raise cursor.refuse(f"name of tensor {index}: {raw!r} is not printable ASCII")
        name = raw.decode("ascii")
        if name in names:
            raise cursor.refuse(f"tensor {name!r} appears twice")
        names.add(name)
        dimensions = cursor.u32(f"dimensions of {name}")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise cursor.refuse(f"tensor {name}: {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")
        shape = tuple(cursor.u64(f"shape of {name}") for _ in range(dimensions))
        kind = cursor.u32(f"type of {name}")
        if kind not in TENSOR_TYPES:
            raise cursor.refuse(f"tensor {name}: unknown type {kind}", hint="A newer bedplate may support it.")
        type_name, block, block_bytes = TENSOR_TYPES[kind]
        if min(shape) < 1 or math.prod(shape) >= 2**63:
            raise cursor.refuse(f"tensor {name}: impossible shape {shape}")
        if shape[0] % block:
            raise cursor.refuse(f"tensor {name}: rows of {shape[0]} do not divide into {type_name} blocks of {block}")
        offset = cursor.u64(f"offset of {name}")
        if offset != expected:
            raise cursor.refuse(f"tensor {name}: offset {offset}, expected {expected} right after the tensor before it")
        size = math.prod(shape) // block * block_bytes
        described.append((name, type_name, shape, offset, size))
        expected = _align(offset + size, alignment)
    start = _align(cursor.position, alignment)
    end = start + described[-1][3] + described[-1][4] if described else cursor.position
    if end > cursor.size:
        raise cursor.refuse(
            f"truncated: its tensors end at byte {end}, the file at byte {cursor.size}",
            hint="The file is incomplete; download it again.",
        )
    return tuple(
        Tensor(name=name, type=type_name, shape=shape, offset=start + offset, size_bytes=size)
        for name, type_name, shape, offset, size in described
    )


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def quantisation_of(tensors: Iterable[Tensor], file_type: Value = None) -> str:
    """The type of most parameters; the finer name that the file gives itself (Q4_K_M) only where it agrees with them. "" for
    no tensors."""
    parameters: Counter[str] = Counter()
    for tensor in tensors:
        parameters[tensor.type] += math.prod(tensor.shape)
    most = next((name for name, _ in parameters.most_common(1)), "")
    claimed = FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else ""
    return claimed if most and claimed.startswith(most) else most


def _number(cursor: _Cursor, metadata: dict[str, Value], key: str, default: int = 0) -> int:
    value = metadata.get(key, default)
    if type(value) is not int or not 0 <= value < 2**31:
        raise cursor.refuse(f"{key}: got {printable(repr(value))}, expected a whole number below 2^31")
    return value


def _kv_bytes_per_token(cursor: _Cursor, metadata: dict[str, Value], architecture: str) -> int:
    """K and V of all layers at 16 bits. An upper bound: layers with a sliding window need less."""
    layers = _number(cursor, metadata, f"{architecture}.block_count")
    heads = _per_layer(cursor, metadata, f"{architecture}.attention.head_count", layers)
    kv_heads = _per_layer(cursor, metadata, f"{architecture}.attention.head_count_kv", layers) or heads
    width = _number(cursor, metadata, f"{architecture}.embedding_length")
    head_size = width // most if (most := max(heads, default=0)) else 0
    key_size = _number(cursor, metadata, f"{architecture}.attention.key_length", head_size)
    value_size = _number(cursor, metadata, f"{architecture}.attention.value_length", head_size)
    return sum(kv_heads) * (key_size + value_size) * 2


def _shape(
    cursor: _Cursor, metadata: dict[str, Value], architecture: str, vocabulary: int, tensors: tuple[Tensor, ...]
) -> DecoderShape | None:
    def number(key: str, default: int) -> int:
        return _number(cursor, metadata, f"{architecture}.{key}", default)

    layers = number("block_count", 0)
    pattern = metadata.get(f"{architecture}.{PATTERN_KEY}")
    return make_shape(
        number,
        architecture=architecture,
        heads=_per_layer(cursor, metadata, f"{architecture}.attention.head_count", layers),
        kv_heads=_per_layer(cursor, metadata, f"{architecture}.attention.head_count_kv", layers),
        pattern=pattern if isinstance(pattern, tuple) else (),
        vocabulary=vocabulary,
        tied=all(tensor.name != "output.weight" for tensor in tensors),
    )


def _per_layer(cursor: _Cursor, metadata: dict[str, Value], key: str, layers: int) -> tuple[int, ...]:
    """One number for each layer, from one for all of them or a list; () when the key is absent."""
    value = metadata.get(key, ())
    if not isinstance(value, tuple):
        if layers > KEPT_ITEMS:
            raise cursor.refuse(f"{layers} layers, at most {KEPT_ITEMS} are allowed")
        return (_number(cursor, metadata, key),) * layers
    if value and (len(value) != layers or not all(0 <= number < 2**31 for number in value)):
        raise cursor.refuse(f"{key}: {len(value)} numbers for {layers} layers")
    return value
