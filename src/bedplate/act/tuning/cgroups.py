"""Where systemd puts the control groups of units (systemd.slice(5), admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bedplate.host.kernel.groups import read_groups, slice_path
from bedplate.host.root.root import Root


def cgroup_mount(root: Root) -> str:
    """Where cgroup v2 is mounted: "/sys/fs/cgroup", or "/sys/fs/cgroup/unified" beside v1; "" where it is not."""
    for point in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if root.exists(f"{point}/cgroup.controllers"):
            return point
    return ""


def unit_paths(root: Root, units: Iterable[str]) -> dict[str, str]:
    """Unit -> its control group, below the mount; a unit that does not run is left out.

    That of a slice follows from its name, others have theirs where they run.
    """
    names = set(units)
    slices = {unit: slice_path(unit) for unit in names if unit.endswith(".slice")}
    if names == slices.keys():
        return slices
    running = {group.path.rpartition("/")[2]: group.path for group in read_groups(root).groups}
    return slices | {unit: running[unit] for unit in names & running.keys() - slices.keys()}


def find_processes(root: Root, paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(control group of `paths`, number of a process in it or below it), of all processes (proc_pid_cgroup(5))."""
    wanted = tuple(paths)
    for name in root.names("/proc").value or ():
        if not (name.isascii() and name.isdigit()):
            continue
        lines = (root.read(f"/proc/{name}/cgroup").value or "").splitlines()
        where = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
        for path in wanted:
            if where == path or where.startswith(f"{path}/"):
                yield path, int(name)
