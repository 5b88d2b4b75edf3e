"""Names of PCI devices from pci.ids, the register of the PCI ID project that distributions install.

Only the devices that are asked for are looked up, by searching the bytes: the file is 1.5 MB and most of it is not needed.
A recording keeps the few lines that its machine needs under /vendor/pci.ids, so that it reads the same where no register is.
"""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.host.root.root import Root

RECORDED = "/vendor/pci.ids"
REGISTERS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
_NAME_MOST = 160  # characters


def read_pci_names(root: Root, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Name by (vendor, device), "NVIDIA Corporation GH100 [H100 SXM5 80GB]"; without those that no register knows."""
    for where in (RECORDED, *REGISTERS):
        data = root.read_bytes(where).value
        if data is not None:
            return find_names(data, wanted)
    return {}


def find_names(data: bytes, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Names in the bytes of a pci.ids file: "10de  NVIDIA Corporation", and below it "\\t2330  GH100 [H100 SXM5 80GB]"."""
    names: dict[tuple[int, int], str] = {}
    for vendor in {vendor for vendor, _ in wanted}:
        block = _block(data, vendor)
        if block is None:
            continue
        maker = _line(block, 0)
        for wanted_vendor, device in wanted:
            if wanted_vendor == vendor:
                at = block.find(b"\n\t%04x  " % device)
                names[vendor, device] = f"{maker} {_line(block, at + 2)}" if at >= 0 else f"{maker} {device:04x}"
    return names


def excerpt(data: bytes, wanted: Iterable[tuple[int, int]]) -> bytes:
    """The lines of a pci.ids file that find_names needs for these devices."""
    lines: list[str] = []
    for vendor in sorted({vendor for vendor, _ in wanted}):
        block = _block(data, vendor)
        if block is None:
            continue
        lines.append(f"{vendor:04x}  {_line(block, 0)}")
        for device in sorted({device for wanted_vendor, device in wanted if wanted_vendor == vendor}):
            at = block.find(b"\n\t%04x  " % device)
            if at >= 0:
                lines.append(f"\t{device:04x}  {_line(block, at + 2)}")
    return "".join(f"{line}\n" for line in lines).encode()


def _block(data: bytes, vendor: int) -> bytes | None:
    """From the line of a vendor to the line of the next one."""
    key = b"%04x  " % vendor
    start = 0 if data.startswith(key) else data.find(b"\n" + key) + 1
    if start == 0 and not data.startswith(key):
        return None
    end = start
    while (end := data.find(b"\n", end + 1)) >= 0:
        if data[end + 1 : end + 2] not in (b"\t", b"#", b"\n", b""):
            break
    return data[start : end if end >= 0 else len(data)]


def _line(block: bytes, at: int) -> str:
    """The name on the line that begins at an offset: what follows the four digits and two blanks."""
    end = block.find(b"\n", at)
    return block[at + 6 : end if end >= 0 else len(block)].decode("utf-8", errors="replace").strip()[:_NAME_MOST]
