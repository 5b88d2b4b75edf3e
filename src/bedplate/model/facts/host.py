"""A machine: all facts together. Made by host/facts.py, judged by plan/rules, shown by report."""

from __future__ import annotations

from dataclasses import dataclass, field

from bedplate.model.facts.cpu import CpuTopology, NumaTopology
from bedplate.model.facts.kernel_log import NO_KERNEL_LOG, KernelLog
from bedplate.model.facts.pci import Accelerator, BlockDevice, NetworkDevice, PciDevice
from bedplate.model.facts.reading import NOT_ASKED, Reading
from bedplate.model.facts.stack import InstalledStack
from bedplate.model.facts.system import (
    NO_FRAMEWORKS,
    CgroupFacts,
    EngineNote,
    EngineProcess,
    Frameworks,
    KernelFacts,
    MemoryFacts,
    Mount,
    OsFacts,
    Pressure,
    ToolFailure,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A reader that could not do its part: which, and why. The other facts stand."""

    source: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSection:
    """A run of lines in a text that an operator gave: what it was read as, or that it was not understood."""

    file: str
    """Name of the file that it stands in."""
    first_line: int
    """From 1."""
    last_line: int
    format: str
    """Id of the format, "nvidia-smi-q"; "" where it was not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two parts of an input that say different things of one fact."""

    fact: str
    """What they are about: "0000:1b:00.0 persistence"."""
    values: tuple[tuple[str, str], ...]
    """(value, what said so), in the order of the input; the last one is the one that the facts hold."""


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
    kernel_log: KernelLog = NO_KERNEL_LOG
    """What the kernel reported of errors; without events where nobody asked for them."""
    texts: tuple[TextSection, ...] = ()
    """What was made of each part of a text that an operator gave; () for a machine and for a recording."""
    conflicts: tuple[Conflict, ...] = ()
    """Where parts of the input contradict each other."""
    failures: tuple[ToolFailure, ...] = ()
    """Errors that tools of vendors printed instead of an answer."""
    engine_notes: tuple[EngineNote, ...] = ()
    """What logs of engines say of how they run."""
    attached: Reading[int] = NOT_ASKED
    """Accelerators that the driver counts, where it says so beside its list of them."""
    nvidia_library: Reading[str] = NOT_ASKED
    """Version of NVIDIA's user-space library, where it was told without any accelerator."""
    frameworks: Frameworks = NO_FRAMEWORKS

    @property
    def holds_machine(self) -> bool:
        """Whether anything of a machine is in these facts: False for those of an input that tells nothing."""
        some = (
            *(self.cpu.cpus, self.cpu.architecture, self.numa.nodes, self.memory.total_bytes, self.pci, self.accelerators),
            *(self.network, self.blocks, self.engines, self.kernel.cmdline, self.kernel.modules, self.kernel.installed),
            *(self.pressure, self.failures, self.engine_notes, self.os.id, self.frameworks.source, self.os.runtimes),
            *(self.kernel_log.events, self.kernel_log.lines),
        )
        told = (
            *(self.kernel.release, self.kernel.nvidia_version, self.cgroup.periods, self.cgroup.memory_max_bytes),
            *(self.cgroup.quota_cpus, self.attached, self.nvidia_library, self.os.virtualisation, self.cpu.model_name),
        )
        return any(some) or any(reading.value is not None for reading in told)
