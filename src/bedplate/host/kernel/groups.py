"""Control groups of version 2 as a plan weighs them, and the service manager that made them.

Read are the root, slices to three levels and the units directly in them: what lies deeper belongs to a unit and moves
with it. Sources: Documentation/admin-guide/cgroup-v2.rst, systemd.slice(5), systemd.resource-control(5)."""

from __future__ import annotations

import re
from collections.abc import Collection

from bedplate.host.kernel.cgroup import find_hierarchies
from bedplate.host.kernel.mounts import read_mount_rows
from bedplate.host.kernel.startup_weight import read_settled_weight
from bedplate.host.root.root import Root
from bedplate.model.facts.groups import ControlGroup, Groups

FILES = (
    *("cgroup.controllers", "cgroup.subtree_control"),
    *("cpu.weight", "cpu.idle", "cpu.max", "cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems"),
    *("memory.current", "memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max", "memory.zswap.max"),
    *("memory.stat", "io.weight", "pids.current"),
)
_OF_ROOT = ("cgroup.controllers", "cgroup.subtree_control", "cpuset.cpus.effective", "io.cost.model", "io.cost.qos")
"""What the root alone has, and what of the others it has too."""
_LEVELS = 3  # inference.slice, inference-chat.slice, inference-chat-blue.slice
_MOST = 512
_UNITS = (".slice", ".service", ".scope")
_LIMIT = 64 << 10  # bytes; io.weight has a line a device
_SHARED_LIBRARY = re.compile(r"libsystemd-shared-(\d{2,4})\b")
_LIBRARIES = ("/usr/lib/systemd", "/lib/systemd", "/usr/lib64/systemd")


def read_groups(root: Root) -> Groups:
    """The groups of a machine, live or recorded; version 1 or 0 and no groups where version 2 has no controllers.

    Never raises for what the machine says: a file that could not be read is a reading that tells why.
    """
    hierarchies = find_hierarchies(root, read_mount_rows(root))
    unified = hierarchies.get("")
    version = _version(hierarchies)
    mount = unified.point if unified is not None else ""
    controllers = tuple((root.read(f"{mount}/cgroup.controllers").value or "").split()) if mount else ()
    return Groups(
        version=version,
        mount=mount,
        controllers=controllers,
        systemd=_systemd_version(root),
        groups=_read_all(root, mount) if version == 2 else (),
    )


def _version(hierarchies: Collection[str]) -> int:
    if any(name in hierarchies for name in ("cpu", "cpuset", "memory", "blkio")):
        return 1  # hybrid too: the controllers are where version 1 has them
    return 2 if "" in hierarchies else 0


def _read_all(root: Root, mount: str) -> tuple[ControlGroup, ...]:
    found = [_read_group(root, mount, "/", _OF_ROOT)]
    level = [""]
    for depth in range(_LEVELS + 1):
        below: list[str] = []
        for parent in level:
            for name in root.listdir(mount + parent):
                if not name.endswith(_UNITS) or (depth == _LEVELS and name.endswith(".slice")):
                    continue
                path = f"{parent}/{name}"
                if len(found) >= _MOST or not root.exists(mount + path):
                    continue
                found.append(_read_group(root, mount, path, FILES))
                if name.endswith(".slice"):
                    below.append(path)
        level = below
    return tuple(sorted(found, key=lambda group: group.path))


def _read_group(root: Root, mount: str, path: str, files: tuple[str, ...]) -> ControlGroup:
    where = mount if path == "/" else mount + path
    found = {name: root.read(f"{where}/{name}", limit=_LIMIT) for name in files}
    if path.endswith(".slice") and found["cpu.weight"].value is not None:
        found["cpu.weight"] = read_settled_weight(root, path.rpartition("/")[2], found["cpu.weight"])
    return ControlGroup(path=path, files=tuple(found.items()))


def _systemd_version(root: Root) -> int | None:
    """From the name of the library that process 1 is linked to: nothing has to be started for it."""
    init = root.read("/proc/1/comm").value
    if init != "systemd" and not root.exists("/run/systemd/system"):
        return None
    by_architecture = (f"/usr/lib/{name}/systemd" for name in root.listdir("/usr/lib") if "-linux-" in name)  # Debian
    where = (*_LIBRARIES, *by_architecture)
    versions = (_SHARED_LIBRARY.match(name) for directory in where for name in root.listdir(directory))
    return max((int(version[1]) for version in versions if version is not None), default=None)


def slice_path(unit: str) -> str:
    """The control group of a slice, as paths of `Groups` are: "a-b.slice" -> "/a.slice/a-b.slice", "-.slice" -> "".

    Source: systemd.slice(5).
    """
    words = unit.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(words[: number + 1])}.slice" for number in range(len(words)) if any(words))
