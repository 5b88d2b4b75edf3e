"""The PCI tree and what hangs in it: accelerators, network devices, block devices."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.facts.number_lists import CpuList
from bedplate.model.facts.reading import NOT_ASKED, Reading


class PciKind(StrEnum):
    """What a PCI function is in the tree: by its PCI Express capability, or by its place where that cannot be read."""

    ENDPOINT = "endpoint"
    ROOT_PORT = "root-port"
    SWITCH_UPSTREAM = "switch-upstream"
    SWITCH_DOWNSTREAM = "switch-downstream"
    BRIDGE = "bridge"
    """A bridge whose place is not said (no PCIe capability readable)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acs:
    """ACSCtl bits of a port; PCI Express Base Specification 6.0, 7.7.11.3."""

    source_validation: bool
    request_redirect: bool
    completion_redirect: bool
    upstream_forwarding: bool
    egress_control: bool
    direct_translated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Speed in GT/s and width in lanes, now and at most; None where the file is absent or says Unknown."""

    speed_gts: float | None
    width: int | None
    max_speed_gts: float | None
    max_width: int | None
    port_max_speed_gts: float | None
    """Of the port above it: what the slot can; None when not known."""
    port_max_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """One PCI function from /sys/bus/pci/devices or a recording of it: place in the tree, link, isolation, driver."""

    address: str
    """Domain:bus:device.function in lower case, "0000:19:00.0"."""
    parent: str | None
    """Address of the bridge above; None at a host bridge."""
    kind: PciKind
    class_code: int
    """24 bits: 0x030200 is a 3D controller."""
    vendor: int
    device: int
    name: str
    """From the recording or pci.ids where that is at hand; "" otherwise."""
    driver: Reading[str]
    numa_node: Reading[int]
    """HIDDEN when the kernel says -1."""
    local_cpus: CpuList
    """local_cpulist: CPUs of the nearest NUMA node, which are all CPUs where the kernel does not know it; () in a
    recording without it."""
    link: Link
    acs: Reading[Acs]
    iommu_group: Reading[int]
    iommu_type: Reading[str]
    """/sys/kernel/iommu_groups/N/type: DMA, DMA-FQ, identity."""
    max_payload_bytes: int | None
    max_read_request_bytes: int | None
    relaxed_ordering: bool | None
    bars_bytes: tuple[int, ...]
    """Sizes of its memory BARs; () when not known."""
    answers: Reading[bool] = NOT_ASKED
    """False where its configuration space reads as all ones ("rev ff", header type 7f): it is gone from the bus."""
    modules: tuple[str, ...] = ()
    """Kernel modules that could drive it, as lspci -k names them; () when not known."""
    link_errors: tuple[str, ...] = ()
    """Correctable errors of the link that it has seen since they were cleared, by lspci's names: RxErr, BadTLP, BadDLLP,
    Rollover, Timeout; () also when not known."""

    @property
    def pci_id(self) -> str:
        """Vendor and device as rows of the catalog write them: "10de:2330"."""
        return f"{self.vendor:04x}:{self.device:04x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One GPU or NPU as the vendor's library describes it, with its place on PCI; what nothing told is unknown, not 0."""

    vendor: str
    """nvidia, amd, intel, or the PCI vendor in hexadecimal."""
    index: int
    """The vendor library's own number, else the order of the PCI addresses."""
    name: str
    address: str | None
    """PCI address; None for one that is not on PCI (GB10, APU) or not said."""
    uuid: str
    """As recorded (redacted in a recording); "" when not known."""
    memory_bytes: Reading[int]
    driver_version: Reading[str]
    library_version: Reading[str]
    """Version of the user-space library (NVML, amdsmi) that answered."""
    persistence: Reading[bool]
    compute_mode: Reading[str]
    ecc: Reading[bool]
    ecc_uncorrected: Reading[int]
    mig: Reading[bool]
    power_limit_w: Reading[float]
    power_default_w: Reading[float]
    power_draw_w: Reading[float]
    sm_clock_mhz: Reading[int]
    max_sm_clock_mhz: Reading[int]
    throttle_reasons: tuple[str, ...]
    """Active reasons that hold the clock down, other than idle; () also when not known."""
    utilization_pct: Reading[float]
    temperature_c: Reading[float]
    fabric_state: Reading[str]
    """NVSwitch fabric: "Completed", "In Progress", "N/A"."""
    nvlinks_active: Reading[int]
    nvlinks_total: Reading[int]
    confidential: Reading[bool]
    processes: tuple[tuple[int, str, int], ...]
    """(process id, name, bytes of device memory)."""
    peers: tuple[tuple[int, str], ...]
    """(index of another accelerator, how they meet): NVLink, XGMI, PIX, PXB, NODE, SYS; () when not said."""
    numa_node: Reading[int] = NOT_ASKED
    """As the vendor's tool tells it; where the PCI device tells it too, that one counts."""
    failure: Reading[str] = NOT_ASKED
    """What stands where values should: "GPU is lost", "ERR!", "Unknown Error", "GPU requires reset"; or a state in which
    it does not compute, "survivability mode"."""
    rows_pending: Reading[bool] = NOT_ASKED
    """Memory rows, or pages of an older driver, wait for a reset to be taken out of use."""
    rows_failed: Reading[bool] = NOT_ASKED
    """A row could not be replaced: no spare row is left."""
    rows_uncorrectable: Reading[int] = NOT_ASKED
    """Rows that were replaced, or wait for it, because of uncorrectable errors."""
    recovery_action: Reading[str] = NOT_ASKED
    """What the driver asks for: "None", "Reset", "Reboot", "Drain P2P", "Drain and Reset"."""
    mig_pending: Reading[bool] = NOT_ASKED
    """MIG mode after the next reset."""
    mig_bytes: Reading[tuple[int, ...]] = NOT_ASKED
    """Memory of each MIG instance; () for none."""
    held_s: tuple[tuple[str, float], ...] = ()
    """(reason, seconds since the driver was loaded in which it held the clock down): counters; () when not known."""
    compute_partition: Reading[str] = NOT_ASKED
    """SPX, DPX, TPX, QPX or CPX: into how many devices an AMD accelerator is split."""
    memory_partition: Reading[str] = NOT_ASKED
    """NPS1, NPS2, NPS4 or NPS8: into how many NUMA domains its memory is split."""
    near_rdma: tuple[tuple[str, str], ...] = ()
    """(RDMA device, how it and the accelerator meet): ("mlx5_0", "PIX"); () when not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDevice:
    """One network interface from /sys/class/net, as far as placement beside accelerators and interrupts needs it."""

    name: str
    driver: Reading[str]
    address: str | None
    """PCI address, None when it is not on PCI."""
    speed_mbps: Reading[int]
    operstate: str
    numa_node: Reading[int]
    rx_queues: int
    tx_queues: int
    irqs: tuple[tuple[int, CpuList], ...]
    """(IRQ, CPUs it may go to)."""
    rdma: tuple[str, ...]
    """Names of its RDMA devices ("mlx5_0"); () without."""
    port_state: Reading[str] = NOT_ASKED
    """Of its RDMA port, as ibstat prints it: "Active", "Down", "Initializing"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """One disk, or a device made of others (dm, md), from /sys/block."""

    name: str
    model: str
    address: str | None
    numa_node: Reading[int]
    size_bytes: int
    rotational: Reading[bool]
    scheduler: Reading[str]
    """The one in brackets."""
    read_ahead_bytes: Reading[int]
    queues: int
    """Hardware queues (mq/)."""
    transport: str
    """nvme, virtio, scsi, dm, md, loop, zram, other."""
    parents: tuple[str, ...]
    """Devices below a dm or md device."""
    mounts: tuple[str, ...]
