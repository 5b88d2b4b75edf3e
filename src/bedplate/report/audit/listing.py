"""`bedplate doctor` on a terminal: findings in their order, what could not be judged, and a last line that counts."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.audit_report import AuditReport, at_least
from bedplate.model.facts.finding import Confidence, Evidence, Finding, Severity
from bedplate.model.wording import plural
from bedplate.report.audit.machine import headline
from bedplate.report.audit.texts import conflict_words, read_words, unread_words
from bedplate.report.format import clean, counted
from bedplate.report.terminal import Screen, Word, lay, prose

_LABEL = 10  # columns of "evidence", "effect", "fix"
_SHORT = 3  # pieces of evidence without --verbose; the rest is counted


def render_listing(report: AuditReport, screen: Screen, *, threshold: Severity | None, verbose: bool) -> str:
    """All of it, with a line end after the last line; threshold None fails never."""
    lines = lay(
        screen, [Word(text=part, style="bold" if number == 0 else "") for number, part in enumerate(headline(report.facts))]
    )
    if report.facts.origin != "live":
        lines += lay(screen, [Word(text=f"recorded: {clean(report.facts.origin)}", style="dim")])
    if read := read_words(report.facts):
        lines += prose(screen, f"read: {read}", rest="  ", style="dim")
    for number, finding in enumerate(report.findings, 1):
        lines += ["", *_finding(screen, number, finding, verbose=verbose)]
    lines += _aside(report, screen, verbose=verbose)
    lines += ["", *prose(screen, verdict(report, threshold), style="bold")]
    return "\n".join(lines) + "\n"


def verdict(report: AuditReport, threshold: Severity | None) -> str:
    """The last line: how many findings of which severity, how many reach the threshold, how much could not be judged."""
    if not report.findings:
        said = "No findings."
    else:
        said = f"{plural(len(report.findings), 'finding')}: {counted(report.counts)}."
        if threshold is not None:
            reached = sum(at_least(finding.severity, threshold) for finding in report.findings)
            said += f" {reached or 'None'} at or above {threshold.value}."
    if report.audit.suppressed:
        said += f" {len(report.audit.suppressed)} suppressed."
    if report.audit.not_judged:
        said += f" {len(report.audit.not_judged)} could not be judged."
    return said


def unjudged_by_reason(report: AuditReport) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(why, ids), the most frequent reason first; reasons that stand alone are one group at the end, "id: why" each."""
    reasons: dict[str, list[str]] = {}
    for not_judged in report.audit.not_judged:
        reasons.setdefault(_reason(not_judged.why), []).append(clean(not_judged.id))
    ranked = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    groups = [(why, tuple(ids)) for why, ids in ranked if len(ids) > 1]
    alone = tuple(sorted(f"{ids[0]}: {why}" for why, ids in ranked if len(ids) == 1))
    return tuple([*groups, ("each for a reason of its own", alone)] if alone else groups)


def _reason(text: str) -> str:
    """A reason as part of a sentence: without the full stop, and without a capital that is no name's."""
    text = clean(text).rstrip(".")
    first = text.split(" ")[0]
    return text[:1].lower() + text[1:] if first.istitle() and first.isalpha() else text


def _finding(screen: Screen, number: int, finding: Finding, *, verbose: bool) -> list[str]:
    style = finding.severity.value
    head = lay(screen, [Word(text=f"[{number}]", style=style), Word(text=style.upper(), style=style)], gap=" ")[0]
    begin = len(f"[{number}] {style}") + 2
    indent = "    " if screen.width >= 40 else "  "
    title = prose(screen, clean(finding.title), first=" " * begin, rest=indent, style="bold")
    lines = [head + title[0].replace(" " * begin, "  ", 1), *title[1:]]
    where = f"{finding.id} at {_places(finding.where)}" if finding.where else finding.id
    if finding.confidence is not Confidence.CERTAIN:
        where += f" ({finding.confidence.value})"
    lines += prose(screen, where, first=indent, rest=indent, style="dim")
    evidence = finding.evidence if verbose else finding.evidence[:_SHORT]
    for place, piece in enumerate(evidence):
        lines += _row(screen, indent, "evidence" if place == 0 else "", [_evidence(piece)])
    if len(finding.evidence) > len(evidence):
        lines += _row(screen, indent, "", [f"and {len(finding.evidence) - len(evidence)} more (--verbose)"], style="dim")
    lines += _row(screen, indent, "effect", [clean(finding.effect)])
    if verbose:
        lines += _commands(screen, indent, "fix", finding.fix)
        lines += _commands(screen, indent, "undo", finding.undo)
    elif finding.fix:
        more = len(finding.fix) - 1
        said = clean(finding.fix[0]).removeprefix("# ")
        lines += _row(screen, indent, "fix", [said + (f"  (+{plural(more, 'line')}: --verbose)" if more else "")])
    return lines


