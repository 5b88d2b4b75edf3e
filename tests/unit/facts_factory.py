"""Small machines as values, for tests of what decides: a healthy one, each part with only the changes that a test names.

`make_facts()` is a bare-metal server without accelerators and engines in which nothing is wrong: two NUMA nodes, eight
cores, 64 GiB, PSI. `with_gpus(make_facts(), 4)` puts GPUs into it, each behind a root port of its node.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bedplate.model.facts.cpu import CoreKind, CpuTopology, LogicalCpu, NumaNode, NumaTopology
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, Acs, BlockDevice, Link, NetworkDevice, PciDevice, PciKind
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import (
    CgroupFacts,
    EngineProcess,
    KernelFacts,
    MemoryFacts,
    Mount,
    OsFacts,
    Pressure,
    Thread,
)

GIB = 1 << 30
RELEASE = "6.12.48-amd64"
NVIDIA_3D = 0x030200
_SYS_CPU = "/sys/devices/system/cpu"


def absent(source: str = "/sys/absent") -> Reading[Any]:
    return missing(Unknown.ABSENT, source)


def denied(source: str = "/sys/denied") -> Reading[Any]:
    return missing(Unknown.DENIED, source)


def hidden(source: str = "/sys/hidden") -> Reading[Any]:
    return missing(Unknown.HIDDEN, source)


def not_recorded(source: str = "/sys/not-recorded") -> Reading[Any]:
    return missing(Unknown.NOT_RECORDED, source)


def make_cpu(*, nodes: int = 2, cores_per_node: int = 4, threads_per_core: int = 1, **changes: Any) -> CpuTopology:
    """CPUs numbered as Linux does: first threads of all cores, then the second ones."""
    cores = nodes * cores_per_node
    cpus = [
        LogicalCpu(
            cpu=cpu,
            online=True,
            package=cpu % cores // cores_per_node,
            core=cpu % cores % cores_per_node,
            die=0,
            node=cpu % cores // cores_per_node,
            siblings=tuple(range(cpu % cores, cores * threads_per_core, cores)),
            kind=CoreKind.UNIFORM,
            max_khz=3_700_000,
        )
        for cpu in range(cores * threads_per_core)
    ]
    values: dict[str, Any] = {
        "model_name": known("AMD EPYC 9334 32-Core Processor", "/proc/cpuinfo"),
        "architecture": "x86_64",
        "cpus": tuple(cpus),
        "caches": (),
        "flags": ("avx512f",),
        "smt": known("on" if threads_per_core > 1 else "notsupported", f"{_SYS_CPU}/smt/control"),
        "driver": known("amd-pstate-epp", f"{_SYS_CPU}/cpu0/cpufreq/scaling_driver"),
        "governors": (("performance", len(cpus)),),
        "energy_preference": known("performance", f"{_SYS_CPU}/cpu0/cpufreq/energy_performance_preference"),
        "idle_states": (("POLL", 0, False), ("C1", 1, False), ("C2", 18, False)),
        "isolated": (),
        "nohz_full": (),
    }
    return CpuTopology(**(values | changes))


def make_numa(cpu: CpuTopology, *, mem_bytes: int = 32 * GIB) -> NumaTopology:
    """The nodes that the CPUs name."""
    numbers = sorted({logical.node for logical in cpu.cpus if logical.node is not None})
    return NumaTopology(
        nodes=tuple(
            NumaNode(
                node=node,
                cpus=tuple(logical.cpu for logical in cpu.cpus if logical.node == node and logical.online),
                mem_bytes=mem_bytes,
                free_bytes=mem_bytes // 2,
                distances=tuple(10 if other == node else 32 for other in numbers),
                huge_pages=(),
            )
            for node in numbers
        ),
        source="/sys/devices/system/node",
    )


def make_cgroup(**changes: Any) -> CgroupFacts:
    """A cgroup of version 2 that may use the eight CPUs of `make_cpu()`, without quota and limits."""
    path = changes.get("path", "/system.slice/vllm.service")
    base = f"/sys/fs/cgroup{path}"
    values: dict[str, Any] = {
        "version": 2,
        "path": path,
        "cpus": known(tuple(range(8)), f"{base}/cpuset.cpus.effective"),
        "mems": known((0, 1), f"{base}/cpuset.mems.effective"),
        "quota_cpus": absent(f"{base}/cpu.max"),
        "throttled_periods": known(0, f"{base}/cpu.stat"),
        "periods": known(0, f"{base}/cpu.stat"),
        "throttled_s": known(0.0, f"{base}/cpu.stat"),
        "memory_max_bytes": absent(f"{base}/memory.max"),
        "memory_current_bytes": known(8 * GIB, f"{base}/memory.current"),
        "swap_max_bytes": known(0, f"{base}/memory.swap.max"),
        "cpu_weight": known(100, f"{base}/cpu.weight"),
    }
    return CgroupFacts(**(values | changes))


def make_kernel(**changes: Any) -> KernelFacts:
    values: dict[str, Any] = {
        "release": known(RELEASE, "/proc/sys/kernel/osrelease"),
        "cmdline": ("root=/dev/nvme0n1p2", "ro", "quiet"),
        "taint": known(0, "/proc/sys/kernel/tainted"),
        "lockdown": known("none", "/sys/kernel/security/lockdown"),
        "modules": (("ext4", ""), ("nvme", "")),
        "next_release": known(RELEASE, "/boot/vmlinuz"),
        "installed": (RELEASE,),
        "gpu_modules": ((RELEASE, ()),),
        "nvidia_flavour": absent("/proc/driver/nvidia/version"),
        "config": (("CONFIG_PSI", "y"),),
        "vulnerabilities": (),
        "clocksource": known("tsc", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "clocksources": ("tsc", "hpet", "acpi_pm"),
    }
    return KernelFacts(**(values | changes))


def make_os(**changes: Any) -> OsFacts:
    values: dict[str, Any] = {
        "id": "debian",
        "version": "13",
        "pretty_name": "Debian GNU/Linux 13 (trixie)",
        "init": known("systemd", "/proc/1/comm"),
        "systemd": True,
        "virtualisation": known("none", "/sys/class/dmi/id/sys_vendor"),
        "container": known("none", "/proc/1/environ"),
        "tee": known("none", "/proc/cpuinfo"),
        "unattended_upgrades": known(False, "/etc/apt/apt.conf.d"),
        "driver_packages_held": absent("/etc/apt/apt.conf.d"),
        "co_owners": (),
        "cdi_files": (),
        "runtimes": (),
    }
    return OsFacts(**(values | changes))


def make_memory(**changes: Any) -> MemoryFacts:
    values: dict[str, Any] = {
        "total_bytes": 64 * GIB,
        "available_bytes": 40 * GIB,
        "swap_total_bytes": 16 * GIB,
        "swap_free_bytes": 16 * GIB,
        "thp": known("madvise", "/sys/kernel/mm/transparent_hugepage/enabled"),
        "thp_defrag": known("madvise", "/sys/kernel/mm/transparent_hugepage/defrag"),
        "zswap": known(False, "/sys/module/zswap/parameters/enabled"),
        "zram": False,
        "huge_pages": (),
        "shm_bytes": known(32 * GIB, "/proc/mounts"),
    }
    return MemoryFacts(**(values | changes))


def make_thread(tid: int, allowed: tuple[int, ...] = tuple(range(8)), **changes: Any) -> Thread:
    values: dict[str, Any] = {
        "tid": tid,
        "name": "vllm",
        "allowed": allowed,
        "run_s": 100.0,
        "wait_s": 0.1,
        "policy": "other",
    }
    return Thread(**(values | changes))


def make_engine(**changes: Any) -> EngineProcess:
    """A vLLM server with four threads that holds /dev/nvidia0 open."""
    pid = changes.get("pid", 4711)
    values: dict[str, Any] = {
        "engine": "vllm",
        "pid": pid,
        "argv": ("vllm", "serve", "/models/llama-8b"),
        "threads": tuple(make_thread(pid + number) for number in range(4)),
        "cgroup": make_cgroup(),
        "rss_bytes": 8 * GIB,
        "swap_bytes": 0,
        "numa_bytes": ((0, 8 * GIB),),
        "limits": (("memlock", None), ("nofile", 1_048_576), ("nproc", None)),
        "oom_score_adj": -900,
        "devices": ("/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidiactl"),
        "devices_known": True,
        "model_paths": ("/models/llama-8b",),
    }
    return EngineProcess(**(values | changes))


def make_link(**changes: Any) -> Link:
    """A Gen5 x16 link at its best, in a slot that can do the same."""
    values: dict[str, Any] = {
        "speed_gts": 32.0,
        "width": 16,
        "max_speed_gts": 32.0,
        "max_width": 16,
        "port_max_speed_gts": 32.0,
        "port_max_width": 16,
    }
    return Link(**(values | changes))


def make_acs(*, redirect: bool) -> Acs:
    """Control bits with request and completion redirect on or off, source validation and upstream forwarding with them."""
    return Acs(
        source_validation=redirect,
        request_redirect=redirect,
        completion_redirect=redirect,
        upstream_forwarding=redirect,
        egress_control=False,
        direct_translated=False,
    )


def make_pci(address: str = "0000:19:00.0", **changes: Any) -> PciDevice:
    """An H100 by default, below no bridge; `kind` makes it a port."""
    base = f"/sys/bus/pci/devices/{address}"
    values: dict[str, Any] = {
        "address": address,
        "parent": None,
        "kind": PciKind.ENDPOINT,
        "class_code": NVIDIA_3D,
        "vendor": 0x10DE,
        "device": 0x2330,
        "name": "NVIDIA Corporation GH100 [H100 SXM5 80GB]",
        "driver": known("nvidia", f"{base}/driver"),
        "numa_node": known(0, f"{base}/numa_node"),
        "local_cpus": (0, 1, 2, 3),
        "link": make_link(),
        "acs": absent(f"{base}/config"),
        "iommu_group": absent(f"{base}/iommu_group"),
        "iommu_type": absent(f"{base}/iommu_group/type"),
        "max_payload_bytes": 256,
        "max_read_request_bytes": 4096,
        "relaxed_ordering": True,
        "bars_bytes": (16 << 20, 128 * GIB, 32 << 20),
    }
    return PciDevice(**(values | changes))


def make_port(address: str, **changes: Any) -> PciDevice:
    """A root port whose ACS redirect is off."""
    values: dict[str, Any] = {
        "kind": PciKind.ROOT_PORT,
        "class_code": 0x060400,
        "vendor": 0x8086,
        "device": 0x352A,
        "name": "Intel Corporation Device",
        "driver": known("pcieport", f"/sys/bus/pci/devices/{address}/driver"),
        "acs": known(make_acs(redirect=False), f"/sys/bus/pci/devices/{address}/config"),
        "bars_bytes": (),
    }
    return make_pci(address, **(values | changes))


def make_gpu(index: int = 0, address: str | None = "0000:19:00.0", **changes: Any) -> Accelerator:
    """An H100 that NVML reports as healthy and busy."""
    nvml = f"nvml:({index})"
    values: dict[str, Any] = {
        "vendor": "nvidia",
        "index": index,
        "name": "NVIDIA H100 80GB HBM3",
        "address": address,
        "uuid": f"GPU-{index:08d}",
        "memory_bytes": known(80 * GIB, nvml),
        "driver_version": known("590.48.01", "nvml:SystemGetDriverVersion"),
        "library_version": known("590.48.01", "nvml:SystemGetNVMLVersion"),
        "persistence": known(True, nvml),
        "compute_mode": known("Default", nvml),
        "ecc": known(True, nvml),
        "ecc_uncorrected": known(0, nvml),
        "mig": known(False, nvml),
        "power_limit_w": known(700.0, nvml),
        "power_default_w": known(700.0, nvml),
        "power_draw_w": known(412.0, nvml),
        "sm_clock_mhz": known(1980, nvml),
        "max_sm_clock_mhz": known(1980, nvml),
        "throttle_reasons": (),
        "utilization_pct": known(95.0, nvml),
        "temperature_c": known(54.0, nvml),
        "fabric_state": known("N/A", nvml),
        "nvlinks_active": known(0, nvml),
        "nvlinks_total": known(0, nvml),
        "confidential": known(False, nvml),
        "processes": (),
        "peers": (),
    }
    return Accelerator(**(values | changes))


def make_nic(name: str = "eth0", **changes: Any) -> NetworkDevice:
    values: dict[str, Any] = {
        "name": name,
        "driver": known("mlx5_core", f"/sys/class/net/{name}/device/driver"),
        "address": "0000:2a:00.0",
        "speed_mbps": known(400_000, f"/sys/class/net/{name}/speed"),
        "operstate": "up",
        "numa_node": known(0, f"/sys/class/net/{name}/device/numa_node"),
        "rx_queues": 8,
        "tx_queues": 8,
        "irqs": (),
        "rdma": (),
    }
    return NetworkDevice(**(values | changes))


def make_block(name: str = "nvme0n1", **changes: Any) -> BlockDevice:
    queue = f"/sys/block/{name}/queue"
    values: dict[str, Any] = {
        "name": name,
        "model": "SAMSUNG MZQL23T8HCLS-00A07",
        "address": "0000:01:00.0",
        "numa_node": known(0, f"/sys/block/{name}/device/numa_node"),
        "size_bytes": 3840 * 10**9,
        "rotational": known(False, f"{queue}/rotational"),
        "scheduler": known("none", f"{queue}/scheduler"),
        "read_ahead_bytes": known(128 << 10, f"{queue}/read_ahead_kb"),
        "queues": 8,
        "transport": "nvme",
        "parents": (),
        "mounts": ("/",),
    }
    return BlockDevice(**(values | changes))


def make_facts(**changes: Any) -> HostFacts:
    """The healthy machine of the head of this file, with the fields that the test names replaced."""
    cpu = changes.get("cpu", make_cpu())
    values: dict[str, Any] = {
        "origin": "live",
        "cpu": cpu,
        "numa": make_numa(cpu),
        "memory": make_memory(),
        "kernel": make_kernel(),
        "os": make_os(),
        "pci": (),
        "accelerators": (),
        "network": (),
        "blocks": (make_block(),),
        "mounts": (Mount(point="/", source="/dev/nvme0n1p2", kind="ext4", options=("rw", "relatime")),),
        "cgroup": make_cgroup(path="/user.slice"),
        "limits": (("nofile", 1_048_576), ("memlock", None)),
        "pressure": tuple(
            Pressure(resource=name, some_avg60=0.0, full_avg60=None if name == "cpu" else 0.0)
            for name in ("cpu", "io", "memory")
        ),
        "engines": (),
        "knobs": (),
        "problems": (),
    }
    return HostFacts(**(values | changes))


def with_gpus(facts: HostFacts, count: int = 1, **changes: Any) -> HostFacts:
    """The machine with `count` healthy NVIDIA GPUs, half of them on each node; `changes` are those of each Accelerator.

    The driver is loaded and is on disk for the running kernel. GPU n is 0000:1n:00.0 below the root port 0000:00:0n.0.
    """
    devices: list[PciDevice] = []
    for index in range(count):
        node = index * 2 // count if count > 1 else 0
        cpus = tuple(cpu.cpu for cpu in facts.cpu.cpus if cpu.node == node)
        port, gpu = f"0000:00:{index + 1:02x}.0", f"0000:{0x10 + index:02x}:00.0"
        place = {"numa_node": known(node, f"/sys/bus/pci/devices/{gpu}/numa_node"), "local_cpus": cpus}
        devices += [make_port(port, **place), make_pci(gpu, parent=port, **place)]
    kernel = facts.kernel
    return dataclasses.replace(
        facts,
        pci=tuple(sorted((*facts.pci, *devices), key=lambda device: device.address)),
        accelerators=tuple(make_gpu(index, f"0000:{0x10 + index:02x}:00.0", **changes) for index in range(count)),
        kernel=dataclasses.replace(
            kernel,
            modules=(*kernel.modules, ("nvidia", "590.48.01"), ("nvidia_uvm", "590.48.01")),
            nvidia_flavour=known("open", "/proc/driver/nvidia/version"),
            gpu_modules=tuple((release, ("nvidia-open",)) for release in kernel.installed),
        ),
    )
