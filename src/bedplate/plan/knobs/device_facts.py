"""Facts about network devices and accelerators, and the PCI ports above them.

() without such a device; a sample without a value says why it is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, missing
from bedplate.model.units import render_size
from bedplate.plan.knobs.files import KnobFiles, parameters
from bedplate.plan.knobs.samples import Fact, Sample, make_sample, pass_on
from bedplate.plan.knobs.terms import render_cpus


def _irqs_off_node(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """Interrupts of each network device that may be served by CPUs of other nodes only."""
    nodes = {one.node: set(one.cpus) for one in facts.numa.nodes}
    samples = []
    for one in facts.network:
        near = nodes.get(one.numa_node.value) if one.numa_node.value is not None else None
        if not one.irqs or not near:
            continue
        far = sum(bool(cpus) and near.isdisjoint(cpus) for _, cpus in one.irqs)
        text = f"{far} of {len(one.irqs)} interrupts of {one.name} are served off node {one.numa_node.value}"
        samples.append(make_sample(far, "/proc/irq/*/smp_affinity_list", text, where=one.name, name=one.name))
    return tuple(samples)


def _interrupt_cpus(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """CPUs that the interrupts of each device with several queues may go to, all together."""
    samples = []
    for one in facts.network:
        if len(one.irqs) < 2:
            continue
        cpus = {cpu for _, served in one.irqs for cpu in served}
        text = f"{len(one.irqs)} interrupts of {one.name} go to CPUs {render_cpus(cpus)}"
        samples.append(make_sample(len(cpus), "/proc/irq/*/smp_affinity_list", text, where=one.name, name=one.name))
    return tuple(samples)


def _irqbalance_running(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    runs = "irqbalance" in facts.os.co_owners
    return (make_sample(int(runs), "/proc", "irqbalance runs" if runs else "irqbalance does not run", where="machine"),)


def _rdma_max_read_request(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    devices = {one.address: one for one in facts.pci}
    samples = []
    for one in facts.network:
        device = devices.get(one.address or "")
        if not one.rdma or device is None:
            continue
        source = f"/sys/bus/pci/devices/{device.address}/config"
        value = device.max_read_request_bytes
        text = f"{one.name} reads {value} bytes a request"
        if value is None:
            gone: Reading[str] = missing(Unknown.DENIED, source, "MaxReadReq was not read")
            samples.append(Sample(reading=gone, where=device.address, name=device.address))
        else:
            samples.append(make_sample(value, source, text, where=device.address, name=device.address))
    return tuple(samples)


def _label(one: Accelerator) -> str:
    return one.address or f"accelerator {one.index}"


def _devices(facts: HostFacts) -> Iterator[tuple[Accelerator, PciDevice]]:
    by_address = {one.address: one for one in facts.pci}
    for one in facts.accelerators:
        if one.address in by_address:
            yield one, by_address[one.address]


def _accelerator_iommu_type(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """identity also without an IOMMU: nothing translates."""
    samples = []
    for one, device in _devices(facts):
        kind = device.iommu_type
        if kind.value is None and kind.unknown is Unknown.ABSENT and device.iommu_group.unknown is Unknown.ABSENT:
            samples.append(make_sample("identity", kind.source, "no IOMMU translates", where=_label(one), name=_label(one)))
        else:
            samples.append(pass_on(kind, "DMA of its IOMMU group is {}", where=_label(one), name=_label(one)))
    return tuple(samples)


def _acs_redirecting_ports(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """Ports above accelerators: 1 where ACS redirects peer-to-peer requests or completions."""
    by_address = {one.address: one for one in facts.pci}
    ports: dict[str, PciDevice] = {}
    for _, device in _devices(facts):
        parent = device.parent
        while parent is not None and parent in by_address and parent not in ports:
            ports[parent] = by_address[parent]
            parent = by_address[parent].parent
    samples = []
    for address, port in sorted(ports.items()):
        acs = port.acs
        if acs.value is None:
            if acs.unknown is not Unknown.ABSENT:
                gone: Reading[str] = missing(acs.unknown or Unknown.HIDDEN, acs.source, acs.text)
                samples.append(Sample(reading=gone, where=address, name=address))
            continue
        redirects = acs.value.request_redirect or acs.value.completion_redirect
        text = f"{address} {'redirects' if redirects else 'does not redirect'} peer-to-peer transfers"
        samples.append(make_sample(int(redirects), acs.source, text, where=address, name=address))
    return tuple(samples)


def _acs_parameters(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """1 where pci= on the kernel command line touches ACS."""
    samples = []
    for one in parameters(facts.kernel.cmdline, "pci"):
        if one.value is None:
            return (Sample(reading=one, where=one.source),) if one.unknown is not Unknown.ABSENT else ()
        touched = any(word.startswith(("disable_acs_redir", "config_acs")) for word in re.split(r"[,;]", one.value))
        samples.append(
            make_sample(int(touched), one.source, f"{one.text} is on the kernel command line", where=one.text, name=one.text)
        )
    return tuple(samples)


def _accelerator_link_percent(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """Lanes now in percent of what card and slot can; the speed is left out, since an idle link trains down."""
    samples = []
    for one, device in _devices(facts):
        link = device.link
        most = min((width for width in (link.max_width, link.port_max_width) if width), default=None)
        source = f"/sys/bus/pci/devices/{device.address}/current_link_width"
        if not link.width or most is None:
            gone: Reading[str] = missing(Unknown.HIDDEN, source, "the link's width is not said")
            samples.append(Sample(reading=gone, where=_label(one), name=_label(one)))
        else:
            text = f"x{link.width} of x{most}"
            samples.append(make_sample(f"{100 * link.width / most:g}", source, text, where=_label(one), name=_label(one)))
    return tuple(samples)


def _accelerator_bar_percent(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    """Largest BAR in percent of the device's memory, 100 from 95 on: BARs are powers of two, memory is told without ECC."""
    samples = []
    for one, device in _devices(facts):
        memory = one.memory_bytes.value
        source = f"/sys/bus/pci/devices/{device.address}/resource"
        if not device.bars_bytes or not memory:
            gone: Reading[str] = missing(Unknown.HIDDEN, source, "BARs or memory of the device are not known")
            samples.append(Sample(reading=gone, where=_label(one), name=_label(one)))
            continue
        share = 100 * max(device.bars_bytes) / memory
        text = f"BAR of {render_size(max(device.bars_bytes))}, memory of {render_size(memory)}"
        samples.append(make_sample(100 if share >= 95 else int(share), source, text, where=_label(one), name=_label(one)))
    return tuple(samples)


