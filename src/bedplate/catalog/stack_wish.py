"""A wish as people write it: a few lines of TOML, read by the strict loader into values that plan/resolve takes.

`accelerators` are ids of devices of the catalogue, or of rows of its accelerators, with their number or without ("8x h100";
"h100" is one); without the key any machine is meant, and an empty list means a machine without accelerators. `host` lists
what else the machine has: "nvswitch", "nodes=2".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bedplate.catalog.accelerators import split_count
from bedplate.catalog.strict import parse_toml, schema_problems
from bedplate.errors import DataError, UsageError
from bedplate.model.catalogued import AcceleratorRow
from bedplate.model.stack import CountedAccelerators, StackCatalogue, StackDevice, StackHardware, StackPolicy, StackWish
from bedplate.model.version_condition import VersionCondition, parse_condition

_MOST_ENTRIES = 100
_LONGEST_ENTRY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WishFile:
    """The keys of a wish, as text; all but schema may be missing."""

    schema: int
    engines: tuple[str, ...] = ()
    """Each an engine, with bounds or without: "vllm >=0.19, <0.20"."""
    one_layer: bool = False
    """Whether the engines share one layer; without it each has its own."""
    accelerators: tuple[str, ...] | None = None
    """Ids of devices, with their number or without; "this-host" stands for those of the machine that runs the command."""
    host: tuple[str, ...] = ()
    """What else the machine has: "nvswitch", "rdma", "confidential", "nodes=2", "module-signatures=enforced"."""
    models: tuple[str, ...] = ()
    """Files, or names of models of the catalogue; the format of a file follows from its name."""
    require: tuple[str, ...] = ()
    """Conditions on any component: "kernel >=7", "nvidia-driver.flavour ==open", "ggml-backend.api ==cuda"."""
    policy: StackPolicy = StackPolicy.STABLE
    sources: tuple[str, ...] = ()
    """Sources or groups of them; without the key the default ones."""
    licences: tuple[str, ...] = ()
    """Licences; without the key all."""


def parse_wish(text: str, *, name: str) -> WishFile:
    """The wish of a TOML text; `name` is its file in messages. Raises DataError with every problem."""
    wish = parse_toml(text, WishFile, name=name, reference="docs/how-to/choose-a-stack.md")
    problems = schema_problems(wish.schema, f"{name}:")
    problems += _find_too_long(wish, name)
    for key in ("engines", "require") if not problems else ():
        for entry in getattr(wish, key):
            try:
                parse_condition(entry)
            except ValueError as error:
                problems.append(f"{name}:{key}: {error}")
    if problems:
        raise DataError(problems, hint="The keys of a wish are in docs/how-to/choose-a-stack.md.")
    return wish


def _find_too_long(wish: WishFile, name: str) -> list[str]:
    """Lists that no person writes: the search asks about each line of the wish, and about each bound of a line."""
    problems: list[str] = []
    for key in ("engines", "accelerators", "host", "models", "require", "sources", "licences"):
        entries = getattr(wish, key) or ()
        if len(entries) > _MOST_ENTRIES:
            problems.append(f"{name}:{key}: got {len(entries)} entries, expected at most {_MOST_ENTRIES}")
        longest = max(map(len, entries), default=0)
        if longest > _LONGEST_ENTRY:
            problems.append(f"{name}:{key}: got {longest} characters in an entry, expected at most {_LONGEST_ENTRY}")
    return problems


def make_wish(file: WishFile) -> StackWish:
    """The wish without its hardware. Raises UsageError for a condition that cannot be read."""
    return StackWish(
        engines=_conditions(file.engines),
        one_layer=file.one_layer,
        models=file.models,
        require=_conditions(file.require),
        policy=file.policy,
        sources=file.sources,
        licences=file.licences,
    )


def _conditions(texts: Iterable[str]) -> tuple[VersionCondition, ...]:
    try:
        return tuple(parse_condition(text) for text in texts)
    except ValueError as error:
        raise UsageError(str(error), hint='Write a component and bounds: "kernel >=6.12, <6.13".') from error


def make_hardware(accelerators: Sequence[str] | None, host: Sequence[str], catalogue: StackCatalogue) -> StackHardware:
    """The hardware that a wish describes; `accelerators` None leaves it open.

    Raises UsageError for an unknown device and for a count out of its range.
    """
    devices = {device.id: device for device in catalogue.devices}
    chosen: list[StackDevice] = []
    counted: list[CountedAccelerators] = []
    for text in accelerators or ():
        count, id = split_count(text.strip().lower())
        named = next((row for row in catalogue.accelerators if row.id == id and row.device), None)
        if id not in devices and named is None:
            near = difflib.get_close_matches(id, devices, 2, 0.5)
            meant = f"Did you mean {' or '.join(near)}? " if near else ""
            raise UsageError(
                f"accelerators: the catalogue has no device {id!r}",
                hint=f"{meant}A file in /etc/bedplate/catalog.d can add one: docs/how-to/stack-rows.md.",
            )
        device = devices[id if named is None or id in devices else named.device]
        if device not in chosen:
            chosen.append(device)
        row = named if id not in devices else largest_row(device, catalogue)
        counted.append(count_accelerators(device, row, count * (row.devices_per_card if row is not None else 1)))
    properties = dict(_host_properties(host))
    if accelerators is not None:
        properties["gpu"] = gpu_vendors(chosen)
    return StackHardware(accelerators=tuple(chosen), counted=tuple(counted), properties=properties)


def largest_row(device: StackDevice, catalogue: StackCatalogue) -> AcceleratorRow | None:
    """The row with the most memory of those that a device can be; None where one of its PCI ids has no row with figures."""
    rows = [row for row in catalogue.accelerators if set(row.pci) & set(device.pci)]
    if not device.pci or set(device.pci) - {number for row in rows for number in row.pci}:
        return None
    return max(rows, key=lambda row: row.memory_bytes)


def count_accelerators(
    device: StackDevice, row: AcceleratorRow | None, count: int, *, memory_bytes: int | None = None
) -> CountedAccelerators:
    """So many of a device; memory_bytes: of one, as the machine reports it; None: as the row has it."""
    return CountedAccelerators(
        device=device.id,
        name=row.name if row is not None else device.title,
        count=count,
        vendor=device.pci[0].partition(":")[0] if device.pci else "",
        memory_bytes=memory_bytes or (row.memory_bytes if row is not None else None),
        row=row,
    )


def gpu_vendors(devices: Iterable[StackDevice]) -> tuple[str, ...]:
    """The value of `host.gpu`: the vendors of the accelerators, sorted; ("none",) without accelerators."""
    return tuple(sorted({vendor for device in devices for vendor in device.properties.get("vendor", ())})) or ("none",)


def _host_properties(host: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    properties: dict[str, tuple[str, ...]] = {}
    for text in host:
        name, _, value = text.partition("=")
        properties[name.strip()] = (value.strip() or "yes",)
    return properties
