"""The strict loader of policies.toml: what machines are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import build_row, parse_table
from bedplate.errors import DataError, ReadError
from bedplate.model.policy import Part, PolicyRow
from bedplate.model.tuning import Policy

_HERE = Path(__file__).parent
_KEYS = ("schema", "policy")


def read_policies(path: Path = _HERE / "policies.toml") -> tuple[PolicyRow, ...]:
    """All policies in the order of the file. Raises DataError with all problems, ReadError when it cannot be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path}: cannot read: {error}") from error
    return parse_policies(text, name=path.name)


def find_policy(policy: Policy, rows: tuple[PolicyRow, ...]) -> PolicyRow:
    """The row of a policy; the loader has seen to it that there is one."""
    return next(row for row in rows if row.id is policy)


def parse_policies(text: str, *, name: str) -> tuple[PolicyRow, ...]:
    """Rows of a text; each policy exactly once. That forbidden knobs exist is for a test: the catalog has them
    elsewhere."""
    table = parse_table(text, name=name)
    problems: list[str] = []
    if table.get("schema") != 1:
        problems.append(f"{name}:schema: got {table.get('schema')!r}, expected 1")
    problems += [f"{name}:{one}: unknown key; known keys: {', '.join(_KEYS)}" for one in table if one not in _KEYS]
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
    problems += [f"{name}:{one}.id: appears twice" for one in dict.fromkeys(ids) if ids.count(one) > 1]
    if not problems:
        problems += [f"{name}:policy: {one} has no row" for one in Policy if one not in ids]
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
    if len(set(row.forbid)) != len(row.forbid):
        yield "forbid: a knob stands twice"
    if bool(row.forbid) != bool(row.because.strip()):
        yield "because: expected a reason where knobs are forbidden, and only there"
