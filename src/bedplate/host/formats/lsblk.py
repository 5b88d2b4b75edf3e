"""Block devices from the JSON of `lsblk --json` (util-linux), with or without --bytes and --paths: a tree of disks, their
partitions, and what device mapper and md make of them. A column that was not asked for is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bedplate.errors import ReadError
from bedplate.host.kernel.block import transport_of
from bedplate.host.root.jsontext import parse_json
from bedplate.model.facts.pci import BlockDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.units import parse_size

_SOURCE = "lsblk"
_MOST = 4096  # devices
_DEEPEST = 16  # levels: disk, partition, RAID, encryption, volume; anything deeper is made as an attack
_SIZE = re.compile(r"\d{1,19}(?:[.,]\d{1,3})?[BKMGTPE]?", re.ASCII)
_MADE_OF_OTHERS = ("lvm", "crypt", "dm", "mpath", "raid", "linear", "stripe")
_LEFT_OUT = ("loop", "rom", "part")  # as host/kernel/block.py has it: a partition counts for its disk


def parse_lsblk(text: str) -> tuple[BlockDevice, ...]:
    """Disks and what is made of them, by name. Raises ReadError when the text is not such a document.

    What lsblk does not print (NUMA node, queues, scheduler) is NOT_RECORDED; size_bytes is 0 where it is not said.
    """
    document = parse_json(text, "the text")
    rows = document.get("blockdevices") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ReadError('the JSON has no list "blockdevices" as `lsblk --json` prints it')
    return make_blocks(rows)


def make_blocks(rows: list[Any]) -> tuple[BlockDevice, ...]:
    """Devices of rows as lsblk's JSON has them: name, type, size, rota, mountpoints, children. Raises ReadError."""
    found: dict[str, dict[str, Any]] = {}
    parents: dict[str, set[str]] = {}
    mounts: dict[str, set[str]] = {}
    for row, above in _walk(rows):
        name = _name(row)
        is_part = row.get("type") == "part"
        carrier = above[-1] if is_part and above else name  # the disk of a partition, else itself
        mounts.setdefault(carrier, set()).update(_mount_points(row))
        if is_part or row.get("type") in _LEFT_OUT:
            continue
        found.setdefault(name, row)
        if above:
            parents.setdefault(name, set()).add(above[-1])
    return tuple(
        _device(name, found[name], tuple(sorted(parents.get(name, ()))), tuple(sorted(mounts.get(name, ()))))
        for name in sorted(found)
    )


def _walk(rows: list[Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Each device with the names of the whole devices above it; one that is made of several stands below each of them."""
    stack: list[tuple[Any, tuple[str, ...]]] = [(row, ()) for row in reversed(rows)]
    seen = 0
    while stack:
        row, above = stack.pop()
        seen += 1
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise ReadError("the JSON has a block device without a name")
        if seen > _MOST or len(above) > _DEEPEST:
            raise ReadError(f"the JSON has more than {_MOST} block devices, or more than {_DEEPEST} levels of them")
        yield row, above
        children = row.get("children")
        below = above if row.get("type") == "part" else (*above, _name(row))
        stack += [(child, below) for child in reversed(children if isinstance(children, list) else [])]


def _device(name: str, row: dict[str, Any], parents: tuple[str, ...], mounts: tuple[str, ...]) -> BlockDevice:
    model = row.get("model")
    kind = str(row.get("type", ""))
    transport = "md" if kind.startswith("raid") else "dm" if kind.startswith(_MADE_OF_OTHERS) else transport_of(name)
    return BlockDevice(
        name=name,
        model=model.strip() if isinstance(model, str) else "",
        address=None,
        numa_node=missing(Unknown.NOT_RECORDED, _SOURCE),
        size_bytes=_size(row.get("size")),
        rotational=_rotational(row, name),
        scheduler=missing(Unknown.NOT_RECORDED, _SOURCE),
        read_ahead_bytes=missing(Unknown.NOT_RECORDED, _SOURCE),
        queues=0,
        transport=transport,
        parents=parents,
        mounts=mounts,
    )


def _rotational(row: dict[str, Any], name: str) -> Reading[bool]:
    source = f"{_SOURCE} {name}: rota"
    value = row.get("rota")
    if value is None:
        return missing(Unknown.NOT_RECORDED, source)
    told = {True: True, False: False, "1": True, "0": False}.get(value) if isinstance(value, str | bool) else None
    return missing(Unknown.MALFORMED, source, repr(value)[:80]) if told is None else known(told, source, str(value))


def _mount_points(row: dict[str, Any]) -> list[str]:
    several = row.get("mountpoints")  # util-linux 2.37 and later
    points = several if isinstance(several, list) else [row.get("mountpoint")]
    return [point for point in points if isinstance(point, str) and point]


def _size(value: object) -> int:
    """Bytes of 960197124096, "960197124096" or "894.3G"; 0 for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(value, 0)
    if not isinstance(value, str) or not _SIZE.fullmatch(value.strip()):
        return 0
    return parse_size(value.replace(",", "."))


def _name(row: dict[str, Any]) -> str:
    return str(row["name"]).rsplit("/", 1)[-1]
