"""What the built engine says that it loads, held against what it does with files of these kinds."""

from __future__ import annotations

from pathlib import Path

from bedplate.image.engine_features import find_architectures, read_architectures


def test_the_built_engine_s_architectures_are_read_from_its_library(engine_tree: Path) -> None:
    known = find_architectures(engine_tree)
    assert {"llama", "qwen2", "qwen3", "gemma3", "bert", "deepseek2", "mamba", "clip"} <= set(known)
    assert len(known) > 100 and known == tuple(sorted(known))
    assert "(unknown)" not in known and "qwen99" not in known


def test_a_library_without_such_a_table_gives_no_list(engine_tree: Path, tmp_path: Path) -> None:
    other = next(path for path in (engine_tree / "usr/lib").glob("*/libm.so.6"))
    assert read_architectures(other) == ()
    (tmp_path / "no.so").write_bytes(b"\x7fELF\x02\x01" + bytes(10))
    assert read_architectures(tmp_path / "no.so") == ()
    assert find_architectures(tmp_path) == ()
