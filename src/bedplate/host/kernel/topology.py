"""CPUs, cores and packages from /sys/devices/system/cpu, with their caches, clocks and idle states.

Sources: Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/admin-guide/cputopology.rst. Kernels before 5.3
have thread_siblings_list where newer ones have core_cpus_list; the oldest have only the masks. What SMT siblings share is
read once: a server of 200 CPUs has 9000 such files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.host.kernel.attributes import parse_int, read_cpu_list
from bedplate.host.kernel.caches import read_caches
from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.kernel.frequency import read_governors, read_idle_states, read_kinds, read_policies
from bedplate.host.kernel.numa import list_nodes, read_node_cpus
from bedplate.host.root.root import Root
from bedplate.model.facts.cpu import CoreKind, CpuTopology, LogicalCpu
from bedplate.model.facts.reading import Reading, missing

CPUS = "/sys/devices/system/cpu"
_CPU = re.compile(r"cpu(\d{1,5})", re.ASCII)
_PROCESSOR = re.compile(r"^processor\s{0,8}: (\d{1,5})$", re.ASCII | re.MULTILINE)
_CPUINFO_MOST = 4 << 20  # bytes; of a recording, where no kernel has to write it
_SMT_MOST = 8  # threads of a core; POWER has 8
_SIBLINGS_MOST = 256  # more are no threads of one core, whatever a recording says


@dataclass(frozen=True, slots=True, kw_only=True)
class _CpuPosition:
    package: int | None
    core: int | None
    die: int | None
    siblings: tuple[int, ...]


def read_cpu_topology(root: Root) -> CpuTopology:
    """Present CPUs with their places, and each cache once; `cpus == ()` where a recording has no /sys/devices/system/cpu.

    An attribute that is absent or malformed is None in the CPU that lacks it; the other facts stand.
    """
    present = _read_present(root)
    online = _read_online(root, present)
    places = _read_places(root, online)
    nodes = _nodes_of_cpus(root)
    policies = read_policies(root, online)
    kinds = read_kinds(root, online, policies)
    max_khz = {cpu: policy.max_khz for policy in policies for cpu in policy.cpus}
    info = read_cpuinfo(root)
    nowhere = _CpuPosition(package=None, core=None, die=None, siblings=())
    return CpuTopology(
        model_name=info.model_name,
        architecture=info.architecture,
        cpus=tuple(
            LogicalCpu(
                cpu=cpu,
                online=cpu in places,
                package=places.get(cpu, nowhere).package,
                core=places.get(cpu, nowhere).core,
                die=places.get(cpu, nowhere).die,
                node=nodes.get(cpu),
                siblings=places.get(cpu, nowhere).siblings,
                kind=kinds.get(cpu, CoreKind.UNIFORM),
                max_khz=max_khz.get(cpu),
            )
            for cpu in present
        ),
        caches=read_caches(root, online, {cpu: place.siblings for cpu, place in places.items()}),
        flags=info.flags,
        smt=root.read(f"{CPUS}/smt/control"),
        driver=_of_first(root, [policy.where for policy in policies], "scaling_driver"),
        governors=read_governors(root, policies),
        energy_preference=_of_first(root, [policy.where for policy in policies], "energy_performance_preference"),
        idle_states=read_idle_states(root, online[0] if online else 0),
        isolated=read_cpu_list(root, f"{CPUS}/isolated") or (),
        nohz_full=read_cpu_list(root, f"{CPUS}/nohz_full") or (),
    )


def _read_present(root: Root) -> tuple[int, ...]:
    """Present CPUs: those that have a directory, so that a list with absurd numbers costs nothing.

    A recording without the directories may still hold the list of those that are online, and all of them in /proc/cpuinfo.
    """
    numbers = {int(match[1]) for name in root.listdir(CPUS) if (match := _CPU.fullmatch(name))}
    if not numbers and not root.is_live:
        online = read_cpu_list(root, f"{CPUS}/online") or ()
        described = _PROCESSOR.findall(root.read("/proc/cpuinfo", limit=_CPUINFO_MOST).value or "")
        return online if online and tuple(map(int, described)) == online else ()
    told = read_cpu_list(root, f"{CPUS}/present")
    return tuple(sorted(numbers & set(told) if told is not None else numbers))


def _read_online(root: Root, present: Sequence[int]) -> tuple[int, ...]:
    told = read_cpu_list(root, f"{CPUS}/online")
    if told is not None:
        return tuple(sorted(set(present) & set(told)))
    return tuple(cpu for cpu in present if root.read(f"{CPUS}/cpu{cpu}/online").value in (None, "1"))


def _read_places(root: Root, online: Sequence[int]) -> dict[int, _CpuPosition]:
    places: dict[int, _CpuPosition] = {}
    here = set(online)
    for cpu in online:
        if cpu in places:
            continue
        where = f"{CPUS}/cpu{cpu}/topology"
        lists = (f"{where}/core_cpus_list", f"{where}/thread_siblings_list")
        siblings = read_cpu_list(root, *lists, mask=f"{where}/thread_siblings") or ()
        if len(siblings) > _SIBLINGS_MOST or _are_cores(root, siblings):
            siblings = (cpu,)
        place = _CpuPosition(
            package=_at_least_zero(root, f"{where}/physical_package_id"),
            core=_at_least_zero(root, f"{where}/core_id"),
            die=_at_least_zero(root, f"{where}/die_id"),
            siblings=tuple(sibling for sibling in siblings if sibling in here) if cpu in siblings else (cpu,),
        )
        places[cpu] = place
        if len(place.siblings) <= _SMT_MOST:
            places.update((sibling, place) for sibling in place.siblings if sibling not in places)
    return places


def _are_cores(root: Root, siblings: Sequence[int]) -> bool:
    """Whether "siblings" are cores of their own: the compute units of AMD's Bulldozer share only a cache."""
    if not 1 < len(siblings) <= _SMT_MOST:
        return False
    first, second = (root.read(f"{CPUS}/cpu{cpu}/topology/core_id").value for cpu in siblings[:2])
    return first is not None and second is not None and first != second


def _at_least_zero(root: Root, where: str) -> int | None:
    """A number; None too for -1, which says that the firmware does not tell."""
    value = parse_int(root.read(where).value or "")
    return value if value is not None and value >= 0 else None


def _nodes_of_cpus(root: Root) -> dict[int, int]:
    nodes: dict[int, int] = {}
    for number in list_nodes(root):
        for cpu in read_node_cpus(root, number):
            nodes[cpu] = number
    return nodes


def _of_first(root: Root, directories: Sequence[str], name: str) -> Reading[str]:
    """An attribute of the first clock policy; absent without cpufreq."""
    if not directories:
        return missing(root.absent, f"{CPUS}/cpufreq")
    return root.read(f"{directories[0]}/{name}")
