"""The directory of pulls in a store: partial files, and a private tree for each pull that runs.

pulls/KEY.part, KEY.json    partial files (act/download/partial.py), shared by all pulls that want the same content
pulls/tree-*/               the files of one pull under their own names; it goes with the pull, or at the next one
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.download.partial import remove_partial
from bedplate.act.lock import try_lock, wait_lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What pulls that did not come to their end have left."""

    files: int
    size_bytes: int


@contextlib.contextmanager
def private_tree(pulls: Path, name: str) -> Iterator[Path]:
    """An empty directory of that name (with "/" for directories in it) that only this pull uses; gone after the block."""
    pulls.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(pulls):
        for path in pulls.glob("tree-*"):
            _remove_if_abandoned(path)
        top = Path(tempfile.mkdtemp(prefix="tree-", dir=pulls))
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        wait_lock(descriptor)  # held until it is closed, however this process ends
    try:
        tree = top / name
        tree.mkdir(parents=True)
        yield tree
    finally:
        shutil.rmtree(top, ignore_errors=True)
        os.close(descriptor)


def discard_unfinished(pulls: Path) -> Unfinished:
    """Remove what pulls have left that are not running; what was removed."""
    files = size_bytes = 0
    if not pulls.is_dir():
        return Unfinished(files=0, size_bytes=0)
    with _locked(pulls):
        for path in pulls.glob("tree-*"):
            _remove_if_abandoned(path)
        for path in sorted(pulls.glob("*.part")):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if try_lock(descriptor):
                    files, size_bytes = files + 1, size_bytes + os.fstat(descriptor).st_size
                    remove_partial(path)
            finally:
                os.close(descriptor)
    return Unfinished(files=files, size_bytes=size_bytes)


@contextlib.contextmanager
def _locked(pulls: Path) -> Iterator[None]:
    descriptor = os.open(pulls / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        wait_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if try_lock(descriptor):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
