"""CPUs, caches and NUMA nodes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.facts.number_lists import CpuList
from bedplate.model.facts.reading import Reading


class CoreKind(StrEnum):
    """What a core is beside the others of a hybrid machine; UNIFORM where all are alike, or nothing tells.

    Sources: the PMUs of Intel's hybrid parts (cpu_core, cpu_atom), cpu_capacity of Arm's, else frequencies far apart.
    """

    UNIFORM = "uniform"
    PERFORMANCE = "performance"
    EFFICIENT = "efficient"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalCpu:
    """One CPU as the scheduler counts them (a hardware thread), from /sys/devices/system/cpu/cpuN."""

    cpu: int
    online: bool
    package: int | None
    """physical_package_id; None when offline or not said."""
    core: int | None
    """core_id: unique within its package only."""
    die: int | None
    node: int | None
    """NUMA node that lists it; None without NUMA support."""
    siblings: CpuList
    """SMT siblings, itself among them, sorted; () when offline."""
    kind: CoreKind
    max_khz: int | None
    """cpuinfo_max_freq, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One instance of a CPU cache: level 1 is nearest to the core; `size_bytes` is 0 where the kernel does not say.

    Source: /sys/devices/system/cpu/cpuN/cache (Documentation/ABI/testing/sysfs-devices-system-cpu).
    """

    level: int
    kind: str
    """Data, Instruction, Unified: the kernel's own words."""
    size_bytes: int
    cpus: CpuList
    """CPUs that share it, sorted. Each cache instance stands once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTopology:
    """The processors of a machine: CPUs, the caches that they share, clocks, idle states, CPUs kept free of other work."""

    model_name: Reading[str]
    architecture: str
    """x86_64, aarch64, as uname says; "" when not known."""
    cpus: tuple[LogicalCpu, ...]
    """Present CPUs, by number; offline ones too."""
    caches: tuple[Cache, ...]
    flags: tuple[str, ...]
    smt: Reading[str]
    """/sys/devices/system/cpu/smt/control: on, off, forceoff, notsupported."""
    driver: Reading[str]
    """cpufreq scaling_driver of the first online CPU."""
    governors: tuple[tuple[str, int], ...]
    """(governor, number of CPUs with it), most first; () without cpufreq."""
    energy_preference: Reading[str]
    idle_states: tuple[tuple[str, int, bool], ...]
    """(name, exit latency in microseconds, disabled) of CPU 0, in order; () without cpuidle."""
    isolated: CpuList
    """Of /sys/devices/system/cpu/isolated: kept out of load balancing by isolcpus= or a cpuset."""
    nohz_full: CpuList
    """Of /sys/devices/system/cpu/nohz_full: without a scheduler tick while a single task runs."""

    @property
    def online(self) -> tuple[int, ...]:
        """Numbers of the CPUs that are online."""
        return tuple(cpu.cpu for cpu in self.cpus if cpu.online)

    @property
    def cores(self) -> int:
        """Physical cores that have at least one online CPU."""
        return len({cpu.siblings for cpu in self.cpus if cpu.online})


@dataclass(frozen=True, slots=True, kw_only=True)
class HugePages:
    """One pool of preallocated huge pages on a NUMA node; `total` and `free` count pages of `size_bytes`."""

    size_bytes: int
    total: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """One online node, its memory and its distances, from /sys/devices/system/node/nodeN."""

    node: int
    cpus: CpuList
    """() for a memory-only node (CXL, HBM)."""
    mem_bytes: int | None
    """MemTotal of the node; None where a recording does not say (an NCCL topology)."""
    free_bytes: int | None
    """MemFree; None as above."""
    distances: tuple[int, ...]
    """SLIT row in the order of the node numbers; 10 is local."""
    huge_pages: tuple[HugePages, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaTopology:
    """All NUMA nodes, and the directory or recording that said so."""

    nodes: tuple[NumaNode, ...]
    """Online nodes by number; () when the kernel has no NUMA support."""
    source: str
