"""A knob, a finding or a message of the kernel's log as a page for a terminal, as a line of a list, and as JSON."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bedplate.model.audit import FindingRow
from bedplate.model.kernel_log_row import Fault, KernelLogRow, Remedy, RemedySteps
from bedplate.model.knob import Check, Grade, Knob
from bedplate.model.knob_value import Compare

GRADES = {
    Grade.A: "controlled A/B or bisect, mostly on inference",
    Grade.B: "measured nearby, production practice, or a strong field report",
    Grade.C: "advice of a vendor or of the documentation, without numbers",
    Grade.N: "no evidence found",
}
WIDEST = 110
"""Columns that are read easily."""
_LABEL = 13


def render_entry(
    row: Knob | FindingRow | KernelLogRow, knobs: Sequence[Knob], steps: Iterable[RemedySteps], *, style: Style
) -> str:
    """What the catalog says of a row of any kind, without a line end after the last line."""
    if isinstance(row, Knob):
        return render_knob(row, knobs, style=style)
    if isinstance(row, KernelLogRow):
        return render_kernel_row(row, steps, style=style)
    return render_finding(row, knobs, style=style)


def render_knob(knob: Knob, knobs: Iterable[Knob], *, style: Style | None = None) -> str:
    """The row as a page for a terminal; style None is plain text at the widest."""
    style = style or Style(width=WIDEST, colour=False)
    wrong = [f"{form.id}: {form.name}" for form in knobs if form.knob == knob.id]
    words = [f"Only where {', '.join(knob.when)}."] if knob.when else []
    fields: list[tuple[str, Iterable[str]]] = [
        ("interface", [f"{', '.join(knob.interface)} ({knob.kind})"]),
        ("problem", [knob.problem]),
        ("why", [knob.why]),
        ("applies", [" ".join([knob.applies, *words])]),
        ("wanted", [knob.wanted]),
        ("instead", [knob.instead] if knob.instead else []),
        ("verdict", [f"{knob.verdict} ({knob.verdict_note})"]),
        ("effect", [f"{knob.effect}."] if knob.effect else []),
        ("evidence", [f"{knob.grade}, {GRADES[knob.grade]}. {knob.evidence}"]),
        ("sources", knob.sources),
        ("unchecked", [knob.unchecked] if knob.unchecked else []),
        ("risk", [knob.risk] if knob.risk else []),
        ("needs", [", ".join(knob.needs)] if knob.needs else []),
        ("persists", [knob.persist] if knob.persist else []),
        ("undo", [knob.reversible, *knob.undo]),
        ("fix", knob.fix),
        ("read", [render_check(check) for check in knob.check] or [_unread(knob)]),
        ("conflicts", [", ".join(knob.conflicts)] if knob.conflicts else []),
        ("wrong form of", [knob.knob] if knob.knob else []),
        ("wrong forms", wrong),
        ("see also", [", ".join(_findings(knob))] if _findings(knob) else []),
    ]
    return "\n".join([style.bold(knob.id), *textwrap.wrap(knob.name, max(10, style.width)), "", *_fields(fields, style)])


def render_finding(row: FindingRow, knobs: Iterable[Knob], *, style: Style | None = None) -> str:
    """A finding of the audit as a page for a terminal; style None is plain text at the widest."""
    style = style or Style(width=WIDEST, colour=False)
    about = [knob.id for knob in knobs if row.id in _findings(knob)]
    fields: list[tuple[str, Iterable[str]]] = [
        ("means", [row.means]),
        ("why", [row.why]),
        ("effect", [row.effect]),
        ("sources", row.sources),
        ("severity", [" or ".join(row.severities)]),
        ("check by hand", row.check),
        ("knobs", [", ".join(about)] if about else []),
    ]
    return "\n".join([style.bold(row.id), *textwrap.wrap(row.title, max(10, style.width)), "", *_fields(fields, style)])


FAULTS = {
    Fault.HARDWARE: "the hardware: device, slot, cable, power or cooling",
    Fault.DRIVER: "the driver, its firmware or the kernel",
    Fault.APPLICATION: "the program that used the device",
    Fault.SETUP: "the configuration of the machine",
    Fault.UNKNOWN: "not shown by the message alone",
}
REMEDIES = {
    Remedy.NOTHING: "nothing",
    Remedy.RESTART_APPLICATION: "restart the application",
    Remedy.DRAIN_AND_RESET: "move the work away and reset the device",
    Remedy.REBOOT: "move the work away and reboot",
    Remedy.POWER_CYCLE: "move the work away and switch the power off and on",
    Remedy.CHECK_HARDWARE: "look at the hardware",
    Remedy.REPLACE: "move the work away and replace the part",
    Remedy.CONFIGURE: "change the configuration",
    Remedy.REPORT: "report it to the vendor",
}


def render_kernel_row(row: KernelLogRow, steps: Iterable[RemedySteps], *, style: Style | None = None) -> str:
    """A message or code of the kernel's log as a page for a terminal; style None is plain text at the widest."""
    style = style or Style(width=WIDEST, colour=False)
    fix = row.fix or next((step.fix for step in steps if step.id is row.remedy), ())
    fields: list[tuple[str, Iterable[str]]] = [
        ("means", [row.means]),
        ("harm", [row.harm]),
        ("cause", [FAULTS[row.fault]]),
        ("do", [REMEDIES[row.remedy], *(line.replace("{address}", "ADDRESS") for line in fix)]),
        ("severity", [render_severity(row)]),
        ("explains", [", ".join(row.causes)] if row.causes else []),
        ("example", row.examples),
        ("sources", [f"{row.source} (read {row.read})"]),
    ]
    title = textwrap.wrap(render_title(row), max(10, style.width))
    return "\n".join([style.bold(row.id), *title, "", *_fields(fields, style)])


