"""Tuning on an ordinary Debian 13: what it sets, and that it takes all of it back. One guest for all tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.inplace import Guest, running_guest

from bedplate.cli.terminal import terminal_progress
from bedplate.image.manifest import Image
from tests.conftest import Bedplate

pytestmark = pytest.mark.vm

SNAPSHOT = Path(__file__).with_name("snapshot.py")
PATIENCE_S = 120.0  # for one request or one command of an emulated machine
APPLY = "bedplate tune apply"
LOG = {
    *("/run/bedplate", "/run/bedplate/tune", "/run/bedplate/tune/log"),
    *("/var/lib/bedplate", "/var/lib/bedplate/tune", "/var/lib/bedplate/tune/log"),
}


@pytest.fixture(scope="module")
def guest(bedplate: Bedplate, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Booted once, serving, with bedplate in place and everything written down as it is before the first change."""
    with (
        terminal_progress() as progress,
        running_guest(bedplate.paths, progress, directory=tmp_path_factory.mktemp("guest")) as guest,
    ):
        shutil.copy(SNAPSHOT, guest.share / SNAPSHOT.name)
        guest.wait_serving()
        take(guest, "quiet-a")
        # A transient unit among it: systemd makes /run/systemd/transient for the first one and leaves it.
        guest.run("systemctl daemon-reload; systemd-run --quiet --wait /bin/true")
        guest.run("bedplate tune plan; stress-ng --cpu 2 --timeout 2; curl -s localhost:8080/health")
        take(guest, "quiet-b")
        yield guest


def take(guest: Guest, name: str) -> None:
    """Write down every file and value of the guest."""
    guest.run(f"python3 /share/snapshot.py write /share/{name}.json", timeout_s=PATIENCE_S)


def differences(guest: Guest, before: str, after: str) -> dict[str, list[str | None]]:
    """What differs between two snapshots, less what changes by itself and the log, which undo keeps."""
    files = " ".join(f"/share/{name}.json" for name in (before, after, "quiet-a", "quiet-b"))
    found: dict[str, list[str | None]] = json.loads(guest.run(f"python3 /share/snapshot.py compare {files}").output)
    return {path: texts for path, texts in found.items() if path not in LOG}


def test_a_plan_says_why_and_changes_nothing(guest: Guest) -> None:
    plan = json.loads(guest.run("bedplate tune plan --json").output)
    assert plan["changes"], plan
    assert all(change["because"] for change in plan["changes"])
    assert differences(guest, "quiet-a", "quiet-b") == {}


def test_apply_verify_and_undo_leave_every_file_and_value_as_it_was(guest: Guest) -> None:
    guest.run(APPLY)
    take(guest, "applied")
    assert guest.run("bedplate tune verify", ok=False).status == 0
    changed = differences(guest, "quiet-b", "applied")
    assert any(path.startswith("/sys/fs/cgroup/") for path in changed), changed  # the snapshots do see what is set
    guest.run("bedplate tune undo")
    take(guest, "undone")
    assert differences(guest, "quiet-b", "undone") == {}
