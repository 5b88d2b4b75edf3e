"""A short run of some rows beside the table that is kept: does the instrument of today give what is published? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.neighbours.figure import Run
from bench.neighbours.rows import ROWS
from bench.neighbours.table import kept_shares, render_line, render_shares

SHORT = "cpu,memory,dirty,trace"
"""One row of each kind of trouble: the CPUs, memory, writes, and real arrivals beside both."""


_TOLD = "Some rows, measured again in a short run. Both columns are shares of the quiet engine of their own stock arm."


def render_check(kept: Run, check: Run) -> list[str]:
    """A table of the rows of the check in every arm of both: what is kept, what came now, and whether that is within the
    least and the most of what is kept."""
    machine = check.machine
    lines = [
        f"#### In the {check.place}, a short run of some rows",
        "",
        f"{_TOLD} `{machine.get('command', '?')}`, {machine.get('date', '?')}, {machine.get('commit', '?')}.",
        "",
        render_line(["", "arm", "the table", "the short run", "compared with the table's spread"]),
        render_line(["---"] * 5),
    ]
    arms = list(dict.fromkeys(figure.arm for figure in check.figures))
    for row in ROWS:
        for arm in sorted(arms, key=lambda arm: arm != "stock"):
            now, then = kept_shares(check, row, arm), kept_shares(kept, row, arm)
            if row.quiet and any((figure.row, figure.arm) == (row.id, arm) for figure in check.figures):
                cells = [row.title, arm, render_shares(then) or "no number", render_shares(now) or "no number"]
                lines.append(render_line([*cells, compare(then, now)]))
    rejected = [figure for figure in check.figures if figure.rejected]
    lines += ["", f"{len(check.figures) - len(rejected)} of {len(check.figures)} samples count."]
    lines += [f"- {figure.row}, {figure.arm}: {figure.rejected}" for figure in rejected]
    return lines


def compare(then: Sequence[float], now: Sequence[float]) -> str:
    """Where the median of a check lies beside the least and the most that are kept."""
    if not then or not now:
        return "not to be compared"
    middle = median(now)
    if middle < min(then):
        return f"**{(min(then) - middle) * 100:.0f} points below**"
    if middle > max(then):
        return f"**{(middle - max(then)) * 100:.0f} points above**"
    return "within"
