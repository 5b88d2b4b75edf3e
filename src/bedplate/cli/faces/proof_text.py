"""A proof on a terminal: the verdict, what it cost the neighbour, kept shares, effects, what was not counted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.cli.faces.paint import Screen, columns, prose
from bedplate.cli.faces.proof_words import (
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
from bedplate.cli.faces.study import Case, Study, counted, overall, rejected_by_reason
from bedplate.cli.faces.words import clean, plural
from bedplate.model.facts.finding import Severity
from bedplate.model.proof import Judgement

_STYLES: dict[Judgement, str] = {
    Judgement.KEEP: "good",
    Judgement.NO_EFFECT: "bold",
    Judgement.REVERT: Severity.HIGH,
    Judgement.REFUSED: Severity.MEDIUM,
}
_GAP = "  "


def render_table(study: Study, screen: Screen) -> str:
    """All of it, with a line end after the last line."""
    judged = overall(study)
    lines = prose(screen, clean(f"{judged.value if judged is not None else 'compared'}: {study.title}"), style="dim")
    lines += prose(screen, verdict(study), style=_STYLES[judged] if judged is not None else "bold")
    if cost(study):
        lines += prose(screen, cost(study))
    for proof in study.proofs:
        lines += prose(screen, clean(_because(study, proof.antagonists, proof.because)), rest="  ", style="dim")
    lines += ["", *_kept(study, screen)]
    for case in study.cases:
        if case.proof is not None and case.proof.effects:
            lines += ["", *_effects(case, screen, named=len(study.cases) > 1)]
    lines += _aside(study, screen)
    return "\n".join(lines) + "\n"


def _because(study: Study, antagonists: Sequence[str], because: str) -> str:
    return f"{' and '.join(antagonists) or 'no neighbour'}: {because}" if len(study.proofs) > 1 else because


def _kept(study: Study, screen: Screen) -> list[str]:
    """One line for each neighbour and arm; in a narrow terminal as sentences."""
    quiet = any(case.quiet for case in study.cases)
    head = [
        "beside",
        "",
        "kept of quiet" if quiet else "rate",
        "gap p99",
        "its work",
        "left over",
    ]
    rows: list[list[str]] = []
    for case in study.cases:
        for arm in study.arms:
            outcome = case.outcome(arm)
            said = [interval(outcome), tail(outcome), neighbour_work(outcome), neighbour_had(outcome)] if outcome else []
            rows.append([case.name if arm == study.arms[0] else "", arm, *(said or ["none counts", "", "", ""])])
    kept = [index for index in range(len(head)) if index < 3 or any(row[index] for row in rows)]
    table = _table(screen, [head[index] for index in kept], [[row[index] for index in kept] for row in rows])
    if table:
        return table
    lines: list[str] = []
    for name, arm, *values in rows:
        lines += prose(screen, name, style="bold") if name else []
        words = zip(("", "gap p99 ", "its work ", "of what was left over "), values, strict=True)
        lines += prose(
            screen, f"{clean(arm)}: {'; '.join(word + one for word, one in words if one)}", first="  ", rest="    "
        )
    return lines


def _effects(case: Case, screen: Screen, *, named: bool) -> list[str]:
    assert case.proof is not None
    rows, marks = [], []
    for one in case.proof.effects:
        ratio = f"x{number(one.ratio)} ({number(one.low)}..{number(one.high)})"
        better = is_better(one)
        word = "" if better is None else "better" if better else "worse"
        values = [metric_value(one, value) for value in (one.without, one.with_)]
        rows.append([metric_name(one), *values, ratio, f"{one.p:.2g}", word])
        marks.append({"better": "good", "worse": Severity.HIGH.value}.get(word, ""))
    head = [f"beside {case.name}" if named else "effect", "without", "with", "ratio (95%)", "p", ""]
    table = _table(screen, head, rows, styles=marks)
    if table:
        return table
    lines = prose(screen, f"beside {case.name}", style="bold")
    for row in rows:
        lines += prose(screen, f"{row[0]}: {row[1]} to {row[2]}, {row[3]} {row[5]}", first="  ", rest="    ")
    return lines


def _aside(study: Study, screen: Screen) -> list[str]:
    lines = [""]
    rejected = rejected_by_reason(study)
    total = sum(count for _, count in rejected)
    said = f"{plural(counted(study), 'block')} counted"
    lines += prose(screen, f"{said}, {total} rejected." if total else f"{said}, none rejected.", style="dim")
    for why, count in rejected[:5]:
        lines += prose(screen, f"{count} x {clean(why)}", first="  ", rest="    ", style="dim")
    if len(rejected) > 5:
        lines += prose(screen, f"and {sum(count for _, count in rejected[5:])} for other reasons", first="  ", style="dim")
    if foreign(study):
        lines += prose(screen, foreign(study), rest="  ", style=Severity.MEDIUM)
    facts = "; ".join(f"{name} {clean(text)}" for name, text in study.facts)
    if facts:
        lines += prose(screen, f"Valid for {facts}.", rest="  ", style="dim")
    if study.command:
        lines.append(screen.paint("dim", screen.plain(f"again: {clean(study.command, longest=4000)}")))
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
