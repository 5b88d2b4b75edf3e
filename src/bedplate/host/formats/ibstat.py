"""RDMA devices and their ports from `ibstat` (infiniband-diags) and `ibstatus`: state, rate in Gb/s, link layer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.topo_matrix import make_rdma_device
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import NetworkDevice
from bedplate.model.facts.reading import known

BEGINS = re.compile(r"(?:CA '[\w.-]{1,40}'\s{0,4}$|Infiniband device '[\w.-]{1,40}' port \d{1,3} status:)")
CONTINUES = re.compile(
    r"(?:CA '|Infiniband device '|\s{1,24}[A-Z][\w /]{1,40}:|"
    r"\s{1,24}(?:default gid|base lid|sm lid|state|phys state|rate|link_layer):)"
)
_CA = re.compile(r"CA '([\w.-]{1,40})'\s{0,4}", re.ASCII)
_DEVICE = re.compile(r"Infiniband device '([\w.-]{1,40})' port (\d{1,3}) status:\s{0,4}", re.ASCII)
_RATE = re.compile(r"(\d{1,5})(?:\.\d)?(?: Gb/sec.{0,80})?", re.ASCII)
_DEVICES_MOST = 512


@dataclass(slots=True)
class _Port:
    """What the lines of one port say."""

    device: str
    tool: str
    values: dict[str, str]


def parse_ibstat(section: Section) -> HostFacts:
    """A network device for each RDMA device, with the state of its worst port. Raises ReadError without any."""
    ports: list[_Port] = []
    for line in section.text.split("\n"):
        text = line.strip()
        if (card := _CA.fullmatch(text)) is not None:
            ports.append(_Port(card[1], "ibstat", {}))
        elif (head := _DEVICE.fullmatch(text)) is not None:
            ports.append(_Port(head[1], "ibstatus", {}))
        elif ports and ":" in text:
            key, _, value = text.partition(":")
            if key.startswith("Port ") and "State" in ports[-1].values:
                ports.append(_Port(ports[-1].device, "ibstat", {}))
            ports[-1].values.setdefault(key, value.strip()[:80])
        if len(ports) > _DEVICES_MOST:
            raise ReadError(f"the text has more than {_DEVICES_MOST} RDMA ports")
    found: dict[str, NetworkDevice] = {}
    for port in ports:
        device = _device(port)
        before = found.get(port.device)
        if before is None or (before.port_state.value == "Active" and device.port_state.value not in (None, "Active")):
            found[port.device] = device
    if not found:
        raise ReadError("the text of ibstat has no device")
    return replace(empty_facts(section.file), network=tuple(found[name] for name in sorted(found)))


def _device(port: _Port) -> NetworkDevice:
    source = f"{port.tool} {port.device}"
    blank = make_rdma_device(port.device, source=source)
    state = port.values.get("State") or port.values.get("state", "").partition(": ")[2].capitalize()
    rate = _RATE.fullmatch(port.values.get("Rate") or port.values.get("rate") or "")
    if not state:
        return blank
    up = state == "Active"
    return replace(
        blank,
        port_state=known(state, f"{source}: State"),
        operstate="up" if up else "down",
        # A port that is down prints the rate of one lane.
        speed_mbps=known(int(rate[1]) * 1000, f"{source}: Rate", rate[0]) if rate is not None and up else blank.speed_mbps,
    )
