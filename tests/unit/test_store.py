"""The model store on a real file system: what is added, found, checked and removed, and what a full disk refuses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import resource
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.unit.store_cases import Heard, contents, write_directory, write_model

from bedplate.errors import ModelRefused, PreflightError, ReadError, UsageError
from bedplate.model.launch import Format
from bedplate.weights.store import Store, check_name, make_name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "Tiny Model.gguf")


def test_an_empty_store_lists_nothing_and_makes_nothing(store: Store) -> None:
    assert store.models() == ()
    assert not store.root.exists()


def test_add_find_show_verify_remove(store: Store, model_file: Path) -> None:
    progress = Heard()
    added = store.add(model_file, progress=progress)
    digest = hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert (added.name, added.sha256, added.format) == ("Tiny-Model", digest, Format.GGUF)
    assert (added.architecture, added.parameters, added.quantisation, added.context_length) == ("llama", 128, "F32", 256)
    assert Path(added.path).read_bytes() == model_file.read_bytes()
    assert Path(added.path).stat().st_mode & 0o777 == 0o444
    assert contents(store) == [digest]
    assert store.models() == (added,)
    assert store.find("Tiny-Model") == store.find(digest) == store.find(digest[:6]) == added
    assert store.read_header(added).parameters == 128
    assert store.verify(added, progress=progress).problem == ""
    assert any("copy" in phase for phase in progress.phases)
    assert store.remove("Tiny-Model").model == added
    assert store.models() == () and contents(store) == []


def test_the_index_is_what_serving_reads(store: Store, model_file: Path) -> None:
    added = store.add(model_file, progress=Heard(), name="tiny")
    index = json.loads((store.root / "index.json").read_text())
    assert index == {
        "schema": 1,
        "models": [
            {
                "name": "tiny",
                "sha256": added.sha256,
                "path": f"sha256/{added.sha256}",
                "format": "gguf",
                "size_bytes": model_file.stat().st_size,
                "architecture": "llama",
                "parameters": 128,
                "quantisation": "F32",
                "context_length": 256,
                "kv_bytes_per_token": 0,
            }
        ],
    }


def test_two_names_share_one_content(store: Store, model_file: Path) -> None:
    first = store.add(model_file, progress=Heard(), name="first")
    second = store.add(model_file, progress=Heard(), name="second")
    assert first.path == second.path and len(contents(store)) == 1
    store.remove("first")
    assert Path(second.path).exists()
    assert store.verify(second, progress=Heard()).problem == ""
    store.remove("second")
    assert contents(store) == []


def test_adding_again_is_no_error_and_a_taken_name_is(store: Store, model_file: Path, tmp_path: Path) -> None:
    first = store.add(model_file, progress=Heard(), name="x")
    assert store.add(model_file, progress=Heard(), name="x") == first
    other = write_model(tmp_path / "other.gguf", seed=1)  # of the same size
    larger = write_model(tmp_path / "larger.gguf", rows=9)
    for path in (other, larger):
        with pytest.raises(ModelRefused, match="x: this name already belongs to another model"):
            store.add(path, progress=Heard(), name="x")
    assert store.models() == (first,) and len(contents(store)) == 1
    replaced = store.add(larger, progress=Heard(), name="x", overwrite=True)
    assert store.models() == (replaced,)
    assert contents(store) == [replaced.sha256]  # nothing stands for the first any more


def test_ambiguous_and_unknown_keys(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the store has: none"):
        store.find("x")
    first = store.add(write_model(tmp_path / "a.gguf"), progress=Heard())
    record = json.loads((store.root / "names/a.json").read_text())
    twin = {**record["model"], "name": "b", "sha256": first.sha256[:10] + "0" * 54}
    twin["path"] = f"sha256/{twin['sha256']}"
    (store.root / "names/b.json").write_text(json.dumps({**record, "model": twin}))
    with pytest.raises(UsageError, match="is the beginning of several digests: a, b"):
        store.find(first.sha256[:8])
    with pytest.raises(UsageError, match="no model has this name"):
        store.find(first.sha256[:5])  # too short to be meant as a digest
    assert store.find("b").sha256 == twin["sha256"]


def test_verify_finds_rot_truncation_and_loss(store: Store, model_file: Path) -> None:
    added = store.add(model_file, progress=Heard())
    path = Path(added.path)
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-1] + b"\x01")
    assert "expected " + added.sha256 in store.verify(added, progress=Heard()).problem
    path.write_bytes(good[:-5])
    assert store.verify(added, progress=Heard()).problem != ""
    path.unlink()
    assert "No such file" in store.verify(added, progress=Heard()).problem
    healed = store.add(model_file, progress=Heard())  # adding it again puts the content back
    assert store.verify(healed, progress=Heard()).problem == ""


def test_a_refused_file_leaves_nothing(store: Store, model_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(model_file.read_bytes()[:-200])
    with pytest.raises(ModelRefused, match="truncated"):
        store.add(bad, progress=Heard())
    for begin, expected in (
        (b"\x80\x02pickle....", "pickle"),
        (b"PK\x03\x04.........", "pickle"),
        (b"#!/bin/sh\n", "neither"),
    ):
        bad.write_bytes(begin)
        with pytest.raises(ModelRefused, match=expected):
            store.add(bad, progress=Heard())
    with pytest.raises(ReadError, match="No such file"):
        store.add(tmp_path / "none.gguf", progress=Heard())
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelRefused, match="not a regular file"):
        store.add(tmp_path / "pipe.gguf", progress=Heard())
    assert store.models() == ()
    assert not store.root.exists() or contents(store) == []


def test_a_full_disk_is_told_before_anything_is_copied(store: Store, tmp_path: Path) -> None:
    """A model of 8 TiB with no block on the disk: only its header and its length are real."""
    path = tmp_path / "vast.gguf"
    writer = gguf.GGUFWriter(None, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tensor_info("token_embd.weight", (2**20, 2**21), np.dtype(np.float32), 2**43)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + 2**43)
    with pytest.raises(PreflightError, match=r"8192\.0 GiB for the model and 64\.0 MiB that stay free; .* too little"):
        store.add(path, progress=Heard())
    assert not store.root.exists()


def test_space_is_checked_with_the_arithmetic(tmp_path: Path) -> None:
    from bedplate.weights.store import check_space

    check_space(tmp_path / "not" / "yet", 0)
    with pytest.raises(PreflightError, match=r"free, needed: 1048576\.0 GiB for the model"):
        check_space(tmp_path, 2**50)


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Store:
    """Two names of one file, and a directory."""
    for name in ("first", "second"):
        store.add(write_model(tmp_path / "m.gguf", title="A Title"), progress=Heard(), name=name)
    store.add(write_directory(tmp_path / "tree"), progress=Heard(), name="tree")
    return store


@pytest.mark.touches("spawn", why="two processes change one store")
def test_models_are_removed_from_a_full_disk(three: Store) -> None:
    """Nothing can be written any more: the record goes all the same, and the content."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        with contextlib.suppress(OSError):  # the index could not be written: it is derived
            three.remove("tree")

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert [model.name for model in three.models()] == ["first", "second"]
    assert len(contents(three)) == 1


