"""PCI Express links that are narrower or slower than both of their ends can be.

Width does not change at rest, so a narrow link is certain. Speed does: GPUs lower it when they idle (LnkSta then says
2.5 GT/s), so it is judged only for a GPU that was busy when it was read. In a virtual machine the port above a device is
the hypervisor's invention, and nothing is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Link, PciDevice, PciKind
from bedplate.model.units import render_size
from bedplate.plan.rules.checks.fixes import reboot_fix
from bedplate.plan.rules.observation import Observation, not_judged, some
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import NVIDIA, NVME, attribute_source, computes, is_given_away, is_virtual

_NETWORK = 0x02
_WIDE_NIC = 8  # lanes; below it a card serves no accelerator
_BUSY_PCT = 5.0
_RESEAT = "# Power off, reseat the card and its riser or cable, look for dirt and bent pins; then check again:"
_GENERATIONS = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}
_MEASURED = 5
"""The generation that the published figure is of (the row link.narrow)."""
_SMALL_BAR = 256 << 20  # bytes; what firmware without Resizable BAR gives the window to a card's memory
_FIRST_RESIZABLE = 0x2200  # NVIDIA's device number: Ampere cards of consumers and workstations are the first that can


def check_width(facts: HostFacts) -> Iterator[Result]:
    """Links that were trained with fewer lanes than device and slot have."""
    untold: list[str] = []
    for device, kind in _devices(facts):
        link = device.link
        if link.width is None or link.max_width is None:
            untold.append(device.address)
            continue
        least = min(link.max_width, link.port_max_width or link.max_width)
        if link.width >= least:
            continue
        half = link.width * 2 <= least
        yield Observation(
            id="link.narrow",
            severity=Severity.HIGH if kind == "accelerator" and half else Severity.MEDIUM,
            because=f"{device.address} ({device.name or kind}) runs at x{link.width}; device and slot support x{least}",
            where=(device.address,),
            evidence=_evidence(device),
            fix=(
                _RESEAT if is_virtual(facts) is False else f"# If the machine is rented, tell the provider. {_RESEAT[2:]}",
                f"cat /sys/bus/pci/devices/{device.address}/current_link_width",
            ),
            confidence=Confidence.CERTAIN if is_virtual(facts) is False else Confidence.LIKELY,
            effect=_effect(link),
        )
    if untold:
        yield not_judged(id="link.narrow", why=f"the link of {some(untold)} is unknown")


def _effect(link: Link) -> str | None:
    """What a narrow link of another generation than the row's costs; None where the row speaks of this one."""
    speeds = [speed for speed in (link.max_speed_gts, link.port_max_speed_gts) if speed is not None]
    generation = _GENERATIONS.get(min(speeds)) if speeds else None
    if generation is None or generation == _MEASURED:
        return None
    share = 2.0 ** (generation - _MEASURED)
    return (
        f"Gen{_MEASURED} x16 carries about 56 GB/s (measured); a Gen{generation} x16 link {56 * share:.0f} GB/s at the same "
        "share of its nominal rate, and each halving of the lanes halves that"
    )


def check_speed(facts: HostFacts) -> Iterator[Result]:
    """Links that run at a lower speed than both ends can, of devices that do not lower it by themselves."""
    load = {accelerator.address: accelerator.utilization_pct.value for accelerator in facts.accelerators}
    idle: list[str] = []
    for device, kind in _devices(facts):
        link = device.link
        if link.speed_gts is None or link.max_speed_gts is None:
            continue  # told by the check of the width
        least = min(link.max_speed_gts, link.port_max_speed_gts or link.max_speed_gts)
        if link.speed_gts >= least:
            continue
        busy = load.get(device.address)
        if kind == "accelerator" and (busy is None or busy < _BUSY_PCT):
            idle.append(f"{device.address} ({link.speed_gts:g} of {least:g} GT/s)")
            continue
        yield Observation(
            id="link.slow",
            severity=Severity.HIGH if kind == "accelerator" and link.speed_gts * 2 <= least else Severity.MEDIUM,
            because=(
                f"{device.address} ({device.name or kind}) runs at {link.speed_gts:g} GT/s; both ends support {least:g}"
            ),
            where=(device.address,),
            evidence=_evidence(device),
            fix=(
                "# Look for errors that made the link fall back, and check the slot's setting in the firmware:",
                f"lspci -vv -s {device.address} | grep -E 'LnkCap|LnkSta|LnkCtl2|CESta'",
            ),
            confidence=Confidence.LIKELY,
        )
    if idle:
        yield not_judged(id="link.slow", why=f"GPUs lower the speed when idle; check {some(idle, 4)} under load")


