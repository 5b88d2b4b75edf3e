"""Watch whether engines wait for neighbours, and move the neighbours' limits: slowly, one at a time, each with its reason.

Once a second it reads how long the engines' busiest threads waited for a CPU, and how long the engines stalled for memory
and I/O. Where they waited and the neighbours were at work, it takes 30 % of that resource from the neighbours, and gives it
back in small steps when it was quiet for ten seconds. Engines are never touched. What it set stays when it ends, whatever
its end, until --release or a reboot.

examples:
  bedplate guard                              until Ctrl-C; a line for each move
  bedplate guard --dry-run --seconds 60       say what it would do for a minute, and do nothing
  bedplate guard --engine system.slice/vllm.service --neighbour user.slice
  bedplate guard --release                    the neighbours' limits as they were planned

It needs root, systemd and control groups of version 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from bedplate.errors import PreflightError, UsageError

if TYPE_CHECKING:
    from bedplate.host.root import Root
    from bedplate.model.guard import GuardBounds, GuardStep

HELP = "move the neighbours' limits while engines wait for them"
_REMARK_EVERY_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", metavar="GROUP", default="inference.slice", help="control group of the engines (%(default)s)"
    )
    parser.add_argument("--neighbour", metavar="UNIT", default="neighbour.slice", help="whose limits may move (%(default)s)")
    parser.add_argument("--interval", metavar="S", type=float, default=1.0, help="between two readings (default: 1)")
    parser.add_argument("--seconds", metavar="N", type=float, help="end after this time")
    parser.add_argument("--dry-run", action="store_true", help="say what would move, and move nothing")
    parser.add_argument("--release", action="store_true", help="take back all that it set, and end")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: each move with its reason")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.cli.signals import signals_interrupt
    from bedplate.host.root import Root

    if not 0.1 <= arguments.interval <= 60:
        raise UsageError(f"--interval: {arguments.interval:g} is not between 0.1 and 60 seconds")
    unit = arguments.neighbour
    if "/" in unit or not unit.endswith((".slice", ".service", ".scope")):
        raise UsageError(f"--neighbour: {unit!r} is no unit such as neighbour.slice")
    root = Root()
    if arguments.release:
        from bedplate.act.guard import release_limits

        _check_host(root, needs_root=True)
        removed = release_limits(root, unit)
        print(json.dumps({"released": removed}) if arguments.json else "\n".join(removed) or "nothing was set")
        return 0
    _check_host(root, needs_root=not arguments.dry_run)
    with signals_interrupt():
        try:
            _watch(root, unit, arguments)
        except KeyboardInterrupt:
            print("the limits stay as they are; bedplate guard --release takes them back", file=sys.stderr)
    return 0


def _watch(root: Root, unit: str, arguments: argparse.Namespace) -> None:
    from bedplate.act.guard import move_limits, release_limits
    from bedplate.host.guard_readings import MOUNT, GuardReader
    from bedplate.plan.guard import start_guard, step_guard

    if not root.exists(f"{MOUNT}/{arguments.engine.strip('/')}/cgroup.procs"):
        raise UsageError(
            f"--engine: {arguments.engine}: no such control group in {MOUNT}",
            hint="Name the one of your engine, as systemd-cgls prints it: --engine system.slice/vllm.service",
        )
    bounds = read_bounds(root, unit)
    reader = GuardReader(root, arguments.engine, unit)
    state, before = start_guard(bounds), reader.read()
    print(f"guarding {arguments.engine} against {unit}", file=sys.stderr)
    until = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    said_at = float("-inf")
    while until is None or time.monotonic() < until:
        time.sleep(arguments.interval)
        now = reader.read()
        step = step_guard(state, before, now, bounds)
        if step.move is not None and not arguments.dry_run:
            if step.state.limits == bounds.planned:
                release_limits(root, unit)
            else:
                move_limits(unit, state.limits, step.state.limits, bounds)
        if step.move is not None or (step.remark and now.at_s - said_at >= _REMARK_EVERY_S):
            said_at = now.at_s
            _say(step, dry_run=arguments.dry_run, as_json=arguments.json)
        state, before = step.state, now


def read_bounds(root: Root, unit: str) -> GuardBounds:
    """Limits of the neighbours as they stand now, and the machine's size."""
    from bedplate.host.guard_readings import MOUNT
    from bedplate.host.memory import parse_meminfo
    from bedplate.model.guard import GuardBounds, NeighbourLimits

    cpus = os.cpu_count() or 1
    quota = (root.read(f"{MOUNT}/{unit}/cpu.max").value or "max").split()
    high = root.read(f"{MOUNT}/{unit}/memory.high").value or "max"
    weight = (root.read(f"{MOUNT}/{unit}/io.weight").value or "").split()
    share = None if quota[0] == "max" else round(100 * int(quota[0]) / int(quota[1]) / cpus)
    return GuardBounds(
        cpus=cpus,
        planned=NeighbourLimits(
            cpu_max_pct=share,
            memory_high_bytes=None if high == "max" else int(high),
            io_weight=int(weight[-1]) if weight else None,
        ),
        memory_bytes=parse_meminfo(root.read("/proc/meminfo").value or "").get("MemTotal", 0),
    )


def _check_host(root: Root, *, needs_root: bool) -> None:
    """Raises PreflightError naming all that is missing."""
    missing = []
    if not root.exists("/sys/fs/cgroup/cgroup.controllers"):
        missing.append("control groups of version 2 are not mounted at /sys/fs/cgroup")
    if not root.exists("/run/systemd/system"):
        missing.append("process 1 is not systemd")
    if needs_root and os.geteuid() != 0:
        missing.append("moving limits needs root")
    if missing:
        raise PreflightError(
            "; ".join(missing), hint="Run it as root on a host with systemd and cgroup v2, or in the image."
        )


def _say(step: GuardStep, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        record = asdict(step.move) if step.move is not None else {}
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        print(json.dumps({"at": at, "dry_run": dry_run, "remark": step.remark, **record}), flush=True)
    elif step.move is not None:
        move = step.move
        would = "would set " if dry_run else ""
        print(f"{would}neighbours' {move.resource}: {move.old} -> {move.new}: {move.because}", flush=True)
    else:
        print(step.remark, flush=True)
