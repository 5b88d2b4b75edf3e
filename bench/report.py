"""Results -> the tables of bench/README.md. Pure but for `publish`, which writes them between two marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bedplate.act.files import write_report
from bedplate.errors import ReadError
from bench.arms import OURS, STOCK
from bench.boot import FIRST, LATER, Sample
from bench.builds import CACHED, COLD, DECISION, ENGINE, NOTHING, PYTHON, Build
from bench.rest import SETTLE_S, Rest
from bench.size import Size

BEGIN, END = "<!-- results: written by python -m bench -->", "<!-- end of results -->"
MIB = 1024 * 1024


def render(results: dict[str, Any]) -> str:
    """The tables of what was measured; a part that was not measured is not there."""
    lines: list[str] = []
    ran = results["ran"]
    if samples := [Sample(**row) for row in results.get("boot", [])]:
        lines += [*render_boot(samples), "", *_provenance(ran["boot"])]
    if rests := [Rest(**row) for row in results.get("memory", [])]:
        lines += [*render_rest(rests), "", *_provenance(ran["memory"])]
    if sizes := [Size(**row) for row in results.get("size", [])]:
        lines += [*render_sizes(sizes), "", *_provenance(ran["size"])]
    if builds := [Build(**row) for row in results.get("build", [])]:
        lines += [*render_builds(builds), "", *_provenance(ran["build"])]
    return "\n".join(lines).rstrip() + "\n"


def _provenance(ran: dict[str, Any]) -> list[str]:
    """Who measured this: command, date, versions and machine; and what went wrong."""
    machine = ran["machine"]
    lines = [
        f"`{machine['command']}`, {machine['date']}; bedplate {machine['bedplate']} ({machine['commit']}), kernel",
        f"{machine['kernel']}; stock: {machine['stock']}. {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory']};",
        f"{machine['qemu']}, accelerator {machine['accel']}.",
        "",
    ]
    for notice in ran["notices"]:
        lines += [f"**{notice}**", ""]
    return lines


def render_boot(samples: Sequence[Sample]) -> list[str]:
    """Power-on to first token, one line for each mode, boot and unit."""
    loads = [sample.load for sample in samples]
    lines = [
        "### Power-on to first token",
        "",
        "Medians of the runs, with minimum and maximum in brackets; each ratio is of two adjacent runs.",
        f"Load average of the host meanwhile: {min(loads):.1f} to {max(loads):.1f}. Goal: at most 1/3 of the stock arm.",
        "",
        "| boot | runs | unit | bedplate | stock | bedplate / stock | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for mode in dict.fromkeys(sample.mode for sample in samples):
        for boot in (FIRST, LATER):
            for unit, value in (("s", _wall), ("CPU s", _cpu)):
                ours, stock = (
                    {
                        sample.round: value(sample)
                        for sample in samples
                        if (sample.mode, sample.boot, sample.arm) == (mode, boot, arm)
                    }
                    for arm in (OURS, STOCK)
                )
                ratios = [ours[number] / stock[number] for number in sorted(ours.keys() & stock.keys())]
                if ratios:
                    lines.append(
                        f"| {mode}, {boot} | {len(ratios)} | {unit} | {_spread(ours.values())} | {_spread(stock.values())} "
                        f"| **{_spread(ratios, digits=2)}** | {_verdict(median(ratios) <= 1 / 3)} |"
                    )
    return lines


def render_rest(rows: Sequence[Rest]) -> list[str]:
    """Memory and processes at rest."""
    ours, stock = ([row for row in rows if row.arm == arm] for arm in (OURS, STOCK))
    lines = [
        f"### At rest, {SETTLE_S} s after multi-user, without engine and model",
        "",
        "Goal: at most 150 MB, and below the stock arm. MemTotal - MemAvailable, read in the guest.",
        "",
        "| | bedplate | stock | bedplate / stock | goal |",
        "|---|---|---|---|---|",
    ]
    table: tuple[tuple[str, Callable[[Rest], float]], ...] = (
        ("memory used, MB (10^6 bytes)", lambda row: row.used_bytes / 1e6),
        ("MemTotal, MB", lambda row: row.total_bytes / 1e6),
        ("processes in user space", lambda row: row.user_processes),
        ("processes with the kernel's threads", lambda row: row.all_processes),
        ("failed units", lambda row: len(row.failed_units)),
    )
    for index, (name, value) in enumerate(table):
        mine, theirs = [value(row) for row in ours], [value(row) for row in stock]
        ratio = f"{median(mine) / median(theirs):.2f}" if median(theirs) else ""
        goal = _verdict(median(mine) <= 150 and median(mine) < median(theirs)) if index == 0 else ""
        digits = 1 if index < 2 else 0
        lines.append(f"| {name} | {_spread(mine, digits=digits)} | {_spread(theirs, digits=digits)} | {ratio} | {goal} |")
    for arm, of in ((OURS, ours), (STOCK, stock)):
        lines += ["", f"Processes of {arm}: {', '.join(of[-1].names)}."]
        if of[-1].failed_units:
            lines[-1] += f" Failed: {', '.join(of[-1].failed_units)}."
    return lines


def render_sizes(rows: Sequence[Size]) -> list[str]:
    """What the images are made of, with sums; the compressed disks last."""
    lines = ["### Image sizes", "", "| | bedplate, MiB | stock, MiB |", "|---|---|---|"]
    packed = [row for row in rows if row.what.startswith("compressed")]
    parts = [row for row in rows if row not in packed]
    for row in parts:
        size = f"{row.size_bytes / MIB:.1f}"
        lines.append(f"| {row.what} | {size if row.arm == OURS else ''} | {size if row.arm == STOCK else ''} |")
    for name, those in (("**together**", parts), ("compressed disk (qcow2, zstd)", packed)):
        ours, stock = (sum(row.size_bytes for row in those if row.arm == arm) / MIB for arm in (OURS, STOCK))
        lines.append(f"| {name} | {ours:.1f} | {stock:.1f} |")
    return lines


def render_builds(rows: Sequence[Build]) -> list[str]:
    """Build times, median and spread."""
    lines = ["### Builds", "", "| | s | CPU s | goal |", "|---|---|---|---|"]
    table = (
        (COLD, "cold: tools tree, downloads and image, nothing cached (includes the network)", None),
        (CACHED, "image, tools and packages cached", None),
        (ENGINE, "engine layer (after a cold build, includes the download of its packages)", None),
        (PYTHON, "image again after a change of bedplate's own Python", 60.0),
        (NOTHING, "`bedplate image build` when nothing changed", None),
        (DECISION, "`bedplate up` decides that nothing needs a build (includes the interpreter's start)", 3.0),
    )
    for what, text, limit_s in table:
        of = [row for row in rows if row.what == what]
        if of:
            walls = [row.wall_s for row in of]
            goal = "" if limit_s is None else f"at most {limit_s:.0f} s: {_verdict(median(walls) <= limit_s)}"
            lines.append(f"| {text} | {_spread(walls)} | {_spread([row.cpu_s for row in of])} | {goal} |")
    return lines


def publish(readme: Path, text: str, *, begin: str = BEGIN, end: str = END) -> None:
    """Put the tables between two marks of the page; raises ReadError when the marks are not there."""
    page = readme.read_text()
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ReadError(f"{readme}: the marks of the results are not there", hint=f"Put them back: {begin} and {end}")
    write_report(readme, f"{before}{begin}\n\n{text}\n{end}{after}")


def _wall(sample: Sample) -> float:
    return sample.wall_s


def _cpu(sample: Sample) -> float:
    return sample.cpu_s


def _spread(values: Any, *, digits: int = 1) -> str:
    those = list(values)
    if not those:
        return ""
    middle = f"{median(those):.{digits}f}"
    if len(those) == 1 or min(those) == max(those):
        return middle
    return f"{middle} ({min(those):.{digits}f}-{max(those):.{digits}f})"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"
