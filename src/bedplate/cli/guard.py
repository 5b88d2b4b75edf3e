"""Watch whether engines wait because of neighbours, and adjust the neighbours' limits.

The guard moves one limit at a time, slowly, and prints the reason for each move.

Once a second the guard reads how long the engines' busiest threads waited for a CPU, and how long the engines stalled on
memory and I/O. If they waited while the neighbours were active, it takes 30 % of that resource from the neighbours. After
ten quiet seconds it gives the resource back in small steps. It never touches the engines. When the guard ends, it restores
every limit that it set. If it is killed, or hangs for two minutes, a systemd timer restores them.

examples:
  bedplate guard                              run until Ctrl-C, and print a line for each move
  bedplate guard --dry-run --seconds 60       print for a minute what it would do, and change nothing
  bedplate guard --engine system.slice/vllm.service --neighbour user.slice
  bedplate guard --release                    restore at once the limits that a killed guard has set

It needs root, systemd and cgroup v2.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from bedplate.cli.argument_types import directory, seconds
from bedplate.cli.result import print_result
from bedplate.cli.talk import Talk
from bedplate.flows.guard import GuardListener, GuardRequest, guard, release
from bedplate.model.guard import GuardStep, Released
from bedplate.report.guard import render_released, render_step, step_object


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate guard`: whom it watches, whose limits it moves, and for how long."""
    parser.add_argument(
        "--engine", metavar="GROUP", default="inference.slice", help="control group of the engines (default: %(default)s)"
    )
    parser.add_argument(
        "--neighbour",
        metavar="UNIT",
        default="neighbour.slice",
        help="unit whose limits the guard may change (default: %(default)s)",
    )
    parser.add_argument("--interval", metavar="S", type=float, default=1.0, help="seconds between two readings (default: 1)")
    parser.add_argument("--seconds", metavar="N", type=seconds, help="stop after N seconds (default: run until Ctrl-C)")
    parser.add_argument("--dry-run", action="store_true", help="print what the guard would change, and change nothing")
    parser.add_argument("--release", action="store_true", help="restore every limit that a guard has set, and exit")
    parser.add_argument(
        "--root", type=directory, default=Path("/"), help="read and write below this directory (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line: each move with its reason")


def main(arguments: argparse.Namespace) -> int:
    """Guard until --seconds are over, SIGTERM or Ctrl-C; each is a usual end, with status 0. A line is printed for each
    move.

    Raises UsageError for an interval or a unit that cannot be, PreflightError for what the host lacks, BusyError beside
    another guard of the unit.
    """

    def say(step: GuardStep) -> None:
        row = step_object(step, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), dry_run=arguments.dry_run)
        print_result(arguments, row, f"{render_step(step, dry_run=arguments.dry_run)}\n", indent=None)

    def say_released(released: Released) -> None:
        row = {"released": released.files, "drifted": released.drifted}
        print_result(arguments, row, render_released(released), indent=None)
        for text in released.drifted if not arguments.json else ():
            Talk().note(f"left alone: {text}")

    if arguments.release:
        say_released(release(arguments.root, arguments.neighbour))
        return 0
    request = GuardRequest(
        engine=arguments.engine,
        neighbour=arguments.neighbour,
        interval_s=arguments.interval,
        seconds=arguments.seconds,
        dry_run=arguments.dry_run,
    )
    with contextlib.suppress(KeyboardInterrupt):  # the usual end of it, by SIGTERM too
        guard(arguments.root, request, Talk(), GuardListener(on_step=say, on_released=say_released))
    return 0
