"""Network and RDMA devices from /sys/class/net and /sys/class/infiniband, with their interrupts.

Sources: Documentation/ABI/testing/sysfs-class-net, sysfs-class-net-queues, Documentation/core-api/irq/irq-affinity.rst.
Devices without hardware (bridges, tunnels, veth) are left out: they have no queue and no place of their own. An RDMA device
without a network interface stands under its own name.
"""

from __future__ import annotations

import re

from bedplate.host.kernel.attributes import parse_int, read_cpu_list, read_int, read_node
from bedplate.host.kernel.pcitree import parse_address
from bedplate.host.root.root import Root
from bedplate.model.facts.pci import NetworkDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

NETWORK = "/sys/class/net"
RDMA = "/sys/class/infiniband"
_MOST = 4096  # interfaces; a host of many containers has thousands without hardware
_IRQS_MOST = 4096  # of one device; MSI-X has at most 2048
_RATE = re.compile(r"(\d{1,5}(?:\.\d)?) Gb/sec", re.ASCII)


def read_network(root: Root) -> tuple[NetworkDevice, ...]:
    """Devices with hardware, by name; () where there are none or a recording has none."""
    rdma: dict[str, list[str]] = {}
    for name in root.listdir(RDMA)[:_MOST]:
        rdma.setdefault(_hardware(root, f"{RDMA}/{name}"), []).append(name)
    found: list[NetworkDevice] = []
    for name in root.listdir(NETWORK)[:_MOST]:
        where = f"{NETWORK}/{name}"
        hardware = _hardware(root, where)
        if name != "lo" and hardware:
            found.append(_read_interface(root, name, where, hardware, tuple(rdma.pop(hardware, ()))))
    for hardware, names in rdma.items():
        if hardware:
            found.append(_read_rdma(root, hardware, tuple(names)))
    return tuple(sorted(found, key=lambda device: device.name))


def _read_interface(root: Root, name: str, where: str, hardware: str, rdma: tuple[str, ...]) -> NetworkDevice:
    queues = root.listdir(f"{where}/queues")
    speed = read_int(root, f"{where}/speed")
    if speed.value is None and rdma:  # InfiniBand interfaces of older kernels do not say
        speed = _read_rate(root, rdma[0])
    elif speed.value is not None and speed.value <= 0:
        speed = missing(Unknown.HIDDEN, speed.source, str(speed.value))  # -1: no link, or a driver that does not say
    return NetworkDevice(
        name=name,
        driver=_driver(root, hardware),
        address=_address(hardware),
        speed_mbps=speed,
        operstate=root.read(f"{where}/operstate").value or "",
        numa_node=_node(root, hardware),
        rx_queues=sum(1 for queue in queues if queue.startswith("rx-")),
        tx_queues=sum(1 for queue in queues if queue.startswith("tx-")),
        irqs=_irqs(root, hardware),
        rdma=rdma,
    )


def _read_rdma(root: Root, hardware: str, names: tuple[str, ...]) -> NetworkDevice:
    state = root.read(f"{RDMA}/{names[0]}/ports/1/state").value or ""  # "4: ACTIVE"
    return NetworkDevice(
        name=names[0],
        driver=_driver(root, hardware),
        address=_address(hardware),
        speed_mbps=_read_rate(root, names[0]),
        operstate={"ACTIVE": "up", "DOWN": "down"}.get(state.partition(": ")[2], state),
        numa_node=_node(root, hardware),
        rx_queues=0,
        tx_queues=0,
        irqs=_irqs(root, hardware),
        rdma=names,
    )


def _read_rate(root: Root, name: str) -> Reading[int]:
    """Mbit/s of an RDMA device's first port: "400 Gb/sec (4X NDR)"."""
    rate = root.read(f"{RDMA}/{name}/ports/1/rate")
    match = _RATE.match(rate.value or "")
    if match is None:
        return missing(rate.unknown or Unknown.MALFORMED, rate.source, rate.text)
    return known(round(float(match[1]) * 1000), rate.source, rate.text)


def _hardware(root: Root, where: str) -> str:
    """The path of the device that carries it; "" without one. The link `device` where it is, else what the path says."""
    path = root.resolve(f"{where}/device")
    if path is not None:
        return path
    path = root.resolve(where) or ""
    above = path.rsplit("/", 2)[0]  # .../0000:02:00.0/net/eth0
    return above if parse_address(above.rsplit("/", 1)[-1]) is not None else ""


def _function(hardware: str) -> str | None:
    """The path of the PCI function: the device itself, or what a virtio device hangs at."""
    own, _, last = hardware.rpartition("/")
    if parse_address(last) is not None:
        return hardware
    return own if last.startswith("virtio") and parse_address(own.rsplit("/", 1)[-1]) is not None else None


def _address(hardware: str) -> str | None:
    function = _function(hardware)
    return parse_address(function.rsplit("/", 1)[-1]) if function is not None else None


def _driver(root: Root, hardware: str) -> Reading[str]:
    target = root.readlink(f"{hardware}/driver")
    if target is None:
        return missing(root.absent, f"{hardware}/driver")
    return known(target.rsplit("/", 1)[-1], f"{hardware}/driver")


def _node(root: Root, hardware: str) -> Reading[int]:
    return read_node(root, f"{_function(hardware) or hardware}/numa_node")


def _irqs(root: Root, hardware: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(IRQ, CPUs that it may go to) of the MSI vectors; () where the affinity cannot be read."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for name in root.listdir(f"{_function(hardware) or hardware}/msi_irqs")[:_IRQS_MOST]:
        irq = parse_int(name)
        if irq is None:
            continue
        cpus = read_cpu_list(root, f"/proc/irq/{irq}/smp_affinity_list", mask=f"/proc/irq/{irq}/smp_affinity")
        if cpus is not None:
            found.append((irq, cpus))
    return tuple(sorted(found))
