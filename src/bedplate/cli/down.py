"""Power the machine off and leave no process. Its disk stays, so that the next `bedplate up` is quicker.

examples:
  bedplate down              ask the guest to power off; by force after a minute
  bedplate down --now        by force at once
"""

from __future__ import annotations

import argparse
import json

HELP = "power the machine off and leave no process"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="do not ask the guest; end it at once")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="how long the guest may take (default: 60)")
    parser.add_argument("--json", action="store_true", help='print {"stopped": true} or false')


def main(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock
    from bedplate.act.paths import find_paths
    from bedplate.cli.terminal import terminal_progress
    from bedplate.image.machine import POWERDOWN_S, clear_stale, kill_machine, read_machine, stop_machine

    paths = find_paths()
    with hold_lock(paths, "down"), terminal_progress(paths.logs / "down.log") as progress:
        stopped = read_machine(paths) is not None
        if not stopped:
            clear_stale(paths)
        elif arguments.now:
            kill_machine(paths)
        else:
            with progress.phase("power off"):
                stop_machine(paths, progress, powerdown_s=POWERDOWN_S if arguments.timeout is None else arguments.timeout)
    if arguments.json:
        print(json.dumps({"schema": 1, "stopped": stopped}))
    else:
        print("The machine is off." if stopped else "No machine runs here.")
    return 0
