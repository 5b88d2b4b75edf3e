"""The CPUs that a process of a cgroup really has: online, in the cpuset, in the affinity, and as much as the quota pays for.

The count of the machine is wrong in a container, a slice with AllowedCPUs= and a VM with CPUs taken offline. How the
bounds of a cgroup and of its parents are read stands in cgroup.py.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from bedplate.errors import ReadError
from bedplate.host.kernel.cgroup import find_hierarchies, read_cgroup, read_group
from bedplate.host.kernel.cpuinfo import has_amx, read_cpuinfo
from bedplate.host.kernel.mounts import read_mount_rows
from bedplate.host.root.cpu_lists import parse_cpu_list
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.serving_host import CpuBudget

T = TypeVar("T")

_SHOWN = 80  # characters of a malformed text


def read_cpus(root: Root, *, affinity: Collection[int] | None = None, cgroup: str | None = None) -> CpuBudget:
    """CPUs and quota of a cgroup (a path below the mount, "inference.slice"), by default of the one that this process is in.

    A cgroup that does not exist yet has what its nearest parent has. affinity is what sched_getaffinity(2) says of the
    process that will start the engine; None leaves it out. Raises ReadError when no CPU is left.
    """
    text = root.read_text("/sys/devices/system/cpu/online")
    if text is None:
        raise ReadError("/sys/devices/system/cpu/online: does not exist", hint="Mount /sys.")
    cpus = set(parse_cpu_list(text))
    because = [f"{len(cpus)} online"]

    hierarchies = find_hierarchies(root, read_mount_rows(root))
    if cgroup is None:
        group = read_cgroup(root, hierarchies)
    else:
        group = read_group(root, hierarchies, dict.fromkeys(hierarchies, f"/{cgroup}"))
    for name, bound in (("cpuset", _bound(group.cpus)), ("affinity", affinity)):
        if bound is not None and not cpus <= set(bound):
            cpus &= set(bound)
            because.append(f"{len(cpus)} in the {name}")
    if not cpus:
        raise ReadError(f"no CPU is left for the engine: {', '.join(because)}", hint="Widen AllowedCPUs= of its slice.")
    quota = _bound(group.quota_cpus)
    if quota is not None:
        because.append(f"a quota of {quota:g}")
    amx = has_amx(read_cpuinfo(root).flags)
    return CpuBudget(cpus=tuple(sorted(cpus)), quota=quota, because=", ".join(because), amx=amx)


def _bound(reading: Reading[T]) -> T | None:
    """A bound of the cgroup; None where there is none. Raises ReadError for one that is there and cannot be read."""
    if reading.unknown in (Unknown.DENIED, Unknown.MALFORMED):
        raise ReadError(f"{reading.source}: {reading.text[:_SHOWN]!r} is not a bound of CPUs ({reading.unknown})")
    return reading.value
