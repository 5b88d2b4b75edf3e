"""The facts as folded tables for the page: each value, or why there is none, and the file that said it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import PciDevice
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.facts.stack import InstalledStack, PythonEnvironment
from bedplate.model.facts.system import EngineProcess
from bedplate.model.wording import plural, render_cpus
from bedplate.report.format import clean, link_words, memory, shown

_MOST = 400  # rows of one table: a page is read by people, --json has them all
_MOST_NAMES = 60  # names in one cell

Row = tuple[str, Any, str]
"""(fact, value or Reading, source)"""


def render_tables(facts: HostFacts) -> str:
    """All facts, one <details> a subject; subjects about which nothing was read are not there."""
    cpu_rows = _rows(facts.cpu, skip=("cpus", "caches")) if facts.cpu.online else []
    parts = [
        _fold("Processors", plural(len(facts.cpu.online), "CPU"), cpu_rows),
        _grid("Caches", ("level", "kind", "size", "CPUs"), [
            (f"L{cache.level}", cache.kind, memory(cache.size_bytes), render_cpus(cache.cpus)) for cache in facts.cpu.caches
        ]),
        _grid("NUMA nodes", ("node", "memory", "free", "CPUs", "distances", "source"), [
            (
                node.node, _size(node.mem_bytes), _size(node.free_bytes), render_cpus(node.cpus) or "none",
                " ".join(map(str, node.distances)), facts.numa.source,
            )
            for node in facts.numa.nodes
        ]),
        _fold("Memory", memory(facts.memory.total_bytes), _rows(facts.memory)) if facts.memory.total_bytes else "",
        _fold("Kernel", clean(facts.kernel.release.value or ""), _rows(facts.kernel)),
        _fold("System", clean(facts.os.pretty_name), _rows(facts.os)),
        _fold("Cgroup and limits", clean(facts.cgroup.path), [*_rows(facts.cgroup), *(
            (f"limit of {name}", "unlimited" if value is None else value, "") for name, value in facts.limits
        )]) if facts.cgroup.version or facts.limits else "",
        _grid("Pressure", ("resource", "some, 60 s", "full, 60 s"), [
            (row.resource, f"{row.some_avg60:g} %", "" if row.full_avg60 is None else f"{row.full_avg60:g} %")
            for row in facts.pressure
        ]),
        *(
            _fold(f"GPU {accelerator.index}", clean(accelerator.name), _rows(accelerator, skip=("index", "name")))
            for accelerator in facts.accelerators
        ),
        _grid("PCI devices", ("address", "name", "kind", "driver", "node", "link", "ACS redirect", "source"), [
            _pci(device) for device in facts.pci
        ]),
        _grid("Network devices", ("name", "driver", "PCI", "speed", "node", "queues", "RDMA", "source"), [
            (
                device.name, shown(device.driver), device.address or "", shown(device.speed_mbps), shown(device.numa_node),
                f"{device.rx_queues} rx, {device.tx_queues} tx", " ".join(device.rdma), device.driver.source,
            )
            for device in facts.network
        ]),
        _grid("Block devices", ("name", "model", "PCI", "size", "scheduler", "read-ahead", "queues", "mounted", "source"), [
            (
                device.name, device.model, device.address or "", memory(device.size_bytes), shown(device.scheduler),
                _bytes(device.read_ahead_bytes), device.queues, " ".join(device.mounts), device.scheduler.source,
            )
            for device in facts.blocks
        ]),
        _grid("Mounts", ("point", "source", "kind", "options"), [
            (mount.point, mount.source, mount.kind, ",".join(mount.options)) for mount in facts.mounts
        ]),
        *(_fold(f"Engine {clean(engine.engine)}", f"process {engine.pid}", _engine(engine)) for engine in facts.engines),
        *_stack(facts.stack),
        _knobs(facts.knobs),
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _stack(stack: InstalledStack) -> Iterable[str]:
    """What is installed: packages, sources, modules, the driver's files, Python environments."""
    packages = stack.packages.value or ()
    yield _grid("Packages of the stack", ("name", "version", "architecture", "state"), [
        (package.name, package.version, package.architecture, f"{package.want} {package.state}") for package in packages
    ])  # fmt: skip
    yield _grid("Sources of packages", ("file", "URI", "suite", "enabled"), [
        (source.file, source.uri, source.suite, "yes" if source.enabled else "no") for source in stack.sources.value or ()
    ])  # fmt: skip
    yield _grid("Modules of dkms", ("module", "version", "kernel", "state", "source"), [
        (build.module, build.version, build.release, build.state.value, build.source)
        for module in stack.dkms.value or () for build in module.builds
    ])  # fmt: skip
    yield _grid("GPU modules on disk", ("module", "version", "built for", "firmware", "source"), [
        (
            module.name, shown(module.version), shown(module.vermagic),
            "not known" if module.firmware_missing is None else f"{len(module.firmware_missing)} files missing", module.path,
        )
        for module in stack.module_files
    ])  # fmt: skip
    yield _grid("Driver libraries and CUDA", ("what", "version", "source"), [
        *((library.name, library.version, library.path) for library in stack.libraries),
        *(("CUDA toolkit", shown(toolkit.version), toolkit.path) for toolkit in stack.toolkits),
    ])  # fmt: skip
    yield _grid("Python environments", ("path", "torch", "built for", "packages", "GPU code"), [
        (
            environment.path,
            environment.torch.version if environment.torch is not None else "",
            _built_for(environment),
            ", ".join(f"{package.name} {package.version}" for package in environment.packages),
            ", ".join(sorted({name for code in environment.code for name in code.architectures})),
        )
        for environment in stack.environments
    ])  # fmt: skip


