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
from bedplate.model.wording import render_cpus
from bedplate.plan.rules.files import KnobFiles, parameters
from bedplate.plan.rules.rows.samples import FactReader, ObservedValue, make_sample, pass_on


def _irqs_off_node(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Interrupts of each network device that may be served by CPUs of other nodes only."""
    nodes = {node.node: set(node.cpus) for node in facts.numa.nodes}
    samples = []
    for interface in facts.network:
        near = nodes.get(interface.numa_node.value) if interface.numa_node.value is not None else None
        if not interface.irqs or not near:
            continue
        far = sum(bool(cpus) and near.isdisjoint(cpus) for _, cpus in interface.irqs)
        text = (
            f"{far} of {len(interface.irqs)} interrupts of {interface.name} are served off node {interface.numa_node.value}"
        )
        samples.append(make_sample(far, "/proc/irq/*/smp_affinity_list", text, where=interface.name, name=interface.name))
    return tuple(samples)


def _interrupt_cpus(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """CPUs that the interrupts of each device with several queues may go to, all together."""
    samples = []
    for interface in facts.network:
        if len(interface.irqs) < 2:
            continue
        cpus = {cpu for _, served in interface.irqs for cpu in served}
        text = f"{len(interface.irqs)} interrupts of {interface.name} go to CPUs {render_cpus(cpus)}"
        samples.append(
            make_sample(len(cpus), "/proc/irq/*/smp_affinity_list", text, where=interface.name, name=interface.name)
        )
    return tuple(samples)


def _irqbalance_running(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    runs = "irqbalance" in facts.os.co_owners
    return (make_sample(int(runs), "/proc", "irqbalance runs" if runs else "irqbalance does not run", where="machine"),)


def _rdma_max_read_request(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    devices = {device.address: device for device in facts.pci}
    samples = []
    for interface in facts.network:
        device = devices.get(interface.address or "")
        if not interface.rdma or device is None:
            continue
        source = f"/sys/bus/pci/devices/{device.address}/config"
        value = device.max_read_request_bytes
        text = f"{interface.name} reads {value} bytes a request"
        if value is None:
            gone: Reading[str] = missing(Unknown.DENIED, source, "MaxReadReq was not read")
            samples.append(ObservedValue(reading=gone, where=device.address, name=device.address))
        else:
            samples.append(make_sample(value, source, text, where=device.address, name=device.address))
    return tuple(samples)


def _label(one: Accelerator) -> str:
    return one.address or f"accelerator {one.index}"


def _devices(facts: HostFacts) -> Iterator[tuple[Accelerator, PciDevice]]:
    by_address = {device.address: device for device in facts.pci}
    for accelerator in facts.accelerators:
        if accelerator.address in by_address:
            yield accelerator, by_address[accelerator.address]


def _accelerator_iommu_type(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """identity also without an IOMMU: nothing translates."""
    samples = []
    for accelerator, device in _devices(facts):
        kind = device.iommu_type
        if kind.value is None and kind.unknown is Unknown.ABSENT and device.iommu_group.unknown is Unknown.ABSENT:
            samples.append(
                make_sample(
                    "identity", kind.source, "no IOMMU translates", where=_label(accelerator), name=_label(accelerator)
                )
            )
        else:
            samples.append(
                pass_on(kind, "DMA of its IOMMU group is {}", where=_label(accelerator), name=_label(accelerator))
            )
    return tuple(samples)


def _acs_redirecting_ports(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Ports above accelerators: 1 where ACS redirects peer-to-peer requests or completions."""
    by_address = {device.address: device for device in facts.pci}
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
                samples.append(ObservedValue(reading=gone, where=address, name=address))
            continue
        redirects = acs.value.request_redirect or acs.value.completion_redirect
        text = f"{address} {'redirects' if redirects else 'does not redirect'} peer-to-peer transfers"
        samples.append(make_sample(int(redirects), acs.source, text, where=address, name=address))
    return tuple(samples)


def _acs_parameters(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """1 where pci= on the kernel command line touches ACS."""
    samples = []
    for parameter in parameters(facts.kernel.cmdline, "pci"):
        if parameter.value is None:
            return (
                (ObservedValue(reading=parameter, where=parameter.source),)
                if parameter.unknown is not Unknown.ABSENT
                else ()
            )
        touched = any(word.startswith(("disable_acs_redir", "config_acs")) for word in re.split(r"[,;]", parameter.value))
        samples.append(
            make_sample(
                int(touched),
                parameter.source,
                f"{parameter.text} is on the kernel command line",
                where=parameter.text,
                name=parameter.text,
            )
        )
    return tuple(samples)


def _accelerator_link_percent(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Lanes now in percent of what card and slot can; the speed is left out, since an idle link trains down."""
    samples = []
    for accelerator, device in _devices(facts):
        link = device.link
        most = min((width for width in (link.max_width, link.port_max_width) if width), default=None)
        source = f"/sys/bus/pci/devices/{device.address}/current_link_width"
        if not link.width or most is None:
            gone: Reading[str] = missing(Unknown.HIDDEN, source, "the link's width is not reported")
            samples.append(ObservedValue(reading=gone, where=_label(accelerator), name=_label(accelerator)))
        else:
            text = f"x{link.width} of x{most}"
            samples.append(
                make_sample(
                    f"{100 * link.width / most:g}", source, text, where=_label(accelerator), name=_label(accelerator)
                )
            )
    return tuple(samples)


def _accelerator_bar_percent(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    """Largest BAR in percent of the device's memory, 100 from 95 on: BARs are powers of two, memory is told without ECC."""
    samples = []
    for accelerator, device in _devices(facts):
        memory = accelerator.memory_bytes.value
        source = f"/sys/bus/pci/devices/{device.address}/resource"
        if not device.bars_bytes or not memory:
            gone: Reading[str] = missing(Unknown.HIDDEN, source, "BARs or memory of the device are not known")
            samples.append(ObservedValue(reading=gone, where=_label(accelerator), name=_label(accelerator)))
            continue
        share = 100 * max(device.bars_bytes) / memory
        text = f"BAR of {render_size(max(device.bars_bytes))}, memory of {render_size(memory)}"
        samples.append(
            make_sample(
                100 if share >= 95 else int(share), source, text, where=_label(accelerator), name=_label(accelerator)
            )
        )
    return tuple(samples)


def _nvidia_persistence(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    return tuple(
        pass_on(accelerator.persistence, "persistence is {}", where=_label(accelerator), name=str(accelerator.index))
        for accelerator in facts.accelerators
        if accelerator.vendor == "nvidia"
    )


def _power_limit_percent(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    samples = []
    for accelerator in facts.accelerators:
        limit, default = accelerator.power_limit_w, accelerator.power_default_w
        if limit.value is None or not default.value:
            samples.append(
                pass_on(
                    limit if limit.value is None else default, "{}", where=_label(accelerator), name=str(accelerator.index)
                )
            )
            continue
        text = f"power limit {limit.value:g} W of {default.value:g} W"
        samples.append(
            make_sample(
                f"{100 * limit.value / default.value:.0f}",
                limit.source,
                text,
                where=_label(accelerator),
                name=str(accelerator.index),
            )
        )
    return tuple(samples)


def _accelerator_modes(facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    samples = []
    for accelerator in facts.accelerators:
        modes = ((accelerator.mig, "MIG"), (accelerator.ecc, "ECC"))
        words = [f"{name}={'on' if mode.value else 'off'}" for mode, name in modes if mode.value is not None]
        words += [f"compute={accelerator.compute_mode.value}"] if accelerator.compute_mode.value is not None else []
        if words:
            samples.append(
                make_sample(
                    ",".join(words),
                    accelerator.mig.source,
                    ", ".join(words),
                    where=_label(accelerator),
                    name=str(accelerator.index),
                )
            )
        else:
            samples.append(pass_on(accelerator.ecc, "{}", where=_label(accelerator), name=str(accelerator.index)))
    return tuple(samples)


DEVICE_FACTS: dict[str, FactReader] = {
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
