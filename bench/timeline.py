"""The boot's timeline: what each second went to until the first token, from a real guest. Written to a page of the docs.

    python -m bench.timeline            # a first and a later boot by direct boot, about five minutes
    python -m bench.timeline --print    # the same, without writing the page

The kernel's and the service manager's own times are read in the guest when its boot is over. They count from when its
clock starts; how long QEMU had run by then is found by asking for the guest's uptime. The first token is seen by a
client on the host, as in bench.boot.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import write_report
from bedplate.act.lock import hold_lock
from bedplate.act.paths import find_paths
from bedplate.act.process import ProcessIdentity
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import BedplateError, BootError, ReadError
from bedplate.image.machine import Machine
from bedplate.model.machine import BootMode
from bedplate.model.progress import Progress
from bench.arms import Bench, Seasoned, ask, powered_on, prepare, season
from bench.boot import FIRST, LATER, await_token, since_start

PAGE = Path(__file__).parent.parent / "docs/explanation/boot-timeline.md"
_ASKED = 5  # times for the guest's uptime; the quickest answer is the best
_SHORT_S = 0.2  # seconds; units that started in less are not listed
_MANAGER = ("UserspaceTimestampMonotonic", "GeneratorsStartTimestampMonotonic", "UnitsLoadFinishTimestampMonotonic")
_COMMAND = (
    "dmesg | grep -m 1 'Run /init'; echo bench-next; "
    f"systemctl show {' '.join(f'--property={name}' for name in _MANAGER)}; echo bench-next; "
    "systemctl show '*' --property=Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic "
    "--property=ExecMainStartTimestampMonotonic"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTimes:
    """When a unit began and ended to start, in seconds of the guest's clock; None where it did not."""

    name: str
    begun_s: float | None
    active_s: float | None
    executed_s: float | None
    """When its main process was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTimes:
    """What a guest says of its boot, in seconds of its clock."""

    init_s: float
    """When the kernel started the initrd's program."""
    manager_s: float
    """When systemd started."""
    generators_s: float
    loaded_s: float
    """When systemd had read all units and began to start them."""
    units: tuple[UnitTimes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One boot. Seconds since QEMU was started."""

    boot: str
    clock_s: float
    """When the guest's clock started."""
    token_s: float
    guest: GuestTimes


def parse_times(text: str) -> GuestTimes:
    """What `_COMMAND` printed. Raises ReadError where a part is missing."""
    parts = text.split("bench-next\n")
    if len(parts) != 3 or "[" not in parts[0]:
        raise ReadError(f"the guest did not tell its times: {text[:200]!r}")
    manager = _properties(parts[1])
    userspace, generators, loaded = (_seconds(manager.get(name)) for name in _MANAGER)
    if userspace is None or generators is None or loaded is None:
        raise ReadError(f"systemd did not tell when it started: {parts[1][:200]!r}")
    units = []
    for block in parts[2].strip().split("\n\n"):
        shown = _properties(block)
        units.append(
            UnitTimes(
                name=shown.get("Id", ""),
                begun_s=_seconds(shown.get("InactiveExitTimestampMonotonic")),
                active_s=_seconds(shown.get("ActiveEnterTimestampMonotonic")),
                executed_s=_seconds(shown.get("ExecMainStartTimestampMonotonic")),
            )
        )
    return GuestTimes(
        init_s=float(parts[0].partition("[")[2].partition("]")[0]),
        manager_s=userspace,
        generators_s=generators,
        loaded_s=loaded,
        units=tuple(units),
    )


def _properties(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _seconds(microseconds: str | None) -> float | None:
    """systemd says 0 for what never happened."""
    return int(microseconds) / 1e6 if microseconds and int(microseconds) else None


def chain(line: Timeline) -> list[tuple[str, float]]:
    """(what was waited for, until when) from power-on to the first token, in order, in seconds since QEMU was started.

    Steps that a boot did not make, or that ended after the next one, are left out: a later step did not wait for them.
    """
    guest, units = line.guest, {unit.name: unit for unit in line.guest.units}
    layer = next((unit for unit in guest.units if unit.name.startswith("bedplate-layer@")), None)
    engine = next((unit for unit in guest.units if unit.name.startswith("bedplate-engine@")), None)
    prepare_unit = units.get("bedplate-serve.service")
    steps: list[tuple[str, float | None]] = [
        ("QEMU starts, and its firmware hands over", 0.0),
        ("the kernel starts", guest.init_s),
        ("the initrd opens the verified root", guest.manager_s),
        ("systemd starts, and its generators run", guest.generators_s),
        ("systemd reads the units", guest.loaded_s),
        ("systemd comes to `bedplate serve prepare`", prepare_unit.begun_s if prepare_unit else None),
        ("`bedplate serve prepare` plans and starts engines", prepare_unit.active_s if prepare_unit else None),
        ("the engine's layer is verified and mounted", layer.active_s if layer else None),
        ("the engine's process is started", engine.executed_s if engine else None),
        ("the engine loads the model, and answers", line.token_s - line.clock_s),
    ]
    kept: list[tuple[str, float]] = []
    for name, until in reversed(steps):
        if until is not None and (not kept or until <= kept[0][1]):
            kept.insert(0, (name, until))
    return [(name, until + line.clock_s) for name, until in kept]


def beside(line: Timeline) -> list[UnitTimes]:
    """Units that began to start before the first token and took a while, the longest first."""
    end = line.token_s - line.clock_s
    units = [unit for unit in line.guest.units if unit.begun_s is not None and unit.begun_s < end and "." in unit.name]
    long = [unit for unit in units if unit.name.endswith((".service", ".mount")) and _took_s(unit, end) >= _SHORT_S]
    return sorted(long, key=lambda unit: -_took_s(unit, end))


def _took_s(unit: UnitTimes, end: float) -> float:
    if unit.begun_s is None:
        return 0.0
    return (end if unit.active_s is None else min(unit.active_s, end)) - unit.begun_s


def render_page(lines: tuple[Timeline, ...], *, provenance: str) -> str:
    """The page, in Markdown."""
    page = [
        "# The boot's timeline",
        "",
        "This page shows what a boot waited for, second by second, until a client had its first token. It is generated from",
        "the times that a guest's kernel and service manager report, by `python -m bench.timeline`. [The boot](boot.md)",
        "describes each step.",
        "",
        provenance,
    ]
    for line in lines:
        page += [
            "",
            f"## A {line.boot} boot: {line.token_s:.1f} s",
            "",
            "Each step begins when the previous step ends.",
            "",
            "| until | took | step |",
            "|--:|--:|---|",
        ]
        before = 0.0
        for name, until in chain(line):
            page.append(f"| {until:.1f} s | {until - before:.1f} s | {name} |")
            before = until
        end = line.token_s - line.clock_s
        page += [
            "",
            "The next table lists the units that were starting meanwhile, and how long each took until it was active or the",
            "first token came. Most of them start beside the chain, with the CPU time that the engine leaves.",
            "",
            "| began | took | unit |",
            "|--:|--:|---|",
        ]
        for unit in beside(line):
            at = (unit.begun_s or 0.0) + line.clock_s
            still = "" if unit.active_s is not None and unit.active_s <= end else ", not active yet"
            page.append(f"| {at:.1f} s | {_took_s(unit, end):.1f} s{still} | `{unit.name}` |")
    return "\n".join(page) + "\n"


def measure(bench: Bench, progress: Progress) -> tuple[Timeline, ...]:
    """A first boot on a new disk, and a later one of a copy of it. Raises BedplateError."""
    lines, seasoned = [], Seasoned()
    arm, mode = bench.ours, BootMode.DIRECT
    for boot in (FIRST, LATER):
        with (
            progress.phase(f"a {boot} boot"),
            powered_on(bench, arm, mode, progress, seasoned=seasoned.get((arm.name, mode))) as machine,
        ):
            if machine.qemu is None:
                raise BootError("QEMU did not start")
            token_s, _ = await_token(machine, machine.qemu)
            progress.note(f"  the first token after {token_s:.1f} s; now the rest of the boot")
            ask(machine, "until systemctl is-active -q multi-user.target; do sleep 1; done")
            lines.append(
                Timeline(
                    boot=boot,
                    clock_s=find_clock_start(machine, machine.qemu),
                    token_s=token_s,
                    guest=parse_times(ask(machine, _COMMAND)),
                )
            )
            if boot == FIRST:
                seasoned[(arm.name, mode)] = season(bench, arm, mode, machine, progress)
    return tuple(lines)


def find_clock_start(machine: Machine, process: ProcessIdentity) -> float:
    """Seconds from the start of QEMU to the start of the guest's clock: the least of what several answers allow."""
    found = []
    for _ in range(_ASKED):
        uptime_s = float(ask(machine, "cat /proc/uptime").split()[0])
        found.append(since_start(process) - uptime_s)
    return max(0.0, min(found))


def main() -> int:
    """Measure and write the page; the exit status. Raises BedplateError."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.timeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the page instead of writing it")
    arguments = parser.parse_args()
    paths = find_paths()
    with hold_lock(paths, "bench"), terminal_progress(paths.logs / "bench.log") as progress:
        bench = prepare(paths, progress)
        load = os.getloadavg()[0]
        lines = measure(bench, progress)
    provenance = (
        f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())}: direct boot, one run each, one CPU and 2 GiB, accelerator"
        f" {bench.accel}, {os.cpu_count()} CPUs of the host (load {load:.1f} before it), image {bench.ours.image.version}."
    )
    page = render_page(lines, provenance=provenance)
    if arguments.only_print:
        print(page, end="")
    else:
        write_report(PAGE, page)
        print(PAGE)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BedplateError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
