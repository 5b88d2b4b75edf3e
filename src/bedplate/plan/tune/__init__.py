"""What to change on a machine so that its engines keep their speed, in which order, and why everything else is left
alone. Pure.

Neighbours are confined, the engine is not caged: it gets weights and floors, the others bounds. Values are computed from
the machine; a policy only leaves parts out and forbids knobs. What an applied plan sets is planned again, since the facts
are read as if it were not applied: otherwise a plan that replaces another would take back what both want.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob
from bedplate.model.plan_part import Part
from bedplate.model.policy import PolicyRow
from bedplate.model.proof import Conditions, Proof
from bedplate.model.tuning import Plan
from bedplate.model.units import render_size
from bedplate.model.wording import first_words
from bedplate.plan.rules.files import KnobFiles
from bedplate.plan.tune.builder import PlanBuilder, Step, TuneInputs
from bedplate.plan.tune.confine import plan_confinement
from bedplate.plan.tune.disks import plan_disks
from bedplate.plan.tune.interrupts import plan_interrupts
from bedplate.plan.tune.memory import plan_memory
from bedplate.plan.tune.numa import plan_numa
from bedplate.plan.tune.proven import find_refuted, plan_proven
from bedplate.plan.tune.refusals import find_refusals
from bedplate.plan.tune.rows import plan_rows
from bedplate.plan.tune.setting import parse_setting, plan_knob, plan_setting
from bedplate.plan.tune.weights import plan_weights

__all__ = ["describe_host", "parse_setting", "plan_knob", "plan_setting", "plan_tuning"]

_STEPS: tuple[tuple[Part, Step], ...] = (
    (Part.WEIGHTS, plan_weights),
    (Part.CONFINEMENT, plan_confinement),
    (Part.MEMORY, plan_memory),
    (Part.IO, plan_disks),
    (Part.NUMA, plan_numa),
    (Part.INTERRUPTS, plan_interrupts),
    (Part.PROVEN, plan_proven),
)
"""In the order in which changes are made: what has most evidence first. Which rows a part sets, the rows say."""


def plan_tuning(
    facts: HostFacts,
    groups: Groups,
    knobs: Iterable[Knob],
    policy_row: PolicyRow,
    *,
    proofs: Sequence[Proof] = (),
    now: Conditions | None = None,
    io: Sequence[DeviceSpeed] = (),
    applied: Plan | None = None,
) -> Plan:
    """The plan for a machine: every knob of the catalog is a change or a skip with its reason.

    proofs are records of experiments on this host, which count as far as they hold under `now`; io those of its measured
    disks. applied is the plan that is in force and that this one would replace; facts and groups are of the machine without
    it (act/tuning/baseline.py). A plan with refusals can be read, and must not be applied.
    """
    inputs = TuneInputs(
        facts=facts,
        groups=groups,
        knobs={knob.id: knob for knob in knobs},
        policy=policy_row,
        proofs=tuple(proofs),
        io=tuple(io),
        files=KnobFiles(facts),
        refuted=find_refuted(proofs, now),
        now=now,
        applied=frozenset(change.setting for change in applied.changes) if applied is not None else frozenset(),
    )
    builder = PlanBuilder(inputs=inputs)
    for part, step in _STEPS:
        rows = [knob for knob in inputs.knobs.values() if knob.part is part]
        if part in policy_row.parts:
            step(builder)
            for knob in rows:
                if knob.not_planned:
                    builder.skip(knob.id, knob.not_planned)
        else:
            for knob in rows:
                builder.skip(knob.id, f"policy {policy_row.id} leaves {part} out: {policy_row.aim}")
    plan_rows(builder)
    changes, skips = builder.finish()
    return Plan(
        policy=policy_row.id,
        changes=changes,
        skips=skips,
        refusals=find_refusals(facts, groups, changes),
        host=describe_host(facts),
    )


def describe_host(facts: HostFacts) -> str:
    """A machine in a line: "6.12.48-amd64, 8 CPUs, 64.0 GiB, 2 nodes, vllm"."""
    parts = [
        facts.kernel.release.value or "kernel not known",
        f"{len(facts.cpu.online)} CPUs" if facts.cpu.cpus else "CPUs not known",
    ]
    parts.append(render_size(facts.memory.total_bytes) if facts.memory.total_bytes else "memory not known")
    if len(facts.numa.nodes) > 1:
        parts.append(f"{len(facts.numa.nodes)} nodes")
    if facts.accelerators:
        parts.append(f"{len(facts.accelerators)} accelerators")
    parts.append(first_words(dict.fromkeys(engine.engine for engine in facts.engines)) or "no engine")
    return ", ".join(parts)
