"""Resolve a stack, explain it, compare two: wishes and locks are files, rows come from the catalogue and its drop-ins."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bedplate.act.files import write_report
from bedplate.catalog.drop_ins import DROP_INS, RowKind, read_drop_ins
from bedplate.catalog.fit_engines import read_fit_engines
from bedplate.catalog.models import read_model_rows
from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_lock import read_lock
from bedplate.catalog.stack_wish import WishFile, count_accelerators, gpu_vendors, make_hardware, make_wish, parse_wish
from bedplate.catalog.strict import read_data
from bedplate.errors import UsageError
from bedplate.flows.fit import make_row_model
from bedplate.flows.machine import read_facts_of
from bedplate.model.facts.host import HostFacts
from bedplate.model.progress import Progress
from bedplate.model.python_lock import PythonLayer, PythonLock
from bedplate.model.stack import (
    ChosenRelease,
    FactKind,
    JudgedModel,
    StackCatalogue,
    StackConflict,
    StackDevice,
    StackFact,
    StackHardware,
    StackLock,
    StackPolicy,
    StackRecord,
    StackRelease,
    StackWish,
)
from bedplate.model.versions import version_key
from bedplate.plan.resolve.build import GGUF, SAFETENSORS
from bedplate.plan.resolve.memory import judge_memory
from bedplate.plan.resolve.resolve import resolve
from bedplate.plan.rules.terms import is_nvswitch
from bedplate.report.stack import render_lock

THIS_HOST = "this-host"
DRIVER = "nvidia-driver"
"""The component whose version the runtime packages of CUDA depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRequest:
    """A wish from a file, from options, or from both: an option replaces the key of the file, lists of conditions grow."""

    file: Path | None = None
    engines: tuple[str, ...] = ()
    accelerators: tuple[str, ...] | None = None
    host: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    policy: StackPolicy | None = None
    present: Path | None = None
    """The lock in force."""
    recording: Path | None = None
    """A recording that stands for this host."""


def resolve_stack(
    request: StackRequest, *, catalogue: StackCatalogue | None = None, drop_ins: Path | None = DROP_INS
) -> StackRecord | StackConflict:
    """The lock of a request as the record of this day, or why there is none.

    catalogue None: the rows that ship, and those of drop_ins, where further models are, too (None: nowhere).

    Raises UsageError, DataError or ReadError for a wish, a lock, a recording or a row that is wrong, PreflightError where
    resolvelib is missing.
    """
    rows = read_stack(drop_ins=drop_ins) if catalogue is None else catalogue
    file = _merged(request)
    hardware = _hardware(file, request.recording, rows)
    wish = make_wish(file)
    if not wish.engines and not wish.require and not hardware.accelerators:
        raise UsageError(
            "the wish is empty: it names no engine, no accelerator and no requirement",
            hint='Name a file, or for example --engine "vllm >=0.19" --accelerator h100.',
        )
    present = read_lock(request.present).lock if request.present is not None else None
    answer = resolve(wish, hardware, rows, present, models=_judge_models(wish, hardware, drop_ins))
    if isinstance(answer, StackConflict):
        return answer
    return StackRecord(
        date=time.strftime("%Y-%m-%d"),
        catalogue=rows.digest,
        bundles=rows.bundles,
        wish=_wish_lines(wish, hardware),
        lock=answer,
    )


def explain_component(request: StackRequest, component: str) -> tuple[ChosenRelease, ...] | StackConflict:
    """Why a component has its version: a choice for each layer that has it; or why the wish is not possible.

    `component` may have bounds ("nvidia-driver >=580"): they are required as well, so that the answer says why not. Raises
    UsageError where the stack has no such component, and all that `resolve_stack` raises.
    """
    extra = (component,) if " " in component.strip() else ()
    answer = resolve_stack(replace(request, require=(*request.require, *extra)))
    if isinstance(answer, StackConflict):
        return answer
    return find_choices(answer.lock, component.split()[0] if component.strip() else component)


def find_choices(lock: StackLock, component: str) -> tuple[ChosenRelease, ...]:
    """The choices of a component in all layers. Raises UsageError where the lock has none, and for one with bounds."""
    if " " in component.strip():
        raise UsageError(
            f"{component}: a lock says why it has the version that it has, and nothing of bounds",
            hint="Leave the bounds out, or ask about a wish instead of a lock.",
        )
    name = component.strip().partition(".")[0]
    found = tuple(choice for choice in lock.choices if choice.release.component == name)
    if not found:
        there = ", ".join(dict.fromkeys(choice.release.component for choice in lock.choices))
        raise UsageError(f"{name}: the stack has no such component", hint=f"It has: {there}.")
    return found


