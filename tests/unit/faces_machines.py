"""Machines for the tests of the faces, as values: a server with eight GPUs behind switches, and a virtual machine."""

from __future__ import annotations

from typing import Any

from bedplate.cli.faces.report import Report, Suppressed, Unjudged
from bedplate.model.facts.cpu import Cache, CoreKind, CpuTopology, LogicalCpu, NumaNode, NumaTopology
from bedplate.model.facts.finding import Confidence, Evidence, Finding, Severity
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

GIB = 1024**3


def absent(source: str = "/sys/none") -> Reading[Any]:
    return missing(Unknown.ABSENT, source)


def make_cpu(packages: int = 2, cores: int = 4, smt: int = 2) -> CpuTopology:
    total = packages * cores
    cpus = []
    for number in range(total * smt):
        core = number % total
        siblings = tuple(core + total * way for way in range(smt))
        cpus.append(
            LogicalCpu(
                cpu=number,
                online=True,
                package=core // cores,
                core=core % cores,
                die=0,
                node=core // cores,
                siblings=siblings,
                kind=CoreKind.UNIFORM,
                max_khz=3_800_000,
            )
        )
    return CpuTopology(
        model_name=known("Intel(R) Xeon(R) Platinum 8480C", "/proc/cpuinfo"),
        architecture="x86_64",
        cpus=tuple(cpus),
        caches=(Cache(level=3, kind="Unified", size_bytes=105 << 20, cpus=(0, 1, 2, 3)),),
        flags=("avx512f", "amx_tile"),
        smt=known("on" if smt > 1 else "notsupported", "/sys/devices/system/cpu/smt/control"),
        driver=known("intel_pstate", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver"),
        governors=(("powersave", total * smt),),
        energy_preference=absent(),
        idle_states=(("POLL", 0, False), ("C6", 190, False)),
        isolated=(),
        nohz_full=(),
    )


def make_numa(cpu: CpuTopology, nodes: int = 2) -> NumaTopology:
    return NumaTopology(
        nodes=tuple(
            NumaNode(
                node=number,
                cpus=tuple(one.cpu for one in cpu.cpus if one.node == number),
                mem_bytes=1024 * GIB,
                free_bytes=700 * GIB,
                distances=tuple(10 if other == number else 21 for other in range(nodes)),
                huge_pages=(),
            )
            for number in range(nodes)
        ),
        source="/sys/devices/system/node",
    )


def make_cgroup(**changes: Any) -> CgroupFacts:
    values: dict[str, Any] = {
        "version": 2,
        "path": "/user.slice",
        "cpus": known((0, 1, 2, 3), "/sys/fs/cgroup/cpuset.cpus.effective"),
        "mems": known((0, 1), "/sys/fs/cgroup/cpuset.mems.effective"),
        "quota_cpus": absent("/sys/fs/cgroup/user.slice/cpu.max"),
        "throttled_periods": absent(),
        "periods": absent(),
        "throttled_s": absent(),
        "memory_max_bytes": missing(Unknown.DENIED, "/sys/fs/cgroup/user.slice/memory.max"),
        "memory_current_bytes": absent(),
        "swap_max_bytes": absent(),
        "cpu_weight": absent(),
    }
    return CgroupFacts(**values | changes)


def make_link(gts: float | None, width: int | None, most: float | None = None, widest: int | None = None) -> Link:
    most, widest = most or gts, widest or width
    return Link(
        speed_gts=gts, width=width, max_speed_gts=most, max_width=widest, port_max_speed_gts=most, port_max_width=widest
    )


def make_pci(address: str, parent: str | None, kind: PciKind, class_code: int, name: str, **changes: Any) -> PciDevice:
    where = f"/sys/bus/pci/devices/{address}"
    values: dict[str, Any] = {
        "address": address,
        "parent": parent,
        "kind": kind,
        "class_code": class_code,
        "vendor": 0x10DE,
        "device": 0x2330,
        "name": name,
        "driver": known("pcieport", f"{where}/driver"),
        "numa_node": known(0, f"{where}/numa_node"),
        "local_cpus": (),
        "link": make_link(32.0, 16),
        "acs": missing(Unknown.DENIED, f"{where}/config"),
        "iommu_group": absent(f"{where}/iommu_group"),
        "iommu_type": absent(),
        "max_payload_bytes": 256,
        "max_read_request_bytes": 512,
        "relaxed_ordering": True,
        "bars_bytes": (),
    }
    return PciDevice(**values | changes)


def make_gpu(index: int, address: str | None, name: str = "NVIDIA H100 80GB HBM3") -> Accelerator:
    call = f"nvml({index})"
    return Accelerator(
        vendor="nvidia",
        index=index,
        name=name,
        address=address,
        uuid="",
        memory_bytes=known(80 * GIB, call),
        driver_version=known("590.48.01", call),
        library_version=known("590.48.01", call),
        persistence=known(True, call),
        compute_mode=known("Default", call),
        ecc=known(True, call),
        ecc_uncorrected=known(0, call),
        mig=known(False, call),
        power_limit_w=known(700.0, call),
        power_default_w=known(700.0, call),
        power_draw_w=known(74.5, call),
        sm_clock_mhz=known(1980, call),
        max_sm_clock_mhz=known(1980, call),
        throttle_reasons=(),
        utilization_pct=known(0.0, call),
        temperature_c=known(31.0, call),
        fabric_state=known("Completed", call),
        nvlinks_active=known(18, call),
        nvlinks_total=known(18, call),
        confidential=known(False, call),
        processes=(),
        peers=(),
    )


def make_network(name: str, address: str | None, **changes: Any) -> NetworkDevice:
    values: dict[str, Any] = {
        "name": name,
        "driver": known("mlx5_core", f"/sys/class/net/{name}/device/driver"),
        "address": address,
        "speed_mbps": known(400_000, f"/sys/class/net/{name}/speed"),
        "operstate": "up",
        "numa_node": known(0, f"/sys/class/net/{name}/device/numa_node"),
        "rx_queues": 63,
        "tx_queues": 63,
        "irqs": ((140, (0, 1)),),
        "rdma": ("mlx5_0",),
    }
    return NetworkDevice(**values | changes)


def make_block(name: str, address: str | None, **changes: Any) -> BlockDevice:
    values: dict[str, Any] = {
        "name": name,
        "model": "Micron 7450",
        "address": address,
        "numa_node": known(0, "numa_node"),
        "size_bytes": 3_840_000_000_000,
        "rotational": known(False, f"/sys/block/{name}/queue/rotational"),
        "scheduler": known("none", f"/sys/block/{name}/queue/scheduler"),
        "read_ahead_bytes": known(131072, f"/sys/block/{name}/queue/read_ahead_kb"),
        "queues": 64,
        "transport": "nvme",
        "parents": (),
        "mounts": ("/srv/models",),
    }
    return BlockDevice(**values | changes)


def make_engine(pid: int = 4711) -> EngineProcess:
    return EngineProcess(
        engine="vllm",
        pid=pid,
        argv=("vllm", "serve", "/srv/models/m"),
        threads=(Thread(tid=pid, name="vllm", allowed=(0, 1), run_s=100.0, wait_s=12.0, policy="other"),),
        cgroup=make_cgroup(quota_cpus=known(6.0, "/sys/fs/cgroup/pod/cpu.max")),
        rss_bytes=12 * GIB,
        swap_bytes=0,
        numa_bytes=((0, 3 * GIB), (1, 9 * GIB)),
        limits=(("memlock", None), ("nofile", 1024)),
        oom_score_adj=0,
        devices=("/dev/nvidia0",),
        devices_known=True,
        model_paths=("/srv/models/m",),
    )


def make_facts(**changes: Any) -> HostFacts:
    """A two-package server without anything on PCI, unless told."""
    cpu = make_cpu()
    values: dict[str, Any] = {
        "origin": "server.tar.zst",
        "cpu": cpu,
        "numa": make_numa(cpu),
        "memory": MemoryFacts(
            total_bytes=2048 * GIB,
            available_bytes=1900 * GIB,
            swap_total_bytes=0,
            swap_free_bytes=0,
            thp=known("madvise", "/sys/kernel/mm/transparent_hugepage/enabled"),
            thp_defrag=absent(),
            zswap=known(False, "/sys/module/zswap/parameters/enabled"),
            zram=False,
            huge_pages=((2 << 20, 0, 0),),
            shm_bytes=known(64 << 20, "/proc/mounts"),
        ),
        "kernel": KernelFacts(
            release=known("6.12.57+deb13-amd64", "/proc/sys/kernel/osrelease"),
            cmdline=("ro", "quiet"),
            taint=absent(),
            lockdown=absent(),
            modules=(("nvidia", "590.48.01"),),
            next_release=absent(),
            installed=("6.12.57+deb13-amd64",),
            gpu_modules=(),
            nvidia_flavour=known("open", "/proc/driver/nvidia/version"),
            config=(("CONFIG_PSI", "y"),),
            vulnerabilities=(),
            clocksource=known("tsc", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            clocksources=("tsc", "hpet"),
        ),
        "os": OsFacts(
            id="debian",
            version="13",
            pretty_name="Debian GNU/Linux 13 (trixie)",
            init=known("systemd", "/proc/1/comm"),
            systemd=True,
            virtualisation=known("none", "dmi"),
            container=known("none", "/proc/1/environ"),
            tee=known("none", "/dev"),
            unattended_upgrades=absent(),
            driver_packages_held=absent(),
            co_owners=("irqbalance",),
            cdi_files=(),
            runtimes=("docker",),
        ),
        "pci": (),
        "accelerators": (),
        "network": (),
        "blocks": (),
        "mounts": (Mount(point="/srv/models", source="/dev/nvme0n1p1", kind="ext4", options=("rw",)),),
        "cgroup": make_cgroup(),
        "limits": (("nofile", 1024), ("memlock", None)),
        "pressure": (Pressure(resource="cpu", some_avg60=0.5, full_avg60=None),),
        "engines": (),
        "knobs": (known("60", "/proc/sys/vm/swappiness"), absent("/proc/sys/kernel/sched_latency_ns")),
        "problems": (),
    }
    return HostFacts(**values | changes)


def make_server() -> HostFacts:
    """Eight GPUs, each behind a switch of its own with a NIC and an NVMe disk; node 1 has the upper four."""
    pci: list[PciDevice] = []
    gpus: list[Accelerator] = []
    networks: list[NetworkDevice] = []
    blocks: list[BlockDevice] = []
    for index in range(8):
        base = 0x15 + index * 0x10
        node = known(index // 4, "numa_node")

        def at(bus: int, slot: int = 0, base: int = base) -> str:
            return f"0000:{base + bus:02x}:{slot:02x}.0"

        switch = "Broadcom / LSI PEX890xx PCIe Gen 5 Switch"
        upper, inner = {"numa_node": node, "vendor": 0x8086}, {"numa_node": node, "vendor": 0x1000}
        pci.append(make_pci(at(0, 1), None, PciKind.ROOT_PORT, 0x060400, "Intel Corporation Device 352a", **upper))
        pci.append(make_pci(at(1), at(0, 1), PciKind.SWITCH_UPSTREAM, 0x060400, switch, **inner))
        acs = Acs(
            source_validation=True,
            request_redirect=index < 2,
            completion_redirect=index < 2,
            upstream_forwarding=True,
            egress_control=False,
            direct_translated=False,
        )
        for port in range(3):
            port_acs = known(acs, "config")
            pci.append(make_pci(at(2, port), at(1), PciKind.SWITCH_DOWNSTREAM, 0x060400, switch, acs=port_acs, **inner))
        narrow = make_link(16.0, 8, 32.0, 16) if index == 5 else make_link(32.0, 16)
        pci.append(make_pci(at(3), at(2, 0), PciKind.ENDPOINT, 0x030200, "NVIDIA H100", numa_node=node, link=narrow))
        nic = {"numa_node": node, "vendor": 0x15B3}
        pci.append(make_pci(at(4), at(2, 1), PciKind.ENDPOINT, 0x020000, "MT2910 Family [ConnectX-7]", **nic))
        ssd = {"numa_node": node, "vendor": 0x1344, "link": make_link(16.0, 4)}
        pci.append(make_pci(at(5), at(2, 2), PciKind.ENDPOINT, 0x010802, "Micron 7450", **ssd))
        gpus.append(make_gpu(index, at(3)))
        networks.append(make_network(f"ens{index}", at(4), rdma=(f"mlx5_{index}",)))
        blocks.append(make_block(f"nvme{index}n1", at(5), mounts=("/srv/models",) if index == 0 else ()))
    return make_facts(
        pci=tuple(sorted(pci, key=lambda one: one.address)),
        accelerators=tuple(gpus),
        network=tuple(networks),
        blocks=tuple(blocks),
        engines=(make_engine(),),
    )


def make_vm() -> HostFacts:
    """One package, no accelerator, and devices whose node the platform does not say."""
    cpu = make_cpu(packages=1, cores=2, smt=1)
    hidden: Reading[Any] = missing(Unknown.HIDDEN, "/sys/bus/pci/devices/0000:00:03.0/numa_node", "-1")
    nic = make_pci(
        "0000:00:03.0",
        None,
        PciKind.ENDPOINT,
        0x020000,
        "Virtio network device",
        numa_node=hidden,
        link=Link(
            speed_gts=None, width=None, max_speed_gts=None, max_width=None, port_max_speed_gts=None, port_max_width=None
        ),
    )
    return make_facts(
        origin="live",
        cpu=cpu,
        numa=make_numa(cpu, 1),
        pci=(nic,),
        network=(make_network("eth0", "0000:00:03.0", rdma=(), speed_mbps=absent(), driver=known("virtio_net", "driver")),),
    )


def make_finding(id: str, severity: Severity, title: str, *where: str, **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "id": id,
        "severity": severity,
        "title": title,
        "where": where or ("machine",),
        "evidence": (Evidence(fact="Speed 16GT/s, Width x8", source="lspci: 0000:68:00.0 LnkSta"),),
        "effect": "Half the bandwidth from host to device. Published: S40.",
        "fix": ("# Reseat the card, then look again.", "lspci -vvv -s 68:00.0 | grep LnkSta"),
        "undo": ("# Nothing to undo.",),
        "confidence": Confidence.CERTAIN,
        "rank": 1.0,
    }
    return Finding(**values | changes)


def make_report(facts: HostFacts | None = None, *findings: Finding) -> Report:
    if facts is None:
        facts = make_server()
        ports = ("0000:17:00.0", "0000:17:01.0", "0000:27:00.0", "0000:27:01.0")
        findings = (
            make_finding("gpu.fabric-manager", Severity.CRITICAL, "NVSwitch is there and no fabric manager runs", "machine"),
            make_finding(
                "pci.link-narrow", Severity.HIGH, "GPU 5 has a link of x8 at 16 GT/s, can x16 at 32", "0000:68:00.0"
            ),
            make_finding("pci.acs-mixed", Severity.HIGH, "ACS redirects on 4 of 24 switch ports", *ports),
            make_finding("engine.quota", Severity.MEDIUM, "vllm (4711) has a quota of 6 CPUs", "pid 4711"),
            make_finding("numa.remote", Severity.LOW, "Memory of node 1 is far from ens0", "node 1", "ens0"),
        )
    return Report(
        facts=facts,
        findings=tuple(findings),
        suppressed=(
            Suppressed(
                finding=make_finding("vm.swappiness", Severity.LOW, "swappiness is 60"), reason="measured: no effect"
            ),
        ),
        unjudged=(Unjudged(what="pci.iommu", why="permission denied"), Unjudged(what="kernel.psi", why="not recorded")),
        version="0.1",
    )
