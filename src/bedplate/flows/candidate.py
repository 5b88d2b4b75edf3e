"""What an experiment is about: one setting, one knob of the plan, or the whole plan, computed for this machine now.

The machine is read as it is, with what is applied: what holds already cannot be proved.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from bedplate.act.tuning import files_of
from bedplate.errors import UsageError
from bedplate.flows.machine import MachineState, read_machine
from bedplate.flows.tune import plan_machine
from bedplate.host.root.root import Root
from bedplate.model.tuning import Plan, Policy
from bedplate.plan.tune import parse_setting, plan_knob, plan_setting


def setting_plan(name: str, value: str) -> Plan:
    """The plan of one setting. Raises UsageError for a name that is none."""
    setting = parse_setting(name)
    machine = _read_machine(files_of(setting))
    return plan_setting(setting, value, machine.facts, machine.groups, machine.knobs)


def knob_plan(knob: str, policy: Policy) -> Plan:
    """What the plan of this host changes for one row of the catalog, else what the row itself asks for.

    Raises UsageError for an id that is no row, and for a row that nothing can be switched by.
    """
    machine = _read_machine()
    ids = [row.id for row in machine.knobs]
    if knob not in ids:
        near = difflib.get_close_matches(knob, ids, 1)
        raise UsageError(
            f"{knob!r}: is not a knob of the catalog",
            hint=f"Did you mean {near[0]!r}?" if near else "docs/reference/knobs.md lists them.",
        )
    plan = plan_machine(machine, policy)
    if all(change.knob != knob for change in plan.changes):  # the policy leaves it alone: what its row says is tried
        row = next(row for row in machine.knobs if row.id == knob)
        return plan_knob(row, machine.facts, machine.groups, machine.knobs)
    return replace(
        plan,
        changes=tuple(change for change in plan.changes if change.knob == knob),
        skips=tuple(skip for skip in plan.skips if skip.knob == knob),
    )


def whole_plan(policy: Policy) -> Plan:
    """The plan of this host, without verdicts of earlier proofs: those are what is measured again."""
    return plan_machine(_read_machine(), policy)


def _read_machine(files: tuple[str, ...] = ()) -> MachineState:
    """This machine now, with the texts of more files. Raises UsageError when one of them is not there."""
    root = Root()
    for file in files:
        if not root.exists(file):
            raise UsageError(f"{file}: does not exist", hint="Check the name of the setting.")
    return read_machine(root, more_files=files)
