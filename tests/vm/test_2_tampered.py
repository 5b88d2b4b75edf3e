"""What was changed after it was signed does not run: a byte of the kernel image, a byte of the root."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.cli.terminal import terminal_progress
from bedplate.flows.preflight import Ready, ensure_ready
from bedplate.image.machine import kill_machine, start_machine
from bedplate.image.manifest import Image, read_partitions, read_sections
from bedplate.image.qemu import BootOptions
from bedplate.model.buildhost import Wishes
from bedplate.model.machine import AccelChoice, BootMode
from bedplate.model.units import GIB
from tests.conftest import Bedplate, free_port

pytestmark = pytest.mark.vm

REFUSED = re.compile(r"Access Denied|Security Violation|verification failed", re.IGNORECASE)
STARTED = re.compile(r"Linux version|bedplate-init|systemd\[1\]")
LIMIT_S = 400


@contextmanager
def booted(bedplate: Bedplate, image: Image, state: Path, mode: BootMode) -> Iterator[Path]:
    """A machine of its own from `image`, started and not waited for; the file its serial port writes to."""
    paths = Paths(cache=bedplate.paths.cache, state=state)
    with terminal_progress() as progress:
        wishes = Wishes(
            build=False,
            guest_memory_bytes=2 * GIB,
            secure_boot=mode is BootMode.SECURE,
            uefi=False,
            tpm=True,
            mirror=None,
        )
        port = free_port()
        ready: Ready = ensure_ready(paths, wishes, progress, port=port, choice=AccelChoice.AUTO, install=False)
        firmware = ready.host.secure_firmware if mode is BootMode.SECURE else None
        options = BootOptions(
            mode=mode, accel=ready.accel, port=port, cpus=1, models=None, firmware=firmware, reboot=mode is BootMode.SECURE
        )
        start_machine(paths, image, options, ready.programs, progress)
        try:
            yield paths.machine / "serial.log"
        finally:
            kill_machine(paths)


def wait_for(log: Path, pattern: re.Pattern[str]) -> str:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace") if log.exists() else ""
        if pattern.search(text):
            return text
        time.sleep(0.5)
    pytest.fail(f"{pattern.pattern} did not come within {LIMIT_S} s; the serial port said: {text[-3000:]}")


def flip(disk: Path, offset: int) -> None:
    with disk.open("r+b") as handle:
        handle.seek(offset)
        byte = handle.read(1)[0]
        handle.seek(offset)
        handle.write(bytes([byte ^ 0x01]))


@pytest.fixture
def copy(image: Image, tmp_path: Path) -> Iterator[Image]:
    """The image with a disk of its own to change."""
    raw = tmp_path / "changed.raw"
    shutil.copyfile(image.raw, raw)
    yield dataclasses.replace(image, raw=raw)
    raw.unlink()


def test_a_changed_uki_is_refused_by_the_firmware(bedplate: Bedplate, copy: Image, tmp_path: Path) -> None:
    esp = next(partition for partition in read_partitions(copy.raw) if partition.label == "esp")
    initrd = read_sections(copy.uki)[".initrd"][:4096]  # a sector of it lies unbroken in the FAT file system
    with copy.raw.open("rb") as handle:
        handle.seek(esp.offset_bytes)
        position = handle.read(esp.size_bytes).find(initrd[:512])
    assert position > 0
    flip(copy.raw, esp.offset_bytes + position + 100)
    with booted(bedplate, copy, tmp_path / "state", BootMode.SECURE) as log:
        said = wait_for(log, REFUSED)
    assert "successfully enrolled" in said  # the keys were, before the refusal
    assert STARTED.search(said) is None, said[-3000:]


def test_a_changed_root_is_refused_by_the_kernel(bedplate: Bedplate, copy: Image, tmp_path: Path) -> None:
    root = next(
        partition for partition in read_partitions(copy.raw) if partition.type == "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    )
    flip(copy.raw, root.offset_bytes + 2048)  # the first block, that the file system needs to be mounted
    with booted(bedplate, copy, tmp_path / "state", BootMode.DIRECT) as log:
        said = wait_for(log, re.compile(r"block 0 is corrupted|reboot: Restarting|cannot start:"))
        time.sleep(5)
        said = log.read_text(errors="replace")
    assert "corrupted" in said, said[-3000:]
    assert "systemd" not in said.partition("corrupted")[2], said[-3000:]
