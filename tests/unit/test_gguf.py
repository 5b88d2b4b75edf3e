"""GGUF headers: what the gguf package writes is read back; a table of corrupt files, each with one fault, is refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import at_most

from bedplate.errors import ModelRefused, ReadError
from bedplate.weights.gguf import parse_gguf, printable, read_gguf
from bedplate.weights.gguf_types import TENSOR_TYPES

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
CODES = {U8: "<B", U32: "<I", F32: "<f", BOOL: "<B", U64: "<Q"}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: Any) -> bytes:
    body = text(value) if kind == STRING else struct.pack(CODES[kind], value) if kind in CODES else value
    return text(key) + struct.pack("<I", kind) + body


def array(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + body


@dataclass(frozen=True)
class T:
    """A tensor's description; offset None is where it belongs."""

    name: str | bytes = "token_embd.weight"
    shape: tuple[int, ...] = (32, 4)
    kind: int = 0
    offset: int | None = None
    dimensions: int | None = None


GOOD_PAIRS = (
    pair("general.architecture", STRING, "llama"),
    pair("general.name", STRING, "tiny \x1b[31mred"),
    pair("llama.context_length", U32, 512),
    pair("llama.block_count", U32, 2),
    pair("llama.embedding_length", U32, 64),
    pair("llama.attention.head_count", U32, 4),
    pair("llama.attention.head_count_kv", U32, 2),
    pair("tokenizer.ggml.model", STRING, "gpt2"),
    pair("tokenizer.ggml.tokens", ARRAY, array(STRING, 3, text("a") + text("b") + text("ab"))),
    pair("tokenizer.chat_template", STRING, "{{ messages }}"),
)


