"""Whether a model fits, for a terminal: a table for each target, and the memory of one device as a stacked bar."""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.fit import FitReport, FitResult, MemoryParts
from bedplate.model.units import render_size
from bedplate.report.fit import phrases
from bedplate.report.format import clean
from bedplate.report.terminal import Screen, prose

_BLOCKS = {"weights": "█", "kv": "▓", "state": "▒", "buffers": "░", "runtime": "■", "reserve": "·"}
_ASCII = {"weights": "#", "kv": "=", "state": "%", "buffers": "+", "runtime": "@", "reserve": "."}
_MANY_TARGETS = 4  # more of them get their best rows only
_WIDEST_BAR = 60
_MOST_SHOWN = 1.5  # times the device: what is larger is cut there


def render_fit(report: FitReport, screen: Screen) -> str:
    """The whole answer; ends with a line end."""
    lines = prose(screen, phrases.headline(report) + ".", style="bold")
    lines += prose(screen, phrases.model_line(report.model) + ".")
    lines += prose(screen, f"From {clean(report.model.source)}", rest="  ", style="dim")
    if report.model.unverified:
        lines += prose(screen, f"unverified: {clean(report.model.unverified)}", rest="  ")
    for note in report.model.notes:
        lines += prose(screen, f"note: {clean(note)}", rest="  ")
    targets = phrases.by_target(report.results)
    many = len(targets) > _MANY_TARGETS
    every: list[FitResult] = []
    for results in targets:
        shown = _best(results) if many else results
        every += shown
        lines += ["", screen.paint("bold", screen.plain(phrases.target_line(results[0].target)))]
        for note in phrases.target_notes(results[0].target):
            lines += prose(screen, note, first="  ", rest="    ", style="dim")
        lines += _table(screen, shown, [name.upper() for name in phrases.heads(report)])
        lines += _bars(screen, shown)
    lines += _legend(screen, report, phrases.used_parts(every), many=many)
    return "\n".join(lines) + "\n"


def _best(results: Sequence[FitResult]) -> list[FitResult]:
    """Of each engine the result that takes the fewest devices; where none fits, the one that lacks least."""
    best: dict[str, FitResult] = {}
    for result in results:
        before = best.get(result.engine)
        if before is None or _order(result) < _order(before):
            best[result.engine] = result
    return list(best.values())


def _order(result: FitResult) -> tuple[int, int, int]:
    spare = result.parts.spare_bytes if result.parts is not None else 0
    return (0 if result.fits else 1, result.devices if result.fits else 0, 0 if result.fits else -spare)


def _table(screen: Screen, results: Sequence[FitResult], heads: Sequence[str]) -> list[str]:
    rows = [heads, *(phrases.cells(result)[: len(heads)] for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    gap = 2 if sum(widths) + 2 * len(widths) + 2 <= screen.width else 1
    lines: list[str] = []
    for number, row in enumerate(rows):
        text = (" " * gap).join(
            cell.ljust(width) if column < 4 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(screen.paint("dim", "  " + text.rstrip()) if number == 0 else "  " + text.rstrip())
        reason = results[number - 1].reason if number else ""
        if reason:
            lines += prose(screen, clean(reason), first="    ", rest="    ", style="dim")
    return lines


def _bars(screen: Screen, results: Sequence[FitResult]) -> list[str]:
    known = [(result, result.parts) for result in results if result.parts is not None]
    if not known:
        return []
    names = [f"{result.engine} {clean(result.precision)}" for result, _ in known]
    wide = max(map(len, names))
    over = min(_MOST_SHOWN, max(parts.used_bytes / parts.total_bytes for _, parts in known))
    length = int(max(10, min(_WIDEST_BAR, screen.width - wide - 28) / max(1.0, over)))
    lines = [""]
    for (_, parts), name in zip(known, names, strict=True):
        size = f"{render_size(parts.used_bytes - parts.reserve_bytes)} of {render_size(parts.total_bytes)}"
        lines.append(f"  {name.ljust(wide)} {_bar(screen, parts, length)} {size}")
    return lines


def _bar(screen: Screen, parts: MemoryParts, length: int) -> str:
    """The device as `length` columns between brackets; what does not fit stands behind the second, cut where it ends."""
    glyphs = _BLOCKS if screen.utf8 else _ASCII
    scale = length / parts.total_bytes
    text, place = "", 0.0
    for css, _, size in phrases.parts_of(parts):
        place += size * scale
        text += glyphs[css] * max(0, round(min(place, length * _MOST_SHOWN)) - len(text))
    inside, outside = text[:length].ljust(length), text[length:]
    return f"[{inside}]{screen.paint('bold', outside) if outside else ''}"


def _legend(screen: Screen, report: FitReport, used: set[str], *, many: bool) -> list[str]:
    glyphs = _BLOCKS if screen.utf8 else _ASCII
    lines = [""]
    if used:
        key = "   ".join(f"{glyphs[css]} {name}" for css, name in phrases.PART_NAMES.items() if css in used)
        lines += prose(screen, f"Bars: one device. {key}")
    for sentence in phrases.legend(report):
        lines += prose(screen, sentence, style="dim")
    if many:
        lines += prose(
            screen, "Of each engine the precision that takes the fewest devices is shown; --json has all.", style="dim"
        )
    return lines