def _nvidia_persistence(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    return tuple(
        pass_on(one.persistence, "persistence is {}", where=_label(one), name=str(one.index))
        for one in facts.accelerators
        if one.vendor == "nvidia"
    )


def _power_limit_percent(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    samples = []
    for one in facts.accelerators:
        limit, default = one.power_limit_w, one.power_default_w
        if limit.value is None or not default.value:
            samples.append(pass_on(limit if limit.value is None else default, "{}", where=_label(one), name=str(one.index)))
            continue
        text = f"power limit {limit.value:g} W of {default.value:g} W"
        samples.append(
            make_sample(
                f"{100 * limit.value / default.value:.0f}", limit.source, text, where=_label(one), name=str(one.index)
            )
        )
    return tuple(samples)


def _accelerator_modes(facts: HostFacts, files: KnobFiles) -> tuple[Sample, ...]:
    samples = []
    for one in facts.accelerators:
        modes = ((one.mig, "MIG"), (one.ecc, "ECC"))
        words = [f"{name}={'on' if mode.value else 'off'}" for mode, name in modes if mode.value is not None]
        words += [f"compute={one.compute_mode.value}"] if one.compute_mode.value is not None else []
        if words:
            samples.append(
                make_sample(",".join(words), one.mig.source, ", ".join(words), where=_label(one), name=str(one.index))
            )
        else:
            samples.append(pass_on(one.ecc, "{}", where=_label(one), name=str(one.index)))
    return tuple(samples)


DEVICE_FACTS: dict[str, Fact] = {
    "accelerator_bar_percent": _accelerator_bar_percent,
    "accelerator_iommu_type": _accelerator_iommu_type,
    "accelerator_link_percent": _accelerator_link_percent,
    "accelerator_modes": _accelerator_modes,
    "acs_parameters": _acs_parameters,
    "acs_redirecting_ports": _acs_redirecting_ports,
    "interrupt_cpus": _interrupt_cpus,
    "irqbalance_running": _irqbalance_running,
    "irqs_off_node": _irqs_off_node,
    "nvidia_persistence": _nvidia_persistence,
    "power_limit_percent": _power_limit_percent,
    "rdma_max_read_request": _rdma_max_read_request,
}
