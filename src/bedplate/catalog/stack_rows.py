"""The tables of a stack file as TOML has them, and how each becomes values of model/stack.py.

A [[release]] table stands for several releases: one for each of its versions, sources and variants. A [[follow]] table
stands for one release beside each release of another component, of the same version: the user space of a driver.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bedplate.catalog.strict import build_row, is_date, schema_problems
from bedplate.model.stack import (
    HOST,
    LAYER,
    CheckedBy,
    FactKind,
    ModuleBuild,
    StackComponent,
    StackDevice,
    StackFact,
    StackRelease,
    StackSource,
)
from bedplate.model.version_condition import VersionCondition, parse_condition

_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:-]*")
_MOST_RELEASES = 20_000  # of all files; what ships has 243, and one table multiplies versions, sources and variants


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTable:
    """A [[device]] table without its properties."""

    id: str
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    title: str = ""
    """"" where one row of the accelerators is this device, and has its name."""
    pci: tuple[str, ...] = ()
    """PCI ids that no row of the accelerators has."""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTable:
    """A [[release]] table without its properties and variants; it has version or versions."""

    component: str
    sources: tuple[str, ...]
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    version: str = ""
    versions: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    licence: str = "free"
    file: str = ""
    sha256: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowTable:
    """A [[follow]] table: `component` exists in the versions of `follows` in these sources, and needs exactly that one."""

    component: str
    follows: str
    sources: tuple[str, ...]
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    licence: str = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTable:
    """A [[fact]] table, its conditions as text."""

    id: str
    kind: FactKind
    because: str
    when: tuple[str, ...]
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    needs: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTable:
    """A [[module]] table, its conditions as text."""

    id: str
    module: tuple[str, ...]
    kernel: str
    builds: bool
    checked: CheckedBy
    date: str
    evidence: tuple[str, ...]
    because: str = ""


class StackRows:
    """Collects the rows of all files and every problem of them, each as `file:table[3].key: text`."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.sources: list[StackSource] = []
        self.components: list[StackComponent] = []
        self.devices: list[StackDevice] = []
        self.releases: list[StackRelease] = []
        self.facts: list[StackFact] = []
        self.modules: list[ModuleBuild] = []
        self.followers: list[tuple[str, FollowTable]] = []
        self.places: dict[tuple[str, str], str] = {}
        """Where each row stands, by its kind and id."""

    def add_file(self, table: dict[str, Any], name: str) -> None:
        """Take in the tables of one file; [[follow]] waits for `expand_followers`."""
        makers: dict[str, Callable[[dict[str, Any], str], None]] = {
            "source": self._add_source,
            "component": self._add_component,
            "device": self._add_device,
            "release": self._add_release,
            "follow": self._add_follow,
            "fact": self._add_fact,
            "module": self._add_module,
        }
        self.problems += schema_problems(table.get("schema"), f"{name}:")
        for key, rows in table.items():
            if key == "schema":
                continue
            if key not in makers:
                self.problems.append(f"{name}:{key}: unknown key; known keys: schema, {', '.join(makers)}")
            elif not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                self.problems.append(f"{name}:{key}: expected [[{key}]] tables")
            else:
                for index, row in enumerate(rows):
                    makers[key](dict(row), f"{name}:{key}[{row.get('id') or row.get('component') or index}]")

    def expand_followers(self) -> None:
        """One release for each version and source of what a [[follow]] table follows; call it after the last file."""
        for where, row in self.followers:
            followed = [release for release in self.releases if release.component == row.follows]
            if not followed:
                self.problems.append(f"{where}.follows: no release of {row.follows!r}")
            versions = dict.fromkeys(
                (release.version, release.source) for release in followed if release.source in row.sources
            )
            if len(versions) + len(self.releases) > _MOST_RELEASES:
                self.problems.append(f"{where}: all files make more than {_MOST_RELEASES} releases")
                return
            for version, source in versions:
                upstream = re.split(r"[-+]", version, maxsplit=1)[0]
                self._add_single(
                    where,
                    StackRelease(
                        component=row.component,
                        version=version,
                        source=source,
                        needs=(parse_condition(f"{row.follows} =={upstream}"),),
                        licence=row.licence,
                        checked=row.checked,
                        date=row.date,
                        evidence=row.evidence,
                    ),
                )

    def _take(self, kind: str, id: str, where: str) -> None:
        """Note where a row stands; two rows of one kind and id contradict each other, and the problem names both."""
        if (kind, id) in self.places:
            self.problems.append(f"{kind} {id}: appears twice, in {self.places[kind, id]} and in {where}")
        self.places.setdefault((kind, id), where)

    def _add_source(self, row: dict[str, Any], where: str) -> None:
        source = build_row(row, StackSource, where=where, problems=self.problems)
        if source is not None and self._fits_id(source.id, where):
            self._take("source", source.id, where)
            self.sources.append(source)

    def _add_component(self, row: dict[str, Any], where: str) -> None:
        component = build_row(row, StackComponent, where=where, problems=self.problems)
        if component is None or not self._fits_id(component.id, where):
            return
        if component.scope not in (HOST, LAYER):
            self.problems.append(f"{where}.scope: got {component.scope!r}, expected {HOST} or {LAYER}")
        self._take("component", component.id, where)
        self.components.append(component)

    def _add_device(self, row: dict[str, Any], where: str) -> None:
        properties = self._properties(row, "properties", where)
        device = build_row(row, DeviceTable, where=where, problems=self.problems)
        if device is None or not self._fits_id(device.id, where):
            return
        self._judge_origin(device.date, device.evidence, where)
        self._take("device", device.id, where)
        for number in device.pci:
            self._take("PCI id", number, f"{where}.pci")
            if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", number):
                self.problems.append(f"{where}.pci: got {number!r}, expected vendor:device such as 10de:2330")
        self.devices.append(
            StackDevice(
                id=device.id,
                title=device.title,
                pci=device.pci,
                properties=properties,
                needs=self._conditions(device.needs, f"{where}.needs"),
                checked=device.checked,
                date=device.date,
                evidence=device.evidence,
            )
        )

    def _add_release(self, row: dict[str, Any], where: str) -> None:
        properties = self._properties(row, "properties", where)
        variants = self._properties(row, "variants", where)
        table = build_row(row, ReleaseTable, where=where, problems=self.problems)
        if table is None:
            return
        self._judge_origin(table.date, table.evidence, where)
        versions = table.versions or ((table.version,) if table.version else ())
        if not versions or (table.version and table.versions):
            self.problems.append(f"{where}.version: expected version or versions")
        if table.sha256 and not re.fullmatch(r"[0-9a-f]{64}", table.sha256):
            self.problems.append(f"{where}.sha256: got {table.sha256!r}, expected 64 hexadecimal digits")
        if table.file and _FILE.fullmatch(table.file) is None:
            self.problems.append(f"{where}.file: got {table.file!r}, expected the name of a file, without a directory")
        if table.sha256 and not table.file:
            self.problems.append(f"{where}.file: missing; sha256 is of a file")
        if not table.sources:
            self.problems.append(f"{where}.sources: is empty")
        needs = self._conditions(table.needs, f"{where}.needs")
        count = len(versions) * len(table.sources) * math.prod(map(len, variants.values()))
        if count + len(self.releases) > _MOST_RELEASES:
            self.problems.append(f"{where}: makes {count} releases, and all files may make {_MOST_RELEASES}")
            return
        combinations = itertools.product(*([(name, value) for value in values] for name, values in variants.items()))
        for combination, version, source in itertools.product(list(combinations), versions, table.sources):
            self._add_single(
                where,
                StackRelease(
                    component=table.component,
                    version=version,
                    source=source,
                    properties={**properties, **{name: (value,) for name, value in combination}},
                    needs=needs,
                    licence=table.licence,
                    file=table.file,
                    sha256=table.sha256,
                    checked=table.checked,
                    date=table.date,
                    evidence=table.evidence,
                    note=table.note,
                ),
            )

    def _add_single(self, where: str, release: StackRelease) -> None:
        self._take("release", release.label, where)
        self.releases.append(release)

    def _add_follow(self, row: dict[str, Any], where: str) -> None:
        table = build_row(row, FollowTable, where=where, problems=self.problems)
        if table is not None:
            self._judge_origin(table.date, table.evidence, where)
            self.followers.append((where, table))

    def _add_fact(self, row: dict[str, Any], where: str) -> None:
        table = build_row(row, FactTable, where=where, problems=self.problems)
        if table is None or not self._fits_id(table.id, where):
            return
        self._judge_origin(table.date, table.evidence, where)
        if not table.because.strip():
            self.problems.append(f"{where}.because: is empty")
        if not table.when:
            self.problems.append(f"{where}.when: is empty; a fact says when it holds")
        self._take("fact or module", table.id, where)
        self.facts.append(
            StackFact(
                id=table.id,
                kind=table.kind,
                because=table.because,
                when=self._conditions(table.when, f"{where}.when"),
                needs=self._conditions(table.needs, f"{where}.needs"),
                advice=table.advice,
                checked=table.checked,
                date=table.date,
                evidence=table.evidence,
            )
        )

    def _add_module(self, row: dict[str, Any], where: str) -> None:
        table = build_row(row, ModuleTable, where=where, problems=self.problems)
        if table is None or not self._fits_id(table.id, where):
            return
        self._judge_origin(table.date, table.evidence, where)
        if not table.builds and not table.because.strip():
            self.problems.append(f"{where}.because: missing; a row that says no names the cause")
        module = self._conditions(table.module, f"{where}.module")
        kernel = self._conditions((table.kernel,), f"{where}.kernel")
        if not module:
            self.problems.append(f"{where}.module: is empty")
        if not module or not kernel:
            return
        if len({condition.component for condition in module}) != 1:
            self.problems.append(f"{where}.module: names more than one component")
        if kernel[0].component != "kernel":
            self.problems.append(f"{where}.kernel: got {kernel[0].component!r}, expected a condition on kernel")
        if table.builds and not all(
            any(bound.operator in ("<", "<=", "==") for bound in bounds) for bounds in kernel[0].alternatives
        ):
            self.problems.append(
                f"{where}.kernel: got {table.kernel!r}, expected an upper end; no build says yes for newer kernels"
            )
        self._take("fact or module", table.id, where)
        self.modules.append(
            ModuleBuild(
                id=table.id,
                module=module,
                kernel=kernel[0],
                builds=table.builds,
                because=table.because,
                checked=table.checked,
                date=table.date,
                evidence=table.evidence,
            )
        )

    def _conditions(self, texts: Iterable[str], where: str) -> tuple[VersionCondition, ...]:
        conditions: list[VersionCondition] = []
        for text in texts:
            try:
                conditions.append(parse_condition(text))
            except ValueError as error:
                self.problems.append(f"{where}: {error}")
        return tuple(conditions)

    def _properties(self, row: dict[str, Any], key: str, where: str) -> dict[str, tuple[str, ...]]:
        """Lists of text by name, taken out of the row; {} when it has none."""
        table = row.pop(key, {})
        if not isinstance(table, dict):
            self.problems.append(f'{where}.{key}: expected a table such as {{ flavour = ["open"] }}')
            return {}
        properties: dict[str, tuple[str, ...]] = {}
        for name, values in table.items():
            if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
                self.problems.append(f"{where}.{key}.{name}: expected a list of texts")
            else:
                properties[name] = tuple(values)
        return properties

    def _fits_id(self, id: str, where: str) -> bool:
        if _ID.fullmatch(id):
            return True
        self.problems.append(f"{where}.id: got {id!r}, expected lower-case letters, digits, '.' and '-'")
        return False

    def _judge_origin(self, date: str, evidence: tuple[str, ...], where: str) -> None:
        """Every row says when and where it was read."""
        if not is_date(date):
            self.problems.append(f"{where}.date: got {date!r}, expected a date such as 2026-11-28")
        if not any(text.strip() for text in evidence):
            self.problems.append(f"{where}.evidence: is empty")
