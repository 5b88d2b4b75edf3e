"""`bedplate inspect`: the machine on one screen, with the numbers of its findings where they are.

Every line wraps under its own branch, so that 40 columns lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown
from bedplate.model.facts.system import CgroupFacts, EngineProcess
from bedplate.model.wording import plural, render_cpus
from bedplate.report.audit.machine import (
    Branch,
    DeviceKind,
    DeviceView,
    LinkView,
    MachineView,
    NodeView,
    headline,
    make_machine,
)
from bedplate.report.audit.texts import conflict_words, read_words, unread_words
from bedplate.report.format import clean, counted, memory, shown
from bedplate.report.terminal import Screen, Word, lay, prose


@dataclass(frozen=True, slots=True, kw_only=True)
class _Twig:
    """One line of the tree and what hangs below it."""

    words: tuple[Word, ...]
    below: tuple[_Twig, ...] = ()


def render_tree(report: AuditReport, screen: Screen) -> str:
    """The whole screen, with a line end after the last line."""
    facts = report.facts
    words = [Word(text=part, style="bold" if number == 0 else "") for number, part in enumerate(headline(facts))]
    lines = lay(screen, [*words, *_marks(report, report.by_place.get("machine", ()))])
    if facts.origin != "live":
        lines += lay(screen, [Word(text=f"recorded: {clean(facts.origin)}", style="dim")])
    for label, words_of_text in (("read", read_words(facts)), ("not read", unread_words(facts))):
        if words_of_text:
            lines += prose(screen, f"{label}: {words_of_text}", rest="  ", style="dim")
    for conflict in conflict_words(facts):
        lines += prose(screen, f"contradiction: {conflict}", rest="  ")
    lines.append("")
    for twig in _twigs(report, make_machine(report)):
        lines += _draw(screen, twig, "", "", top=True)
    lines += _system(report, screen)
    lines += _engines(report, screen)
    lines += _legend(report, screen)
    return "\n".join(lines) + "\n"


def _draw(screen: Screen, twig: _Twig, first: str, rest: str, *, top: bool = False) -> list[str]:
    tee, elbow, bar = ("├─ ", "└─ ", "│  ") if screen.utf8 else ("|- ", "`- ", "|  ")
    inner = rest + (bar if twig.below else "   ")
    lines = lay(screen, twig.words, first=first, rest=inner)
    for number, child in enumerate(twig.below):
        last = number == len(twig.below) - 1
        lines += _draw(screen, child, rest + (elbow if last else tee), rest + ("   " if last else bar))
    return lines


def _twigs(report: AuditReport, machine: MachineView) -> Iterable[_Twig]:
    for package in machine.packages:
        nodes = tuple(_node(report, node) for node in package.nodes)
        if package.title:
            yield _Twig(words=(Word(text=package.title, style="bold"), *_plain(package.details)), below=nodes)
        else:
            yield from nodes
    for node in machine.apart:
        yield _node(report, node)


def _node(report: AuditReport, node: NodeView) -> _Twig:
    below = [_branch(report, branch) for branch in node.branches] + [_device(report, device) for device in node.devices]
    words = (Word(text=node.title, style="bold"), *_marks(report, node.marks), *_plain(node.details))
    return _Twig(words=words, below=tuple(below))


def _branch(report: AuditReport, branch: Branch) -> _Twig:
    words = (
        Word(text=f"{branch.label} {branch.address}"),
        *_marks(report, branch.marks),
        *_plain((branch.name,), style="dim"),
        *_link(report, branch.link),
    )
    below = [_device(report, device) for device in branch.devices] + [_branch(report, inner) for inner in branch.branches]
    return _Twig(words=words, below=tuple(below))


def _device(report: AuditReport, device: DeviceView) -> _Twig:
    words = (
        Word(text=device.label, style="bold" if device.kind is DeviceKind.GPU else ""),
        *_marks(report, device.marks),
        *_plain((device.name,)),
        *_plain((device.address,), style="dim"),
        *_plain(device.details),
        *_link(report, device.link),
    )
    return _Twig(words=words)


def _link(report: AuditReport, link: LinkView) -> Iterable[Word]:
    if link.text:
        worst = report.worst(link.marks) if link.bad else None
        yield Word(text=link.text, style=worst.value if worst is not None else "dim")
    yield from _marks(report, link.marks)


def _marks(report: AuditReport, marks: Sequence[int]) -> Iterable[Word]:
    for mark in marks:
        yield Word(text=f"[{mark}]", style=report.finding(mark).severity.value)


def _plain(texts: Iterable[str], *, style: str = "") -> Iterable[Word]:
    return (Word(text=text, style=style) for text in texts if text)


def _system(report: AuditReport, screen: Screen) -> list[str]:
    facts = report.facts
    rows: list[tuple[str, list[Word]]] = [
        ("memory", list(_plain(_memory(facts)))),
        ("kernel", list(_plain(_kernel(facts)))),
        ("system", list(_plain(_system_words(facts)))),
        ("cgroup", list(_plain(_cgroup(facts.cgroup)))),
    ]
    lines = [""]
    for name, words in rows:
        if words:
            lines += lay(screen, words, first=f"{name:<9}", rest=" " * 9)
    return lines if len(lines) > 1 else []


def _memory(facts: HostFacts) -> Iterable[str]:
    one = facts.memory
    if not one.total_bytes:
        return
    if one.available_bytes:  # /proc/meminfo was there; another program's recording may say the size only
        yield f"{memory(one.total_bytes)}, {memory(one.available_bytes)} available"
        yield f"swap {memory(one.swap_total_bytes)}" if one.swap_total_bytes else "no swap"
    else:
        yield memory(one.total_bytes)
    if one.thp.value is not None:
        yield f"transparent huge pages {clean(one.thp.value)}"
    for size, total, free in one.huge_pages:
        if total:
            yield f"{total} huge pages of {memory(size)}, {free} free"


def _kernel(facts: HostFacts) -> Iterable[str]:
    kernel = facts.kernel
    if kernel.release.value is None:
        return
    yield clean(kernel.release.value)
    if kernel.next_release.value not in (None, kernel.release.value):
        yield f"next boot: {clean(kernel.next_release.value or '')}"
    if facts.cpu.driver.value is not None and facts.cpu.governors:
        governors = ", ".join(f"{clean(name)} ({count})" for name, count in facts.cpu.governors)
        yield f"{clean(facts.cpu.driver.value)}, governor {governors}"
    if kernel.clocksource.value is not None:
        yield f"clock {clean(kernel.clocksource.value)}"
    if facts.cpu.isolated:
        yield f"isolated CPUs {render_cpus(facts.cpu.isolated)}"


def _system_words(facts: HostFacts) -> Iterable[str]:
    yield clean(facts.os.pretty_name)
    for name, reading in (("", facts.os.virtualisation), ("container ", facts.os.container), ("", facts.os.tee)):
        if reading.value not in (None, "none"):
            yield f"{name}{clean(reading.value or '')}"
    if facts.os.virtualisation.value == "none":
        yield "bare metal"


def _cgroup(cgroup: CgroupFacts) -> Iterable[str]:
    if cgroup.version == 0:
        return
    yield f"v{cgroup.version} {clean(cgroup.path)}"
    if cgroup.cpus.value is not None:
        yield f"CPUs {render_cpus(cgroup.cpus.value)}"
    yield _bound("CPU quota", cgroup.quota_cpus, "{:g} CPUs".format)
    yield _bound("memory limit", cgroup.memory_max_bytes, memory)
    if cgroup.throttled_s.value:
        yield f"throttled {cgroup.throttled_s.value:.1f} s"


def _bound(name: str, reading: Reading[Any], say: Callable[[Any], str]) -> str:
    """A limit; its absence is a fact of its own, and is not the same as not knowing it."""
    if reading.value is not None:
        return f"{name} {say(reading.value)}"
    return f"no {name}" if reading.unknown is Unknown.ABSENT else f"{name} {shown(reading)}"


def _engines(report: AuditReport, screen: Screen) -> list[str]:
    lines: list[str] = []
    for engine in report.facts.engines:
        words = [Word(text=part) for part in _engine(engine)]
        marks = list(_marks(report, report.by_place.get(f"pid {engine.pid}", ())))
        name = Word(text=f"{clean(engine.engine)} {engine.pid}", style="bold")
        lines += lay(screen, [name, *marks, *words], first=f"{'engine':<9}", rest=" " * 9)
    return lines


def _engine(engine: EngineProcess) -> Iterable[str]:
    yield plural(len(engine.threads), "thread")
    yield memory(engine.rss_bytes)
    if engine.swap_bytes:
        yield f"{memory(engine.swap_bytes)} swapped out"
    if engine.cgroup.quota_cpus.value is not None:
        yield f"quota {engine.cgroup.quota_cpus.value:g} CPUs"
    yield " ".join(map(clean, engine.devices)) or ("no accelerator open" if engine.devices_known else "devices unknown")
    yield from (clean(path) for path in engine.model_paths[:2])


def _legend(report: AuditReport, screen: Screen) -> list[str]:
    """What the numbers mean; findings that are nowhere in the tree stand here too."""
    unknown = f" {len(report.audit.not_judged)} could not be judged." if report.audit.not_judged else ""
    if not report.findings:
        return ["", *prose(screen, f"No findings.{unknown}", style="" if unknown else "good")]
    lines = [""]
    for number, finding in enumerate(report.findings, 1):
        style = finding.severity.value
        head = (Word(text=f"[{number}]", style=style), Word(text=style, style=style))
        if screen.width < 60:
            lines += lay(screen, head)
            lines += prose(screen, clean(finding.title), first="    ", rest="    ")
        else:
            column = 6 + 10
            padding = " " * (column - len(f"[{number}]") - 1 - len(style))
            first, *others = prose(screen, clean(finding.title), first=" " * column, rest=" " * column)
            lines += [lay(screen, head, gap=" ")[0] + padding + first[column:], *others]
    lines += [
        "",
        *prose(screen, f"{counted(report.counts)}.{unknown} bedplate doctor has evidence, effect and fix.", style="dim"),
    ]
    return lines