def read_record(path: Path) -> StackRecord:
    """The lock of a file. Raises ReadError or DataError."""
    return read_lock(path)


def write_lock(path: Path, record: StackRecord) -> None:
    """Write the lock as TOML, whole or not at all. Raises OSError."""
    write_report(path, render_lock(record))


def lock_python_packages(
    record: StackRecord, directory: Path, progress: Progress, *, catalogue: StackCatalogue | None = None
) -> tuple[PythonLock, ...]:
    """Lock the Python packages of each layer with uv and write DIRECTORY/LAYER.txt, a requirements file with hashes.

    A layer without Python packages has none. A lock with a conflict is not written: then the rows and the registry's
    metadata disagree. Raises PreflightError where uv is missing or the registry cannot be reached, CommandError when uv
    fails.
    """
    from bedplate.image.python_lock import find_uv, make_python_lock
    from bedplate.image.wheels import find_wheel_directories

    rows = read_stack() if catalogue is None else catalogue
    layers = python_layers(record.lock, rows)
    uv = find_uv() if layers else Path()
    locks: list[PythonLock] = []
    for layer in layers:
        with progress.phase(f"lock the Python packages of layer {layer.name}"):
            locks.append(make_python_lock(layer, uv, places=find_wheel_directories()))
    directory.mkdir(parents=True, exist_ok=True)
    for lock in locks:
        if not lock.conflict:
            write_report(directory / f"{lock.layer}.txt", lock.text)
    return tuple(locks)


def python_layers(lock: StackLock, catalogue: StackCatalogue) -> tuple[PythonLayer, ...]:
    """What uv is asked for each layer that has Python packages."""
    python = {component.id for component in catalogue.components if component.python}
    releases = {(choice.release.component, choice.layer): choice.release for choice in lock.choices}
    driver = releases.get((DRIVER, ""))
    layers: list[PythonLayer] = []
    for name in dict.fromkeys(choice.layer for choice in lock.choices if choice.layer):
        pins = tuple(
            f"{component}=={release.version}"
            for (component, layer), release in releases.items()
            if layer == name and component in python
        )
        root = releases.get(("root", name))
        if pins and root is not None:
            layers.append(
                PythonLayer(
                    name=name,
                    pins=pins,
                    python=root.values("python")[-1],
                    glibc=root.values("glibc")[0],
                    driver=driver.version if driver is not None else None,
                    driver_floors=driver_floors(catalogue),
                )
            )
    return tuple(layers)


def driver_floors(catalogue: StackCatalogue) -> dict[str, str]:
    """The lowest driver by the CUDA runtime's name in the Python registry, from the same rows that the resolver reads.

    A release with the property `package` names it; the rules whose conditions it meets say which driver it needs. Of several
    releases of one name the lowest counts, since uv is told one driver for all of them.
    """
    floors: dict[str, str] = {}
    for release in catalogue.releases:
        found = _driver_floor(release, catalogue.facts)
        for package in release.values("package") if found else ():
            floors[package] = min(floors.get(package, found), found, key=version_key)
    return floors


def _driver_floor(release: StackRelease, facts: Iterable[StackFact]) -> str:
    """The highest ">=" that a rule about this component alone sets for the driver; "" for none."""
    floors = [
        bound.value
        for fact in facts
        if fact.kind is FactKind.RULE
        and all(
            condition.component == release.component and condition.holds_for(release.values(condition.name))
            for condition in fact.when
        )
        for need in fact.needs
        if need.component == DRIVER and not need.name and len(need.alternatives) == 1
        for bound in need.alternatives[0]
        if bound.operator == ">="
    ]
    return max(floors, key=version_key, default="")


