"""Block devices from the table of `lsblk`: what hangs below what is told by the lines before the names.

Columns are those of the heading; numbers stand right of theirs, so a cell is found by where its heading ends. Without the
column ROTA a disk of a SCSI or SATA name whose size is 10 TB or more in whole steps of 2 TB is one that turns: solid-state
drives come in other sizes (7.68, 15.36, 30.72 TB).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from bedplate.errors import ReadError
from bedplate.host.formats.lsblk import make_blocks
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import BlockDevice
from bedplate.model.facts.reading import known

BEGINS = re.compile(r"NAME +(?:MAJ:MIN|FSTYPE|TYPE|SIZE|MODEL|ROTA|KNAME) ?")
CONTINUES = re.compile(
    r"(?:[\s│|]{0,24}[├└|`][─-]{1,2})?(?:sd[a-z]|nvme\d|vd[a-z]|xvd[a-z]|md\d|dm-\d|loop\d"
    r"|sr\d|zram\d|mmcblk\d|nbd\d|rbd\d|\w[\w.-]{0,60} {1,40}\d{1,3}:\d)"
    r"|[├└]─\S|\s{20,200}/\S{0,200}\s{0,4}$|[\s│]{1,24}[├└]─"
)
_ROW = re.compile(r"(?P<lead>[\s│|]{0,24}(?:[├└|`][─-]{1,2})?)(?P<name>\S{1,80})(?P<rest>.{0,400})")
_HEADING = re.compile(r"\S{1,40}")
_KNOWN_COLUMNS = ("NAME", "SIZE", "TYPE", "ROTA", "MODEL", "MOUNTPOINT", "MOUNTPOINTS")
_TURNING_LEAST, _TURNING_STEP = 10, 2  # TB, of 10^12 bytes
_DEEPEST = 16


def parse_lsblk_text(section: Section) -> HostFacts:
    """Disks and what is made of them, by name. Raises ReadError for a table without a device."""
    lines = section.text.split("\n")
    heading = next((line for line in lines if line.startswith("NAME")), None)
    columns = [match[0] for match in _HEADING.finditer(heading or "")]
    if heading is None or "NAME" not in columns:
        raise ReadError("the table of lsblk has no heading that begins with NAME")
    tops: list[dict[str, Any]] = []
    stack: list[tuple[int, dict[str, Any]]] = []
    for line in lines[lines.index(heading) + 1 :]:
        if stack and line.strip().startswith("/") and line[:1].isspace():  # one more mount point of the device above
            stack[-1][1].setdefault("mountpoints", []).append(line.strip())
            continue
        match = _ROW.fullmatch(line.rstrip())
        if match is None:
            continue
        row = _row(match["name"], match["rest"], columns[1:])
        depth = len(match["lead"])
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if len(stack) >= _DEEPEST:
            raise ReadError(f"the table of lsblk has more than {_DEEPEST} levels")
        (stack[-1][1].setdefault("children", []) if stack else tops).append(row)
        stack.append((depth, row))
    if not tops:
        raise ReadError("the table of lsblk has no device")
    blocks = tuple(_turning(block) for block in make_blocks(tops))
    return replace(empty_facts(section.file), blocks=blocks)


def _row(name: str, rest: str, columns: list[str]) -> dict[str, Any]:
    """Cells of a line: as many as there are, the type found by its word, mount points and model behind all others."""
    words = rest.split()
    row: dict[str, Any] = {"name": name}
    place = columns.index("TYPE") if "TYPE" in columns else len(columns)
    for column, word in zip(columns[: place + 1], words, strict=False):
        if column in ("SIZE", "TYPE", "ROTA"):
            row[column.lower()] = word
    behind = words[place + 1 :]
    later = columns[place + 1 :]
    if "ROTA" in later and later.index("ROTA") < len(behind):
        row["rota"] = behind[later.index("ROTA")]
    row["mountpoints"] = [word for word in behind if word.startswith("/") or word == "[SWAP]"]
    row["size"] = _plain_size(str(row.get("size", "")))
    return row


def _plain_size(text: str) -> str:
    return text.replace(",", ".")


def _turning(block: BlockDevice) -> BlockDevice:
    if block.rotational.value is not None or not block.name.startswith("sd") or block.parents:
        return block
    tera = block.size_bytes / 1e12
    steps = round(tera / _TURNING_STEP)
    # lsblk prints one digit behind the point of TiB: half a digit is 0.055 TB.
    if tera < _TURNING_LEAST - 0.1 or abs(tera - steps * _TURNING_STEP) > 0.06:
        return block
    size = steps * _TURNING_STEP
    return replace(
        block, rotational=known(True, f"lsblk {block.name}: SIZE", f"{size} TB: only disks that turn have this size")
    )
