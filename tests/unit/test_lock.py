from __future__ import annotations

import os
from pathlib import Path

import pytest

from bedplate.act.lock import hold_lock
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


def test_the_lock_is_free_after_its_block_whatever_ended_it(paths: Paths) -> None:
    with pytest.raises(KeyboardInterrupt), hold_lock(paths, "up"):
        raise KeyboardInterrupt
    with hold_lock(paths, "down"):
        pass


@pytest.mark.parametrize("left", ['{"verb": "up", "pid": 1, "since": "00:00:00"}', "", "{", "\0\0"])
def test_the_file_of_a_killed_holder_locks_nothing(paths: Paths, left: str) -> None:
    paths.state.mkdir()
    (paths.state / "lock").write_text(left)
    with hold_lock(paths, "up"):
        assert '"verb": "up"' in (paths.state / "lock").read_text()
