"""The report as one HTML page that needs nothing else: no request leaves it, and its content security policy says so.

The order is that of the questions: what does it cost, where is it, what is to be done, what is not known, what was read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bedplate.model.audit_report import AuditReport
from bedplate.model.facts.finding import Confidence, Finding, Severity
from bedplate.model.wording import plural
from bedplate.report.audit.listing import unjudged_by_reason
from bedplate.report.audit.machine import headline, make_machine
from bedplate.report.audit.map import render_map
from bedplate.report.audit.tables import render_tables
from bedplate.report.audit.texts import conflict_words, read_words, unread_words
from bedplate.report.format import clean, first_sentence

_DIRECTORY = Path(__file__).parent
_TOP = 3
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
_OPEN = (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM)  # the others are folded
_MOST_EVIDENCE = 40


def render_page(report: AuditReport, *, made: str, verb: str = "doctor") -> str:
    """The whole page; `made` is the day it was made, as text, `verb` the command that made it."""
    style = (_DIRECTORY.parent / "style.css").read_text(encoding="utf-8")
    script = (_DIRECTORY / "copy.js").read_text(encoding="utf-8")
    machine = make_machine(report)
    title = f"{_name(report)}: {verdict(report)}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">',
        f"<title>{_safe(title)}</title><style>{style}</style></head><body>",
        _header(report, made, verb),
        "<main>",
        _map(render_map(report, machine), render_map(report, machine, narrow=True)),
        _findings(report),
        _aside(report),
        f'<section aria-labelledby="facts"><h2 id="facts">What was read</h2>{render_tables(report.facts)}</section>',
        "</main>",
        f"<footer>Made by bedplate {_safe(report.version)}. Nothing on the machine was changed to make this page.</footer>",
        f"<script>{script}</script></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def verdict(report: AuditReport) -> str:
    """What the findings cost, in one sentence, by what their severities mean."""
    # What is only possible does not carry the headline, unless there is nothing else.
    sure = [finding for finding in report.findings if finding.confidence is not Confidence.POSSIBLE]
    counts = {severity: sum(finding.severity is severity for finding in sure) for severity in Severity}
    if not any(counts[severity] for severity in _OPEN):
        counts = report.counts
        if counts[Severity.CRITICAL]:
            return f"{_findings_word(counts[Severity.CRITICAL], ())} may keep accelerators from being used; none is certain."
    gpus = bool(report.facts.accelerators)
    parts: list[str] = []
    if count := counts[Severity.CRITICAL]:
        what = "accelerators from being used, now or after the next boot" if gpus else "this machine from working"
        parts.append(f"{_findings_word(count, parts)} {'keeps' if count == 1 else 'keep'} {what}")
    if count := counts[Severity.HIGH]:
        parts.append(f"{_findings_word(count, parts)} may {'' if count == 1 else 'each '}slow serving down by a factor")
    if (count := counts[Severity.MEDIUM]) and len(parts) < 2:
        parts.append(
            f"{_findings_word(count, parts)} may cost some percent of speed, or {'is a risk' if count == 1 else 'are risks'}"
        )
    judged = " in what could be judged" if report.audit.not_judged else ""
    if not parts and (count := counts[Severity.LOW] + counts[Severity.INFO]):
        return f"Nothing that costs speed was found{judged}; {plural(count, 'minor finding')}."
    if not parts:
        return f"Nothing wrong was found{judged}."
    return "; ".join(parts) + "."


def _findings_word(count: int, before: Sequence[str]) -> str:
    """ "Two findings" at the beginning, "two" after that."""
    return _number(count).lower() if before else f"{_number(count)} finding{'' if count == 1 else 's'}"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _name(report: AuditReport) -> str:
    return "this machine" if report.facts.origin == "live" else report.facts.origin


def _header(report: AuditReport, made: str, verb: str) -> str:
    top = [
        f'<li class="{finding.severity.value}"><span class="severity">{finding.severity.value}</span>'
        f'<a href="#f{number}">{_safe(finding.title)}</a>'
        f"<p>{_safe(_capital(first_sentence(report.effect(finding))))}</p></li>"
        for number, finding in _top(report)
    ]
    counts = [
        f"<li{'' if count else ' class=none'}><b>{count}</b>{severity.value}</li>"
        for severity, count in report.counts.items()
    ]
    if report.audit.not_judged:
        counts.append(f"<li><b>{len(report.audit.not_judged)}</b>could not be judged</li>")
    origin = "read on the machine itself" if report.facts.origin == "live" else f"from {report.facts.origin}"
    return (
        f'<header><div class="brand"><b>bedplate {_safe(verb)}</b><span>{_safe(origin)}, {_safe(made)}</span></div>'
        f"<h1>{_safe(verdict(report))}</h1>"
        f'<p class="lede">{_safe(" · ".join(headline(report.facts)).replace(" x ", " × "))}</p>'
        + (f'<ol class="top">{"".join(top)}</ol>' if top else "")
        + f'<ul class="counts" aria-label="Findings by severity">{"".join(counts)}</ul></header>'
    )


def _top(report: AuditReport) -> list[tuple[int, Finding]]:
    """(number, finding) of those that stand first on the page: the most expected effect, and none that is only possible."""
    numbered = [(number, finding) for number, finding in enumerate(report.findings, 1) if finding.severity in _OPEN]
    sure = [entry for entry in numbered if entry[1].confidence is not Confidence.POSSIBLE]
    return (sure or numbered)[:_TOP]


def _map(wide: str, narrow: str) -> str:
    if not wide:
        return ""
    kinds = [("gpu", "accelerator"), ("nic", "network"), ("disk", "storage"), ("fabric", "NVSwitch")]
    there = [f'<i style="--k:var(--{kind})"></i>{name}' for kind, name in kinds if f"chip {kind}" in wide]
    if '"w bad' in wide:
        there.append('<i class="line" style="--k:var(--high)"></i>bad link')
    if 'class="bt"' in wide:
        there.append("numbers lead to the findings")
    legend = f'<p class="legend">{"".join(f"<span>{entry}</span>" for entry in there)}</p>' if there else ""
    return f'<section aria-labelledby="map"><h2 id="map">The machine</h2>{wide}{narrow}{legend}</section>'


def _findings(report: AuditReport) -> str:
    if not report.findings:
        return ""
    numbered = list(enumerate(report.findings, 1))
    parts = [_finding(number, finding) for number, finding in numbered if finding.severity in _OPEN]
    for severity in (Severity.LOW, Severity.INFO):
        those = [_finding(number, finding) for number, finding in numbered if finding.severity is severity]
        if those:
            about = {Severity.LOW: "little or unmeasured effect", Severity.INFO: "worth knowing"}[severity]
            summary = f"{plural(len(those), f'{severity.value} finding')}<span>{about}</span>"
            parts.append(f'<details><summary>{summary}</summary><div class="inside">{"".join(those)}</div></details>')
    return f'<section aria-labelledby="findings"><h2 id="findings">Findings</h2>{"".join(parts)}</section>'


def _finding(number: int, one: Finding) -> str:
    places = ", ".join(clean(place) for place in one.where[:12]) + (
        f" and {len(one.where) - 12} more" if len(one.where) > 12 else ""
    )
    sure = "" if one.confidence is Confidence.CERTAIN else f" · {one.confidence.value}"
    evidence = "".join(
        f'<li>{_safe(each.fact)} <span class="source">{_safe(each.source)}</span></li>'
        for each in one.evidence[:_MOST_EVIDENCE]
    )
    if len(one.evidence) > _MOST_EVIDENCE:
        evidence += f"<li>and {len(one.evidence) - _MOST_EVIDENCE} more</li>"
    rows = [
        ("Evidence", f"<ul>{evidence}</ul>" if evidence else ""),
        ("Effect", _safe(_capital(one.effect))),
        ("Fix", _commands(one.fix, f"the fix of finding {number}")),
        ("Undo", _commands(one.undo, f"the undo of finding {number}")),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows if text)
    return (
        f'<article class="finding {one.severity.value}" id="f{number}"><header><span class="number">{number}</span>'
        f"<h3>{_safe(one.title)}</h3>"
        f'<p class="meta"><span class="severity">{one.severity.value}</span> '
        f"{_safe(one.id)} · {_safe(places)}{sure}</p></header>"
        f"<dl>{listed}</dl></article>"
    )


def _commands(lines: Sequence[str], what: str) -> str:
    """Commands to copy, with sentences among them as comments; sentences alone are prose."""
    if not lines:
        return ""
    if all(line.startswith("#") for line in lines):
        return " ".join(_safe(line.lstrip("# ")) for line in lines)
    said = "\n".join(
        f'<span class="say">{_safe(line)}</span>' if line.startswith("#") else escape(clean(line, longest=4000))
        for line in _join_comments(lines)
    )
    return f'<div class="command" data-what="{escape(what)}"><pre>{said}</pre></div>'


def _join_comments(lines: Sequence[str]) -> list[str]:
    """The lines, with a sentence that goes on in the next comment as one: the page wraps it where its own line ends."""
    joined: list[str] = []
    for line in lines:
        goes_on = line[2:3].islower() and joined and joined[-1].startswith("# ") and joined[-1][-1] not in ".:;"
        if line.startswith("# ") and goes_on:
            joined[-1] += line[1:]
        else:
            joined.append(line)
    return joined


def _aside(report: AuditReport) -> str:
    """What could not be judged or read, and what was set aside."""
    parts: list[str] = []
    for label, texts in (
        ("Parts of the text that were read", [read_words(report.facts)]),
        ("Lines that were not understood", [unread_words(report.facts)]),
        ("What contradicts itself", list(conflict_words(report.facts))),
    ):
        if any(texts):
            parts.append(_details(label, "", "".join(f"<p>{_safe(text)}</p>" for text in texts)))
    for why, ids in unjudged_by_reason(report):
        names = "".join(f"<li><code>{_safe(id)}</code></li>" for id in ids)
        parts.append(_details(_capital(why), plural(len(ids), "check"), f'<ul class="ids">{names}</ul>'))
    if report.facts.problems:
        rows = "".join(
            f"<p><code>{_safe(problem.source)}</code> {_safe(problem.message)}</p>" for problem in report.facts.problems
        )
        parts.append(_details("Could not be read", plural(len(report.facts.problems), "reader"), rows))
    if report.audit.suppressed:
        rows = "".join(
            f"<p><code>{_safe(entry.finding.id)}</code> {_safe(entry.finding.title)}: {_safe(entry.reason)}</p>"
            for entry in report.audit.suppressed
        )
        parts.append(_details("Suppressed with a reason", plural(len(report.audit.suppressed), "finding"), rows))
    if report.audit.notes:
        notes = "".join(f"<p>{_safe(note)}</p>" for note in report.audit.notes)
        parts.append(_details("Notes on suppressions", str(len(report.audit.notes)), notes))
    if not parts:
        return ""
    return f'<section aria-labelledby="unjudged"><h2 id="unjudged">What could not be judged</h2>{"".join(parts)}</section>'


def _details(title: str, about: str, inside: str) -> str:
    return (
        f'<details><summary>{_safe(title)}<span>{_safe(about)}</span></summary><div class="inside">{inside}</div></details>'
    )


def _capital(text: str) -> str:
    """A sentence's first letter, unless its first word is a name such as net.ipv4.tcp_rmem or /proc/stat."""
    first = text.split(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def _policy(style: str, script: str) -> str:
    """Only this style sheet's kind and exactly this script; no image, font or connection."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _safe(text: str) -> str:
    return escape(clean(text))
