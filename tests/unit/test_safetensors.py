"""safetensors headers and directories: a table of corrupt files, each with one fault, and noise, are refused."""

from __future__ import annotations

import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import at_most

from bedplate.errors import ModelRefused, ReadError
from bedplate.weights.safetensors import DTYPES, parse_safetensors, read_safetensors, read_safetensors_directory


def render(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def row(dtype: Any = "F16", shape: Any = (2, 3), offsets: Any = (0, 12)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def parse(data: bytes) -> Any:
    return parse_safetensors(io.BytesIO(data), "model.safetensors")


GOOD = render({"__metadata__": {"format": "pt"}, "b": row("F32", [1], [12, 16]), "a": row()}, bytes(16))


def test_a_good_file_is_read() -> None:
    header = parse(GOOD)
    assert (header.parameters, header.quantisation, header.size_bytes) == (7, "F16", len(GOOD))
    assert [(tensor.name, tensor.shape, tensor.size_bytes) for tensor in header.tensors] == [
        ("a", (2, 3), 12),
        ("b", (1,), 4),
    ]


DATA = bytes(12)
CORRUPT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes long"),
    "seven bytes": (bytes(7), "7 bytes long"),
    "length 0": (bytes(8), "expected a JSON object"),
    "length 2^63": (render({"a": row()}, DATA, length=2**63), f"header of {2**63} bytes, at most"),
    "length 2^64-1": (render({"a": row()}, DATA, length=2**64 - 1), "at most"),
    "length beyond the file": (render({"a": row()}, DATA, length=10**6), "truncated"),
    "length too short": (render({"a": row()}, DATA, length=30), "not JSON"),
    "no object": (render([1]), "expected a JSON object"),
    "space before the object": (render(b' {"a": 1}'), "expected a JSON object"),
    "not UTF-8": (render(b'{"\xff": 1}'), "not JSON"),
    "key twice": (render(b'{"a": %s, "a": %s}' % ((json.dumps(row()).encode(),) * 2), DATA), "'a' appears twice"),
    "field twice": (render(b'{"a": {"dtype": "F16", "dtype": "F16"}}', DATA), "'dtype' appears twice"),
    "nested 100000 deep": (render(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nested deeper"),
    "lists nested 100000 deep": (render(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested deeper"),
    "NaN": (render(b'{"a": {"dtype": "F16", "shape": [NaN], "data_offsets": [0, 2]}}', DATA), "NaN is not JSON"),
    "Infinity": (render(b'{"a": {"dtype": "F16", "shape": [Infinity], "data_offsets": [0, 2]}}', DATA), "Infinity"),
    "a number of 5000 digits": (render(b'{"a": {"dtype": "F16", "shape": [%s]}}' % (b"9" * 5000), DATA), "not JSON"),
    "no tensors": (render({}), "0 tensors"),
    "only metadata": (render({"__metadata__": {}}), "0 tensors"),
    "metadata no object": (render({"__metadata__": 3, "a": row()}, DATA), "__metadata__"),
    "metadata of numbers": (render({"__metadata__": {"x": 3}, "a": row()}, DATA), "__metadata__"),
    "tensor no object": (render({"a": 3}, DATA), "expected exactly dtype"),
    "field missing": (render({"a": {"dtype": "F16", "shape": [6]}}, DATA), "expected exactly dtype"),
    "field too many": (render({"a": {**row(), "x": 1}}, DATA), "expected exactly dtype"),
    "name empty": (render({"": row()}, DATA), "not a printable name"),
    "name with NUL": (render({"a\0b": row()}, DATA), "not a printable name"),
    "name with escape": (render({"a\x1b[2J": row()}, DATA), "not a printable name"),
    "dtype unknown": (render({"a": row("F17")}, DATA), "unknown dtype 'F17'"),
    "dtype a list": (render({"a": row(["F16"])}, DATA), "unknown dtype"),
    "shape a number": (render({"a": row(shape=6)}, DATA), "shape is not a list"),
    "shape negative": (render({"a": row(shape=[-2, -3])}, DATA), "shape is not a list"),
    "shape of booleans": (render({"a": row(shape=[True, 6])}, DATA), "shape is not a list"),
    "shape of floats": (render({"a": row(shape=[2.0, 3])}, DATA), "shape is not a list"),
    "shape 2^64": (render({"a": row(shape=[2**64])}, DATA), "shape is not a list"),
    "shape that overflows to 6": (render({"a": row(shape=[2**33, 2**33, 6])}, DATA), "expected"),
    "nine dimensions": (render({"a": row(shape=[1] * 8 + [6])}, DATA), "shape is not a list"),
    "offsets one": (render({"a": row(offsets=[12])}, DATA), "data_offsets"),
    "offsets swapped": (render({"a": row(offsets=[12, 0])}, DATA), "data_offsets"),
    "offsets negative": (render({"a": row(offsets=[-12, 0])}, DATA), "data_offsets"),
    "bytes do not fit the shape": (render({"a": row(offsets=[0, 11])}, DATA), "11 bytes, expected 12"),
    "half a byte": (render({"a": row("F4", [3], [0, 1])}, bytes(1)), "expected 1.5"),
    "beyond the file": (render({"a": row(shape=[2**20], offsets=[0, 2**21])}, DATA), "incomplete|its tensors end at byte"),
    "overlap": (render({"a": row(), "b": row()}, DATA), "overlaps the one before"),
    "overlap in part": (render({"a": row(), "b": row("U8", [6], [8, 14])}, bytes(14)), "overlaps"),
    "a hole": (render({"a": row(), "b": row("U8", [2], [14, 16])}, bytes(16)), "leaves a hole"),
    "a hole at the beginning": (render({"a": row(offsets=[4, 16])}, bytes(16)), "leaves a hole"),
    "bytes after the end": (render({"a": row()}, DATA + b"PK\x03\x04"), "its tensors end at byte"),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_files_are_refused(name: str) -> None:
    data, expected = CORRUPT[name]
    with at_most(cpu_s=2), pytest.raises(ModelRefused, match=expected) as refused:
        parse(data)
    assert refused.value.message.startswith("model.safetensors: ")
    assert len(refused.value.message) < 700


def test_every_truncation_is_refused() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(ModelRefused):
            parse(GOOD[:length])


WHOLE_BYTES = sorted(name for name, bits in DTYPES.items() if bits % 8 == 0)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable() and name != "__metadata__"),
        st.tuples(st.sampled_from(WHOLE_BYTES), st.lists(st.integers(0, 5), max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read_back(tensors: dict[str, tuple[str, list[int]]]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * DTYPES[dtype] // 8
        header[name] = row(dtype, shape, [end, end + size])
        end += size
    read = parse(render(header, bytes(end)))
    assert {tensor.name: (tensor.type, list(tensor.shape)) for tensor in read.tensors} == tensors
    assert read.parameters == sum(math.prod(shape) for _, shape in tensors.values())


@settings(max_examples=300, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_damaged_files_are_read_or_refused(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(GOOD)
    for place, new in edits:
        start = place % len(data)
        data[start : start + len(new)] = new
    try:
        header = parse(bytes(data))
    except ModelRefused:
        return
    assert all(tensor.offset + tensor.size_bytes <= len(data) for tensor in header.tensors)


CONFIG = {
    "model_type": "llama",
    "max_position_embeddings": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 256,
    "vocab_size": 2048,
}


def make_directory(path: Path, **config: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | config))
    (path / "a.safetensors").write_bytes(render({"a": row()}, DATA))
    (path / "b.safetensors").write_bytes(render({"b": row("BF16", [100], [0, 200])}, bytes(200)))
    return path


def test_a_directory_is_read(tmp_path: Path) -> None:
    header = read_safetensors_directory(make_directory(tmp_path))
    assert (header.architecture, header.parameters, header.quantisation) == ("llama", 106, "BF16")
    assert (header.context_length, header.kv_bytes_per_token, header.vocabulary) == (2048, 4 * 2 * 64 * 2 * 2, 2048)
    assert not header.chat_template
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    make_directory(tmp_path, quantization_config={"quant_method": "awq"}, num_key_value_heads=None)
    header = read_safetensors_directory(tmp_path)
    assert header.chat_template and header.quantisation == "AWQ"
    assert header.kv_bytes_per_token == 4 * 4 * 64 * 2 * 2


def test_bad_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"no config\.json"):
        read_safetensors_directory(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelRefused, match=r"no \.safetensors file"):
        read_safetensors_directory(tmp_path)
    for key, value in (("model_type", "../x"), ("hidden_size", "big"), ("num_hidden_layers", -1), ("vocab_size", 2**40)):
        with pytest.raises(ModelRefused, match=key):
            read_safetensors_directory(make_directory(tmp_path, **{key: value}))
    make_directory(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a.safetensors", "c": "c.safetensors"}}')
    with pytest.raises(ModelRefused, match=r"c\.safetensors: named by"):
        read_safetensors_directory(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(ModelRefused, match=r"tensor a is in a\.safetensors and in b\.safetensors"):
        read_safetensors_directory(tmp_path)
    (tmp_path / "config.json").write_bytes(b'{"a":' * 1000)
    with pytest.raises(ModelRefused, match="nested deeper"):
        read_safetensors_directory(tmp_path)


def test_unreadable_files_are_read_errors(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="No such file"):
        read_safetensors(tmp_path / "none.safetensors")
