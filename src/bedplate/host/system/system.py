"""What a system booted from a bedplate image says of itself: files of /usr, /proc and /sys, and systemctl's own table."""

from __future__ import annotations

import json
import os

from bedplate.errors import ReadError
from bedplate.host.kernel.memory import read_memory
from bedplate.host.root.root import Root
from bedplate.host.system.booted import IMAGE_RECORD
from bedplate.host.system.luks import LuksHeader, read_luks_header
from bedplate.model.system import SystemFacts, Unit
from bedplate.model.var import RECOVERY_FIELD, RECOVERY_TOKEN

_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def read_system(root: Root) -> SystemFacts:
    """Facts of the running image. Raises ReadError when /proc/meminfo is not what it should be."""
    record = json.loads(root.read_text(IMAGE_RECORD) or "{}")
    memory = read_memory(root)
    mounts = _read_mounts(root)
    root_block = _block_name(root, mounts.get("/", ("", ""))[0])
    uptime = (root.read_text("/proc/uptime") or "0").split()[0]
    return SystemFacts(
        version=str(record.get("version", "unknown")),
        variant=str(record.get("variant", "unknown")),
        kernel=root.read_text("/proc/sys/kernel/osrelease") or os.uname().release,
        slot=_read_slot(root, root_block),
        verity=_dm_uuid(root, root_block).startswith("CRYPT-VERITY"),
        secure_boot=_read_secure_boot(root),
        var=_read_var(root, mounts.get("/var")),
        memory_bytes=memory.total_bytes,
        memory_available_bytes=memory.available_bytes,
        uptime_s=float(uptime),
    )


def parse_units(text: str) -> tuple[Unit, ...]:
    """Rows of `systemctl list-units --output=json`: [{"unit": "x.service", "active": "failed", "sub": "failed"}]."""
    return tuple(Unit(name=row["unit"], active=row["active"], sub=row["sub"]) for row in json.loads(text or "[]"))


def _read_mounts(root: Root) -> dict[str, tuple[str, str]]:
    """Device number and type by mount point; the last mount on a point counts. Source: proc_pid_mountinfo(5)."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in (root.read_text("/proc/self/mountinfo") or "").splitlines():
        words = line.split()
        if len(words) > 6 and "-" in words:
            mounts[words[4]] = (words[2], words[words.index("-") + 1])
    return mounts


def _block_name(root: Root, number: str) -> str:
    for line in (root.read_text(f"/sys/dev/block/{number}/uevent") or "").splitlines() if number else ():
        if line.startswith("DEVNAME="):
            return line.removeprefix("DEVNAME=")
    return ""


def _dm_uuid(root: Root, block: str) -> str:
    return root.read_text(f"/sys/class/block/{block}/dm/uuid") or "" if block else ""


def _read_slot(root: Root, block: str) -> str | None:
    for name in (block, *root.listdir(f"/sys/class/block/{block}/slaves")) if block else ():
        for line in (root.read_text(f"/sys/class/block/{name}/uevent") or "").splitlines():
            label = line.removeprefix("PARTNAME=")
            if line.startswith("PARTNAME=") and not label.endswith(("_verity", "_sig")):
                return label
    return None


def _read_secure_boot(root: Root) -> bool | None:
    try:
        raw = root.at(_SECURE_BOOT).read_bytes()
    except OSError:
        return None
    return raw[-1] == 1 if raw else None  # four bytes of attributes, then the value


def _read_var(root: Root, mount: tuple[str, str] | None) -> str:
    if mount is None:
        return "read-only, part of the image"
    number, kind = mount
    if kind in ("tmpfs", "overlay"):
        return "volatile"
    block = _block_name(root, number)
    if not _dm_uuid(root, block).startswith("CRYPT-LUKS"):
        return "plain"
    header = _read_luks(root, block)
    if header is None:
        return "encrypted"
    parts = ["encrypted"]
    if any(token.type == "systemd-tpm2" for token in header.tokens):
        parts.append("sealed to the TPM")
    if any(token.type == RECOVERY_TOKEN and RECOVERY_FIELD in token.body for token in header.tokens):
        parts.append("with a recovery key")
    return ", ".join(parts) + (f"; of its header {header.problem}" if header.problem else "")


def _read_luks(root: Root, block: str) -> LuksHeader | None:
    """The LUKS2 header below a mapped device; None when it cannot be read (only root can)."""
    for name in root.listdir(f"/sys/class/block/{block}/slaves"):
        try:
            with root.at(f"/dev/{name}").open("rb") as device:
                return read_luks_header(device, name=name)
        except (OSError, ReadError):
            continue
    return None
