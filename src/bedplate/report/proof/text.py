"""A proof on a terminal: the verdict, what it cost the neighbour, kept shares, effects, what was not counted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.facts.finding import Severity
from bedplate.model.proof import Judgement
from bedplate.model.proof_summary import ProofSummary, Scenario, counted, rejected_by_reason
from bedplate.model.wording import plural
from bedplate.report.format import clean
from bedplate.report.proof.phrases import (
    cost,
    foreign,
    interval,
    is_better,
    metric_name,
    metric_value,
    neighbour_had,
    neighbour_work,
    number,
    tail,
    verdict,
)
from bedplate.report.terminal import Screen, columns, prose

_STYLES: dict[Judgement, str] = {
    Judgement.KEEP: "good",
    Judgement.NO_EFFECT: "bold",
    Judgement.REVERT: Severity.HIGH,
    Judgement.REFUSED: Severity.MEDIUM,
}
_GAP = "  "


def render_table(summary: ProofSummary, screen: Screen) -> str:
    """All of it, with a line end after the last line."""
    judged = summary.judgement
    lines = prose(screen, clean(f"{judged.value if judged is not None else 'compared'}: {summary.title}"), style="dim")
    lines += prose(screen, verdict(summary), style=_STYLES[judged] if judged is not None else "bold")
    if cost(summary):
        lines += prose(screen, cost(summary))
    for proof in summary.proofs:
        lines += prose(screen, clean(_because(summary, proof.antagonists, proof.because)), rest="  ", style="dim")
    lines += ["", *_kept(summary, screen)]
    for scenario in summary.scenarios:
        if scenario.proof is not None and scenario.proof.effects:
            lines += ["", *_effects(scenario, screen, named=len(summary.scenarios) > 1)]
    lines += _aside(summary, screen)
    return "\n".join(lines) + "\n"


def _because(summary: ProofSummary, antagonists: Sequence[str], because: str) -> str:
    return f"{' and '.join(antagonists) or 'no neighbour'}: {because}" if len(summary.proofs) > 1 else because


def _kept(summary: ProofSummary, screen: Screen) -> list[str]:
    """One line for each neighbour and arm; in a narrow terminal as sentences."""
    quiet = any(scenario.quiet for scenario in summary.scenarios)
    head = [
        "beside",
        "",
        "kept of quiet" if quiet else "rate",
        "gap p99",
        "its work",
        "left over",
    ]
    rows: list[list[str]] = []
    for scenario in summary.scenarios:
        for arm in summary.arms:
            result = scenario.result(arm)
            said = [interval(result), tail(result), neighbour_work(result), neighbour_had(result)] if result else []
            rows.append([scenario.name if arm == summary.arms[0] else "", arm, *(said or ["none counts", "", "", ""])])
    kept = [index for index in range(len(head)) if index < 3 or any(row[index] for row in rows)]
    table = _table(screen, [head[index] for index in kept], [[row[index] for index in kept] for row in rows])
    if table:
        return table
    lines: list[str] = []
    for name, arm, *values in rows:
        lines += prose(screen, name, style="bold") if name else []
        words = zip(("", "gap p99 ", "its work ", "of what was left over "), values, strict=True)
        lines += prose(
            screen, f"{clean(arm)}: {'; '.join(word + value for word, value in words if value)}", first="  ", rest="    "
        )
    return lines


def _effects(scenario: Scenario, screen: Screen, *, named: bool) -> list[str]:
    assert scenario.proof is not None
    rows, marks = [], []
    for effect in scenario.proof.effects:
        ratio = f"x{number(effect.ratio)} ({number(effect.low)}..{number(effect.high)})"
        better = is_better(effect)
        word = "" if better is None else "better" if better else "worse"
        values = [metric_value(effect, value) for value in (effect.without, effect.with_)]
        rows.append([metric_name(effect), *values, ratio, f"{effect.p:.2g}", word])
        marks.append({"better": "good", "worse": Severity.HIGH.value}.get(word, ""))
    head = [f"beside {scenario.name}" if named else "effect", "without", "with", "ratio (95%)", "p", ""]
    table = _table(screen, head, rows, styles=marks)
    if table:
        return table
    lines = prose(screen, f"beside {scenario.name}", style="bold")
    for row in rows:
        lines += prose(screen, f"{row[0]}: {row[1]} to {row[2]}, {row[3]} {row[5]}", first="  ", rest="    ")
    return lines


def _aside(summary: ProofSummary, screen: Screen) -> list[str]:
    lines = [""]
    rejected = rejected_by_reason(summary)
    total = sum(count for _, count in rejected)
    said = f"{plural(counted(summary), 'block')} counted"
    lines += prose(screen, f"{said}, {total} rejected." if total else f"{said}, none rejected.", style="dim")
    for why, count in rejected[:5]:
        lines += prose(screen, f"{count} x {clean(why)}", first="  ", rest="    ", style="dim")
    if len(rejected) > 5:
        lines += prose(screen, f"and {sum(count for _, count in rejected[5:])} for other reasons", first="  ", style="dim")
    if foreign(summary):
        lines += prose(screen, foreign(summary), rest="  ", style=Severity.MEDIUM)
    facts = "; ".join(f"{name} {clean(text)}" for name, text in summary.facts)
    if facts:
        lines += prose(screen, f"Valid for {facts}.", rest="  ", style="dim")
    if summary.command:
        lines.append(screen.paint("dim", screen.plain(f"again: {clean(summary.command, longest=4000)}")))
    return lines


def _table(screen: Screen, head: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Sequence[str] = ()) -> list[str]:
    """Columns under their heads, or [] when the terminal is too narrow for them; the last column takes the styles."""
    shown = [[screen.plain(clean(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(columns(row[index]) for row in shown) for index in range(len(head))]
    if sum(widths) + len(_GAP) * (len(widths) - 1) > screen.width:
        return []
    lines = []
    for number_, row in enumerate(shown):
        cells = [cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)]
        style = styles[number_ - 1] if number_ and styles else ""
        if style:
            cells[-1] = screen.paint(style, cells[-1].rstrip())
        line = _GAP.join(cells).rstrip()
        lines.append(screen.paint("dim", line) if number_ == 0 else line)
    return lines
