"""Plans, steps and applied values as JSON and back: what journals hold and `--json` prints. render and parse agree.

The keys of a step are those of journals since the first version, and not always the names of the fields: "act" is the kind,
"twin" the counterpart; of an applied value "baseline" is what was there before, and "ours" what was written.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bedplate.act.tuning.kinds.registry import step_kind
from bedplate.act.tuning.step import AppliedValue, Step, Target
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
    """A step as JSON takes it, for the first line of a journal."""
    return _render_target(step.target, {"before": step.before, "after": step.after})


def parse_step(row: dict[str, Any]) -> Step:
    """The step of such a row; keys that a row of an older schema lacks get their defaults.

    Raises TypeError, ValueError, KeyError.
    """
    return Step(target=_parse_target(row, ("before", "after")), before=row.get("before"), after=row.get("after"))


def render_value(value: AppliedValue) -> dict[str, Any]:
    """An applied value as JSON takes it, for applied.json."""
    return _render_target(value.target, {"baseline": value.before, "ours": value.written})


def parse_value_row(row: dict[str, Any]) -> AppliedValue:
    """The applied value of such a row; keys that an older bedplate did not write get their defaults.

    Raises TypeError, ValueError, KeyError.
    """
    return AppliedValue(target=_parse_target(row, ("baseline", "ours")), before=row["baseline"], written=row["ours"])


def _render_target(target: Target, texts: dict[str, str | None]) -> dict[str, Any]:
    return {
        "act": target.kind.journal_name,
        "path": target.path,
        **texts,
        "parse": target.parse,
        "twin": target.counterpart,
        "lasts": target.lasts,
        "key": target.key,
        "unit_file": target.unit_file,
    }


def _parse_target(row: dict[str, Any], texts: tuple[str, ...]) -> Target:
    unknown = row.keys() - {"act", "path", "parse", "twin", "lasts", "key", "unit_file", *texts}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    return Target(
        kind=step_kind(row["act"], row["path"]),
        path=row["path"],
        key=row.get("key", ""),
        parse=Parse(row["parse"]),
        counterpart=row.get("twin", ""),
        lasts=row.get("lasts", True),
        unit_file=row.get("unit_file", False),
    )
