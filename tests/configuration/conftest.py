"""Trees in memory where there is such a place: a killed process loses nothing that it wrote, on a disk or not, and thousands
of fsync on a shared disk took minutes. What a power cut leaves is for tests/vm."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """An empty directory."""
    if not _MEMORY.is_dir():
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(prefix="bedplate-config-", dir=_MEMORY))
    yield path
    shutil.rmtree(path)
