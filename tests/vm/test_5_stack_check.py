"""`bedplate stack check` in a Debian 13 that runs: nothing on the guest as it is, then ten drifts, planted by its own dpkg.

The packages are tiny, the rest are files as Debian writes them (tests/stack). The guest has no GPU: whether an engine holds
code for its GPUs is asked against a lock, which names them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.inplace import Guest, GuestOptions, running_guest

from bedplate.cli.terminal import terminal_progress
from bedplate.image.manifest import Image
from tests.conftest import Bedplate
from tests.stack.drifts import FIRST
from tests.stack.test_check import make_lock

pytestmark = [pytest.mark.vm, pytest.mark.long]

REPOSITORY = Path(__file__).parents[2]
ENGINE_CODE, DKMS = "stack.engine-code", 5


@pytest.fixture(scope="module")
def guest(bedplate: Bedplate, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with (
        terminal_progress() as progress,
        running_guest(
            bedplate.paths, progress, directory=tmp_path_factory.mktemp("guest"), options=GuestOptions(parallel=False)
        ) as guest,
    ):
        guest.wait_serving()
        shutil.copytree(REPOSITORY / "tests/stack", guest.share / "tests/stack")
        (guest.share / "tests/__init__.py").touch()
        make_lock(guest.share / "stack.lock")
        yield guest


def check(guest: Guest, *options: str) -> dict[str, Any]:
    """The findings about the stack by id."""
    words = " ".join(("bedplate stack check --json --fail-on never", *options))
    return {finding["id"]: finding for finding in guest.run_json(words, timeout_s=600)["findings"]}


def test_ten_planted_drifts_are_found_and_nothing_on_a_clean_guest(guest: Guest) -> None:
    assert check(guest) == {}, "the guest as it is"
    guest.run("cd /share && python3 -m tests.stack.drifts / clean", timeout_s=600)
    assert check(guest) == {}, "the guest with a GPU stack in which nothing is wrong"
    # The guest has one kernel: without its module nothing could be said of the module's firmware and library.
    guest.run("cd /share && python3 -m tests.stack.drifts / 0 1 2 3 4 6 7 8 9", timeout_s=600)
    found = check(guest)
    expected = {id for number, drift in enumerate(FIRST) if number != DKMS for id in drift.findings}
    assert set(found) == expected - {ENGINE_CODE}, found
    assert ENGINE_CODE in check(guest, "--lock /share/stack.lock")
    guest.run(f"cd /share && python3 -m tests.stack.drifts / {DKMS}", timeout_s=600)
    assert {"stack.known-bad", "stack.dkms-driver"} & set(check(guest))
