"""Where the recordings are: ../shared/data beside the checkout, or $BEDPLATE_DATA. Without them these tests are skipped."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bedplate.host.root import Root
from bedplate.model.facts.reading import Unknown

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
            with tarfile.open(machines / "hwloc" / f"{name}.tar.bz2") as archive:
                # Our own reader of archives is tested elsewhere; Debian 12's tarfile has no filters yet.
                archive.extraction_filter = getattr(tarfile, "tar_filter", None)
                archive.extractall(directory)
            done[name] = next(directory.iterdir())
        return done[name]

    return unpack


@pytest.fixture(scope="session")
def root_of(unpacked: Callable[[str], Path]) -> Callable[[str], Root]:
    return lambda name: Root(unpacked(name), absent=Unknown.NOT_RECORDED)
