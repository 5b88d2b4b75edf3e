"""Look at this machine or at a recording of one, and judge it: the facts, what is wrong, and what could not be judged."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

from bedplate import __version__
from bedplate.catalog.findings import read_findings, read_suppressions
from bedplate.catalog.kernel_log import read_kernel_messages, read_rows_for
from bedplate.catalog.knobs import read_knobs
from bedplate.flows.machine import LIVE, read_facts_of
from bedplate.flows.pages import write_page
from bedplate.host.accel import is_accelerator
from bedplate.host.record.redact import Redactor, make_redactor
from bedplate.host.record.redact_facts import hide_in_conclusions, hide_in_facts, redact_facts, redact_quotes
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth
from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.plan.audit import audit

_UNNAMED = re.compile(r"(?:.* )?(?:Device )?[0-9a-f]{4}|(?:sm_|gfx)[0-9a-f]{1,6}|", re.ASCII)
_NUMBER = re.compile(r"Device ([0-9a-f]{4})", re.ASCII)
_OTHER_BRIDGE = 0x0680  # PCI class; NVSwitches have it
_VENDORS = {"nvidia": 0x10DE, "amd": 0x1002, "intel": 0x8086}


def read_report(recording: Path | None, *, suppress: Path | None = None, root: Root | None = None) -> AuditReport:
    """The facts of a machine, or of a recording, and what the audit says of them; suppress None: the host's own file.

    root is the machine where there is no recording: this one, unless it is said. Raises ReadError for a recording that
    cannot be read, DataError for a file of suppressions that is wrong. The machine is judged as it is; of
    secrets the report has none, but for facts.knobs, which only a report to give away shows.
    """
    suppressions = read_suppressions(suppress)
    knobs, rows, messages = read_knobs(), read_findings(), read_kernel_messages()
    facts = name_devices(read_facts_of(recording, knobs, root=root, kernel_rows=messages.rows, stack=StackDepth.QUICK))
    if recording is None and facts.engines and (root is None or root.is_live):
        from bedplate.flows.engine_logs import with_engine_logs

        facts = with_engine_logs(facts)
    kernel_rows = read_rows_for(facts.kernel_log.events)
    judged = audit(
        facts,
        knobs,
        rows,
        suppressions,
        today=time.strftime("%Y-%m-%d"),
        kernel_rows=kernel_rows,
        kernel_steps=messages.steps,
    )
    shown = hide_in_conclusions(judged, facts, rows=(*rows, *knobs, *kernel_rows, *messages.steps))
    return AuditReport(facts=hide_in_facts(facts), audit=shown, rows=rows, version=__version__)


def write_audit_page(file: Path, report: AuditReport, *, verb: str = "doctor") -> None:
    """Write the report to give away as one self-contained HTML page. Raises UsageError where it cannot be written.

    `verb` is the command that the page names as its maker.
    """
    from bedplate.report.audit.page import render_page  # the longest module of the report, and seldom wanted

    write_page(file, render_page(without_people(report), made=time.strftime("%Y-%m-%d"), verb=verb))


def without_people(report: AuditReport) -> AuditReport:
    """The report to give away: command lines, mounts, settings and messages of the kernel as record has them.

    They name no people and no hosts. What findings say of paths, mount points and devices stays: without it they could not
    be acted on.
    """
    redactor = make_redactor(Root()) if report.facts.origin == LIVE else Redactor()
    return replace(
        report, facts=redact_facts(report.facts, redactor), audit=redact_quotes(report.audit, report.facts, redactor)
    )


def name_devices(facts: HostFacts) -> HostFacts:
    """The same facts, with the catalog's names for accelerators that are known by their numbers only.

    A name of an architecture, "sm_90" or "gfx942", is none of a product: where the number has a name, that one counts.
    """
    bare = {
        device.address: (device.vendor, device.device)
        for device in facts.pci
        if _is_unnamed(device.name) and _may_be_catalogued(device)
    }
    if not bare and not any(_is_unnamed(accelerator.name) for accelerator in facts.accelerators):
        return facts
    from bedplate.catalog.accelerators import read_accelerator_names

    names = read_accelerator_names()
    named = {address: names[numbers] for address, numbers in bare.items() if numbers in names}
    by_address = {device.address: device.name for device in facts.pci if not _is_unnamed(device.name)} | named
    return replace(
        facts,
        pci=tuple(replace(device, name=named.get(device.address, device.name)) for device in facts.pci),
        accelerators=tuple(_with_name(accelerator, by_address, names) for accelerator in facts.accelerators),
    )


def _may_be_catalogued(device: PciDevice) -> bool:
    """Whether the catalog may name a device: an accelerator, a switch between them, or one of which the class is not known.

    A virtual machine without the register of PCI ids has a dozen unnamed others; the file is not read for them.
    """
    return device.class_code == 0 or device.class_code >> 8 == _OTHER_BRIDGE or is_accelerator(device)


def _is_unnamed(name: str) -> bool:
    return _UNNAMED.fullmatch(name) is not None


def _with_name(accelerator: Accelerator, by_address: dict[str, str], names: dict[tuple[int, int], str]) -> Accelerator:
    """By its address; one without an address may be named by the number that stands in its name, "Device 74a1"."""
    if not _is_unnamed(accelerator.name):
        return accelerator
    name = by_address.get(accelerator.address or "")
    if name is None and accelerator.address is None and (number := _NUMBER.fullmatch(accelerator.name)) is not None:
        name = names.get((_VENDORS.get(accelerator.vendor, 0), int(number[1], 16)))
    return replace(accelerator, name=name) if name is not None else accelerator
