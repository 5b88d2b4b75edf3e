"""What the tests of the model store share: small model files and directories, a progress that listens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from bedplate.weights.store import Store


class Heard:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.notes: list[str] = []

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        yield

    def detail(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_model(path: Path, *, rows: int = 4, seed: int = 0, title: str = "") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if title:
        writer.add_name(title)
    writer.add_context_length(256)
    writer.add_tokenizer_model("gpt2")
    writer.add_tensor("token_embd.weight", np.full((rows, 32), seed, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def contents(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "sha256").iterdir())


def write_directory(path: Path) -> Path:
    from tests.unit.test_safetensors import make_directory

    make_directory(path)
    (path / "tokenizer.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (path / "modeling_x.py").write_text("print('no')")
    (path / "sub").mkdir()
    return path
