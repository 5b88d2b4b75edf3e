"""Look at what is installed on this machine, or on that of a recording, and judge it: what the next reboot will break."""

from __future__ import annotations

import time
from pathlib import Path

from bedplate import __version__
from bedplate.catalog.findings import read_findings, read_suppressions
from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_lock import read_lock
from bedplate.errors import UsageError
from bedplate.flows.audit import name_devices
from bedplate.flows.machine import read_facts_of
from bedplate.host.record.redact_facts import hide_in_conclusions, hide_in_facts
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth
from bedplate.model.audit_report import AuditReport
from bedplate.model.stack import StackCatalogue
from bedplate.plan.audit_stack import audit_stack


def check_stack(
    recording: Path | None,
    *,
    lock: Path | None = None,
    environments: tuple[Path, ...] = (),
    suppress: Path | None = None,
    root: Root | None = None,
    catalogue: StackCatalogue | None = None,
) -> AuditReport:
    """What is installed on this machine, or on the machine of a recording, judged by itself and by a lock.

    `environments` are Python environments that are read besides those that are found, `suppress` None means the host's own
    file. Raises ReadError for a recording that cannot be read, UsageError for an environment that is none, DataError for a
    lock or a file of suppressions that is wrong.
    """
    record = read_lock(lock) if lock is not None else None
    for path in environments:
        if recording is not None:
            raise UsageError("--venv: a recording holds the environments that it was made with", hint="Leave --venv out.")
        if not path.is_dir():
            raise UsageError(f"--venv: {path} is not a directory", hint="Name the directory that has pyvenv.cfg.")
    suppressions = read_suppressions(suppress)
    rows = read_findings()
    facts = name_devices(
        read_facts_of(
            recording, (), root=root, stack=StackDepth.DEEP, environments=[str(path.absolute()) for path in environments]
        )
    )
    today = time.strftime("%Y-%m-%d")
    stack = read_stack() if catalogue is None else catalogue
    judged = audit_stack(facts, rows, stack, record, suppressions, today=today)
    shown = hide_in_conclusions(judged, facts, rows=rows)
    return AuditReport(facts=hide_in_facts(facts), audit=shown, rows=rows, version=__version__)
