"""A proof as one HTML page that needs nothing else: no script, no request, light and dark.

The order is that of the questions: is it worth it and what did the neighbour pay, beside which neighbours, how do the gaps
lie, what happened when, what was tested, what was not counted, how is it made again.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from bedplate.cli.faces.proof_charts import (
    NARROW,
    WIDE,
    Strip,
    arm_css,
    render_gaps,
    render_kept,
    render_timeline,
)
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
    percent,
    seconds,
    tail,
    verdict,
)
from bedplate.cli.faces.study import Case, Study, all_gaps, counted, overall, rejected_by_reason, worst_case
from bedplate.cli.faces.words import clean, plural
from bedplate.model.proof import Judgement

_HERE = Path(__file__).parent
_OPEN = 3  # cases whose charts are unfolded
_CSS = {
    Judgement.KEEP: "keep",
    Judgement.NO_EFFECT: "none",
    Judgement.REVERT: "revert",
    Judgement.REFUSED: "refused",
    None: "none",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_page(study: Study, *, version: str) -> str:
    """The whole page of a study."""
    style = "".join((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", "proof.css"))
    first = verdict(study)
    sections = [
        _kept(study),
        _cases(study),
        _effects(study),
        _samples(study),
        _again(study),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{_safe(study.title)}: {_safe(first)}</title><style>{style}</style></head><body>",
            _header(study, first),
            "<main>",
            *(one for one in sections if one),
            "</main>",
            f"<footer>Made by bedplate {_safe(version)}.</footer></body></html>\n",
        ]
    )


def _header(study: Study, first: str) -> str:
    judged = overall(study)
    badge = f'<span class="verdict {_CSS[judged]}">{_safe(judged.value)}</span>' if judged is not None else ""
    second = cost(study)
    return (
        f'<header class="{_CSS[judged]}"><div class="brand"><b>bedplate prove</b>'
        f"<span>{_safe(study.title)}, {_safe(_day(study.made))}</span></div>{badge}"
        f"<h1>{_safe(first)}</h1>" + (f'<p class="lede">{_safe(second)}</p>' if second else "") + f"{_tiles(study)}</header>"
    )


def _tiles(study: Study) -> str:
    """Before and after in the case that hurts most: speed, tail, the neighbour."""
    case = worst_case(study)
    if case is None:
        return ""
    before, after = case.outcome(study.arms[0]), case.outcome(study.arms[-1])
    assert before is not None and after is not None  # worst_case gives no other
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
        tiles.append((_tone(after.rate / before.rate), "work a second", number(before.rate), number(after.rate)))
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
        f"{study.arms[0]} → {study.arms[-1]}, beside {case.name}"
        if case.antagonist
        else f"{study.arms[0]} → {study.arms[-1]}"
    )
    return f'<ul class="tiles">{listed}</ul><p class="note" style="margin-top:10px">{_safe(where)}</p>' if listed else ""


def _tone(gain: float) -> str:
    return "keep" if gain >= 1.02 else "revert" if gain <= 0.98 else "none"


def _kept(study: Study) -> str:
    wide = render_kept(study, width=WIDE)
    if not wide:
        return ""
    note = (
        "Median over the blocks; the line through the end of a bar is the 95% interval of it. "
        "100% is the same work without a neighbour."
    )
    if foreign(study):
        note += f" <b>{_safe(foreign(study))}</b>"
    table = _kept_table(study) if len(study.arms) > 2 or len(study.cases) > 1 else ""
    return _section(
        "kept",
        "What is kept beside each neighbour",
        f'{_key(study)}<p class="note">{note}</p>{wide}{render_kept(study, width=NARROW)}{table}',
    )


def _kept_table(study: Study) -> str:
    rows = []
    for case in study.cases:
        for arm in study.arms:
            outcome = case.outcome(arm)
            if outcome is None:
                cells = ("no block counts", "", "", "", "")
            else:
                cells = (
                    interval(outcome),
                    tail(outcome),
                    neighbour_work(outcome),
                    neighbour_had(outcome),
                    str(outcome.blocks),
                )
            name = _safe(case.name) if arm == study.arms[0] else ""
            rows.append(f"<tr><td>{name}</td><td>{_safe(arm)}</td>{''.join(f'<td>{_safe(one)}</td>' for one in cells)}</tr>")
    head = "".join(
        f"<th>{one}</th>"
        for one in ("beside", "arm", "kept", "gap p99, times quiet", "neighbour's work", "of what was left", "blocks")
    )
    return (
        f'<details><summary>As a table<span>{plural(len(rows), "row")}</span></summary><div class="inside scroll">'
        f'<table class="effects"><tr>{head}</tr>{"".join(rows)}</table></div></details>'
    )


def _key(study: Study) -> str:
    arms = "".join(f'<span><i class="{arm_css(study, arm)}"></i>{_safe(arm)}</span>' for arm in study.arms)
    return f'<p class="key">{arms}</p>'


def _cases(study: Study) -> str:
    """The distribution and the timeline of each case."""
    if len(study.arms) > 2:
        return ""
    parts = []
    for place, case in enumerate(study.cases):
        inside = _gaps(study, case) + _timeline(study, case)
        if not inside:
            continue
        if len(study.cases) == 1:
            parts.append(inside)
        elif place < _OPEN:
            parts.append(f'<h3 class="case">Beside {_safe(case.name)}</h3>{inside}')
        else:
            parts.append(
                f'<details><summary>Beside {_safe(case.name)}</summary><div class="inside">{inside}</div></details>'
            )
    return _section("when", "How it went", "".join(parts)) if parts else ""


def _gaps(study: Study, case: Case) -> str:
    strips = [Strip(name="quiet", css="still", values=all_gaps(case.quiet))]
    strips += [
        Strip(name=clean(arm), css=arm_css(study, arm), values=all_gaps([one for one in case.samples if one.arm == arm]))
        for arm in study.arms
    ]
    wide = render_gaps(strips, width=WIDE)
    if not wide:
        return ""
    note = (
        "Gaps between one piece of work and the next (tokens of a stream, or steps fed to the accelerator). The scale is "
        "logarithmic; heights are square roots, so that a rare long gap can be seen. Dashed is the median."
    )
    return f'<p class="note">{note}</p>{wide}{render_gaps(strips, width=NARROW)}'


def _timeline(study: Study, case: Case) -> str:
    wide = render_timeline(study, case, width=WIDE)
    if not wide:
        return ""
    still = '<span><i class="still"></i>quiet</span>' if any(one.seconds for one in case.quiet) else ""
    off = '<span><i class="off"></i>rejected</span>' if any(one.rejected for one in case.samples) else ""
    arms = "".join(f'<span><i class="{arm_css(study, arm)}"></i>{_safe(arm)}</span>' for arm in study.arms)
    return f'<p class="key" style="margin-top:26px">{still}{arms}{off}</p>{wide}{render_timeline(study, case, width=NARROW)}'


def _effects(study: Study) -> str:
    parts = []
    for case in study.cases:
        if case.proof is None:
            continue
        rows = []
        for one in case.proof.effects:
            better = is_better(one)
            word = (
                ("under 2%" if abs(one.ratio - 1) < 0.02 else "not shown")
                if better is None
                else "better"
                if better
                else "worse"
            )
            css = "" if better is None else "better" if better else "worse"
            cells = [
                metric_name(one),
                metric_value(one, one.without),
                metric_value(one, one.with_),
                f"×{number(one.ratio)}",
                f"{number(one.low)} to {number(one.high)}",
                f"{one.p:.2g}",
                str(one.pairs),
            ]
            rows.append(f'<tr>{"".join(f"<td>{_safe(cell)}</td>" for cell in cells)}<td class="{css}">{word}</td></tr>')
        if len(study.proofs) > 1:
            parts.append(f'<h3 class="case">Beside {_safe(case.name)}: {_safe(case.proof.judgement.value)}</h3>')
        parts.append(f'<p class="note">{_safe(case.proof.because)}</p>')
        if rows:
            names = ("metric", "without", "with", "ratio", "95% interval", "p", "pairs", "")
            head = "".join(f"<th>{one}</th>" for one in names)
            parts.append(f'<div class="scroll"><table class="effects"><tr>{head}</tr>{"".join(rows)}</table></div>')
    if not parts:
        return ""
    note = '<p class="note">Ratios are geometric means over the pairs; p is of the paired sign-flip test, uncorrected.</p>'
    return _section("effects", "What was tested", "".join(parts) + note)


def _samples(study: Study) -> str:
    rejected = rejected_by_reason(study)
    total = sum(count for _, count in rejected)
    said = f"{plural(counted(study), 'block')} counted, {total or 'none'} rejected."
    rows = "".join(f"<tr><td>{count}</td><td>{_safe(why)}</td></tr>" for why, count in rejected)
    table = f'<table class="reasons"><tr><th>blocks</th><th>why</th></tr>{rows}</table>' if rows else ""
    return _section("counted", "What was counted", f"<p>{_safe(said)}</p>{table}")


def _again(study: Study) -> str:
    facts = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(text)}</dd>" for name, text in study.facts)
    command = f'<div class="command"><pre>{escape(clean(study.command, longest=4000))}</pre></div>' if study.command else ""
    listed = f'<dl class="facts" style="margin-top:18px">{facts}</dl>' if facts else ""
    return _section("again", "What it is valid for, and how it is made again", command + listed) if command or listed else ""


def _section(id: str, title: str, inside: str) -> str:
    return f'<section aria-labelledby="{id}"><h2 id="{id}">{title}</h2>{inside}</section>'


def _day(made: str) -> str:
    return made[:16].replace("T", " ") + (" UTC" if len(made) > 10 else "")


def _safe(text: str) -> str:
    return escape(clean(text))
