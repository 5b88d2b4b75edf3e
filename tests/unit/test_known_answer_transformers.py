"""The known-answer model in Transformers' form: the same values and the same tokens as the GGUF that ships."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.serving import zoo
from tests.serving.tiny_gguf import write_tiny_model

from bedplate.catalog.facts import KNOWN_ANSWER_GGUF
from bedplate.cli.main import main
from bedplate.errors import ModelRefused
from bedplate.model.launch import Format
from bedplate.weights.gguf import read_gguf
from bedplate.weights.known_answer_shape import Shape
from bedplate.weights.known_answer_transformers import FILES, convert_known_answer, render_safetensors
from bedplate.weights.safetensors import read_safetensors_directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("known-answer")
    assert [path.name for path in convert_known_answer(directory)] == list(FILES)
    return directory


def test_every_tensor_has_the_values_of_the_gguf(directory: Path) -> None:
    """Read with another rule than the writer's: row r of a head of n rows is row 2r, or 2(r - n/2) + 1, of GGUF's."""
    source = {tensor.name: tensor for tensor in gguf.GGUFReader(KNOWN_ANSWER_GGUF).tensors}
    data = (directory / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    compared = set()
    for name, row in header.items():
        if name == "__metadata__":
            continue
        begin, end = row["data_offsets"]
        value = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f2").reshape(row["shape"])
        layer = name.split(".")[2]
        own = {
            f"model.layers.{layer}.self_attn.q_proj.weight": f"blk.{layer}.attn_q.weight",
            f"model.layers.{layer}.self_attn.k_proj.weight": f"blk.{layer}.attn_k.weight",
            f"model.layers.{layer}.self_attn.v_proj.weight": f"blk.{layer}.attn_v.weight",
            f"model.layers.{layer}.self_attn.o_proj.weight": f"blk.{layer}.attn_output.weight",
            f"model.layers.{layer}.mlp.gate_proj.weight": f"blk.{layer}.ffn_gate.weight",
            f"model.layers.{layer}.mlp.up_proj.weight": f"blk.{layer}.ffn_up.weight",
            f"model.layers.{layer}.mlp.down_proj.weight": f"blk.{layer}.ffn_down.weight",
            f"model.layers.{layer}.input_layernorm.weight": f"blk.{layer}.attn_norm.weight",
            f"model.layers.{layer}.post_attention_layernorm.weight": f"blk.{layer}.ffn_norm.weight",
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
        }[name]
        expected = gguf.quants.dequantize(source[own].data, source[own].tensor_type)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            half = Shape().head_size // 2
            order = [
                head * 2 * half + (2 * row if row < half else 2 * (row - half) + 1)
                for head in range(len(expected) // (2 * half))
                for row in range(2 * half)
            ]
            expected = expected[order]
        assert (value == expected.astype(np.float16)).all(), name
        compared.add(own)
    assert compared == set(source)


def test_the_header_is_that_of_the_model_that_ships(directory: Path) -> None:
    header, shipped = read_safetensors_directory(directory), read_gguf(KNOWN_ANSWER_GGUF)
    assert (header.format, header.quantisation) == (Format.SAFETENSORS, "F16")
    for field in ("architecture", "parameters", "context_length", "kv_bytes_per_token", "vocabulary", "chat_template"):
        assert getattr(header, field) == getattr(shipped, field), field


def test_the_tokenizer_has_the_tokens_and_merges_of_the_gguf(directory: Path) -> None:
    reader = gguf.GGUFReader(KNOWN_ANSWER_GGUF)

    def words(key: str) -> list[str]:
        field = reader.get_field(key)
        assert field is not None
        return [str(word) for word in field.contents()]

    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    assert [token for token, _ in sorted(tokenizer["model"]["vocab"].items(), key=lambda row: row[1])] == words(
        "tokenizer.ggml.tokens"
    )
    assert [" ".join(pair) for pair in tokenizer["model"]["merges"]] == words("tokenizer.ggml.merges")
    assert [token["content"] for token in tokenizer["added_tokens"]] == ["<|begin|>", "<|end|>", "<|user|>", "<|answer|>"]
    assert [token["id"] for token in tokenizer["added_tokens"]] == [0, 1, 2, 3]
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    template = reader.get_field("tokenizer.chat_template")
    assert template is not None and settings["chat_template"] == template.contents()


def test_a_second_conversion_writes_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    convert_known_answer(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in directory.iterdir()
    }


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: write_tiny_model(path, embedding=64, layers=2), "llama.vocab_size: is missing"),
        (zoo.write_bert, "architecture 'bert' with tokenizer"),
    ],
)
def test_another_gguf_is_refused_by_what_it_is(tmp_path: Path, write: Callable[[Path], object], expected: str) -> None:
    other = tmp_path / "other.gguf"
    write(other)
    with pytest.raises(ModelRefused, match=expected):
        convert_known_answer(tmp_path / "out", other)
    assert not (tmp_path / "out/model.safetensors").exists()


def test_only_16_bit_floats_are_written() -> None:
    with pytest.raises(ValueError, match="x: got float32, expected float16"):
        render_safetensors({"x": np.ones(2, dtype=np.float32)})


def test_the_command_writes_the_files_and_prints_their_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["model", "make", "known-answer", "--convert", "--output", str(tmp_path / "out"), "--json"]
    assert main(argv) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["path"]).name for row in rows] == list(FILES)
    assert all(len(row["sha256"]) == 64 and row["size_bytes"] > 0 for row in rows)
    assert main([*argv, "--steps", "5"]) == 2
    assert "--convert: got --steps too" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*argv[:5], str(tmp_path / "file" / "out")]) != 0
    assert "cannot write" in capsys.readouterr().err