@dataclass(frozen=True)
class G:
    """A GGUF file in parts, each of which a row of the table can spoil."""

    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    pair_count: int | None = None
    pairs: tuple[bytes, ...] = GOOD_PAIRS
    tensors: tuple[T, ...] = field(
        default=(T(), T(name="output_norm.weight", shape=(32,)), T(name="q", shape=(64, 3), kind=2))
    )
    tail: bytes = b""

    def render(self) -> bytes:
        out = self.magic + struct.pack("<I", self.version)
        out += struct.pack("<Q", len(self.tensors) if self.tensor_count is None else self.tensor_count)
        out += struct.pack("<Q", len(self.pairs) if self.pair_count is None else self.pair_count)
        out += b"".join(self.pairs)
        place = 0
        for tensor in self.tensors:
            dimensions = len(tensor.shape) if tensor.dimensions is None else tensor.dimensions
            out += text(tensor.name) + struct.pack("<I", dimensions)
            out += b"".join(struct.pack("<Q", size) for size in tensor.shape)
            out += struct.pack("<IQ", tensor.kind, place if tensor.offset is None else tensor.offset)
            _, block, block_bytes = TENSOR_TYPES.get(tensor.kind, ("", 1, 1))
            elements = 1
            for size in tensor.shape:
                elements *= size
            place += min(elements // block * block_bytes, 4096)
            place += -place % 32
        out += bytes(-len(out) % 32)
        return out + bytes(place) + self.tail


def parse(data: bytes) -> Any:
    return parse_gguf(io.BytesIO(data), "model.gguf")


def test_a_good_file_is_read() -> None:
    header = parse(G().render())
    assert header.architecture == "llama"
    assert header.title == "tiny [31mred"  # no escape reaches a terminal
    assert header.parameters == 32 * 4 + 32 + 64 * 3
    assert header.quantisation == "Q4_0"
    assert header.context_length == 512
    assert header.kv_bytes_per_token == 2 * 2 * 16 * 2 * 2  # layers, KV heads, head size, K and V, bytes
    assert header.vocabulary == 3
    assert header.chat_template
    assert [tensor.size_bytes for tensor in header.tensors] == [512, 128, 108]


def with_pair(*pairs: bytes) -> G:
    return G(pairs=GOOD_PAIRS + pairs)


def without(key: str) -> tuple[bytes, ...]:
    return tuple(row for row in GOOD_PAIRS if not row.startswith(text(key)))


HUGE = 2**63
CORRUPT: dict[str, tuple[G | Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a GGUF file"),
    "three bytes": (lambda: b"GGU", "not a GGUF file"),
    "magic only": (lambda: b"GGUF", "version: needs 4 bytes"),
    "wrong magic": (G(magic=b"GGML"), "begins with b'GGML'"),
    "magic in lower case": (G(magic=b"gguf"), "not a GGUF file"),
    "version 0": (G(version=0), "version 0"),
    "version 1": (G(version=1), "version 1, expected 2 or 3"),
    "version 4": (G(version=4), "version 4"),
    "big-endian": (G(version=3 << 24), "big-endian"),
    "no tensors": (G(tensors=()), "has no tensors"),
    "tensor count 2^63": (G(tensor_count=HUGE), f"tensor count {HUGE}"),
    "tensor count 2^64-1": (G(tensor_count=2**64 - 1), "tensor count"),
    "tensor count one too many": (G(tensor_count=4), "name of tensor 3"),
    "metadata count 2^63": (G(pair_count=HUGE), f"metadata count {HUGE}"),
    "metadata count 0": (G(pair_count=0, pairs=()), "metadata count 0"),
    "metadata count one too many": (G(pair_count=len(GOOD_PAIRS) + 1), "name of tensor 0"),
    "key length beyond the file": (
        lambda: G(pairs=(struct.pack("<Q", 255) + b"abc",)).render()[:100],
        "metadata key 0: needs 255 bytes",
    ),
    "key length 2^63": (G(pairs=(struct.pack("<Q", HUGE),)), f"{HUGE} bytes long"),
    "empty key": (with_pair(pair("", U32, 1)), "not printable ASCII"),
    "key with NUL": (with_pair(pair("a\0b", U32, 1)), "not printable ASCII"),
    "key with escape": (with_pair(pair("a\x1b[2J", U32, 1)), "not printable ASCII"),
    "key not ASCII": (with_pair(pair("clé", U32, 1)), "not printable ASCII"),
    "key twice": (with_pair(pair("general.name", STRING, "x")), "'general.name' appears twice"),
    "value type 13": (with_pair(pair("x", 13, b"")), "unknown value type 13"),
    "value type 2^32-1": (with_pair(pair("x", 2**32 - 1, b"")), "unknown value type"),
    "string length 2^63": (with_pair(pair("x", 99, b"")[:-4] + struct.pack("<IQ", STRING, HUGE)), "bytes long"),
    "string beyond the file": (
        with_pair(pair("x", 99, b"")[:-4] + struct.pack("<IQ", STRING, 2**20)),
        "x: needs 1048576 bytes",
    ),
    "string not UTF-8": (with_pair(pair("x", STRING, b"\xff\xfe")), "x: not UTF-8 at byte 0"),
    "boolean 2": (with_pair(pair("x", BOOL, 2)), "expected 0 or 1"),
    "array of 2^63": (with_pair(pair("x", ARRAY, array(U32, HUGE, b""))), "items, at most"),
    "array of 2^61 u64 (overflows 64 bits)": (with_pair(pair("x", ARRAY, array(U64, 2**61, b""))), "items, at most"),
    "array beyond the file": (with_pair(pair("x", ARRAY, array(U32, 2**20, b""))), "x: needs 4194304 bytes"),
    "array of strings beyond the file": (with_pair(pair("x", ARRAY, array(STRING, 2**20, b""))), r"x\[\d+\]"),
    "array of type 13": (with_pair(pair("x", ARRAY, array(13, 1, b""))), "array of unknown type 13"),
    "array of arrays": (with_pair(pair("x", ARRAY, array(ARRAY, 1, array(U8, 1, b"\0")))), "array of arrays"),
    "arrays nested 100000 deep": (with_pair(pair("x", ARRAY, array(ARRAY, 1, b"") * 100_000)), "array of arrays"),
    "no architecture": (G(pairs=without("general.architecture")), "general.architecture: got None"),
    "architecture a number": (
        G(pairs=(*without("general.architecture"), pair("general.architecture", U32, 7))),
        "general.architecture: got 7",
    ),
    "architecture a path": (
        G(pairs=(*without("general.architecture"), pair("general.architecture", STRING, "../llama"))),
        "general.architecture",
    ),
    "an adapter": (with_pair(pair("general.type", STRING, "adapter")), "is a LoRA adapter, not a model"),
    "an adapter of before general.type": (with_pair(pair("adapter.type", STRING, "lora")), "a LoRA adapter"),
    "a projector": (with_pair(pair("general.type", STRING, "mmproj")), "a projector"),
    "a projector of before general.type": (
        G(pairs=(pair("general.architecture", STRING, "clip"), *without("general.architecture"))),
        "a projector",
    ),
    "an importance matrix": (with_pair(pair("general.type", STRING, "imatrix")), "an importance matrix"),
    "of another type": (with_pair(pair("general.type", STRING, "vocab")), "got 'vocab', expected 'model'"),
    "no tokenizer": (G(pairs=without("tokenizer.ggml.model")), "has no tokenizer"),
    "one part of a split": (with_pair(pair("split.count", U32, 3)), "part 1 of 3"),
    "a part beyond the last": (
        with_pair(pair("split.count", U32, 3), pair("split.no", U32, 3)),
        "split.no 3 of split.count 3",
    ),
    "alignment 0": (with_pair(pair("general.alignment", U32, 0)), "general.alignment: got 0"),
    "alignment 33": (with_pair(pair("general.alignment", U32, 33)), "expected a power of two"),
    "alignment 2^31": (with_pair(pair("general.alignment", U32, 2**31)), "general.alignment"),
    "alignment a string": (with_pair(pair("general.alignment", STRING, "32")), "general.alignment"),
    "context length a string": (
        G(pairs=(*without("llama.context_length"), pair("llama.context_length", STRING, "9"))),
        "llama.context_length",
    ),
    "context length 2^63": (G(pairs=(*without("llama.context_length"), pair("llama.context_length", U64, HUGE))), "2\\^31"),
    "block count 2^31-1": (G(pairs=(*without("llama.block_count"), pair("llama.block_count", U32, 2**31 - 1))), "layers"),
    "KV heads for too few layers": (
        G(
            pairs=(
                *without("llama.attention.head_count_kv"),
                pair("llama.attention.head_count_kv", ARRAY, array(U32, 1, b"\1\0\0\0")),
            )
        ),
        "1 numbers for 2 layers",
    ),
    "tensor name of 64 bytes": (G(tensors=(T(name="x" * 64),)), "64 bytes long"),
    "tensor name empty": (G(tensors=(T(name=""),)), "not printable ASCII"),
    "tensor name with NUL": (G(tensors=(T(name="a\0b"),)), "not printable ASCII"),
    "tensor twice": (G(tensors=(T(), T())), "appears twice"),
    "0 dimensions": (G(tensors=(T(shape=()),)), "0 dimensions"),
    "5 dimensions": (G(tensors=(T(shape=(32, 1, 1, 1, 1)),)), "5 dimensions"),
    "2^32-1 dimensions": (G(tensors=(T(dimensions=2**32 - 1),)), "dimensions, expected 1 to 4"),
    "a dimension of 0": (G(tensors=(T(shape=(0, 4)),)), "impossible shape"),
    "a dimension of 2^63": (G(tensors=(T(shape=(HUGE,)),)), "impossible shape"),
    "dimensions that overflow to 0": (G(tensors=(T(shape=(2**32, 2**32)),)), "impossible shape"),
    "dimensions that overflow to 32": (G(tensors=(T(shape=(2**32, 2**32 + 1)),)), "impossible shape"),
    "removed tensor type 4": (G(tensors=(T(kind=4),)), "unknown type 4"),
    "tensor type 2^32-1": (G(tensors=(T(kind=2**32 - 1),)), "unknown type"),
    "row does not divide into blocks": (G(tensors=(T(shape=(31, 4), kind=2),)), "do not divide into Q4_0 blocks of 32"),
    "offset beyond the file": (G(tensors=(T(), T(name="b", offset=2**40))), f"offset {2**40}, expected 512"),
    "offset 2^64-32": (G(tensors=(T(), T(name="b", offset=2**64 - 32))), "expected 512"),
    "tensors overlap": (G(tensors=(T(), T(name="b", offset=0))), "offset 0, expected 512"),
    "misaligned": (G(tensors=(T(), T(name="b", offset=513))), "offset 513, expected 512"),
    "a hole": (G(tensors=(T(), T(name="b", offset=1024))), "offset 1024, expected 512"),
    "first tensor not at 0": (G(tensors=(T(offset=32),)), "offset 32, expected 0"),
    "larger than the file": (G(tensors=(T(shape=(32, 2**30)),)), "truncated: its tensors end at byte"),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_files_are_refused(name: str) -> None:
    made, expected = CORRUPT[name]
    data = made.render() if isinstance(made, G) else made()
    with at_most(cpu_s=2), pytest.raises(ModelRefused, match=expected) as refused:
        parse(data)
    assert refused.value.message.startswith("model.gguf: ")


def test_every_truncation_is_refused() -> None:
    data = G().render()
    whole = parse(data)
    last = whole.tensors[-1].offset + whole.tensors[-1].size_bytes  # what follows is padding
    for length in range(last):
        with pytest.raises(ModelRefused):
            parse(data[:length])
    parse(data[:last])


def test_a_file_that_ends_inside_a_vocabulary_says_so() -> None:
    """It named a length of 18446744073709551615 bytes, which stands in no file."""
    data = G().render()
    inside = data.index(text("b") + text("ab"))
    for length, says in ((inside + 4, "at"), (inside + 8, "1 bytes long")):
        with pytest.raises(ModelRefused, match=rf"the file ends inside tokenizer\.ggml\.tokens\[1\].*{says}") as caught:
            parse(data[:length])
        assert "1844674407" not in caught.value.message


def test_unreadable_files_are_read_errors(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="No such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(ReadError, match="Is a directory"):
        read_gguf(tmp_path)


def test_a_file_of_one_endless_header_is_bounded(tmp_path: Path) -> None:
    """A sparse terabyte whose first array claims 4 million empty strings: refused after bounded work."""
    path = tmp_path / "endless.gguf"
    pairs = (pair("general.architecture", STRING, "llama"), pair("x", ARRAY, array(STRING, 2**22 - 1, b"")))
    path.write_bytes(G(pairs=pairs, tensors=(), tensor_count=1).render())
    with path.open("r+b") as file:
        file.truncate(2**40)
    with at_most(cpu_s=40), pytest.raises(ModelRefused, match="name of tensor 0"):
        read_gguf(path)


def test_the_table_of_types_is_that_of_the_gguf_package() -> None:
    known = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
    assert known == TENSOR_TYPES


NAMES = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789._-"), min_size=1, max_size=40)
KINDS = [0, 1, 2, 8, 12, 14, 24, 30]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(
        NAMES, st.tuples(st.sampled_from(KINDS), st.lists(st.integers(1, 3), min_size=1, max_size=4)), min_size=1, max_size=6
    ),
    context=st.integers(0, 2**31 - 1),
    layers=st.integers(0, 40),
    heads=st.sampled_from([1, 2, 8]),
    tokens=st.lists(st.text(max_size=8), min_size=1, max_size=10),
    alignment=st.sampled_from([None, 8, 32, 64, 4096]),
)
def test_what_the_gguf_package_writes_is_read_back(
    tmp_path: Path,
    tensors: dict[str, tuple[int, list[int]]],
    context: int,
    layers: int,
    heads: int,
    tokens: list[str],
    alignment: int | None,
) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_context_length(context)
    writer.add_block_count(layers)
    writer.add_head_count(heads * 2)
    writer.add_head_count_kv(heads)
    writer.add_key_length(16)
    writer.add_value_length(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    expected = 0
    for name, (kind, shape) in tensors.items():
        _, block, block_bytes = TENSOR_TYPES[kind]
        rows = np.zeros((*shape[:-1], shape[-1] * block_bytes), dtype=np.uint8)
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType(kind))
        expected += int(np.prod(shape)) * block
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf(path)
    assert header.architecture == "qwen3"
    assert header.context_length == context
    assert header.kv_bytes_per_token == layers * heads * (16 + 8) * 2
    assert header.vocabulary == len(tokens)
    assert header.parameters == expected
    assert {tensor.name for tensor in header.tensors} == set(tensors)
    again = gguf.GGUFReader(path)
    assert {t.name: (t.data_offset, t.n_bytes) for t in again.tensors} == {
        t.name: (t.offset, t.size_bytes) for t in header.tensors
    }


@settings(max_examples=400, derandomize=True)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4),
    cut=st.integers(0, 10**6),
)
def test_damaged_files_are_read_or_refused(edits: list[tuple[int, bytes]], cut: int) -> None:
    """Bytes overwritten anywhere, the end cut off: nothing but ModelRefused may come out, and soon."""
    data = bytearray(G().render())
    for place, new in edits:
        start = place % len(data)
        data[start : start + len(new)] = new
    if cut % 3 == 0:
        del data[cut % len(data) :]
    try:
        header = parse(bytes(data))
    except ModelRefused:
        return
    assert all(0 < tensor.offset <= tensor.offset + tensor.size_bytes <= len(data) for tensor in header.tensors)


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=400))
def test_noise_after_the_magic_is_refused(noise: bytes) -> None:
    with pytest.raises(ModelRefused):
        parse(b"GGUF\x03\0\0\0" + noise)


