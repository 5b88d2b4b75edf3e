"""Imported bundles of rows as text and as JSON: what an import or a removal changes, and what is in force."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bedplate.model.bundle import BundleChange, ListedBundle
from bedplate.report.format import clean
from bedplate.report.stack import bundle_object

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


def render_change(change: BundleChange, *, removed: bool, dry_run: bool) -> str:
    """A line for each row with its sign (+ added, ~ changed, - removed), then what was done; ends with a line end."""
    lines = [f"{_SIGNS[row.what]} {row.table} {row.row}" for row in change.rows]
    if change.note:
        lines.append(change.note)
    counts = Counter(row.what for row in change.rows)
    counted = ", ".join(f"{counts[what]} {what}" for what in _SIGNS if counts[what]) or "no row changes"
    verb = "removed" if removed else "would import" if dry_run else "imported"
    before = f" in place of {change.replaced.sequence}" if change.replaced is not None else ""
    if change.replaced == change.bundle:
        lines.append(f"{change.bundle.label} is in force already")
    else:
        lines.append(f"{verb} {change.bundle.label}{before}: {counted}")
    lines += [f"warning: the rows that stay do not load: {problem}" for problem in change.problems]
    return "".join(f"{clean(line)}\n" for line in lines)


def change_object(change: BundleChange, *, removed: bool, dry_run: bool) -> dict[str, Any]:
    """The change as `--json` prints it; `replaced` is null where no bundle of the name was in force."""
    return {
        "bundle": bundle_object(change.bundle),
        "note": change.note,
        "replaced": bundle_object(change.replaced) if change.replaced is not None else None,
        "removed": removed,
        "dry_run": dry_run,
        "problems": list(change.problems),
        "rows": [{"change": row.what, "table": row.table, "row": row.row} for row in change.rows],
    }


def render_listed(listed: ListedBundle) -> str:
    """A bundle in force in a line, with what speaks against it below; ends with a line end."""
    bundle = listed.bundle
    words = [f"{bundle.name:<16}", str(bundle.sequence), bundle.date, f"{listed.rows} rows", bundle.sha256[:12]]
    lines = ["  ".join([*words, *([listed.note] if listed.note else [])])]
    if listed.doubt:
        lines.append(f"    would not be imported now: {listed.doubt}")
    return "".join(f"{clean(line)}\n" for line in lines)


def listed_object(listed: ListedBundle) -> dict[str, Any]:
    """A bundle in force as `--json` prints it; `doubt` is "" for one that would be imported now."""
    return {
        **bundle_object(listed.bundle),
        "note": listed.note,
        "rows": listed.rows,
        "key": listed.key,
        "doubt": listed.doubt,
    }