def _devices(facts: HostFacts) -> Iterator[tuple[PciDevice, str]]:
    """Devices whose link matters, and what they are; none in a virtual machine."""
    if is_virtual(facts):
        return
    accelerators = {accelerator.address: accelerator for accelerator in facts.accelerators}
    for device in facts.pci:
        if device.kind is not PciKind.ENDPOINT or is_given_away(device):
            continue
        one = accelerators.get(device.address)
        if one is not None and computes(one, device):
            # What has no PCIe link (on the root complex, behind an old bridge) has nothing to be judged.
            if device.link.max_width != 0:
                yield device, "accelerator"
        elif device.class_code >> 8 == NVME and device.link.width is not None:
            yield device, "NVMe drive"
        elif device.class_code >> 16 == _NETWORK and (device.link.max_width or 0) >= _WIDE_NIC:
            yield device, "network card"


def _evidence(device: PciDevice) -> tuple[Evidence, ...]:
    link = device.link

    def words(speed: float | None, width: int | None) -> str:
        return f"{'?' if speed is None else f'{speed:g}'} GT/s x{'?' if width is None else width}"

    def source(address: str, name: str) -> str:
        return attribute_source(replace(device, address=address), name)

    found = [
        Evidence(fact=f"now {words(link.speed_gts, link.width)}", source=source(device.address, "current_link_width")),
        Evidence(
            fact=f"the device can {words(link.max_speed_gts, link.max_width)}",
            source=source(device.address, "max_link_width"),
        ),
    ]
    if device.parent is not None and link.port_max_width is not None:
        port = words(link.port_max_speed_gts, link.port_max_width)
        found.append(Evidence(fact=f"its port can {port}", source=source(device.parent, "max_link_width")))
    return tuple(found)


def check_bar(facts: HostFacts) -> Iterator[Result]:
    """Cards whose window to their memory is the small one of a firmware without Resizable BAR."""
    if is_virtual(facts):
        return
    accelerators = {accelerator.address: accelerator for accelerator in facts.accelerators}
    for device in facts.pci:
        one = accelerators.get(device.address)
        if one is None or not computes(one, device) or is_given_away(device) or not device.bars_bytes:
            continue
        largest = max(device.bars_bytes)
        if (
            largest > _SMALL_BAR
            or largest < _SMALL_BAR // 2
            or (device.vendor == NVIDIA and device.device < _FIRST_RESIZABLE)
        ):
            continue
        size = one.memory_bytes
        card = f", its memory {render_size(size.value)}" if size.value is not None else ""
        yield Observation(
            id="pci.bar-small",
            severity=Severity.LOW,
            because=f"the window to the memory of {device.address} is {render_size(largest)}{card}: Resizable BAR is off",
            where=(device.address,),
            evidence=(
                Evidence(fact=f"largest BAR: {render_size(largest)}", source=attribute_source(device, "resource")),
                *(
                    (Evidence(fact=f"memory: {render_size(size.value)}", source=size.source),)
                    if size.value is not None
                    else ()
                ),
            ),
            fix=reboot_fix("# In the firmware, enable Above 4G Decoding and Resizable BAR; older cards need a newer VBIOS."),
            undo=("# Disable Resizable BAR in the firmware.",),
            confidence=Confidence.LIKELY,
        )


def check_virtual(facts: HostFacts) -> Iterator[Result]:
    """Says once that links are not judged in a virtual machine that has accelerators."""
    if is_virtual(facts) and any(accelerator.address for accelerator in facts.accelerators):
        for id in ("link.narrow", "link.slow"):
            yield not_judged(id=id, why="in a virtual machine the port above a device is not the slot that it is in")
