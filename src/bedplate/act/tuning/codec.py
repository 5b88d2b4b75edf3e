"""Plans, steps and holdings as JSON and back: what journals hold and `--json` prints. render and parse agree."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bedplate.act.tuning.step import Act, Holding, Step
from bedplate.model.knob import Grade, Need
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.tuning import Change, Means, Plan, Policy, Refusal, Setting, Skip


def render_plan(plan: Plan) -> dict[str, Any]:
    """A plan as JSON takes it, with its digest."""
    return {
        "policy": plan.policy.value,
        "digest": plan.digest,
        "host": plan.host,
        "changes": [render_change(one) for one in plan.changes],
        "skips": [asdict(one) for one in plan.skips],
        "refusals": [asdict(one) for one in plan.refusals],
    }


def render_change(change: Change) -> dict[str, Any]:
    row = asdict(change)
    return {"name": str(change.setting), **row, "sources": list(change.sources), "needs": list(change.needs)}


def parse_plan(row: dict[str, Any]) -> Plan:
    """Raises KeyError, TypeError or ValueError for what render_plan does not write; the journal's reader says where."""
    return Plan(
        policy=Policy(row["policy"]),
        changes=tuple(_parse_change(one) for one in row["changes"]),
        skips=tuple(Skip(**one) for one in row["skips"]),
        refusals=tuple(Refusal(**one) for one in row["refusals"]),
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
        needs=tuple(Need(one) for one in row["needs"]),
    )


def render_step(step: Step) -> dict[str, Any]:
    return asdict(step)


def parse_step(row: dict[str, Any]) -> Step:
    return Step(**{**row, "act": Act(row["act"]), "parse": Parse(row["parse"])})


def render_holding(holding: Holding) -> dict[str, Any]:
    return asdict(holding)


def parse_holding(row: dict[str, Any]) -> Holding:
    return Holding(**{**row, "act": Act(row["act"]), "parse": Parse(row["parse"])})
