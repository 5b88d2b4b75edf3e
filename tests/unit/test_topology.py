"""CPUs, caches and NUMA nodes from small trees; whole machines are in tests/recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tree import Link, make_root

from bedplate.host.kernel.cpuinfo import parse_cpuinfo
from bedplate.host.kernel.numa import read_numa
from bedplate.host.kernel.topology import read_cpu_topology
from bedplate.host.root.root import Root
from bedplate.model.facts.cpu import Cache, CoreKind, HugePages
from bedplate.model.facts.reading import Unknown

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"


def cpu_files(cpu: int, siblings: str, *, core: int, package: int = 0, newer: bool = True) -> dict[str, str | bytes | Link]:
    name = "core_cpus_list" if newer else "thread_siblings_list"
    where = f"{CPU}/cpu{cpu}/topology"
    return {
        f"{where}/{name}": siblings,
        f"{where}/core_id": str(core),
        f"{where}/physical_package_id": str(package),
    }


def test_two_cores_of_two_threads_and_an_offline_cpu(tmp_path: Path) -> None:
    files: dict[str, str | bytes | Link] = {f"{CPU}/online": "0-3", f"{CPU}/present": "0-4", f"{CPU}/cpu4/online": "0"}
    for cpu in range(4):
        files |= cpu_files(cpu, f"{cpu % 2},{cpu % 2 + 2}", core=cpu % 2, newer=cpu < 2)
        for index, (level, kind, size, mask) in enumerate(
            [("1", "Data", "48K", "5" if cpu % 2 == 0 else "a"), ("3", "Unified", "32M", "f")]
        ):
            where = f"{CPU}/cpu{cpu}/cache/index{index}"
            files |= {f"{where}/level": level, f"{where}/type": kind, f"{where}/size": size, f"{where}/shared_cpu_map": mask}
    topology = read_cpu_topology(make_root(tmp_path, files))
    assert topology.online == (0, 1, 2, 3)
    assert topology.cores == 2
    assert [cpu.siblings for cpu in topology.cpus] == [(0, 2), (1, 3), (0, 2), (1, 3), ()]
    assert (topology.cpus[4].online, topology.cpus[4].package) == (False, None)
    assert topology.caches == (
        Cache(level=1, kind="Data", size_bytes=48 << 10, cpus=(0, 2)),
        Cache(level=1, kind="Data", size_bytes=48 << 10, cpus=(1, 3)),
        Cache(level=3, kind="Unified", size_bytes=32 << 20, cpus=(0, 1, 2, 3)),
    )
    assert topology.driver.unknown is Unknown.ABSENT


def test_the_oldest_kernels_have_masks_only(tmp_path: Path) -> None:
    files: dict[str, str | bytes | Link] = {
        f"{CPU}/cpu0/topology/thread_siblings": "00000000,00000003",
        f"{CPU}/cpu0/topology/core_id": "0",
        f"{CPU}/cpu1/topology/core_id": "0",
        f"{CPU}/cpu1/online": "1",
        f"{CPU}/cpu2/online": "0",
    }
    topology = read_cpu_topology(make_root(tmp_path, files))
    assert [(cpu.cpu, cpu.online, cpu.siblings) for cpu in topology.cpus] == [
        (0, True, (0, 1)),
        (1, True, (0, 1)),
        (2, False, ()),
    ]


def test_compute_units_of_bulldozer_are_cores(tmp_path: Path) -> None:
    files = cpu_files(0, "0-1", core=0, newer=False) | cpu_files(1, "0-1", core=1, newer=False)
    assert read_cpu_topology(make_root(tmp_path, files | {f"{CPU}/online": "0-1"})).cores == 2


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ({"/sys/devices/cpu_core/cpus": "0-1", "/sys/devices/cpu_atom/cpus": "2"}, "PPE"),
        ({"/sys/devices/cpu_core/cpus": "0-2"}, "UUU"),
        ({f"{CPU}/cpu{cpu}/cpu_capacity": text for cpu, text in enumerate(("1024", "1017", "718"))}, "PPE"),
        ({f"{CPU}/cpu{cpu}/cpu_capacity": text for cpu, text in enumerate(("1024", "1017", "997"))}, "UUU"),
    ],
)
def test_kinds_of_cores(tmp_path: Path, files: dict[str, str | bytes | Link], kinds: str) -> None:
    for cpu in range(3):
        files = files | cpu_files(cpu, str(cpu), core=cpu)
    topology = read_cpu_topology(make_root(tmp_path, files | {f"{CPU}/online": "0-2"}))
    letters = {CoreKind.PERFORMANCE: "P", CoreKind.EFFICIENT: "E", CoreKind.UNIFORM: "U"}
    assert "".join(letters[cpu.kind] for cpu in topology.cpus) == kinds


def test_favoured_cores_and_speed_select_make_no_hybrid(tmp_path: Path) -> None:
    """Turbo Boost Max differs by a few percent; Speed Select gives equal cores different base frequencies."""
    files: dict[str, str | bytes | Link] = {f"{CPU}/online": "0-1"}
    for cpu, (most, base) in enumerate([("3800000", "2700000"), ("3900000", "2100000")]):
        files |= cpu_files(cpu, str(cpu), core=cpu)
        where = f"{CPU}/cpufreq/policy{cpu}"
        files |= {f"{where}/affected_cpus": str(cpu), f"{where}/cpuinfo_max_freq": most, f"{where}/base_frequency": base}
        files[f"{where}/scaling_governor"] = "powersave"
    topology = read_cpu_topology(make_root(tmp_path, files))
    assert {cpu.kind for cpu in topology.cpus} == {CoreKind.UNIFORM}
    assert [cpu.max_khz for cpu in topology.cpus] == [3_800_000, 3_900_000]
    assert topology.governors == (("powersave", 2),)


def test_absurd_and_malformed_files_cost_nothing(tmp_path: Path) -> None:
    files: dict[str, str | bytes | Link] = {
        f"{CPU}/online": "0-4000000000",
        f"{CPU}/present": "nonsense",
        f"{CPU}/cpu0/topology/core_cpus_list": "0-4000000000",
        f"{CPU}/cpu0/topology/physical_package_id": "-1",
        f"{CPU}/cpu0/topology/core_id": "9" * 4000,
        f"{CPU}/cpu0/cache/index0/level": b"\0\0\0",
        f"{CPU}/cpu0/cache/index1/level": "2",
        f"{CPU}/cpu0/cache/index1/type": "Unified",
        f"{CPU}/cpu0/cache/index1/size": "99999999999999999999K",
        f"{CPU}/cpu0/cpuidle": Link("cpuidle"),
    }
    topology = read_cpu_topology(make_root(tmp_path, files))
    (cpu,) = topology.cpus
    assert (cpu.package, cpu.core, cpu.siblings) == (None, None, (0,))
    assert topology.caches == (Cache(level=2, kind="Unified", size_bytes=0, cpus=(0,)),)
    assert topology.idle_states == ()


def test_an_empty_machine_has_no_cpus_and_no_nodes(tmp_path: Path) -> None:
    root = Root(tmp_path, absent=Unknown.NOT_RECORDED)
    topology = read_cpu_topology(root)
    assert (topology.cpus, topology.caches, topology.model_name.unknown) == ((), (), Unknown.NOT_RECORDED)
    assert read_numa(root).nodes == ()


def test_nodes_with_memory_only_and_huge_pages(tmp_path: Path) -> None:
    files: dict[str, str | bytes | Link] = {
        f"{NODE}/online": "0-1",
        f"{CPU}/online": "0-1",
        f"{NODE}/node0/cpulist": "0-3",  # a kernel that lists offline CPUs too
        f"{NODE}/node0/meminfo": "Node 0 MemTotal:       1024 kB\nNode 0 MemFree:         512 kB",
        f"{NODE}/node0/distance": "10 14",
        f"{NODE}/node0/hugepages/hugepages-2048kB/nr_hugepages": "8",
        f"{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages": "3",
        f"{NODE}/node1/cpulist": "",
        f"{NODE}/node1/meminfo": "Node 1 MemTotal:       4096 kB\nNode 1 MemFree:        4096 kB",
        f"{NODE}/node2/cpulist": "2",  # offline
    }
    numa = read_numa(make_root(tmp_path, files))
    assert [(node.node, node.cpus, node.mem_bytes, node.free_bytes) for node in numa.nodes] == [
        (0, (0, 1), 1 << 20, 512 << 10),
        (1, (), 4 << 20, 4 << 20),
    ]
    assert numa.nodes[0].distances == (10, 14)
    assert numa.nodes[0].huge_pages == (HugePages(size_bytes=2 << 20, total=8, free=3),)


@pytest.mark.parametrize(
    ("text", "name", "architecture"),
    [
        (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu lm\n\nprocessor\t: 1\n",
            "AMD EPYC 9654",
            "x86_64",
        ),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd4f\n", "Neoverse-V2", "aarch64"),
        (
            "processor\t: 0\nCPU implementer\t: 0x99\nCPU architecture: 8\nCPU part\t: 0x001\n",
            "implementer 0x99 part 0x001",
            "aarch64",
        ),
        ("", None, ""),
    ],
)
def test_cpuinfo(text: str, name: str | None, architecture: str) -> None:
    info = parse_cpuinfo(text)
    assert (info.model_name.value, info.architecture) == (name, architecture)
