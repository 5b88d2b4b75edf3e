"""Charts of a proof as inline SVG: kept shares with intervals, distributions of gaps, the timeline with the ladder. Pure.

Each is drawn for a width in pixels and not scaled below it: letters keep their size on a narrow screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bedplate.model.percentile import percentile
from bedplate.model.proof_summary import ProofSummary, Scenario
from bedplate.report.format import clean
from bedplate.report.proof.phrases import interval, percent, seconds
from bedplate.report.svg import fit, label, pair, plot, text_width, wire

WIDE, NARROW = 1042, 344  # pixels of the page's column
_BINS_A_DECADE = 14
_MOST_POINTS = 1500  # of a timeline; more than its pixels tell nothing more


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One distribution: its name, the class that colours it, and its values in seconds."""

    name: str
    css: str
    values: tuple[float, ...]


def arm_css(summary: ProofSummary, arm: str) -> str:
    """Class of an arm: "a0" the first, "last" ours, "a1", "a2" those between."""
    where = summary.arms.index(arm)
    return "last" if where == len(summary.arms) - 1 and where > 0 else f"a{where}"


def render_kept(summary: ProofSummary, *, width: int) -> str:
    """A bar for each arm and neighbour from 0 to what is kept, with its interval; "" without quiet blocks."""
    scenarios = [scenario for scenario in summary.scenarios if any(result.kept is not None for result in scenario.results)]
    if not scenarios:
        return ""
    narrow = width < 600
    many = len(summary.arms) > 2
    names = [clean(scenario.name) for scenario in scenarios]
    left = 0.0 if narrow else min(300.0, max(text_width(name, 14, bold=True) for name in names) + 22)
    inner = 0.0 if not many else max(text_width(clean(arm), 12.5) for arm in summary.arms) + 12
    left_bar = left + min(inner, 120.0)
    right = 118.0
    room = width - left_bar - right
    top_share = max([1.0, *(max(o.kept or 0, o.high or 0) for scenario in scenarios for o in scenario.results)])
    most = min(1.6, top_share) * 1.02
    bar, gap, between = 18.0, 5.0, 18.0
    parts: list[str] = []
    y = 22.0
    for scenario, name in zip(scenarios, names, strict=True):
        if narrow:
            parts.append(label(0, y + 10, fit(name, width, 14), "n"))
            y += 20
        height = len(summary.arms) * (bar + gap) - gap
        if not narrow:
            parts.append(label(0, y + height / 2 + 5, fit(name, left - 14, 14), "n"))
        for arm in summary.arms:
            result = scenario.result(arm)
            css = arm_css(summary, arm)
            if many:
                parts.append(label(left_bar - 10, y + 13, fit(clean(arm), left_bar - left - 10, 12.5), "d", anchor="end"))
            if result is None or result.kept is None:
                parts.append(label(left_bar + 6, y + 13, "no block counts", "s"))
                y += bar + gap
                continue
            end = room * min(result.kept, most) / most
            parts.append(
                f'<rect x="{left_bar:g}" y="{y:g}" width="{max(end, 1.5):.1f}" height="{bar:g}" rx="2" class="bar {css}"/>'
            )
            reach = end
            if result.low is not None and result.high is not None:
                low, high = (room * min(max(bound, 0), most) / most for bound in (result.low, result.high))
                middle = y + bar / 2
                parts.append(wire("whisker", left_bar + low, middle, (left_bar + high, middle)))
                parts += [wire("whisker", left_bar + x, middle - 4, (left_bar + x, middle + 4)) for x in (low, high)]
                reach = max(end, high)
            text = f"{percent(result.kept)}"
            spread = interval(result).partition(" (")[2].rstrip(")")
            parts.append(
                f'<text x="{left_bar + reach + 9:.1f}" y="{y + 13.5:g}"><tspan class="v">{text}</tspan>'
                + (f'<tspan class="s" dx="6">{spread}</tspan>' if spread else "")
                + "</text>"
            )
            y += bar + gap
        y += between - gap
    bottom = y - between + 8
    full = left_bar + room / most
    axis = [
        wire("quiet", full, 14, (full, bottom)),
        label(full, 10, "100% = without a neighbour", "s", anchor="end" if full > width / 2 else "middle"),
        wire("axis", left_bar, 14, (left_bar, bottom)),
    ]
    return plot(width, bottom + 4, "Share of the quiet speed that is kept, by neighbour", [*axis, *parts])


