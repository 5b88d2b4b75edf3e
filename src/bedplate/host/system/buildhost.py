"""What the host is that should build and boot images: the facts that preflight judges. Reads only; a trial of KVM is an act.

Firmware paths are those of the packages ovmf (Debian, Ubuntu), edk2-ovmf (Fedora, Arch).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from bedplate.errors import UsageError
from bedplate.host.kernel.memory import read_memory
from bedplate.host.root.root import Root
from bedplate.host.system.mirror import read_debian_mirror
from bedplate.model.buildhost import BuildHost, Firmware, KvmDevice, Space

_CAP_SYS_ADMIN = 21  # include/uapi/linux/capability.h

# Without SMM, which is not without Secure Boot: Debian's README of ovmf says of the first that it supports it all the same.
# (code, empty variable store), the 4 MiB builds first: Debian 13 and Ubuntu 24.04 have no others
FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE_4M.fd", "/usr/share/edk2/ovmf/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
)
SECURE_FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
)


def read_build_host(
    *, root: Root, directories: Sequence[Path], programs: Iterable[str], files: Iterable[str], search_path: str
) -> BuildHost:
    """Facts of this host. root is where its files are read from; processes, memory and space are always this machine's.

    programs are looked for in search_path (as PATH), files under root. Raises ReadError when /proc/meminfo is not
    what it should be.
    """
    release = read_os_release(root)
    memory = read_memory(root)
    found = [(name, shutil.which(name, path=search_path)) for name in sorted(set(programs))]
    return BuildHost(
        distribution=release.get("ID", ""),
        like=tuple(release.get("ID_LIKE", "").split()),
        release=release.get("VERSION_ID", ""),
        pretty_name=release.get("PRETTY_NAME", release.get("ID", "unknown system")),
        machine=os.uname().machine,
        euid=os.geteuid(),
        mounts_allowed=parse_effective_capabilities(root.read_text("/proc/self/status") or "") >> _CAP_SYS_ADMIN & 1 == 1,
        root_is_mount=any(
            line.split()[4:5] == ["/"] for line in (root.read_text("/proc/self/mountinfo") or "").splitlines()
        ),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory.total_bytes,
        memory_available_bytes=memory.available_bytes,
        spaces=tuple(read_space(directory) for directory in directories),
        programs=tuple((name, path) for name, path in found if path is not None),
        files=tuple(name for name in files if root.exists(name)),
        firmware=_find_firmware(root, FIRMWARE),
        secure_firmware=_find_firmware(root, SECURE_FIRMWARE),
        kvm=_read_kvm(root.at("/dev/kvm")),
        mirror=read_debian_mirror(root),
    )


def find_mirror() -> str | None:
    """BEDPLATE_MIRROR, else the Debian archive of this host's own apt configuration, else None (mmdebstrap's default)."""
    return os.environ.get("BEDPLATE_MIRROR") or read_debian_mirror(Root()).main


def find_mirror_timeout() -> float:
    """Seconds that a mirror may be silent before it is given up: BEDPLATE_MIRROR_TIMEOUT_S, else 20. Raises UsageError."""
    text = os.environ.get("BEDPLATE_MIRROR_TIMEOUT_S", "20")
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) == 0:
        raise UsageError(f"BEDPLATE_MIRROR_TIMEOUT_S: got {text!r}, expected a number of seconds from 1 to 9999")
    return float(text)


def read_space(directory: Path) -> Space:
    """Free bytes for us on the filesystem that holds, or would hold, the directory."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    answer = os.statvfs(existing)
    return Space(directory=str(directory), device=existing.stat().st_dev, free_bytes=answer.f_bavail * answer.f_frsize)


def parse_effective_capabilities(status: str) -> int:
    """CapEff of /proc/PID/status as a set of bits (capabilities(7)): "CapEff:\t000001ffffffffff"; 0 without such a line."""
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _find_firmware(root: Root, pairs: Sequence[tuple[str, str]]) -> Firmware | None:
    for code, variables in pairs:
        if root.at(code).is_file() and root.at(variables).is_file():
            return Firmware(code=code, vars=variables)
    return None


def _read_kvm(device: Path) -> KvmDevice:
    if not device.exists():
        return KvmDevice.ABSENT
    return KvmDevice.PRESENT if os.access(device, os.R_OK | os.W_OK) else KvmDevice.NO_PERMISSION


def read_os_release(root: Root) -> dict[str, str]:
    """Fields of os-release(5), unquoted; empty when the host has none."""
    text = root.read_text("/etc/os-release") or root.read_text("/usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
