"""Real experiments on this host: the dispatch loop beside a CPU hog, in control groups of their own.

They take minutes, and a busy machine makes the right answer "refused"; so a test accepts a retry, and is skipped with the
reason when the machine stays busy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bedplate.act.run import find_program

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Groups:
    """Control groups of the victim and of its neighbour, and files with which one is confined."""

    victim: tuple[Path, ...]
    neighbour: tuple[Path, ...]
    share: Path
    """Of the neighbour: cpu.shares, or cpu.weight."""
    least_share: str
    cpus: Path
    """Of the victim: cpuset.cpus."""
    neighbour_cpus: Path
    heavy_share: str
    """Eight times the default."""


@pytest.fixture(scope="session")
def groups() -> Iterator[Groups]:
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("confinement to one CPU needs two")
    if find_program("stress-ng") is None:
        pytest.skip("stress-ng is not installed")
    made: list[Path] = []
    try:
        yield _make_groups(made)
    finally:
        for directory in reversed(made):
            for _ in range(20):
                with suppress(FileNotFoundError):
                    try:
                        directory.rmdir()
                    except OSError:  # a process that is just ending
                        time.sleep(0.1)
                        continue
                break


def _make_groups(made: list[Path]) -> Groups:
    def make(parent: Path, name: str) -> Path:
        directory = parent / f"bedplate-prove-{name}-{os.getpid()}"
        directory.mkdir()
        made.append(directory)
        return directory

    try:
        if (_V1 / "cpu.shares").exists():
            cpuset = _V1.parent / "cpuset"
            victim, neighbour = make(_V1, "victim"), make(_V1, "noise")
            confined, beside = make(cpuset, "victim"), make(cpuset, "noise")
            for file in ("cpuset.cpus", "cpuset.mems"):
                for directory in (confined, beside):
                    (directory / file).write_text((cpuset / file).read_text())
            return Groups(
                victim=(victim, confined),
                neighbour=(neighbour, beside),
                share=neighbour / "cpu.shares",
                least_share="2",
                cpus=confined / "cpuset.cpus",
                neighbour_cpus=beside / "cpuset.cpus",
                heavy_share="8192",
            )
        if {"cpu", "cpuset"} <= set((_V2 / "cgroup.subtree_control").read_text().split()):
            victim, neighbour = make(_V2, "victim"), make(_V2, "noise")
            for directory in (victim, neighbour):
                (directory / "cpuset.cpus").write_text((_V2 / "cpuset.cpus.effective").read_text())
            return Groups(
                victim=(victim,),
                neighbour=(neighbour,),
                share=neighbour / "cpu.weight",
                least_share="1",
                cpus=victim / "cpuset.cpus",
                neighbour_cpus=neighbour / "cpuset.cpus",
                heavy_share="800",
            )
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    pytest.skip("no control groups with cpu and cpuset here")
