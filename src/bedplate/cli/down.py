"""Power the machine off and leave no process behind. Its disk is kept, so that the next `bedplate up` is faster.

examples:
  bedplate down              ask the guest to power off, and force it after a minute
  bedplate down --now        force it off at once
"""

from __future__ import annotations

import argparse

from bedplate.cli.argument_types import LONGEST_S, number
from bedplate.cli.result import print_result
from bedplate.cli.terminal import terminal_progress
from bedplate.flows.places import find_log
from bedplate.flows.up import down


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate down`: for how many seconds the guest is asked before it is ended by force."""
    parser.add_argument("--now", action="store_true", help="force the machine off at once, without asking the guest")
    parser.add_argument(
        "--timeout",
        type=number(0, LONGEST_S, unit="seconds"),
        metavar="SECONDS",
        help="how long the guest may take before it is forced off (default: 60)",
    )
    parser.add_argument("--json", action="store_true", help='print one JSON object with "stopped": true or false')


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0, whether a machine ran or not; the output tells which.

    Raises BusyError while another verb changes the machine.
    """
    with terminal_progress(find_log("down")) as progress:
        stopped = down(progress, by_force=arguments.now, powerdown_s=arguments.timeout)
    text = "The machine is off.\n" if stopped else "No machine is running.\n"
    return print_result(arguments, {"schema": 1, "stopped": stopped}, text, indent=None)
