"""The cgroup of a process: the CPUs, time and memory that it really has. Version 2, version 1, and both at once.

A bound anywhere in the chain of parents counts; the narrowest wins. Sources: Documentation/admin-guide/cgroup-v2.rst
(cpuset.cpus.effective, cpu.max, cpu.stat, memory.max), cgroup-v1/cpusets.rst, cgroup-v1/memory.rst,
scheduler/sched-bwc.rst (cpu.cfs_quota_us), cgroups(7). In a container without a cgroup namespace /proc/PID/cgroup names a
path of the host, of which only the end is mounted: the mount's own root is cut off it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bedplate.errors import ReadError
from bedplate.host.kernel.attributes import parse_int, read_int
from bedplate.host.kernel.mounts import MountRow
from bedplate.host.root.root import Root
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import CgroupFacts

_UNIFIED = ""  # the hierarchy of version 2, as /proc/PID/cgroup writes it
_CONTROLLERS = ("cpuset", "cpu", "cpuacct", "memory", "blkio", "pids", "devices", "freezer")
_DEPTH = 64  # levels that are looked at; systemd and kubelet make some eight
_NO_LIMIT = 1 << 62  # bytes; version 1 writes PAGE_COUNTER_MAX, 9223372036854771712

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where a hierarchy is mounted, and which of its directories the mount shows."""

    point: str
    root: str


def find_hierarchies(root: Root, rows: Sequence[MountRow]) -> dict[str, Hierarchy]:
    """Hierarchy by controller of version 1; "" is that of version 2. Without a table of mounts, by their usual places."""
    found: dict[str, Hierarchy] = {}
    for row in rows:
        if row.mount.kind == "cgroup2":
            found.setdefault(_UNIFIED, Hierarchy(point=row.mount.point, root=row.root))
        elif row.mount.kind == "cgroup":
            for option in row.mount.options:
                if option in _CONTROLLERS:
                    found.setdefault(option, Hierarchy(point=row.mount.point, root=row.root))
    if found:
        return found
    if root.exists("/sys/fs/cgroup/cgroup.controllers"):
        return {_UNIFIED: Hierarchy(point="/sys/fs/cgroup", root="/")}
    for name in root.listdir("/sys/fs/cgroup"):
        for controller in name.split(","):
            if controller in _CONTROLLERS:
                found.setdefault(controller, Hierarchy(point=f"/sys/fs/cgroup/{name}", root="/"))
    return found


def read_cgroup(root: Root, hierarchies: dict[str, Hierarchy], pid: str = "self") -> CgroupFacts:
    """The cgroup of one process; version 0 and all unknown where no hierarchy is mounted."""
    reading = root.read(f"/proc/{pid}/cgroup")
    return read_group(root, hierarchies, parse_cgroup(reading.value or ""), why=reading.unknown or Unknown.ABSENT)


def read_group(
    root: Root, hierarchies: dict[str, Hierarchy], paths: Mapping[str, str], *, why: Unknown = Unknown.ABSENT
) -> CgroupFacts:
    """The cgroup at a path of each controller; one that does not exist yet has what its nearest parent has.

    why: the reason of all that is unknown where no hierarchy is mounted; then the version is 0.
    """
    chains = {name: tuple(_chain(root, hierarchy, paths.get(name, "/"))) for name, hierarchy in hierarchies.items()}
    unified = chains.get(_UNIFIED, ())
    is_v1 = any(name in chains for name in ("cpu", "cpuset", "memory"))
    if not is_v1 and not unified:
        return _nothing(why)
    cpu = _read_cpu_v1(root, chains["cpu"]) if "cpu" in chains else _read_cpu_v2(root, unified)
    memory = _read_memory_v1(root, chains["memory"]) if "memory" in chains else _read_memory_v2(root, unified)
    cpuset = chains.get("cpuset", unified)
    names = ("cpuset.effective_{}", "cpuset.{}") if "cpuset" in chains else ("cpuset.{}.effective", "cpuset.{}")
    main = ("memory", "cpu", "cpuset") if is_v1 else (_UNIFIED,)
    return CgroupFacts(
        version=1 if is_v1 else 2,
        path=next((paths[name] for name in main if paths.get(name, "/") != "/"), "/"),
        cpus=_read_set(root, cpuset, [name.format("cpus") for name in names]),
        mems=_read_set(root, cpuset, [name.format("mems") for name in names]),
        quota_cpus=cpu.quota,
        throttled_periods=cpu.throttled_periods,
        periods=cpu.periods,
        throttled_s=cpu.throttled_s,
        memory_max_bytes=memory.maximum,
        memory_current_bytes=memory.current,
        swap_max_bytes=memory.swap,
        cpu_weight=cpu.weight,
    )


