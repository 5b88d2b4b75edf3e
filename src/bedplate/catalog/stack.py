"""The strict loader of stack/*.toml and of the files that a machine's owner adds in /etc/bedplate/catalog.d.

What one table cannot show is checked here, over all files at once: ids and releases that appear twice, conditions on
components that no row defines, sources that do not exist, facts that relate more than two components.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bedplate.catalog.drop_ins import DROP_INS, list_drop_ins
from bedplate.catalog.stack_rows import StackRows
from bedplate.catalog.strict import parse_table, read_data
from bedplate.errors import DataError
from bedplate.model.stack import FIXED_SUBJECTS, StackCatalogue
from bedplate.model.version_condition import VersionCondition

STACK_DIRECTORY = Path(__file__).parent / "stack"


def read_stack(directory: Path = STACK_DIRECTORY, drop_ins: Path | None = DROP_INS) -> StackCatalogue:
    """All rows: those that ship, then those of `drop_ins` in the order of their names.

    A directory of drop-ins that does not exist adds nothing. Raises ReadError for a file that cannot be read, DataError with
    the problems of all files.
    """
    paths = (*sorted(directory.glob("*.toml")), *list_drop_ins(".", drop_ins))
    return parse_stack({(path.name if path.parent == directory else str(path)): read_data(path) for path in paths})


def parse_stack(texts: Mapping[str, str]) -> StackCatalogue:
    """The catalogue of several files, text by file name. Raises DataError with every problem of every file."""
    rows = StackRows()
    for name, text in texts.items():
        try:
            rows.add_file(parse_table(text, name=name), name)
        except DataError as error:
            rows.problems += error.problems
    rows.expand_followers()
    if not rows.problems:
        rows.problems += _cross_check(rows)
    if rows.problems:
        raise DataError(rows.problems, hint="Correct the rows; docs/how-to/stack-rows.md lists their keys.")
    digest = hashlib.sha256()
    for text in texts.values():
        digest.update(hashlib.sha256(text.encode()).digest())
    return StackCatalogue(
        sources=tuple(rows.sources),
        components=tuple(rows.components),
        devices=tuple(rows.devices),
        releases=tuple(rows.releases),
        facts=tuple(rows.facts),
        modules=tuple(rows.modules),
        digest=digest.hexdigest(),
    )


def _cross_check(rows: StackRows) -> Iterator[str]:
    components = {component.id for component in rows.components}
    sources = {source.id for source in rows.sources}
    if "kernel" not in components:
        yield "component: no row defines kernel, which every stack has"
    named: tuple[tuple[str, list[str]], ...] = (
        ("source", [source.id for source in rows.sources]),
        ("component", [component.id for component in rows.components]),
        ("device", [device.id for device in rows.devices]),
        ("fact or module", [fact.id for fact in rows.facts] + [module.id for module in rows.modules]),
        ("PCI id", [number for device in rows.devices for number in device.pci]),
        ("release", [release.label for release in rows.releases]),
    )
    for kind, ids in named:
        yield from (f"{kind} {id}: appears twice" for id in _twice(ids))
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
    for module in rows.modules:
        yield from _unknown((*module.module, module.kernel), components, f"module {module.id}")


def _unknown(conditions: Iterable[VersionCondition], components: set[str], where: str) -> Iterator[str]:
    for condition in conditions:
        if condition.component not in components and condition.component not in FIXED_SUBJECTS:
            yield f"{where}: {str(condition)!r} names no component"


def _twice(ids: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [id for id in ids if id in seen or seen.add(id)]  # type: ignore[func-returns-value]
