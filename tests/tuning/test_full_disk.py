"""A disk that is full, from each call on that needs space: an error with a name, all as before, and undo still works.

Two ways: every instant with calls that answer ENOSPC, and a real tmpfs that is filled to its last page and its last name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.tuning import apply_plan, confirm, read_applied, undo
from bedplate.act.tuning.place import make_place
from bedplate.errors import BedplateError
from tests.tuning.test_killed import killed, plain
from tests.tuning.tree import FULL, FakeServices, change, make_machine, make_plan

_OTHER = make_plan(change("/proc/sys/vm/swappiness", "60", "1"), change("neighbour.slice:CPUWeight", "100", "idle"))
_BLOCK = 512  # bytes; of st_blocks, inode(7)


class Disk:
    """Counts the calls that need space, and refuses them from one on."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.left, self.refused = at, 0
        for name in ("open", "write", "mkdir", "link", "posix_fallocate"):
            patch.setattr(os, name, self._wrap(getattr(self, f"_{name}_needs"), getattr(os, name)))

    def _wrap(self, needs: Callable[..., bool], call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            if needs(*arguments):
                self.left -= 1
                if self.left < 0:
                    self.refused += 1
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*arguments, **more)

        return counted

    def _open_needs(self, path: str | Path, flags: int, *_: int) -> bool:
        return bool(flags & os.O_CREAT) and not os.path.lexists(path)

    def _write_needs(self, descriptor: int, data: bytes) -> bool:
        where = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        if "/proc/sys/" in where or "/sys/" in where.replace("/sysctl", ""):
            return False  # the kernel's own
        end = os.lseek(descriptor, 0, os.SEEK_CUR) + len(data)
        return os.fstat(descriptor).st_blocks * _BLOCK < end

    def _mkdir_needs(self, *_: object) -> bool:
        return True

    def _link_needs(self, *_: object) -> bool:
        return True

    def _posix_fallocate_needs(self, descriptor: int, start: int, length: int) -> bool:
        return os.fstat(descriptor).st_blocks * _BLOCK < start + length


@contextlib.contextmanager
def disk_full_from(at: int) -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch, at)


@pytest.mark.parametrize("persist", [False, True], ids=["runtime", "persist"])
@pytest.mark.parametrize("what", ["apply", "other-policy"])
def test_from_each_instant_on_all_is_as_before_and_undo_works(tree: Path, what: str, persist: bool) -> None:
    plan = FULL if what == "apply" else _OTHER
    at = 0
    while True:
        top = make_machine(tree / f"at-{at}")
        services = FakeServices(top)
        bare = plain(top)
        if what != "apply":
            apply_plan(FULL, root_dir=top, persist=persist, services=services)
        before = plain(top)
        with disk_full_from(at) as disk:
            try:
                apply_plan(plan, root_dir=top, persist=persist, services=services)
            except BedplateError as error:
                assert "No space left on device" in error.message, f"call {at}"
                assert plain(top) == before, f"call {at}"
                assert not make_place(top, persist=persist).journal.exists(), f"call {at}"
            if what != "apply" or read_applied(root_dir=top, persist=persist) is not None:
                undone = undo(root_dir=top, persist=persist, services=services)
                assert undone.drifted == (), f"call {at}"
            assert plain(top) == bare, f"call {at}"
            assert not make_place(top, persist=persist).journal.parent.joinpath("reserve").exists()
        if disk.refused == 0:
            break
        at += 1
    assert at > 8, "too few instants were tried"


@pytest.mark.parametrize("persist", [False, True], ids=["runtime", "persist"])
def test_undo_needs_no_space(tree: Path, persist: bool) -> None:
    top = make_machine(tree / "machine")
    services, bare = FakeServices(top), plain(top)
    apply_plan(FULL, root_dir=top, persist=persist, services=services)
    with disk_full_from(0):
        with pytest.raises(OSError, match="No space left"):
            (top / "new").mkdir()
        undone = undo(root_dir=top, persist=persist, services=services)
    assert undone.drifted == ()
    assert undone.restored
    assert plain(top) == bare
    assert read_applied(root_dir=top, persist=persist) is None


