"""The CPUs that a process of a cgroup really has: online, in the cpuset, in the affinity, and as much as the quota pays for.

The count of the machine is wrong in a container, a slice with AllowedCPUs= and a VM with CPUs taken offline. Sources:
Documentation/admin-guide/cgroup-v2.rst (cpuset.cpus.effective, cpu.max), cgroup-v1/cpusets.rst, scheduler/sched-bwc.rst
(cpu.cfs_quota_us). A quota anywhere in the chain of parents counts; the narrowest one wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bedplate.errors import ReadError
from bedplate.host.kernel.cpuinfo import has_amx, read_cpuinfo
from bedplate.host.root.cpu_lists import parse_count, parse_cpu_list
from bedplate.host.root.root import Root
from bedplate.model.serving_host import CpuBudget

_CGROUP = "/sys/fs/cgroup"
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

    own = _own_cgroups(root) if cgroup is None else {}
    if root.exists(f"{_CGROUP}/cgroup.controllers"):
        chain = list(_chain(root, _CGROUP, cgroup if cgroup is not None else own.get("", "/")))
        allowed = _first(root, chain, "cpuset.cpus.effective")
        quota = _narrowest(quota_v2(root.read_text(f"{where}/cpu.max")) for where in chain)
    else:
        cpuset_chain = list(_chain(root, f"{_CGROUP}/cpuset", cgroup if cgroup is not None else own.get("cpuset", "/")))
        allowed = _first(root, cpuset_chain, "cpuset.effective_cpus") or _first(root, cpuset_chain, "cpuset.cpus")
        mount = next((m for m in (f"{_CGROUP}/cpu,cpuacct", f"{_CGROUP}/cpu") if root.exists(m)), f"{_CGROUP}/cpu")
        quota = _narrowest(
            quota_v1(root.read_text(f"{where}/cpu.cfs_quota_us"), root.read_text(f"{where}/cpu.cfs_period_us"))
            for where in _chain(root, mount, cgroup if cgroup is not None else own.get("cpu", "/"))
        )

    for name, bound in (("cpuset", parse_cpu_list(allowed) if allowed else None), ("affinity", affinity)):
        if bound is not None and not cpus <= set(bound):
            cpus &= set(bound)
            because.append(f"{len(cpus)} in the {name}")
    if not cpus:
        raise ReadError(f"no CPU is left for the engine: {', '.join(because)}", hint="Widen AllowedCPUs= of its slice.")
    if quota is not None:
        because.append(f"a quota of {quota:g}")
    amx = has_amx(read_cpuinfo(root).flags)
    return CpuBudget(cpus=tuple(sorted(cpus)), quota=quota, because=", ".join(because), amx=amx)


def quota_v2(text: str | None) -> float | None:
    """CPUs that cpu.max grants: "150000 100000" -> 1.5; "max 100000" and no file -> None."""
    words = (text or "max").split()
    if not words or words[0] == "max":
        return None
    return _quota(words[0], words[1] if len(words) > 1 else "100000")  # microseconds; the kernel's default period


def quota_v1(quota: str | None, period: str | None) -> float | None:
    """CPUs that cpu.cfs_quota_us of cpu.cfs_period_us grants; -1 and no file -> None."""
    if quota is None or period is None or quota.strip().startswith("-"):
        return None
    return _quota(quota, period)


def _quota(quota: str, period: str) -> float:
    granted, every = parse_count(quota), parse_count(period)
    if granted is None or not every:
        raise ReadError(f"{quota[:_SHOWN]!r} of {period[:_SHOWN]!r} is not a quota of CPU time in microseconds")
    return granted / every


def _own_cgroups(root: Root) -> dict[str, str]:
    """Path by controller of /proc/self/cgroup; the unified hierarchy is ""."""
    paths: dict[str, str] = {}
    for line in (root.read_text("/proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        for controller in parts[1].split(",") if len(parts) == 3 else ():
            paths[controller] = parts[2]
    return paths


def _chain(root: Root, mount: str, cgroup: str) -> Iterator[str]:
    """Directories from a cgroup up to the mount, those that exist.

    In a container without a cgroup namespace the path is the host's and does not exist here: the mount is our cgroup.
    """
    parts = [part for part in cgroup.split("/") if part and part != ".."]
    for length in range(len(parts), -1, -1):
        where = "/".join([mount, *parts[:length]])
        if root.exists(where):
            yield where


def _first(root: Root, chain: list[str], name: str) -> str | None:
    """The nearest non-empty file of that name; a cgroup without the cpuset controller has what its parent has."""
    for where in chain:
        text = root.read_text(f"{where}/{name}")
        if text:
            return text
    return None


def _narrowest(quotas: Iterator[float | None]) -> float | None:
    return min((quota for quota in quotas if quota is not None), default=None)
