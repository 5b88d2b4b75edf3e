"""A run -> the tables of bench/README.md: what an arm keeps of the quiet stock engine, and its neighbour. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bedplate.model.units import MIB
from bench.neighbours.figure import Figure, Run
from bench.neighbours.rows import ROWS, Kind, Row

STOCK = "stock"
NEIGHBOUR_GOAL = 0.80
_MARGIN = 0.02  # less is not told apart from chance anywhere in bedplate
_LEAST_LEFT = 0.05  # of a device: below it the quotient is noise
_NONE = "\u2013"
_CPUS = 2  # of the guest
_CPU_NEIGHBOURS = {"cpu", "cpu-4", "fork", "compile", "network", "bandwidth", "combined", "trace"}
"""Rows whose neighbour takes whatever CPU time is left: what it took of that is a fair measure."""


def render_tables(runs: Sequence[Run], explained: Mapping[str, str]) -> str:
    """All places, the guest first; explained is text by "place/row" for rows that missed their goal."""
    lines: list[str] = []
    for run in runs:
        lines += [*render_place(run, explained), ""]
    return "\n".join(lines).rstrip() + "\n"


def render_place(run: Run, explained: Mapping[str, str]) -> list[str]:
    arms = list(dict.fromkeys([STOCK, *(arm for arm in _order(run))]))
    protected = arms[-1]
    rows = [row for row in ROWS if any(figure.row == row.id for figure in run.figures)]
    counted = [figure for figure in run.figures if not figure.rejected]
    rounds = max((figure.round for figure in run.figures), default=0)
    machine = run.machine
    told = (
        f"Median shares of the speed of the quiet stock engine in the same round, with minimum and maximum; {rounds} rounds,"
        f" arms in random order (seed {machine.get('seed', '?')}). {machine.get('machine', '')}, kernel "
        f"{machine.get('kernel', '')}. `{machine.get('command', '?')}`, {machine.get('date', '?')}, "
        f"{machine.get('commit', '?')}."
    )
    lines = [
        f"#### In the {run.place}: kept beside a neighbour" if run.place == "guest" else "#### On the host itself",
        "",
        told,
        "",
        render_line(["", *arms, f"goal of {protected}"]),
        render_line(["---"] * (len(arms) + 2)),
    ]
    misses: list[tuple[Row, str]] = []
    for row in rows:
        cells = [_kept_cell(run, row, arm) for arm in arms]
        verdict = ""
        kept = kept_shares(run, row, protected)
        if row.goal is not None and kept:
            least, goal, told = _goal(run, row, row.goal, kept)
            verdict = f"{told}: {'reached' if least >= goal else '**missed**'}"
            if least < goal:
                misses.append((row, f"{_share(least)} kept, goal {told}"))
        elif row.no_worse and kept and (stock := kept_shares(run, row, STOCK)):
            reached = median(kept) >= median(stock) * (1 - _MARGIN)
            verdict = f"no worse than stock: {'reached' if reached else '**missed**'}"
            if not reached:
                misses.append((row, f"{_share(median(kept))} kept, stock {_share(median(stock))}"))
        elif row.goal is not None:
            verdict = f"{_share(row.goal)}: no number"
        lines.append(render_line([row.title, *cells, verdict]))
    lines += ["", *_itl_table(counted, rows, arms, protected, misses)]
    lines += _ttft_table(counted, rows, arms, protected, misses)
    lines += ["", *_neighbour_table(run, rows, arms, protected, misses)]
    if "trace" in machine:
        lines += ["", f"{machine['trace']}."]
    lines += ["", *_misses(run, misses, protected, explained)]
    lines += ["", *_spoilt(run)]
    changed = [f"- {arm}: {text}" for arm, text in run.arms.items() if text]
    if changed:
        lines += ["", "What the arms changed, as read back:", "", *changed]
    for notice in run.notices:
        lines += ["", f"**{notice}**"]
    return lines


def kept_shares(run: Run, row: Row, arm: str) -> list[float]:
    """Of each sample that counts: its rate against the quiet rate of the stock arm in its round, or in all of them.

    A quiet row is a share of itself in the stock arm: what the arm costs, or gains, without any neighbour.
    """
    quiet = _rates(run, row.quiet or row.id, STOCK)
    if not quiet:
        return []
    usual = median(quiet.values())
    return [
        rate / (quiet.get(number) or usual)
        for number, rate in _rates(run, row.id, arm).items()
        if (quiet.get(number) or usual) > 0
    ]


def left_over_share(figure: Figure) -> float | None:
    """Of the CPU seconds that the engine left, those that the neighbour took; None when nothing was left."""
    left_s = figure.neighbour_cpu_s + figure.idle_cpu_s
    return figure.neighbour_cpu_s / left_s if left_s > 0 else None


def device_share(figure: Figure, alone: float, quiet: float) -> float | None:
    """Of what a loader left of a device, by the quiet rates of both, what the neighbour took.

    Two that share a device keep shares of their quiet rates that sum up to 1 where nothing is lost.
    """
    if alone <= 0 or quiet <= 0:
        return None
    left = max(0.0, 1 - figure.rate / quiet)
    return figure.neighbour_rate / alone / left if left > _LEAST_LEFT else None


def _rates(run: Run, row_id: str, arm: str) -> dict[int, float]:
    return {
        figure.round: figure.rate
        for figure in run.figures
        if (figure.row, figure.arm) == (row_id, arm) and not figure.rejected
    }


def _order(run: Run) -> list[str]:
    """Arms as their place lists them; the rounds took them in a random order."""
    seen = {figure.arm for figure in run.figures}
    known = ["tuned throughput-performance", "tuned latency-performance", "tuned accelerator-performance", "nice -10"]
    return [arm for arm in known if arm in seen] + sorted(arm for arm in seen if arm not in (*known, STOCK))


def _kept_cell(run: Run, row: Row, arm: str) -> str:
    shares = kept_shares(run, row, arm)
    died = sum(figure.engine_died for figure in run.figures if (figure.row, figure.arm) == (row.id, arm))
    note = f", engine died {died}x" if died else ""
    if not shares:
        return f"no number{note}"
    text = render_shares(shares)
    if not row.quiet:
        rates = list(_rates(run, row.id, arm).values())
        text += f", {_absolute(row, median(rates))}"
    return text + note


def _absolute(row: Row, rate: float) -> str:
    if row.kind is Kind.LOAD:
        return f"{rate / 1e6:.0f} MB/s"
    return f"{_share(rate)} good" if row.kind is Kind.TRACE else f"{rate:.1f} tok/s"


def _itl_table(
    counted: Sequence[Figure], rows: Sequence[Row], arms: Sequence[str], protected: str, misses: list[tuple[Row, str]]
) -> list[str]:
    """ITL p99 as a multiple of the quiet one; loads and replays have none."""
    lines = [
        "ITL p99 as a multiple of that of the quiet stock engine (\u2013: no sample, or tokens came in bursts):",
        "",
        render_line(["", *arms, f"goal of {protected}"]),
        render_line(["---"] * (len(arms) + 2)),
    ]
    for row in rows:
        if row.kind is not Kind.SERVE or not row.quiet:
            continue
        base = [
            figure.itl_p99_s
            for figure in counted
            if (figure.row, figure.arm) == (row.quiet, STOCK) and figure.itl_p99_s is not None
        ]
        cells, ours = [], []
        for arm in arms:
            values = [
                figure.itl_p99_s / median(base)
                for figure in counted
                if base and (figure.row, figure.arm) == (row.id, arm) and figure.itl_p99_s is not None
            ]
            ours = values
            cells.append(_times(values))
        verdict = ""
        if row.itl_goal is not None and ours:
            reached = median(ours) <= row.itl_goal
            verdict = f"{row.itl_goal:.1f}: {'reached' if reached else '**missed**'}"
            if not reached:
                misses.append((row, f"ITL p99 x{median(ours):.1f}, goal x{row.itl_goal:.1f}"))
        lines.append(render_line([row.title, *cells, verdict]))
    return lines


def _goal(run: Run, row: Row, goal: float, kept: Sequence[float]) -> tuple[float, float, str]:
    """(what counts, what it must reach, the goal in words): the median, or the least where stock's share is enough."""
    if not row.or_stock:
        return median(kept), goal, _share(goal)
    stock = kept_shares(run, row, STOCK)
    enough = min(goal, median(stock)) if stock else goal
    return min(kept), enough, f"{_share(goal)} or stock's in every sample"


