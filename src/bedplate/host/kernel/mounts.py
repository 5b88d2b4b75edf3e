"""What is mounted where: /proc/self/mountinfo (proc_pid_mountinfo(5)), in an old recording /proc/mounts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.host.root.root import Root
from bedplate.model.facts.system import Mount

_MOUNTS_LIMIT = 20_000  # a host of many containers has some thousands
# Layers of an overlay take kilobytes a mount and say nothing to an audit.
_LEFT_OUT = ("lowerdir=", "upperdir=", "workdir=", "lowerdir+=")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRow:
    """One mount with what only some readers need besides."""

    mount: Mount
    root: str
    """The directory of its file system that it shows: "/" for the whole."""
    number: str
    """Major and minor of the device, "254:0"; "" where only /proc/mounts was there."""


def read_mounts(rows: Sequence[MountRow]) -> tuple[Mount, ...]:
    """Mounts by mount point, the one on top where there are several."""
    top = {row.mount.point: row.mount for row in rows}
    return tuple(top[point] for point in sorted(top))


def read_mount_rows(root: Root) -> tuple[MountRow, ...]:
    """Every mount in the kernel's order: of two on one point the later lies on top. () where no table can be read."""
    text = root.read("/proc/self/mountinfo").value
    if text is not None:
        return tuple(row for line in text.splitlines()[:_MOUNTS_LIMIT] if (row := parse_mountinfo(line)) is not None)
    lines = (root.read("/proc/mounts").value or root.read("/proc/self/mounts").value or "").splitlines()
    return tuple(row for line in lines[:_MOUNTS_LIMIT] if (row := _parse_mounts(line)) is not None)


def parse_mountinfo(line: str) -> MountRow | None:
    """ "27 1 254:0 / / rw - ext4 /dev/vda rw,discard" -> point "/", source "/dev/vda"; None for a damaged line."""
    words = line.split(" ")
    if len(words) < 10 or "-" not in words[6:]:
        return None
    dash = words.index("-", 6)
    if len(words) < dash + 4:
        return None
    options = dict.fromkeys([*words[5].split(","), *words[dash + 3].split(",")])
    return _row(words[4], words[dash + 2], words[dash + 1], tuple(options), words[3], words[2])


def _parse_mounts(line: str) -> MountRow | None:
    words = line.split(" ")
    return _row(words[1], words[0], words[2], tuple(words[3].split(",")), "/", "") if len(words) >= 4 else None


def _row(point: str, source: str, kind: str, options: tuple[str, ...], root: str, number: str) -> MountRow:
    kept = tuple(option for option in options if not option.startswith(_LEFT_OUT))
    return MountRow(
        mount=Mount(point=unescape_mount(point), source=unescape_mount(source), kind=kind, options=kept),
        root=unescape_mount(root),
        number=number,
    )


def escape_mount(text: str) -> str:
    r"""A name as the kernel writes it into the table of mounts: "my disk" -> "my\040disk"."""
    return re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", text)


def unescape_mount(text: str) -> str:
    r"""A name of the table of mounts as it is; blank, tab, newline, backslash are \040, \011, \012, \134 there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text) if "\\" in text else text
