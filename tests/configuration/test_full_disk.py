"""A disk that is full to its last page: what is in force can be taken back, and an apply that fails leaves all as it was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.act.configuration.place import ConfigPlace
from bedplate.errors import BedplateError
from bedplate.flows import config
from tests.configuration.machine import FULL, FakeServices, Silence, make_machine, put, snapshot
from tests.tuning.test_full_disk import fill

_PAGE_BYTES = 4096


@pytest.fixture
def small(tree: Path) -> Iterator[Path]:
    """A machine whose whole tree is a tmpfs of 512 KiB."""
    disk = tree / "disk"
    disk.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
        pytest.skip("needs root that may mount a tmpfs")
    try:
        yield make_machine(disk / "box")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def apply(top: Path, given: Path) -> None:
    config.apply(given, top, Silence(), within_s=600, services=FakeServices(top), reach_s=0)


def test_what_waits_is_taken_back_on_a_full_disk(small: Path, tree: Path) -> None:
    before = snapshot(small)
    apply(small, put(tree / "given", FULL))
    fill(small.parent, names=False)
    with pytest.raises(OSError, match="No space"):
        (small / "more").write_bytes(bytes(_PAGE_BYTES))
    config.revert(small, Silence(), unless_confirmed=True, services=FakeServices(small))
    (small / "more").unlink()
    assert snapshot(small) == before
    assert not ConfigPlace(top=small).reserve.exists()


def test_from_each_page_on_an_apply_that_finds_no_space_changes_nothing(small: Path, tree: Path) -> None:
    """One page more is free in each round, until it succeeds."""
    given, before = put(tree / "given", FULL), snapshot(small)
    failed = 0
    for pages in range(200):
        fill(small.parent, names=False)
        filler = small.parent / "filler"
        os.truncate(filler, filler.stat().st_size - pages * _PAGE_BYTES)
        try:
            apply(small, given)
        except BedplateError as error:
            assert "No space left" in error.message
            failed += 1
        else:
            break
        finally:
            filler.unlink()
        assert snapshot(small) == before, f"{pages} pages were free"
        place = ConfigPlace(top=small)
        assert not any(path.exists() for path in (place.reserve, place.journal, place.in_force))
    else:
        raise AssertionError("it never succeeded")
    assert failed > 5
    assert config.show(small).waits
