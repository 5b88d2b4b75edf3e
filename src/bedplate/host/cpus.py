"""The CPUs that a process of a cgroup really has: online, in the cpuset, in the affinity, and as much as the quota pays for.

The count of the machine is wrong in a container, a slice with AllowedCPUs= and a VM with CPUs taken offline. Sources:
Documentation/admin-guide/cgroup-v2.rst (cpuset.cpus.effective, cpu.max), cgroup-v1/cpusets.rst, scheduler/sched-bwc.rst
(cpu.cfs_quota_us). A quota anywhere in the chain of parents counts; the narrowest one wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bedplate.errors import ReadError
from bedplate.host.root import Root
from bedplate.model.host import CpuFacts

_CGROUP = "/sys/fs/cgroup"
CPU_LIMIT = 65_536  # the most CPUs that a kernel is built for is 8192 (NR_CPUS of x86 and POWER)
_SHOWN = 80  # characters of a malformed text
_HEX = "0123456789abcdefABCDEF"


def read_cpus(root: Root, *, affinity: Collection[int] | None = None, cgroup: str | None = None) -> CpuFacts:
    """CPUs and quota of a cgroup (a path below the mount, "inference.slice"), by default of the one that this process is in.

    A cgroup that does not exist yet has what its nearest parent has. affinity is what sched_getaffinity(2) says of the
    process that will start the engine; None leaves it out. Raises ReadError when no CPU is left.
    """
    text = root.read_text("/sys/devices/system/cpu/online")
    if text is None:
        raise ReadError("/sys/devices/system/cpu/online: is not there", hint="Mount /sys.")
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
    return CpuFacts(cpus=tuple(sorted(cpus)), quota=quota, because=", ".join(because))


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPUs of a kernel list: "0-2,8" -> (0, 1, 2, 8); "" -> (). Raises ReadError naming the text.

    A number past CPU_LIMIT is refused: "0-4000000000" in a hostile recording would take the memory of this machine.
    """
    cpus: set[int] = set()
    for part in text.replace("\n", "").split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError as error:
            raise ReadError(f"{text[:_SHOWN]!r} is not a list of CPUs such as 0-3,8") from error
        if high >= CPU_LIMIT:
            raise ReadError(f"{text[:_SHOWN]!r} names a CPU past {CPU_LIMIT - 1}")
        cpus.update(range(low, high + 1))
    return tuple(sorted(cpus))


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """CPUs of a kernel mask, 32-bit words with the highest first: "00000001,0000000f" -> (0, 1, 2, 3, 32).

    hwloc's "0x00000001,,0x0000000f" is read too: an empty word is zero. Raises ReadError naming the text.
    """
    cpus: list[int] = []
    words = text.strip().split(",")
    if len(words) > CPU_LIMIT // 32:
        raise ReadError(f"{text[:_SHOWN]!r} names a CPU past {CPU_LIMIT - 1}")
    for place, word in enumerate(reversed(words)):
        digits = word.strip().removeprefix("0x")
        if (len(words) > 1 and len(digits) > 8) or len(digits) > CPU_LIMIT // 4 or digits.strip(_HEX):
            raise ReadError(f"{text[:_SHOWN]!r} is not a mask of CPUs such as 00000000,0000000f")
        bits = int(digits or "0", 16)
        while bits:
            lowest = bits & -bits
            cpus.append(place * 32 + lowest.bit_length() - 1)
            bits ^= lowest
    return tuple(cpus)


def quota_v2(text: str | None) -> float | None:
    """CPUs that cpu.max grants: "150000 100000" -> 1.5; "max 100000" and no file -> None."""
    words = (text or "max").split()
    if words[0] == "max":
        return None
    return int(words[0]) / (int(words[1]) if len(words) > 1 else 100_000)  # microseconds; the kernel's default period


def quota_v1(quota: str | None, period: str | None) -> float | None:
    """CPUs that cpu.cfs_quota_us of cpu.cfs_period_us grants; -1 and no file -> None."""
    if quota is None or period is None or int(quota) < 0:
        return None
    return int(quota) / int(period)


def _own_cgroups(root: Root) -> dict[str, str]:
    """Path by controller of /proc/self/cgroup; the unified hierarchy is ""."""
    paths: dict[str, str] = {}
    for line in (root.read_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
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
