from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.act.lock import hold_cache, hold_cache_now, hold_lock
from bedplate.act.paths import Paths
from bedplate.errors import BusyError


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(cache=tmp_path / "cache", state=tmp_path / "state")


def test_a_second_holder_is_refused_with_the_first_ones_name(paths: Paths) -> None:
    with hold_lock(paths, "up"), pytest.raises(BusyError) as caught, hold_lock(paths, "down"):
        pass
    assert f"`bedplate up` (process {os.getpid()}" in caught.value.message
    assert caught.value.hint is not None and f"kill -INT {os.getpid()}" in caught.value.hint


def test_a_holder_that_ends_in_time_is_waited_for(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = contextlib.ExitStack()
    holder.enter_context(hold_lock(paths, "key"))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        holder.close()

    monkeypatch.setattr("bedplate.act.lock.time.sleep", sleep)
    with hold_lock(paths, "key", wait_s=1000):
        assert len(waits) == 1


def test_the_lock_is_free_after_its_block_whatever_ended_it(paths: Paths) -> None:
    with pytest.raises(KeyboardInterrupt), hold_lock(paths, "up"):
        raise KeyboardInterrupt
    with hold_lock(paths, "down"):
        pass


@pytest.mark.parametrize("left", ['{"what": "up", "pid": 1, "since": "00:00:00"}', "", "{", "\0\0"])
def test_the_file_of_a_killed_holder_locks_nothing(paths: Paths, left: str) -> None:
    paths.state.mkdir()
    (paths.state / "lock").write_text(left)
    with hold_lock(paths, "up"):
        assert '"what": "`bedplate up`"' in (paths.state / "lock").read_text()


class Notes:
    """Progress that keeps what stays on the screen, and says when it came."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.noted = threading.Event()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    def detail(self, text: str) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.noted.set()


def test_builds_of_two_states_take_turns_in_one_cache(paths: Paths, tmp_path: Path) -> None:
    """Without it the second cleared the directory in which the first one built."""
    other, notes = Paths(cache=paths.cache, state=tmp_path / "other"), Notes()
    order: list[str] = []

    def build() -> None:
        with hold_cache(other, notes, what="the second build"):
            order.append("second")

    second = threading.Thread(target=build)
    with hold_cache(paths, Notes(), what="the first build"):
        second.start()
        assert notes.noted.wait(60)
        order.append("first")
    second.join(60)
    assert order == ["first", "second"]
    assert len(notes.notes) == 1
    assert notes.notes[0].startswith(f"{paths.cache}: used by the first build (process {os.getpid()}, since ")
    assert notes.notes[0].endswith("waiting for it to end")


def test_who_cannot_wait_for_the_cache_is_refused_with_the_holders_name(paths: Paths, tmp_path: Path) -> None:
    other = Paths(cache=paths.cache, state=tmp_path / "other")
    with (
        hold_cache(other, Notes(), what="the build of an image"),
        pytest.raises(BusyError) as caught,
        hold_cache_now(paths, what="`bedplate clean`"),
    ):
        pass
    assert f"{paths.cache}: used by the build of an image (process {os.getpid()}" in caught.value.message
    with hold_cache_now(paths, what="`bedplate clean`"):
        pass


@pytest.mark.parametrize("hold", ["state", "cache"])
def test_a_lock_whose_file_was_removed_between_open_and_lock_is_taken_anew(
    hold: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be held twice: by this process in a file without a name, and by whoever makes the next."""
    file = (paths.state if hold == "state" else paths.cache) / "lock"
    removed: list[Path] = []
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(file)
            file.unlink()
        real(descriptor, operation)

    monkeypatch.setattr("bedplate.act.lock.fcntl.flock", flock)
    with hold_lock(paths, "up") if hold == "state" else hold_cache_now(paths, what="`bedplate clean`"):
        assert removed and file.exists()
        with pytest.raises(BusyError), hold_lock(paths, "down") if hold == "state" else hold_cache_now(paths, what="x"):
            pass


def test_a_cache_that_was_cleaned_meanwhile_is_locked_anew(paths: Paths) -> None:
    notes, held = Notes(), threading.Event()

    def build() -> None:
        with hold_cache(paths, notes, what="the second build"):
            held.set()

    second = threading.Thread(target=build)
    with hold_cache(paths, Notes(), what="the first build"):
        second.start()
        assert notes.noted.wait(60)
        (paths.cache / "lock").unlink()
    assert held.wait(60)
    second.join(60)
    assert (paths.cache / "lock").exists()


def test_what_the_build_raises_is_not_swallowed(paths: Paths) -> None:
    with pytest.raises(FileNotFoundError), hold_cache(paths, Notes(), what="the first build"):
        raise FileNotFoundError