def parse_cgroup(text: str) -> dict[str, str]:
    """Path by controller: "5:cpu,cpuacct:/docker/ab" -> {"cpu": "/docker/ab", "cpuacct": ...}; "0::/x" -> {"": "/x"}."""
    paths: dict[str, str] = {}
    for line in text.splitlines()[:64]:
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                paths[controller] = parts[2]
    return paths


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cpu:
    quota: Reading[float]
    periods: Reading[int]
    throttled_periods: Reading[int]
    throttled_s: Reading[float]
    weight: Reading[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    maximum: Reading[int]
    current: Reading[int]
    swap: Reading[int]


def _chain(root: Root, hierarchy: Hierarchy, path: str) -> Iterator[str]:
    """Directories of a cgroup and its parents that are mounted, nearest first; ".." is outside of the namespace.

    The mount itself always: where a recording names it and holds nothing of it, what is read there says so.
    """
    if hierarchy.root != "/":
        inside = path == hierarchy.root or path.startswith(hierarchy.root + "/")
        path = path[len(hierarchy.root) :] if inside else "/"
    parts = [part for part in path.split("/") if part]
    parts = [] if ".." in parts else parts[:_DEPTH]
    for length in range(len(parts), -1, -1):
        where = "/".join([hierarchy.point, *parts[:length]])
        if length == 0 or root.exists(where):
            yield where


def _read_set(root: Root, chain: Sequence[str], names: Sequence[str]) -> Reading[tuple[int, ...]]:
    """The nearest list that is not empty: a cgroup without the cpuset controller has what its parent has."""
    why: Reading[tuple[int, ...]] = missing(Unknown.ABSENT, f"{chain[0]}/{names[0]}" if chain else names[0])
    for where in chain:
        for name in names:
            reading = root.read(f"{where}/{name}")
            if reading.value:
                try:
                    return known(root.cpu_sets.parse_list(reading.value), reading.source, reading.text)
                except ReadError:
                    return missing(Unknown.MALFORMED, reading.source, reading.text)
            if reading.unknown not in (None, Unknown.ABSENT):
                why = missing(reading.unknown or Unknown.ABSENT, reading.source, reading.text)
    return why


def _read_cpu_v2(root: Root, chain: Sequence[str]) -> _Cpu:
    def quota(where: str) -> Reading[float]:
        reading = root.read(f"{where}/cpu.max")
        words = (reading.value or "").split()
        if words[:1] == ["max"]:
            return missing(Unknown.ABSENT, reading.source, reading.text)
        return _quota(reading, words[0] if words else None, words[1] if len(words) > 1 else "100000")

    return _with_throttling(root, chain, _narrowest(chain, quota), "cpu.weight", "throttled_usec", 1e-6)


def _read_cpu_v1(root: Root, chain: Sequence[str]) -> _Cpu:
    def quota(where: str) -> Reading[float]:
        reading = root.read(f"{where}/cpu.cfs_quota_us")
        if reading.value is not None and reading.value.startswith("-"):
            return missing(Unknown.ABSENT, reading.source, reading.text)
        return _quota(reading, reading.value, root.read(f"{where}/cpu.cfs_period_us").value)

    return _with_throttling(root, chain, _narrowest(chain, quota), "cpu.shares", "throttled_time", 1e-9)


def _quota(reading: Reading[str], quota: str | None, period: str | None) -> Reading[float]:
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, reading.source, reading.text)
    quota_us, period_us = parse_int(quota or ""), parse_int(period or "")
    if quota_us is None or period_us is None or quota_us < 0 or period_us <= 0:
        return missing(Unknown.MALFORMED, reading.source, reading.text)
    return known(quota_us / period_us, reading.source, reading.text)