# A title is a sentence of one machine, "The drive at {place} ..."; of no machine it has an article in the place of a name.
_GENERAL = (
    (re.compile(r" \(\{place\}\)| on \{place\}"), ""),
    (re.compile(r"\bGPU \{place\}"), "A GPU"),
    (re.compile(r"\b(NVSwitch) \{place\}"), r"An \1"),
    (re.compile(r"\bThe (SMMU) \{place\}"), r"An \1"),
    (re.compile(r"\bThe (module|port|software RAID|drive)(?: at)? \{place\}"), r"A \1"),
    (re.compile(r"\bthe slot below \{place\}"), "a slot"),
    (re.compile(r"^\{place\}"), "A device"),
    (re.compile(r"\{place\}"), "a device"),
    (re.compile(r"^\{process\}"), "A process"),
    (re.compile(r"\{process\}"), "a process"),
    (re.compile(r"\{code\}"), "N"),
)


def render_title(row: KernelLogRow) -> str:
    """What a message says of any machine: "A drive reported errors on its link or in itself"."""
    title = row.title
    for pattern, words in _GENERAL:
        title = pattern.sub(words, title)
    return title


def render_severity(row: KernelLogRow) -> str:
    """The severity of a message in words: "low; medium from 100 on", "no finding by itself"."""
    if not row.alone:
        return "no finding by itself: evidence of another one"
    words = [row.severity.value if row.least == 1 else f"{row.severity.value} from {row.least} on"]
    if row.engine_severity is not None:
        words.append(f"{row.engine_severity.value} for a process of an engine")
    if row.nonfatal_severity is not None:
        words.append(f"{row.nonfatal_severity.value} if it says Nonfatal")
    words += [f'{said.severity.value} if it says "{said.text.strip()}"' for said in row.said]
    if row.many_severity is not None:
        words.append(f"{row.many_severity.value} from {row.many} on")
    return "; ".join(words)


def _fields(fields: Iterable[tuple[str, Iterable[str]]], style: Style) -> Iterator[str]:
    for label, texts in fields:
        for index, text in enumerate(texts):
            yield from style.field(label if index == 0 else "", text)


def render_check(check: Check) -> str:
    """One check in words: "/proc/sys/vm/swappiness: number, at-least 2"."""
    where = check.parameter and f"{check.parameter}= on the kernel command line"
    where = where or check.config or (check.fact and f"fact {check.fact}") or ", ".join(check.paths)
    if check.fact and check.paths:
        where += f" (of {', '.join(check.paths)})"
    wanted = " or ".join(check.want) if check.compare is Compare.ONE_OF else " ".join(check.want)
    wanted = wanted or check.formula
    said = f"{where}: {check.parse}, {check.compare}{' ' + wanted if wanted else ''}"
    return said + (f"; only where {', '.join(check.when)}" if check.when else "")


def _findings(knob: Knob) -> tuple[str, ...]:
    """Findings of the audit about the same."""
    return tuple(dict.fromkeys(id for check in knob.check for id in check.told_by))


def _unread(knob: Knob) -> str:
    return f"not from facts: {knob.not_evaluable}" if knob.not_evaluable else f"judged as {knob.knob}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the pages of rows may use of a terminal; `field` wraps to its width."""

    width: int
    colour: bool

    def bold(self, text: str) -> str:
        """The text with escapes around it (ECMA-48, SGR 1); as it is where colour is off."""
        return f"\033[1m{text}\033[0m" if self.colour else text

    def field(self, label: str, text: str) -> list[str]:
        """A label and its text, wrapped beside it; below it where the terminal is narrow."""
        room = self.width - _LABEL - 2
        dim, plain = ("\033[2m", "\033[0m") if self.colour else ("", "")
        if room < 30:
            head = [f"{dim}{label}{plain}"] if label else []
            return head + textwrap.wrap(text, max(10, self.width - 2), initial_indent="  ", subsequent_indent="  ")
        wrapped = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        first = f"{dim}{label:<{_LABEL}}{plain}  {wrapped[0]}"
        return [first.rstrip(), *(" " * (_LABEL + 2) + line for line in wrapped[1:])]


def render_list(
    knobs: Sequence[Knob], findings: Sequence[FindingRow], messages: Sequence[KernelLogRow] = (), *, width: int
) -> str:
    """A line for each row, cut at the width: id, grade, verdict, name."""
    ids = (*(knob.id for knob in knobs), *(row.id for row in findings), *(row.id for row in messages))
    longest = max(map(len, ids))
    lines = [f"{knob.id:<{longest}}  {knob.grade}  {knob.verdict:<11}  {knob.name}" for knob in knobs]
    lines += [f"{row.id:<{longest}}  -  {'finding':<11}  {row.title}" for row in findings]
    lines += [f"{row.id:<{longest}}  -  {'kernel log':<11}  {render_title(row)}" for row in messages]
    return "\n".join(line if len(line) <= width else line[: max(20, width) - 3] + "..." for line in lines)


def render_row(row: Knob | FindingRow | KernelLogRow, knobs: Iterable[Knob]) -> dict[str, Any]:
    """The row as JSON: its fields, the id of its finding, and the rows that are wrong forms of a knob."""
    if isinstance(row, Knob):
        wrong = [form.id for form in knobs if form.knob == row.id]
        return {"finding": f"knob.{row.id}", **dataclasses.asdict(row), "wrong_forms": wrong}
    if isinstance(row, KernelLogRow):
        return {
            "finding": row.reports_as if "." in row.reports_as else f"kernel.{row.reports_as or row.id}",
            **dataclasses.asdict(row),
            "title": render_title(row),
        }
    return {"finding": row.id, **dataclasses.asdict(row)}
