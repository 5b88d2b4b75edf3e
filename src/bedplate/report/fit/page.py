"""Whether a model fits, as one HTML page that needs nothing else: no script, no request, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from bedplate.model.fit import FitReport, FitResult, MemoryParts
from bedplate.model.units import render_size
from bedplate.report.fit import phrases
from bedplate.report.format import clean
from bedplate.report.svg import box, fit, label, plot, text_width, wire

_DIRECTORY = Path(__file__).parent
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WIDE, _NARROW = 1042, 344  # pixels of the page's column
_KEY = {**phrases.PART_NAMES, "reserve": "left alone by the engine, or kept for the system"}


def render_fit_page(report: FitReport) -> str:
    """The page; the same text for the same report."""
    style = "".join(
        path.read_text(encoding="utf-8")
        for path in (_DIRECTORY.parent / "style.css", _DIRECTORY.parent / "proof" / "proof.css", _DIRECTORY / "fit.css")
    )
    first = phrases.headline(report)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{_safe(first)}</title><style>{style}</style></head><body>",
            f'<header><div class="brand"><b>bedplate fit</b></div><h1>{_safe(first)}</h1>',
            f'<p class="lede">{_safe(phrases.model_line(report.model))}.</p></header>',
            "<main>",
            _key(report.results),
            *(_target(results, phrases.heads(report)) for results in phrases.by_target(report.results)),
            _origin(report),
            "</main>",
            f"<footer>Made by bedplate {_safe(report.version)}.</footer></body></html>\n",
        ]
    )


def _target(results: Sequence[FitResult], heads: Sequence[str]) -> str:
    target = results[0].target
    notes = "".join(f"<br>{_safe(note)}" for note in phrases.target_notes(target)).removeprefix("<br>")
    return (
        f"<h2>{_safe(phrases.target_line(target))}</h2>"
        + (f'<p class="note">{notes}</p>' if notes else "")
        + render_memory(results, width=_WIDE)
        + render_memory(results, width=_NARROW)
        + _table(results, heads)
    )


def render_memory(results: Sequence[FitResult], *, width: int) -> str:
    """The memory of one device for each result, as stacked bars beside its size; "" where no size is known."""
    known = [(result, result.parts) for result in results if result.parts is not None]
    if not known:
        return ""
    narrow = width < 600
    names = [f"{result.engine}, {clean(result.precision)}" for result, _ in known]
    left = 0.0 if narrow else min(220.0, max(text_width(name, 14, bold=True) for name in names) + 18)
    right = 0.0 if narrow else 190.0
    total = known[0][1].total_bytes
    most = max(total, min(2 * total, max(parts.used_bytes for _, parts in known)))
    scale = (width - left - right) / most
    edge = left + total * scale
    drawn: list[str] = []
    y = 18.0
    for (result, parts), name in zip(known, names, strict=True):
        said = _said(result, parts)
        if narrow:
            drawn.append(label(0, y + 10, fit(f"{name}: {said}", width, 12.5), "d"))
            y += 17
        else:
            drawn.append(label(0, y + 17, fit(name, left - 12, 14), "n"))
            drawn.append(label(width - right + 10, y + 17, fit(said, right - 12, 12.5), "d"))
        drawn += _stack(parts, left, y, scale, left + most * scale)
        y += 36
    drawn.append(wire("edge", edge, 12, (edge, y - 6)))
    drawn.append(label(edge, 9, f"one device: {render_size(total)}", "s", anchor="end" if edge > left + 90 else "start"))
    return plot(width, y, "Memory of one device, by engine and precision", drawn)


def _stack(parts: MemoryParts, left: float, y: float, scale: float, end: float) -> list[str]:
    """One bar; what lies beyond the page is cut."""
    drawn: list[str] = []
    x = left
    for css, name, size in phrases.parts_of(parts):
        wide = min(size * scale, end - x)
        if wide <= 0:
            break
        title = f"<title>{escape(name)}: {render_size(size)}</title>"
        drawn.append(f"<g>{title}{box(round(x, 2), y, round(wide, 2), 24, f'part {css}', radius=1.5)}</g>")
        x += wide
    return drawn


def _said(result: FitResult, parts: MemoryParts) -> str:
    if result.fits:
        return f"{render_size(parts.spare_bytes)} free"
    return f"{render_size(-parts.spare_bytes)} too large"


def _table(results: Sequence[FitResult], heads: Sequence[str]) -> str:
    head = "".join(f"<th>{_safe(name)}</th>" for name in heads)
    rows = ""
    for result in results:
        row = "".join(f"<td>{_safe(cell)}</td>" for cell in phrases.cells(result)[: len(heads)])
        rows += f"<tr>{row}</tr>"
        if result.reason:
            rows += f'<tr><td class="unknown" colspan="{len(heads)}">{_safe(result.reason)}</td></tr>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _key(results: Sequence[FitResult]) -> str:
    used = phrases.used_parts(results)
    items = "".join(f'<span class="part {css}"><i></i>{_safe(name)}</span>' for css, name in _KEY.items() if css in used)
    return f'<div class="key">{items}</div>'


def _origin(report: FitReport) -> str:
    sentences = [*phrases.legend(report), f"The model is read from {report.model.source}."]
    if report.model.unverified:
        sentences.append(f"Unverified: {report.model.unverified}.")
    sentences += [f"Note: {note}." for note in report.model.notes]
    paragraphs = "".join(f'<p class="note">{_safe(sentence)}</p>' for sentence in sentences)
    return f"<h2>What the figures mean</h2>{paragraphs}"


def _safe(text: str) -> str:
    return escape(clean(text, longest=2000))
