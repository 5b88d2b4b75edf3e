"""A proof as one HTML page that needs nothing else: no script, no request, light and dark.

The order is that of the questions: is it worth it and what did the neighbour pay, beside which neighbours, how do the gaps
lie, what happened when, what was tested, what was not counted, how is it made again.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from bedplate.model.proof import Judgement
from bedplate.model.proof_summary import ProofSummary, Scenario, all_gaps, counted, rejected_by_reason, worst_scenario
from bedplate.model.wording import plural
from bedplate.report.format import clean
from bedplate.report.proof.charts import (
    NARROW,
    WIDE,
    Strip,
    arm_css,
    render_gaps,
    render_kept,
    render_timeline,
)
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
    percent,
    seconds,
    tail,
    verdict,
)

_DIRECTORY = Path(__file__).parent
_OPEN = 3  # scenarios whose charts are unfolded
_CSS = {
    Judgement.KEEP: "keep",
    Judgement.NO_EFFECT: "none",
    Judgement.REVERT: "revert",
    Judgement.REFUSED: "refused",
    None: "none",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_page(summary: ProofSummary, *, version: str) -> str:
    """One HTML page that needs no other file: style and charts are in it."""
    style = "".join(path.read_text(encoding="utf-8") for path in (_DIRECTORY.parent / "style.css", _DIRECTORY / "proof.css"))
    first = verdict(summary)
    sections = [
        _kept(summary),
        _scenarios(summary),
        _effects(summary),
        _samples(summary),
        _again(summary),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{_safe(summary.title)}: {_safe(first)}</title><style>{style}</style></head><body>",
            _header(summary, first),
            "<main>",
            *(section for section in sections if section),
            "</main>",
            f"<footer>Made by bedplate {_safe(version)}.</footer></body></html>\n",
        ]
    )


def _header(summary: ProofSummary, first: str) -> str:
    judged = summary.judgement
    badge = f'<span class="verdict {_CSS[judged]}">{_safe(judged.value)}</span>' if judged is not None else ""
    second = cost(summary)
    return (
        f'<header class="{_CSS[judged]}"><div class="brand"><b>bedplate prove</b>'
        f"<span>{_safe(summary.title)}, {_safe(_day(summary.made))}</span></div>{badge}"
        f"<h1>{_safe(first)}</h1>"
        + (f'<p class="lede">{_safe(second)}</p>' if second else "")
        + f"{_tiles(summary)}</header>"
    )


def _tiles(summary: ProofSummary) -> str:
    """Before and after in the scenario that hurts most: speed, tail, the neighbour."""
    scenario = worst_scenario(summary)
    if scenario is None:
        return ""
    before, after = scenario.result(summary.arms[0]), scenario.result(summary.arms[-1])
    assert before is not None and after is not None  # worst_scenario gives no other
    tiles: list[tuple[str, str, str, str]] = []
    if before.kept is not None and after.kept is not None:
        tiles.append(
            (
                _tone(after.kept / before.kept if before.kept else 1.0),
                "of the quiet speed",
                percent(before.kept),
                percent(after.kept),
            )
        )
    elif before.rate:
        tiles.append((_tone(after.rate / before.rate), "work per second", number(before.rate), number(after.rate)))
    if before.gap_p99_s is not None and after.gap_p99_s:
        tone = _tone(before.gap_p99_s / after.gap_p99_s)
        tiles.append((tone, "gap, 99th percentile", seconds(before.gap_p99_s), seconds(after.gap_p99_s)))
    if after.neighbour is not None:
        tone = "keep" if after.neighbour >= 0.98 else "none"
        tiles.append((tone, "neighbour's own work", "100%", percent(after.neighbour)))
    listed = "".join(
        f'<li class="{tone}"><span>{_safe(name)}</span><b><i>{_safe(old)} → </i>{_safe(new)}</b></li>'
        for tone, name, old, new in tiles
    )
    where = (
        f"{summary.arms[0]} → {summary.arms[-1]}, beside {scenario.name}"
        if scenario.antagonist
        else f"{summary.arms[0]} → {summary.arms[-1]}"
    )
    return f'<ul class="tiles">{listed}</ul><p class="note" style="margin-top:10px">{_safe(where)}</p>' if listed else ""


def _tone(gain: float) -> str:
    return "keep" if gain >= 1.02 else "revert" if gain <= 0.98 else "none"


def _kept(summary: ProofSummary) -> str:
    wide = render_kept(summary, width=WIDE)
    if not wide:
        return ""
    note = (
        "Median over the blocks; the line through the end of a bar is the 95% interval of it. "
        "100% is the same work without a neighbour."
    )
    if foreign(summary):
        note += f" <b>{_safe(foreign(summary))}</b>"
    table = _kept_table(summary) if len(summary.arms) > 2 or len(summary.scenarios) > 1 else ""
    return _section(
        "kept",
        "What is kept beside each neighbour",
        f'{_key(summary)}<p class="note">{note}</p>{wide}{render_kept(summary, width=NARROW)}{table}',
    )


def _kept_table(summary: ProofSummary) -> str:
    rows = []
    for scenario in summary.scenarios:
        for arm in summary.arms:
            result = scenario.result(arm)
            if result is None:
                cells = ("no block counts", "", "", "", "")
            else:
                cells = (
                    interval(result),
                    tail(result),
                    neighbour_work(result),
                    neighbour_had(result),
                    str(result.blocks),
                )
            name = _safe(scenario.name) if arm == summary.arms[0] else ""
            rows.append(
                f"<tr><td>{name}</td><td>{_safe(arm)}</td>{''.join(f'<td>{_safe(cell)}</td>' for cell in cells)}</tr>"
            )
    head = "".join(
        f"<th>{title}</th>"
        for title in ("beside", "arm", "kept", "gap p99, times quiet", "neighbour's work", "of what was left", "blocks")
    )
    return (
        f'<details><summary>As a table<span>{plural(len(rows), "row")}</span></summary><div class="inside scroll">'
        f'<table class="effects"><tr>{head}</tr>{"".join(rows)}</table></div></details>'
    )


def _key(summary: ProofSummary) -> str:
    arms = "".join(f'<span><i class="{arm_css(summary, arm)}"></i>{_safe(arm)}</span>' for arm in summary.arms)
    return f'<p class="key">{arms}</p>'


def _scenarios(summary: ProofSummary) -> str:
    """The distribution and the timeline of each scenario."""
    if len(summary.arms) > 2:
        return ""
    parts = []
    for place, scenario in enumerate(summary.scenarios):
        inside = _gaps(summary, scenario) + _timeline(summary, scenario)
        if not inside:
            continue
        if len(summary.scenarios) == 1:
            parts.append(inside)
        elif place < _OPEN:
            parts.append(f'<h3 class="case">Beside {_safe(scenario.name)}</h3>{inside}')
        else:
            parts.append(
                f'<details><summary>Beside {_safe(scenario.name)}</summary><div class="inside">{inside}</div></details>'
            )
    return _section("when", "How it went", "".join(parts)) if parts else ""


def _gaps(summary: ProofSummary, scenario: Scenario) -> str:
    strips = [Strip(name="quiet", css="still", values=all_gaps(scenario.quiet))]
    strips += [
        Strip(
            name=clean(arm),
            css=arm_css(summary, arm),
            values=all_gaps([sample for sample in scenario.samples if sample.arm == arm]),
        )
        for arm in summary.arms
    ]
    wide = render_gaps(strips, width=WIDE)
    if not wide:
        return ""
    note = (
        "Gaps between one piece of work and the next (tokens of a stream, or steps fed to the accelerator). The scale is "
        "logarithmic; heights are square roots, so that a rare long gap can be seen. Dashed is the median."
    )
    return f'<p class="note">{note}</p>{wide}{render_gaps(strips, width=NARROW)}'


def _timeline(summary: ProofSummary, scenario: Scenario) -> str:
    wide = render_timeline(summary, scenario, width=WIDE)
    if not wide:
        return ""
    still = '<span><i class="still"></i>quiet</span>' if any(sample.seconds for sample in scenario.quiet) else ""
    off = '<span><i class="off"></i>rejected</span>' if any(sample.rejected for sample in scenario.samples) else ""
    arms = "".join(f'<span><i class="{arm_css(summary, arm)}"></i>{_safe(arm)}</span>' for arm in summary.arms)
    narrow = render_timeline(summary, scenario, width=NARROW)
    return f'<p class="key" style="margin-top:26px">{still}{arms}{off}</p>{wide}{narrow}'


def _effects(summary: ProofSummary) -> str:
    parts = []
    for scenario in summary.scenarios:
        if scenario.proof is None:
            continue
        rows = []
        for effect in scenario.proof.effects:
            better = is_better(effect)
            word = (
                ("under 2%" if abs(effect.ratio - 1) < 0.02 else "not shown")
                if better is None
                else "better"
                if better
                else "worse"
            )
            css = "" if better is None else "better" if better else "worse"
            cells = [
                metric_name(effect),
                metric_value(effect, effect.without),
                metric_value(effect, effect.with_),
                f"×{number(effect.ratio)}",
                f"{number(effect.low)} to {number(effect.high)}",
                f"{effect.p:.2g}",
                str(effect.pairs),
            ]
            rows.append(f'<tr>{"".join(f"<td>{_safe(cell)}</td>" for cell in cells)}<td class="{css}">{word}</td></tr>')
        if len(summary.proofs) > 1:
            parts.append(f'<h3 class="case">Beside {_safe(scenario.name)}: {_safe(scenario.proof.judgement.value)}</h3>')
        parts.append(f'<p class="note">{_safe(scenario.proof.because)}</p>')
        if rows:
            names = ("metric", "without", "with", "ratio", "95% interval", "p", "pairs", "")
            head = "".join(f"<th>{title}</th>" for title in names)
            parts.append(f'<div class="scroll"><table class="effects"><tr>{head}</tr>{"".join(rows)}</table></div>')
    if not parts:
        return ""
    note = '<p class="note">Ratios are geometric means over the pairs; p is of the paired sign-flip test, uncorrected.</p>'
    return _section("effects", "What was tested", "".join(parts) + note)


def _samples(summary: ProofSummary) -> str:
    rejected = rejected_by_reason(summary)
    total = sum(count for _, count in rejected)
    said = f"{plural(counted(summary), 'block')} counted, {total or 'none'} rejected."
    rows = "".join(f"<tr><td>{count}</td><td>{_safe(why)}</td></tr>" for why, count in rejected)
    table = f'<table class="reasons"><tr><th>blocks</th><th>why</th></tr>{rows}</table>' if rows else ""
    return _section("counted", "What was counted", f"<p>{_safe(said)}</p>{table}")


def _again(summary: ProofSummary) -> str:
    facts = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(text)}</dd>" for name, text in summary.facts)
    command = (
        f'<div class="command"><pre>{escape(clean(summary.command, longest=4000))}</pre></div>' if summary.command else ""
    )
    listed = f'<dl class="facts" style="margin-top:18px">{facts}</dl>' if facts else ""
    return _section("again", "What it is valid for, and how it is made again", command + listed) if command or listed else ""


def _section(id: str, title: str, inside: str) -> str:
    return f'<section aria-labelledby="{id}"><h2 id="{id}">{title}</h2>{inside}</section>'


def _day(made: str) -> str:
    return made[:16].replace("T", " ") + (" UTC" if len(made) > 10 else "")


def _safe(text: str) -> str:
    return escape(clean(text))