def _evidence(one: Evidence) -> str:
    return f"{clean(one.fact)} ({clean(one.source)})"


def _places(where: Sequence[str]) -> str:
    shown = ", ".join(clean(place) for place in where[:8])
    return shown if len(where) <= 8 else f"{shown} and {len(where) - 8} more"


def _row(screen: Screen, indent: str, label: str, texts: Sequence[str], *, style: str = "") -> list[str]:
    """A label and its text; in a narrow terminal the text begins a line of its own."""
    if screen.width < 60:
        rest = indent + "  "
        lines = [f"{indent}{screen.paint('dim', label)}"] if label else []
        return lines + [line for text in texts for line in prose(screen, text, first=rest, rest=rest, style=style)]
    rest = indent + " " * _LABEL
    lines = [line for text in texts for line in prose(screen, text, first=rest, rest=rest, style=style)]
    lines[0] = f"{indent}{screen.paint('dim', label)}{' ' * (_LABEL - len(label))}{lines[0][len(rest) :]}"
    return lines


def _commands(screen: Screen, indent: str, label: str, commands: Sequence[str]) -> list[str]:
    """Commands as they are typed: never wrapped, so that a copied line is whole; sentences ("# ...") are wrapped."""
    lines: list[str] = []
    rest = indent + ("  " if screen.width < 60 else " " * _LABEL)
    for command in commands:
        text = screen.plain(clean(command, longest=4000))
        if text.startswith("#"):
            lines += prose(screen, text, first=rest, rest=rest + "# ")
        else:
            lines.append(rest + text)
    if not lines:
        return []
    if screen.width < 60:
        return [f"{indent}{screen.paint('dim', label)}", *lines]
    lines[0] = f"{indent}{screen.paint('dim', label)}{' ' * (_LABEL - len(label))}{lines[0][len(rest) :]}"
    return lines


def _aside(report: AuditReport, screen: Screen, *, verbose: bool) -> list[str]:
    """What was set aside, what could not be judged, and the readers that failed."""
    lines: list[str] = []
    for suppressed in report.audit.suppressed:
        text = (
            f"suppressed: {clean(suppressed.finding.id)} at {_places(suppressed.finding.where)}: {clean(suppressed.reason)}"
        )
        lines += prose(screen, text, rest="  ", style="dim")
    groups = unjudged_by_reason(report)
    if report.facts.texts and not verbose:  # a text holds little of a machine: what it lacks would be the longest part
        count = len(report.audit.not_judged)
        if count:
            checks = plural(count, "check needs", "checks need")
            text = f"not judged: {checks} what this text does not hold (--verbose lists them)"
            lines += prose(screen, text, rest="  ", style="dim")
        groups = ()
    for why, ids in groups if verbose else groups[:_SHORT]:
        shown = ids if verbose else ids[:_SHORT]
        more = f" and {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
        joint = "; " if ": " in ids[0] else ", "
        lines += prose(screen, f"not judged, {why}: {joint.join(shown)}{more}", rest="  ", style="dim")
    if not verbose and len(groups) > _SHORT:
        left = sum(len(ids) for _, ids in groups[_SHORT:])
        lines += prose(screen, f"not judged, for other reasons: {left} (--verbose)", rest="  ", style="dim")
    for note in report.audit.notes:
        lines += prose(screen, f"note: {clean(note)}", rest="  ", style="dim")
    for conflict in conflict_words(report.facts):
        lines += prose(screen, f"contradiction: {conflict}", rest="  ")
    if unread := unread_words(report.facts):
        lines += prose(screen, f"not read: {unread}", rest="  ")
    for problem in report.facts.problems:
        lines += prose(screen, f"not read: {clean(problem.source)}: {clean(problem.message)}", rest="  ", style="dim")
    return ["", *lines] if lines else []
