"""What an experiment is about: one setting, one knob of the plan, or the whole plan, computed for this machine now."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.catalog.policies import find_policy, read_policies
from bedplate.errors import UsageError
from bedplate.host.device_speeds import read_device_speeds
from bedplate.host.facts import read_host
from bedplate.host.groups import read_groups
from bedplate.host.root import Root
from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob
from bedplate.model.tuning import Means, Plan, Policy
from bedplate.plan.tune import parse_setting, plan_setting, plan_tuning
from bedplate.plan.tune.setting import plan_knob


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    facts: HostFacts
    groups: Groups
    knobs: tuple[Knob, ...]


def setting_plan(name: str, value: str) -> Plan:
    """The plan of one setting. Raises UsageError for a name that is none."""
    setting = parse_setting(name)
    machine = _read_machine(setting.name if setting.means is Means.FILE else "")
    return plan_setting(setting, value, machine.facts, machine.groups, machine.knobs)


def knob_plan(knob: str, policy: Policy) -> Plan:
    """What the plan of this host changes for one row of the catalog, else what the row itself asks for.

    Raises UsageError for an id that is no row, and for a row that nothing can be switched by.
    """
    machine = _read_machine()
    ids = [one.id for one in machine.knobs]
    if knob not in ids:
        near = difflib.get_close_matches(knob, ids, 1)
        raise UsageError(
            f"{knob!r}: is no knob of the catalog",
            hint=f"Did you mean {near[0]!r}?" if near else "docs/reference/knobs.md lists them.",
        )
    plan = _plan(machine, policy)
    if all(one.knob != knob for one in plan.changes):  # the policy leaves it alone: what its row says is tried
        row = next(one for one in machine.knobs if one.id == knob)
        return plan_knob(row, machine.facts, machine.groups, machine.knobs)
    return replace(
        plan,
        changes=tuple(one for one in plan.changes if one.knob == knob),
        skips=tuple(one for one in plan.skips if one.knob == knob),
    )


def whole_plan(policy: Policy) -> Plan:
    """The plan of this host, without verdicts of earlier proofs: those are what is measured again."""
    return _plan(_read_machine(), policy)


def _plan(machine: _Machine, policy: Policy) -> Plan:
    io = read_device_speeds(Root())
    return plan_tuning(machine.facts, machine.groups, machine.knobs, find_policy(policy, read_policies()), io=io)


def _read_machine(file: str = "") -> _Machine:
    """Its facts now, with the text of one more file."""
    root, knobs = Root(), read_knobs()
    if file and not root.exists(file):
        raise UsageError(f"{file}: is not there", hint="Check the name of the setting.")
    paths = {*knob_paths(knobs), file} if file else knob_paths(knobs)
    facts = read_host(root, paths, origin="live", config_options=knob_configs(knobs))
    return _Machine(facts=facts, groups=read_groups(root), knobs=knobs)
