"""The strict loader of stack/*.toml and of the files that a machine's owner adds in /etc/bedplate/catalog.d.

What one table cannot show is checked here, over all files at once: conditions on components that no row defines, sources
that do not exist, facts that relate more than two components. PCI ids and names of devices come from the rows of the
accelerators (accelerators.py), which name the device that they are a kind of.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bedplate.catalog.accelerators import AcceleratorTables, NamedAccelerator, read_accelerator_tables
from bedplate.catalog.bundle import identify_bundles
from bedplate.catalog.drop_ins import DROP_INS, RowFile, RowKind, read_bundles, read_drop_ins, read_shipped, rows_hint
from bedplate.catalog.stack_rows import StackRows
from bedplate.errors import DataError
from bedplate.model.stack import FIXED_SUBJECTS, ModuleBuild, StackCatalogue
from bedplate.model.version_condition import VersionCondition

STACK_DIRECTORY = Path(__file__).parent / "stack"


def read_stack(
    directory: Path = STACK_DIRECTORY, drop_ins: Path | None = DROP_INS, *, bundles: Sequence[RowFile] | None = None
) -> StackCatalogue:
    """All rows: those that ship, then those of `drop_ins` in the order of their names, then those of bundles.

    A directory of drop-ins that does not exist adds nothing. bundles None: those that were imported there. Raises ReadError
    for a file that cannot be read, DataError with the problems of all files.
    """
    stored = bundles is None
    bundles = read_bundles(drop_ins) if bundles is None else bundles
    shipped = tuple(read_shipped(path) for path in sorted(directory.glob("*.toml")))
    accelerators = read_accelerator_tables(read_drop_ins(RowKind.ACCELERATORS, drop_ins, bundles=bundles))
    catalogue = parse_stack((*shipped, *read_drop_ins(RowKind.STACK, drop_ins, bundles=bundles)), accelerators)
    return replace(catalogue, bundles=identify_bundles(bundles, stored=stored))


def parse_stack(files: Iterable[RowFile], accelerators: AcceleratorTables | None = None) -> StackCatalogue:
    """The catalogue of several files; accelerators None: those that ship. Raises DataError with all problems of all."""
    rows = StackRows()
    files = tuple(files)
    accelerators = read_accelerator_tables() if accelerators is None else accelerators
    for file in files:
        try:
            rows.add_file(file.read_tables(), file.name)
        except DataError as error:
            rows.problems += error.problems
    rows.expand_followers()
    if not rows.problems:
        rows.problems += _join_accelerators(rows, accelerators.named)
        rows.problems += _cross_check(rows)
    if rows.problems:
        raise DataError(rows.problems, hint=rows_hint(RowKind.STACK, files))
    digest = hashlib.sha256()
    for file in (*files, *accelerators.files):
        digest.update(hashlib.sha256(file.text.encode()).digest())
    return StackCatalogue(
        sources=tuple(rows.sources),
        components=tuple(rows.components),
        devices=tuple(rows.devices),
        releases=tuple(rows.releases),
        facts=tuple(rows.facts),
        modules=tuple(rows.modules),
        accelerators=accelerators.rows,
        digest=digest.hexdigest(),
    )


def _join_accelerators(rows: StackRows, named: Iterable[NamedAccelerator]) -> list[str]:
    """Give each device the PCI ids of the accelerators that name it, and the name of the only one where it has no title."""
    problems: list[str] = []
    known = {device.id for device in rows.devices}
    owners = {number: device.id for device in rows.devices for number in device.pci}
    by_device: defaultdict[str, list[NamedAccelerator]] = defaultdict(list)
    for entry in named:
        if entry.device and entry.device not in known:
            problems.append(f"{entry.place}: is of the device {entry.device!r}, which no row of the stack is")
        owner = owners.get(entry.pci, entry.device)
        if entry.device and owner != entry.device:
            place = rows.places["PCI id", entry.pci]
            problems.append(f"PCI id {entry.pci}: is of {owner} in {place}, and of {entry.device} in {entry.place}")
        by_device[owner].append(entry)
    for index, device in enumerate(rows.devices):
        entries = by_device[device.id]
        names = list(dict.fromkeys(entry.name for entry in entries))
        if not device.title and len(names) != 1:
            problems.append(
                f"{rows.places['device', device.id]}.title: missing; the rows of accelerators have {len(names)} names for it"
            )
        numbers = dict.fromkeys([*device.pci, *(entry.pci for entry in entries)])
        rows.devices[index] = replace(device, title=device.title or "".join(names), pci=tuple(sorted(numbers)))
    return problems


def _cross_check(rows: StackRows) -> Iterator[str]:
    components = {component.id for component in rows.components}
    sources = {source.id for source in rows.sources}
    if "kernel" not in components:
        yield "component: no row defines kernel, which every stack has"
    for release in rows.releases:
        if release.component not in components:
            yield f"release {release.label}: no component {release.component!r}"
        if release.source not in sources:
            yield f"release {release.label}: no source {release.source!r}"
        yield from _unknown(release.needs, components, f"release {release.label}")
    for fact in rows.facts:
        conditions = (*fact.when, *fact.needs)
        yield from _unknown(conditions, components, f"fact {fact.id}")
        bound = {condition.component for condition in fact.when} - set(FIXED_SUBJECTS)
        for need in fact.needs or fact.when[:1]:
            related = bound | ({need.component} - set(FIXED_SUBJECTS))
            if len(related) > 2:
                yield f"fact {fact.id}: relates {', '.join(sorted(related))}; a row relates two components at most"
    for device in rows.devices:
        yield from _unknown(device.needs, components, f"device {device.id}")
    known: dict[tuple[str, ...], ModuleBuild] = {}
    for module in rows.modules:
        yield from _unknown((*module.module, module.kernel), components, f"module {module.id}")
        other = known.setdefault((str(module.kernel), *sorted(map(str, module.module))), module)
        if other.builds is not module.builds:
            places = " and ".join(rows.places["fact or module", row.id] for row in (other, module))
            yield f"module {other.id} and module {module.id}: one builds and one does not, for the same kernels, in {places}"


def _unknown(conditions: Iterable[VersionCondition], components: set[str], where: str) -> Iterator[str]:
    for condition in conditions:
        if condition.component not in components and condition.component not in FIXED_SUBJECTS:
            yield f"{where}: {str(condition)!r} names no component"