def hardware_of(facts: HostFacts, catalogue: StackCatalogue) -> StackHardware:
    """The accelerators of a machine that the catalogue knows, by their PCI ids, and whether it has an NVSwitch.

    Raises UsageError for an accelerator that no row knows: it must not be left out silently.
    """
    if not facts.accelerators and not facts.pci:
        raise UsageError(
            f"{facts.origin}: lists no PCI device, so whether it has accelerators is unknown",
            hint="Name them with --accelerator DEVICE, or --accelerator none for a machine without any.",
        )
    by_id = {number: device for device in catalogue.devices for number in device.pci}
    by_address = {device.address: device for device in facts.pci}
    rows = {number: row for row in catalogue.accelerators for number in row.pci}
    found: list[StackDevice] = []
    kinds: Counter[tuple[str, str, int | None]] = Counter()
    for accelerator in facts.accelerators:
        function = by_address.get(accelerator.address or "")
        number = function.pci_id if function is not None else "unknown"
        if number not in by_id:
            raise UsageError(
                f"{accelerator.address or 'an accelerator'}: the catalogue has no device with the PCI id {number}",
                hint="Add a row to a file in /etc/bedplate/catalog.d (docs/how-to/stack-rows.md), or name --accelerator.",
            )
        if by_id[number] not in found:
            found.append(by_id[number])
        row = rows.get(number)
        kinds[by_id[number].id, number if row is not None else "", accelerator.memory_bytes.value] += 1
    devices = {device.id: device for device in found}
    counted = tuple(
        count_accelerators(devices[id], rows.get(number), count, memory_bytes=memory_bytes)
        for (id, number, memory_bytes), count in kinds.items()
    )
    properties = {"gpu": gpu_vendors(found)}
    if any(is_nvswitch(device) for device in facts.pci):
        properties["nvswitch"] = ("yes",)
    return StackHardware(accelerators=tuple(found), counted=counted, properties=properties)


def _judge_models(wish: StackWish, hardware: StackHardware, drop_ins: Path | None) -> tuple[JudgedModel, ...]:
    """The models of the wish that the catalogue has: their formats, and the engines that cannot hold them in the machine."""
    if not wish.models:
        return ()
    rows = read_model_rows(read_drop_ins(RowKind.MODELS, drop_ins))
    by_name = {name.lower(): row for row in rows for name in (row.id, *row.names)}
    engines = read_fit_engines()
    on_cpu = {engine.id for engine in engines.engine if engine.on_cpu}
    several_hosts = hardware.properties.get("nodes", ("1",)) != ("1",)
    counted = () if several_hosts else hardware.counted  # the arithmetic is that of one host
    judged: list[JudgedModel] = []
    for name in dict.fromkeys(wish.models):
        row = by_name.get(name.lower())
        if row is None:  # a file, or a model that nothing is known of
            continue
        model = make_row_model(row, engines.precision)
        loaders = {engine for choice in model.weights for engine in choice.engines}
        formats = [SAFETENSORS] * bool(loaders - on_cpu) + [GGUF] * bool(loaders & on_cpu)
        conflicts = judge_memory(name, model, counted, engines.engine)
        judged.append(JudgedModel(name=name, formats=tuple(formats), conflicts=conflicts))
    return tuple(judged)


def _hardware(file: WishFile, recording: Path | None, rows: StackCatalogue) -> StackHardware:
    named = file.accelerators
    if recording is None and (named is None or THIS_HOST not in named):
        return make_hardware(named, file.host, rows)
    if named is not None and set(named) != {THIS_HOST}:
        raise UsageError(
            f"accelerators: got {', '.join(named)}, and those of a machine as well",
            hint=f"Name devices, or {THIS_HOST} alone.",
        )
    machine = hardware_of(read_facts_of(recording, ()), rows)
    described = make_hardware(None, file.host, rows)
    return replace(machine, properties={**machine.properties, **described.properties})


def _merged(request: StackRequest) -> WishFile:
    file = WishFile(schema=1)
    if request.file is not None:
        file = parse_wish(read_data(request.file), name=request.file.name)
    return replace(
        file,
        engines=request.engines or file.engines,
        accelerators=file.accelerators if request.accelerators is None else request.accelerators,
        host=(*file.host, *request.host),
        models=(*file.models, *request.models),
        require=(*file.require, *request.require),
        sources=request.sources or file.sources,
        licences=request.licences or file.licences,
        policy=request.policy or file.policy,
    )


def _wish_lines(wish: StackWish, hardware: StackHardware) -> tuple[str, ...]:
    properties = [f"{name}={'/'.join(values)}" for name, values in hardware.properties.items() if name != "gpu"]
    rows: dict[str, Sequence[str]] = {
        "accelerators": _counts(hardware) or list(hardware.properties.get("gpu", ())),
        "host": properties,
        "engines": [str(condition) for condition in wish.engines],
        "one layer": ["yes"] if wish.one_layer else [],
        "models": wish.models,
        "require": [str(condition) for condition in wish.require],
        "sources": wish.sources,
        "licences": wish.licences,
        "policy": [wish.policy.value],
    }
    return tuple(f"{key}: {'; '.join(values)}" for key, values in rows.items() if values)


def _counts(hardware: StackHardware) -> list[str]:
    """The devices, "8x h100" where there are several of one."""
    counts: Counter[str] = Counter()
    for kind in hardware.counted:
        counts[kind.device] += kind.count
    return [f"{counts[device.id]}x {device.id}" if counts[device.id] > 1 else device.id for device in hardware.accelerators]