def _ttft_table(
    counted: Sequence[Figure], rows: Sequence[Row], arms: Sequence[str], protected: str, misses: list[tuple[Row, str]]
) -> list[str]:
    """Median TTFT as a multiple of the quiet one, of the rows that have a goal for it."""
    with_goal = [row for row in rows if row.ttft_goal is not None]
    if not with_goal:
        return []
    lines = [
        "",
        "Median TTFT as a multiple of that of the quiet stock engine:",
        "",
        render_line(["", *arms, f"goal of {protected}"]),
        render_line(["---"] * (len(arms) + 2)),
    ]
    for row in with_goal:
        by_arm = {arm: _ttft_times(counted, row, arm) for arm in arms}
        ours, stock, goal = by_arm[protected], by_arm.get(STOCK, []), row.ttft_goal or 0.0
        verdict = ""
        if ours:
            enough = max(goal, median(stock)) if stock else goal
            verdict = f"{goal:.2f} or stock's in every sample: {'reached' if max(ours) <= enough else '**missed**'}"
            if max(ours) > enough:
                misses.append((row, f"TTFT x{max(ours):.2f}, goal x{enough:.2f}"))
        lines.append(render_line([row.title, *(_times(by_arm[arm], digits=2) for arm in arms), verdict]))
    return lines


