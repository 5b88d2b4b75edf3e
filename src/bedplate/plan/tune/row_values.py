"""What a plan takes from rows of the catalog, so that it stands in one place: values, files, conditions and formulas."""

from __future__ import annotations

from bedplate.plan.rules.conditions import CONDITIONS
from bedplate.plan.rules.formulas import FORMULAS
from bedplate.plan.rules.rule import find_unmet
from bedplate.plan.tune.builder import PlanBuilder


def row_value(builder: PlanBuilder, id: str) -> str:
    """The first value that the first check of a row wants, as it is written. Raises KeyError for an id without a row."""
    return builder.inputs.knobs[id].check[0].want[0]


def row_target(builder: PlanBuilder, id: str) -> str | None:
    """What the row's `target` formula gives on this machine; None where a fact that it needs is not known."""
    return FORMULAS[builder.inputs.knobs[id].target](builder.inputs.facts)


def meets_conditions(builder: PlanBuilder, id: str) -> bool:
    """Whether every condition of the row's `when` is known to be met on this machine."""
    return find_unmet(CONDITIONS[name](builder.inputs.facts) for name in builder.inputs.knobs[id].when) is None


def want_row(builder: PlanBuilder, id: str, *, because: str) -> None:
    """Want what the first check of a row wants, in the file that it reads."""
    check = builder.inputs.knobs[id].check[0]
    builder.file(check.paths[0], check.want[0], knob=id, because=because, parse=check.parse, compare=check.compare)
