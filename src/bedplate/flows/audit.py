"""Look at this machine or at a recording of one, and judge it: the facts, what is wrong, and what could not be judged."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

from bedplate import __version__
from bedplate.act.files import write_report
from bedplate.catalog.accelerators import read_accelerator_names
from bedplate.catalog.findings import read_findings, read_suppressions
from bedplate.catalog.knobs import read_knobs
from bedplate.flows.machine import LIVE, read_facts_of
from bedplate.host.record.redact import Redactor, make_redactor
from bedplate.host.record.redact_facts import hide_in_conclusions, hide_in_facts, redact_facts
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth
from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.host import HostFacts
from bedplate.plan.audit import audit

_UNNAMED = re.compile(r"(?:.* )?(?:Device )?[0-9a-f]{4}|", re.ASCII)


def read_report(recording: Path | None, *, suppress: Path | None = None, root: Root | None = None) -> AuditReport:
    """The facts of a machine, or of a recording, and what the audit says of them; suppress None: the host's own file.

    root is the machine where there is no recording: this one, unless it is said. Raises ReadError for a recording that
    cannot be read, DataError for a file of suppressions that is wrong. The machine is judged as it is; of
    secrets the report has none, but for facts.knobs, which only a report to give away shows.
    """
    suppressions = read_suppressions(suppress)
    knobs, rows = read_knobs(), read_findings()
    facts = name_devices(read_facts_of(recording, knobs, root=root, stack=StackDepth.QUICK))
    judged = audit(facts, knobs, rows, suppressions, today=time.strftime("%Y-%m-%d"))
    return AuditReport(facts=hide_in_facts(facts), audit=hide_in_conclusions(judged, facts), rows=rows, version=__version__)


def write_page(file: Path, report: AuditReport, *, verb: str = "doctor") -> None:
    """Write the report to give away as one self-contained HTML page, all at once or not at all. Raises OSError.

    `verb` is the command that the page names as its maker.
    """
    from bedplate.report.audit.page import render_page  # the longest module of the report, and seldom wanted

    text = render_page(without_people(report), made=time.strftime("%Y-%m-%d"), verb=verb)
    write_report(file, text.encode("utf-8", "backslashreplace"))


def without_people(report: AuditReport) -> AuditReport:
    """The report to give away: command lines, mounts and settings as record has them, without people and names of hosts.

    What findings say of paths, mount points and devices stays: without it they could not be acted on.
    """
    redactor = make_redactor(Root()) if report.facts.origin == LIVE else Redactor()
    return replace(report, facts=redact_facts(report.facts, redactor))


def name_devices(facts: HostFacts) -> HostFacts:
    """The same facts, with the catalog's names for accelerators that are known by their numbers only."""
    bare = {device.address: (device.vendor, device.device) for device in facts.pci if _UNNAMED.fullmatch(device.name)}
    if not bare:
        return facts
    names = read_accelerator_names()
    named = {address: names[numbers] for address, numbers in bare.items() if numbers in names}
    return replace(
        facts,
        pci=tuple(replace(device, name=named.get(device.address, device.name)) for device in facts.pci),
        accelerators=tuple(
            replace(accelerator, name=named.get(accelerator.address or "", accelerator.name))
            if _UNNAMED.fullmatch(accelerator.name)
            else accelerator
            for accelerator in facts.accelerators
        ),
    )
