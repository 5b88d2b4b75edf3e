"""Where the recordings are: ../shared/data beside the checkout, or $BEDPLATE_DATA. Without them these tests are skipped."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Unknown
from tests.recordings.lstopo import Oracle, ask_lstopo

MACHINES = Path(os.environ.get("BEDPLATE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "machines"


@pytest.fixture(scope="session")
def machines() -> Path:
    if not MACHINES.is_dir():
        pytest.skip(f"the recorded machines are not here: {MACHINES} (set BEDPLATE_DATA)")
    return MACHINES


@pytest.fixture(scope="session")
def unpacked(machines: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a tar of hwloc, unpacked once: what another program reads too."""
    done: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in done:
            directory = tmp_path_factory.mktemp("hwloc")
            # Not tarfile: as root it looks every owner up and takes seconds.
            archive = machines / "hwloc" / f"{name}.tar.bz2"
            subprocess.run(["tar", "-xjf", archive, "--no-same-owner", "-C", directory], check=True, timeout=60)
            done[name] = next(directory.iterdir())
        return done[name]

    return unpack


@pytest.fixture(scope="session")
def root_of(unpacked: Callable[[str], Path]) -> Callable[[str], Root]:
    return lambda name: Root(unpacked(name), absent=Unknown.NOT_RECORDED)


@pytest.fixture(scope="session")
def oracle_of(unpacked: Callable[[str], Path]) -> Callable[[str], Oracle]:
    """What lstopo says of a recording, asked once; CPUs that a cgroup of the machine forbade are shown too."""
    return functools.cache(lambda name: ask_lstopo(unpacked(name), "--disallowed"))
