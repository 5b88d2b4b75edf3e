"""The drawn map: packages and NUMA nodes as boxes, switches and ports, and each device on the link that it has.

Read from left to right: the node's spine, the link of a port, the switch, the link below it, the device. A narrow map puts
the switch above its devices. Colours are classes of style.css; positions are computed here: the page needs no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from bedplate.model.audit_report import AuditReport
from bedplate.model.wording import plural
from bedplate.report.audit.machine import Branch, DeviceKind, DeviceView, LinkView, MachineView, NodeView, PackageView
from bedplate.report.svg import badge, box, fit, label, pair, text_width, wire

WIDE, NARROW = 1040.0, 350.0  # pixels; NARROW fits a phone of 375 with its margins
_GAP = 20.0
_PAD = 12.0
_CHIP = 38.0  # height of a device
_BETWEEN = 7.0
_TITLE, _SMALL = 12.0, 10.5  # sizes of text; style.css has the same
_SPINE = 8.0  # of a node, from its left edge
_PORT = 82.0  # room for the link of a port, and for a link below a switch
_SWITCH = 96.0
_MOST_BADGES = 3


@dataclass(slots=True)
class _Canvas:
    """Shapes in the order they are drawn, and the report that says what a mark means."""

    report: AuditReport
    narrow: bool
    shapes: list[str] = field(default_factory=list)

    def add(self, *shapes: str) -> None:
        self.shapes += shapes

    def badges(self, right: float, y: float, marks: Sequence[int]) -> float:
        """Circles that end at `right`; returns the width they took. More than fit become "+2"."""
        shown = marks if len(marks) <= _MOST_BADGES else marks[: _MOST_BADGES - 1]
        more = len(marks) - len(shown)
        x = right - 8.5
        if more:
            self.add(label(right, y + 3.6, f"+{more}", "s", anchor="end"))
            x -= 18
        for mark in reversed(shown):
            self.add(badge(x, y, mark, self.report.finding(mark).severity.value))
            x -= 19
        return right - x - 8.5 if marks else 0.0


def render_map(report: AuditReport, machine: MachineView, *, narrow: bool = False) -> str:
    """The whole SVG element; "" when there is nothing to draw."""
    named = [package for package in machine.packages if package.title]
    loose = [node for package in machine.packages if not package.title for node in package.nodes]
    panels = named + [PackageView(title="", details=(), nodes=(node,)) for node in (*loose, *machine.apart)]
    if not panels:
        return ""
    canvas = _Canvas(report=report, narrow=narrow)
    deep = any(_depth(node.branches) > 1 for panel in panels for node in panel.nodes)
    columns = 1 if narrow or deep or len(panels) == 1 else 2
    whole = NARROW if narrow else WIDE if columns == 2 or deep else WIDE * 0.62
    width = (whole - _GAP * (columns - 1)) / columns
    apart = len(named) + len(loose)
    y = 0.0
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        lone = columns == 2 and len(row) == 1
        height = max(
            _panel(canvas, place * (width + _GAP), y, whole if lone else width, panel, dashed=first + place >= apart)
            for place, panel in enumerate(row)
        )
        y += height + _GAP
    name = "narrow" if narrow else "wide"
    frame = f'viewBox="-1 -1 {whole + 2:g} {y - _GAP + 2:g}" style="max-width:{whole + 2:g}px"'
    return (
        f'<svg class="map {name}" {frame} role="img"'
        f' aria-labelledby="map-{name}-t map-{name}-d"><title id="map-{name}-t">Topology of the machine</title>'
        f'<desc id="map-{name}-d">{escape(describe(report, machine))}</desc>{"".join(canvas.shapes)}</svg>'
    )


def describe(report: AuditReport, machine: MachineView) -> str:
    """The map in words, for who cannot see it."""
    said: list[str] = []
    nodes = [(f"{package.title}, " if package.title else "", node) for package in machine.packages for node in package.nodes]
    nodes += [("", node) for node in machine.apart]
    for prefix, node in nodes:
        devices = list(_devices(node.devices, node.branches))
        counts = [(kind, sum(device.count for device in devices if device.kind is kind)) for kind in DeviceKind]
        there = ", ".join(plural(count, kind.value) for kind, count in counts if count) or "no devices"
        switches = _switches(node.branches)
        behind = f" behind {plural(switches, 'switch', 'switches')}" if switches else ""
        said.append(f"{prefix}{node.title}{': ' + ', '.join(node.details) if node.details else ''}: {there}{behind}.")
        for device in devices:
            if device.link.bad:
                said.append(f"The link of {device.label} {device.address} is bad: {device.link.text}.")
    return " ".join(said)


def _devices(devices: Sequence[DeviceView], branches: Sequence[Branch]) -> list[DeviceView]:
    return [*devices, *(device for branch in branches for device in _devices(branch.devices, branch.branches))]


def _switches(branches: Sequence[Branch]) -> int:
    return sum((branch.label == "switch") + _switches(branch.branches) for branch in branches)


def _depth(branches: Sequence[Branch]) -> int:
    return max((1 + _depth(branch.branches) for branch in branches), default=0)


def _panel(canvas: _Canvas, x: float, y: float, width: float, panel: PackageView, *, dashed: bool) -> float:
    """A package with its nodes, or a node that stands apart; returns its height."""
    at = len(canvas.shapes)
    top = y
    if panel.title:
        y = _heading(canvas, x + _PAD, y + 22, width - 2 * _PAD, panel.title, panel.details, (), "h") + 10
        for node in panel.nodes:
            y += _node(canvas, x + _PAD, y, width - 2 * _PAD, node, css="node") + _PAD
        canvas.shapes.insert(at, box(x, top, width, y - top, "package", radius=10))
        return y - top
    for node in panel.nodes:
        y += _node(canvas, x, y, width, node, css="node apart" if dashed else "node") + _PAD
    return y - top - _PAD


def _heading(
    canvas: _Canvas, x: float, y: float, room: float, title: str, details: Sequence[str], marks: Sequence[int], css: str
) -> float:
    """A title and its details, in one line where they fit; returns the last baseline."""
    title = title[:1].upper() + title[1:]
    used = canvas.badges(x + room, y - 4, marks)
    said = " · ".join(details)
    if text_width(title, _TITLE + 1.5, bold=True) + 12 + text_width(said, _SMALL) <= room - used:
        canvas.add(pair(x, y, title, said, css, "s", gap=10))
        return y
    canvas.add(label(x, y, title, css))
    for detail in details:
        y += 15
        canvas.add(label(x, y, fit(detail, room, _SMALL), "s"))
    return y


def _node(canvas: _Canvas, x: float, y: float, width: float, node: NodeView, *, css: str) -> float:
    at = len(canvas.shapes)
    top = y
    y = _heading(canvas, x + _PAD, y + 21, width - 2 * _PAD, node.title, node.details, node.marks, "n")
    begin, spine = y + 8, x + _PAD + _SPINE
    y, last = begin + 4, begin
    right = x + width - _PAD
    for branch in node.branches:
        height, entry = _branch(canvas, spine, y, right, branch)
        last = entry
        y += height + _BETWEEN + 5
    indent = _PORT + _SWITCH + _PORT if node.branches else _PORT + 18
    for device in node.devices:
        last = y + _CHIP / 2
        chip = spine + 18 if canvas.narrow else min(spine + indent, right - 200)
        _hang(canvas, spine, last, chip, right, device)
        y += _CHIP + _BETWEEN
    if last > begin:
        canvas.shapes.insert(at, wire("w", spine, begin, (spine, last)))
        y += 4
    else:
        y = begin + 4
    canvas.shapes.insert(at, box(x, top, width, y - top, css, radius=8))
    return y - top


def _branch(canvas: _Canvas, left: float, y: float, right: float, branch: Branch) -> tuple[float, float]:
    """A switch with all below it, its link coming from `left`; returns its height and where the link comes in."""
    if canvas.narrow:
        return _branch_below(canvas, left, y, right, branch)
    room = right - left
    port, width = (_PORT, _SWITCH) if room > 380 else (62.0, 74.0)
    at = len(canvas.shapes)
    x, top = left + port, y
    for device in branch.devices:
        _hang(canvas, x + width, y + _CHIP / 2, x + width + _PORT, right, device)
        y += _CHIP + _BETWEEN
    for inner in branch.branches:
        y += _branch(canvas, x + width, y, right, inner)[0] + _BETWEEN
    height = max(y - _BETWEEN - top, _CHIP)
    entry = top + height / 2
    canvas.shapes.insert(at, box(x, top, width, height, "switch"))
    _link(canvas, left, entry, x, branch.link)
    canvas.add(label(x + 9, top + 16, branch.label[:1].upper() + branch.label[1:], "t"))
    canvas.add(label(x + 9, top + 30, branch.address, "s"))
    line = top + 44
    for words in _wrapped(branch.name, width - 16):
        if line > top + height - 6:
            break
        canvas.add(label(x + 9, line, words, "s"))
        line += 13
    canvas.badges(x + width - 6, top + 12, branch.marks)
    canvas.add(f"<g><title>{escape(f'{branch.label} {branch.address} {branch.name}')}</title></g>")
    return height, entry


def _branch_below(canvas: _Canvas, left: float, y: float, right: float, branch: Branch) -> tuple[float, float]:
    """The narrow form: the switch as a bar, its devices under it."""
    x, top, bar = left + 14, y, 40.0
    entry = top + bar / 2
    canvas.add(wire(_wire_class(canvas, branch.link), left, entry, (x, entry)))
    canvas.add(box(x, top, right - x, bar, "switch"))
    used = canvas.badges(right - 8, top + 13, (*branch.link.marks, *branch.marks))
    title = f"{branch.label[:1].upper()}{branch.label[1:]} {branch.address}"
    canvas.add(label(x + 9, top + 16, fit(title, right - x - 24 - used, _TITLE), "t"))
    said = " · ".join(part for part in (branch.link.text.replace(" x", " ×"), branch.name) if part)
    canvas.add(label(x + 9, top + 31, fit(said, right - x - 18, _SMALL), _text_class(canvas, branch.link)))
    spine, last = x + _SPINE, top + bar
    y += bar + _BETWEEN
    at = len(canvas.shapes)
    for device in branch.devices:
        last = y + _CHIP / 2
        _hang(canvas, spine, last, spine + 14, right, device)
        y += _CHIP + _BETWEEN
    for inner in branch.branches:
        height, last = _branch(canvas, spine, y, right, inner)
        y += height + _BETWEEN
    canvas.shapes.insert(at, wire("w", spine, top + bar, (spine, last)))
    return y - _BETWEEN - top, entry


def _hang(canvas: _Canvas, left: float, y: float, x: float, right: float, device: DeviceView) -> None:
    """A device and the link that it hangs on."""
    if canvas.narrow:
        canvas.add(wire(_wire_class(canvas, device.link), left, y, (x, y)))
    else:
        _link(canvas, left, y, x, device.link)
    _chip(canvas, x, y - _CHIP / 2, right - x, device)


def _link(canvas: _Canvas, left: float, y: float, right: float, link: LinkView) -> None:
    """A line with speed and width above it, what it could be below it, and the findings on it."""
    canvas.add(wire(_wire_class(canvas, link), left, y, (right, y)))
    now, _, able = link.text.replace(" x", " ×").replace("x", "×", link.text.startswith("x")).partition(", can ")
    css, middle, room = _text_class(canvas, link), (left + right) / 2, right - left - 4
    canvas.add(label(middle, y - 5 if not link.marks else y - 11, fit(now, room, _SMALL), css, anchor="middle"))
    if able:
        canvas.add(
            label(middle, y + 12 if not link.marks else y + 19, fit(f"of {able}", room, _SMALL), css, anchor="middle")
        )
    shown = min(len(link.marks), _MOST_BADGES)
    canvas.badges(middle + 9.5 * shown - 1, y, link.marks)


def _wire_class(canvas: _Canvas, link: LinkView) -> str:
    worst = canvas.report.worst(link.marks) if link.bad else None
    return f"w bad {worst.value}" if worst is not None else "w"


def _text_class(canvas: _Canvas, link: LinkView) -> str:
    worst = canvas.report.worst(link.marks) if link.bad else None
    return f"s bad {worst.value}" if worst is not None else "s"


def _chip(canvas: _Canvas, x: float, y: float, width: float, device: DeviceView) -> None:
    """A device: its label and name, below them its address and what else is known."""
    marks = (*device.link.marks, *device.marks) if canvas.narrow else device.marks
    worst = canvas.report.worst(device.marks)
    css = f"chip {device.kind.name.lower()}" + (f" bad {worst.value}" if worst is not None else "")
    link = device.link.text.replace(" x", " ×") if canvas.narrow else ""
    second = " · ".join(part for part in (device.address, *device.details, link) if part)
    whole = " ".join(part for part in (device.label, device.name, second) if part)
    canvas.add(f"<g><title>{escape(whole)}</title>", box(x, y, width, _CHIP, css))
    used = canvas.badges(x + width - 7, y + 12, marks)
    brand = device.name
    if device.kind in (DeviceKind.GPU, DeviceKind.FABRIC):
        brand = brand.removeprefix("NVIDIA ").removeprefix("AMD ").removesuffix("NVSwitch")
    name = fit(device.label, width - 18 - used, _TITLE)
    room = width - 25 - text_width(name, _TITLE, bold=True) - used
    canvas.add(pair(x + 9, y + 16, name, fit(brand, room, _TITLE), "t", "d"))
    canvas.add(
        label(x + 9, y + 31, fit(second, width - 16, _SMALL), _text_class(canvas, device.link) if link else "s"), "</g>"
    )


def _wrapped(text: str, room: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", _SMALL) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(fit(word, room, _SMALL))
    return lines
