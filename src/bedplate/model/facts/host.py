"""A machine: all facts together. Made by host/facts.py, judged by plan/rules, shown by report."""

from __future__ import annotations

from dataclasses import dataclass, field

from bedplate.model.facts.cpu import CpuTopology, NumaTopology
from bedplate.model.facts.pci import Accelerator, BlockDevice, NetworkDevice, PciDevice
from bedplate.model.facts.reading import Reading
from bedplate.model.facts.stack import InstalledStack
from bedplate.model.facts.system import CgroupFacts, EngineProcess, KernelFacts, MemoryFacts, Mount, OsFacts, Pressure


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A reader that could not do its part: which, and why. The other facts stand."""

    source: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """A machine as it was read, live or from a recording: what audits judge and plans are made from."""

    origin: str
    """"live", or the name of the recording."""
    cpu: CpuTopology
    numa: NumaTopology
    memory: MemoryFacts
    kernel: KernelFacts
    os: OsFacts
    pci: tuple[PciDevice, ...]
    """By address."""
    accelerators: tuple[Accelerator, ...]
    network: tuple[NetworkDevice, ...]
    blocks: tuple[BlockDevice, ...]
    mounts: tuple[Mount, ...]
    cgroup: CgroupFacts
    """Of this process; of process 1's recording where it is a recording without one."""
    limits: tuple[tuple[str, int | None], ...]
    pressure: tuple[Pressure, ...]
    """() without PSI."""
    engines: tuple[EngineProcess, ...]
    knobs: tuple[Reading[str], ...]
    """Text of each kernel file that the catalog's rows name; `source` is the path."""
    problems: tuple[Problem, ...]
    stack: InstalledStack = field(default_factory=InstalledStack)
    """What is installed, from the kernel's modules to the engines' Python environments."""