def _built_for(environment: PythonEnvironment) -> str:
    torch = environment.torch
    if torch is None:
        return ""
    return f"CUDA {torch.cuda}" if torch.cuda else f"HIP {torch.hip}" if torch.hip else "the CPU"


def _pci(one: PciDevice) -> tuple[object, ...]:
    acs = one.acs.value
    redirect = shown(one.acs) if acs is None else "on" if acs.request_redirect or acs.completion_redirect else "off"
    name = one.name or one.pci_id
    return (
        one.address, name, one.kind.value, shown(one.driver), shown(one.numa_node), link_words(one.link), redirect,
        one.numa_node.source,
    )  # fmt: skip


def _engine(one: EngineProcess) -> Iterable[Row]:
    yield "command line", " ".join(one.argv), f"/proc/{one.pid}/cmdline"
    yield "threads", len(one.threads), f"/proc/{one.pid}/task"
    yield "memory", memory(one.rss_bytes), f"/proc/{one.pid}/status"
    for node, size in one.numa_bytes:
        yield f"memory on node {node}", memory(size), f"/proc/{one.pid}/numa_maps"
    waited = sum(thread.wait_s for thread in one.threads)
    yield "waited for a CPU", f"{waited:.1f} s, ran {sum(thread.run_s for thread in one.threads):.1f} s", "schedstat"
    yield "accelerator files open", (" ".join(one.devices) or "none") if one.devices_known else "unknown", "fd"
    yield from ((f"cgroup: {name}", value, source) for name, value, source in _rows(one.cgroup))


def _knobs(knobs: Sequence[Reading[str]]) -> str:
    there = [reading for reading in knobs if reading.value is not None]
    rows = [
        (reading.source, reading, "")
        for reading in sorted(knobs, key=lambda reading: (reading.value is None, reading.source))
    ]
    return _fold("Settings", f"{len(there)} of {len(knobs)} are there", rows) if knobs else ""


def _rows(value: Any, *, skip: Sequence[str] = ()) -> list[Row]:
    """The fields of a dataclass, by their own names."""
    rows: list[Row] = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if field.name in skip or held is None or held == () or held == "":
            continue
        name = field.name.removesuffix("_bytes").replace("_", " ")
        if isinstance(held, Reading):
            text: Any = held
            if field.name.endswith("_bytes") and isinstance(held.value, int):
                text = memory(held.value)
            rows.append((name, text, held.source))
        elif isinstance(held, tuple):
            rows.append((name, _several(field.name, held), ""))
        elif field.name.endswith("_bytes") and isinstance(held, int):
            rows.append((name, memory(held), ""))
        else:
            rows.append((name, held, ""))
    return rows


def _several(name: str, values: tuple[Any, ...]) -> str:
    if name in ("isolated", "nohz_full", "local_cpus"):
        return render_cpus(values)
    said = [
        " ".join(_one(part) for part in value) if isinstance(value, tuple) else str(value) for value in values[:_MOST_NAMES]
    ]
    more = f" and {len(values) - _MOST_NAMES} more" if len(values) > _MOST_NAMES else ""
    return (", " if any(isinstance(value, tuple) for value in values) else " ").join(said) + more


def _one(part: Any) -> str:
    return ",".join(map(str, part)) if isinstance(part, tuple) else str(part)


def _size(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else memory(size_bytes)


def _bytes(reading: Reading[int]) -> str:
    return memory(reading.value) if reading.value is not None else shown(reading)


def _fold(title: str, about: str, rows: Iterable[Row]) -> str:
    rows = list(rows)
    if all(isinstance(value, Reading) and value.unknown is Unknown.NOT_RECORDED for _, value, _ in rows):
        return ""
    lines: list[str] = []
    for name, value, source in rows:
        unknown = isinstance(value, Reading) and value.value is None
        text = shown(value) if isinstance(value, Reading) else _word(value)
        css = ' class="unknown"' if unknown else ""
        lines.append(
            f'<tr><th scope="row">{_safe(name)}</th><td{css}>{_safe(text)}</td><td class="source">{_safe(source)}</td></tr>'
        )
    head = "<thead><tr><th>fact</th><th>value</th><th>source</th></tr></thead>"
    return _details(title, about, head, lines)


def _grid(title: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> str:
    if not rows:
        return ""
    head = "<thead><tr>" + "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr></thead>"
    lines = [
        "<tr>"
        + "".join(
            f"<td{' class=' + chr(34) + 'source' + chr(34) if column == 'source' else ''}>{_safe(str(cell))}</td>"
            for column, cell in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    ]
    return _details(title, str(len(rows)), head, lines)


def _details(title: str, about: str, head: str, lines: Sequence[str]) -> str:
    more = f"<p>{len(lines) - _MOST} more rows: bedplate inspect --json has all.</p>" if len(lines) > _MOST else ""
    return (
        f"<details><summary>{_safe(title)}<span>{_safe(about)}</span></summary>"
        f'<div class="inside"><div class="scroll"><table>{head}<tbody>{"".join(lines[:_MOST])}</tbody></table></div>'
        f"{more}</div></details>"
    )


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _safe(text: str) -> str:
    return escape(clean(text))
