"""PCI devices from the text that `lspci` of pciutils prints: whole trees with `-vvv`, names only without.

Numbers of vendor and device are in the text with -n or -nn only; without, the maker's name and "Device 2330" give them where
they can. What a listing without -vvv does not print is NOT_RECORDED; "<access denied>" (no root) is DENIED.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from bedplate.errors import ReadError
from bedplate.host.formats.pciclasses import CLASSES, maker_of
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.pcitree import CLASS_BRIDGE, NO_LINK, finish_tree, parents_by_bus, parse_address
from bedplate.model.facts.pci import Acs, Link, PciDevice, PciKind
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.units import parse_size

DEVICES_MOST = 65_536  # a domain has no more
LINES_MOST = 400_000  # of a listing; -vvv prints some tens a device
LINE_MOST = 16_384  # characters; only the names of kernel modules make a line longer than a terminal
_HEADER = re.compile(
    r"(?P<address>(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])"
    r" (?P<class>[^\[\]:]{1,60}?)(?: \[(?P<code>[0-9a-f]{4})\])?:"
    r" (?P<name>[^\n]{0,300}?)(?: \[(?P<vendor>[0-9a-f]{4}):(?P<device>[0-9a-f]{4})\])?(?: \(rev (?P<rev>[0-9a-f]{2})\))?"
    r"(?: \(prog-if (?P<interface>[0-9a-f]{2})[^()]{0,80}\))?",
    re.ASCII,
)
_NUMERIC = re.compile(r"(?P<address>\S+) (?P<code>[0-9a-f]{4}): (?P<vendor>[0-9a-f]{4}):(?P<device>[0-9a-f]{4})\b", re.ASCII)
_DEVICE = re.compile(r" Device ([0-9a-f]{4})$", re.ASCII)
_KINDS = {
    "Root Port": PciKind.ROOT_PORT,
    "Upstream Port": PciKind.SWITCH_UPSTREAM,
    "Downstream Port": PciKind.SWITCH_DOWNSTREAM,
}
_SPEED = re.compile(r"Speed (\d{1,3}(?:\.\d)?)GT/s", re.ASCII)
_WIDTH = re.compile(r"Width x(\d{1,2})\b", re.ASCII)
_PAYLOAD = re.compile(r"MaxPayload (\d{1,5}) bytes, MaxReadReq (\d{1,5}) bytes", re.ASCII)
_SIZE = re.compile(r"Region \d: Memory at .*\[size=(\d{1,6}[KMGT]?)\]", re.ASCII)
_LINK_ERRORS = ("RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout")  # PCI Express Base Specification 6.0, 7.8.4.5
_BUSES = re.compile(r"Bus: primary=[0-9a-f]{2}, secondary=([0-9a-f]{2}), subordinate=", re.ASCII)


@dataclass(slots=True)
class _Block:
    """One device while its lines are read."""

    head: re.Match[str]
    address: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    """(register, text): the text of a line, under the last "LnkCap:", "DevCtl:" or "Capabilities:" before it."""


def parse_lspci(text: str) -> tuple[PciDevice, ...]:
    """Devices by address, with their tree where the listing has bus numbers. Raises ReadError when it is no listing.

    "17:01.0 PCI bridge: Broadcom / LSI PEX890xx PCIe Gen 5 Switch (rev b0)" with "Bus: primary=17, secondary=19, ..."
    becomes the parent of 0000:19:00.0. More than LINES_MOST lines, or one longer than LINE_MOST, are refused too.
    """
    blocks = _blocks(text)
    if not blocks:
        raise ReadError("the text is not a listing of lspci: no line begins with an address such as 19:00.0")
    told = _Told(
        nodes=any("NUMA node: " in line for block in blocks for _, line in block.lines),
        groups=any("IOMMU group: " in line for block in blocks for _, line in block.lines),
        drivers=any("Kernel driver in use: " in line for block in blocks for _, line in block.lines),
        verbose=any(register == "Capabilities" for block in blocks for register, _ in block.lines),
    )
    secondary = {block.address: bus for block in blocks if (bus := _secondary(block)) is not None}
    parents = parents_by_bus((block.address for block in blocks), secondary)
    return finish_tree(replace(_device(block, told), parent=parents.get(block.address)) for block in blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What this listing prints at all: a line that it never has is not recorded, one that others have is absent."""

    nodes: bool
    groups: bool
    drivers: bool
    verbose: bool


