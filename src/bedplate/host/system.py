"""What a system booted from a bedplate image says of itself: files of /usr, /proc and /sys, and systemctl's own table."""

from __future__ import annotations

import json
import os

from bedplate.host.memory import read_memory
from bedplate.host.root import Root
from bedplate.model.system import SystemFacts, Unit

IMAGE_RECORD = "/usr/lib/bedplate/image.json"
_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

# LUKS2 on-disk format specification 2.1: a binary header of 4096 bytes, then JSON up to the 16 KiB that are usual.
_LUKS_JSON_OFFSET, _LUKS_HEADER_BYTES = 4096, 16384


def is_bedplate_system(root: Root) -> bool:
    """Whether this is a booted bedplate image; its os-release names it as the image or as the system."""
    text = root.read_text("/usr/lib/os-release") or ""
    words = {line.replace('"', "").strip() for line in text.splitlines()}
    return bool(words & {"ID=bedplate", "IMAGE_ID=bedplate"}) and root.exists(IMAGE_RECORD)


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
    return "encrypted, sealed to the TPM" if "systemd-tpm2" in _read_tokens(root, block) else "encrypted"


def _read_tokens(root: Root, block: str) -> set[str]:
    """Types of the tokens in the LUKS2 header below a mapped device; empty when it cannot be read (only root can)."""
    for name in root.listdir(f"/sys/class/block/{block}/slaves"):
        try:
            with root.at(f"/dev/{name}").open("rb") as device:
                text = device.read(_LUKS_HEADER_BYTES)[_LUKS_JSON_OFFSET:].split(b"\0", 1)[0]
            return {str(token["type"]) for token in json.loads(text)["tokens"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return set()
