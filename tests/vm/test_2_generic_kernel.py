"""The generic flavour of the kernel, with which bare metal boots: its initrd finds and verifies a root on an NVMe disk and
on an AHCI disk, and its e1000e drives the network card.

A guest boots the kernel and the initrd of the recipe with a root of a few files, made, hashed and signed as every root is.
Success is a status that the root's first process sends to the machine: a hang, a panic or a reboot is a failure.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bedplate.act.lock import hold_cache
from bedplate.act.run import run
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.initrd import make_initrd
from bedplate.image.keys import ensure_keys
from bedplate.image.layer_disk import make_layer_disk
from bedplate.image.manifest import read_partitions
from bedplate.image.packages import Request, ensure_packages, pool
from bedplate.image.qemu import MAGIC_EXIT
from bedplate.image.recipe import Kernel, architecture, read_recipe, recipes_directory
from bedplate.image.tools import ensure_tools, tools_command
from tests.conftest import BOOT_S, Bedplate
from tests.unit.test_lock import Notes

pytestmark = [pytest.mark.vm, pytest.mark.long]

PACKAGES = ("busybox", "dmsetup", "libc6")
# The first process: it sees what the initrd mounted, loads the driver of the card, and reports through isa-debug-exit.
INIT = f"""#!/bin/sh
export PATH=/bin
set -e
uname -r
grep ' / erofs ro' /proc/mounts
cat /sys/block/dm-0/dm/uuid
for link in /sys/block/dm-0/slaves/*; do ls -d "$link"; done
insmod /usr/lib/e1000e.ko
until [ -e /sys/class/net/eth0/device/driver ]; do sleep 0.1; done
readlink /sys/class/net/eth0/device/driver
ip link set eth0 up
until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done
echo "everything is there: $(cat /sys/block/dm-0/slaves/*/uevent | grep DEVNAME)"
printf '\\{MAGIC_EXIT:03o}' | dd of=/dev/port bs=1 seek=$((0xf4)) 2>/dev/null
"""
DISKS = {
    "nvme": ("-device", "nvme,drive=root,serial=root"),
    "ahci": ("-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=root,bus=sata.0"),
}


@dataclass(frozen=True)
class Guest:
    """What a guest of the generic flavour boots."""

    kernel: Path
    initrd: Path
    disk: Path
    command_line: str
    release: str


@pytest.fixture(scope="module")
def guest(bedplate: Bedplate, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """The kernel that the recipe's flavour `generic` resolves to, its initrd, and a signed disk with a small root."""
    paths, recipes = bedplate.paths, recipes_directory()
    recipe = replace(read_recipe(recipes), kernel=Kernel.GENERIC)
    request = Request(
        suite=recipe.suite,
        packages=PACKAGES,
        kernel=f"linux-image-{architecture()}",
        accept_expired_release=False,
        architecture=architecture(),
    )
    with hold_cache(paths, Notes(), what="a test's kernel"):
        tools = ensure_tools(paths, recipes, Notes(), mirror=find_mirror())
        lock = ensure_packages(paths, tools, request, paths.state / "locks/generic-kernel.json", Notes())
    work = paths.work / "generic-kernel"
    if work.exists():
        shutil.rmtree(work)
    (work / "initrd").mkdir(parents=True)
    initrd = work / "initrd.cpio.zst"
    make_initrd(paths, tools, recipe, recipes, lock, work / "initrd", initrd)
    unpacked, tree = work / "initrd/packages", work / "tree"
    shutil.copytree(work / "initrd/tree", tree, symlinks=True, ignore=shutil.ignore_patterns("modules", "init"))
    for name in ("etc", "tmp", "var", "usr/lib/systemd"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for applet in ("dd", "ip", "ls", "readlink", "uname"):
        if not (tree / "bin" / applet).is_symlink():
            (tree / "bin" / applet).symlink_to("busybox")
    (module,) = unpacked.rglob("e1000e.ko.xz")
    (tree / "usr/lib/e1000e.ko").write_bytes(lzma.decompress(module.read_bytes()))
    first = tree / "usr/lib/systemd/systemd"
    first.write_text(INIT)
    first.chmod(0o755)
    disk, keys = work / "root.raw", ensure_keys(paths)
    make_layer_disk(paths, work, tree, disk, keys, seed=uuid.UUID(int=1), epoch=recipe.source_date_epoch, log=work / "log")
    root, verity = (partition.uuid for partition in read_partitions(disk)[:2])
    roothash = (root + verity).replace("-", "")  # Discoverable Partitions Specification: the halves of the root hash
    (binary,) = (package for package in lock.packages if package.name.startswith("linux-binary-"))
    run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / binary.file, work / "kernel"]), timeout_s=300)
    (kernel,) = (work / "kernel").rglob("vmlinuz*")
    directory = tmp_path_factory.mktemp("generic")
    for source, name in ((kernel, "vmlinuz"), (initrd, "initrd"), (disk, "disk")):
        shutil.copyfile(source, directory / name)
    shutil.rmtree(work)
    return Guest(
        kernel=directory / "vmlinuz",
        initrd=directory / "initrd",
        disk=directory / "disk",
        command_line=f"roothash={roothash} console=ttyS0 panic=-1",
        release=binary.name.removeprefix("linux-binary-"),
    )


@pytest.mark.parametrize("disk", DISKS)
def test_the_root_is_found_on_the_disks_of_bare_metal(guest: Guest, disk: str) -> None:
    argv = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35", "-cpu", "max", "-m", "1G"]
    argv += ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", guest.command_line, "-no-reboot"]
    argv += ["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    argv += ["-drive", f"file={guest.disk},format=raw,if=none,id=root,snapshot=on", *DISKS[disk]]
    argv += ["-netdev", "user,id=net,restrict=on", "-device", "e1000e,netdev=net"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT_S, check=False)
    assert done.returncode == (MAGIC_EXIT << 1 | 1), done.stdout[-3000:] + done.stderr
    expected = {"nvme": "DEVNAME=nvme0n1p1", "ahci": "DEVNAME=sda1"}[disk]
    assert guest.release in done.stdout and "CRYPT-VERITY-" in done.stdout
    assert "/e1000e" in done.stdout and expected in done.stdout