def _ttft_times(counted: Sequence[Figure], row: Row, arm: str) -> list[float]:
    base = [
        figure.ttft_p50_s
        for figure in counted
        if (figure.row, figure.arm) == (row.quiet, STOCK) and figure.ttft_p50_s is not None
    ]
    if not base:
        return []
    return [
        figure.ttft_p50_s / median(base)
        for figure in counted
        if (figure.row, figure.arm) == (row.id, arm) and figure.ttft_p50_s is not None
    ]


def _neighbour_table(
    run: Run, rows: Sequence[Row], arms: Sequence[str], protected: str, misses: list[tuple[Row, str]]
) -> list[str]:
    """The neighbour's own work against its work alone, and what it took of what the engine left over."""
    told = (
        "The neighbour's own work, as a share of what it does beside an idle engine. After the slash: its share of what the"
        f" engine left over (goal: {_share(NEIGHBOUR_GOAL)}), in CPU seconds or, for loads, of the device's rate. Rows in"
        " which memory is scarce have no such share, since the engine leaves none of it over:"
    )
    lines = [
        told,
        "",
        render_line(["", *arms, f"goal of {protected}"]),
        render_line(["---"] * (len(arms) + 2)),
    ]
    for row in rows:
        if not row.antagonist:
            continue
        cells, ours = [], []
        for arm in arms:
            figures = _of(run, row, arm)
            alone = run.alone.get(row.id, 0.0)
            work = [figure.neighbour_rate / alone for figure in figures] if alone > 0 else []
            ours = _left_over(run, row, figures)
            killed = sum(figure.neighbour_killed for figure in figures)
            note = f", killed {killed}x" if killed else ""
            if grown := [figure.neighbour_grown_bytes / MIB for figure in figures if figure.neighbour_grown_bytes]:
                note += f", grew to {min(grown):.0f}\u2013{max(grown):.0f} MiB"
            if figures and row.neighbour_cpu_goal is not None:
                note += f", {render_shares(_cpu_shares(figures))} of the CPUs"
            cells.append(f"{render_shares(work) or 'no number'} / {render_shares(ours) or _NONE}{note}")
        verdict = ""
        if row.neighbour_cpu_goal is not None and (shares := _cpu_shares(_of(run, row, protected))):
            reached = median(shares) >= row.neighbour_cpu_goal * (1 - _MARGIN)
            verdict = f"{_share(row.neighbour_cpu_goal)} of the CPUs: {'reached' if reached else '**missed**'}"
            if not reached:
                misses.append((row, f"the neighbour had {_share(median(shares))} of the CPUs"))
        elif ours:
            reached = median(ours) >= NEIGHBOUR_GOAL
            verdict = "reached" if reached else "**missed**"
            if not reached:
                misses.append(
                    (row, f"the neighbour took {_share(median(ours))} of what was left, goal {_share(NEIGHBOUR_GOAL)}")
                )
        lines.append(render_line([row.title, *cells, verdict]))
    return lines


