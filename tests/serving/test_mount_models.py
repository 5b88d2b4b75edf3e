"""Which disk a production machine mounts its models from: made-up disks, and programs that note what they are asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

MOUNT_MODELS = Path(__file__).parents[2] / "image/os/production/usr/lib/bedplate/mount-models"
# A disk named signed* is taken; one named signed-empty has no index.
DISSECT = """#!/bin/sh
for word; do disk=$target target=$word; done
echo "dissect $*" >>"$LOG"
[ ! -e "$LATER" ] || { mv "$LATER"/* "$BLOCKS"; rmdir "$LATER"; }
case $disk in /dev/signed*) mkdir -p "$target" ;; *) exit 1 ;; esac
[ "$disk" = /dev/signed-empty ] || : >"$target/index.json"
"""
MOUNT = '#!/bin/sh\n[ "${0##*/} $REFUSES" != "mount remount" ] || exit 1\necho "${0##*/} $*" >>"$LOG"\n'


def add_disk(blocks: Path, disk: str, *labels: str) -> None:
    """A disk as /sys/class/block shows it: links to its partitions, which lie in it."""
    for number, label in enumerate(labels, 1):
        partition = blocks.parent / "devices" / disk / f"{disk}p{number}"
        partition.mkdir(parents=True)
        (partition / "uevent").write_text(f"DEVTYPE=partition\nPARTNAME={label}\n")
        (blocks / f"{disk}p{number}").symlink_to(partition)


def run_it(
    tmp_path: Path, disks: dict[str, list[str]], *, later: dict[str, list[str]] | None = None, refuses: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[str], str]:
    """(the process, what it called, what it said on the console). later: disks that appear while the first is waited for."""
    blocks, later_blocks, programs, log, kernel_log = (tmp_path / name for name in ("block", "later", "bin", "log", "kmsg"))
    for directory in (blocks, programs):
        directory.mkdir()
    log.write_text("")
    for disk, labels in disks.items():
        add_disk(blocks, disk, *labels)
    if later:
        later_blocks.mkdir()
        for disk, labels in later.items():
            add_disk(later_blocks, disk, *labels)
    for name, text in (("systemd-dissect", DISSECT), ("mount", MOUNT), ("umount", MOUNT), ("systemctl", MOUNT)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LOG": str(log),
        "kmsg": str(kernel_log),
        "LATER": str(later_blocks),
        "BLOCKS": str(blocks),
        "REFUSES": refuses,
    }
    argv = ["sh", os.fspath(MOUNT_MODELS), os.fspath(tmp_path / "models"), os.fspath(blocks)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    said = kernel_log.read_text() if kernel_log.exists() else ""
    return done, log.read_text().splitlines(), said


def asked(calls: list[str]) -> list[str]:
    return [call.split()[-2] for call in calls if call.startswith("dissect")]


@pytest.mark.parametrize(
    ("disks", "mounted", "refused"),
    [
        ({}, None, []),
        ({"a": ["data"], "b": ["bp-models-2"]}, None, []),
        ({"signed": ["bp-models"]}, "signed", []),
        ({"foreign": ["bp-models"], "signed": ["bp-models"]}, "signed", ["foreign"]),
        ({"foreign": ["bp-models", "bp-models"]}, None, ["foreign"]),
        ({"signed-empty": ["bp-models"], "signed-full": ["esp", "bp-models"]}, "signed-full", ["signed-empty"]),
    ],
)
def test_the_first_disk_that_the_owner_signed(
    tmp_path: Path, disks: dict[str, list[str]], mounted: str | None, refused: list[str]
) -> None:
    done, calls, said = run_it(tmp_path, disks)
    assert (done.returncode, done.stderr) == (0, "")
    assert asked(calls) == [f"/dev/{disk}" for disk in (*refused, *([mounted] if mounted else []))]
    assert all("--image-policy=root=signed:=absent+unused" in call for call in calls if call.startswith("dissect"))
    assert [f"/dev/{disk}" in said for disk in refused] == [True] * len(refused)
    target = tmp_path / "models"
    done_then = [call for call in calls if call.startswith(("mount ", "systemctl "))]
    remount, start = (
        f"mount -o remount,bind,ro,nodev,nosuid,noexec {target}",
        "systemctl start --no-block bedplate-serve.service",
    )
    assert done_then == ([remount, start] if mounted else [])


@pytest.mark.parametrize("later", [{"signed": ["bp-models"]}, {"another": ["bp-models"], "signed": ["bp-models"]}])
def test_a_disk_that_appears_while_a_strangers_is_waited_for_is_mounted(tmp_path: Path, later: dict[str, list[str]]) -> None:
    """udev asks for the unit, which runs already: nothing looked at the owner's disk any more."""
    done, calls, said = run_it(tmp_path, {"foreign": ["bp-models"]}, later=later)
    assert done.returncode == 0
    assert asked(calls) == ["/dev/foreign", *(f"/dev/{name}" for name in later)]
    assert calls[-1] == "systemctl start --no-block bedplate-serve.service"
    assert said.count("not mounted") == len(later)


def test_another_disk_under_the_name_of_one_that_was_refused_is_looked_at(tmp_path: Path) -> None:
    """The first is unplugged while it is looked at, and the second takes its name."""
    for sequence, machine in enumerate((tmp_path / "first", tmp_path / "second")):
        (machine / "block").mkdir(parents=True)
        add_disk(machine / "block", "vdb", "bp-models")
        (machine / "devices/vdb/diskseq").write_text(f"{sequence}\n")
    blocks, programs, log = tmp_path / "block", tmp_path / "bin", tmp_path / "log"
    blocks.symlink_to("first/block")
    programs.mkdir()
    dissect = programs / "systemd-dissect"
    dissect.write_text(f'#!/bin/sh\necho "dissect $*" >>{log}\nln -sfn second/block {blocks}\nexit 1\n')
    dissect.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "kmsg": str(tmp_path / "kmsg")}
    argv = ["sh", os.fspath(MOUNT_MODELS), os.fspath(tmp_path / "models"), os.fspath(blocks)]
    assert subprocess.run(argv, env=environment, timeout=60).returncode == 0
    assert asked(log.read_text().splitlines()) == ["/dev/vdb", "/dev/vdb"]


def test_a_disk_that_cannot_be_mounted_without_devices_is_mounted_not_at_all(tmp_path: Path) -> None:
    done, calls, said = run_it(tmp_path, {"signed": ["bp-models"]}, refuses="remount")
    assert done.returncode == 0
    assert calls[-1] == f"umount {tmp_path / 'models'}"
    assert "without devices and programs: not mounted" in said


LAYER_FAILED = Path(__file__).parents[2] / "image/os/common/usr/lib/bedplate/layer-failed"


def test_why_a_layer_is_not_mounted_is_said_once_for_each_reason(tmp_path: Path) -> None:
    results = ["success", "timeout", "timeout", "exit-code", "success", "exit-code", "signal", "timeout"]
    for result in results:
        environment = {
            "PATH": os.environ["PATH"],
            "SERVICE_RESULT": result,
            "kmsg": str(tmp_path / "kmsg"),
            "state": str(tmp_path / "said"),
        }
        done = subprocess.run(
            ["sh", LAYER_FAILED, "/dev/vdb", "dev-vdb"], env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = (tmp_path / "kmsg").read_text().splitlines()
    assert [line.partition(": ")[2].partition(";")[0] for line in said] == [
        "/dev/vdb: it did not mount in time: is it signed by another owner?",
        "/dev/vdb: it is not signed by the owner, or not whole",
        "/dev/vdb: its mount failed (signal)",
    ]
    assert all(line.startswith("<3>") for line in said)
