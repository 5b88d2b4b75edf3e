"""Block devices from /sys/block (Documentation/ABI/stable/sysfs-block), with what is mounted from them.

Left out: ram disks and loops without a file. A partition counts for its disk: model stores lie on the disk that turns or is
remote.
"""

from __future__ import annotations

import re

from bedplate.host.kernel.attributes import parse_int, read_int, read_node
from bedplate.host.kernel.mounts import read_mount_rows
from bedplate.host.kernel.pcitree import parse_address
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import BlockDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

BLOCKS = "/sys/block"
_ALL = "/sys/class/block"  # with the partitions
_MOST = 4096  # devices; a storage server with all paths of its disks has hundreds
_SECTOR = 512  # bytes; the unit of `size`, whatever the device's own
_LEFT_OUT = re.compile(r"ram\d+|fd\d+|sr\d+", re.ASCII)
_IN_BRACKETS = re.compile(r"\[([\w-]{1,40})\]", re.ASCII)
_TRANSPORTS = {"nvme": "nvme", "vd": "virtio", "dm-": "dm", "md": "md", "loop": "loop", "zram": "zram"}


def read_blocks(root: Root) -> tuple[BlockDevice, ...]:
    """Block devices by name; () where there are none or a recording has no /sys/block."""
    mounts = _read_mounts(root)
    found: list[BlockDevice] = []
    disks = set(root.listdir(BLOCKS))
    disks |= {name for name in root.listdir(_ALL) if name not in disks and not root.exists(f"{_ALL}/{name}/partition")}
    for name in sorted(disks)[:_MOST]:
        if _LEFT_OUT.fullmatch(name) is None:
            device = _read_block(root, name, mounts)
            if device.size_bytes or not name.startswith("loop"):
                found.append(device)
    return tuple(found)


def _read_block(root: Root, name: str, mounts: dict[str, tuple[str, ...]]) -> BlockDevice:
    where = root.resolve(f"{BLOCKS}/{name}") or root.resolve(f"{_ALL}/{name}") or f"{BLOCKS}/{name}"
    inner = root.listdir(where)
    parts = [part for part in inner if part.startswith(name)] if name[:2] not in ("dm", "md") else []
    points: set[str] = set()
    for directory in (where, *(f"{where}/{part}" for part in parts)):
        points.update(mounts.get(root.read(f"{directory}/dev").value or "", ()))
    for key in (name, *parts, *([root.read(f"{where}/dm/name").value or ""] if "dm" in inner else [])):
        points.update(mounts.get(key, ()))
    hardware = _hardware(root, name, where)
    kib = read_int(root, f"{where}/queue/read_ahead_kb")
    sectors = parse_int(root.read(f"{where}/size").value or "") or 0
    return BlockDevice(
        name=name,
        model=root.read(f"{where}/device/model").value or "",
        address=_address(hardware),
        numa_node=_read_node(root, hardware),
        size_bytes=max(sectors, 0) * _SECTOR,
        rotational=_truth(root, f"{where}/queue/rotational"),
        scheduler=_scheduler(root, f"{where}/queue/scheduler"),
        read_ahead_bytes=known(kib.value << 10, kib.source, kib.text) if kib.value is not None and kib.value >= 0 else kib,
        queues=sum(1 for queue in root.listdir(f"{where}/mq") if queue.isdigit()),
        transport=_transport(root, name, where, inner),
        parents=root.listdir(f"{where}/slaves"),
        mounts=tuple(sorted(points)),
    )


def _hardware(root: Root, name: str, where: str) -> str:
    """The path of what carries the device: of an NVMe namespace with multipath, the first controller of its subsystem."""
    if "/nvme-subsystem/" not in where and "/virtual/nvme-" not in where:
        return where
    subsystem = where.rsplit("/", 1)[0]
    for controller in root.listdir(subsystem):
        if re.fullmatch(r"nvme\d+", controller, re.ASCII) and (path := root.resolve(f"{subsystem}/{controller}")):
            return path
    return where


def _address(path: str) -> str | None:
    """The last PCI device of a path in /sys/devices."""
    return next((address for part in reversed(path.split("/")) if (address := parse_address(part)) is not None), None)


def _read_node(root: Root, path: str) -> Reading[int]:
    """numa_node of the device that carries it: that of its PCI function, else of the block device's own parent."""
    parts = path.split("/")
    for length in range(len(parts), 0, -1):
        if parse_address(parts[length - 1]) is not None:
            return read_node(root, "/".join([*parts[:length], "numa_node"]))
    return read_node(root, f"{path}/device/numa_node")


def _truth(root: Root, where: str) -> Reading[bool]:
    reading = read_int(root, where)
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, where, reading.text)
    return known(reading.value != 0, where, reading.text)


def _scheduler(root: Root, where: str) -> Reading[str]:
    """The one in brackets of "[none] mq-deadline kyber"; "none" alone is itself."""
    reading = root.read(where)
    if reading.value is None:
        return reading
    match = _IN_BRACKETS.search(reading.value)
    if match is None and len(reading.value.split()) != 1:
        return missing(Unknown.MALFORMED, where, reading.text)
    return known(match[1] if match else reading.value.strip(), where, reading.value[:80])


def _transport(root: Root, name: str, where: str, inner: tuple[str, ...]) -> str:
    if (told := transport_of(name)) != "other":
        return told
    if "device" in inner and re.search(r"/(?:host|target)\d+", where, re.ASCII) is not None:
        return "scsi"
    return "virtio" if "/virtio" in where else "other"


def transport_of(name: str) -> str:
    """What the kernel's name of a device says of how it is reached: "nvme0n1" -> "nvme"; "sda" -> "other"."""
    return next((transport for prefix, transport in _TRANSPORTS.items() if name.startswith(prefix)), "other")


def _read_mounts(root: Root) -> dict[str, tuple[str, ...]]:
    """Mount points by device number ("259:1") and by the last part of the source's name ("nvme0n1p1")."""
    mounts: dict[str, set[str]] = {}
    for row in read_mount_rows(root):
        source = row.mount.source
        for key in (row.number, source.rsplit("/", 1)[-1] if source.startswith("/dev/") else ""):
            if key:
                mounts.setdefault(key, set()).add(row.mount.point)
    return {key: tuple(sorted(points)) for key, points in mounts.items()}
