"""Plans, steps and holdings as JSON and back: what journals hold and `--json` prints. render and parse agree."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bedplate.act.tuning.step import Act, Holding, Step
from bedplate.model.knob import ChangeNeed, Grade
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.tuning import Change, Means, Plan, Policy, Refusal, Setting, Skip


def render_plan(plan: Plan) -> dict[str, Any]:
    """A plan as JSON takes it, with its digest; `parse_plan` reads it. What --json of `bedplate tune plan` prints."""
    return {
        "policy": plan.policy.value,
        "digest": plan.digest,
        "host": plan.host,
        "changes": [render_change(change) for change in plan.changes],
        "skips": [asdict(skip) for skip in plan.skips],
        "refusals": [asdict(refusal) for refusal in plan.refusals],
    }


def render_change(change: Change) -> dict[str, Any]:
    """One change of a plan as JSON takes it: its fields, and `name`, the setting as people write it ("vm.swappiness")."""
    row = asdict(change)
    return {"name": str(change.setting), **row, "sources": list(change.sources), "needs": list(change.needs)}


def parse_plan(row: dict[str, Any]) -> Plan:
    """Raises KeyError, TypeError or ValueError for what render_plan does not write; the journal's reader says where."""
    return Plan(
        policy=Policy(row["policy"]),
        changes=tuple(_parse_change(change) for change in row["changes"]),
        skips=tuple(Skip(**skip) for skip in row["skips"]),
        refusals=tuple(Refusal(**refusal) for refusal in row["refusals"]),
        host=row["host"],
    )


def _parse_change(row: dict[str, Any]) -> Change:
    setting = row["setting"]
    return Change(
        setting=Setting(means=Means(setting["means"]), name=setting["name"], key=setting["key"]),
        knob=row["knob"],
        old=row["old"],
        new=row["new"],
        parse=Parse(row["parse"]),
        compare=Compare(row["compare"]),
        because=row["because"],
        grade=Grade(row["grade"]),
        sources=tuple(row["sources"]),
        reversible=row["reversible"],
        needs=tuple(ChangeNeed(need) for need in row["needs"]),
    )


def render_step(step: Step) -> dict[str, Any]:
    """A step as JSON takes it, for the first line of a journal: the names of its fields and their values."""
    return asdict(step)


def parse_step(row: dict[str, Any]) -> Step:
    """The step of such a row; keys that a row of an older schema lacks get their defaults.

    Raises TypeError, ValueError, KeyError.
    """
    return Step(**{**row, "act": Act(row["act"]), "parse": Parse(row["parse"])})


def render_holding(holding: Holding) -> dict[str, Any]:
    """A holding as JSON takes it, for applied.json: the names of its fields and their values."""
    return asdict(holding)


def parse_holding(row: dict[str, Any]) -> Holding:
    """The holding of such a row; keys that an older bedplate did not write get their defaults.

    Raises TypeError, ValueError, KeyError.
    """
    return Holding(**{**row, "act": Act(row["act"]), "parse": Parse(row["parse"])})