def test_printable_keeps_what_a_terminal_may_show() -> None:
    assert printable("a\x1b]0;x\x07b\u202ec  ") == "a]0;xbc"
    assert len(printable("x" * 500)) == 80


def test_the_claimed_file_type_counts_only_where_tensors_agree() -> None:
    assert (
        parse(
            replace(
                G(), tensors=(T(shape=(256, 4), kind=12),), pairs=(*GOOD_PAIRS, pair("general.file_type", U32, 15))
            ).render()
        ).quantisation
        == "Q4_K_M"
    )
    assert parse(with_pair(pair("general.file_type", U32, 15)).render()).quantisation == "Q4_0"


@pytest.mark.parametrize("tail", [bytes(64), b"PK\x03\x04" + bytes(4096)])
def test_bytes_after_the_last_tensor_are_no_fault(tail: bytes) -> None:
    """Some tools pad a file to the block of a disk, and engines read no further than the last tensor."""
    assert parse(G(tail=tail).render()).parameters == parse(G().render()).parameters


@pytest.mark.parametrize(
    ("architecture", "pooling", "task"),
    [
        ("llama", None, "generate"),
        ("llama", 0, "generate"),
        ("qwen3", 3, "embed"),
        ("qwen3", 4, "rerank"),
        ("bert", None, "embed"),
        ("bert", 1, "embed"),
        ("bert", 4, "rerank"),
    ],
)
def test_what_a_model_is_for_is_told_by_its_pooling(architecture: str, pooling: int | None, task: str) -> None:
    pairs = (pair("general.architecture", STRING, architecture), pair("tokenizer.ggml.model", STRING, "bert"))
    pooled = () if pooling is None else (pair(f"{architecture}.pooling_type", U32, pooling),)
    assert parse(G(pairs=pairs + pooled).render()).task == task