def _of(run: Run, row: Row, arm: str) -> list[Figure]:
    return [figure for figure in run.figures if (figure.row, figure.arm) == (row.id, arm) and not figure.rejected]


def _cpu_shares(figures: Sequence[Figure]) -> list[float]:
    """Of all CPUs of the guest, what the neighbour had in each sample; those have two (bench/inplace)."""
    return [figure.neighbour_cpu_s / (figure.duration_s * _CPUS) for figure in figures if figure.duration_s > 0]


def _left_over(run: Run, row: Row, figures: Sequence[Figure]) -> list[float]:
    if row.id in _CPU_NEIGHBOURS:
        shares = [left_over_share(figure) for figure in figures]
    elif row.kind is Kind.LOAD:
        quiet = _rates(run, row.quiet, STOCK)
        alone = run.alone.get(row.id, 0.0)
        shares = [device_share(figure, alone, median(quiet.values())) for figure in figures] if quiet else []
    else:
        shares = []
    return [share for share in shares if share is not None]


def _misses(run: Run, misses: Sequence[tuple[Row, str]], protected: str, explained: Mapping[str, str]) -> list[str]:
    """Each missed goal with what was read beside it, and with a person's explanation where one is written."""
    if not misses:
        return []
    lines = [f"Missed by {protected}:", ""]
    for row, text in misses:
        figures = [
            figure for figure in run.figures if (figure.row, figure.arm) == (row.id, protected) and not figure.rejected
        ]
        waited = (
            f"engine's threads waited for a CPU {_share(median(figure.victim_delay for figure in figures))} of their time"
        )
        read = [] if row.kind is Kind.LOAD else [waited]  # the loader is not the engine, which is idle then
        resident = [
            figure.resident_after for figure in figures if figure.resident_after is not None and row.kind is Kind.SERVE
        ]
        if resident:
            read.append(f"{_share(median(resident))} of the model in the page cache at the end")
        why = explained.get(f"{run.place}/{row.id}", "")
        beside = f" ({'; '.join(read)})" if read else ""
        lines.append(f"- {row.title}: {text}{beside}.{f' {why}' if why else ''}")
    return lines


def _spoilt(run: Run) -> list[str]:
    """How many samples do not count, and why."""
    rejected = [figure for figure in run.figures if figure.rejected]
    lines = [f"{len(run.figures) - len(rejected)} of {len(run.figures)} samples count."]
    reasons = dict.fromkeys(
        (figure.row, figure.arm, figure.rejected.partition(":")[0] or figure.rejected) for figure in rejected
    )
    for row, arm, reason in reasons:
        those = [
            figure for figure in rejected if (figure.row, figure.arm) == (row, arm) and figure.rejected.startswith(reason)
        ]
        lines.append(f"- {row}, {arm}: {len(those)} rejected: {those[-1].rejected}")
    return [lines[0], *([""] if len(lines) > 1 else []), *lines[1:]]


def _share(value: float) -> str:
    return f"{value * 100:.0f} %"


def render_shares(values: Sequence[float]) -> str:
    """ "97 % (95-99)"; "" without values."""
    if not values:
        return ""
    low, middle, high = min(values), median(values), max(values)
    digits = 1 if middle < 0.095 else 0
    text = f"{middle * 100:.{digits}f} %"
    return text if len(values) == 1 else f"{text} ({low * 100:.{digits}f}\u2013{high * 100:.{digits}f})"


def _times(values: Sequence[float], *, digits: int = 1) -> str:
    if not values:
        return _NONE
    text = f"{median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f}\u2013{max(values):.{digits}f})"


def render_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
