"""PCI Express Access Control Services on the ports that peer-to-peer traffic of accelerators crosses, and the IOMMU.

A port with request or completion redirect sends what could go from device to device through the switch up to the root
complex (PCI Express Base Specification 6.0, 6.12). It matters on the downstream ports between two devices and the switch
that is above both: traffic that has no switch in common goes up anyway. Redirect is what keeps devices of different owners
apart: where that is what the machine is for, it is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Acs, PciDevice, PciKind
from bedplate.model.facts.reading import Unknown
from bedplate.model.wording import plural
from bedplate.plan.rules.observation import Observation, not_judged, seen, some, unknown
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import (
    MELLANOX,
    accelerators,
    by_address,
    command_line_fix,
    is_confidential,
    is_given_away,
    is_nvswitch,
    is_virtual,
)

_NETWORK = 0x02
_PORTS = (PciKind.SWITCH_DOWNSTREAM, PciKind.SWITCH_UPSTREAM, PciKind.ROOT_PORT)
_TOO_DEEP = 64  # bridges above a device; a tree made as an attack may be a ring


def check_acs(facts: HostFacts) -> Iterator[Result]:
    """Redirect that is on at some ports of accelerators and off at others, or on at all that their traffic crosses."""
    id = "pci.acs-mixed"
    devices = by_address(facts)
    ends = [devices[accelerator.address] for accelerator in accelerators(facts) if accelerator.address in devices]
    if not ends or is_virtual(facts):
        return  # a hypervisor's ports are not those that the traffic crosses
    paths = _peer_ports(facts, devices, ends)
    near = paths | _ports_above(devices, [*ends, *_switches_and_cards(facts)])
    hidden = sorted(address for address in paths if devices[address].acs.unknown not in (None, Unknown.ABSENT))
    if hidden:
        reading = devices[hidden[0]].acs
        yield unknown(id, f"ACS of {some(hidden)}", reading)
    on = sorted(address for address in near if _redirects(devices[address].acs.value))
    off = sorted(address for address in near if devices[address].acs.value is not None and address not in on)
    crossed = [address for address in on if address in paths]
    if crossed and (set(paths) & set(off)):
        yield _mixed(facts, devices, crossed, sorted(set(paths) & set(off)), crossed=True)
    elif crossed:
        yield _redirected(facts, devices, crossed)
    elif on and off:
        yield _mixed(facts, devices, on, off, crossed=False)


def _mixed(facts: HostFacts, devices: dict[str, PciDevice], on: list[str], off: list[str], *, crossed: bool) -> Observation:
    allowed = _may_change(facts)
    title = f"ACS redirect is on at {plural(len(on), 'port')} ({some(on, 8)}) and off at {len(off)} ({some(off)})"
    if not crossed:
        below = [device for device in facts.pci if device.parent in on]
        kind = (
            "NVSwitches, whose traffic does not use PCI Express"
            if all(is_nvswitch(device) for device in below)
            else "other devices"
        )
        title += f"; no path between accelerators and network cards crosses the former, which lead to {kind}"
    return Observation(
        id="pci.acs-mixed",
        severity=Severity.INFO if not allowed else Severity.HIGH if crossed else Severity.LOW,
        because=title,
        where=tuple(on),
        evidence=(
            *(_register(devices[address]) for address in on[:4]),
            Evidence(
                fact=f"ACSCtl: {_words(devices[off[0]].acs.value)}, as on {len(off)} ports",
                source=devices[off[0]].acs.source,
            ),
        ),
        fix=_fix(facts, on) if allowed else _KEEP,
        undo=_undo(facts, devices, on) if allowed else ("# Nothing was changed.",),
        confidence=Confidence.CERTAIN if crossed else Confidence.POSSIBLE,
        effect_percent=None if crossed else 1.0,
        effect=None if crossed else "no evidence: no published case has redirect only where no peer-to-peer traffic goes",
    )


def _redirected(facts: HostFacts, devices: dict[str, PciDevice], on: list[str]) -> Observation:
    allowed = _may_change(facts)
    return Observation(
        id="pci.acs-redirect",
        severity=Severity.MEDIUM if allowed else Severity.INFO,
        because=f"ACS redirect is on at all {plural(len(on), 'port')} that peer-to-peer traffic crosses ({some(on)})",
        where=tuple(on),
        evidence=tuple(
            Evidence(fact=f"ACSCtl: {_words(devices[address].acs.value)}", source=devices[address].acs.source)
            for address in on[:4]
        ),
        fix=_fix(facts, on) if allowed else _KEEP,
        undo=_undo(facts, devices, on) if allowed else ("# Nothing was changed.",),
        confidence=Confidence.LIKELY,
    )


_KEEP = (
    "# Leave it: this machine isolates tenants (confidential computing, or devices assigned to virtual machines), and",
    "# redirect is a part of that. It must not be switched off here.",
)


def _fix(facts: HostFacts, ports: list[str]) -> tuple[str, ...]:
    return (
        "# Never where devices belong to different owners: it merges IOMMU groups, so that one device may write to another.",
        "# Now, until the next boot (P2P Request Redirect and Completion Redirect off):",
        *(f"setpci -s {port} ECAP_ACS+6.w=0:c" for port in ports),
        "# From the next boot on, before the kernel makes the groups (Linux 4.20 and later; from 6.12 also config_acs=):",
        *command_line_fix(facts, f"pci=disable_acs_redir={';'.join(ports)}"),
    )


def _undo(facts: HostFacts, devices: dict[str, PciDevice], ports: list[str]) -> tuple[str, ...]:
    lines = []
    for port in ports:
        acs = devices[port].acs.value
        bits = 0 if acs is None else 4 * acs.request_redirect + 8 * acs.completion_redirect
        lines.append(f"setpci -s {port} ECAP_ACS+6.w={bits:x}:c")
    return (*lines, *command_line_fix(facts, f"pci=disable_acs_redir={';'.join(ports)}", take_out=True))


def _may_change(facts: HostFacts) -> bool:
    """Not on confidential hosts, nor where a device is given to a virtual machine."""
    return not is_confidential(facts) and not any(is_given_away(device) for device in facts.pci)


def _redirects(acs: Acs | None) -> bool:
    return acs is not None and (acs.request_redirect or acs.completion_redirect)


def _register(device: PciDevice) -> Evidence:
    """What lspci prints of it, and of which port."""
    return Evidence(fact=f"{device.address} ACSCtl: {_words(device.acs.value)}", source=device.acs.source)


def _words(acs: Acs | None) -> str:
    if acs is None:
        return "not known"
    bits = (
        ("SrcValid", acs.source_validation),
        ("ReqRedir", acs.request_redirect),
        ("CmpltRedir", acs.completion_redirect),
        ("UpstreamFwd", acs.upstream_forwarding),
    )
    return " ".join(f"{name}{'+' if on else '-'}" for name, on in bits)


def _peer_ports(facts: HostFacts, devices: dict[str, PciDevice], ends: list[PciDevice]) -> set[str]:
    """Ports between accelerators, or an accelerator and a fast network card, and the switch above both."""
    cards = [device for device in facts.pci if _is_fast_card(facts, device)]
    found: set[str] = set()
    chains = {device.address: _chain(devices, device) for device in (*ends, *cards)}
    pairs = [*combinations(ends, 2), *((end, card) for end in ends for card in cards)]
    for a, b in pairs:
        above, other = chains[a.address], chains[b.address]
        shared = next((address for address in above if address in other), None)
        if shared is None:
            continue
        for chain in (above, other):
            found.update(address for address in chain[: chain.index(shared)] if devices[address].kind in _PORTS)
    return found


def _ports_above(devices: dict[str, PciDevice], ends: list[PciDevice]) -> set[str]:
    return {address for end in ends for address in _chain(devices, end) if devices[address].kind in _PORTS}


def _switches_and_cards(facts: HostFacts) -> list[PciDevice]:
    return [device for device in facts.pci if is_nvswitch(device) or _is_fast_card(facts, device)]


def _is_fast_card(facts: HostFacts, device: PciDevice) -> bool:
    """A network card that can do RDMA: by its devices where they were read, else by its maker."""
    if device.class_code >> 16 != _NETWORK:
        return False
    return device.vendor == MELLANOX or any(
        interface.rdma and interface.address == device.address for interface in facts.network
    )


def _chain(devices: dict[str, PciDevice], device: PciDevice) -> list[str]:
    """Bridges above a device, nearest first."""
    chain: list[str] = []
    parent = device.parent
    while parent in devices and parent not in chain and len(chain) < _TOO_DEEP:
        chain.append(parent)
        parent = devices[parent].parent
    return chain


def check_iommu(facts: HostFacts) -> Iterator[Result]:
    """Accelerators behind a translating IOMMU on bare metal, where they talk to others or to RDMA cards over PCI Express."""
    id = "pci.iommu-translated"
    devices = by_address(facts)
    ends = [devices[accelerator.address] for accelerator in accelerators(facts) if accelerator.address in devices]
    linked = all(any(how in ("NVLink", "XGMI") for _, how in accelerator.peers) for accelerator in accelerators(facts))
    rdma = any(interface.rdma for interface in facts.network)
    if not ends or not (rdma or (len(ends) > 1 and not linked)) or is_confidential(facts):
        return
    if is_virtual(facts):
        yield not_judged(id=id, why="only the hypervisor's IOMMU matters")
        return
    read = next((device.iommu_type for device in ends if device.iommu_type.unknown not in (None, Unknown.ABSENT)), None)
    if read is not None:
        yield unknown(id, "the IOMMU's mode", read)
    translated = [device for device in ends if (device.iommu_type.value or "").startswith("DMA")]
    if translated:
        names = [device.address for device in translated]
        yield Observation(
            id=id,
            # Collectives that hang are an outage, though it costs a machine without the fault nothing.
            severity=Severity.MEDIUM if _may_change(facts) else Severity.INFO,
            because=f"the IOMMU translates the accesses of {some(names)} ({translated[0].iommu_type.value})",
            where=tuple(names),
            evidence=tuple(seen("IOMMU domain", device.iommu_type) for device in translated[:2]),
            fix=(
                "# Only if all devices have one owner, and NCCL or RDMA is slow or hangs:",
                *command_line_fix(facts, "iommu=pt"),
            )
            if _may_change(facts)
            else _KEEP,
            undo=command_line_fix(facts, "iommu=pt", take_out=True) if _may_change(facts) else ("# Nothing was changed.",),
            confidence=Confidence.POSSIBLE,
        )
