"""The model store when it is killed at any call, and when several change it at once."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.effort import wait_until
from tests.unit.store_cases import Heard, contents, write_directory, write_model

from bedplate.model.progress import Progress
from bedplate.weights.store import Store


class KilledWhileCopying(Heard):
    """Ends its process the hard way once bytes are moving."""

    def detail(self, text: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "Tiny Model.gguf")


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
