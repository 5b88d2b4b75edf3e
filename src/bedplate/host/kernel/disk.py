"""The whole disk under a directory: the device that io.cost is set on, whatever file system and mapping lies above it.

Sources: /sys/dev/block and /sys/block (Documentation/ABI/stable/sysfs-block); io.cost is per disk, not per partition or
device-mapper device (Documentation/admin-guide/cgroup-v2.rst).
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.errors import ReadError
from bedplate.host.root.root import Root

_DEPTH = 8  # a partition below an encrypted device below a volume group is 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A whole disk, as /sys/block names and numbers it ("major:minor"): what io.cost.model takes."""

    name: str
    """"nvme0n1"."""
    number: str
    """"259:0"."""
    model: str
    """"" where the device has none (virtio)."""


def read_disk(root: Root, number: str) -> Disk:
    """The disk that carries a block device ("259:2", st_dev of a file). Raises ReadError where it is none, or several."""
    where = root.resolve(f"/sys/dev/block/{number}")
    if where is None:
        raise ReadError(
            f"device {number}: is not on a disk of this machine (no /sys/dev/block/{number})",
            hint="Name a directory on a local disk; a network or memory file system has no disk to measure.",
        )
    for _ in range(_DEPTH):
        if root.exists(f"{where}/partition"):
            where = where.rpartition("/")[0]
            continue
        below = root.listdir(f"{where}/slaves")
        if not below:
            name = where.rpartition("/")[2]
            own = root.read(f"{where}/dev").value
            if own is None:
                raise ReadError(f"{where}/dev: cannot be read")
            return Disk(name=name, number=own, model=(root.read(f"{where}/device/model").value or "").strip())
        if len(below) > 1:
            raise ReadError(f"{where.rpartition('/')[2]}: is on {len(below)} disks ({', '.join(below)}), expected one")
        where = root.resolve(f"/sys/class/block/{below[0]}") or f"{where}/slaves/{below[0]}"
    raise ReadError(f"device {number}: more than {_DEPTH} layers of devices")