def _blocks(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    register = ""
    if (count := text.count("\n")) > LINES_MOST:
        raise ReadError(f"the listing has {count} lines, at most {LINES_MOST} are read")
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would make lines of what was not counted
        if len(line) > LINE_MOST:
            raise ReadError(f"line {number} of the listing has {len(line)} characters, at most {LINE_MOST} are read")
        if not line or line[0] in " \t":
            if blocks and line.strip():
                word = line.split(None, 1)[0]
                if word.endswith(":") and word[0].isupper():
                    register = word[:-1]
                blocks[-1].lines.append((register, line.strip()))
            continue
        head = _NUMERIC.match(line) or _HEADER.fullmatch(line.rstrip())
        address = parse_address(head["address"]) if head is not None else None
        if head is not None and address is not None:
            if len(blocks) >= DEVICES_MOST:
                raise ReadError(f"the listing has more than {DEVICES_MOST} devices")
            blocks.append(_Block(head=head, address=address))
            register = ""
    return blocks


def _secondary(block: _Block) -> int | None:
    for register, line in block.lines:
        if register == "Bus" and (match := _BUSES.match(line)):
            return int(match[1], 16) or None
    return None


def _device(block: _Block, told: _Told) -> PciDevice:
    head = block.head.groupdict()
    name = head.get("name") or ""
    code = int(head["code"], 16) if head.get("code") else CLASSES.get(head.get("class") or "", 0)
    number = _DEVICE.search(name)
    source = f"lspci {block.address}"
    lines = dict(line.partition(": ")[::2] for register, line in block.lines if ": " in line)
    node = parse_int(lines.get("NUMA node", ""))
    group = parse_int(lines.get("IOMMU group", ""))
    express = next((line for _, line in block.lines if line.startswith("Capabilities: [") and "] Express " in line), "")
    control = " ".join(line for register, line in block.lines if register == "DevCtl")
    payload = _PAYLOAD.search(control)
    return PciDevice(
        address=block.address,
        parent=None,
        kind=_kind(express, code),
        class_code=code << 8 | int(head.get("interface") or "0", 16),
        vendor=int(head["vendor"], 16) if head.get("vendor") else maker_of(name),
        device=int(head["device"], 16) if head.get("device") else int(number[1], 16) if number else 0,
        name=name,
        driver=_reading(lines.get("Kernel driver in use"), source, recorded=told.verbose or told.drivers),
        numa_node=known(node, source, f"NUMA node: {node}")
        if node is not None
        else missing(Unknown.HIDDEN if told.nodes else Unknown.NOT_RECORDED, source),
        local_cpus=(),
        link=_link(block),
        acs=_acs(block, source, verbose=told.verbose),
        iommu_group=known(group, source)
        if group is not None
        else missing(Unknown.ABSENT if told.groups else Unknown.NOT_RECORDED, source),
        iommu_type=missing(Unknown.NOT_RECORDED, source),
        max_payload_bytes=int(payload[1]) if payload else None,
        max_read_request_bytes=int(payload[2]) if payload else None,
        relaxed_ordering="RlxdOrd+" in control if "RlxdOrd" in control else None,
        bars_bytes=_bars(block),
        answers=_answers(block, source),
        modules=tuple(lines.get("Kernel modules", "").replace(",", " ").split()),
        link_errors=_link_errors(block),
    )


def _answers(block: _Block, source: str) -> Reading[bool]:
    """Whether its registers can be read: all of them read as ones when it is gone, the revision and the header type too."""
    header = next((line for _, line in block.lines if line.startswith("!!! Unknown header type 7f")), "")
    if header or block.head.groupdict().get("rev") == "ff":
        return known(False, source, header or "rev ff")
    return missing(Unknown.NOT_RECORDED, source)


def _link_errors(block: _Block) -> tuple[str, ...]:
    """Errors of the link in the status of corrected errors ("CESta"); those that say nothing of the link are left out."""
    for register, line in block.lines:
        if register == "CESta":
            return tuple(word[:-1] for word in line.split()[1:] if word[-1] == "+" and word[:-1] in _LINK_ERRORS)
    return ()


def _reading(text: str | None, source: str, *, recorded: bool) -> Reading[str]:
    if text:
        return known(text, source)
    return missing(Unknown.ABSENT if recorded else Unknown.NOT_RECORDED, source)


def _kind(express: str, code: int) -> PciKind:
    for words, kind in _KINDS.items():
        if words in express:
            return kind
    return PciKind.BRIDGE if code == CLASS_BRIDGE else PciKind.ENDPOINT


def _link(block: _Block) -> Link:
    speeds: dict[str, tuple[float | None, int | None]] = {}
    for register, line in block.lines:
        if register in ("LnkCap", "LnkSta") and register not in speeds:
            speed, width = _SPEED.search(line), _WIDTH.search(line)
            lanes = int(width[1]) if width else 0
            speeds[register] = (float(speed[1]) if speed else None, lanes) if lanes else (None, None)
    now, most = speeds.get("LnkSta", (None, None)), speeds.get("LnkCap", (None, None))
    return replace(NO_LINK, speed_gts=now[0], width=now[1], max_speed_gts=most[0], max_width=most[1])


def _acs(block: _Block, source: str, *, verbose: bool) -> Reading[Acs]:
    for register, line in block.lines:
        if register == "ACSCtl":
            bits = {word[:-1]: word[-1] == "+" for word in line.split()[1:]}
            return known(
                Acs(
                    source_validation=bits.get("SrcValid", False),
                    request_redirect=bits.get("ReqRedir", False),
                    completion_redirect=bits.get("CmpltRedir", False),
                    upstream_forwarding=bits.get("UpstreamFwd", False),
                    egress_control=bits.get("EgressCtrl", False),
                    direct_translated=bits.get("DirectTrans", False),
                ),
                source,
                line,
            )
    if any("<access denied>" in line for _, line in block.lines):
        return missing(Unknown.DENIED, source, "Capabilities: <access denied>")
    return missing(Unknown.ABSENT if verbose else Unknown.NOT_RECORDED, source)


def _bars(block: _Block) -> tuple[int, ...]:
    sizes: list[int] = []
    for register, line in block.lines:
        if register == "Capabilities":  # the regions after it are those of SR-IOV
            break
        if match := _SIZE.match(line):
            sizes.append(parse_size(match[1]))
    return tuple(sizes)
