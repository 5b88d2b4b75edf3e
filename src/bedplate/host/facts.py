"""All facts of a machine in one value. A reader that cannot do its part becomes a Problem; the other facts stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from bedplate.errors import ReadError
from bedplate.host.accel import read_accelerators
from bedplate.host.kernel.block import read_blocks
from bedplate.host.kernel.cgroup import find_hierarchies, read_cgroup
from bedplate.host.kernel.engines import read_engines
from bedplate.host.kernel.kernel import CONFIG_OPTIONS, read_kernel
from bedplate.host.kernel.kernel_log import read_kernel_log
from bedplate.host.kernel.knobfiles import read_knob_files
from bedplate.host.kernel.limits import read_limits, read_pressure
from bedplate.host.kernel.memory_facts import read_memory_facts
from bedplate.host.kernel.mounts import read_mount_rows, read_mounts
from bedplate.host.kernel.network import read_network
from bedplate.host.kernel.numa import read_numa
from bedplate.host.kernel.pci import read_pci
from bedplate.host.kernel.processes import read_processes
from bedplate.host.kernel.topology import read_cpu_topology
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth, read_installed
from bedplate.host.system.osinfo import read_os
from bedplate.model.facts.cpu import CpuTopology, NumaTopology
from bedplate.model.facts.host import HostFacts, Problem
from bedplate.model.facts.pci import PciDevice
from bedplate.model.facts.reading import Unknown, missing
from bedplate.model.facts.stack import InstalledStack
from bedplate.model.facts.system import MemoryFacts
from bedplate.model.kernel_log_row import KernelLogRow

T = TypeVar("T")


def read_host(
    root: Root,
    knob_paths: Iterable[str] = (),
    *,
    origin: str,
    config_options: Collection[str] = (),
    kernel_rows: Sequence[KernelLogRow] = (),
    stack: StackDepth = StackDepth.NONE,
    environments: Iterable[str] = (),
) -> HostFacts:
    """Every fact of a machine, live or recorded. Never raises for what the machine or its recording says.

    knob_paths are the files and globs of the catalog's rows, config_options the kernel options that rows ask for besides
    those that findings need; origin is "live" or the name of the recording. kernel_rows say which messages of the kernel's
    log are kept; without them the log is not read. `stack` says how much of the installed stack is read, `environments`
    names Python environments that are read with it.
    """
    problems: list[Problem] = []

    def attempt(source: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ReadError as error:
            problems.append(Problem(source=source, message=error.message))
            return otherwise

    cpu = attempt("cpu", lambda: read_cpu_topology(root), _no_cpus())
    numa = attempt("numa", lambda: read_numa(root), NumaTopology(nodes=(), source="/sys/devices/system/node"))
    processes = read_processes(root)
    mount_rows = read_mount_rows(root)
    mounts = read_mounts(mount_rows)
    hierarchies = find_hierarchies(root, mount_rows)
    no_devices: tuple[PciDevice, ...] = ()
    pci = attempt("pci", lambda: read_pci(root), no_devices)
    nodes = tuple(node.node for node in numa.nodes)
    kernel = read_kernel(root, config_options={*CONFIG_OPTIONS, *config_options})
    no_stack = InstalledStack()
    installed = attempt("stack", lambda: read_installed(root, kernel, pci, stack, environments=environments), no_stack)
    return HostFacts(
        origin=origin,
        cpu=cpu,
        numa=numa,
        memory=attempt("memory", lambda: read_memory_facts(root, mounts), _no_memory()),
        kernel=kernel,
        os=read_os(root, processes, mounts, cpu.flags),
        pci=pci,
        accelerators=attempt("accelerators", lambda: read_accelerators(root, pci), ()),
        network=attempt("network", lambda: read_network(root), ()),
        blocks=attempt("blocks", lambda: read_blocks(root), ()),
        mounts=mounts,
        cgroup=read_cgroup(root, hierarchies),
        limits=read_limits(root),
        pressure=read_pressure(root),
        engines=read_engines(root, processes, hierarchies, nodes),
        knobs=read_knob_files(root, knob_paths),
        stack=installed,
        problems=tuple(problems),
        kernel_log=read_kernel_log(root, kernel_rows),
    )


def _no_cpus() -> CpuTopology:
    where = "/sys/devices/system/cpu"
    return CpuTopology(
        model_name=missing(Unknown.MALFORMED, "/proc/cpuinfo"),
        architecture="",
        cpus=(),
        caches=(),
        flags=(),
        smt=missing(Unknown.MALFORMED, where),
        driver=missing(Unknown.MALFORMED, where),
        governors=(),
        energy_preference=missing(Unknown.MALFORMED, where),
        idle_states=(),
        isolated=(),
        nohz_full=(),
    )


def _no_memory() -> MemoryFacts:
    """Without /proc/meminfo. total_bytes 0 stands beside the Problem that says why."""
    where = "/proc/meminfo"
    return MemoryFacts(
        total_bytes=0,
        available_bytes=0,
        swap_total_bytes=0,
        swap_free_bytes=0,
        thp=missing(Unknown.NOT_RECORDED, where),
        thp_defrag=missing(Unknown.NOT_RECORDED, where),
        zswap=missing(Unknown.NOT_RECORDED, where),
        zram=False,
        huge_pages=(),
        shm_bytes=missing(Unknown.NOT_RECORDED, where),
    )