def render_gaps(strips: Sequence[Strip], *, width: int) -> str:
    """Distributions under each other on one logarithmic axis, with the median and the 99th percentile of each."""
    strips = [strip for strip in strips if strip.values]
    values = [value for strip in strips for value in (percentile(strip.values, 0.1), max(strip.values)) if value > 0]
    if not values:
        return ""
    lowest, highest = math.log10(min(values)), math.log10(max(values))
    first, last = math.floor(lowest * 3) / 3, max(math.ceil(highest * 3) / 3, math.floor(lowest * 3) / 3 + 1)
    narrow = width < 600
    left, right, high, gap = (0.0 if narrow else 150.0), 14.0, 74.0, 30.0 if narrow else 20.0
    room = width - left - right

    def place(value: float) -> float:
        return left + room * min(1.0, max(0.0, (math.log10(max(value, 1e-12)) - first) / (last - first)))

    parts: list[str] = []
    bottom = len(strips) * (high + gap) + 6
    for power in range(math.floor(first), math.ceil(last) + 1):
        for step in (1, 3):
            tick = step * 10.0**power
            if first - 1e-9 <= math.log10(tick) <= last + 1e-9:
                x = place(tick)
                parts.append(wire("grid", x, 8, (x, bottom)))
                anchor = "start" if x - left < 20 else "end" if width - x < 34 else "middle"
                parts.append(label(x, bottom + 17, _plain(tick), "s", anchor=anchor))
    y = 6.0
    for strip in strips:
        base = y + high + gap - 8
        median, late = percentile(strip.values, 50), percentile(strip.values, 99)
        if narrow:
            said = f"p50 {seconds(median)}, p99 {seconds(late)}"
            parts.append(pair(0, base - high - 4, strip.name, said, "n", "s"))
        else:
            parts.append(label(0, base - 42, fit(strip.name, left - 14, 14), "n"))
            parts.append(label(0, base - 24, f"p50 {seconds(median)}", "s"))
            parts.append(label(0, base - 9, f"p99 {seconds(late)}", "s"))
        parts.append(_shape(strip, first, last, left, room, base, high - 14))
        for value, css in ((median, "mark half"), (late, "mark")):
            parts.append(wire(css, place(value), base, (place(value), base - high + 12)))
        turn = place(late) + 34 > width
        parts.append(
            label(place(late) + (-5 if turn else 5), base - high + 22, "p99", "m", anchor="end" if turn else "start")
        )
        parts.append(wire("axis", left, base, (left + room, base)))
        y += high + gap
    return plot(width, bottom + 24, "Distribution of gaps in each arm", parts)


def _shape(strip: Strip, first: float, last: float, left: float, room: float, base: float, high: float) -> str:
    """The outline of a histogram; the height is the square root of the share, so that a tail can be seen."""
    count = max(12, round((last - first) * _BINS_A_DECADE * (3 if room > 500 else 2)))
    bins = [0] * count
    for value in strip.values:
        where = (math.log10(max(value, 1e-12)) - first) / (last - first)
        bins[min(count - 1, max(0, int(where * count)))] += 1
    most = max(bins)
    step = room / count
    path = f"M{left:.1f} {base:.1f}"
    for index, filled in enumerate(bins):
        top = base - high * math.sqrt(filled / most)
        path += f"L{left + index * step:.1f} {top:.1f}L{left + (index + 1) * step:.1f} {top:.1f}"
    return f'<path d="{path}L{left + room:.1f} {base:.1f}Z" class="area {strip.css}"/>'


