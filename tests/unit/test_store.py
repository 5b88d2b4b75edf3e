"""The model store on a real file system: atomic, safe for several at once, and empty-handed after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.effort import wait_until

from bedplate.errors import ModelRefused, PreflightError, ReadError, UsageError
from bedplate.model.launch import Format
from bedplate.model.progress import Progress
from bedplate.weights.index import parse_index
from bedplate.weights.store import Store, check_name, make_name


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


class KilledWhileCopying(Heard):
    """Ends its process the hard way once bytes are moving."""

    def detail(self, text: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "Tiny Model.gguf")


def contents(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "sha256").iterdir())


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


def _add_and_die(root: Path, source: Path, progress: Progress) -> None:
    Store(root).add(source, progress=progress, name="killed")


def _add(root: Path, source: Path, name: str) -> None:
    Store(root).add(source, progress=Heard(), name=name)


@pytest.mark.touches("spawn", why="a writer of its own that can be killed")
def test_a_killed_add_leaves_no_model_and_the_next_change_cleans(store: Store, tmp_path: Path, model_file: Path) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_add_and_die, args=(store.root, model_file, KilledWhileCopying())
    )
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert [path.name.endswith(".part") for path in (store.root / "sha256").iterdir()] == [True]
    assert store.models() == ()
    added = store.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard())
    assert contents(store) == [added.sha256]


def test_only_what_was_announced_is_removed(store: Store, model_file: Path) -> None:
    """Content of a killed change goes at the next one; content that nothing knows of stays, whatever it is."""
    for directory in ("sha256", "going", f"trees/{'1' * 64}"):
        (store.root / directory).mkdir(parents=True)
    (store.root / "sha256" / ("0" * 64)).write_bytes(b"x")
    (store.root / "sha256" / ("2" * 64)).write_bytes(b"nobody's")
    (store.root / "going/list").write_text(f"{'0' * 64}\n{'1' * 64}\nhalf a li")
    added = store.add(model_file, progress=Heard())
    assert contents(store) == sorted(["2" * 64, added.sha256])
    assert list((store.root / "trees").iterdir()) == list((store.root / "going").iterdir()) == []


def test_the_private_file_of_another_add_is_left_alone(store: Store, model_file: Path) -> None:
    with store.incoming() as part:
        part.file.write(b"half")
        added = store.add(model_file, progress=Heard())
        assert part.path.exists()
        store.remove(added.name)
        assert part.path.exists()
    assert contents(store) == []


@pytest.mark.touches("spawn", why="a lock is between processes")
def test_many_adds_at_once_all_arrive(store: Store, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    sources = [write_model(tmp_path / f"m{index}.gguf", seed=index % 3, rows=64) for index in range(6)]
    processes = [context.Process(target=_add, args=(store.root, path, path.stem)) for path in sources]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    models = store.models()
    assert [model.name for model in models] == [f"m{index}" for index in range(6)]
    assert len(contents(store)) == 3
    assert [store.verify(model, progress=Heard()).problem for model in models] == [""] * 6


@pytest.mark.touches("spawn", "machine", why="a lock is between processes, and the kernel says who waits")
def test_a_change_waits_for_the_lock(store: Store, model_file: Path) -> None:
    store.add(model_file, progress=Heard(), name="a")
    with (store.root / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = multiprocessing.get_context("fork").Process(target=_add, args=(store.root, model_file, "b"), daemon=True)
        process.start()
        waits = f"-> FLOCK  ADVISORY  WRITE {process.pid} "
        wait_until(lambda: waits in Path("/proc/locks").read_text(), "the other process waits for the lock")
        assert [model.name for model in store.models()] == ["a"]  # reading needs no lock
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: the child holds the descriptor too
    process.join(30)
    assert [model.name for model in store.models()] == ["a", "b"]


DAMAGED = ("", "{", "[]", '{"schema": 1}', '{"schema": 1, "models": [{}]}', '{"schema": 1, "models": [3]}', None)


@pytest.fixture
def three(store: Store, tmp_path: Path) -> Store:
    """Two names of one file, and a directory."""
    for name in ("first", "second"):
        store.add(write_model(tmp_path / "m.gguf", title="A Title"), progress=Heard(), name=name)
    store.add(write_directory(tmp_path / "tree"), progress=Heard(), name="tree")
    return store


def damage(path: Path, text: str | None) -> None:
    path.unlink() if text is None else path.write_text(text)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_or_missing_index_is_made_again(three: Store, tmp_path: Path, text: str | None) -> None:
    before, index = three.models(), (three.root / "index.json").read_text()
    damage(three.root / "index.json", text)
    assert three.models() == before
    three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert [model.name for model in three.models()] == ["first", "next", "second", "tree"]
    three.remove("next")
    assert three.models() == before and (three.root / "index.json").read_text() == index
    assert [three.verify(model, progress=Heard()).problem for model in before] == [""] * 3


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_or_missing_record_is_made_again_from_index_or_header(
    three: Store, tmp_path: Path, text: str | None
) -> None:
    before, kept = three.models(), contents(three)
    damage(three.root / "names/tree.json", text)
    assert three.models() == before  # the index knows its name
    (three.root / "index.json").unlink()
    named = [model.name for model in three.models()]
    assert {"first", "second"} < set(named) and len(named) == 3  # the name is lost, the model is not
    three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert set(kept) < set(contents(three))
    assert sorted(model.sha256 for model in before) == sorted(
        model.sha256 for model in three.models() if model.name != "next"
    )


def test_all_lists_may_be_lost_and_no_content_is(three: Store, tmp_path: Path) -> None:
    before, kept = three.models(), contents(three)
    for path in (three.root / "names").iterdir():
        path.unlink()
    (three.root / "names").rmdir()
    (three.root / "index.json").unlink()
    (three.root / "going").rmdir()
    added = three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert set(contents(three)) == {*kept, added.sha256}
    found = {model.sha256: model for model in three.models()}
    assert {model.sha256 for model in before} | {added.sha256} == set(found)
    assert found[before[0].sha256].name == "A-Title"
    assert [three.verify(model, progress=Heard()).problem for model in found.values()] == [""] * 3


def test_a_store_of_before_gets_records_from_its_index(three: Store, tmp_path: Path) -> None:
    before = three.models()
    for path in (three.root / "names").iterdir():
        path.unlink()
    (three.root / "names").rmdir()
    assert three.models() == before
    three.remove("first")
    assert three.models() == before[1:]
    assert [three.verify(model, progress=Heard()).problem for model in before[1:]] == ["", ""]


def test_what_a_newer_bedplate_wrote_is_left_alone(three: Store, model_file: Path) -> None:
    for path in (three.root / "index.json", three.root / "names/first.json"):
        text = path.read_text()
        path.write_text(text.replace('"schema": 1', '"schema": 3'))
        kept = contents(three)
        for act in (
            lambda: three.models(),
            lambda: three.add(model_file, progress=Heard()),
            lambda: three.remove("second"),
        ):
            with pytest.raises(ReadError, match="schema: expected 2, got 3"):
                act()
        assert contents(three) == kept
        path.write_text(text)


def test_nothing_is_removed_while_a_record_is_damaged(three: Store) -> None:
    """Which content the damaged one needs is not known; here it is the same as that of the removed one."""
    first = three.find("first")
    damage(three.root / "names/second.json", "{")
    (three.root / "index.json").unlink()
    removal = three.remove("first")
    assert Path(first.path).exists()
    assert removal.kept_bytes == first.size_bytes
    (obstacle,) = removal.obstacles
    assert obstacle.path == str(three.root / "names/second.json") and "is damaged" in obstacle.problem
    assert "--name second" in obstacle.repair


@pytest.mark.parametrize("repair", ["add it again", "remove the record"])
def test_what_a_damaged_record_kept_goes_once_it_is_repaired(three: Store, tmp_path: Path, repair: str) -> None:
    """Both repairs that the message of `model rm` names."""
    other = write_model(tmp_path / "other.gguf", seed=7)
    gone = three.add(other, progress=Heard(), name="other")
    damage(three.root / "names/second.json", "{")
    (three.root / "index.json").unlink()
    assert three.remove("other").kept_bytes == gone.size_bytes
    if repair == "add it again":
        three.add(write_model(tmp_path / "m.gguf", title="A Title"), progress=Heard(), name="second")
    else:
        (three.root / "names/second.json").unlink()
        three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert not Path(gone.path).exists()
    assert three.remove("first").obstacles == ()


def test_a_directory_without_its_list_of_files_keeps_content_and_is_named(three: Store, tmp_path: Path) -> None:
    first, tree = three.find("first"), three.find("tree")
    (three.root / "sha256" / tree.sha256).unlink()
    three.remove("second")
    removal = three.remove("first")
    assert Path(first.path).exists() and removal.kept_bytes == first.size_bytes
    (obstacle,) = removal.obstacles
    assert obstacle.path.endswith(tree.sha256) and "the model tree" in obstacle.problem
    shutil.rmtree(tmp_path / "tree")
    three.add(write_directory(tmp_path / "tree"), progress=Heard(), name="tree")
    assert not Path(first.path).exists()


def test_a_tree_is_linked_again_from_its_list_of_files(three: Store, tmp_path: Path) -> None:
    tree = three.find("tree")
    (Path(tree.path) / "a.safetensors").unlink()
    assert three.verify(tree, progress=Heard()).problem != ""
    three.add(write_model(tmp_path / "next.gguf", seed=3), progress=Heard(), name="next")
    assert three.verify(tree, progress=Heard()).problem == ""


def test_a_row_cannot_point_out_of_the_store(store: Store, model_file: Path) -> None:
    store.add(model_file, progress=Heard())
    index = store.root / "index.json"
    good = json.loads(index.read_text())["models"][0]
    for change in (
        {"path": "/etc/passwd"},
        {"path": "../x"},
        {"name": "a\nb"},
        {"sha256": "00"},
        {"format": "exe"},
        {"size_bytes": "1"},
    ):
        with pytest.raises(ReadError):
            parse_index(json.dumps({"schema": 1, "models": [{**good, **change}]}), "index")
    (store.root / "names/Tiny-Model.json").unlink()
    index.write_text(json.dumps({"schema": 1, "models": [{**good, "name": "../x"}]}))
    assert "/" not in store.models()[0].name


_EACH = 3  # one instant in three; all of them, and more kinds of change, held when this was written, in four minutes
_CALLS = ("open", "write", "fsync", "fchmod", "replace", "rename", "unlink", "mkdir", "rmdir", "link")


def killed(work: Callable[[], object], at: int) -> bool:
    """Whether the work, in a process of its own, was killed at that call of the file system; False: it ended before."""
    child = os.fork()
    if child == 0:
        left = at

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def count(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **more)

            return count

        status = 1
        try:
            for name in _CALLS:
                setattr(os, name, counted(getattr(os, name)))
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return os.WIFSIGNALED(status)


@pytest.mark.touches("spawn", why="a process is killed")
@pytest.mark.parametrize("what", ["replace", "add-tree", "remove-tree", "migrate"])
def test_killed_at_any_call_the_store_is_as_before_or_after(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill loses nothing that was written; hundreds of them take minutes
    file, other = write_model(tmp_path / "file.gguf", seed=1), write_model(tmp_path / "other.gguf", seed=2)
    directory = write_directory(tmp_path / "tree")
    start = Store(tmp_path / "start")
    for name in ("kept", "gone"):
        start.add(file, progress=Heard(), name=name)
    start.add(other, progress=Heard(), name="alone")
    start.add(directory, progress=Heard(), name="tree")

    def change(store: Store) -> None:
        match what:
            case "replace":
                store.add(file, progress=Heard(), name="alone", overwrite=True)
            case "add-tree":
                (directory / "README.md").write_text("another")
                store.add(directory, progress=Heard(), name="tree2")
            case "remove-tree":
                store.remove("tree")
            case "migrate":
                store.remove("gone")

    def look(store: Store) -> tuple[list[tuple[str, str]], set[str]]:
        return [(model.name, model.sha256) for model in store.models()], set(contents(store))

    def fresh(name: str) -> Store:
        copy = Store(Path(shutil.copytree(start.root, tmp_path / name)))
        if what == "migrate":
            shutil.rmtree(copy.root / "names")
        return copy

    reference = fresh("reference")
    before = look(reference)
    change(reference)
    after = look(reference)
    at, ends = 0, set()
    while True:
        store = fresh(f"at-{at}")
        if not killed(lambda store=store: change(store), at):  # type: ignore[misc]
            break
        assert look(store)[0] in (before[0], after[0]), f"call {at}"  # read without the lock
        store.add(file, progress=Heard(), name="kept")  # any change brings it into order
        now = look(store)
        assert now in (before, after), f"call {at}"
        assert [store.verify(model, progress=Heard()).problem for model in store.models()] == [""] * len(now[0])
        assert not [path for path in store.root.rglob("*") if path.parent.name == "going" or "unfinished" in path.name]
        ends.add(now == after)
        shutil.rmtree(store.root)
        at += _EACH
    assert at > 15, "too few instants were tried"
    assert ends == ({True, False} if before != after else {True})


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


def write_directory(path: Path) -> Path:
    from tests.unit.test_safetensors import make_directory

    make_directory(path)
    (path / "tokenizer.json").write_text("{}")
    (path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (path / "modeling_x.py").write_text("print('no')")
    (path / "sub").mkdir()
    return path


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
