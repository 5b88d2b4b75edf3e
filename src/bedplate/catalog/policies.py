"""The strict loader of policies.toml: what machines are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import build_row, parse_table, read_data, schema_problems
from bedplate.errors import DataError
from bedplate.model.plan_part import Part
from bedplate.model.policy import Neighbours, PolicyRow
from bedplate.model.tuning import Policy

_HERE = Path(__file__).parent
_KEYS = ("schema", "policy")


def read_policies(path: Path = _HERE / "policies.toml") -> tuple[PolicyRow, ...]:
    """All policies in the order of the file. Raises DataError with all problems, ReadError when it cannot be read."""
    return parse_policies(read_data(path), name=path.name)


def find_policy(policy: Policy, rows: tuple[PolicyRow, ...]) -> PolicyRow:
    """The row of a policy. Raises StopIteration for rows without it, which parse_policies never returns."""
    return next(row for row in rows if row.id is policy)


def parse_policies(text: str, *, name: str) -> tuple[PolicyRow, ...]:
    """Rows of a text; each policy exactly once. Raises DataError with every problem.

    That forbidden knobs exist is for a test: the catalog has them elsewhere.
    """
    table = parse_table(text, name=name)
    problems = schema_problems(table.get("schema"), f"{name}:")
    problems += [f"{name}:{key}: unknown key; known keys: {', '.join(_KEYS)}" for key in table if key not in _KEYS]
    listed: Any = table.get("policy", [])
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise DataError([*problems, f"{name}:policy: expected [[policy]] tables"])
    built = (
        build_row(row, PolicyRow, where=f"{name}:{row.get('id', f'policy[{index}]')}", problems=problems)
        for index, row in enumerate(listed)
    )
    rows = tuple(row for row in built if row is not None)
    for row in rows:
        problems += [f"{name}:{row.id}.{text}" for text in _row_problems(row)]
    ids = [row.id for row in rows]
    problems += [f"{name}:{id}.id: appears twice" for id in dict.fromkeys(ids) if ids.count(id) > 1]
    if not problems:
        problems += [f"{name}:policy: {policy} has no row" for policy in Policy if policy not in ids]
    if problems:
        raise DataError(problems, hint="Correct the rows; their keys are the fields of PolicyRow in model/policy.py.")
    return rows


def _row_problems(row: PolicyRow) -> Iterator[str]:
    for key in ("title", "aim"):
        if not str(getattr(row, key)).strip():
            yield f"{key}: is empty"
    order = list(Part)
    for part in row.parts:
        if part not in order:
            yield f"parts: got {part!r}, expected some of {', '.join(order)}"
    known = [order.index(Part(part)) for part in row.parts if part in order]
    if known != sorted(set(known)):
        yield f"parts: expected each once, in the order {', '.join(order)}"
    if not row.parts:
        yield "parts: is empty"
    if not 1 <= row.system_pct <= 50:
        yield f"system_pct: got {row.system_pct}, expected 1 to 50"
    if not 0 <= row.floor_pct < row.system_pct:
        yield f"floor_pct: got {row.floor_pct}, expected 0 to less than system_pct: administrators come before neighbours"
    if bool(row.floor_pct) != bool(row.floor_cost.strip()):
        yield "floor_cost: expected what was measured where there is a floor, and only there"
    if row.floor_pct and row.neighbours != Neighbours.SHARE:
        yield f"floor_pct: neighbours that {row.neighbours} have no floor"
    if len(set(row.forbid)) != len(row.forbid):
        yield "forbid: a knob stands twice"
    if bool(row.forbid) != bool(row.because.strip()):
        yield "because: expected a reason where knobs are forbidden, and only there"