def render_timeline(summary: ProofSummary, scenario: Scenario, *, width: int) -> str:
    """Work of each second in the order in which it was done, by arm, above the neighbour's level; rejected is grey."""
    samples = sorted((*scenario.quiet, *scenario.samples), key=lambda sample: sample.started_s)
    samples = [sample for sample in samples if sample.seconds]
    if not samples:
        return ""
    end = max(sample.started_s + max(sample.duration_s, len(sample.seconds)) for sample in samples)
    begin = min(sample.started_s for sample in samples)
    top = max(max(sample.seconds) for sample in samples) * 1.06 or 1.0
    left, right, high, ladder = 44.0, 8.0, 190.0, 46.0
    room = width - left - right
    span = max(end - begin, 1.0)

    def x_of(moment: float) -> float:
        return left + room * (moment - begin) / span

    def y_of(work: float) -> float:
        return 16 + high * (1 - work / top)

    parts: list[str] = []
    for tick in _ticks(top, 4):
        parts.append(wire("grid", left, y_of(tick), (width - right, y_of(tick))))
        parts.append(label(left - 7, y_of(tick) + 4, f"{tick:g}", "s", anchor="end"))
    floor = 16 + high
    ladder_base = floor + 26 + ladder
    steepest = max(100, *(sample.level_pct for sample in samples))
    step = max(1, sum(len(sample.seconds) for sample in samples) // _MOST_POINTS)
    for sample in samples:
        css = (
            "off"
            if sample.rejected
            else "still"
            if not sample.antagonist and sample.round == 0
            else arm_css(summary, sample.arm)
        )
        start, stop = x_of(sample.started_s), x_of(sample.started_s + sample.duration_s)
        why = f": rejected, {clean(sample.rejected)}" if sample.rejected else ""
        title = f"{sample.arm}, {sample.antagonist or 'quiet'} {sample.level_pct} %{why}"
        parts.append(
            f'<g><title>{escape(title)}</title><rect x="{start:.1f}" y="16" width="{max(stop - start, 1):.1f}" '
            f'height="{high:g}" class="block {css}"/></g>'
        )
        points = "".join(
            f"{'L' if index else 'M'}{x_of(sample.started_s + index):.1f} {y_of(value):.1f}"
            f"L{x_of(min(sample.started_s + index + step, sample.started_s + sample.duration_s)):.1f} {y_of(value):.1f}"
            for index, value in list(enumerate(sample.seconds))[::step]
        )
        parts.append(f'<path d="{points}" class="trace {css}"/>')
        if sample.level_pct:
            tall = ladder * sample.level_pct / steepest
            parts.append(
                f'<rect x="{start:.1f}" y="{ladder_base - tall:.1f}" width="{max(stop - start, 1):.1f}" height="{tall:.1f}" '
                f'class="level {css}"/>'
            )
    parts.append(wire("axis", left, floor, (width - right, floor)))
    parts.append(label(left, 10, "work in each second", "s"))
    if any(sample.level_pct for sample in samples):
        parts.append(wire("axis", left, ladder_base, (width - right, ladder_base)))
        parts.append(label(left, floor + 16, f"level of {scenario.antagonist}, %", "s"))
        for level in sorted({sample.level_pct for sample in samples if sample.level_pct}):
            parts.append(label(left - 7, ladder_base - ladder * level / steepest + 4, f"{level}", "s", anchor="end"))
    else:
        ladder_base = floor
    for tick in _ticks(span, 4 if width < 600 else 8):
        x = x_of(begin + tick)
        anchor = "end" if width - x < 24 else "middle"
        parts.append(label(x, ladder_base + 17, f"{tick:g} s", "s", anchor=anchor))
    return plot(width, ladder_base + 24, "Work in each second of the experiment, and the neighbour's level", parts)


def _plain(tick: float) -> str:
    """A round time without digits that say nothing: "10 ms"."""
    unit, scale = ("s", 1.0) if tick >= 1 else ("ms", 1e3) if tick >= 1e-3 else ("µs", 1e6)
    return f"{tick * scale:.6g} {unit}"


def _ticks(most: float, count: int) -> list[float]:
    """Round numbers from 0 up to most, about so many."""
    raw = most / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw * 0.999)
    return [round(index * step, 10) for index in range(int(most / step + 1e-9) + 1)]
