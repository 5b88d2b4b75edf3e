"""Where a model would run: accelerators that are named, or those of this host and of a recording, and the host's memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.catalog.accelerators import find_accelerator_row, split_count
from bedplate.errors import UsageError
from bedplate.model.catalogued import AcceleratorRow, EngineRow
from bedplate.model.fit import FitTarget
from bedplate.model.serving_host import MemoryBudget
from bedplate.plan.limits import usable_bytes

if TYPE_CHECKING:  # the facts of a machine take half of the time that the command may take
    from bedplate.model.facts.pci import Accelerator, PciDevice

ANY = "any"
"""In place of an accelerator's name: each of the catalog."""
ANY_COUNT = 8


def read_named_targets(text: str, engines: Sequence[EngineRow], rows: Sequence[AcceleratorRow]) -> tuple[FitTarget, ...]:
    """Targets of --on: "8xH100", "l4, 2xl40s", or "any" for eight of each. Raises UsageError listing near names."""
    targets: list[FitTarget] = []
    for part in text.split(","):
        count, name = split_count(part.strip())
        if not name:
            raise UsageError("--on: a name is empty; expected COUNTxACCELERATOR, such as 8xH100")
        if name.lower() == ANY:
            number = ANY_COUNT if part.strip().lower() == ANY else count
            targets += [_target(row, number, engines) for row in rows]
        else:
            row = find_accelerator_row(name, rows)
            targets.append(_target(row, count * row.devices_per_card, engines))
    return tuple(targets)


def _target(row: AcceleratorRow, count: int, engines: Sequence[EngineRow], *, memory_bytes: int | None = None) -> FitTarget:
    vendor = row.pci[0].partition(":")[0]
    return FitTarget(
        name=row.name,
        row=row,
        count=count,
        memory_bytes=memory_bytes or row.memory_bytes,
        engines=tuple(engine.id for engine in engines if vendor in engine.vendors),
    )


def read_host_targets(
    recording: Path | None, engines: Sequence[EngineRow], rows: Sequence[AcceleratorRow]
) -> tuple[FitTarget, ...]:
    """Accelerators of this host, or of a recording, by kind; and the host's memory. Raises ReadError."""
    if recording is None:
        # Only what is needed: all facts of a host take three times as long.
        from bedplate.host.accel import read_accelerators
        from bedplate.host.kernel.cpuinfo import read_cpuinfo
        from bedplate.host.kernel.memory import read_memory
        from bedplate.host.kernel.pci import read_pci
        from bedplate.host.root.root import Root

        root = Root()
        pci = read_pci(root)
        flags = read_cpuinfo(root).flags
        return host_targets(pci, read_accelerators(root, pci), read_memory(root), engines, rows, cpu_flags=flags)
    from bedplate.flows.machine import read_facts_of

    facts = read_facts_of(recording, ())
    memory = MemoryBudget(
        total_bytes=facts.memory.total_bytes, available_bytes=facts.memory.available_bytes, engines_bytes=0
    )
    return host_targets(facts.pci, facts.accelerators, memory, engines, rows, cpu_flags=facts.cpu.flags)


def host_targets(
    pci: Sequence[PciDevice],
    accelerators: Sequence[Accelerator],
    memory: MemoryBudget,
    engines: Sequence[EngineRow],
    rows: Sequence[AcceleratorRow],
    *,
    cpu_flags: Collection[str] = (),
) -> tuple[FitTarget, ...]:
    """The targets that a host is: one for each kind of accelerator, then its own memory for engines that compute on CPUs.

    A recording without /proc/meminfo has no memory (total_bytes 0), and so no such target.
    """
    by_id = {id: row for row in rows for id in row.pci}
    by_address = {device.address: device.pci_id for device in pci}
    kinds: Counter[tuple[str, str, int | None]] = Counter()
    for accelerator in accelerators:
        id = by_address.get(accelerator.address or "", "")
        kinds[id, accelerator.name, accelerator.memory_bytes.value] += 1
    targets: list[FitTarget] = []
    for (id, name, memory_bytes), count in kinds.items():
        row = by_id.get(id)
        if row is not None:
            targets.append(_target(row, count, engines, memory_bytes=memory_bytes))
            continue
        vendor = id.partition(":")[0]
        targets.append(
            FitTarget(
                name=name or id,
                row=None,
                count=count,
                memory_bytes=memory_bytes,
                engines=tuple(engine.id for engine in engines if vendor in engine.vendors),
                note="not in the catalog: no figure of its speed",
            )
        )
    if memory.total_bytes:
        from bedplate.host.kernel.cpuinfo import has_amx

        targets.append(_host_memory(memory, engines, amx=has_amx(cpu_flags)))
    return tuple(targets)


def _host_memory(memory: MemoryBudget, engines: Sequence[EngineRow], *, amx: bool) -> FitTarget:
    return FitTarget(
        name="memory of this host",
        row=None,
        count=1,
        memory_bytes=memory.total_bytes,
        engines=tuple(engine.id for engine in engines if engine.on_cpu),
        host_memory=True,
        amx=amx,
        reserve_bytes=max(1, memory.total_bytes - max(0, usable_bytes(memory))),
        note="computed on CPUs; how fast is not known without a measurement",
    )
