"""Reports for the tests of report: a server with eight GPUs behind switches, a virtual machine that hides its nodes."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.unit.facts_factory import (
    absent,
    denied,
    hidden,
    make_acs,
    make_block,
    make_cgroup,
    make_cpu,
    make_engine,
    make_facts,
    make_gpu,
    make_link,
    make_nic,
    make_numa,
    make_pci,
    make_port,
)

from bedplate.model.audit import Audit, FindingRow, NotJudged, SuppressedFinding
from bedplate.model.audit_report import SEVERITIES, AuditReport
from bedplate.model.facts.finding import Confidence, Evidence, Finding, Severity
from bedplate.model.facts.host import HostFacts, Problem
from bedplate.model.facts.pci import PciDevice, PciKind
from bedplate.model.facts.reading import known

SWITCH = "Broadcom / LSI PEX890xx PCIe Gen 5 Switch"


def make_server() -> HostFacts:
    """Eight GPUs, each behind a switch of its own with a NIC and an NVMe disk; node 1 has the upper four."""
    pci: list[PciDevice] = []
    gpus, nics, blocks = [], [], []
    for index in range(8):
        base = 0x15 + index * 0x10
        root, upper, gpu, nic, ssd = f"{base:02x}:01", f"{base + 1:02x}:00", base + 3, base + 4, base + 5
        root, upper = f"0000:{root}.0", f"0000:{upper}.0"
        here: dict[str, Any] = {"numa_node": known(index // 4, "numa_node")}
        port: dict[str, Any] = here | {"class_code": 0x060400, "vendor": 0x1000, "name": SWITCH}
        pci.append(make_port(root, **here))
        pci.append(make_pci(upper, parent=root, kind=PciKind.SWITCH_UPSTREAM, **port))
        for slot in range(3):
            acs = known(make_acs(redirect=index < 2), "config")
            down = f"0000:{base + 2:02x}:{slot:02x}.0"
            pci.append(make_pci(down, parent=upper, kind=PciKind.SWITCH_DOWNSTREAM, acs=acs, **port))
        slots = [f"0000:{base + 2:02x}:{slot:02x}.0" for slot in range(3)]
        addresses = [f"0000:{bus:02x}:00.0" for bus in (gpu, nic, ssd)]
        link = make_link(speed_gts=16.0, width=8) if index == 5 else make_link()
        pci.append(make_pci(addresses[0], parent=slots[0], link=link, **here))
        pci.append(
            make_pci(
                addresses[1],
                parent=slots[1],
                class_code=0x020000,
                vendor=0x15B3,
                name="Mellanox Technologies MT2910 Family [ConnectX-7]",
                **here,
            )
        )
        narrow = make_link(width=4, max_width=4, port_max_width=4, speed_gts=16.0, max_speed_gts=16.0)
        pci.append(
            make_pci(addresses[2], parent=slots[2], class_code=0x010802, vendor=0x1344, name="Micron", link=narrow, **here)
        )
        gpus.append(make_gpu(index, addresses[0]))
        nics.append(make_nic(f"ens{index}", address=addresses[1], rdma=(f"mlx5_{index}",)))
        mounts = ("/srv/models",) if index == 0 else ()
        blocks.append(make_block(f"nvme{index}n1", address=addresses[2], model="Micron 7450", mounts=mounts))
    cpu = make_cpu(threads_per_core=2)
    return make_facts(
        origin="server.tar.zst",
        cpu=cpu,
        numa=make_numa(cpu, mem_bytes=1 << 40),
        pci=tuple(sorted(pci, key=lambda device: device.address)),
        accelerators=tuple(gpus),
        network=tuple(nics),
        blocks=tuple(blocks),
        engines=(make_engine(),),
        knobs=(known("60", "/proc/sys/vm/swappiness"), absent("/proc/sys/kernel/sched_latency_ns")),
    )


def make_vm() -> HostFacts:
    """One package, no accelerator, and a NIC whose node the platform does not say."""
    cpu = make_cpu(nodes=1, cores_per_node=2)
    none = make_link(
        **dict.fromkeys(("speed_gts", "width", "max_speed_gts", "max_width", "port_max_speed_gts", "port_max_width"))
    )
    address = "0000:00:03.0"
    nic = make_pci(
        address, class_code=0x020000, vendor=0x1AF4, name="Virtio network device", link=none, numa_node=hidden("numa_node")
    )
    return make_facts(
        cpu=cpu,
        numa=make_numa(cpu),
        pci=(nic,),
        network=(make_nic(address=address, speed_mbps=absent(), driver=known("virtio_net", "driver")),),
        blocks=(),
        cgroup=make_cgroup(memory_max_bytes=denied("/sys/fs/cgroup/memory.max")),
    )


def hide_nodes(facts: HostFacts) -> HostFacts:
    """The same machine behind a hypervisor that says numa_node -1 for every device."""
    pci = tuple(dataclasses.replace(device, numa_node=hidden(f"{device.address}/numa_node")) for device in facts.pci)
    return dataclasses.replace(facts, pci=pci)


def make_finding(id: str, severity: Severity, title: str, *where: str, **changes: Any) -> Finding:
    values: dict[str, Any] = {
        "id": id,
        "severity": severity,
        "title": title,
        "where": where or ("machine",),
        "evidence": (
            Evidence(fact="Speed 16GT/s, Width x8", source="/sys/bus/pci/devices/0000:68:00.0/current_link_speed"),
        ),
        "effect": "Half the bandwidth from host to device. Arithmetic of the link.",
        "fix": ("# Reseat the card, then look again.", "lspci -vvv -s 68:00.0 | grep LnkSta"),
        "undo": ("# Nothing to undo.",),
        "confidence": Confidence.CERTAIN,
        "rank": 1.0,
    }
    return Finding(**values | changes)


ACS_PORTS = ("0000:17:00.0", "0000:17:01.0", "0000:27:00.0", "0000:27:01.0")
FINDINGS = (
    make_finding("gpu.fabric-manager", Severity.CRITICAL, "NVSwitch is there and no fabric manager runs", "machine"),
    make_finding("link.narrow", Severity.HIGH, "GPU 5 has a link of x8 at 16 GT/s, can x16 at 32", "0000:68:00.0"),
    make_finding("pci.acs-mixed", Severity.HIGH, "ACS redirects on 4 of 24 switch ports", *ACS_PORTS),
    make_finding("engine.quota", Severity.MEDIUM, "vllm (4711) has a quota of 6 CPUs", "pid 4711"),
    make_finding("numa.remote", Severity.LOW, "Memory of node 1 is far from ens0", "node 1", "ens0"),
)


def make_report(facts: HostFacts | None = None, *findings: Finding, **changes: Any) -> AuditReport:
    """The server with a finding of each kind, or the machine and findings that the test names."""
    shown = findings if facts is not None else FINDINGS
    aside = make_finding("knob.vm.swappiness", Severity.LOW, "swappiness is 60")
    values: dict[str, Any] = {
        "findings": shown,
        "suppressed": (SuppressedFinding(finding=aside, reason="measured: no effect", until=None),),
        "not_judged": (NotJudged(id="pci.iommu", why="permission denied"), NotJudged(id="kernel.psi", why="not recorded")),
        "counts": tuple((severity, sum(finding.severity is severity for finding in shown)) for severity in SEVERITIES),
        "notes": (),
    }
    row = FindingRow(
        id="pci.acs-mixed",
        title="Mixed ACS",
        means="Some redirect.",
        why="Peers detour.",
        effect="Slower.",
        sources=("S1",),
        check=("lspci -vvv",),
        severities=(Severity.HIGH,),
    )
    audit = Audit(**values | changes)
    return AuditReport(facts=facts if facts is not None else make_server(), audit=audit, rows=(row,), version="0.1")


def with_problem(facts: HostFacts) -> HostFacts:
    return dataclasses.replace(facts, problems=(Problem(source="pci", message="the tree has a loop"),))