def _with_throttling(root: Root, chain: Sequence[str], quota: Reading[float], weight: str, key: str, scale: float) -> _Cpu:
    """Counters of the cgroup in the chain that was throttled longest: a parent's quota stops its children too."""
    worst: dict[str, int] | None = None
    source = f"{chain[0]}/cpu.stat" if chain else "cpu.stat"
    why = Unknown.ABSENT
    for where in chain:
        reading = root.read(f"{where}/cpu.stat")
        counters = parse_counters(reading.value or "")
        if reading.value is None and reading.unknown is not Unknown.ABSENT:
            why = reading.unknown or why
        if "nr_periods" in counters and (worst is None or counters.get(key, 0) > worst.get(key, 0)):
            worst, source = counters, reading.source
    shares = read_int(root, f"{chain[0]}/{weight}") if chain else missing(Unknown.ABSENT, weight)
    if weight == "cpu.shares" and shares.value is not None:
        # As systemd converts: what is neutral in version 1, 1024 shares, is the neutral weight of 100.
        shares = known(min(max(shares.value * 100 // 1024, 1), 10_000), shares.source, f"{shares.value} shares")
    if worst is None:
        return _Cpu(
            quota=quota,
            periods=missing(why, source),
            throttled_periods=missing(why, source),
            throttled_s=missing(why, source),
            weight=shares,
        )
    return _Cpu(
        quota=quota,
        periods=known(worst["nr_periods"], source),
        throttled_periods=known(worst.get("nr_throttled", 0), source),
        throttled_s=known(round(worst.get(key, 0) * scale, 6), source),
        weight=shares,
    )


def _read_memory_v2(root: Root, chain: Sequence[str]) -> _Memory:
    return _Memory(
        maximum=_narrowest(chain, lambda where: _read_bytes(root, f"{where}/memory.max")),
        current=_read_bytes(root, f"{chain[0]}/memory.current") if chain else missing(Unknown.ABSENT, "memory.current"),
        swap=_narrowest(chain, lambda where: _read_bytes(root, f"{where}/memory.swap.max")),
    )


def _read_memory_v1(root: Root, chain: Sequence[str]) -> _Memory:
    def swap(where: str) -> Reading[int]:
        """What memory and swap together may take, less what memory may take alone."""
        both = _read_bytes(root, f"{where}/memory.memsw.limit_in_bytes")
        memory = _read_bytes(root, f"{where}/memory.limit_in_bytes")
        if both.value is None or memory.value is None:
            return both
        return known(max(both.value - memory.value, 0), both.source, both.text)

    return _Memory(
        maximum=_narrowest(chain, lambda where: _read_bytes(root, f"{where}/memory.limit_in_bytes")),
        current=_read_bytes(root, f"{chain[0]}/memory.usage_in_bytes") if chain else missing(Unknown.ABSENT, "memory"),
        swap=_narrowest(chain, swap),
    )


def _read_bytes(root: Root, where: str) -> Reading[int]:
    """A limit in bytes; ABSENT where it is "max", or the largest number that version 1 can write."""
    reading = root.read(where)
    if reading.value is None:
        return missing(reading.unknown or Unknown.ABSENT, where, reading.text)
    if reading.value == "max":
        return missing(Unknown.ABSENT, where, "max")
    value = parse_int(reading.value)
    if value is None or value < 0:
        return missing(Unknown.MALFORMED, where, reading.text)
    return missing(Unknown.ABSENT, where, reading.text) if value >= _NO_LIMIT else known(value, where)


def _narrowest(chain: Sequence[str], read: Callable[[str], Reading[N]]) -> Reading[N]:
    """The smallest bound of a chain. A level that could not be read makes "no bound" unknown, never a bound untrue."""
    readings = [read(where) for where in chain]
    bounds = [reading for reading in readings if reading.value is not None]
    if bounds:
        return min(bounds, key=lambda reading: reading.value or 0)
    doubts = [reading for reading in readings if reading.unknown is not Unknown.ABSENT]
    return (doubts or readings or [missing(Unknown.ABSENT, "no cgroup")])[0]


def parse_counters(text: str) -> dict[str, int]:
    """Lines of a name and a number, as cpu.stat and memory.stat have them."""
    counters: dict[str, int] = {}
    for line in text.splitlines()[:256]:
        name, _, number = line.partition(" ")
        value = parse_int(number)
        if value is not None:
            counters[name] = value
    return counters


def _nothing(why: Unknown) -> CgroupFacts:
    where = "/proc/self/cgroup"
    return CgroupFacts(
        version=0,
        path="",
        cpus=missing(why, where),
        mems=missing(why, where),
        quota_cpus=missing(why, where),
        throttled_periods=missing(why, where),
        periods=missing(why, where),
        throttled_s=missing(why, where),
        memory_max_bytes=missing(why, where),
        memory_current_bytes=missing(why, where),
        swap_max_bytes=missing(why, where),
        cpu_weight=missing(why, where),
    )
