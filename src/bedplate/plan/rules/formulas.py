"""Formulas that rows of the catalog name: what a value should be on this machine.

A formula answers with the value as text, or None when a fact that it needs is not known. Sources: the rows that name them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from bedplate.model.facts.host import HostFacts
from bedplate.model.units import GIB, KIB, MIB
from bedplate.model.wording import render_cpus
from bedplate.plan.engine_arguments import count_argument
from bedplate.plan.shares import most_neighbour_bytes, most_protected_bytes, wanted_bytes

Formula = Callable[[HostFacts], str | None]


def housekeeping_cores(facts: HostFacts) -> int | None:
    """Cores that neighbours get: at least 2, one a node, a tenth of all. None when the number of cores is not known."""
    if facts.cpu.cores == 0:
        return None
    return max(2, len([node for node in facts.numa.nodes if node.cpus]), math.ceil(0.10 * facts.cpu.cores))


def _housekeeping_cpus(facts: HostFacts) -> str | None:
    """Whole cores, one of each node first and then of the nodes with the fewest accelerators: "0-1,64-65"."""
    count = housekeeping_cores(facts)
    if count is None:
        return None
    node_of = {cpu.cpu: cpu.node for cpu in facts.cpu.cpus}
    nodes_of_devices = {device.address: device.numa_node.value for device in facts.pci}
    load = [nodes_of_devices.get(accelerator.address or "") for accelerator in facts.accelerators]
    cores = sorted({cpu.siblings for cpu in facts.cpu.cpus if cpu.online and cpu.siblings})
    by_node: dict[int | None, list[tuple[int, ...]]] = {}
    for core in cores:
        by_node.setdefault(node_of[core[0]], []).append(core)
    nodes = sorted(by_node, key=lambda node: (load.count(node), -1 if node is None else node))
    chosen = [by_node[node].pop(0) for node in nodes][:count]
    for node in nodes:
        chosen += by_node[node][: count - len(chosen)]
    return render_cpus(cpu for core in chosen for cpu in core)


def _online_cpus_less_one(facts: HostFacts) -> str | None:
    return str(len(facts.cpu.online) - 1) if len(facts.cpu.online) > 1 else None


def _need_cores(facts: HostFacts) -> str | None:
    """A + DP + N (+ 1 if DP > 1): API servers, data-parallel ranks, accelerators.

    An engine that runs as several processes is counted by the one that names its parallelism: ranks do not count twice.
    """
    if not facts.accelerators:
        return None
    ranks, servers = 1, 1
    for engine in facts.engines:
        ranks = max(ranks, count_argument((engine,), 1, "--data-parallel-size", "-dp", "--dp-size", "--dp"))
        servers = max(servers, count_argument((engine,), 1, "--api-server-count", "-asc"))
    return str(servers + ranks + len(facts.accelerators) + (ranks > 1))


def _provision_cores(facts: HostFacts) -> str | None:
    need = _need_cores(facts)
    return None if need is None else str(math.ceil(1.5 * int(need)))


def _omp_threads(facts: HostFacts) -> str | None:
    """Of one process: floor(cores of a node / (its accelerators + 2)), 1 to 8; without accelerators the cores of a node."""
    nodes = max(1, len([node for node in facts.numa.nodes if node.cpus]))
    cores = facts.cpu.cores // nodes
    if cores == 0:
        return None
    if not facts.accelerators:
        return str(cores)
    return str(min(8, max(1, cores // (math.ceil(len(facts.accelerators) / nodes) + 2))))


def _memory_low(facts: HostFacts) -> str | None:
    """What the engines should be sure of, for what their control groups, and their largest processes, hold now."""
    held: dict[str, int] = {}
    for engine in facts.engines:
        charged = engine.cgroup.memory_current_bytes.value
        if charged is None:
            return None
        held[engine.cgroup.path] = max(charged, engine.rss_bytes, held.get(engine.cgroup.path, 0))
    if not held or not facts.memory.total_bytes:
        return None
    return str(min(sum(map(wanted_bytes, held.values())), most_protected_bytes(facts.memory.total_bytes)))


def _neighbour_memory_high(facts: HostFacts) -> str | None:
    low = _memory_low(facts)
    return None if low is None else str(most_neighbour_bytes(facts.memory.total_bytes, int(low)))


def _share_of_ram(share: float) -> Formula:
    return lambda facts: str(int(share * facts.memory.total_bytes)) if facts.memory.total_bytes else None


def _min_free_kbytes_least(facts: HostFacts) -> str | None:
    """Nine tenths of the kernel's own 4 * sqrt(lowmem kB), at most 256 MiB: lowmem is a little less than MemTotal here."""
    if not facts.memory.total_bytes:
        return None
    return str(int(0.9 * min(4 * math.sqrt(facts.memory.total_bytes / KIB), 256 * MIB / KIB)))


def _shm_least(facts: HostFacts) -> str | None:
    return str(max(16 * GIB, 2 * GIB * len(facts.accelerators)))


def _dirty_bytes_most(facts: HostFacts) -> str | None:
    """Four times the most that one second of writing may count, 2 GiB."""
    return str(8 * GIB)


FORMULAS: dict[str, Formula] = {
    "dirty_bytes_most": _dirty_bytes_most,
    "housekeeping_cpus": _housekeeping_cpus,
    "memory_low": _memory_low,
    "memory_min_most": _share_of_ram(0.7),
    "min_free_kbytes_least": _min_free_kbytes_least,
    "need_cores": _need_cores,
    "neighbour_memory_high": _neighbour_memory_high,
    "omp_threads": _omp_threads,
    "online_cpus_less_one": _online_cpus_less_one,
    "provision_cores": _provision_cores,
    "shm_least": _shm_least,
    "swap_least": _share_of_ram(0.25),
}