def test_a_safetensors_directory_is_one_model(store: Store, tmp_path: Path) -> None:
    source = write_directory(tmp_path / "Some-Model")
    progress = Heard()
    added = store.add(source, progress=progress)
    assert (added.name, added.format, added.architecture, added.parameters) == (
        "Some-Model",
        Format.SAFETENSORS,
        "llama",
        106,
    )
    names = ["a.safetensors", "b.safetensors", "config.json", "tokenizer.json"]
    assert sorted(path.name for path in Path(added.path).iterdir()) == names
    assert progress.notes == ["left out: modeling_x.py", "left out: pytorch_model.bin", "left out: sub"]
    listing = (store.root / "sha256" / added.sha256).read_bytes()
    assert hashlib.sha256(listing).hexdigest() == added.sha256
    assert len(contents(store)) == 5
    assert store.verify(added, progress=progress).problem == ""
    assert store.add(source, progress=progress) == added
    part = Path(added.path) / "a.safetensors"
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1] + b"\x01")
    assert "a.safetensors: content has digest" in store.verify(added, progress=progress).problem
    store.remove(added.name)
    assert contents(store) == [] and list((store.root / "trees").iterdir()) == []


def test_an_unwritable_store_says_so(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "file").write_text("")
    from bedplate.errors import BedplateError

    with pytest.raises(BedplateError, match="Not a directory"):
        Store(tmp_path / "file" / "store").add(model_file, progress=Heard())


def test_names() -> None:
    assert make_name(Path("/x/Qwen 0.5B.Q4_0.gguf")) == "Qwen-0.5B.Q4_0"
    assert make_name(Path("/x/.hidden.safetensors")) == "hidden"
    for bad in ("", ".", "..", "a//b", "a/../b", "-a", "a b", "a\n", "ä", "x" * 101):
        with pytest.raises(UsageError, match="not a valid model name"):
            check_name(bad)
