"""Room for a model: who is asked for memory, and what the kernel's answers mean."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.act import room
from bedplate.act.room import reclaim
from bedplate.host.root.root import Root
from bedplate.model.room import Reclaim
from bedplate.plan.room import YIELDING, plan_room


def test_background_is_asked_before_neighbours() -> None:
    held = [("neighbour.slice", 500), ("background.slice", 80)]
    assert plan_room(100, held) == (
        Reclaim(group="background.slice", size_bytes=80),
        Reclaim(group="neighbour.slice", size_bytes=30),
    )


@given(st.integers(-10, 1000), st.lists(st.integers(0, 600), min_size=2, max_size=2))
def test_nobody_is_asked_in_vain_or_for_more_than_it_holds(missing_bytes: int, held: list[int]) -> None:
    holds = dict(zip(YIELDING, held, strict=True))
    asked = plan_room(missing_bytes, list(holds.items()))
    assert all(0 < request.size_bytes <= holds[request.group] for request in asked)
    assert bool(asked) == (0 < missing_bytes <= sum(held))
    assert sum(request.size_bytes for request in asked) >= (missing_bytes if asked else 0)


def test_the_system_and_engines_are_never_asked() -> None:
    assert plan_room(100, [("system.slice", 1000), ("inference.slice", 1000)]) == ()


@pytest.fixture
def group(tmp_path: Path) -> Path:
    directory = tmp_path / "sys/fs/cgroup/background.slice"
    directory.mkdir(parents=True)
    (directory / "memory.current").write_text("1000\n")
    (directory / "memory.reclaim").write_text("")
    return directory


def test_what_a_group_gave_is_counted(group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def kernel(descriptor: int, data: bytes) -> int:
        """Gives 300 bytes the first time, and has no more to give."""
        written.append(data)
        (group / "memory.current").write_text("700\n")
        if len(written) > 1:
            raise OSError(errno.EAGAIN, "less was reclaimed")
        return len(data)

    monkeypatch.setattr(room, "_STEP_BYTES", 400)
    monkeypatch.setattr(os, "write", kernel)
    assert reclaim(Root(tmp_path), [Reclaim(group="background.slice", size_bytes=1000)]) == 300
    assert written == [b"400", b"400"]


def test_a_kernel_without_reclaim_gives_nothing(group: Path, tmp_path: Path) -> None:
    (group / "memory.reclaim").unlink()
    assert reclaim(Root(tmp_path), [Reclaim(group="background.slice", size_bytes=10)]) == 0


def test_a_slow_reclaim_ends_with_its_time(group: Path, tmp_path: Path) -> None:
    assert reclaim(Root(tmp_path), [Reclaim(group="background.slice", size_bytes=10)], limit_s=0) == 0
    assert (group / "memory.reclaim").read_text() == ""
