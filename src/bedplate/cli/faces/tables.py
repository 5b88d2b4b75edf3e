"""The facts as folded tables for the page: each value, or why there is none, and the file that said it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bedplate.cli.faces.words import clean, cpu_list, link_words, memory, plural, shown
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import PciDevice
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.facts.system import EngineProcess

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
            (f"L{one.level}", one.kind, memory(one.size_bytes), cpu_list(one.cpus)) for one in facts.cpu.caches
        ]),
        _grid("NUMA nodes", ("node", "memory", "free", "CPUs", "distances", "source"), [
            (
                one.node, _size(one.mem_bytes), _size(one.free_bytes), cpu_list(one.cpus) or "none",
                " ".join(map(str, one.distances)), facts.numa.source,
            )
            for one in facts.numa.nodes
        ]),
        _fold("Memory", memory(facts.memory.total_bytes), _rows(facts.memory)) if facts.memory.total_bytes else "",
        _fold("Kernel", clean(facts.kernel.release.value or ""), _rows(facts.kernel)),
        _fold("System", clean(facts.os.pretty_name), _rows(facts.os)),
        _fold("Cgroup and limits", clean(facts.cgroup.path), [*_rows(facts.cgroup), *(
            (f"limit of {name}", "unlimited" if value is None else value, "") for name, value in facts.limits
        )]) if facts.cgroup.version or facts.limits else "",
        _grid("Pressure", ("resource", "some, 60 s", "full, 60 s"), [
            (one.resource, f"{one.some_avg60:g} %", "" if one.full_avg60 is None else f"{one.full_avg60:g} %")
            for one in facts.pressure
        ]),
        *(
            _fold(f"GPU {one.index}", clean(one.name), _rows(one, skip=("index", "name")))
            for one in facts.accelerators
        ),
        _grid("PCI devices", ("address", "name", "kind", "driver", "node", "link", "ACS redirect", "source"), [
            _pci(one) for one in facts.pci
        ]),
        _grid("Network devices", ("name", "driver", "PCI", "speed", "node", "queues", "RDMA", "source"), [
            (
                one.name, shown(one.driver), one.address or "", shown(one.speed_mbps), shown(one.numa_node),
                f"{one.rx_queues} rx, {one.tx_queues} tx", " ".join(one.rdma), one.driver.source,
            )
            for one in facts.network
        ]),
        _grid("Block devices", ("name", "model", "PCI", "size", "scheduler", "read-ahead", "queues", "mounted", "source"), [
            (
                one.name, one.model, one.address or "", memory(one.size_bytes), shown(one.scheduler),
                _bytes(one.read_ahead_bytes), one.queues, " ".join(one.mounts), one.scheduler.source,
            )
            for one in facts.blocks
        ]),
        _grid("Mounts", ("point", "source", "kind", "options"), [
            (one.point, one.source, one.kind, ",".join(one.options)) for one in facts.mounts
        ]),
        *(_fold(f"Engine {clean(one.engine)}", f"process {one.pid}", _engine(one)) for one in facts.engines),
        _knobs(facts.knobs),
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _pci(one: PciDevice) -> tuple[object, ...]:
    acs = one.acs.value
    redirect = shown(one.acs) if acs is None else "on" if acs.request_redirect or acs.completion_redirect else "off"
    name = one.name or f"{one.vendor:04x}:{one.device:04x}"
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
    there = [one for one in knobs if one.value is not None]
    rows = [(one.source, one, "") for one in sorted(knobs, key=lambda one: (one.value is None, one.source))]
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
        return cpu_list(values)
    said = [" ".join(_one(part) for part in one) if isinstance(one, tuple) else str(one) for one in values[:_MOST_NAMES]]
    more = f" and {len(values) - _MOST_NAMES} more" if len(values) > _MOST_NAMES else ""
    return (", " if any(isinstance(one, tuple) for one in values) else " ").join(said) + more


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
    head = "<thead><tr>" + "".join(f"<th>{escape(one)}</th>" for one in columns) + "</tr></thead>"
    lines = [
        "<tr>"
        + "".join(
            f"<td{' class=' + chr(34) + 'source' + chr(34) if column == 'source' else ''}>{_safe(str(one))}</td>"
            for column, one in zip(columns, row, strict=True)
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