@pytest.mark.parametrize("what", ["apply", "other-policy", "undo"])
def test_what_was_killed_is_recovered_on_a_full_disk(tree: Path, what: str) -> None:
    tried = 0
    for at in range(0, 400, 3):
        top = make_machine(tree / f"at-{at}")
        services, bare = FakeServices(top), plain(top)
        if what != "apply":
            apply_plan(FULL, root_dir=top, services=services)

        def work(top: Path = top, services: FakeServices = services) -> object:
            if what == "undo":
                return undo(root_dir=top, services=services)
            return apply_plan(FULL if what == "apply" else _OTHER, root_dir=top, services=services)

        if not killed(work, at, torn=True):
            break
        tried += 1
        with disk_full_from(0):
            try:
                undo(root_dir=top, services=services)
            except BedplateError as error:  # killed before there was even a lock file
                assert "tune.lock" in error.message
                assert plain(top) == bare
                continue
            assert plain(top) == bare, f"call {at}"
            assert read_applied(root_dir=top) is None
    assert tried > 10


def test_a_timer_that_finds_no_space_is_not_half_there(tree: Path) -> None:
    top = make_machine(tree / "machine")
    before = plain(top)
    for at in range(4):
        with disk_full_from(at) as disk:
            with pytest.raises(BedplateError, match="No space left on device"):
                confirm.arm(make_place(top), 600, [])
            assert disk.refused
        assert plain(top) == before


def test_a_confirmation_that_finds_no_space_says_so_and_the_timer_stays(tree: Path) -> None:
    top = make_machine(tree / "machine")
    place = make_place(top)
    confirm.arm(place, 600, [])
    from bedplate.act.tuning import transaction

    transaction.apply(FULL, place, FakeServices(top), confirm=confirm.TIMER)
    with disk_full_from(0), pytest.raises(BedplateError, match="No space left on device"):
        confirm.confirm(place)
    assert place.at(f"{place.units}/{confirm.TIMER}.timer").exists()
    assert confirm.confirm(place)


# -- a real one


@pytest.fixture
def small_run(tree: Path) -> Iterator[Path]:
    """A machine whose /run is a tmpfs of 256 KiB and 64 names."""
    top = make_machine(tree / "machine")
    run = top / "run"
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "tmpfs", str(run)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
        pytest.skip("needs root that may mount a tmpfs")
    try:
        (run / "systemd/system").mkdir(parents=True)
        yield top
    finally:
        subprocess.run(["umount", str(run)], check=True)


def fill(directory: Path, *, names: bool) -> None:
    """Take the last page, or the last name, of a file system."""
    number = 0
    with contextlib.suppress(OSError):
        while names:
            (directory / f"filler-{number}").touch()
            number += 1
    if not names:
        with contextlib.suppress(OSError), (directory / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))


@pytest.mark.parametrize("names", [False, True], ids=["no-page", "no-name"])
def test_a_full_tmpfs(small_run: Path, names: bool) -> None:
    top = small_run
    services, bare = FakeServices(top), plain(top)
    apply_plan(FULL, root_dir=top, services=services)
    applied = plain(top)
    fill(top / "run", names=names)
    with pytest.raises(BedplateError, match="No space left on device"):
        apply_plan(_OTHER, root_dir=top, services=services)
    assert {name: value for name, value in plain(top).items() if "filler" not in name} == applied
    assert undo(root_dir=top, services=services).drifted == ()
    assert {name: value for name, value in plain(top).items() if "filler" not in name} == bare
    fill(top / "run", names=names)
    with pytest.raises(BedplateError, match="No space left on device"):
        apply_plan(FULL, root_dir=top, services=services)
    assert {name: value for name, value in plain(top).items() if "filler" not in name} == bare
