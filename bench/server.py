"""python -m bench.server DIRECTORY writes a server that nobody has: 2 sockets, 208 CPUs, 8 GPUs and 400 PCI devices.

The forms are those of Linux 6.8 on a Xeon Platinum 8470 (2 x 52 cores x 2 threads; CPUs 0-103 are the first threads) and
of a board with a switch between each root port and its GPU, NIC and disk; the numbers are made up. Its system, processes
and knobs are those of the recorded machine tests/machines/ubuntu-vllm, of which it takes every file that is not made here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.unit.pci_space import DOWNSTREAM, ENDPOINT, INTEGRATED, ROOT_PORT, UPSTREAM, make_config
from tests.unit.tree import Link, make_root

Entries = dict[str, str | bytes | Link]

_BASE = Path(__file__).parents[1] / "tests" / "machines" / "ubuntu-vllm"
_SYSTEM = "/sys/devices/system"
_CACHES = (
    (1, "Data", 48, 12),
    (1, "Instruction", 32, 8),
    (2, "Unified", 2048, 16),
    (3, "Unified", 107_520, 15),
)  # KiB, ways
_IDLE = (("POLL", 0), ("C1", 1), ("C1E", 2), ("C6", 290))  # intel_idle on this part: name, exit latency in us
_BUSES = (0x15, 0x37, 0x48, 0x59, 0x97, 0xB7, 0xC7, 0xD7)  # of the host bridge above each GPU
_UNCORE = ((0x7E, 0x7F), (0xFE, 0xFF))  # buses of each socket with the registers of its memory controllers and links
_X16, _X4 = 0x105, 0x45  # 32 GT/s, as the registers of a link have it
_SWITCH = (0x1000, 0xC030)  # Broadcom PEX890xx
_FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2 ss ht tm pbe"
    " syscall nx pdpe1gb rdtscp lm constant_tsc art arch_perfmon pebs bts rep_good nopl xtopology nonstop_tsc cpuid"
    " aperfmperf tsc_known_freq pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 sdbg fma cx16 xtpr pdcm pcid dca"
    " sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave avx f16c rdrand lahf_lm abm 3dnowprefetch"
    " avx512f avx512dq rdseed adx avx512cd avx512bw avx512vl avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How much of it there is; a test wants less than the bench."""

    cores_per_socket: int = 52
    gpus: int = 8
    pci_devices: int = 400

    @property
    def cpus(self) -> int:
        return 4 * self.cores_per_socket

    def cpus_of(self, socket: int) -> range:
        """The first threads of a socket's cores; the second threads have the numbers `cpus // 2` above."""
        return range(socket * self.cores_per_socket, (socket + 1) * self.cores_per_socket)

    def both_threads(self, first: Iterable[int]) -> tuple[int, ...]:
        cores = tuple(first)
        return (*cores, *(cpu + self.cpus // 2 for cpu in cores))

    def socket_of(self, gpu: int) -> int:
        return 2 * gpu // self.gpus


def make_server(server: Server) -> Entries:
    """Path -> content of every file and link, for tests.unit.tree.make_root."""
    return _base() | _cpus(server) | _nodes(server) | _pci(server) | {"/vendor/nvml.json": _nvml(server)}


def _base() -> Entries:
    found: Entries = {}
    for path in sorted(_BASE.rglob("*")):
        where = f"/{path.relative_to(_BASE)}"
        if path.is_symlink():
            found[where] = Link(path.readlink())
        elif path.is_file():
            found[where] = path.read_bytes()
    return found


def _cpus(server: Server) -> Entries:
    top, everything = f"{_SYSTEM}/cpu", f"0-{server.cpus - 1}"
    files: Entries = {
        "/proc/cpuinfo": "\n\n".join(_cpuinfo(server, cpu) for cpu in range(server.cpus)) + "\n",
        **{f"{top}/{name}": everything for name in ("online", "present", "possible")},
        **{f"{top}/{name}": "" for name in ("isolated", "offline", "nohz_full")},
        f"{top}/smt/control": "on",
        f"{top}/smt/active": "1",
    }
    for cpu in range(server.cpus):
        core = cpu % (server.cpus // 2)
        socket = core // server.cores_per_socket
        package = server.both_threads(server.cpus_of(socket))
        threads = server.both_threads([core])
        files |= _topology(f"{top}/cpu{cpu}/topology", socket, core % server.cores_per_socket, threads, package)
        for index, (level, kind, kib, ways) in enumerate(_CACHES):
            files |= _cache(f"{top}/cpu{cpu}/cache/index{index}", level, kind, kib, ways, package if level == 3 else threads)
        for number, (name, latency) in enumerate(_IDLE):
            where = f"{top}/cpu{cpu}/cpuidle/state{number}"
            files |= {
                f"{where}/name": name,
                f"{where}/latency": str(latency),
                f"{where}/disable": "0",
                f"{where}/usage": "1",
            }
        files |= _policy(f"{top}/cpufreq/policy{cpu}", cpu)
        files[f"{top}/cpu{cpu}/cpufreq"] = Link(f"../cpufreq/policy{cpu}")
        files[f"{top}/cpu{cpu}/node{socket}"] = Link(f"../../node/node{socket}")
    return files


def _cpuinfo(server: Server, cpu: int) -> str:
    core = cpu % (server.cpus // 2)
    rows = {
        "processor": cpu,
        "vendor_id": "GenuineIntel",
        "cpu family": 6,
        "model": 143,
        "model name": "Intel(R) Xeon(R) Platinum 8470",
        "stepping": 8,
        "cpu MHz": "2000.000",
        "cache size": "107520 KB",
        "physical id": core // server.cores_per_socket,
        "siblings": 2 * server.cores_per_socket,
        "core id": core % server.cores_per_socket,
        "cpu cores": server.cores_per_socket,
        "flags": _FLAGS,
    }
    return "\n".join(f"{name}\t: {value}" for name, value in rows.items())


def _topology(where: str, socket: int, core: int, threads: tuple[int, ...], package: tuple[int, ...]) -> Entries:
    files: Entries = {f"{where}/physical_package_id": str(socket), f"{where}/core_id": str(core), f"{where}/die_id": "0"}
    for names, cpus in ((("core_cpus", "thread_siblings"), threads), (("package_cpus", "core_siblings"), package)):
        for name in names:
            files |= {f"{where}/{name}": _mask(cpus), f"{where}/{name}_list": _list(cpus)}
    return files


def _cache(where: str, level: int, kind: str, kib: int, ways: int, cpus: tuple[int, ...]) -> Entries:
    return {
        f"{where}/level": str(level),
        f"{where}/type": kind,
        f"{where}/size": f"{kib}K",
        f"{where}/id": str(min(cpus)),
        f"{where}/shared_cpu_map": _mask(cpus),
        f"{where}/shared_cpu_list": _list(cpus),
        f"{where}/coherency_line_size": "64",
        f"{where}/ways_of_associativity": str(ways),
        f"{where}/number_of_sets": str((kib << 10) // 64 // ways),
    }


def _policy(where: str, cpu: int) -> Entries:
    return {
        f"{where}/affected_cpus": str(cpu),
        f"{where}/related_cpus": str(cpu),
        f"{where}/cpuinfo_max_freq": "3800000",
        f"{where}/cpuinfo_min_freq": "800000",
        f"{where}/base_frequency": "2000000",
        f"{where}/scaling_driver": "intel_pstate",
        f"{where}/scaling_governor": "powersave",
        f"{where}/energy_performance_preference": "balance_performance",
    }


def _nodes(server: Server) -> Entries:
    files: Entries = {f"{_SYSTEM}/node/{name}": "0-1" for name in ("online", "possible", "has_cpu", "has_memory")}
    for node in range(2):
        where, cpus = f"{_SYSTEM}/node/node{node}", server.both_threads(server.cpus_of(node))
        files |= {
            f"{where}/cpulist": _list(cpus),
            f"{where}/cpumap": _mask(cpus),
            f"{where}/distance": "10 21" if node == 0 else "21 10",
            f"{where}/meminfo": f"Node {node} MemTotal:       1056777702 kB\nNode {node} MemFree:        500000000 kB",
            f"{where}/hugepages/hugepages-2048kB/nr_hugepages": "0",
            f"{where}/hugepages/hugepages-2048kB/free_hugepages": "0",
        }
    return files


def _pci(server: Server) -> Entries:
    """For each GPU a root port and a switch with GPU, NIC, disk and an empty slot; then the sockets' own functions."""
    files: Entries = {}
    count = 0

    def add(path: str, socket: int, space: bytes, driver: str | None = None) -> None:
        nonlocal count
        files.update(_device(server, path, socket, space, group=count, driver=driver))
        count += 1

    for gpu, bus in enumerate(_BUSES[: server.gpus]):
        socket = server.socket_of(gpu)
        port = f"pci0000:{bus:02x}/0000:{bus:02x}:01.0"
        switch = f"{port}/0000:{bus + 1:02x}:00.0"
        last = bus + 6
        root_port = make_config(ROOT_PORT, secondary=bus + 1, subordinate=last, acs=0x1D, ids=(0x8086, 0x352A))
        add(port, socket, root_port, "pcieport")
        add(switch, socket, make_config(UPSTREAM, secondary=bus + 2, subordinate=last, ids=_SWITCH), "pcieport")
        behind = (
            (make_config(ENDPOINT), "nvidia", _X16),
            (make_config(ENDPOINT, ids=(0x15B3, 0x1021), class_code=0x020700), "mlx5_core", _X16),
            (make_config(ENDPOINT, link=_X4, ids=(0x144D, 0xA824), class_code=0x010802), "nvme", _X4),
            (None, None, _X4),
        )
        for slot, (space, driver, link) in enumerate(behind):
            down = f"{switch}/0000:{bus + 2:02x}:{slot:02x}.0"
            bridge = make_config(DOWNSTREAM, secondary=bus + 3 + slot, link=link, acs=0x1D, ids=_SWITCH)
            add(down, socket, bridge, "pcieport")
            if space is not None:
                add(f"{down}/0000:{bus + 3 + slot:02x}:00.0", socket, space, driver)
        disk = f"/sys/devices/{switch}/0000:{bus + 2:02x}:02.0/0000:{bus + 5:02x}:00.0/nvme/nvme{gpu}/nvme{gpu}n1"
        fabric = f"/sys/devices/{switch}/0000:{bus + 2:02x}:01.0/0000:{bus + 4:02x}:00.0"
        files |= _disk(disk, gpu) | _interface(fabric, gpu)
    own = make_config(INTEGRATED, size=256, ids=(0x8086, 0x324A), class_code=0x088000)
    places = (
        (socket, bus, slot, function)
        for slot in range(32)
        for function in range(8)
        for socket in range(2)
        for bus in _UNCORE[socket]
    )
    for socket, bus, slot, function in places:
        if count >= server.pci_devices:
            break
        add(f"pci0000:{bus:02x}/0000:{bus:02x}:{slot:02x}.{function}", socket, own)
    return files


def _device(server: Server, path: str, socket: int, space: bytes, *, group: int, driver: str | None) -> Entries:
    where, address = f"/sys/devices/{path}", path.rsplit("/", 1)[-1]
    up = "../" * (path.count("/") + 2)  # from the device's directory to /sys
    cpus = server.both_threads(server.cpus_of(socket))
    vendor, device, code = (int.from_bytes(space[start:end], "little") for start, end in ((0, 2), (2, 4), (9, 12)))
    files: Entries = {
        f"/sys/bus/pci/devices/{address}": Link(f"../../../devices/{path}"),
        f"{where}/config": space,
        f"{where}/vendor": f"0x{vendor:04x}",
        f"{where}/device": f"0x{device:04x}",
        f"{where}/class": f"0x{code:06x}",
        f"{where}/revision": "0x01",
        f"{where}/irq": "0",
        f"{where}/enable": "1",
        f"{where}/numa_node": str(socket),
        f"{where}/local_cpus": _mask(cpus),
        f"{where}/local_cpulist": _list(cpus),
        f"{where}/resource": "0x0000200000000000 0x0000200000ffffff 0x000000000014220c\n" + "\n".join(["0x0 0x0 0x0"] * 12),
        f"{where}/subsystem": Link(f"{up}bus/pci"),
        f"{where}/iommu_group": Link(f"{up}kernel/iommu_groups/{group}"),
        f"/sys/kernel/iommu_groups/{group}/type": "identity",
        f"/sys/kernel/iommu_groups/{group}/devices/{address}": Link(f"../../../../devices/{path}"),
    }
    if driver is not None:
        files[f"{where}/driver"] = Link(f"{up}bus/pci/drivers/{driver}")
    if len(space) == 4096:
        width = str((space[0x4C] | space[0x4D] << 8) >> 4 & 0x3F)
        for when in ("current", "max"):
            files |= {f"{where}/{when}_link_speed": "32.0 GT/s PCIe", f"{where}/{when}_link_width": width}
    return files


def _disk(where: str, number: int) -> Entries:
    name = f"nvme{number}n1"
    return {
        f"/sys/block/{name}": Link("../" + where.removeprefix("/sys/")),
        f"{where}/dev": f"259:{number}",
        f"{where}/size": "7501476528",
        f"{where}/queue/rotational": "0",
        f"{where}/queue/scheduler": "[none] mq-deadline",
        f"{where}/queue/read_ahead_kb": "128",
        **{f"{where}/mq/{queue}/cpu_list": str(queue) for queue in range(32)},
    }


def _interface(function: str, number: int) -> Entries:
    where, first = f"{function}/net/ib{number}", 1000 + 64 * number
    return {
        f"/sys/class/net/ib{number}": Link("../../" + where.removeprefix("/sys/")),
        f"{where}/device": Link("../../../" + function.rsplit("/", 1)[-1]),
        f"{where}/operstate": "up",
        f"{where}/speed": "400000",
        **{f"{where}/queues/{kind}-{queue}/byte_queue": "0" for kind in ("rx", "tx") for queue in range(32)},
        **{f"{function}/msi_irqs/{irq}": "msix" for irq in range(first, first + 64)},
        **{f"/proc/irq/{irq}/smp_affinity_list": str(irq % 52) for irq in range(first, first + 64)},
    }


def _nvml(server: Server) -> str:
    devices = [
        {
            name: {"value": value}
            for name, value in {
                "Name": "NVIDIA H100 80GB HBM3",
                "PciInfo": f"00000000:{bus + 3:02X}:00.0",
                "UUID": f"GPU-00000000-0000-0000-0000-{index:012d}",
                "MemoryInfo": 85_520_809_984,
                "PersistenceMode": 1,
                "ComputeMode": 0,
                "EccMode": 1,
                "TotalEccErrors": 0,
                "MigMode": 0,
                "EnforcedPowerLimit": 700_000,
                "PowerManagementDefaultLimit": 700_000,
                "PowerUsage": 120_000,
                "ClockInfo": 1980,
                "MaxClockInfo": 1980,
                "CurrentClocksEventReasons": 0,
                "UtilizationRates": 0,
                "Temperature": 35,
                "GpuFabricInfo": 3,
                "NvLinkState": [1] * 18,
                "ComputeRunningProcesses": [],
            }.items()
        }
        for index, bus in enumerate(_BUSES[: server.gpus])
    ]
    pairs = [
        {"a": a, "b": b, "TopologyCommonAncestor": {"value": 50}, "P2PStatus": {"value": 0}}
        for a in range(server.gpus)
        for b in range(a + 1, server.gpus)
    ]
    answers = {"library": "12.570.133.20", "driver": "570.133.20", "confidential": 0, "count": server.gpus}
    return json.dumps(
        {"format": 1, "devices": devices, "pairs": pairs, **{name: {"value": value} for name, value in answers.items()}},
        indent=1,
    )


def _mask(cpus: Iterable[int]) -> str:
    """As the kernel writes it, highest word first: (0, 32) -> "00000001,00000001"."""
    bits = sum(1 << cpu for cpu in cpus)
    words = [f"{bits >> place & 0xFFFF_FFFF:08x}" for place in range(0, max(bits.bit_length(), 1), 32)]
    return ",".join(reversed(words))


def _list(cpus: Iterable[int]) -> str:
    """(0, 1, 2, 104) -> "0-2,104"."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


if __name__ == "__main__":
    make_root(Path(sys.argv[1]), make_server(Server()))
