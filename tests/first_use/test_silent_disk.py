"""`bedplate measure` on a disk that stops answering: a frozen file system leaves its writers in uninterruptible sleep, as a
dead device does, and lets them go when it is thawed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import wait_until

BOUND_S = 300  # the limits of the command are 15 s and 10 s an operation; a busy host takes longer over everything else
FREEZE_AND_FAIL = "#!/bin/sh\nfsfreeze --freeze {mount}\nexit 1\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The root of a small file system on a disk of its own, thawed at the end."""
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(96 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True)
    if made.returncode != 0 or subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True).returncode != 0:
        pytest.skip("needs root that may mount a file system on a loop device")
    try:
        yield mount
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", mount], capture_output=True)
        unmount = ["umount", str(mount)]  # busy until the programs that slept have ended
        wait_until(lambda: subprocess.run(unmount, capture_output=True).returncode == 0, f"{mount} unmounted")


def measure(mount: Path, programs: Path) -> tuple[int, str]:
    """Exit status and messages of a measurement that uses these programs, fio among them."""
    environment = os.environ | {"BEDPLATE_PATH_PREFIX": str(programs)}
    words = [sys.executable, "-m", "bedplate.cli.main", "measure", str(mount), "--dry-run", "--size", "16M"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment) as process:
        try:
            _, messages = process.communicate(timeout=BOUND_S)
        finally:
            if process.poll() is None:  # nothing else lets it go
                subprocess.run(["fsfreeze", "--unfreeze", mount], capture_output=True)
                process.kill()
    return process.returncode, messages


def fake_fio(directory: Path, script: str) -> Path:
    directory.mkdir()
    (directory / "fio").write_text(script)
    (directory / "fio").chmod(0o755)
    return directory


def device_of(mount: Path) -> str:
    number = mount.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name


def test_a_file_that_cannot_be_removed_is_named_with_its_disk(disk: Path, tmp_path: Path) -> None:
    programs = fake_fio(tmp_path / "bin", FREEZE_AND_FAIL.format(mount=disk))
    status, messages = measure(disk, programs)
    (left_over,) = disk.glob(".bedplate-disk-speed.*")
    assert status == 1
    assert f"{left_over}: could not be removed; remove it when the disk answers" in messages
    assert f"error: {device_of(disk)} (" in messages and "does not answer" in messages


def test_a_disk_that_never_answers_ends_the_measurement(disk: Path, tmp_path: Path) -> None:
    programs = fake_fio(tmp_path / "bin", "#!/bin/sh\nexit 0\n")
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)
    status, messages = measure(disk, programs)
    assert status == 1
    assert f"error: {device_of(disk)} (" in messages and "could not be made within" in messages


@pytest.mark.parametrize("program", ["stat", "find"])
def test_a_name_that_is_never_looked_up_ends_the_measurement(disk: Path, tmp_path: Path, program: str) -> None:
    """Of a disk that does not even answer reads. The program sleeps as it would there; bedplate itself looks at no name."""
    programs = fake_fio(tmp_path / "bin", "#!/bin/sh\nexit 0\n")
    (programs / program).write_text("#!/bin/sh\nexec sleep 1000\n")
    (programs / program).chmod(0o755)
    status, messages = measure(disk, programs)
    assert status == 1
    assert f"{disk}: its disk does not answer: {program} did not end within" in messages


def test_the_file_of_a_run_that_was_killed_is_removed_and_that_of_one_that_runs_is_not(disk: Path, tmp_path: Path) -> None:
    programs = fake_fio(tmp_path / "bin", "#!/bin/sh\nexit 1\n")
    killed, running = disk / ".bedplate-disk-speed.1", disk / ".bedplate-disk-speed.2"
    killed.touch()
    with running.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert measure(disk, programs)[0] != 0
        assert (killed.exists(), running.exists()) == (False, True)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    programs = fake_fio(tmp_path / "bin", "#!/bin/sh\nexit 0\n")
    (tmp_path / "file").touch()
    for name, said in (("file", "is not a directory"), ("absent", "No such file or directory")):
        status, messages = measure(tmp_path / name, programs)
        assert (status, said in messages) == (2, True), messages
